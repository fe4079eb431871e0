"""Densities of atoms hold against tabulated scattering factors; resampled maps against analytic ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from vitrea.formats.atomic_models import read_atoms
from vitrea.records.atomic_model import AtomicModel
from vitrea.simulate.density import VOLTS, bounding_box_centre, density_from_atoms, resample_map

# Peng et al. 1996, carbon: f(s) = sum of a exp(-b s² / 4) in Å, s in 1/Å.
CARBON_A = np.array([0.0893, 0.2563, 0.7570, 1.0487, 0.3575])
CARBON_B = np.array([0.2465, 1.7100, 6.4094, 18.6113, 50.2523])


def model(elements: list[str], positions: list[list[float]], b: float = 20.0, occupancy: float = 1.0) -> AtomicModel:
    count = len(elements)
    return AtomicModel(
        np.array(elements, dtype=object),
        np.array(positions),
        np.full(count, b),
        np.full(count, occupancy),
        np.full(count, "A", dtype=object),
    )


@pytest.mark.parametrize(("size", "voxel_size"), [(32, 1.0), (33, 1.0), (24, 3.0)])
def test_the_transform_of_an_atom_is_its_scattering_factor(size: int, voxel_size: float) -> None:
    voxels = density_from_atoms(model(["C"], [[7.0, -3.0, 2.0]], occupancy=0.5), size, voxel_size, b_factor=15.0)
    transform = np.fft.rfftn(np.fft.ifftshift(voxels.astype(np.float64))) * voxel_size**3 / VOLTS
    full = np.fft.fftfreq(size, voxel_size)
    square = full[:, None, None] ** 2 + full[None, :, None] ** 2 + np.fft.rfftfreq(size, voxel_size)[None, None] ** 2
    factor = np.exp(-np.multiply.outer(CARBON_B, square) / 4)
    expected = 0.5 * np.tensordot(CARBON_A, factor, 1) * np.exp(-35.0 * square / 4)
    inside = square < (0.48 / voxel_size) ** 2
    assert np.abs(transform - expected)[inside].max() < 3e-3 * expected.max()


def test_atoms_keep_their_distance_and_elements_their_weight() -> None:
    voxels = density_from_atoms(model(["C", "S"], [[0.0, 0.0, 0.0], [8.0, 4.0, -6.0]]), 24, 1.0)
    assert voxels[12 + 3, 12 - 2, 12 - 4] == pytest.approx(voxels[11:18, 6:13, 4:11].max())
    assert voxels[12 - 3, 12 + 2, 12 + 4] == voxels.max()  # sulphur, at half the distance on the other side
    assert voxels.max() > 1.5 * voxels[15, 10, 8]


def test_a_part_keeps_its_place_when_the_centre_is_given() -> None:
    """The part of a model without some atoms, drawn about the whole's centre, is the whole less those atoms."""
    whole = model(["C", "S"], [[0.0, 0.0, 0.0], [8.0, 4.0, -6.0]])
    carbon, sulphur = (model([name], [place]) for name, place in (("C", [0.0, 0.0, 0.0]), ("S", [8.0, 4.0, -6.0])))
    centre = bounding_box_centre(whole)
    parts = [density_from_atoms(one, 24, 1.0, centre=centre) for one in (carbon, sulphur)]
    np.testing.assert_allclose(parts[0] + parts[1], density_from_atoms(whole, 24, 1.0), atol=1e-3)
    with pytest.raises(ValueError, match="30 Å wide"):
        density_from_atoms(carbon, 24, 1.0, centre=np.array([15.0, 0.0, 0.0]))


def test_what_cannot_be_drawn_is_refused() -> None:
    with pytest.raises(ValueError, match="30 Å wide and does not fit in a box of 24 Å"):
        density_from_atoms(model(["C", "C"], [[0, 0, 0], [30, 0, 0]]), 24, 1.0)
    with pytest.raises(ValueError, match="element 'X'"):
        density_from_atoms(model(["X"], [[0, 0, 0]]), 24, 1.0)


def test_a_real_model_shows_its_symmetry(shared_data: Path) -> None:
    """Beta-galactosidase has a two-fold axis through its middle; its mass lies within the box."""
    atoms = read_atoms(shared_data / "models" / "5a1a.pdb.gz")
    voxels = density_from_atoms(atoms, 40, 6.0, b_factor=200.0)
    inner = voxels[1:, 1:, 1:].astype(np.float64)
    turned = [np.rot90(inner, 2, axes) for axes in ((0, 1), (0, 2), (1, 2))]
    assert max(np.corrcoef(inner.ravel(), one.ravel())[0, 1] for one in turned) > 0.95


def test_resampled_maps_keep_grey_values_and_place() -> None:
    def gaussian(size: int, voxel_size: float) -> torch.Tensor:
        axis = (torch.arange(size, dtype=torch.float64) - size // 2) * voxel_size
        z, y, x = torch.meshgrid(axis, axis, axis, indexing="ij")
        return 1.0 + torch.exp(-((x - 3) ** 2 + y**2 + (z + 2) ** 2) / 32)

    voxels, voxel_size = resample_map(gaussian(40, 1.0), 1.0, 24, 1.6)
    assert voxel_size == pytest.approx(1.6)
    torch.testing.assert_close(voxels, gaussian(24, 1.6), atol=2e-3, rtol=0)
    same, unchanged = resample_map(gaussian(20, 1.5), 1.5, 20, 1.5)
    assert unchanged == 1.5
    assert torch.equal(same, gaussian(20, 1.5))
    wider, _ = resample_map(gaussian(40, 1.0), 1.0, 50, 1.0)
    assert float(wider[0, 0, 0]) == pytest.approx(1.0, abs=1e-2)
    assert resample_map(gaussian(40, 1.0), 1.0, 24, 1.63)[1] == pytest.approx(1.6)  # 25 voxels in 40 Å
