"""Numbers of poses and what they stand for."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from vitrea.geometry.euler import euler_to_matrix
from vitrea.geometry.sampling import orientation_grid, planar_grid
from vitrea.geometry.shifts import oversample_shifts, shift_grid
from vitrea.matching.poses import GivenPoses, PoseGrid


@pytest.fixture
def poses() -> PoseGrid:
    shifts = shift_grid(2.0, 1.0)
    grid = orientation_grid(1, "C2", perturbation=0.2)
    return PoseGrid(grid, oversample_shifts(shifts, 1.0, 0, 0.2), oversample_shifts(shifts, 1.0, 1, 0.2), 1)


def test_orientation_numbers(poses: PoseGrid) -> None:
    grid = poses.orientations
    assert poses.psi_count == 12
    assert poses.orientation_count == len(grid.directions) * 12
    assert poses.children == 8
    number = np.array([0, 11, 12, 5 * 12 + 7])
    np.testing.assert_array_equal(poses.directions_of(number), [0, 0, 1, 5])
    eulers = np.column_stack([grid.directions[[0, 0, 1, 5]], grid.psi[[0, 11, 0, 7]]])
    expected = euler_to_matrix(eulers) @ grid.perturbation_matrix()
    in_plane_first = poses.coarse_matrices(number).numpy()
    # The grid turns as a whole: coarse views are the unperturbed ones times one rotation (float32).
    np.testing.assert_allclose(in_plane_first, expected, atol=1e-6)


def test_fine_orientations_surround_their_parent(poses: PoseGrid) -> None:
    parents = np.array([40, 3, 40])
    fine = parents[:, None] * 8 + np.arange(8)
    matrices = poses.fine_matrices(fine.ravel()).reshape(3, 8, 3, 3)
    np.testing.assert_allclose(matrices[0], matrices[2])
    for parent, children in zip(poses.coarse_matrices(parents).double().numpy(), matrices, strict=True):
        cosine = (np.einsum("cij,ij->c", children, parent) - 1) / 2
        angle = np.degrees(np.arccos(np.clip(cosine, -1, 1)))
        # A pixel of order 1 reaches at most 25 degrees from its centre; in the plane children are 7.5 degrees off.
        assert angle.max() < 25 + 7.5
        assert angle.min() > 3
        assert np.abs(children.mean(axis=0) - parent).max() < 0.1


def test_fine_shifts_surround_their_parent(poses: PoseGrid) -> None:
    np.testing.assert_allclose(poses.fine_shifts.reshape(-1, 4, 2).mean(axis=1), poses.shifts)


def test_classes_count_on(poses: PoseGrid) -> None:
    """Orientation o of class k is number k * size + o, at both levels; its matrices are those of class 0."""
    three = replace(poses, classes=3)
    size = poses.orientations.size
    assert three.orientation_count == 3 * size
    assert three.direction_count == poses.direction_count
    number = np.array([0, size - 1, size, size + 13, 2 * size + 13])
    np.testing.assert_array_equal(three.coarse_classes_of(number), [0, 0, 1, 1, 2])
    directions = poses.direction_count
    np.testing.assert_array_equal(
        three.directions_of(number), [0, directions - 1, directions, directions + 1, 2 * directions + 1]
    )
    np.testing.assert_array_equal(three.coarse_matrices(number), poses.coarse_matrices(number % size))
    fine = (number[:, None] * 8 + np.arange(8)).ravel()
    np.testing.assert_array_equal(three.classes_of(fine), np.repeat([0, 0, 1, 1, 2], 8))
    np.testing.assert_array_equal(three.fine_matrices(fine), poses.fine_matrices(fine % (8 * size)))


def test_planar_poses_have_two_children_and_one_direction() -> None:
    shifts = shift_grid(1.0, 1.0)
    poses = PoseGrid(planar_grid(30.0, 0.25), shifts, oversample_shifts(shifts, 1.0, 2), 2, classes=2)
    assert (poses.children, poses.psi_count, poses.direction_count, poses.orientation_count) == (4, 12, 1, 24)
    found = poses.fine_matrices(np.array([0, 3, 48 + 5]))
    angle = np.array([[-11.25], [11.25], [30.0 - 3.75]]) + 0.25 * 30.0
    np.testing.assert_allclose(found, euler_to_matrix(angle * [[0.0, 0.0, 1.0]]), atol=1e-12)
    np.testing.assert_array_equal(poses.classes_of(np.array([0, 47, 48])), [0, 0, 1])


def test_given_poses_are_the_particles_own() -> None:
    matrices = euler_to_matrix(np.random.default_rng(1).uniform(0, 180, (4, 3)))
    poses = GivenPoses(matrices, np.zeros((1, 2)), classes=3)
    number = np.array([0, 3, 4, 6, 11])
    np.testing.assert_array_equal(poses.classes_of(number), [0, 0, 1, 1, 2])
    np.testing.assert_array_equal(poses.directions_of(number), [0, 0, 1, 1, 2])
    np.testing.assert_array_equal(poses.fine_matrices(number), matrices[[0, 3, 0, 2, 3]])
    assert poses.children == 1
