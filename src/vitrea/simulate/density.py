"""Maps to simulate from: the density of an atomic model, or a map brought to another box and voxel size."""

from __future__ import annotations

import gemmi
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vitrea.fourier.filters import apply_bfactor
from vitrea.fourier.transforms import resample, resize_box
from vitrea.records.atomic_model import AtomicModel

# h² / (2 pi m e): from the sum of scattering factors (Å) per volume (Å³) to electrostatic potential in volts.
VOLTS = 47.878
# Atoms are drawn on a grid twice as fine, spread by this B-factor (in squared voxels) beyond their own, which is taken
# back in Fourier space. Aliasing then stays below exp(-8) of the signal at Nyquist.
_FINE = 2
_SPREAD = 16.0


def density_from_atoms(
    model: AtomicModel,
    size: int,
    voxel_size: float,
    b_factor: float = 0.0,
    centre: NDArray[np.float64] | None = None,
) -> NDArray[np.float32]:
    """Electrostatic potential of an atomic model in vacuum.

    Five-Gaussian electron scattering factors of the International Tables, volume C, table 4.3.2.2 (Peng et al. 1996,
    doi:10.1107/S0108767395014371), drawn by gemmi; the solvent that the molecule displaces is not taken away.

    Parameters
    ----------
    model : AtomicModel
        Its B-factors and occupancies are used.
    size : int
        Box size in voxels.
    voxel_size : float
        Å.
    b_factor : float
        Added to that of every atom, in Å².
    centre : ndarray, shape [3], optional
        Point (x, y, z in Å) that is put at voxel ``n // 2``; by default the middle of the model's bounding box.

    Returns
    -------
    ndarray of float32, shape [size, size, size]
        Volts.

    Raises
    ------
    ValueError
        If the model does not fit in the box, or has an element without tabulated factors.
    """
    middle = bounding_box_centre(model) if centre is None else centre
    edge, width = size * voxel_size, 2 * float(abs(model.positions - middle).max())
    if width >= edge:
        raise ValueError(f"the model is {width:.0f} Å wide and does not fit in a box of {edge:.0f} Å")
    fine, spread = _FINE * size, _SPREAD * voxel_size**2
    calculator = gemmi.DensityCalculatorE()
    calculator.grid.spacegroup = gemmi.SpaceGroup("P 1")
    calculator.grid.set_unit_cell(gemmi.UnitCell(edge, edge, edge, 90, 90, 90))
    calculator.grid.set_size(fine, fine, fine)
    calculator.blur = spread + b_factor
    # The fine grid's middle, voxel `size` of 2 `size`, is what a Fourier crop turns into voxel size // 2.
    calculator.add_model_density_to_grid(_gemmi_model(model, model.positions + edge / 2 - middle))
    density = torch.from_numpy(np.ascontiguousarray(calculator.grid.array.transpose(2, 1, 0)))
    coarse = apply_bfactor(resample(density, size, dims=3), -spread, voxel_size)
    return (VOLTS * coarse).numpy()


def bounding_box_centre(model: AtomicModel) -> NDArray[np.float64]:
    """Return the middle (x, y, z in Å) of the box around all atoms."""
    return np.asarray((model.positions.min(axis=0) + model.positions.max(axis=0)) / 2)


def sphere_diameter(model: AtomicModel) -> float:
    """Return the diameter in Å of the sphere about the middle of the bounding box that holds all atoms."""
    return 2 * float(np.linalg.norm(model.positions - bounding_box_centre(model), axis=1).max())


def _gemmi_model(model: AtomicModel, positions: NDArray[np.float64]) -> gemmi.Model:
    residue = gemmi.Residue()
    for element, position, b, occupancy in zip(
        model.elements, positions.tolist(), model.b_factors.tolist(), model.occupancies.tolist(), strict=True
    ):
        atom = gemmi.Atom()
        atom.element = gemmi.Element(element)
        if not atom.element.atomic_number or atom.element.c4322 is None:
            raise ValueError(f"there are no electron scattering factors for element {element!r}")
        atom.pos, atom.b_iso, atom.occ = gemmi.Position(*position), b, occupancy
        residue.add_atom(atom)
    result = gemmi.Model(1)
    result.add_chain(gemmi.Chain("A")).add_residue(residue)
    return result


def resample_map(voxels: Tensor, voxel_size: float, new_size: int, new_voxel_size: float) -> tuple[Tensor, float]:
    """Bring a map to another voxel size (in Fourier space) and box (in real space).

    Parameters
    ----------
    voxels : Tensor of float32, shape [n, n, n]
    voxel_size : float
        Å.
    new_size : int
        Box wanted.
    new_voxel_size : float
        Voxel size wanted, in Å.

    Returns
    -------
    voxels : Tensor, shape [new_size, new_size, new_size]
        Same grey values; added voxels have the mean of the old box's faces.
    voxel_size : float
        The nearest to the one wanted that a whole number of voxels in the old box's extent allows.
    """
    size = voxels.shape[-1]
    between = max(2, round(size * voxel_size / new_voxel_size))
    if between != size:
        voxels = resample(voxels, between, dims=3)
    faces = torch.stack([voxels.select(axis, end).mean() for axis in range(3) for end in (0, -1)])
    return resize_box(voxels, new_size, dims=3, fill=float(faces.mean())), size * voxel_size / between
