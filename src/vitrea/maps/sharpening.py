"""Sharpening of a final map: detector MTF, FSC weights, B-factor, low-pass, and the Guinier plot that shows them.

References
----------
Rosenthal & Henderson (2003), doi:10.1016/j.jmb.2003.07.013.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vitrea.fourier.filters import bfactor_window, lowpass_window
from vitrea.fourier.fsc import shell_resolution
from vitrea.fourier.grid import frequency_radius
from vitrea.fourier.shells import spread_shells, sum_stored_samples
from vitrea.fourier.transforms import to_fourier, to_real
from vitrea.maps.half_maps import as_tensor
from vitrea.optics.damping import interpolate_mtf

Floats = NDArray[np.floating[Any]]
Curve = NDArray[np.float64]

NO_AMPLITUDE = -99.0
"""What a Guinier plot shows for a shell without amplitude, as RELION writes it."""


@dataclass(frozen=True)
class ModulationTransfer:
    """The modulation transfer function of a detector.

    Attributes
    ----------
    frequency : ndarray, shape [points]
        Cycles per detector pixel, rising from 0 to 0.5 (``rlnResolutionInversePixel``).
    value : ndarray, shape [points]
        1 at frequency 0 (``rlnMtfValue``).
    pixel_size : float
        Å per detector pixel: of the original movies, before any binning.
    """

    frequency: Curve
    value: Curve
    pixel_size: float


@dataclass(frozen=True)
class SharpeningSettings:
    """How a map is to be sharpened.

    Attributes
    ----------
    mtf : ModulationTransfer or None
        Amplitudes are divided by it.
    automatic : bool
        Whether the B-factor is fitted to the Guinier plot.
    bfactor : float
        Å²; applied if not automatic. Negative sharpens; 0 leaves amplitudes alone.
    fit_lowest, fit_highest : float
        Range of the Guinier fit in Å; `fit_highest` 0 stands for the final resolution.
    fsc_weighting : bool
        Whether shells are weighted with ``sqrt(2 FSC / (1 + FSC))``.
    lowpass : float
        Å of a low-pass filter of the final map; 0 for none, negative for the final resolution.
    filter_edge : float
        Width of that filter's edge in shells.
    """

    mtf: ModulationTransfer | None = None
    automatic: bool = False
    bfactor: float = 0.0
    fit_lowest: float = 10.0
    fit_highest: float = 0.0
    fsc_weighting: bool = True
    lowpass: float = 0.0
    filter_edge: float = 2.0


@dataclass(frozen=True)
class GuinierFit:
    """A line through ln(amplitude) against 1/d².

    Attributes
    ----------
    slope : float
        Å²; a quarter of the B-factor.
    intercept : float
    correlation : float
        Squared.
    lowest, highest : float
        Range of d in Å over which it was fitted.
    """

    slope: float
    intercept: float
    correlation: float
    lowest: float
    highest: float


@dataclass(frozen=True)
class GuinierPlot:
    """ln of the mean amplitude per shell against 1/d² after each step; each of shape [n // 2 + 1].

    `mtf_corrected` and `weighted` are None where that step was left out; `fit` is None unless the B-factor was fitted.
    Amplitudes are those of RELION's transforms (divided by the number of voxels).
    """

    resolution_squared: Curve
    original: Curve
    mtf_corrected: Curve | None
    weighted: Curve | None
    sharpened: Curve
    fit: GuinierFit | None


def sharpen(
    density: Floats, voxel_size: float, fsc: Floats, final_shell: int, settings: SharpeningSettings
) -> tuple[NDArray[np.float32], float, GuinierPlot]:
    """Sharpen the sum of two half maps.

    Parameters
    ----------
    density : ndarray, shape [n, n, n]
        Average of the half maps.
    voxel_size : float
        Å.
    fsc : ndarray, shape [n // 2 + 1]
        FSC between the half maps, for the weights.
    final_shell : int
        Shell of the final resolution.
    settings : SharpeningSettings

    Returns
    -------
    tuple
        The sharpened map, the B-factor applied in Å² (0 if it could not be fitted: fewer than three shells in the
        range), and the Guinier plot.
    """
    size = density.shape[-1]
    resolution = shell_resolution(final_shell, voxel_size, size)
    transform = to_fourier(as_tensor(density), 3)
    original = log_amplitudes(transform, size)
    corrected = weighted = fit = None
    if settings.mtf is not None:
        transform = transform / mtf_window(size, voxel_size, settings.mtf)
        corrected = log_amplitudes(transform, size)
    if settings.fsc_weighting:
        transform = transform * spread_shells(torch.from_numpy(fsc_weights(fsc)), size, 3)
        weighted = log_amplitudes(transform, size)
    squared = (np.arange(size // 2 + 1) / (size * voxel_size)) ** 2
    bfactor = settings.bfactor
    if settings.automatic:
        amplitudes = next(curve for curve in (weighted, corrected, original) if curve is not None)
        fit = fit_guinier(squared, amplitudes, settings.fit_lowest, settings.fit_highest or resolution)
        bfactor = 4.0 * fit.slope if fit is not None else 0.0
    transform = transform * bfactor_window(size, 3, bfactor, voxel_size, dtype=torch.float64)
    filter_at = resolution if settings.lowpass < 0 else settings.lowpass
    if 0 < filter_at < float("inf"):
        shell = float(round(size * voxel_size / filter_at))
        transform = transform * lowpass_window(size, 3, shell, settings.filter_edge, dtype=torch.float64)
    guinier = GuinierPlot(squared, original, corrected, weighted, log_amplitudes(transform, size), fit)
    return to_real(transform, size, 3).numpy().astype(np.float32), bfactor, guinier


def fsc_weights(fsc: Floats) -> Curve:
    """Return ``sqrt(2 FSC / (1 + FSC))`` per shell, 0 from the first shell whose FSC is not positive."""
    values = np.asarray(fsc, dtype=np.float64)
    positive = np.cumprod(values > 1e-10).astype(bool)
    clipped = np.clip(values, 0.0, 1.0)
    return np.where(positive, np.sqrt(2.0 * clipped / (1.0 + clipped)), 0.0)


def mtf_window(size: int, voxel_size: float, mtf: ModulationTransfer) -> Tensor:
    """Return the detector's transfer at each sample of a map, shape [n, n, n // 2 + 1].

    Between points of the table straight lines are drawn; at and beyond Nyquist of the map it is 1, as in RELION.
    """
    radius = frequency_radius(size, 3, dtype=torch.float64)
    cycles = radius / (size * voxel_size) * mtf.pixel_size
    values = torch.from_numpy(interpolate_mtf(cycles.numpy(), mtf.frequency, mtf.value))
    return torch.where(radius < size / 2, values, 1.0)


def log_amplitudes(transform: Tensor, size: int) -> Curve:
    """Return ln of the mean amplitude in each shell of a map's transform; `NO_AMPLITUDE` where there is none."""
    amplitudes = transform.abs().double() / size**1.5
    ones = torch.ones_like(amplitudes)
    mean = (sum_stored_samples(amplitudes, size, 3) / sum_stored_samples(ones, size, 3)).numpy()
    return np.where(mean > 0, np.log(np.maximum(mean, np.finfo(np.float64).tiny)), NO_AMPLITUDE)


def fit_guinier(resolution_squared: Floats, log_amplitude: Floats, lowest: float, highest: float) -> GuinierFit | None:
    """Fit a straight line to a Guinier plot.

    Parameters
    ----------
    resolution_squared, log_amplitude : ndarray, shape [shells]
        1/d² in 1/Å² and ln(amplitude).
    lowest, highest : float
        Range of d in Å, both ends included.

    Returns
    -------
    GuinierFit or None
        None where fewer than three shells with amplitude lie in the range.
    """
    tolerance = 1e-6
    x, y = np.asarray(resolution_squared), np.asarray(log_amplitude)
    chosen = (x >= (1 - tolerance) / lowest**2) & (x <= (1 + tolerance) / highest**2) & (y > NO_AMPLITUDE)
    if chosen.sum() < 3:
        return None
    x, y = x[chosen], y[chosen]
    slope, intercept = np.polyfit(x, y, 1)
    correlation = float(np.corrcoef(x, y)[0, 1]) ** 2
    return GuinierFit(float(slope), float(intercept), correlation, lowest, highest)
