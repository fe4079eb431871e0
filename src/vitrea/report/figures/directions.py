"""What changes with direction: resolution in Fourier space, sampling by views, tilt pairs."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle
from numpy.typing import ArrayLike
from scipy.spatial import cKDTree

from vitrea.report.figures.curves import resolution_ticks
from vitrea.report.figures.style import COLOURS, DROPPED, KEPT

_LONGITUDES, _LATITUDES = 180, 90
_BINS = 40
_NAMED_RINGS = 15.0  # degrees between the rings of a tilt plot


def directional_curves(
    overall: ArrayLike,
    spread: ArrayLike,
    crossings: ArrayLike,
    voxel_size: float,
    size: int,
    threshold: float = 0.143,
) -> Figure:
    """Draw the FSC over whole shells, its spread over directions, and how many directions end at which resolution.

    Parameters
    ----------
    overall, spread : array, shape [shells]
        FSC, and its standard deviation over directions.
    crossings : array, shape [directions]
        Where the curve of each direction falls below the threshold, in shells.
    voxel_size : float
        Å.
    size : int
        Box size in voxels.
    threshold : float
    """
    fsc, sigma, ends = (np.asarray(values, dtype=np.float64) for values in (overall, spread, crossings))
    highest = 0.5 / voxel_size
    extent = size * voxel_size
    frequency = np.arange(len(fsc)) / extent
    figure = Figure(figsize=(7.6, 4.4), layout="constrained")
    axis = figure.subplots()
    other = axis.twinx()
    share, edges = np.histogram(ends / extent, bins=_BINS, range=(0.0, highest))
    other.bar(edges[:-1], 100.0 * share / len(ends), width=np.diff(edges), align="edge", color=COLOURS[2], alpha=0.35)
    other.set_ylabel("directions that end here (%)", color=COLOURS[2])
    other.set_ylim(0.0, max(10.0, 130.0 * share.max() / len(ends)))
    axis.set_zorder(other.get_zorder() + 1)
    axis.patch.set_visible(False)
    axis.plot(frequency, fsc, color=COLOURS[0], linewidth=2.2, label="FSC over whole shells")
    for sign, label in ((1, "± 1 standard deviation over directions"), (-1, None)):
        axis.plot(frequency, fsc + sign * sigma, color=COLOURS[1], linewidth=1.2, linestyle="--", label=label)
    axis.axhline(threshold, color="black", linewidth=0.8, linestyle=":")
    axis.text(0.0, threshold + 0.015, f" {threshold:g}", fontsize=8)
    axis.axhline(0.0, color="black", linewidth=0.8)
    axis.set_xlim(0.0, highest)
    axis.set_ylim(-0.15, 1.1)
    resolution_ticks(axis, voxel_size)
    axis.set_ylabel("Fourier shell correlation")
    figure.legend(*axis.get_legend_handles_labels(), loc="outside upper center", ncols=2, frameon=False, fontsize=9)
    return figure


def axis_map(
    directions: ArrayLike,
    values: ArrayLike,
    label: str,
    marks: Mapping[str, ArrayLike] | None = None,
    *,
    reverse: bool = False,
    limits: tuple[float, float] | None = None,
) -> Figure:
    """Draw values that belong to axes on an equal-area map of the whole sphere.

    Parameters
    ----------
    directions : array, shape [axes, 3]
        Unit vectors (x, y, z); each stands for its opposite, too.
    values : array, shape [axes]
    label : str
        What the values are, with the unit.
    marks : mapping of str to array [3], optional
        Axes to mark, by name.
    reverse : bool
        Bright colours for low values.
    limits : (float, float), optional
        Of the colours; by default the range of the values.
    """
    vectors, numbers = np.asarray(directions, dtype=np.float64), np.asarray(values, dtype=np.float64)
    longitude = np.linspace(-np.pi, np.pi, 2 * _LONGITUDES + 1)
    latitude = np.linspace(-np.pi / 2, np.pi / 2, 2 * _LATITUDES + 1)
    middle = np.meshgrid(longitude[:-1] + np.diff(longitude) / 2, latitude[:-1] + np.diff(latitude) / 2)
    points = np.stack([np.cos(middle[1]) * np.cos(middle[0]), np.cos(middle[1]) * np.sin(middle[0]),
                       np.sin(middle[1])], axis=-1)  # fmt: skip
    _, nearest = cKDTree(np.concatenate([vectors, -vectors])).query(points)
    figure = Figure(figsize=(7.2, 3.8), layout="constrained")
    axis = figure.add_subplot(projection="mollweide")
    low, high = limits or (numbers.min(), numbers.max())
    mesh = axis.pcolormesh(
        longitude, latitude, np.concatenate([numbers, numbers])[nearest], cmap="viridis_r" if reverse else "viridis",
        vmin=low, vmax=high, rasterized=True,
    )  # fmt: skip
    for (name, vector), marker in zip((marks or {}).items(), "ov^s", strict=False):
        pair = np.stack([np.asarray(vector), -np.asarray(vector)])
        axis.scatter(np.arctan2(pair[:, 1], pair[:, 0]), np.arcsin(np.clip(pair[:, 2], -1, 1)), marker=marker, s=45,
                     facecolors="none", edgecolors="#d40000", linewidths=1.8, label=name)  # fmt: skip
    if marks:
        figure.legend(loc="outside lower center", ncols=len(marks), frameon=False, fontsize=9)
    _label_globe(axis)
    figure.colorbar(mesh, ax=axis, shrink=0.75, label=label)
    return figure


def tilt_pair_plot(
    tilts: ArrayLike,
    azimuths: ArrayLike,
    clustered: ArrayLike,
    centre: tuple[float, float],
    radius: float,
    expected: Mapping[str, tuple[float, float]] | None = None,
) -> Figure:
    """Draw the tilt of each pair of images: angle outwards, direction of the tilt axis around.

    Parameters
    ----------
    tilts, azimuths : array, shape [pairs]
        Degrees.
    clustered : bool array, shape [pairs]
    centre : (float, float)
        Tilt and azimuth of the cluster in degrees.
    radius : float
        Of the cluster, degrees.
    expected : mapping of str to (float, float), optional
        Tilts and azimuths to mark, by name.
    """
    angle, around = np.asarray(tilts, dtype=np.float64), np.radians(np.asarray(azimuths, dtype=np.float64))
    x, y = angle * np.cos(around), angle * np.sin(around)
    inside = np.asarray(clustered, dtype=bool)
    figure = Figure(figsize=(5.6, 5.8), layout="constrained")
    axis = figure.subplots()
    reach = max(60.0, float(np.ceil(np.quantile(angle, 0.95) / _NAMED_RINGS) * _NAMED_RINGS) if len(angle) else 60.0)
    for ring in np.arange(_NAMED_RINGS, reach + 1, _NAMED_RINGS):
        axis.add_patch(Circle((0, 0), ring, fill=False, edgecolor="#bbbbbb", linewidth=0.7))
        axis.text(0.0, -ring, f"{ring:.0f}°", fontsize=8, color="#777777", ha="center", va="center",
                  bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5}, zorder=0.9)  # fmt: skip
    size = 20.0 if len(angle) < 300 else 6.0
    for chosen, colour, name in ((~inside, DROPPED, "other pairs"), (inside, KEPT, "in the cluster")):
        axis.scatter(x[chosen], y[chosen], s=size, color=colour, alpha=0.6, linewidths=0, label=name, rasterized=True)
    middle = _place(centre)
    axis.add_patch(Circle(middle, radius, fill=False, edgecolor="#d40000", linewidth=1.6))
    for (name, where), marker in zip((expected or {}).items(), "+x", strict=False):
        place = _place(where)
        axis.scatter(place[0], place[1], marker=marker, s=110, color="black", linewidths=1.8, label=name, zorder=5)
    axis.set_xlim(-reach, reach)
    axis.set_ylim(-reach, reach)
    axis.set_aspect("equal")
    axis.set_xlabel("tilt about x (degrees)")
    axis.set_ylabel("tilt about y (degrees)")
    figure.legend(loc="outside upper center", ncols=2, frameon=False, fontsize=9)
    return figure


def line_plot(
    x: ArrayLike,
    curves: Mapping[str, ArrayLike],
    labels: tuple[str, str],
    mark: float | None = None,
    y_limits: tuple[float, float] | None = None,
) -> Figure:
    """Draw curves over x, with a vertical line at `mark`."""
    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    axis = figure.subplots()
    for (name, values), colour in zip(curves.items(), COLOURS, strict=False):
        axis.plot(np.asarray(x), np.asarray(values), label=name, color=colour, linewidth=1.8, marker="o", markersize=4)
    if mark is not None:
        axis.axvline(mark, color="black", linewidth=0.8, linestyle="--")
    axis.set_xlabel(labels[0])
    axis.set_ylabel(labels[1])
    if y_limits is not None:
        axis.set_ylim(*y_limits)
    if len(curves) > 1:
        axis.legend(frameon=False, fontsize=9)
    return figure


def _place(polar: tuple[float, float]) -> tuple[float, float]:
    return polar[0] * float(np.cos(np.radians(polar[1]))), polar[0] * float(np.sin(np.radians(polar[1])))


def _label_globe(axis: Axes) -> None:
    axis.set_xticks(np.radians([-120, -60, 0, 60, 120]), ["-120°", "-60°", "x", "60°", "120°"], fontsize=7)
    axis.set_yticks(np.radians([-60, -30, 0, 30, 60]), ["-60°", "-30°", "0°", "30°", "60°"], fontsize=7)
    axis.grid(alpha=0.25)
