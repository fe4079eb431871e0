"""Micrographs joined into groups."""

from __future__ import annotations

import numpy as np
import pytest

from vitrea.selection.grouping import regroup


def test_groups_are_alike_equal_in_size_and_all_there() -> None:
    rng = np.random.default_rng(1)
    features = np.column_stack([rng.uniform(1e4, 3e4, 200), rng.uniform(0.8, 1.2, 200)])
    counts = rng.integers(5, 40, 200)
    group = regroup(features, counts, 16)
    assert np.unique(group).tolist() == list(range(16))
    sizes = np.bincount(group, weights=counts)
    # Cuts fall between whole micrographs: four levels of halving, each off by half a micrograph at most.
    assert np.abs(sizes - counts.sum() / 16).max() <= 40
    within = np.array([features[group == number].std(axis=0) for number in range(16)]).mean(axis=0)
    # Sixteen cells of a square have a quarter of its width along each side.
    assert (within < 0.4 * features.std(axis=0)).all()


def test_a_feature_without_spread_does_not_divide() -> None:
    """With equal scales the groups are spans of defocus, RELION's sorting by one feature."""
    features = np.column_stack([np.arange(12.0)[::-1], np.ones(12) * 0.1])
    group = regroup(features, np.ones(12, dtype=np.int64), 3)
    assert group[::-1].tolist() == [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2]


def test_one_micrograph_larger_than_all_others_leaves_each_group_one() -> None:
    features = np.arange(4.0)[:, None]
    assert sorted(regroup(features, np.array([1000, 1, 1, 1]), 4).tolist()) == [0, 1, 2, 3]
    assert sorted(regroup(features, np.array([1, 1, 1, 1000]), 4).tolist()) == [0, 1, 2, 3]


@pytest.mark.parametrize("number", [0, 5])
def test_impossible_numbers_of_groups_are_refused(number: int) -> None:
    with pytest.raises(ValueError, match="cannot make"):
        regroup(np.zeros((4, 1)), np.ones(4, dtype=np.int64), number)
