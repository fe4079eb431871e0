"""Local resolution: slices of a map in the colours of its resolution."""

from __future__ import annotations

import numpy as np
from matplotlib import colormaps
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, Normalize, to_hex
from matplotlib.figure import Figure

from vitrea.report.figures.images import SLICE_TITLES, central_slices, draw_image, draw_scale_bar
from vitrea.report.figures.style import PAGE_WIDTH, Floats

_COLOURS = "turbo"
_FAINTEST = 0.35  # of a colour, where density is lowest


def resolution_colours(low: float, high: float, count: int = 5) -> list[tuple[float, str]]:
    """Return resolutions from fine to coarse with their colours (``#rrggbb``), those of the pictures."""
    values = np.linspace(low, high, count)
    return [(float(value), to_hex(colormaps[_COLOURS](place))) for value, place in
            zip(values, np.linspace(0.05, 0.95, count), strict=True)]  # fmt: skip


def resolution_slices(density: Floats, resolution: Floats, voxel_size: float, limits: tuple[float, float]) -> Figure:
    """Draw the central slices of a map, in the colour of the resolution where that is known, else in grey.

    Parameters
    ----------
    density, resolution : ndarray, shape [z, y, x]
        The second in Å, 0 where not known.
    voxel_size : float
        Å.
    limits : (float, float)
        Å of the finest and of the coarsest colour.
    """
    images, (dark, bright) = central_slices(density)
    known, _ = central_slices(resolution)
    figure = Figure(figsize=(PAGE_WIDTH, 0.3 * PAGE_WIDTH + 0.2), layout="constrained")
    axes = figure.subplots(1, 3)
    scale = Normalize(*limits)
    for axis, image, values, title in zip(axes, images, known, SLICE_TITLES, strict=True):
        draw_image(axis, image, (dark, bright))
        level = np.clip((image - dark) / max(bright - dark, 1e-12), 0, 1)
        colours = colormaps[_COLOURS](0.05 + 0.9 * np.clip(scale(values), 0, 1))
        colours[..., :3] *= (_FAINTEST + (1 - _FAINTEST) * level)[..., None]
        colours[..., 3] = values > 0
        axis.imshow(colours, origin="lower", interpolation="nearest")
        axis.set_title(title, fontsize=10)
        draw_scale_bar(axis, image.shape[1], voxel_size)
    part = colormaps[_COLOURS].resampled(256)(np.linspace(0.05, 0.95, 256))
    bar = figure.colorbar(ScalarMappable(scale, ListedColormap(part)), ax=axes, shrink=0.85, pad=0.01)
    bar.set_label("local resolution (Å)")
    return figure
