"""Columns of a table: one against another, and histograms with given bins."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from vitrea.report.figures.style import KEPT, cycle

_FEW = 300
_MARKERS = "osD^vP*"


def column_plot(
    x: ArrayLike, series: Sequence[ArrayLike], names: Sequence[str], x_name: str, *, lines: bool = False
) -> Figure:
    """Draw columns against one column.

    Parameters
    ----------
    x : array, shape [n]
    series : sequence of array, each of shape [n]
        NaN and infinite values leave gaps.
    names : sequence of str
        What each of `series` is; a legend where there are several, which differ in colour and in mark.
    x_name : str
    lines : bool
        Join the points in the order of the rows, instead of marks.
    """
    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    axis = figure.subplots()
    positions = np.asarray(x, dtype=np.float64)
    size, opacity = (5.0, 0.9) if len(positions) < _FEW else (2.5, 0.5)
    for number, (values, name, colour) in enumerate(zip(series, names, cycle(len(series)), strict=True)):
        style = {"linestyle": ("-", "--", ":", "-.")[number % 4]} if lines else {
            "linestyle": "none", "marker": _MARKERS[number % len(_MARKERS)], "markersize": size, "alpha": opacity,
            "markeredgewidth": 0.0}  # fmt: skip
        axis.plot(positions, np.asarray(values, dtype=np.float64), color=colour, label=name, rasterized=True, **style)
    axis.set_xlabel(x_name)
    if len(series) == 1:
        axis.set_ylabel(names[0])
    else:
        # Above the axes, where no point can lie.
        axis.legend(frameon=False, loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=min(len(names), 4))
    axis.spines[["top", "right"]].set_visible(False)
    return figure


def binned_histogram(edges: ArrayLike, counts: ArrayLike, label: str, unit: str = "number") -> Figure:
    """Draw a histogram that is counted already.

    Parameters
    ----------
    edges : array, shape [bins + 1]
    counts : array, shape [bins]
    label : str
        What the values are.
    unit : str
        What the counts are: "number", "percent".
    """
    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    axis = figure.subplots()
    axis.stairs(np.asarray(counts, dtype=np.float64), np.asarray(edges, dtype=np.float64), fill=True, color=KEPT)
    axis.set_xlabel(label)
    axis.set_ylabel(unit)
    axis.spines[["top", "right"]].set_visible(False)
    return figure
