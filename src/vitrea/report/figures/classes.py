"""What a classification made: all class averages at a glance, and maps class by class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import ArrayLike, NDArray

from vitrea.report.figures.images import (
    PROJECTION_TITLES,
    SLICE_TITLES,
    Limits,
    axis_projections,
    central_slices,
    draw_image,
    draw_scale_bar,
)
from vitrea.report.figures.style import DROPPED, KEPT, PAGE_WIDTH, Floats, bar_length, known

_NO_VALUE = "–"
# Panels of a row: the fewest limit how large those of a few classes become.
_FEWEST_COLUMNS, _MOST_COLUMNS = 4, 10
_GAP = 0.09  # inches between panels
_HEADER = 0.36  # inches, for the scale bar and the legend
# An image's own greyscale runs between these percentiles inside the mask: a single hot pixel must not darken the rest.
_CONTRAST = (0.5, 99.7)
_LABELS = 1.15  # inches left of the rows of maps
_MARGIN = 1.06  # of the mask's diameter: the width of what is shown


@dataclass(frozen=True)
class _Grid:
    """Where panels stand, in inches from the top left."""

    columns: int
    panel: float
    font: float  # points
    lines: int

    @property
    def pitch(self) -> tuple[float, float]:
        """From one panel to the next, in x and y."""
        return self.panel + _GAP, self.panel + self.lines * self.line_height + 2 * _GAP

    @property
    def line_height(self) -> float:
        """Of a line of text below a panel."""
        return 1.25 * self.font / 72

    def corner(self, place: int) -> tuple[float, float]:
        """Top left corner of a panel."""
        row, column = divmod(place, self.columns)
        return _GAP / 2 + column * self.pitch[0], _HEADER + _GAP + row * self.pitch[1]


def class_gallery(
    averages: Floats,
    pixel_size: float,
    shares: ArrayLike,
    counts: ArrayLike,
    resolutions: ArrayLike,
    scores: ArrayLike | None = None,
    kept: ArrayLike | None = None,
    mask_diameter: float | None = None,
) -> Figure:
    """Draw all class averages, the largest class first, each in its own greyscale, with one scale bar for all.

    Only the square about the mask is shown: what lies outside has been masked away. Below each stand the class number
    (from 1, its place in `averages`), its share, its particles, its resolution and its score.

    Parameters
    ----------
    averages : ndarray, shape [classes, y, x]
    pixel_size : float
        Å per pixel.
    shares : array, shape [classes]
        Share of the particles, 0 to 1 (``rlnClassDistribution``).
    counts : array, shape [classes]
        Particles of which this is the best class.
    resolutions : array, shape [classes]
        Å; 999, infinite or NaN where not known.
    scores : array, shape [classes], optional
        Anything that judges a class.
    kept : array of bool, shape [classes], optional
        Frames the classes that a selection keeps and, broken, those that it drops.
    mask_diameter : float, optional
        Å; the greyscale is taken from inside. By default the width of the box.
    """
    fractions = np.asarray(shares, dtype=np.float64)
    order = np.argsort(-fractions, kind="stable")
    grid = _choose_grid(len(averages), 2 if scores is None else 3)
    rows = -(-len(averages) // grid.columns)
    figure = Figure(figsize=(PAGE_WIDTH, grid.corner(0)[1] + rows * grid.pitch[1]))
    axis = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    shown = _about_mask(averages, pixel_size, mask_diameter)
    inside = _disc(shown.shape[-1], pixel_size, mask_diameter)
    frames = [] if kept is None else np.asarray(kept, dtype=bool).tolist()
    labels = _class_labels(fractions, counts, resolutions, scores)
    for place, number in enumerate(order.tolist()):
        x, y = grid.corner(place)
        low, high = _own_limits(shown[number], inside)
        # Row 0 of the array is at the bottom: the axis points down the page.
        axis.imshow(shown[number], cmap="gray", origin="lower", vmin=low, vmax=high, interpolation="antialiased",
                    extent=(x, x + grid.panel, y + grid.panel, y))  # fmt: skip
        _write_lines(axis, labels[number], x, y + grid.panel, grid)
        if frames:
            axis.add_patch(_frame(x, y, grid.panel, keeps=frames[number]))
    _draw_header(axis, grid, shown.shape[-1] * pixel_size)
    if frames:
        _draw_legend(axis, np.asarray(frames), np.asarray(counts))
    axis.set(xlim=(0, figure.get_figwidth()), ylim=(figure.get_figheight(), 0), aspect="auto")
    axis.set_axis_off()
    return figure


def class_maps(
    maps: Sequence[Floats],
    voxel_size: float,
    shares: ArrayLike,
    counts: ArrayLike,
    resolutions: ArrayLike,
    mask_diameter: float | None = None,
) -> Figure:
    """Draw a row for each map, in the order given: three central slices, three projections, and its figures.

    Slices of a map share one greyscale, its projections another.

    Parameters
    ----------
    maps : sequence of ndarray, shape [z, y, x]
    voxel_size : float
        Å per voxel.
    shares, counts, resolutions : array, shape [classes]
        As in `class_gallery`.
    mask_diameter : float, optional
        Å; only the square about it is shown.
    """
    labels = _class_labels(np.asarray(shares, dtype=np.float64), counts, resolutions, None)
    titles = SLICE_TITLES + PROJECTION_TITLES
    panel = (PAGE_WIDTH - _LABELS) / len(titles)
    figure = Figure(figsize=(PAGE_WIDTH, panel * len(maps) + 0.3))
    axes = figure.subplots(len(maps), len(titles), squeeze=False)
    figure.subplots_adjust(
        left=_LABELS / PAGE_WIDTH, right=0.998, bottom=0.01, top=1 - 0.25 / figure.get_figheight(), wspace=0.04,
        hspace=0.04,
    )  # fmt: skip
    for row, voxels, (first, second) in zip(axes, maps, labels, strict=True):
        slices, slice_limits = central_slices(voxels)
        sums, sum_limits = axis_projections(voxels)
        pairs = [(image, slice_limits) for image in slices] + [(image, sum_limits) for image in sums]
        for axis, (image, limits) in zip(row, pairs, strict=True):
            draw_image(axis, _about_mask(image, voxel_size, mask_diameter), limits)
        text = f"class {first[0]}\n{first[1]}\n{second[0]} particles\n{second[1]}"
        row[0].text(-0.08, 0.5, text, transform=row[0].transAxes, ha="right", va="center", fontsize=9, linespacing=1.5)
    for axis, title in zip(axes[0], titles, strict=True):
        axis.set_title(title, fontsize=9)
    draw_scale_bar(axes[0, 0], _about_mask(maps[0], voxel_size, mask_diameter).shape[-1], voxel_size)
    return figure


def _choose_grid(classes: int, lines: int) -> _Grid:
    """Choose how many panels stand in a row: few classes get large panels, in rows as even as can be."""
    across = min(_MOST_COLUMNS, max(_FEWEST_COLUMNS, int(np.ceil(np.sqrt(2 * classes)))))
    panel = PAGE_WIDTH / across - _GAP
    return _Grid(across, panel, font=float(np.clip(9.0 * panel, 7.2, 9.5)), lines=lines)


def _about_mask(images: Floats, pixel_size: float, diameter: float | None) -> Floats:
    """Cut the square about the mask out of the images; pixel n // 2 stays in the middle."""
    size = images.shape[-1]
    width = size if diameter is None else min(size, int(np.ceil(_MARGIN * diameter / pixel_size)))
    start = size // 2 - width // 2
    return images[..., start : start + width, start : start + width]


