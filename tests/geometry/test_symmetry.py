from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from vitrea.geometry import (
    angular_distance,
    canonical_name,
    euler_to_matrix,
    in_asymmetric_unit,
    symmetry_distance,
    symmetry_matrices,
    wall_distances,
)
from vitrea.records.errors import InputError

PRINTED = ["C1", "C2", "C3", "C7", "D2", "D7", "T", "O", "I1", "I2", "I3", "I4"]
GROUPS = st.one_of(
    st.sampled_from(["T", "O", "I", "I1", "I2", "I3", "I4"]),
    st.builds("{}{}".format, st.sampled_from("CD"), st.integers(1, 12)),
)


def printed_operators(path: Path) -> np.ndarray:
    """Read what RELION's --print_symmetry_ops wrote: rows of three bare numbers."""
    rows = [line.split() for line in path.read_text().splitlines() if not line.lstrip().startswith("R(")]
    numbers = [[float(word) for word in row] for row in rows if len(row) == 3]
    return np.array(numbers).reshape(-1, 3, 3)


@pytest.mark.parametrize("name", PRINTED)
def test_operators_and_their_order_are_relions(name: str, data_dir: Path) -> None:
    """RELION prints five or six digits."""
    expected = printed_operators(data_dir / "symmetry" / f"{name}.txt")
    np.testing.assert_allclose(symmetry_matrices(name), expected, atol=6e-6)


@settings(max_examples=25, deadline=None)
@given(GROUPS)
def test_operators_form_a_group(name: str) -> None:
    operators = symmetry_matrices(name)
    np.testing.assert_allclose(
        operators @ operators.transpose(0, 2, 1), np.eye(3)[None].repeat(len(operators), 0), atol=1e-12
    )
    np.testing.assert_allclose(np.linalg.det(operators), 1, atol=1e-12)
    products = (operators[:, None] @ operators[None]).reshape(-1, 1, 9)
    distance = np.abs(products - operators.reshape(1, -1, 9)).max(axis=2)
    assert np.all(np.min(distance, axis=1) < 1e-9)  # closed ...
    assert np.sum(distance < 1e-3) == len(operators) ** 2  # ... and no operator twice


@pytest.mark.parametrize(("name", "order"), [("C5", 5), ("D5", 10), ("D1", 2), ("T", 12), ("O", 24), ("I", 60)])
def test_group_orders(name: str, order: int) -> None:
    assert len(symmetry_matrices(name)) == order


def test_names() -> None:
    assert [canonical_name(name) for name in ("c1", "C04", " d7 ", "i", "I3", "o")] == [
        "C1",
        "C4",
        "D7",
        "I2",
        "I3",
        "O",
    ]
    np.testing.assert_array_equal(symmetry_matrices("i"), symmetry_matrices("I2"))


@pytest.mark.parametrize("name", ["", "C", "C0", "CS", "CI", "C2V", "D3H", "I5", "X2", "C-2", "D2D"])
def test_unknown_names_are_refused_by_name(name: str) -> None:
    with pytest.raises(InputError, match=f"'{name}' is not known.*Dn, T, O, I"):
        symmetry_matrices(name)


def test_operators_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="read-only"):
        symmetry_matrices("D2")[0, 0, 0] = 2.0


@pytest.mark.parametrize("name", ["C1", "C3", "D2", "T", "O", "I1"])
def test_distance_is_zero_between_equivalent_views_and_the_angle_for_small_turns(name: str) -> None:
    views = Rotation.random(20, random_state=3).as_matrix()
    operators = symmetry_matrices(name)
    picked = operators[np.arange(20) % len(operators)]
    np.testing.assert_allclose(symmetry_distance(views, views @ picked, name), 0, atol=1e-6)
    np.testing.assert_allclose(symmetry_distance(views @ picked, views, name), 0, atol=1e-6)
    # The smallest turn of any group here is 72 degrees, so a turn of 20 is its own distance.
    turned = euler_to_matrix([20, 0, 0]) @ views @ picked
    np.testing.assert_allclose(symmetry_distance(views, turned, name), 20, atol=1e-9)
    if name == "C1":
        other = Rotation.random(20, random_state=4).as_matrix()
        np.testing.assert_allclose(symmetry_distance(views, other, name), angular_distance(views, other))


@pytest.mark.parametrize("name", ["C1", "C2", "C5", "D1", "D2", "D3", "D7", "T", "O", "I1", "I2", "I3", "I4"])
def test_asymmetric_unit_holds_one_view_of_every_orbit(name: str) -> None:
    vectors = Rotation.random(500, random_state=5).as_matrix()[:, 2]
    orbits = vectors @ symmetry_matrices(name)  # [operators, 500, 3]
    np.testing.assert_array_equal(in_asymmetric_unit(orbits, name).sum(axis=0), 1)


def test_wall_distance_is_the_sine_of_the_angle_to_the_wall() -> None:
    direction = [np.sin(np.radians(80)), 0, np.cos(np.radians(80))]
    np.testing.assert_allclose(
        wall_distances([0, np.sin(np.radians(80)), np.cos(np.radians(80))], "D2"), np.sin(np.radians(10))
    )
    np.testing.assert_allclose(wall_distances(direction, "D2"), 0, atol=1e-15)
    assert np.isinf(wall_distances(direction, "C1"))
