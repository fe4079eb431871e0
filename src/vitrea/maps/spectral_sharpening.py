"""Sharpening in Fourier space as cisTEM does it: B-factors, a flattened spectrum, figures of merit, a cut-off.

The amplitudes A of a map are looked at inside a mask, and each Fourier component of the map at spatial frequency k is
multiplied by

- ``exp(-B_low k² / 4)`` up to the limit l, and beyond it by ``A(l) / A(k) exp(-(B_low l² + B_high (k² - l²)) / 4)``:
  the spectrum is flat there if B_high is 0, and joins what is below without a step;
- the figure of merit ``SSNR / (1 + SSNR)``, SSNR being the signal-to-noise ratio of the map;
- a low-pass filter that falls to 0 at the resolution cut-off.

References
----------
Grant, Rohou & Grigorieff (2018), doi:10.7554/eLife.35383 (cisTEM). Rosenthal & Henderson (2003),
doi:10.1016/j.jmb.2003.07.013 (figures of merit).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vitrea.fourier.filters import invert_hand
from vitrea.fourier.grid import frequency_radius
from vitrea.fourier.shells import shell_mean
from vitrea.fourier.transforms import to_fourier, to_real
from vitrea.maps.half_maps import as_tensor
from vitrea.maps.protein_spectrum import protein_amplitudes

Floats = NDArray[np.floating[Any]]
Curve = NDArray[np.float64]

_BACKGROUND_RADIUS = 0.45  # of the box: what lies farther out is background


@dataclass(frozen=True)
class SpectralSettings:
    """How a map is to be sharpened.

    Attributes
    ----------
    bfactor_low, bfactor_high : float
        Å²; below and beyond the limit. Negative sharpens.
    limit : float
        Å; where one gives way to the other, and flattening begins. 0: `bfactor_low` throughout.
    flatten : bool
        Whether amplitudes beyond the limit are made equal before `bfactor_high` acts.
    flatten_signal : bool
        Whether it is the signal's amplitudes, ``A sqrt(figure of merit)``, that are made equal, not those of signal and
        noise together.
    protein : bool
        Whether amplitudes are brought to those of proteins (`protein_spectrum`) beyond the limit, instead of being made
        equal.
    cutoff : float
        Å; nothing finer is left. 0: up to Nyquist.
    filter_edge : float
        Å; the cosine edge of the cut-off runs from ``1 / cutoff - 1 / filter_edge`` to ``1 / cutoff`` (in 1/Å).
    """

    bfactor_low: float = 0.0
    bfactor_high: float = 0.0
    limit: float = 0.0
    flatten: bool = True
    flatten_signal: bool = False
    protein: bool = False
    cutoff: float = 0.0
    filter_edge: float = 20.0


@dataclass(frozen=True)
class SpectralSharpening:
    """A sharpened map, and what was done to its shells; curves have shape [n // 2 + 1].

    Attributes
    ----------
    density : ndarray of float32, shape [n, n, n]
    frequency : ndarray
        1/Å.
    before, after : ndarray
        Root mean square amplitude inside the mask (orthonormal transforms).
    merit : ndarray
        Figures of merit; 1 throughout without an FSC.
    gain : ndarray
        What components were multiplied by.
    """

    density: NDArray[np.float32]
    frequency: Curve
    before: Curve
    after: Curve
    merit: Curve
    gain: Curve


def figure_of_merit(fsc: Floats, ssnr_scale: float = 1.0) -> Curve:
    """Return ``SSNR / (1 + SSNR)`` per shell, with ``SSNR = 2 FSC / (1 - FSC)`` of the sum of two half maps.

    Parameters
    ----------
    fsc : ndarray, any shape
        Between half maps.
    ssnr_scale : float
        SSNR is multiplied by this first: above 1 for the well-ordered part of a map that has less ordered ones.

    Returns
    -------
    ndarray, shape of `fsc`
        ``2 FSC / (1 + FSC)`` if the scale is 1; 0 where the FSC is not positive.
    """
    positive = np.clip(np.asarray(fsc, dtype=np.float64), 0.0, 1.0)
    signal = 2.0 * positive * ssnr_scale
    return np.asarray(signal / (signal + 1.0 - positive), dtype=np.float64)


def amplitude_profile(density: Floats, mask: Floats | None = None) -> Curve:
    """Return the root mean square amplitude of each shell, inside a mask.

    Parameters
    ----------
    density : ndarray, shape [n, n, n]
    mask : ndarray, shape [n, n, n], optional
        0 to 1; see `inside_mask`.

    Returns
    -------
    ndarray, shape [n // 2 + 1]
        Of orthonormal transforms.
    """
    voxels = as_tensor(density) if mask is None else inside_mask(density, mask)
    power: Curve = shell_mean(to_fourier(voxels, 3).abs().double().square(), voxels.shape[-1], 3).numpy()
    return np.sqrt(power)


def inside_mask(density: Floats, mask: Floats) -> Tensor:
    """Return what of a map a mask leaves, after the mean of what is outside was taken away.

    The mask's own shape is then not seen in the result.

    Parameters
    ----------
    density, mask : ndarray, shape [n, n, n]

    Returns
    -------
    Tensor, shape [n, n, n]
    """
    voxels = as_tensor(density)
    weight = as_tensor(mask).to(voxels.dtype)
    outside = float((1.0 - weight).double().sum())
    level = float(((1.0 - weight) * voxels).double().sum()) / outside if outside > 0 else 0.0
    return (voxels - level) * weight


def spectral_gain(frequency: Floats, profile: Floats, merit: Floats, settings: SpectralSettings) -> Curve:
    """Return what each shell is multiplied by.

    Parameters
    ----------
    frequency, profile, merit : ndarray, shape [shells]
        1/Å, amplitudes inside the mask, figures of merit.
    settings : SpectralSettings

    Returns
    -------
    ndarray, shape [shells]
        0 where there is no amplitude to be flattened.
    """
    k, last = np.asarray(frequency, dtype=np.float64), float(frequency[-1])
    border = min(1.0 / settings.limit, last) if settings.limit > 0 else last
    low, high = np.minimum(k, border) ** 2, np.maximum(k**2 - border**2, 0.0)
    gain = np.exp(-0.25 * (settings.bfactor_low * low + settings.bfactor_high * high))
    if settings.flatten and settings.limit > 0:
        amplitude = np.asarray(profile, dtype=np.float64)
        if settings.flatten_signal:
            amplitude = amplitude * np.sqrt(merit)
        if settings.protein:
            amplitude = amplitude / protein_amplitudes(k)
        beyond = k > border
        reference = float(np.interp(border, k, amplitude))
        gain = np.where(beyond, np.where(amplitude > 0, gain * reference / np.maximum(amplitude, 1e-300), 0.0), gain)
    return np.asarray(gain * merit * _cutoff(k, settings), dtype=np.float64)


def _cutoff(frequency: Curve, settings: SpectralSettings) -> Curve:
    if settings.cutoff <= 0:
        return np.ones_like(frequency)
    end = 1.0 / settings.cutoff
    width = min(1.0 / settings.filter_edge, end) if settings.filter_edge > 0 else 0.0
    if width <= 0:
        return (frequency <= end).astype(np.float64)
    return np.asarray(0.5 + 0.5 * np.cos(np.pi * np.clip((frequency - end) / width + 1.0, 0.0, 1.0)))


def sharpen_spectrum(
    density: Floats,
    voxel_size: float,
    settings: SpectralSettings,
    mask: Floats | None = None,
    merit: Floats | None = None,
) -> SpectralSharpening:
    """Sharpen a map.

    Parameters
    ----------
    density : ndarray, shape [n, n, n]
    voxel_size : float
        Å.
    settings : SpectralSettings
    mask : ndarray, shape [n, n, n], optional
        Where amplitudes are measured. The map itself is not masked.
    merit : ndarray, shape [n // 2 + 1], optional
        Figures of merit; see `figure_of_merit`.

    Returns
    -------
    SpectralSharpening
        Between shells the gain is drawn with straight lines; beyond Nyquist, in the corners of the transform, it is 0.
    """
    size = density.shape[-1]
    frequency = np.arange(size // 2 + 1) / (size * voxel_size)
    merits = np.ones(len(frequency)) if merit is None else np.asarray(merit, dtype=np.float64)
    profile = amplitude_profile(density, mask)
    gain = spectral_gain(frequency, profile, merits, settings)
    voxels = as_tensor(density)
    window = spread_gain(gain, size).to(voxels.dtype)
    sharpened = to_real(to_fourier(voxels, 3) * window, size, 3).float().numpy()
    return SpectralSharpening(sharpened, frequency, profile, amplitude_profile(sharpened, mask), merits, gain)


def spread_gain(gain: Curve, size: int) -> Tensor:
    """Give each sample of a transform the gain at its radius, shape [n, n, n // 2 + 1]; 0 beyond Nyquist."""
    radius = frequency_radius(size, 3, dtype=torch.float64)
    below = radius.floor().clamp(max=len(gain) - 2).long()
    part = (radius - below).clamp(max=1.0)  # in an odd box Nyquist lies half a sample beyond the last shell
    curve = torch.from_numpy(np.asarray(gain, dtype=np.float64))
    window = curve[below] * (1.0 - part) + curve[below + 1] * part
    return torch.where(radius <= size / 2, window, 0.0)


def correct_gridding(density: Floats, radius: float = 0.0, padding: float = 1.0) -> NDArray[np.float32]:
    """Undo the fall-off that trilinear interpolation during the reconstruction leaves towards the edges of the box.

    Interpolation of neighbours in the Fourier grid multiplies the map by the square of
    ``sinc(x / (p n)) sinc(y / (p n)) sinc(z / (p n))``, p being how many times finer than needed the grid was.

    Parameters
    ----------
    density : ndarray, shape [n, n, n]
    radius : float
        Voxels. Outside it the density, being background, is divided by the fall-off at that radius along an axis.
        0: corrected everywhere.
    padding : float
        p.

    Returns
    -------
    ndarray of float32, shape [n, n, n]
        What is divided is the difference from the mean of the background, which stays.

    References
    ----------
    Jackson et al. (1991), doi:10.1109/42.97598.
    """
    size = density.shape[-1]
    axis = np.arange(size, dtype=np.float64) - size // 2
    line = np.sinc(axis / (padding * size)) ** 2
    weight = line[:, None, None] * line[:, None] * line
    squared = axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2
    if radius > 0:
        weight = np.where(squared < radius**2, weight, np.sinc(radius / (padding * size)) ** 2)
    background = float(density[squared > (_BACKGROUND_RADIUS * size) ** 2].mean(dtype=np.float64))
    corrected: NDArray[np.float32] = ((density - background) / weight + background).astype(np.float32)
    return corrected


def change_hand(density: Floats) -> NDArray[np.float32]:
    """Return the mirror image of a map: x runs the other way about the centre."""
    mirrored: NDArray[np.float32] = invert_hand(as_tensor(density)).float().numpy()
    return mirrored


def normalise(density: Floats, deviation: float) -> NDArray[np.float32]:
    """Bring a map to mean 0 and a standard deviation."""
    mean, sigma = float(density.mean(dtype=np.float64)), float(density.std(dtype=np.float64))
    normalised: NDArray[np.float32] = ((density - mean) * (deviation / sigma)).astype(np.float32)
    return normalised
