"""Tests of columns, each of which says what to keep."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Mask = NDArray[np.bool_]


def parse_spans(text: str) -> list[tuple[int, int]]:
    """Read a list of whole numbers such as ``1,3,5-8``.

    Returns
    -------
    list of (int, int)
        First and last number of each span.

    Raises
    ------
    ValueError
        If a part is neither a number from 1 on nor a span of two, the first of which is not the larger.
    """
    spans = []
    for part in text.replace(",", " ").split():
        first, dash, last = part.partition("-")
        words = (first, last) if dash else (first, first)
        if not all(word.isascii() and word.isdigit() and int(word) > 0 for word in words):
            raise ValueError(f"{part!r} is not a number from 1 on, nor a span such as 5-8")
        if int(words[0]) > int(words[1]):
            raise ValueError(f"the span {part} runs backwards")
        spans.append((int(words[0]), int(words[1])))
    if not spans:
        raise ValueError("no number is given")
    return spans


def in_spans(values: ArrayLike, spans: list[tuple[int, int]]) -> Mask:
    """Tell which whole numbers lie in one of the spans; shape of `values`."""
    numbers = np.asarray(values)
    keep = np.zeros(numbers.shape, dtype=bool)
    for first, last in spans:
        keep |= (numbers >= first) & (numbers <= last)
    return keep


def in_range(values: ArrayLike, minimum: float | None, maximum: float | None) -> Mask:
    """Tell which values lie from `minimum` to `maximum`, both included; NaN never does. None: no bound."""
    numbers = np.asarray(values, dtype=np.float64)
    keep: Mask = np.asarray(~np.isnan(numbers))
    if minimum is not None:
        keep &= numbers >= minimum
    if maximum is not None:
        keep &= numbers <= maximum
    return keep


def contains_text(column: NDArray[np.object_], include: str = "", exclude: str = "") -> Mask:
    """Tell which texts contain `include` and do not contain `exclude`; an empty text asks nothing."""
    words = [str(word) for word in column]
    keep = [include in word and not (exclude and exclude in word) for word in words]
    return np.array(keep, dtype=bool)


def within_sigmas(values: NDArray[np.float64], sigmas: float) -> Mask:
    """Tell which rows lie within a number of standard deviations of the mean in every column.

    Mean and standard deviation are those of all finite rows, as in ``relion_star_handler --discard_on_stats``; rows
    that are not finite are not kept.

    Parameters
    ----------
    values : ndarray of float64, shape [rows, columns]
    sigmas : float

    Returns
    -------
    ndarray of bool, shape [rows]
    """
    keep: Mask = np.asarray(np.isfinite(values).all(axis=1))
    if keep.any():
        mean, deviation = values[keep].mean(axis=0), values[keep].std(axis=0)
        # A column that does not vary must not lose rows to the rounding of its mean.
        slack = 1e-9 * np.abs(mean)
        keep[keep] = (np.abs(values[keep] - mean) <= sigmas * deviation + slack).all(axis=1)
    return keep


def first_of_each(column: NDArray[np.generic]) -> Mask:
    """Tell which rows hold a value that no row before them holds."""
    _, first = np.unique(column.astype(str) if column.dtype == object else column, return_index=True)
    keep = np.zeros(len(column), dtype=bool)
    keep[first] = True
    return keep
