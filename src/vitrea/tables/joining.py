"""Columns of one table added to another by a key, and which rows of two tables belong together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from vitrea.records.table import Column, Table


@dataclass(frozen=True)
class Match:
    """Which rows of two tables belong together.

    Attributes
    ----------
    first, second : ndarray of int64, shape [pairs]
        Rows, in the order of the first table.
    only_first, only_second : ndarray of int64
        Rows without a partner.
    """

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    only_first: NDArray[np.int64]
    only_second: NDArray[np.int64]


def match_keys(first: Sequence[Column], second: Sequence[Column]) -> Match:
    """Pair the rows whose keys are the same.

    Parameters
    ----------
    first, second : sequence of ndarray, each of shape [rows]
        The key columns of each table, in the same order.

    Raises
    ------
    ValueError
        If a key comes twice in a table: names it.
    """
    codes_first, codes_second = _codes(first, second)
    for codes, columns, name in ((codes_first, first, "first"), (codes_second, second, "second")):
        values, start, counts = np.unique(codes, return_index=True, return_counts=True)
        if len(values) < len(codes):
            row = int(start[np.flatnonzero(counts > 1)[0]])
            key = ", ".join(str(column[row]) for column in columns)
            raise ValueError(f"the key {key} comes {counts.max()} times in the {name} table; add a column to the key")
    _, rows_first, rows_second = np.intersect1d(codes_first, codes_second, assume_unique=True, return_indices=True)
    order = np.argsort(rows_first)
    return _match(rows_first[order], rows_second[order], len(codes_first), len(codes_second))


def match_near(first: Sequence[Column], second: Sequence[Column], largest_distance: float) -> Match:
    """Pair the rows whose numbers lie closest, up to a distance; each row has one partner at most.

    The nearest pairs are formed first.

    Parameters
    ----------
    first, second : sequence of ndarray of numbers, each of shape [rows]
        The coordinates, one array an axis.
    largest_distance : float
        In the unit of the columns.
    """
    a, b = (
        np.stack([np.asarray(column, dtype=np.float64) for column in columns], axis=1) for columns in (first, second)
    )
    partners: list[tuple[int, int]] = []
    if len(a) and len(b):
        near = KDTree(a).sparse_distance_matrix(KDTree(b), largest_distance, output_type="ndarray")
        taken_first, taken_second = np.zeros(len(a), dtype=bool), np.zeros(len(b), dtype=bool)
        for pair in near[np.lexsort((near["j"], near["i"], near["v"]))]:
            i, j = int(pair["i"]), int(pair["j"])
            if not (taken_first[i] or taken_second[j]):
                taken_first[i] = taken_second[j] = True
                partners.append((i, j))
    pairs = np.array(sorted(partners), dtype=np.int64).reshape(-1, 2)
    return _match(pairs[:, 0], pairs[:, 1], len(a), len(b))


def join_by_key(
    left: Table, right: Table, keys: Sequence[str], right_keys: Sequence[str], columns: Sequence[str], blank: bool
) -> tuple[Table, int]:
    """Add columns of one table to another where their keys agree.

    Parameters
    ----------
    left : Table
        Its rows are kept, in order.
    right : Table
        A key may come once in it.
    keys, right_keys : sequence of str
        The key columns of `left` and of `right`.
    columns : sequence of str
        What to take from `right`; a column `left` has is replaced.
    blank : bool
        Keep rows of `left` without a partner: what they lack keeps `left`'s value, else is 0 or empty text. Otherwise
        they are left out.

    Returns
    -------
    Table
        The joined table.
    int
        How many rows of `left` have no partner.

    Raises
    ------
    ValueError
        If a key comes twice in `right`.
    """
    codes_left, codes_right = _codes([left[key] for key in keys], [right[key] for key in right_keys])
    order = np.argsort(codes_right, kind="stable")
    sorted_codes = codes_right[order]
    again = np.flatnonzero(sorted_codes[1:] == sorted_codes[:-1])
    if len(again):
        key = ", ".join(str(right[name][order[again[0]]]) for name in right_keys)
        raise ValueError(f"the key {key} comes more than once in the table that columns are taken from")
    place = np.searchsorted(sorted_codes, codes_left)
    place[place == len(sorted_codes)] = 0
    found = sorted_codes[place] == codes_left if len(sorted_codes) else np.zeros(len(codes_left), dtype=bool)
    partner = order[place] if len(sorted_codes) else place
    new = {}
    for column in columns:
        if not blank:
            new[column] = right[column][partner[found]]
        else:
            new[column] = _filled(left, right[column], column, partner, found)
    kept = left if blank else left.rows(found)
    return kept.with_columns(new), int((~found).sum())


def _filled(left: Table, values: Column, name: str, partner: NDArray[np.int64], found: NDArray[np.bool_]) -> Column:
    is_text = values.dtype == object or (name in left and left[name].dtype == object)
    rest = left[name] if name in left else np.full(len(left), "" if is_text else 0, dtype=values.dtype)
    result = np.array([str(value) for value in rest.tolist()], dtype=object) if is_text else np.array(
        rest, dtype=np.result_type(rest.dtype, values.dtype))  # fmt: skip
    taken = values[partner[found]]
    result[found] = [str(value) for value in taken.tolist()] if is_text else taken
    return result


def _codes(first: Sequence[Column], second: Sequence[Column]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return a number for each row of two tables, the same where all keys are the same."""
    split = len(first[0])
    codes = np.zeros(split + len(second[0]), dtype=np.int64)
    for a, b in zip(first, second, strict=True):
        is_text = a.dtype == object or b.dtype == object
        both = np.concatenate([a.astype(str), b.astype(str)]) if is_text else np.concatenate([a, b])
        _, code = np.unique(both, return_inverse=True)
        _, codes = np.unique(codes * (int(code.max(initial=0)) + 1) + code, return_inverse=True)
    return codes[:split], codes[split:]


def _match(first: NDArray[np.int64], second: NDArray[np.int64], rows_first: int, rows_second: int) -> Match:
    lonely_first, lonely_second = np.ones(rows_first, dtype=bool), np.ones(rows_second, dtype=bool)
    lonely_first[first], lonely_second[second] = False, False
    return Match(first.astype(np.int64), second.astype(np.int64), np.flatnonzero(lonely_first),
                 np.flatnonzero(lonely_second))  # fmt: skip
