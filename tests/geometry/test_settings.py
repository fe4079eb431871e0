"""Axes of point groups, and the settings of the icosahedral one."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from vitrea.geometry.symmetry import change_of_setting, symmetry_axes, symmetry_matrices
from vitrea.records.errors import InputError

SETTINGS = ("I1", "I2", "I3", "I4")


@pytest.mark.parametrize(
    ("group", "folds"),
    [("C1", {}), ("C5", {5: 1}), ("D4", {4: 1, 2: 4}), ("T", {3: 4, 2: 3}), ("O", {4: 3, 3: 4, 2: 6}),
     ("I1", {5: 6, 3: 10, 2: 15})],
)  # fmt: skip
def test_the_axes_of_a_group(group: str, folds: dict[int, int]) -> None:
    axes = symmetry_axes(group)
    assert Counter(fold for fold, _ in axes) == folds
    operators = symmetry_matrices(group)
    for fold, axis in axes:
        turn = Rotation.from_rotvec(2 * np.pi / fold * axis).as_matrix()
        assert np.abs(operators - turn).max(axis=(1, 2)).min() < 1e-9


@pytest.mark.parametrize(("first", "second"), [("I1", "I1"), *pairwise((*SETTINGS, "I1", "I3", "I2"))])
def test_a_change_of_setting_brings_operators_to_operators(first: str, second: str) -> None:
    turn = change_of_setting(first, second)
    assert np.linalg.det(turn) == pytest.approx(1.0)
    wanted = symmetry_matrices(second)
    for operator in symmetry_matrices(first):
        assert np.abs(wanted - turn @ operator @ turn.T).max(axis=(1, 2)).min() < 1e-9
    angle = np.degrees(Rotation.from_matrix(turn).magnitude())
    if first == second:
        assert angle == pytest.approx(0.0, abs=1e-6)
    if {first, second} == {"I2", "I3"}:  # a fivefold axis comes to z
        assert angle == pytest.approx(np.degrees(np.arctan(2 / (1 + np.sqrt(5)))))


def test_other_groups_have_one_setting() -> None:
    with pytest.raises(InputError, match="only icosahedral"):
        change_of_setting("I1", "O")
