"""How much a map should be sharpened, judged by its own amplitudes and the FSC of its halves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vitrea.fourier.fsc import interpolated_resolution_at
from vitrea.maps.half_maps import FSC_THRESHOLD
from vitrea.maps.protein_spectrum import protein_amplitudes
from vitrea.maps.sharpening import NO_AMPLITUDE, GuinierFit, fit_guinier
from vitrea.maps.spectral_sharpening import SpectralSettings, amplitude_profile, figure_of_merit

Floats = NDArray[np.floating[Any]]

FLATTEN_FROM = 10.0
"""Å beyond which proteins have the same amplitudes but for B-factors, whatever their shape (Rosenthal & Henderson)."""

_WIDEST_EDGE, _EDGE_SHARE = 20.0, 10.0  # Å; and Å per Å of resolution

_FEWEST_TO_FLATTEN = 5  # shells; over fewer, single shells would decide what the map looks like


@dataclass(frozen=True)
class SharpeningChoice:
    """Settings, and what they rest on.

    Attributes
    ----------
    settings : SpectralSettings
    resolution : float
        Å at which the FSC falls below 0.143.
    fit : GuinierFit or None
        The line through ln of the signal's amplitudes, over those of proteins, between 10 Å and the resolution; None:
        too few shells.
    shells : int
        How many shells that range holds.
    """

    settings: SpectralSettings
    resolution: float
    fit: GuinierFit | None
    shells: int


def choose_sharpening(density: Floats, voxel_size: float, fsc: Floats, mask: Floats | None = None) -> SharpeningChoice:
    """Choose B-factor, flattening and cut-off for a map of a protein.

    The best estimate, in the mean square, of a molecule whose shells have amplitudes T has components multiplied by
    ``FOM T / S``, S being the signal's amplitudes in the map, ``A sqrt(FOM)``. Beyond 10 Å T is nearly the same for all
    proteins (`protein_spectrum`). So: the signal is brought to it from 10 Å on, whatever the shape of its decay, and
    weighted by the figure of merit; what is coarser gets the B-factor of a straight line through ln(S / T) against
    1/d², which joins without a kink on average; the cut-off is where the FSC falls below 0.143, its edge a tenth of the
    way to there (or 1/20 Å, if that is less): weights have fallen already. With fewer than five shells beyond 10 Å the
    B-factor alone is applied, and none at all where no line can be fitted or it rises.

    Parameters
    ----------
    density : ndarray, shape [n, n, n]
        Average of the half maps, not sharpened.
    voxel_size : float
        Å.
    fsc : ndarray, shape [n // 2 + 1]
        Between the half maps, corrected for the mask.
    mask : ndarray, shape [n, n, n], optional
        Where amplitudes are measured.

    Returns
    -------
    SharpeningChoice

    Raises
    ------
    ValueError
        If the FSC is below 0.143 from the first shell on.
    """
    size = density.shape[-1]
    resolution = interpolated_resolution_at(np.asarray(fsc).tolist(), FSC_THRESHOLD, voxel_size, size)
    if not np.isfinite(resolution):
        raise ValueError(f"the FSC is below {FSC_THRESHOLD} from the first shell on: there is no signal to sharpen")
    frequency = np.arange(size // 2 + 1) / (size * voxel_size)
    signal = amplitude_profile(density, mask) * np.sqrt(figure_of_merit(fsc))
    relative = signal / protein_amplitudes(frequency)
    logarithm = np.where(relative > 0, np.log(np.maximum(relative, np.finfo(np.float64).tiny)), NO_AMPLITUDE)
    shells = int(((frequency >= 1 / FLATTEN_FROM) & (frequency <= 1 / resolution)).sum())
    fit = fit_guinier(frequency**2, logarithm, FLATTEN_FROM, resolution)
    bfactor = min(4.0 * fit.slope, 0.0) if fit is not None else 0.0
    limit = FLATTEN_FROM if shells >= _FEWEST_TO_FLATTEN else 0.0
    edge = max(_WIDEST_EDGE, _EDGE_SHARE * resolution)
    settings = SpectralSettings(bfactor, 0.0, limit, limit > 0, True, True, resolution, edge)
    return SharpeningChoice(settings, resolution, fit, shells)
