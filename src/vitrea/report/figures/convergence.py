"""How a run went, iteration by iteration."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike, NDArray

from vitrea.report.figures.style import COLOURS, cycle, panels

_ROW = 2.6  # inches
# More curves than this are drawn in grey, and two that stand for them in colour.
_NAMED_CURVES = len(COLOURS)
# Classes with a smaller share than this at the end get no number: there would be no room for it.
_NUMBERED_SHARE = 4.0


def convergence_curves(
    iterations: ArrayLike, series: Mapping[str, ArrayLike], not_from_zero: Collection[str] = ()
) -> Figure:
    """Draw how figures of a run went from iteration to iteration, one panel each.

    Parameters
    ----------
    iterations : array, shape [iterations]
    series : mapping of str to array, shape [iterations] or [iterations, classes]
        By name with unit; NaN where not known. One curve, or one for each class.
    not_from_zero : collection of str
        Names of those whose axis need not begin at zero, such as a log-likelihood.
    """
    figure, axes = panels(len(series), _ROW)
    for axis, (name, values), colour in zip(axes, series.items(), cycle(len(series)), strict=True):
        _draw_curves(axis, name, np.asarray(iterations), np.asarray(values, dtype=np.float64), colour)
        if name not in not_from_zero:
            axis.set_ylim(bottom=0)
    return figure


def class_convergence(
    iterations: ArrayLike,
    *,
    changed: ArrayLike | None = None,
    angles: ArrayLike | None = None,
    offsets: ArrayLike | None = None,
    resolutions: ArrayLike | None = None,
    log_likelihood: ArrayLike | None = None,
    particles: ArrayLike | None = None,
    shares: ArrayLike | None = None,
) -> Figure:
    """Draw how a classification settled; panels of what is not given are left out.

    Parameters
    ----------
    iterations : array, shape [iterations]
    changed : array, shape [iterations], optional
        Share of the particles that went to another class, 0 to 1.
    angles : array, shape [iterations], optional
        Mean change of the orientations, degrees.
    offsets : array, shape [iterations], optional
        Mean change of the shifts, Å.
    resolutions : array, shape [iterations] or [iterations, classes], optional
        Å; of each class, or of the best one.
    log_likelihood : array, shape [iterations], optional
    particles : array, shape [iterations], optional
        How many were used.
    shares : array, shape [iterations, classes], optional
        Share of each class, 0 to 1; drawn one above the other, class 1 at the bottom.
    """
    likelihood = "log-likelihood"
    given = {
        "changed class (%)": None if changed is None else 100.0 * np.asarray(changed, dtype=np.float64),
        "change of angles (°)": angles,
        "change of offsets (Å)": offsets,
        "resolution (Å)": resolutions,
        likelihood: log_likelihood,
        "particles used": particles,
    }
    series = {name: np.asarray(values, dtype=np.float64) for name, values in given.items() if values is not None}
    figure, axes = panels(len(series) + (shares is not None), _ROW, last_wide=shares is not None)
    x = np.asarray(iterations)
    for axis, (name, values), colour in zip(axes, series.items(), cycle(len(series)), strict=False):
        _draw_curves(axis, name, x, values, colour)
        if name != likelihood:
            axis.set_ylim(bottom=0)
    if shares is not None:
        _draw_shares(axes[-1], x, 100.0 * np.asarray(shares, dtype=np.float64))
    return figure


def _draw_curves(axis: Axes, name: str, x: NDArray[np.generic], values: NDArray[np.float64], colour: str) -> None:
    if values.ndim == 1:
        axis.plot(x, values, "o-", color=colour, markersize=3)
    elif values.shape[1] <= _NAMED_CURVES:
        for number, (curve, own) in enumerate(zip(values.T, COLOURS, strict=False), start=1):
            axis.plot(x, curve, "o-", color=own, markersize=3, label=f"class {number}")
        axis.legend(fontsize=7, frameon=False, ncols=2)
    else:
        axis.plot(x, values, "-", color="0.75", linewidth=0.6)
        # An iteration in which no class has a value gets a gap.
        median, lowest = (np.array([_of_known(reduce, row) for row in values]) for reduce in (np.median, np.min))
        axis.plot(x, median, "-", color="black", linewidth=1.8, label="median of the classes")
        axis.plot(x, lowest, "-", color=colour, linewidth=1.8, label="lowest")
        axis.legend(fontsize=7, frameon=False)
    axis.set_title(name, fontsize=10)
    _iteration_axis(axis)


def _of_known(reduce: Callable[[NDArray[np.float64]], np.float64], values: NDArray[np.float64]) -> float:
    finite = values[np.isfinite(values)]
    return float(reduce(finite)) if len(finite) else np.nan


def _draw_shares(axis: Axes, x: NDArray[np.generic], shares: NDArray[np.float64]) -> None:
    """Draw areas one above the other; each of some size has its number where it ends."""
    axis.stackplot(x, shares.T, colors=cycle(shares.shape[1]), linewidth=0.4, edgecolor="white")
    last = np.nan_to_num(shares[-1])
    middle = np.cumsum(last) - last / 2
    for number, (height, share) in enumerate(zip(middle, last, strict=True), start=1):
        if share >= _NUMBERED_SHARE:
            axis.annotate(f"{number}", (float(x[-1]), float(height)), (3, 0), textcoords="offset points", fontsize=7,
                          va="center", annotation_clip=False)  # fmt: skip
    axis.set_xlim(float(x[0]), max(float(x[-1]), float(x[0]) + 1))
    axis.set_ylim(0, 100)
    axis.set_title("share of each class (%)", fontsize=10)
    _iteration_axis(axis)


def _iteration_axis(axis: Axes) -> None:
    axis.set_xlabel("iteration")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
