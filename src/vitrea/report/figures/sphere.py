"""Directions of view on the sphere."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from vitrea.report.figures.style import panels

_FEWEST_BINS, _MOST_BINS = 8, 36
# In fewer cells than half the particles, the chance scatter of the counts does not pass for a preferred view.
_PARTICLES_PER_CELL = 2
# Each cell is drawn as so many by so many smaller ones: straight edges would cut the curved border of the sphere.
SMOOTHING = 6
# The colour scale of several classes reaches at least this far, and this percentile of their cells.
_LEAST_SCALE, _SCALE_PERCENTILE = 3.0, 99.7


def angular_distribution(eulers: ArrayLike, bins: int = _MOST_BINS) -> Figure:
    """Draw how many particles were seen from each direction, on an equal-area map of the sphere.

    Parameters
    ----------
    eulers : array, shape [particles, 2] or [particles, 3]
        rot and tilt (and psi, unused) in degrees.
    bins : int
        Cells around the equator; half as many from pole to pole, equal in area.
    """
    figure = Figure(figsize=(6.4, 3.4), layout="constrained")
    axis = figure.add_subplot(projection="mollweide")
    mesh = _draw_sphere(axis, _direction_counts(eulers, bins))
    _label_sphere(axis)
    figure.colorbar(mesh, ax=axis, shrink=0.75, label="particles")
    return figure


def class_angular_distributions(eulers: ArrayLike, classes: ArrayLike, count: int) -> Figure:
    """Draw the directions of view of each class, all in one colour scale.

    The colour is the number of particles over what an even distribution would give, so that large and small classes
    can be compared; cells are larger where particles are few.

    Parameters
    ----------
    eulers : array, shape [particles, 2] or [particles, 3]
        rot and tilt (and psi, unused) in degrees.
    classes : array, shape [particles]
        Class of each particle, from 1 (``rlnClassNumber``).
    count : int
        Number of classes; a class without particles keeps its empty panel.
    """
    angles, numbers = np.asarray(eulers, dtype=np.float64), np.asarray(classes)
    members = [angles[numbers == number] for number in range(1, count + 1)]
    densities = [_relative_density(own) for own in members]
    reach = float(np.percentile(np.concatenate([cells.ravel() for cells in densities]), _SCALE_PERCENTILE))
    figure, axes = panels(count, 1.9, projection="mollweide")
    for number, (axis, own, cells) in enumerate(zip(axes, members, densities, strict=True), start=1):
        mesh = _draw_sphere(axis, cells, max(reach, _LEAST_SCALE))
        axis.set_title(f"class {number}: {len(own):,} particles", fontsize=9)
        axis.set_xticks(np.radians([-120, -60, 0, 60, 120]), [])
        axis.set_yticks(np.radians([-60, -30, 0, 30, 60]), [])
        axis.grid(alpha=0.25)
    bar = figure.colorbar(mesh, ax=axes, shrink=0.8, extend="max")
    bar.set_label("density over an even one", fontsize=9)
    return figure


def _relative_density(eulers: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the particles of each cell over their mean, with larger cells where particles are few."""
    wanted = np.sqrt(2 * len(eulers) / _PARTICLES_PER_CELL)
    counts = _direction_counts(eulers, int(np.clip(wanted, _FEWEST_BINS, _MOST_BINS)) // 2 * 2)
    return counts / counts.mean() if len(eulers) else counts


def _direction_counts(eulers: ArrayLike, bins: int) -> NDArray[np.float64]:
    """Count directions in cells of equal area, shape [bins // 2, bins], from tilt 180° to tilt 0°."""
    angles = np.asarray(eulers, dtype=np.float64)
    longitude = np.radians((angles[:, 0] + 180.0) % 360.0 - 180.0)
    counts, _, _ = np.histogram2d(np.cos(np.radians(angles[:, 1])), longitude, bins=_edges(bins))
    return counts


def _edges(bins: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Edges of the cells: cosine of the tilt, and rot in radians."""
    return np.linspace(-1.0, 1.0, bins // 2 + 1), np.linspace(-np.pi, np.pi, bins + 1)


def _draw_sphere(axis: Axes, cells: NDArray[np.float64], highest: float | None = None) -> QuadMesh:
    height, longitude = _edges(cells.shape[1])
    fine = np.repeat(np.repeat(cells, SMOOTHING, axis=0), SMOOTHING, axis=1)
    limits: dict[str, Any] = {"vmin": 0.0, "vmax": highest} if highest is not None else {}
    return axis.pcolormesh(
        _subdivide(longitude), _subdivide(np.arcsin(height)), fine, cmap="viridis", rasterized=True, **limits
    )


def _subdivide(edges: NDArray[np.float64]) -> NDArray[np.float64]:
    steps = np.arange((len(edges) - 1) * SMOOTHING + 1) / SMOOTHING
    return np.interp(steps, np.arange(len(edges)), edges)


def _label_sphere(axis: Axes) -> None:
    labels = ["-120°", "-60°", "rot 0°", "60°", "120°"]
    axis.set_xticks(np.radians([-120, -60, 0, 60, 120]), labels, fontsize=7, color="white")
    axis.set_yticks(np.radians([-60, -30, 0, 30, 60]), ["tilt 150°", "120°", "90°", "60°", "30°"], fontsize=7)
    axis.grid(alpha=0.25)
