"""Figures of maps, resolution and orientations. Arrays in, matplotlib figures out; nothing is shown or written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.floating[Any]]

_AXES = ("z", "y", "x")
_INCHES = 3.0
_COLOURS = ("#1f5fa8", "#c2541b", "#3b8a4f", "#7a4fa0", "#8a6d2f", "#4f4f4f")


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
    images = [np.take(voxels, voxels.shape[axis] // 2, axis=axis) for axis in range(3)]
    limits = (float(np.percentile(voxels, 100 - contrast)), float(np.percentile(voxels, contrast)))
    return _image_row(images, [f"slice {name} = 0" for name in _AXES], voxel_size, limits)


def map_projections(voxels: Floats, voxel_size: float) -> Figure:
    """Draw the sums of a map along its three axes.

    Parameters
    ----------
    voxels : ndarray, shape [z, y, x]
    voxel_size : float
        Å per voxel.
    """
    images = [voxels.sum(axis=axis) for axis in range(3)]
    limits = (float(min(image.min() for image in images)), float(max(image.max() for image in images)))
    return _image_row(images, [f"seen along {name}" for name in _AXES], voxel_size, limits)


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


def _image_row(
    images: Sequence[Floats], titles: Sequence[str], pixel_size: float, limits: tuple[float, float] | None
) -> Figure:
    figure = Figure(figsize=(_INCHES * len(images), _INCHES + 0.35), layout="constrained")
    axes = figure.subplots(1, len(images), squeeze=False)[0]
    for axis, image, title in zip(axes, images, titles, strict=True):
        low, high = limits or tuple(np.percentile(image, (1, 99)).tolist())
        axis.imshow(image, cmap="gray", origin="lower", vmin=low, vmax=high, interpolation="nearest")
        axis.set_title(title, fontsize=10)
        axis.set_xticks([])
        axis.set_yticks([])
        _scale_bar(axis, image.shape[1], pixel_size)
    return figure


def _scale_bar(axis: Axes, pixels: int, pixel_size: float) -> None:
    """Draw a bar of a round length, about a quarter of the image."""
    wanted = pixels * pixel_size / 4
    power = 10.0 ** np.floor(np.log10(wanted))
    length = max(step for step in (1.0, 2.0, 5.0) if step * power <= wanted) * power
    start, height = 0.05 * pixels, 0.06 * pixels
    axis.plot([start, start + length / pixel_size], [height, height], color="white", linewidth=2.5)
    axis.text(start, height + 0.03 * pixels, f"{length:g} Å", color="white", fontsize=8)


def fsc_curves(
    curves: Mapping[str, ArrayLike],
    voxel_size: float,
    size: int,
    thresholds: Sequence[float] = (0.143,),
    resolution: float | None = None,
) -> Figure:
    """Draw Fourier shell correlation curves against resolution.

    Parameters
    ----------
    curves : mapping of str to array, shape [shells]
        FSC of shell 0, 1, ... by name; shell s is at a resolution of ``size * voxel_size / s`` Å.
    voxel_size : float
        Å per voxel.
    size : int
        Box size in voxels.
    thresholds : sequence of float
        Horizontal lines.
    resolution : float, optional
        Å; marked by a vertical line.
    """
    figure = Figure(figsize=(6.4, 3.8), layout="constrained")
    axis = figure.subplots()
    for (name, values), colour in zip(curves.items(), _cycle(len(curves)), strict=True):
        fsc = np.asarray(values, dtype=np.float64)
        axis.plot(np.arange(len(fsc)) / (size * voxel_size), fsc, label=name, color=colour, linewidth=1.8)
    for threshold in thresholds:
        axis.axhline(threshold, color="black", linewidth=0.8, linestyle=":")
        axis.text(0.0, threshold + 0.015, f" {threshold:g}", fontsize=8)
    if resolution is not None and np.isfinite(resolution):
        axis.axvline(1.0 / resolution, color="black", linewidth=0.8, linestyle="--")
        axis.text(1.0 / resolution, -0.11, f" {resolution:.3g} Å", ha="left", fontsize=8)
    axis.axhline(0.0, color="black", linewidth=0.8)
    axis.set_ylim(-0.15, 1.1)
    axis.set_xlim(0.0, 0.5 / voxel_size)
    _resolution_ticks(axis, voxel_size)
    axis.set_ylabel("Fourier shell correlation")
    if len(curves) > 1:
        figure.legend(loc="outside upper center", ncols=min(len(curves), 2), frameon=False, fontsize=9)
    return figure


def _resolution_ticks(axis: Axes, voxel_size: float) -> None:
    """Label an axis of spatial frequency (1/Å) with resolutions (Å)."""
    ticks = np.linspace(0.0, 0.5 / voxel_size, 6)[1:]
    axis.set_xticks(ticks, [f"{1 / tick:.3g}" for tick in ticks])
    axis.set_xlabel("resolution (Å)")


def angular_distribution(eulers: ArrayLike, bins: int = 36) -> Figure:
    """Draw how many particles were seen from each direction, on an equal-area map of the sphere.

    Parameters
    ----------
    eulers : array, shape [particles, 2] or [particles, 3]
        rot and tilt (and psi, unused) in degrees.
    bins : int
        Cells around the equator; half as many from pole to pole, equal in area.
    """
    angles = np.asarray(eulers, dtype=np.float64)
    longitude = np.radians((angles[:, 0] + 180.0) % 360.0 - 180.0)
    height = np.cos(np.radians(angles[:, 1]))
    edges_longitude = np.linspace(-np.pi, np.pi, bins + 1)
    edges_height = np.linspace(-1.0, 1.0, bins // 2 + 1)
    counts, _, _ = np.histogram2d(height, longitude, bins=(edges_height, edges_longitude))
    figure = Figure(figsize=(6.4, 3.4), layout="constrained")
    axis = figure.add_subplot(projection="mollweide")
    mesh = axis.pcolormesh(edges_longitude, np.arcsin(edges_height), counts, cmap="viridis", rasterized=True)
    labels = ["-120°", "-60°", "rot 0°", "60°", "120°"]
    axis.set_xticks(np.radians([-120, -60, 0, 60, 120]), labels, fontsize=7, color="white")
    axis.set_yticks(np.radians([-60, -30, 0, 30, 60]), ["tilt 150°", "120°", "90°", "60°", "30°"], fontsize=7)
    axis.grid(alpha=0.25)
    figure.colorbar(mesh, ax=axis, shrink=0.75, label="particles")
    return figure


def convergence_curves(iterations: ArrayLike, series: Mapping[str, ArrayLike]) -> Figure:
    """Draw how figures of a refinement went from iteration to iteration, one panel each.

    Parameters
    ----------
    iterations : array, shape [iterations]
    series : mapping of str to array, shape [iterations]
        By name with unit; NaN where not known.
    """
    figure = Figure(figsize=(3.2 * len(series), 2.8), layout="constrained")
    axes = figure.subplots(1, len(series), squeeze=False)[0]
    for axis, (name, values), colour in zip(axes, series.items(), _cycle(len(series)), strict=True):
        axis.plot(np.asarray(iterations), np.asarray(values, dtype=np.float64), "o-", color=colour, markersize=3)
        axis.set_title(name, fontsize=10)
        axis.set_xlabel("iteration")
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.set_ylim(bottom=0)
    return figure


def histogram(values: ArrayLike, label: str, bins: int = 60) -> Figure:
    """Draw a histogram.

    Parameters
    ----------
    values : array, shape [n]
    label : str
        What the values are, with the unit.
    bins : int
    """
    figure = Figure(figsize=(4.8, 2.8), layout="constrained")
    axis = figure.subplots()
    axis.hist(np.asarray(values, dtype=np.float64), bins=bins, color=_COLOURS[0])
    axis.set_xlabel(label)
    axis.set_ylabel("number")
    return figure


def _cycle(count: int) -> list[str]:
    return [_COLOURS[i % len(_COLOURS)] for i in range(count)]
