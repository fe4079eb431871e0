from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from vitrea.geometry import (
    OrientationGrid,
    angular_distance,
    directions_to_vectors,
    euler_to_matrix,
    local_candidates,
    matrix_to_euler,
    orientation_grid,
    planar_grid,
    symmetry_distance,
    symmetry_matrices,
)
from vitrea.geometry.local_search import candidates_per_particle


def random_eulers(count: int, seed: int = 1) -> np.ndarray:
    return matrix_to_euler(Rotation.random(count, random_state=seed).as_matrix())


def row(offsets: np.ndarray, i: int) -> slice:
    return slice(offsets[i], offsets[i + 1])


def direction_angles(grid: OrientationGrid, euler: np.ndarray) -> np.ndarray:
    """Angle between each perturbed direction and the nearest equivalent of a prior direction, by brute force."""
    directions = directions_to_vectors(grid.directions) @ grid.perturbation_matrix()
    prior = euler_to_matrix(euler)[2]
    cosines = [directions @ (prior @ operator) for operator in symmetry_matrices(grid.symmetry)]
    return np.degrees(np.arccos(np.clip(np.max(cosines, axis=0), -1, 1)))


@pytest.mark.parametrize("name", ["C1", "D2", "O"])
@pytest.mark.parametrize("turned", [0.0, 0.4])
def test_all_directions_within_the_cutoff_are_found(name: str, turned: float) -> None:
    grid = orientation_grid(3, name, perturbation=turned)
    eulers = random_eulers(30)
    found = local_candidates(grid, eulers, sigma_rot_tilt=5.0, sigma_psi=6.0, cutoff=2.5)
    for i, euler in enumerate(eulers):
        angles = direction_angles(grid, euler)
        entries = row(found.offsets, i)
        direction = found.orientation[entries] // len(grid.psi)
        np.testing.assert_array_equal(np.unique(direction), np.flatnonzero(angles <= 12.5))


@pytest.mark.parametrize("name", ["C1", "C4", "C9", "D2", "I1"])
@pytest.mark.parametrize("turned", [0.0, -0.3])
def test_candidates_are_the_near_orientations_whatever_their_angles(name: str, turned: float) -> None:
    """Also at the poles and across the borders of the asymmetric unit: every orientation near the prior is found, and
    every one found is near."""
    grid = orientation_grid(3, name, perturbation=turned)
    eulers = np.concatenate([random_eulers(25), [[10, 0, 20], [0, 3, 90], [100, 177, -50], [0, 90, 0], [90, 45, 180]]])
    found = local_candidates(grid, eulers, 5.0, 5.0, 3.0)
    offsets, orientation, log_prior = found.offsets, found.orientation, found.log_prior
    matrices = grid.matrices(*grid.split(np.arange(grid.size)))
    for i, euler in enumerate(eulers):
        distance = symmetry_distance(euler_to_matrix(euler), matrices, name)
        entries = orientation[row(offsets, i)]
        assert len(np.unique(entries)) == len(entries)
        # A turn of the whole by less than 15 degrees moves neither the direction nor the psi farther than that.
        assert set(np.flatnonzero(distance < 14.9)) <= set(entries.tolist())
        # Both at their limit make a turn of at most 15 * sqrt(2) and a little, unless nothing is near at all.
        if direction_angles(grid, euler).min() < 15:
            assert distance[entries].max() < 22
        np.testing.assert_allclose(np.exp(log_prior[row(offsets, i)]).sum(), 1, atol=1e-9)
        # The likeliest is the nearest, to within half a step.
        best = entries[np.argmax(log_prior[row(offsets, i)])]
        assert distance[best] <= distance.min() + 0.5 * grid.step


def test_priors_are_gaussian_in_direction_and_psi() -> None:
    """Where the prior's view is on the grid, in two neighbouring directions on the equator, by hand."""
    grid = orientation_grid(2, "C1")
    equator = np.flatnonzero(np.abs(grid.directions[:, 1] - 90) < 1e-6)
    rot = grid.directions[equator, 0]
    first = equator[np.argmin(np.abs(rot - 11.25))]
    found = local_candidates(
        grid, np.append(grid.directions[first], 37.0), sigma_rot_tilt=9.0, sigma_psi=10.0, cutoff=2.6
    )
    assert found.offsets.tolist() == [0, len(found.orientation)]
    direction, psi = grid.split(found.orientation)
    for other in equator[np.abs(rot - 11.25) < 2.6 * 9.0]:
        entries = direction == other
        np.testing.assert_array_equal(grid.psi[psi[entries]], [15, 30, 45, 60])
        # Along the equator the shortest way leaves psi as it is.
        angle = grid.directions[other, 0] - 11.25
        expected = -0.5 * ((angle / 9.0) ** 2 + ((grid.psi[1:5] - 37) / 10) ** 2)
        reference = found.log_prior[(direction == first) & (grid.psi[psi] == 45)] + 0.5 * 0.8**2
        np.testing.assert_allclose(found.log_prior[entries] - reference, expected, atol=1e-9)
    np.testing.assert_allclose(np.exp(found.log_prior).sum(), 1)


