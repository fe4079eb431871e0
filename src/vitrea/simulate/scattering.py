"""How strongly matter scatters fast electrons: the constants that turn a structure and a dose into contrast.

Everything is on one absolute scale: potentials in volts, phases in radians, power of a phase per area in rad² Å². The
contrast of an image then follows from structure, defocus and dose; there is no free scale.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import gemmi
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vitrea.fourier.filters import apply_bfactor
from vitrea.records.atomic_model import AtomicModel
from vitrea.records.optics import Optics
from vitrea.simulate.density import VOLTS

_REST_ENERGY = 510.99895  # keV
WATER: Mapping[str, int] = {"O": 1, "H": 2}
CARBON: Mapping[str, int] = {"C": 1}
WATER_DENSITY = 0.0311  # molecules per Å³ of amorphous ice, 0.93 g/cm³
CARBON_DENSITY = 0.100  # atoms per Å³ of evaporated carbon, 2.0 g/cm³

# Volume in Å³ of a non-hydrogen atom of protein (0.73 cm³/g) and of a nucleotide (0.55 cm³/g, 21.5 such atoms).
_PROTEIN_ATOM_VOLUME, _NUCLEOTIDE_VOLUME, _NUCLEOTIDE_ATOMS = 17.3, 301.0, 21.5
# What hydrogens add to a protein's scattering at rest if the model lacks them, and the share of atoms they are.
_HYDROGEN_SHARE, _FEW_HYDROGENS = 0.22, 0.1
_SOLVENT_B_FACTOR = 300.0  # Å²: the displaced ice follows the molecule to within 2 Å
_EXTENT_B_FACTOR, _EXTENT_SHARE = 1000.0, 0.995
PROTEIN_VOLUME_PER_DALTON = 1.21  # Å³
PROTEIN_POTENTIAL = 8.0  # V, mean inner potential of protein from free atoms (22.6 Å of scattering in 135 Å³)


def interaction_constant(voltage: float) -> float:
    """Return the phase in radians that a projected potential of 1 V Å adds to the electron wave.

    Parameters
    ----------
    voltage : float
        kV.
    """
    wavelength = Optics(1.0, 1, voltage, 0.0, 0.0).wavelength
    relativistic = (_REST_ENERGY + voltage) / (2 * _REST_ENERGY + voltage)
    return 2 * math.pi / (wavelength * voltage * 1e3) * relativistic


def scattering_factor(frequency: Tensor, composition: Mapping[str, int]) -> Tensor:
    """Return the electron scattering factor of a group of atoms that scatter as one, in Å.

    Parameters
    ----------
    frequency : Tensor, any shape
        Spatial frequency in 1/Å.
    composition : mapping of str to int
        Atoms by element. Their amplitudes add up: the size of the group is not looked at.
    """
    total = torch.zeros_like(frequency)
    for element, count in composition.items():
        coefficients = gemmi.Element(element).c4322
        for a, b in zip(coefficients.a, coefficients.b, strict=True):
            total = total + count * a * torch.exp(-b * frequency.square() / 4)
    return total


def mean_potential(composition: Mapping[str, int], number_density: float) -> float:
    """Return the mean inner potential in volts of matter made of free atoms; the density in groups per Å³."""
    return VOLTS * number_density * float(scattering_factor(torch.zeros(1, dtype=torch.float64), composition))


def inelastic_mean_free_path(composition: Mapping[str, int], number_density: float, voltage: float) -> float:
    """Return the mean free path in Å between inelastic scattering events.

    Langmore & Smith (1992), doi:10.1016/0304-3991(92)90024-E, with an energy loss of 20 eV: 3750 Å in ice and
    1520 Å in carbon at 300 kV.

    Parameters
    ----------
    composition : mapping of str to int
        Atoms by element of one group.
    number_density : float
        Groups per Å³.
    voltage : float
        kV.
    """

    def speed_and_logarithm(energy: float) -> tuple[float, float]:
        squared = 1 - (_REST_ENERGY / (_REST_ENERGY + energy)) ** 2
        return squared, math.log(2 * squared * (energy + _REST_ENERGY) * 1e3 / 20.0)

    beta, logarithm = speed_and_logarithm(voltage)
    beta_100, logarithm_100 = speed_and_logarithm(100.0)
    section = 0.0  # nm²
    for element, count in composition.items():
        charge = gemmi.Element(element).atomic_number
        # The formula for heavier atoms overrates hydrogen, whose cross-section is measured at 100 kV.
        hydrogen = 8.8e-6 * beta_100 / beta * logarithm / logarithm_100
        section += count * (hydrogen if charge == 1 else 1.5e-6 * math.sqrt(charge) / beta * logarithm)
    return 1.0 / (section * number_density * 100.0)


def in_ice(voxels: NDArray[np.float32], voxel_size: float, model: AtomicModel) -> NDArray[np.float32]:
    """Turn the potential of a molecule in vacuum into what it adds to the ice it displaces.

    The displaced ice has the molecule's own shape, blurred: the exponential model of the bulk solvent of
    crystallography (Moews & Kretsinger 1975, doi:10.1016/0022-2836(75)90327-6). Its weight is such that the sum over
    the molecule, with the hydrogens that a model may lack, is potential minus volume times that of ice.

    Parameters
    ----------
    voxels : ndarray, shape [n, n, n]
        Volts, from `density.density_from_atoms`.
    voxel_size : float
        Å.
    model : AtomicModel
        The same molecule.

    Returns
    -------
    ndarray of float32, shape [n, n, n]
        Volts above ice.
    """
    elements, counts = np.unique(model.elements, return_counts=True)
    number = {str(element): int(count) for element, count in zip(elements, counts, strict=True)}
    hydrogens, phosphorus = number.get("H", 0) + number.get("D", 0), number.get("P", 0)
    heavy = sum(number.values()) - hydrogens
    nucleotides = min(phosphorus, heavy / _NUCLEOTIDE_ATOMS)
    volume = nucleotides * _NUCLEOTIDE_VOLUME + (heavy - nucleotides * _NUCLEOTIDE_ATOMS) * _PROTEIN_ATOM_VOLUME
    total = float(voxels.sum(dtype=np.float64)) * voxel_size**3
    missing = _HYDROGEN_SHARE if hydrogens < _FEW_HYDROGENS * heavy else 0.0
    contrast = (1 + missing) * total - volume * mean_potential(WATER, WATER_DENSITY)
    return _displace(voxels, voxel_size, 1 - contrast / total)


def volts_of_map(voxels: NDArray[np.float32], voxel_size: float, mass: float) -> float:
    """Return the factor that brings a map, on any grey scale, to volts above the ice around it.

    The densest voxels that make up the molecule's volume are, on average, protein in ice; what lies outside is ice.

    Parameters
    ----------
    voxels : ndarray, shape [n, n, n]
    voxel_size : float
        Å.
    mass : float
        Of the molecule in kDa; it must fill less than the box.

    Raises
    ------
    ValueError
        If the molecule does not fit in the box.
    """
    count = round(mass * 1e3 * PROTEIN_VOLUME_PER_DALTON / voxel_size**3)
    if not 0 < count < voxels.size / 2:
        raise ValueError(f"a molecule of {mass:g} kDa does not fit in a box of {voxels.shape[0] * voxel_size:.0f} Å")
    border = np.partition(voxels, voxels.size - count, axis=None)
    contrast = PROTEIN_POTENTIAL - mean_potential(WATER, WATER_DENSITY)
    inside, outside = border[voxels.size - count :], border[: voxels.size - count]
    return contrast / float(inside.mean(dtype=np.float64) - outside.mean(dtype=np.float64))


def _displace(voxels: NDArray[np.float32], voxel_size: float, weight: float) -> NDArray[np.float32]:
    blurred = apply_bfactor(torch.from_numpy(voxels), _SOLVENT_B_FACTOR, voxel_size).numpy()
    return np.asarray(voxels - weight * blurred, dtype=np.float32)


def extent(voxels: NDArray[np.float32], voxel_size: float) -> float:
    """Return the diameter in Å of a molecule.

    That of the sphere about the middle of the box which holds 99.5% of the squared values of the map, a little blurred.
    """
    size = voxels.shape[-1]
    blurred = apply_bfactor(torch.from_numpy(voxels), _EXTENT_B_FACTOR, voxel_size).double().numpy()
    axis = (np.arange(size) - size // 2) * voxel_size
    radius = np.sqrt(axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2)
    power = np.bincount(np.rint(radius / voxel_size).astype(int).ravel(), weights=(blurred**2).ravel())
    return 2 * voxel_size * float(np.searchsorted(np.cumsum(power), _EXTENT_SHARE * power.sum()))
