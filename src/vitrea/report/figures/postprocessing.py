"""Figures of post-processing: the FSC curves, the Guinier plot with its fit, the map with the outline of its mask."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vitrea.report.figures.curves import resolution_ticks
from vitrea.report.figures.images import SLICE_TITLES, central_slices, draw_image, draw_scale_bar
from vitrea.report.figures.style import Floats

if TYPE_CHECKING:
    from vitrea.maps.half_maps import HalfMapFsc
    from vitrea.maps.sharpening import GuinierPlot

# Okabe and Ito's colours, told apart by colour-blind readers too.
_BLUE, _ORANGE, _GREEN, _RED, _GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#777777"


def half_map_curves(fsc: HalfMapFsc, resolution: float | None = None) -> Figure:
    """Draw the FSC curves of two half maps with the lines at 0.143 and 0.5, the resolution they give, and noise.

    Parameters
    ----------
    fsc : HalfMapFsc
    resolution : float, optional
        Å; by default that of the corrected curve.
    """
    from vitrea.maps.half_maps import FSC_HALF, FSC_THRESHOLD  # they load torch, which most figures do without

    resolution = fsc.resolution if resolution is None else resolution
    figure, axes = _plot()
    frequency = np.arange(len(fsc.unmasked)) / (fsc.size * fsc.voxel_size)
    curves = (
        ("unmasked", fsc.unmasked, _GREEN, "-", 1.5),
        ("masked, phases randomised", fsc.randomised, _RED, "-", 1.5),
        ("corrected for the mask", fsc.corrected if fsc.masked is not None else None, "black", "-", 2.6),
        # The masked curve often lies under the corrected one: dashes on top show both.
        ("masked", fsc.masked, _ORANGE, "--", 1.3),
    )
    if fsc.noise is not None:
        reach = 3.0 * fsc.noise[1:]
        axes.fill_between(
            frequency[1:], -reach, reach, color=_GREY, alpha=0.15, linewidth=0, label="reach of noise (3 σ)"
        )
    for label, curve, color, style, width in curves:
        if curve is not None:
            axes.plot(frequency, curve, label=label, color=color, linestyle=style, linewidth=width)
    for threshold in (FSC_THRESHOLD, FSC_HALF):
        axes.axhline(threshold, color=_GREY, linestyle="--", linewidth=1)
        axes.text(0.004 * frequency[-1], threshold + 0.015, f"{threshold:g}", color=_GREY)
    axes.axhline(0.0, color=_GREY, linewidth=0.6)
    if np.isfinite(resolution):
        axes.axvline(1.0 / resolution, color="black", linestyle=":", linewidth=1)
    if fsc.randomised_from is not None:
        axes.axvline(frequency[fsc.randomised_from], color=_RED, linestyle=":", linewidth=1)
    axes.set_xlim(0.0, frequency[-1])
    axes.set_ylim(min(-0.1, float(fsc.corrected.min()) - 0.02), 1.02)
    resolution_ticks(axes, fsc.voxel_size)
    axes.set_ylabel("Fourier shell correlation of the half maps")
    found = f"Resolution {resolution:.2f} Å" if np.isfinite(resolution) else "No resolution"
    axes.set_title(f"{found} at FSC = {FSC_THRESHOLD}")
    axes.legend(frameon=False, loc="upper right", fontsize="small")
    return figure


def guinier_curves(plot: GuinierPlot, bfactor: float) -> Figure:
    """Draw ln of the mean amplitude against 1/d² after each step of sharpening, with the fitted line and its range."""
    from vitrea.maps.sharpening import NO_AMPLITUDE

    figure, axes = _plot()
    curves = (
        ("as reconstructed", plot.original, _GREY),
        ("detector's MTF corrected", plot.mtf_corrected, _GREEN),
        ("FSC weighted", plot.weighted, _BLUE),
        ("sharpened", plot.sharpened, _ORANGE),
    )
    # Shell 0 is the mean of the map; it would squeeze the rest together.
    squared = plot.resolution_squared
    for label, curve, color in curves:
        if curve is not None:
            shown = (np.arange(len(curve)) > 0) & (curve > NO_AMPLITUDE)
            axes.plot(squared[shown], curve[shown], label=label, color=color, linewidth=1.6)
    if plot.fit is not None:
        first, last = plot.fit.lowest**-2.0, plot.fit.highest**-2.0
        inside = np.array([first, min(last, squared[-1])])
        label = f"fit: B = {4 * plot.fit.slope:.0f} Å² (r² = {plot.fit.correlation:.2f})"
        axes.plot(inside, plot.fit.intercept + plot.fit.slope * inside, color="black", linewidth=1.4, label=label)
        whole = plot.fit.intercept + plot.fit.slope * squared
        axes.plot(squared, whole, color="black", linestyle=":", linewidth=0.9)
        axes.axvspan(*inside, color=_GREY, alpha=0.1, linewidth=0)
    axes.set_xlim(0.0, squared[-1])
    axes.locator_params(axis="x", nbins=6)
    axes.set_xlabel("1 / resolution² (1/Å²)")
    axes.set_ylabel("ln of the mean amplitude")
    axes.set_title(f"Guinier plot, B-factor applied {bfactor:.0f} Å²")
    axes.legend(frameon=False, fontsize="small")
    return figure


def masked_slices(voxels: Floats, mask: Floats | None, voxel_size: float) -> Figure:
    """Draw the central slices of a map with the outline of its mask: where it is one half, and where it ends.

    Parameters
    ----------
    voxels, mask : ndarray, shape [z, y, x]
    voxel_size : float
        Å.
    """
    images, limits = central_slices(voxels)
    outlines = [None] * 3 if mask is None else central_slices(mask)[0]
    figure = Figure(figsize=(9.0, 3.3), layout="constrained")
    for axis, image, outline, title in zip(figure.subplots(1, 3), images, outlines, SLICE_TITLES, strict=True):
        draw_image(axis, image, limits)
        for level, style in ((0.5, "-"), (0.02, ":")):
            if outline is not None and outline.min() < level < outline.max():
                axis.contour(outline, levels=[level], colors=[_ORANGE], linestyles=[style], linewidths=1.2)
        axis.set_title(title, fontsize=10)
        draw_scale_bar(axis, image.shape[1], voxel_size)
    return figure


def _plot() -> tuple[Figure, Axes]:
    figure = Figure(figsize=(7.2, 4.8), layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes
