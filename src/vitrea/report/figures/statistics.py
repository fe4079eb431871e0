"""Values of many particles: how they are distributed, and which of them a choice keeps."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from vitrea.report.figures.style import DROPPED, KEPT

Range = tuple[float, float]

_ALL: Range = (-np.inf, np.inf)


def histogram(values: ArrayLike, label: str, bins: int = 60, kept: Range = _ALL) -> Figure:
    """Draw a histogram; what a range keeps in one colour, the rest in another, a line at each end of the range.

    Parameters
    ----------
    values : array, shape [n]
        NaN and infinite ones are left out.
    label : str
        What the values are, with the unit.
    bins : int
    kept : (float, float)
        Lowest and highest value that is kept; infinite where there is no limit.
    """
    numbers = _finite(values)
    figure = Figure(figsize=(4.8, 2.8), layout="constrained")
    axis = figure.subplots()
    edges = np.histogram_bin_edges(numbers, bins=bins).tolist()
    inside = _within(numbers, kept)
    axis.hist(numbers[inside], bins=edges, color=KEPT)
    if kept != _ALL:
        axis.hist(numbers[~inside], bins=edges, color=DROPPED)
        _draw_limits(axis, kept, vertical=True)
        _tell_kept(axis, inside)
    axis.set_xlabel(label)
    axis.set_ylabel("number")
    return figure


def scatter(x: ArrayLike, y: ArrayLike, labels: tuple[str, str], kept_x: Range = _ALL, kept_y: Range = _ALL) -> Figure:
    """Draw one value of each particle (or class) against another, with the limits of a choice.

    Parameters
    ----------
    x, y : array, shape [n]
        Pairs with a NaN or infinite value are left out.
    labels : (str, str)
        What x and y are, with units.
    kept_x, kept_y : (float, float)
        Lowest and highest value that is kept; infinite where there is no limit.
    """
    pairs = np.stack([np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)])  # [2, n]
    pairs = pairs[:, np.isfinite(pairs).all(axis=0)]
    inside = _within(pairs[0], kept_x) & _within(pairs[1], kept_y)
    figure = Figure(figsize=(4.8, 3.8), layout="constrained")
    axis = figure.subplots()
    # Small and light where points are many, or they would hide each other.
    size, opacity = (18.0, 0.9) if pairs.shape[1] < 300 else (6.0, 0.35)
    for chosen, colour in ((inside, KEPT), (~inside, DROPPED)):
        axis.scatter(
            pairs[0, chosen], pairs[1, chosen], s=size, alpha=opacity, color=colour, linewidths=0, rasterized=True
        )
    if kept_x != _ALL or kept_y != _ALL:
        _draw_limits(axis, kept_x, vertical=True)
        _draw_limits(axis, kept_y, vertical=False)
        _tell_kept(axis, inside)
    axis.set_xlabel(labels[0])
    axis.set_ylabel(labels[1])
    return figure


def _finite(values: ArrayLike) -> NDArray[np.float64]:
    numbers = np.asarray(values, dtype=np.float64)
    return numbers[np.isfinite(numbers)]


def _within(values: NDArray[np.float64], limits: Range) -> NDArray[np.bool_]:
    return (values >= limits[0]) & (values <= limits[1])


def _draw_limits(axis: Axes, limits: Range, *, vertical: bool) -> None:
    for limit in limits:
        if np.isfinite(limit):
            line = axis.axvline if vertical else axis.axhline
            line(limit, color="black", linewidth=1.0, linestyle="--")
            if vertical:
                axis.text(limit, 0.98, f" {limit:.3g}", transform=axis.get_xaxis_transform(), va="top", fontsize=8)
            else:
                axis.text(0.99, limit, f"{limit:.3g}", transform=axis.get_yaxis_transform(), ha="right", va="bottom",
                          fontsize=8)  # fmt: skip


def _tell_kept(axis: Axes, inside: NDArray[np.bool_]) -> None:
    share = 100.0 * inside.mean() if len(inside) else 0.0
    axis.set_title(f"{int(inside.sum()):,} of {len(inside):,} kept ({share:.1f}%)", fontsize=10)
