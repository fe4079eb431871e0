from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from vitrea.geometry import angular_distance, directions_to_vectors, euler_to_matrix, matrix_to_euler, wrap_degrees

ANGLES = st.floats(-360.0, 360.0)


def turn(axis: str, degrees: float) -> np.ndarray:
    """Elementary matrix that describes a vector in a frame turned about z or y."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    if axis == "z":
        return np.array([[c, s, 0], [-s, c, 0], [0, 0, 1]])
    return np.array([[c, 0, -s], [0, 1, 0], [s, 0, c]])


@given(ANGLES, ANGLES, ANGLES)
def test_matrix_is_the_product_of_three_turns(rot: float, tilt: float, psi: float) -> None:
    """Heymann et al. 2005: first rot about z, then tilt about the new y, then psi about the new z."""
    expected = turn("z", psi) @ turn("y", tilt) @ turn("z", rot)
    np.testing.assert_allclose(euler_to_matrix([rot, tilt, psi]), expected, atol=1e-12)


@given(st.floats(-179.99, 180.0), st.floats(0.001, 179.999), st.floats(-179.99, 180.0))
def test_round_trip(rot: float, tilt: float, psi: float) -> None:
    angles = np.array([rot, tilt, psi])
    difference = matrix_to_euler(euler_to_matrix(angles)) - angles
    difference = (difference + 180) % 360 - 180  # 180 and -180 are one angle
    # Near the poles a rounding of the matrix by 1e-16 turns rot and psi by 1e-16 / sin(tilt).
    np.testing.assert_allclose(difference, 0, atol=1e-8)


@given(ANGLES, ANGLES, ANGLES)
def test_read_angles_are_canonical_and_give_the_same_view(rot: float, tilt: float, psi: float) -> None:
    matrix = euler_to_matrix([rot, tilt, psi])
    read = matrix_to_euler(matrix)
    assert -180 < read[0] <= 180
    assert 0 <= read[1] <= 180
    assert -180 < read[2] <= 180
    # Below the threshold at the poles the tilt (at most 1.9e-6 rad) is taken as exactly 0 or 180.
    np.testing.assert_allclose(euler_to_matrix(read), matrix, atol=3e-6)


@pytest.mark.parametrize(
    ("angles", "expected"),
    [
        ((30, 0, 45), (0, 0, 75)),
        ((170, 0, 170), (0, 0, -20)),
        ((30, 180, 45), (0, 180, 15)),
        ((0, 180, 180), (0, 180, 180)),
        ((0, 90, -180), (0, 90, 180)),
        ((10, -30, 20), (-170, 30, -160)),
    ],
)
def test_degenerate_and_uncommon_angles(angles: tuple[float, ...], expected: tuple[float, ...]) -> None:
    np.testing.assert_allclose(matrix_to_euler(euler_to_matrix(angles)), expected, atol=1e-6)


def test_third_row_is_the_direction_of_view() -> None:
    directions = np.array([[10.0, 20.0], [-120.0, 150.0]])
    eulers = np.column_stack([directions, [77.0, -8.0]])
    np.testing.assert_allclose(euler_to_matrix(eulers)[:, 2], directions_to_vectors(directions), atol=1e-14)


def test_leading_dimensions_are_kept() -> None:
    eulers = np.random.default_rng(1).uniform(-180, 180, (2, 3, 4, 3))
    assert euler_to_matrix(eulers).shape == (2, 3, 4, 3, 3)
    assert matrix_to_euler(euler_to_matrix(eulers)).shape == (2, 3, 4, 3)
    assert euler_to_matrix(np.empty((0, 3))).shape == (0, 3, 3)
    assert matrix_to_euler(np.empty((0, 3, 3))).shape == (0, 3)


def test_wrap() -> None:
    np.testing.assert_array_equal(wrap_degrees([180, -180, 181, 540, 0, -0.0]), [180, 180, -179, 180, 0, 0])


def test_angular_distance_is_the_angle_of_the_turn_between() -> None:
    first, second = Rotation.random(50, random_state=1), Rotation.random(50, random_state=2)
    expected = np.degrees((first.inv() * second).magnitude())
    np.testing.assert_allclose(angular_distance(first.as_matrix(), second.as_matrix()), expected, atol=1e-10)


@pytest.mark.parametrize("degrees", [1e-6, 1e-3, 90.0, 179.999, 180.0])
def test_small_and_large_angular_distances_are_exact(degrees: float) -> None:
    base = euler_to_matrix([40, 50, 60])
    np.testing.assert_allclose(angular_distance(base, base @ euler_to_matrix([degrees, 0, 0])), degrees, rtol=1e-8)


def test_wrong_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="Euler angles need shape"):
        euler_to_matrix(np.zeros((3, 2)))
    with pytest.raises(ValueError, match="rotation matrices need shape"):
        matrix_to_euler(np.zeros((3, 2)))
