"""What all figures share: the width of a page, colours, grids of panels, the length of a scale bar."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]

# Inches that fill a report page, so that text is shown at the size it was given.
PAGE_WIDTH = 9.2
COLOURS = ("#1f5fa8", "#c2541b", "#3b8a4f", "#7a4fa0", "#8a6d2f", "#4f4f4f", "#c0628f", "#2f9aa0")
# Blue and orange: told apart by colour-blind readers too.
KEPT, DROPPED = COLOURS[0], COLOURS[1]
# RELION writes 999 where a resolution or accuracy is not known.
UNKNOWN = 999.0


def cycle(count: int) -> list[str]:
    """Return so many colours, beginning anew when they run out."""
    return [COLOURS[i % len(COLOURS)] for i in range(count)]


def known(values: Any) -> NDArray[np.float64]:
    """Return numbers as float64, with NaN where they are not known (999 and beyond, or infinite)."""
    numbers = np.asarray(values, dtype=np.float64)
    return np.where(np.isfinite(numbers) & (numbers < UNKNOWN), numbers, np.nan)


def bar_length(width: float) -> float:
    """Return the largest of 1, 2, 5 x 10^n that fits a width; the same unit."""
    power = 10.0 ** np.floor(np.log10(width))
    return float(max(step for step in (1.0, 2.0, 5.0) if step * power <= width) * power)


def panels(
    count: int, height: float, columns: int = 3, *, last_wide: bool = False, **subplot: Any
) -> tuple[Figure, list[Axes]]:
    """Return a figure as wide as a page with panels in rows as even as can be.

    Parameters
    ----------
    count : int
    height : float
        Inches of a row.
    columns : int
        Panels of a row at most.
    last_wide : bool
        Whether the last panel fills what is left of its row.
    **subplot
        Passed on to `Figure.add_subplot`.
    """
    rows = -(-count // columns)
    across = -(-count // rows)
    figure = Figure(figsize=(PAGE_WIDTH * across / columns, height * rows), layout="constrained")
    ends = [*range(1, count), rows * across if last_wide else count]
    return figure, [figure.add_subplot(rows, across, (n + 1, end), **subplot) for n, end in enumerate(ends)]
