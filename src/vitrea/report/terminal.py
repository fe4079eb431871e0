"""Plots as text, for a terminal without windows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

# Braille patterns: a character shows a grid of dots, 4 high and 2 wide; the bit of each dot.
_BRAILLE = 0x2800
_DOTS = np.array([[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]])
_MARKS = "ox+*#%@"  # one for each series where there are several
_BAR = "█"
_PARTS = " ▏▎▍▌▋▊▉"  # eighths of a character


def text_scatter(
    x: ArrayLike, series: Sequence[ArrayLike], names: Sequence[str], x_name: str, width: int = 72, height: int = 20
) -> str:
    """Draw points.

    Parameters
    ----------
    x : array, shape [n]
    series : sequence of array, each of shape [n]
        One is drawn in dots of braille, several in a mark each. Points with a NaN or infinite value are left out.
    names : sequence of str
        What each of `series` is.
    x_name : str
        What x is.
    width, height : int
        Of the drawing area in characters.

    Returns
    -------
    str
        Lines, the last without a line break.
    """
    points = [_finite_pairs(x, y) for y in series]
    together = np.concatenate(points, axis=1)
    if not together.shape[1]:
        return "no point has finite values"
    low, high = together.min(axis=1), together.max(axis=1)
    flat = low == high
    low, high = np.where(flat, low - 0.5, low), np.where(flat, high + 0.5, high)
    if len(series) == 1:
        canvas = _braille(_cells(points[0], low, high, 2 * width, 4 * height), width, height)
    else:
        canvas = np.full((height, width), " ")
        for mark, pairs in zip(_MARKS, points, strict=False):
            columns, rows = _cells(pairs, low, high, width, height)
            canvas[rows, columns] = mark
    title = "   ".join(names) if len(series) == 1 else "   ".join(map(" ".join, zip(_MARKS, names, strict=False)))
    top, bottom = f"{high[1]:.6g}", f"{low[1]:.6g}"
    margin = max(len(top), len(bottom))
    labels = [top, *[""] * (height - 2), bottom]
    lines = [f"{label:>{margin}} ┤{''.join(row)}" for label, row in zip(labels, canvas.tolist(), strict=True)]
    left, right = f"{low[0]:.6g}", f"{high[0]:.6g}"
    gap = max(width - len(left) - len(right), len(x_name) + 2)
    axis = f"{' ' * margin} └{'─' * width}"
    return "\n".join([title, *lines, axis, f"{' ' * margin}  {left}{x_name:^{gap}}{right}"])


def text_bars(labels: Sequence[str], values: Sequence[float], notes: Sequence[str], width: int = 40) -> str:
    """Draw horizontal bars, one a line: label, bar, note.

    Parameters
    ----------
    labels, notes : sequence of str
    values : sequence of float
        Not below 0; the largest is `width` characters long.
    width : int

    Returns
    -------
    str
        Lines, the last without a line break.
    """
    margin, largest = max(map(len, labels), default=0), max(values, default=0.0)
    lines = []
    for label, value, note in zip(labels, values, notes, strict=True):
        eighths = round(8 * width * value / largest) if largest > 0 else 0
        bar = _BAR * (eighths // 8) + _PARTS[eighths % 8].strip()
        lines.append(f"{label:>{margin}} {bar:<{width}} {note}")
    return "\n".join(lines)


def _finite_pairs(x: ArrayLike, y: ArrayLike) -> NDArray[np.float64]:
    pairs = np.stack([np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)])
    return np.asarray(pairs[:, np.isfinite(pairs).all(axis=0)])


def _cells(
    pairs: NDArray[np.float64], low: NDArray[np.float64], high: NDArray[np.float64], columns: int, rows: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return in which column and row, from the top, each point lies."""
    share = (pairs - low[:, None]) / (high - low)[:, None]
    column = np.minimum((share[0] * columns).astype(np.int64), columns - 1)
    row = rows - 1 - np.minimum((share[1] * rows).astype(np.int64), rows - 1)
    return column, row


def _braille(cells: tuple[NDArray[np.int64], NDArray[np.int64]], width: int, height: int) -> NDArray[np.str_]:
    dots = np.zeros((4 * height, 2 * width), dtype=bool)
    dots[cells[1], cells[0]] = True
    codes = np.einsum("rdce,de->rc", dots.reshape(height, 4, width, 2), _DOTS)
    characters = [[chr(_BRAILLE + code) if code else " " for code in row] for row in codes.tolist()]
    return np.array(characters)
