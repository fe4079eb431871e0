"""Turning and symmetrising maps: RELION's result, exact quarter turns, and consistency."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from vitrea.formats.mrc import read_map
from vitrea.geometry.symmetry import symmetry_matrices
from vitrea.maps.transform import Placement, place_map, rotate_batch, smallest_equivalent, symmetrise

QUARTER = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
"""x to y, y to -x."""


def correlation(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    return float(np.corrcoef(first.ravel(), second.ravel())[0, 1])


def test_symmetrising_is_relions(data_dir: Path) -> None:
    folder = data_dir / "image_handler"
    found = symmetrise(read_map(folder / "newbox40.mrc").voxels, symmetry_matrices("C3"))
    expected = read_map(folder / "newbox40_symC3.mrc").voxels
    assert np.abs(found - expected).max() < 1e-7 * np.abs(expected).max()


@pytest.mark.parametrize("size", [20, 21])
def test_symmetrising_a_symmetric_map_changes_nothing(size: int) -> None:
    axis = np.arange(size) - size // 2
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
    ball = np.exp(-(x**2 + y**2 + z**2) / 18.0)
    # Linear interpolation flattens this Gaussian by an eighth of its curvature, 1/9 per axis, at worst.
    assert np.abs(symmetrise(ball, symmetry_matrices("D3")) - ball).max() < 3 / 8 / 9


@pytest.mark.parametrize("size", [14, 15])
def test_a_quarter_turn_moves_voxels_the_right_way(size: int) -> None:
    volume = np.zeros((size,) * 3, dtype=np.float32)
    middle = size // 2
    volume[middle + 1, middle, middle + 4] = 1.0  # x = 4, z = 1
    turned = place_map(volume, Placement(QUARTER, np.zeros(3)))
    assert turned[middle + 1, middle + 4, middle] == pytest.approx(1.0, abs=1e-5)  # y = 4, z = 1
    moved = place_map(volume, Placement(np.eye(3), np.array([-2.0, 1.0, 3.0])))
    assert moved[middle + 4, middle + 1, middle + 2] == pytest.approx(1.0, abs=1e-5)
    mirrored = place_map(volume, Placement(np.eye(3), np.zeros(3), mirrored=True))
    assert mirrored[middle + 1, middle, middle - 4] == pytest.approx(1.0, abs=1e-5)


def test_placing_and_placing_back_restores(molecule: NDArray[np.float32]) -> None:
    turn = Rotation.from_rotvec([0.4, -0.9, 0.3]).as_matrix()
    shift = np.array([1.3, -0.6, 2.2])
    there = place_map(molecule, Placement(turn, shift))
    assert correlation(there, molecule) < 0.9
    back = place_map(there, Placement(turn.T, -turn.T @ shift))
    # Blobs of sigma 1.3 voxels hold little near Nyquist, where cubic splines on the finer grid lose most.
    assert np.abs(back - molecule).max() < 5e-3 * molecule.max()


def test_batches_agree_with_single_placements(molecule: NDArray[np.float32]) -> None:
    turns = Rotation.from_rotvec([[0.1, 0.2, 0.3], [1.0, 0.0, -2.0]]).as_matrix()
    shifts = np.array([[0.5, 1.0, -1.0], [0.0, 2.0, 0.0]])
    batch = rotate_batch(
        torch.from_numpy(molecule), torch.from_numpy(turns).float(), torch.from_numpy(shifts).float()
    ).numpy()
    for turned, turn, shift in zip(batch, turns, shifts, strict=True):
        assert correlation(turned, place_map(molecule, Placement(turn, shift))) > 0.995


def test_the_identity_and_its_angle() -> None:
    assert Placement.identity().angle == pytest.approx(0.0, abs=1e-6)
    assert Placement(QUARTER, np.zeros(3)).angle == pytest.approx(90.0)


def test_the_smallest_of_equivalent_turns_is_chosen() -> None:
    small = Rotation.from_rotvec([0.0, 0.1, 0.05]).as_matrix()
    operators = symmetry_matrices("D4")
    for operator in operators:
        assert np.allclose(smallest_equivalent(small @ operator, operators), small)