def test_psi_runs_through_zero() -> None:
    grid = orientation_grid(2, "C1")
    found = local_candidates(grid, np.append(grid.directions[50], -2.0), 2.0, 10.0)
    _, orientation, _ = found.orientations()
    np.testing.assert_array_equal(orientation - 50 * 24, [23 - 1, 23, 0, 1])


def test_the_nearest_is_taken_where_nothing_is_near() -> None:
    grid = orientation_grid(1, "D2")
    eulers = random_eulers(40)
    offsets, orientation, log_prior = local_candidates(grid, eulers, 0.01, 0.01).orientations()
    np.testing.assert_array_equal(np.diff(offsets), 1)
    np.testing.assert_allclose(log_prior, 0, atol=1e-12)
    for i, euler in enumerate(eulers):
        angles = direction_angles(grid, euler)
        direction = orientation[offsets[i]] // len(grid.psi)
        assert angles[direction] <= angles.min() + 1e-9


def test_wide_sigmas_give_every_orientation_once() -> None:
    grid = orientation_grid(0, "C1", perturbation=0.2)
    offsets, orientation, _ = local_candidates(grid, random_eulers(3), 500.0, 500.0).orientations()
    for i in range(3):
        np.testing.assert_array_equal(np.sort(orientation[row(offsets, i)]), np.arange(grid.size))


def test_planar_grid() -> None:
    grid = planar_grid(10.0, perturbation=0.25)
    found = local_candidates(grid, [[0, 0, 12.5], [0, 0, -177.5]], 5.0, 5.0)
    offsets, orientation, log_prior = found.orientations()
    assert grid.psi[orientation[: offsets[1]]].tolist() == [0, 10, 20]
    # 2.5 degrees of perturbation bring the angle 10 onto the prior 12.5.
    assert np.argmax(log_prior[: offsets[1]]) == 1
    assert grid.psi[orientation[offsets[1] :]].tolist() == [170, 180, 190]


def test_cutoff_widens_the_search() -> None:
    grid = orientation_grid(3, "C1")
    eulers = random_eulers(5)
    narrow, wide = (local_candidates(grid, eulers, 5.0, 5.0, cutoff) for cutoff in (2.0, 3.0))
    assert len(narrow.orientation) < len(wide.orientation)
    for i in range(5):
        assert set(narrow.orientation[row(narrow.offsets, i)]) < set(wide.orientation[row(wide.offsets, i)])


def test_no_particles_and_wrong_arguments() -> None:
    grid = orientation_grid(1)
    offsets, orientation, _ = local_candidates(grid, np.empty((0, 3)), 5.0, 5.0).orientations()
    assert offsets.tolist() == [0]
    assert len(orientation) == 0
    with pytest.raises(ValueError, match="positive"):
        local_candidates(grid, [[0, 0, 0]], 0.0, 5.0)


def test_found_views_lead_to_the_prior_through_their_operator() -> None:
    """A prior beyond the border of the asymmetric unit finds the equivalent orientation inside, at its own psi."""
    grid = orientation_grid(3, "D2")
    inside = grid.matrices([70], [5])[0]
    for operator in symmetry_matrices("D2"):
        prior = matrix_to_euler(inside @ operator)
        offsets, orientation, log_prior = local_candidates(grid, prior, 4.0, 4.0).orientations()
        assert orientation[np.argmax(log_prior)] == 70 * len(grid.psi) + 5
        assert offsets[-1] == len(orientation)
        near = grid.matrices(*grid.split(orientation))
        assert angular_distance(near, inside).min() < 1e-5


@pytest.mark.parametrize("symmetry", ["C1", "D2"])
@pytest.mark.parametrize(("order", "sigma"), [(3, 7.5), (4, 5.0), (2, 30.0)])
def test_number_of_candidates_is_foreseen(order: int, sigma: float, symmetry: str) -> None:
    grid = orientation_grid(order, symmetry)
    offsets, *_ = local_candidates(grid, random_eulers(100), sigma, sigma).orientations()
    assert candidates_per_particle(grid, sigma, sigma) == pytest.approx(np.diff(offsets).mean(), rel=0.2)


def test_number_of_candidates_in_a_plane_is_foreseen() -> None:
    grid = planar_grid(6.0)
    offsets, *_ = local_candidates(grid, random_eulers(50), 10.0, 10.0).orientations()
    assert candidates_per_particle(grid, 10.0, 10.0) == pytest.approx(np.diff(offsets).mean(), rel=0.1)
