"""Random subsets and parts."""

from __future__ import annotations

import numpy as np
import pytest

from vitrea.selection.subsets import random_rows, split_rows


def test_random_rows_are_repeatable_distinct_and_in_order() -> None:
    rows = random_rows(1000, 100, seed=4)
    assert len(np.unique(rows)) == 100
    assert (np.diff(rows) > 0).all()
    assert np.array_equal(rows, random_rows(1000, 100, seed=4))
    assert not np.array_equal(rows, random_rows(1000, 100, seed=5))
    assert random_rows(3, 10, seed=1).tolist() == [0, 1, 2]


def test_parts_by_number_size_and_both() -> None:
    assert [part.tolist() for part in split_rows(7, number=2)] == [[0, 1, 2, 3], [4, 5, 6]]
    assert [part.tolist() for part in split_rows(7, size=3)] == [[0, 1, 2], [3, 4, 5], [6]]
    assert [part.tolist() for part in split_rows(7, number=2, size=2)] == [[0, 1], [2, 3]]


def test_shuffled_parts_hold_every_row_once() -> None:
    parts = split_rows(101, number=4, seed=3)
    assert sorted(np.concatenate(parts).tolist()) == list(range(101))
    assert [len(part) for part in parts] == [26, 25, 25, 25]
    assert not np.array_equal(parts[0], split_rows(101, number=4)[0])
    assert not np.array_equal(parts[0], split_rows(101, number=4, seed=2)[0])


@pytest.mark.parametrize(("number", "size"), [(0, 0), (9, 0), (3, 5)])
def test_empty_parts_are_refused(number: int, size: int) -> None:
    with pytest.raises(ValueError, match="parts"):
        split_rows(8, number, size)