def _disc(size: int, pixel_size: float, diameter: float | None) -> NDArray[np.bool_]:
    """Pixels inside the mask, shape [size, size]."""
    offset = np.arange(size) - size // 2
    radius = min(size / 2, np.inf if diameter is None else diameter / (2 * pixel_size))
    return np.hypot(offset[:, None], offset[None, :]) <= radius


def _own_limits(image: Floats, inside: NDArray[np.bool_]) -> Limits:
    values = image[inside]
    values = values[np.isfinite(values)]
    if not len(values) or np.ptp(values) == 0:
        level = float(values[0]) if len(values) else 0.0
        return level - 1.0, level + 1.0  # nothing to see: an even grey
    low, high = np.percentile(values, _CONTRAST).tolist()
    return (low, high) if high > low else (float(values.min()), float(values.max()))


def _class_labels(
    shares: NDArray[np.float64], counts: ArrayLike, resolutions: ArrayLike, scores: ArrayLike | None
) -> list[list[tuple[str, str]]]:
    """Return for each class its lines of text, left and right part."""
    labels = [
        [
            (f"{number}", _share_text(share)),
            (_count_text(int(count)), _resolution_text(resolution)),
        ]
        for number, (share, count, resolution) in enumerate(
            zip(shares, np.asarray(counts), known(resolutions), strict=True), start=1
        )
    ]
    if scores is not None:
        for lines, score in zip(labels, np.asarray(scores, dtype=np.float64), strict=True):
            lines.append(("score", f"{score:.2f}" if np.isfinite(score) else _NO_VALUE))
    return labels


