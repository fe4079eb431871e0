"""Symmetry axes are found where they were put."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from vitrea.geometry.euler import angular_distance
from vitrea.geometry.symmetry import symmetry_matrices
from vitrea.maps.point_group import (
    SYMMETRIC,
    SymmetryAxes,
    align_to_symmetry,
    centre_of_mass,
    choose_symmetry,
    find_symmetry_axes,
    rank_symmetries,
)
from vitrea.records.errors import InputError

SIZE, VOXEL = 48, 5.0


@dataclass(frozen=True)
class Puzzle:
    """A symmetric assembly of Gaussian balls, turned and shifted, with noise."""

    voxels: NDArray[np.float32]
    group: str
    turn: NDArray[np.float64]
    shift: NDArray[np.float64]

    def errors(self, found: SymmetryAxes) -> tuple[float, float]:
        """Largest angle (degrees) of an operator to the one it should be, distance (voxels) of the centre or axis."""
        operators = symmetry_matrices(self.group)
        total = found.placement.rotation @ self.turn
        seen = total @ operators @ total.T
        angle = max(float(angular_distance(operators, operator).min()) for operator in seen)
        centre = found.placement.rotation @ self.shift + found.placement.shift
        return angle, float(np.linalg.norm(centre[:2] if self.group[0] == "C" else centre))


def puzzle(group: str, seed: int, balls: int = 8, noise: float = 1.0, defect: float = 0.0) -> Puzzle:
    """Draw balls at random, apply a group; `defect` takes that share of the density of one asymmetric unit away."""
    random = np.random.default_rng(seed)
    unit = random.normal(size=(balls, 3))
    unit *= (random.uniform(0.1, 1, balls) ** (1 / 3) * 0.25 * SIZE / np.linalg.norm(unit, axis=1))[:, None]
    operators = symmetry_matrices(group)
    points = np.concatenate([unit @ operator.T for operator in operators])
    heights = np.ones(len(points))
    heights[:balls] -= defect
    turn, shift = Rotation.random(random_state=seed).as_matrix(), random.uniform(-3, 3, 3)
    axis = np.arange(SIZE) - SIZE // 2
    lines = np.exp(-((axis - (points @ turn.T + shift)[:, :, None]) ** 2) / (2 * 1.5**2))
    density = np.einsum("b,bz,by,bx->zyx", heights, lines[:, 2], lines[:, 1], lines[:, 0])
    density += random.normal(0, noise * density.std(), density.shape)
    return Puzzle(density.astype(np.float32), group, turn, shift)


@pytest.mark.parametrize("group", ["C2", "C3", "D2", "D7", "T", "O", "I1"])
def test_the_axes_are_found(group: str) -> None:
    problem = puzzle(group, seed=3, balls=3 if group[0] == "I" else 8)
    found = find_symmetry_axes(problem.voxels, VOXEL, group)
    angle, distance = problem.errors(found)
    assert angle < 2.0
    assert distance < 0.5
    assert found.correlation > 0.75


def test_a_symmetry_only_approximate_is_found() -> None:
    problem = puzzle("D2", seed=5, defect=0.5)
    found = find_symmetry_axes(problem.voxels, VOXEL, "D2")
    angle, distance = problem.errors(found)
    assert angle < 4.0
    assert distance < 1.0
    whole = find_symmetry_axes(puzzle("D2", seed=5).voxels, VOXEL, "D2")
    assert SYMMETRIC < found.correlation < whole.correlation - 0.05


def test_maps_without_the_symmetry_get_low_scores() -> None:
    groups = ["C2", "C3", "D2"]
    lopsided = rank_symmetries(puzzle("C1", seed=1, balls=30).voxels, VOXEL, groups)
    assert [axes.group for axes in lopsided] == groups
    assert max(axes.correlation for axes in lopsided) < SYMMETRIC
    assert choose_symmetry(lopsided) is None
    noise = np.random.default_rng(0).normal(size=(SIZE,) * 3).astype(np.float32)
    assert choose_symmetry(rank_symmetries(noise, VOXEL, groups)) is None
    threefold = rank_symmetries(puzzle("C3", seed=1).voxels, VOXEL, ["C3", "D3"])
    chosen = choose_symmetry(threefold)
    assert chosen is not None
    assert chosen.group == "C3"


def test_of_the_groups_a_map_has_the_largest_is_chosen() -> None:
    chosen = choose_symmetry(rank_symmetries(puzzle("D2", seed=2).voxels, VOXEL, ["D2", "C2", "C4", "T"]))
    assert chosen is not None
    assert chosen.group == "D2"
    assert chosen.order == 4


def test_the_aligned_map_has_its_axes_in_place() -> None:
    problem = puzzle("D2", seed=4, noise=0.2)
    aligned, _ = align_to_symmetry(torch.from_numpy(problem.voxels), VOXEL, "D2")
    again = find_symmetry_axes(aligned, VOXEL, "D2")
    # Already in place: of the ways to permute the three axes, the one that changes nothing.
    assert again.placement.angle < 0.7
    assert np.abs(again.placement.shift).max() < 0.15
    imposed, _ = align_to_symmetry(problem.voxels, VOXEL, "D2", impose=True)
    turned = np.roll(imposed[:, ::-1, ::-1], 1, axis=(1, 2))  # a half turn about z
    inside = (slice(2, -1),) * 3  # on the faces, rounding decides whether a point lies inside
    assert np.allclose(imposed[inside], turned[inside], atol=1e-4 * imposed.max())
    assert np.corrcoef(imposed.ravel(), aligned.ravel())[0, 1] > 0.95


@pytest.mark.parametrize("group", ["D5", "T", "O", "I2"])
def test_a_map_in_place_stays_there(group: str) -> None:
    operators = symmetry_matrices(group)
    points = np.array([[11.0, 4.0, 2.0], [2.0, 7.0, 9.0]])
    seen = np.concatenate([points @ operator.T for operator in operators])
    axis = np.arange(SIZE) - SIZE // 2
    lines = np.exp(-((axis - seen[:, :, None]) ** 2) / (2 * 1.5**2))
    density = np.einsum("bz,by,bx->zyx", lines[:, 2], lines[:, 1], lines[:, 0])
    placement = find_symmetry_axes(density, VOXEL, group).placement
    assert placement.angle < 0.5
    assert np.abs(placement.shift).max() < 0.1


def test_with_one_axis_the_centre_of_mass_comes_to_height_0() -> None:
    problem = puzzle("C3", seed=8, noise=0.0)
    aligned, _ = align_to_symmetry(problem.voxels, VOXEL, "C3")
    assert np.abs(centre_of_mass(torch.from_numpy(aligned))).max() < 0.3


def test_resolution_and_diameter_limit_what_is_compared() -> None:
    problem = puzzle("C3", seed=9, noise=6.0)
    plain = find_symmetry_axes(problem.voxels, VOXEL, "C3")
    coarse = find_symmetry_axes(problem.voxels, VOXEL, "C3", resolution=40.0)
    small = find_symmetry_axes(problem.voxels, VOXEL, "C3", diameter=0.6 * SIZE * VOXEL)
    # There is more noise at high resolution, and outside the particle.
    assert coarse.correlation > plain.correlation + 0.03
    assert small.correlation > plain.correlation + 0.03


def test_mistakes_are_told() -> None:
    voxels = puzzle("C2", seed=0).voxels
    with pytest.raises(InputError, match="C1 has no axes"):
        find_symmetry_axes(voxels, VOXEL, "C1")
    with pytest.raises(InputError, match="give C2"):
        find_symmetry_axes(voxels, VOXEL, "D1")
    with pytest.raises(InputError, match="Q5"):
        find_symmetry_axes(voxels, VOXEL, "Q5")
    with pytest.raises(ValueError, match="constant"):
        find_symmetry_axes(np.ones((16, 16, 16), dtype=np.float32), VOXEL, "C2")
    with pytest.raises(ValueError, match="cube"):
        find_symmetry_axes(voxels[1:], VOXEL, "C2")
