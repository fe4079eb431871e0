from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from astropy_healpix import healpy
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from vitrea.geometry import (
    angular_distance,
    angular_step,
    directions_to_vectors,
    euler_to_matrix,
    orientation_grid,
    perturbation,
    planar_grid,
    symmetry_distance,
    symmetry_matrices,
)
from vitrea.geometry.sampling import healpix_directions

GROUPS = ["C1", "C2", "C3", "D2", "D7", "T", "O", "I1", "I2", "I3", "I4"]


def read_perturbation(path: Path) -> float:
    found = re.search(r"rlnSamplingPerturbInstance (\S+)", path.read_text())
    assert found is not None
    return float(found[1])


def chord_angle(chord: np.ndarray) -> np.ndarray:
    return 2 * np.degrees(np.arcsin(np.minimum(chord / 2, 1)))


@pytest.mark.parametrize("order", [2, 3, 4])
def test_directions_and_their_order_are_relions(order: int, data_dir: Path) -> None:
    """Tables written by RELION 5 with six decimals, D2."""
    expected = np.loadtxt(data_dir / "sampling" / f"D2_order{order}_directions.txt")
    grid = orientation_grid(order, "D2")
    np.testing.assert_allclose(grid.directions, expected, atol=1.1e-6)
    assert len(grid.psi) == 6 * 2**order
    assert grid.psi_step == angular_step(order) == 60 / 2**order


@pytest.mark.parametrize("order", [2, 3, 4])
def test_perturbed_children_are_relions_poses(order: int, data_dir: Path) -> None:
    """Every pose that RELION assigned lies on the perturbed, once oversampled grid of its iteration."""
    path = data_dir / "sampling" / f"D2_order{order}_poses.txt"
    poses = euler_to_matrix(np.loadtxt(path))
    grid = orientation_grid(order, "D2", perturbation=read_perturbation(path))
    # Coarse orientations by direction and by psi first, so that not every child has to be compared.
    direction, psi = grid.split(np.arange(grid.size))
    coarse = grid.matrices(direction, psi)
    for pose in poses:
        nearest = np.argsort(angular_distance(coarse, pose))[:16]
        children = grid.matrices(direction[nearest], psi[nearest], 1)
        # Six decimals of the angles, and of the perturbation times the step, are left.
        assert angular_distance(children, pose).min() < 5e-5


def test_planar_children_are_relions_in_plane_angles(data_dir: Path) -> None:
    path = data_dir / "sampling" / "planar_poses.txt"
    angles = np.loadtxt(path)
    grid = planar_grid(12.0, read_perturbation(path))
    assert grid.is_planar
    assert grid.size == 30
    direction, psi = grid.split(np.arange(grid.size))
    children = grid.eulers(direction, psi, 1)
    assert children.shape == (60, 3)
    np.testing.assert_array_equal(children[:, :2], 0)
    difference = (angles[:, None] - children[None, :, 2] + 180) % 360 - 180
    assert np.abs(difference).min(axis=1).max() < 2e-5


@pytest.mark.parametrize("name", GROUPS)
@pytest.mark.parametrize("order", [1, 2, 3])
def test_directions_cover_the_sphere_without_repeats(name: str, order: int) -> None:
    grid = orientation_grid(order, name)
    views = directions_to_vectors(grid.directions)
    operators = symmetry_matrices(name)
    random = Rotation.random(1000, random_state=1).as_matrix()[:, 2]
    far = chord_angle(cKDTree(np.concatenate([views @ operator for operator in operators])).query(random)[0])
    # The corners of the largest pixels are 0.75 steps from their centres. Where a pixel's centre lies beyond the
    # border, the next one inside stands for it, or an equivalent of that within half a pixel radius.
    assert far.max() < (0.76 if name == "C1" else 2.0) * angular_step(order)
    for operator in operators[1:]:
        distance = np.degrees(np.arccos(np.clip(views @ (views @ operator).T, -1, 1)))
        np.fill_diagonal(distance, 180)  # near a symmetry axis, a direction is near its own equivalent
        assert distance.min() > 0.3 * angular_step(order)


def test_a_unit_between_the_pixels_still_has_a_direction() -> None:
    """No pixel centre of the coarsest grids lies within the small unit of the icosahedral group."""
    for order in (0, 1):
        assert len(orientation_grid(order, "I2").directions) == 1


def test_exact_repeats_go_even_where_there_are_many_directions() -> None:
    """C2 at order 5 has 6144 directions and as many equivalents: a whole orbit each."""
    assert len(orientation_grid(5, "C2").pixels) == 12 * 4**5 // 2


@pytest.mark.parametrize("oversampling", [0, 1, 2])
def test_children_surround_their_parent_and_lie_together(oversampling: int) -> None:
    grid = orientation_grid(2, "C1")
    direction, psi = np.array([5, 17, 17, 180]), np.array([0, 3, 23, 11])
    children = grid.matrices(direction, psi, oversampling)
    assert len(children) == 4 * grid.children(oversampling) == 4 * 8**oversampling
    eulers = grid.eulers(direction, psi, oversampling)
    np.testing.assert_allclose(euler_to_matrix(eulers), children, atol=1e-9)
    parents = directions_to_vectors(grid.directions[direction])
    views = children[:, 2].reshape(4, -1, 3)
    assert chord_angle(np.linalg.norm(views - parents[:, None], axis=2)).max() < 0.76 * grid.step
    # The children of a curved pixel do not average to its centre exactly: a tenth of the step.
    assert chord_angle(np.linalg.norm(views.mean(axis=1) - parents, axis=1)).max() < 0.1 * grid.step
    turn = (eulers[:, 2].reshape(4, -1) - grid.psi[psi][:, None] + 180) % 360 - 180
    parts = 2**oversampling
    expected = ((np.arange(parts) + 0.5) / parts - 0.5) * grid.step
    np.testing.assert_allclose(
        turn.reshape(4, -1, parts), np.broadcast_to(expected, (4, 4**oversampling, parts)), atol=1e-9
    )


