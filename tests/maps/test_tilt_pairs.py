"""Tilt pairs with known answers."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from vitrea.geometry.euler import euler_to_matrix, matrix_to_euler
from vitrea.geometry.symmetry import symmetry_matrices
from vitrea.maps.tilt_pairs import chance_fractions, find_cluster, judge_hand, pair_turns, tilt_vector

Floats = NDArray[np.float64]


def stage(tilt: float, axis: float) -> Floats:
    """Right-handed turn about an axis in the plane of the image."""
    direction = np.array([np.cos(np.radians(axis)), np.sin(np.radians(axis)), 0.0])
    return Rotation.from_rotvec(np.radians(tilt) * direction).as_matrix()


def pairs(
    tilt: float, axis: float, count: int = 300, error: float = 0.0, lost: float = 0.0, symmetry: str = "C1",
    seed: int = 0, turn: float = 0.0,
) -> tuple[Floats, Floats]:  # fmt: skip
    """Orientations of pairs; errors of each image in degrees, a part of the second ones at random."""
    generator = np.random.default_rng(seed)
    first = Rotation.random(count, random_state=generator).as_matrix()
    second = Rotation.from_euler("z", -turn, degrees=True).as_matrix() @ stage(tilt, axis) @ first
    blur = [Rotation.from_rotvec(np.radians(error) * generator.normal(size=(count, 3))).as_matrix() for _ in range(2)]
    wrong = generator.uniform(size=count) < lost
    second[wrong] = Rotation.random(int(wrong.sum()), random_state=generator).as_matrix()
    operators = symmetry_matrices(symmetry)
    chosen = operators[generator.integers(len(operators), size=count)]
    return matrix_to_euler(blur[0] @ first), matrix_to_euler(blur[1] @ second @ chosen)


def mirrored(eulers: Floats) -> Floats:
    """Orientations that the same images have with regard to the map inverted through its centre."""
    return matrix_to_euler(np.diag([-1.0, -1.0, 1.0]) @ euler_to_matrix(eulers))


@pytest.mark.parametrize(("tilt", "axis"), [(10.0, 0.0), (45.0, 85.0), (20.0, -170.0)])
def test_the_turn_of_the_stage_is_recovered_exactly(tilt: float, axis: float) -> None:
    turns = pair_turns(*pairs(tilt, axis, 20))
    assert np.allclose(turns.vectors, tilt_vector(tilt, axis), atol=1e-9)
    assert np.allclose(turns.in_plane, 0, atol=1e-6)
    found = find_cluster(turns, tilt)
    assert (found.tilt, found.axis) == pytest.approx((tilt, axis), abs=1e-5)
    assert found.fraction == 1 and found.scatter < 1e-5


def test_errors_blur_the_cluster_and_lost_images_leave_it() -> None:
    """Errors of 2 degrees about each axis in both images move the direction by 2 sqrt(2) in x and y: 4 degrees rms."""
    found = find_cluster(pair_turns(*pairs(30.0, 40.0, 800, error=2.0, lost=0.3)), 30.0)
    assert found.scatter == pytest.approx(4.0, abs=0.4)
    # Random ones fall within 15 degrees with a chance of (1 - cos 15) / 2 = 1.7%.
    assert found.fraction == pytest.approx(0.7 + 0.3 * 0.017, abs=0.05)
    assert found.tilt == pytest.approx(30.0, abs=0.6) and found.axis == pytest.approx(40.0, abs=1.2)
    assert np.array_equal(found.members, found.distances <= 15.0)


@pytest.mark.parametrize("symmetry", ["C1", "D2", "O"])
def test_the_hand_is_told_whatever_the_symmetry(symmetry: str) -> None:
    first, second = pairs(20.0, 75.0, 200, error=1.5, lost=0.2, symmetry=symmetry)
    found = find_cluster(pair_turns(first, second, symmetry), 20.0)
    other = find_cluster(pair_turns(mirrored(first), mirrored(second), symmetry), 20.0)
    assert judge_hand(found, 20.0, 75.0) == "right" and judge_hand(other, 20.0, 75.0) == "wrong"
    # The other way round, and about the opposite axis, are the same statement.
    assert judge_hand(found, -20.0, 75.0) == "wrong" and judge_hand(found, -20.0, -105.0) == "right"
    assert judge_hand(found, 20.0, 165.0) == "not known"
    assert other.fraction == pytest.approx(found.fraction, abs=0.02)
    assert abs((other.axis - found.axis) % 360 - 180) < 2


def test_an_inverted_map_has_its_views_half_a_turn_away(lopsided) -> None:  # type: ignore[no-untyped-def]
    """What the hand rests on: projections of the inverted map at Rz(180) A are those of the map at A."""
    matrices = Rotation.random(3, random_state=1).as_matrix()
    images = lopsided.images(lopsided.transforms(32, matrices), 32)
    inverted = type(lopsided)(-lopsided.points, lopsided.heights, lopsided.width)
    same = inverted.images(inverted.transforms(32, np.diag([-1.0, -1.0, 1.0]) @ matrices), 32)
    assert np.allclose(images, same, atol=1e-6)


def test_a_turn_in_the_plane_is_told_apart_from_the_tilt() -> None:
    found = find_cluster(pair_turns(*pairs(25.0, 10.0, 50, turn=30.0)), 25.0)
    assert (found.tilt, found.axis) == pytest.approx((25.0, 10.0), abs=1e-5)
    assert abs(found.turn_in_plane) == pytest.approx(30.0, abs=1e-5)


def test_wrong_pairs_show_what_chance_does() -> None:
    first, second = pairs(30.0, 0.0, 200, error=2.0, symmetry="O")
    chance = chance_fractions(first, second, "O", 30.0, 15.0, 15.0, shuffles=5)
    # With 24 operators a random pair has a chance of 24 x 1.7% = 0.34 or so within 15 degrees of any one point.
    assert 0.3 < chance.mean() < 0.6
    assert find_cluster(pair_turns(first, second, "O"), 30.0).fraction > 0.95
    assert chance_fractions(first, second, "O", 30.0, 15.0, 8.0, shuffles=2).mean() < 0.6 * chance.mean()
    again, other = (chance_fractions(first, second, "O", 30.0, 15.0, 15.0, seed, shuffles=2) for seed in (0, 1))
    assert np.array_equal(chance[:2], again) and not np.array_equal(again, other)


def test_the_nominal_tilt_bounds_the_search() -> None:
    """Half of the pairs at 10, a little more at 50 degrees: what is found is what was asked for."""
    parts = [pairs(10.0, 20.0, 40), pairs(50.0, 20.0, 60, seed=1)]
    turns = pair_turns(*(np.concatenate(images) for images in zip(*parts, strict=True)))
    assert find_cluster(turns, 10.0).tilt == pytest.approx(10.0, abs=1e-5)
    assert find_cluster(turns, -10.0).tilt == pytest.approx(10.0, abs=1e-5)
    assert find_cluster(turns, 10.0, tolerance=60.0).tilt == pytest.approx(50.0, abs=1e-5)
    assert find_cluster(turns, 10.0, radius=60.0).fraction == 1
