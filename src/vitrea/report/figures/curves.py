"""Curves against resolution."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from vitrea.report.figures.style import cycle


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
    for (name, values), colour in zip(curves.items(), cycle(len(curves)), strict=True):
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
    resolution_ticks(axis, voxel_size)
    axis.set_ylabel("Fourier shell correlation")
    if len(curves) > 1:
        figure.legend(loc="outside upper center", ncols=min(len(curves), 2), frameon=False, fontsize=9)
    return figure


def spectrum_curves(amplitude: ArrayLike, power: ArrayLike, extent: float) -> Figure:
    """Draw the power of each shell against resolution, and beside it the Guinier plot.

    Parameters
    ----------
    amplitude, power : array, shape [shells]
        Means of shell 0, 1, ...; shell s is at a resolution of ``extent / s`` Å. Shell 0, the mean, is not shown.
    extent : float
        Å, of the box.
    """
    figure = Figure(figsize=(9.6, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    amplitudes, powers = np.asarray(amplitude, dtype=np.float64), np.asarray(power, dtype=np.float64)
    shells = np.flatnonzero((amplitudes > 0) & (np.arange(len(amplitudes)) > 0))
    colour = cycle(1)[0]
    left.semilogy(shells / extent, powers[shells], color=colour, linewidth=1.8)
    left.set_xlim(0.0, (len(amplitudes) - 1) / extent)
    resolution_ticks(left, extent / (2 * (len(amplitudes) - 1)))
    left.set_ylabel("power")
    right.plot((shells / extent) ** 2, np.log(amplitudes[shells]), color=colour, linewidth=1.8)
    right.locator_params(axis="x", nbins=5)
    right.set_xlabel("1 / resolution² (1/Å²)")
    right.set_ylabel("ln of the mean amplitude")
    return figure


def resolution_ticks(axis: Axes, voxel_size: float) -> None:
    """Label an axis of spatial frequency (1/Å) with resolutions (Å)."""
    ticks = np.linspace(0.0, 0.5 / voxel_size, 6)[1:]
    axis.set_xticks(ticks, [f"{1 / tick:.3g}" for tick in ticks])
    axis.set_xlabel("resolution (Å)")
