"""Numbers that describe a column, and its histogram."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

_MOST_BINS = 1000
_FEW = 50  # whole numbers up to this far apart get a bin each


@dataclass(frozen=True)
class Summary:
    """A column of numbers in short.

    Attributes
    ----------
    count : int
        Finite values.
    missing : int
        NaN and infinite values; they count for nothing else.
    minimum, lower_quartile, median, upper_quartile, maximum, mean, deviation : float
        NaN where there is no finite value. The deviation is that of the values themselves, divided by their number.
    """

    count: int
    missing: int
    minimum: float
    lower_quartile: float
    median: float
    upper_quartile: float
    maximum: float
    mean: float
    deviation: float


def summarize(values: ArrayLike) -> Summary:
    """Describe a column of numbers."""
    numbers = np.asarray(values, dtype=np.float64)
    finite = numbers[np.isfinite(numbers)]
    if not len(finite):
        nan = float("nan")
        return Summary(0, len(numbers), nan, nan, nan, nan, nan, nan, nan)
    least, lower, median, upper, most = np.quantile(finite, [0, 0.25, 0.5, 0.75, 1]).tolist()
    mean, deviation = float(finite.mean()), float(finite.std())
    return Summary(len(finite), len(numbers) - len(finite), least, lower, median, upper, most, mean, deviation)


@dataclass(frozen=True)
class Histogram:
    """How often values fall into bins.

    Attributes
    ----------
    edges : ndarray of float64, shape [bins + 1]
    counts : ndarray of int64, shape [bins]
        Values from an edge up to, not including, the next; the last bin includes its upper edge.
    below, above : int
        Finite values outside.
    """

    edges: NDArray[np.float64]
    counts: NDArray[np.int64]
    below: int
    above: int


def histogram(values: ArrayLike, bins: int = 0, lowest: float | None = None, highest: float | None = None) -> Histogram:
    """Count values in bins of equal width.

    Parameters
    ----------
    values : array of numbers
        NaN and infinite ones are left out.
    bins : int
        0: by the rule of Freedman & Diaconis (1981), doi:10.1007/BF01025868, width twice the distance of the quartiles
        over the cube root of their number.
    lowest, highest : float, optional
        Outer edges; those of the values by default.

    Raises
    ------
    ValueError
        If there is no finite value, or the lowest edge is not below the highest.
    """
    numbers = np.asarray(values, dtype=np.float64)
    finite = numbers[np.isfinite(numbers)]
    if not len(finite):
        raise ValueError("no value is a finite number")
    low = float(finite.min()) if lowest is None else lowest
    high = float(finite.max()) if highest is None else highest
    if low > high or (low == high and (lowest is not None or highest is not None)):
        raise ValueError(f"the lowest edge, {low:g}, is not below the highest, {high:g}")
    is_free = not bins and lowest is None and highest is None
    if low == high or (is_free and high - low < _FEW and np.all(finite == np.round(finite))):
        # Classes, subsets: a bin around each number.
        low, high, bins = low - 0.5, high + 0.5, int(high - low) + 1
    edges = np.linspace(low, high, (bins or _number_of_bins(finite, high - low)) + 1)
    counts = np.histogram(finite, edges)[0].astype(np.int64)
    return Histogram(edges, counts, int((finite < low).sum()), int((finite > high).sum()))


def _number_of_bins(values: NDArray[np.float64], span: float) -> int:
    quartiles = np.quantile(values, [0.25, 0.75])
    width = 2.0 * float(quartiles[1] - quartiles[0]) / len(values) ** (1 / 3)
    return int(np.clip(np.ceil(span / width), 1, _MOST_BINS)) if width > 0 else 10