def test_children_of_all_are_the_finer_grid() -> None:
    coarse, fine = orientation_grid(1, "C1"), orientation_grid(2, "C1")
    children = coarse.matrices(*coarse.split(np.arange(coarse.size)), 1)
    all_fine = fine.matrices(*fine.split(np.arange(fine.size)))
    assert len(children) == len(all_fine)
    # The children's in-plane angles lie half a fine step beside the fine grid's, which starts at 0.
    shifted = euler_to_matrix([0, 0, -fine.step / 2]) @ all_fine
    distance = cKDTree(shifted.reshape(-1, 9)).query(children.reshape(-1, 9))[0]
    assert distance.max() < 1e-9


def test_perturbation_turns_every_view_alike() -> None:
    plain, turned = orientation_grid(2, "D2"), orientation_grid(2, "D2", perturbation=-0.4)
    direction, psi = plain.split(np.arange(0, plain.size, 7))
    relative = plain.matrices(direction, psi).transpose(0, 2, 1) @ turned.matrices(direction, psi)
    expected = euler_to_matrix([-6.0, -6.0, -6.0])  # 0.4 of 15 degrees
    np.testing.assert_allclose(relative, np.broadcast_to(expected, relative.shape), atol=1e-12)


def test_psi_step_is_shortened_until_it_divides_a_turn() -> None:
    grid = orientation_grid(1, "C1", psi_step=50.0)
    assert len(grid.psi) == 8
    assert grid.psi_step == 45.0
    assert grid.step == 30.0
    assert len(planar_grid(0.1).psi) == 3600


def test_tilt_limit_keeps_side_or_top_views() -> None:
    everything = orientation_grid(2, "C1").directions[:, 1]
    side = orientation_grid(2, "C1", tilt_limit=60).directions[:, 1]
    top = orientation_grid(2, "C1", tilt_limit=-60).directions[:, 1]
    assert side.min() >= 59.999
    assert side.max() <= 120.001
    assert np.all((top <= 60.001) | (top >= 119.999))
    assert len(side) < len(everything)
    assert len(top) < len(everything)
    assert len(orientation_grid(2, "C1", tilt_limit=-91).directions) == len(everything)


def test_equivalent_views_are_not_sampled_twice() -> None:
    """Every random view has an equivalent within the reach of one coarse orientation of a D2 grid."""
    grid = orientation_grid(2, "D2")
    matrices = grid.matrices(*grid.split(np.arange(grid.size)))
    for view in Rotation.random(20, random_state=2).as_matrix():
        assert symmetry_distance(view, matrices, "D2").min() < 1.1 * grid.step


@given(st.integers(0, 2**31), st.integers(1, 50), st.floats(0.05, 0.5))
def test_random_perturbation(seed: int, iteration: int, factor: float) -> None:
    value = perturbation(seed, iteration, factor)
    assert -factor <= value <= factor
    assert value == perturbation(seed, iteration, factor)
    following = perturbation(seed, iteration + 1, factor)
    move = (following - value) % (2 * factor)
    assert 0.5 * factor - 1e-9 <= move <= factor + 1e-9


def test_perturbation_spreads_and_can_be_switched_off() -> None:
    values = [perturbation(7, iteration) for iteration in range(1, 200)]
    assert min(values) < -0.4
    assert max(values) > 0.4
    assert perturbation(7, 3) != perturbation(8, 3)
    assert perturbation(7, 3, factor=0.0) == 0.0
    assert perturbation(7, 0) == 0.0


def test_wrong_arguments_are_refused() -> None:
    grid = orientation_grid(0)
    with pytest.raises(ValueError, match="order"):
        orientation_grid(-1)
    with pytest.raises(ValueError, match="step"):
        planar_grid(0.0)
    with pytest.raises(ValueError, match="oversampling"):
        grid.matrices([0], [0], -1)
    with pytest.raises(ValueError, match="indices"):
        grid.matrices([0, 1], [0])


@pytest.mark.parametrize("order", [0, 1, 2, 5, 9])
def test_directions_are_the_centres_of_healpix_pixels(order: int) -> None:
    count = 12 * 4**order
    pixels = np.unique(np.linspace(0, count - 1, 20_000).astype(np.int64))
    tilt, rot = healpy.pix2ang(2**order, pixels, nest=True)
    found = healpix_directions(order, pixels)
    np.testing.assert_allclose(found[:, 1], np.degrees(tilt), rtol=0, atol=1e-11)
    np.testing.assert_allclose(np.mod(found[:, 0] - np.degrees(rot) + 180.0, 360.0), 180.0, rtol=0, atol=1e-11)
    assert found[:, 0].max() <= 180.0
    assert found[:, 0].min() > -180.0
