"""Micrographs with their picks, and how many picks a threshold leaves."""

from __future__ import annotations

import numpy as np
from matplotlib.collections import EllipseCollection
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from vitrea.report.figures.images import draw_image, draw_scale_bar
from vitrea.report.figures.style import DROPPED, KEPT, PAGE_WIDTH, Floats

_MARK = "#35d07f"


def marked_micrograph(image: Floats, places: ArrayLike, diameter: float, pixel_size: float, title: str = "") -> Figure:
    """Draw a micrograph with a circle around each pick.

    Parameters
    ----------
    image : ndarray, shape [y, x]
    places : array, shape [picks, 2]
        x, y in pixels.
    diameter : float
        Of the circles in pixels.
    pixel_size : float
        Å per pixel.
    title : str
    """
    rows, columns = image.shape
    figure = Figure(figsize=(PAGE_WIDTH, PAGE_WIDTH * rows / columns + 0.3), layout="constrained")
    axis = figure.subplots()
    low, high = np.percentile(image, (0.5, 99.5)).tolist()
    draw_image(axis, image, (low, high))
    offsets = np.asarray(places, dtype=np.float64).reshape(-1, 2)
    axis.add_collection(
        EllipseCollection(
            [diameter], [diameter], [0.0], units="x", offsets=offsets, offset_transform=axis.transData,
            facecolors="none", edgecolors=_MARK, linewidths=1.0,
        )
    )  # fmt: skip
    draw_scale_bar(axis, columns, pixel_size)
    axis.set_xlim(-0.5, columns - 0.5)
    axis.set_ylim(-0.5, rows - 0.5)
    axis.set_title(title, fontsize=9)
    return figure


def threshold_curve_figure(thresholds: ArrayLike, counts: ArrayLike, chosen: float, unit: str) -> Figure:
    """Draw how many picks each threshold leaves, and the threshold that was chosen.

    Parameters
    ----------
    thresholds, counts : array, shape [points]
    chosen : float
    unit : str
        What thresholds are, for the axis.
    """
    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    axis = figure.subplots()
    x, y = np.asarray(thresholds, dtype=np.float64), np.asarray(counts)
    axis.plot(x, y, color=KEPT, linewidth=1.8)
    left = int(np.interp(chosen, x, y)) if len(x) else 0
    axis.axvline(chosen, color=DROPPED, linewidth=1.2, linestyle="--")
    axis.text(
        chosen, 0.97, f" {chosen:.3g}: {left:,} picks", transform=axis.get_xaxis_transform(), va="top", fontsize=9
    )
    axis.set_ylim(bottom=0)
    axis.set_xlabel(unit)
    axis.set_ylabel("picks")
    return figure
