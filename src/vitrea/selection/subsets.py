"""Random subsets, and the division of a set into parts."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.int64]


def random_rows(count: int, wanted: int, seed: int) -> Rows:
    """Draw `wanted` of `count` rows (all, if there are fewer), in their old order; repeatable for a seed."""
    drawn = np.random.default_rng(seed).permutation(count)[:wanted]
    return np.sort(drawn).astype(np.int64)


def half_sets(units: NDArray[np.generic], seed: int) -> Rows:
    """Divide rows at random into two half sets of equal size.

    Parameters
    ----------
    units : ndarray, shape [rows]
        Rows of equal value stay together: views of one image, segments of one filament.
    seed : int

    Returns
    -------
    ndarray of int64, shape [rows]
        1 or 2. The sizes differ by no more than the largest unit.
    """
    _, unit, sizes = np.unique(units, return_inverse=True, return_counts=True)
    half = np.zeros(len(sizes), dtype=np.int64)
    filled = [0, 0]
    for one in np.random.default_rng(seed).permutation(len(sizes)).tolist():
        smaller = int(filled[1] < filled[0])
        half[one] = smaller + 1
        filled[smaller] += int(sizes[one])
    return half[unit]


def split_rows(count: int, number: int = 0, size: int = 0, seed: int | None = None) -> list[Rows]:
    """Divide rows into parts, as ``relion_star_handler --split``.

    Parameters
    ----------
    count : int
        Rows.
    number : int
        Parts; 0: as many as `size` asks for.
    size : int
        Rows of a part; 0: `count` divided by `number`, the first parts one longer where that leaves a rest. Where both
        are given, rows beyond ``number * size`` are in no part.
    seed : int, optional
        Shuffle the rows first.

    Returns
    -------
    list of ndarray of int64
        The last ones may be shorter, none is empty.

    Raises
    ------
    ValueError
        If neither `number` nor `size` is given, or there are more parts than rows.
    """
    if number <= 0 and size <= 0:
        raise ValueError("the number of parts, or their size, must be given")
    order = np.arange(count) if seed is None else np.random.default_rng(seed).permutation(count)
    if size <= 0:
        parts = np.array_split(order, number)
    else:
        number = number if number > 0 else math.ceil(count / size)
        parts = [order[i * size : (i + 1) * size] for i in range(number)]
    if not parts or not all(len(part) for part in parts):
        raise ValueError(f"{count} particles do not fill {number} parts")
    return [part.astype(np.int64) for part in parts]