def _share_text(share: float) -> str:
    if not share > 0:
        return "empty"
    return f"{100 * share:.1f}%" if share >= 0.0005 else "<0.1%"


def _count_text(count: int) -> str:
    return f"{count:,}" if count < 1_000_000 else f"{count / 1e6:.2f}M"


def _resolution_text(resolution: float) -> str:
    if np.isnan(resolution):
        return _NO_VALUE
    return f"{resolution:.1f} Å" if resolution < 99.95 else f"{resolution:.0f} Å"


def _write_lines(axis: Axes, lines: Sequence[tuple[str, str]], x: float, y: float, grid: _Grid) -> None:
    for number, (left, right) in enumerate(lines):
        height = y + 0.02 + (number + 0.85) * grid.line_height
        weight = "bold" if number == 0 else "normal"
        axis.text(x, height, left, fontsize=grid.font, weight=weight)
        axis.text(x + grid.panel, height, right, fontsize=grid.font, ha="right")


def _frame(x: float, y: float, width: float, *, keeps: bool) -> Rectangle:
    colour, style, line = (KEPT, "-", 2.4) if keeps else (DROPPED, "--", 1.6)
    return Rectangle((x, y), width, width, fill=False, edgecolor=colour, linewidth=line, linestyle=style)


def _draw_header(axis: Axes, grid: _Grid, box_width: float) -> None:
    """Draw the scale bar that holds for all panels."""
    length = bar_length(box_width / 2)
    start, height = grid.corner(0)[0], 0.6 * _HEADER
    axis.plot([start, start + length / box_width * grid.panel], [height, height], color="black", linewidth=3.0,
              solid_capstyle="butt")  # fmt: skip
    axis.text(start + grid.panel * length / box_width + 0.06, height, f"{length:g} Å", fontsize=9, va="center")


def _draw_legend(axis: Axes, kept: NDArray[np.bool_], counts: NDArray[np.generic]) -> None:
    particles, total = int(counts[kept].sum()), max(int(counts.sum()), 1)
    text = f"kept: {int(kept.sum())} of {len(kept)} classes, {particles:,} particles ({100 * particles / total:.1f}%)"
    frames = [_frame(0.0, 0.0, 1.0, keeps=keeps) for keeps in (True, False)]
    axis.legend(frames, [text, "dropped"], loc="upper right", ncols=2, frameon=False, fontsize=9, borderaxespad=0.2,
                handlelength=1.2, handleheight=1.2)  # fmt: skip
