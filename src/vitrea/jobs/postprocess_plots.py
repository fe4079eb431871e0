"""The plots of post-processing: FSC curves and the Guinier plot."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vitrea.formats.atomic import atomic_path
from vitrea.maps.half_maps import FSC_THRESHOLD
from vitrea.maps.sharpening import NO_AMPLITUDE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from vitrea.maps.half_maps import HalfMapFsc
    from vitrea.maps.sharpening import GuinierPlot

# Okabe and Ito's colours, told apart by colour-blind readers too.
_BLUE, _ORANGE, _GREEN, _RED, _GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#777777"


def draw_fsc(path: Path, fsc: HalfMapFsc) -> None:
    """Draw the FSC curves of two half maps as PNG, with the 0.143 line and the resolution it gives."""
    figure, axes = _page()
    frequency = np.arange(len(fsc.unmasked)) / (fsc.size * fsc.voxel_size)
    curves = (
        ("unmasked", fsc.unmasked, _GREEN, "-", 1.5),
        ("masked, phases randomised", fsc.randomised, _RED, "-", 1.5),
        ("corrected for the mask", fsc.corrected if fsc.masked is not None else None, "black", "-", 2.6),
        # The masked curve often lies under the corrected one: dashes on top show both.
        ("masked", fsc.masked, _ORANGE, "--", 1.3),
    )
    for label, curve, color, style, width in curves:
        if curve is not None:
            axes.plot(frequency, curve, label=label, color=color, linestyle=style, linewidth=width)
    axes.axhline(FSC_THRESHOLD, color=_GREY, linestyle="--", linewidth=1)
    axes.axhline(0.0, color=_GREY, linewidth=0.6)
    axes.text(0.004 * frequency[-1], FSC_THRESHOLD + 0.015, f"{FSC_THRESHOLD}", color=_GREY)
    if fsc.randomised_from is not None:
        axes.axvline(frequency[fsc.randomised_from], color=_RED, linestyle=":", linewidth=1)
    axes.set_xlim(0.0, frequency[-1])
    axes.set_ylim(min(-0.1, float(fsc.corrected.min()) - 0.02), 1.02)
    _resolution_axis(axes, frequency[-1])
    axes.set_ylabel("Fourier shell correlation of the half maps")
    axes.set_title(f"Resolution {fsc.resolution:.2f} Å at FSC = {FSC_THRESHOLD}")
    axes.legend(frameon=False, loc="lower left", bbox_to_anchor=(0.0, 0.22), fontsize="small")
    _save(figure, path)


def draw_guinier(path: Path, plot: GuinierPlot, bfactor: float) -> None:
    """Draw the Guinier plot as PNG: ln of the amplitude against 1/d² after each step, with the fitted line."""
    figure, axes = _page()
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
        line = plot.fit.intercept + plot.fit.slope * squared
        label = f"fit: B = {4 * plot.fit.slope:.0f} Å² (r² = {plot.fit.correlation:.2f})"
        axes.plot(squared, line, color="black", linestyle="--", linewidth=1, label=label)
    axes.set_xlim(0.0, squared[-1])
    axes.set_xlabel("1 / resolution² (1/Å²)")
    axes.set_ylabel("ln of the mean amplitude")
    axes.set_title(f"Guinier plot, B-factor applied {bfactor:.0f} Å²")
    axes.legend(frameon=False)
    _save(figure, path)


def _page() -> tuple[Figure, Any]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 4.8), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _resolution_axis(axes: Any, highest: float) -> None:
    """Label an axis of spatial frequency with resolutions in Å."""
    ticks = np.linspace(0.0, highest, 9)[1:]
    axes.set_xticks(ticks, [f"{1.0 / tick:.1f}" for tick in ticks])
    axes.set_xlabel("resolution (Å)")


def _save(figure: Figure, path: Path) -> None:
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png")
