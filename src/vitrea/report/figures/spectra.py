"""What sharpening does to the amplitudes of a map."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from vitrea.report.figures.curves import resolution_ticks
from vitrea.report.figures.style import COLOURS, PAGE_WIDTH, cycle


def sharpening_curves(
    frequency: ArrayLike,
    amplitudes: Mapping[str, ArrayLike],
    gain: ArrayLike,
    merit: ArrayLike | None,
    marks: Mapping[str, float],
) -> Figure:
    """Draw the amplitudes of a map before and after sharpening, and what its shells were multiplied by.

    Parameters
    ----------
    frequency : array, shape [shells]
        1/Å; the first, 0, is not shown.
    amplitudes : mapping of str to array, shape [shells]
        By name; each scaled to 1 at its first shell that is shown.
    gain, merit : array, shape [shells]
        Factors, and the figures of merit among them.
    marks : mapping of str to float
        Å by name: broken lines.
    """
    k = np.asarray(frequency, dtype=np.float64)[1:]
    figure = Figure(figsize=(PAGE_WIDTH, 3.9), layout="constrained")
    left, right = figure.subplots(1, 2)
    for (name, values), colour in zip(amplitudes.items(), cycle(len(amplitudes)), strict=True):
        curve = np.asarray(values, dtype=np.float64)[1:]
        curve = curve / curve[0] if curve[0] > 0 else curve
        shown = curve > 0
        left.plot(k[shown] ** 2, np.log(curve[shown]), color=colour, linewidth=1.8, label=name)
    left.set_xlim(0.0, k[-1] ** 2)
    left.set_ylim(bottom=max(left.get_ylim()[0], -12.0))
    left.locator_params(axis="x", nbins=5)
    left.set_xlabel("1 / resolution² (1/Å²)")
    left.set_ylabel("ln of the amplitude")
    left.legend(frameon=False, fontsize=9)
    right.plot(k, np.asarray(gain)[1:], color=COLOURS[0], linewidth=1.8, label="factor")
    if merit is not None:
        right.plot(k, np.asarray(merit)[1:], color=COLOURS[2], linewidth=1.4, label="figure of merit")
    right.axhline(0.0, color="black", linewidth=0.8)
    right.set_xlim(0.0, k[-1])
    resolution_ticks(right, 0.5 / k[-1])
    right.set_ylabel("multiplied by")
    bottom, top = right.get_ylim()
    right.set_ylim(bottom, top + 0.2 * (top - bottom))  # room for the names of the marks
    for name, resolution in marks.items():
        if np.isfinite(resolution) and resolution > 0 and 1 / resolution <= k[-1]:
            left.axvline(resolution**-2, color="black", linewidth=0.8, linestyle="--")
            right.axvline(1 / resolution, color="black", linewidth=0.8, linestyle="--")
            right.text(1 / resolution, right.get_ylim()[1], f"{name} ", fontsize=8, va="top", ha="right")
    right.legend(frameon=False, fontsize=9, loc="upper left", bbox_to_anchor=(0.0, 0.9))
    return figure
