"""Greyscale pictures: slices and projections of a map, images side by side."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vitrea.report.figures.style import PAGE_WIDTH, Floats, bar_length

Limits = tuple[float, float]

_AXES = ("z", "y", "x")
_INCHES = 3.0
SLICE_TITLES = tuple(f"slice {name} = 0" for name in _AXES)
PROJECTION_TITLES = tuple(f"seen along {name}" for name in _AXES)


def map_slices(voxels: Floats, voxel_size: float, contrast: float = 99.8) -> Figure:
    """Draw the three central slices of a map, each with a scale in Å.

    Parameters
    ----------
    voxels : ndarray, shape [z, y, x]
    voxel_size : float
        Å per voxel.
    contrast : float
        Percentile of the density that is drawn white.
    """
    images, limits = central_slices(voxels, contrast)
    return _image_row(images, SLICE_TITLES, voxel_size, limits)


def map_projections(voxels: Floats, voxel_size: float) -> Figure:
    """Draw the sums of a map along its three axes.

    Parameters
    ----------
    voxels : ndarray, shape [z, y, x]
    voxel_size : float
        Å per voxel.
    """
    images, limits = axis_projections(voxels)
    return _image_row(images, PROJECTION_TITLES, voxel_size, limits)


def image_gallery(images: Sequence[Floats], pixel_size: float, titles: Sequence[str] = ()) -> Figure:
    """Draw images side by side, each in its own greyscale.

    Parameters
    ----------
    images : sequence of ndarray, shape [y, x]
    pixel_size : float
        Å per pixel.
    titles : sequence of str
        One for each image, or none.
    """
    return _image_row(list(images), list(titles) or [""] * len(images), pixel_size, None)


def central_slices(voxels: Floats, contrast: float = 99.8) -> tuple[list[Floats], Limits]:
    """Return the slices through the centre across z, y and x, and the greyscale they share."""
    images = [np.take(voxels, voxels.shape[axis] // 2, axis=axis) for axis in range(3)]
    return images, (float(np.percentile(voxels, 100 - contrast)), float(np.percentile(voxels, contrast)))


def axis_projections(voxels: Floats) -> tuple[list[Floats], Limits]:
    """Return the sums along z, y and x, and the greyscale they share."""
    images = [voxels.sum(axis=axis) for axis in range(3)]
    return images, (float(min(image.min() for image in images)), float(max(image.max() for image in images)))


def draw_image(axis: Axes, image: Floats, limits: Limits) -> None:
    """Draw an image in grey, y upwards, without ticks."""
    axis.imshow(image, cmap="gray", origin="lower", vmin=limits[0], vmax=limits[1], interpolation="antialiased")
    axis.set_xticks([])
    axis.set_yticks([])


def draw_scale_bar(axis: Axes, pixels: int, pixel_size: float) -> None:
    """Draw a bar of a round length, about a quarter of the image."""
    length = bar_length(pixels * pixel_size / 4)
    start, height = 0.05 * pixels, 0.06 * pixels
    axis.plot([start, start + length / pixel_size], [height, height], color="white", linewidth=2.5)
    axis.text(start, height + 0.03 * pixels, f"{length:g} Å", color="white", fontsize=8)


def _image_row(images: Sequence[Floats], titles: Sequence[str], pixel_size: float, limits: Limits | None) -> Figure:
    inches = min(_INCHES, PAGE_WIDTH / len(images))
    figure = Figure(figsize=(inches * len(images), inches + 0.28), layout="constrained")
    axes = figure.subplots(1, len(images), squeeze=False)[0]
    for axis, image, title in zip(axes, images, titles, strict=True):
        low, high = np.percentile(image, (1, 99)).tolist()
        draw_image(axis, image, limits or (low, high))
        axis.set_title(title, fontsize=10)
        draw_scale_bar(axis, image.shape[1], pixel_size)
    return figure
