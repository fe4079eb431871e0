"""The amplitude spectrum of a micrograph, on a grid just fine enough for its Thon rings.

The modulus of the transform of the whole image is smoothed and sampled anew: its own transform is cut at half the box
and tapered there. That averages the grains of the spectrum as tiles of that size do, loses no pixel, takes images
that are not square, and keeps the grid of frequencies exactly isotropic.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft

Floats = NDArray[np.float32]

_EDGE = 1 / 24  # of an image's side: width of the taper at its edges, against the cross of unequal edges
_TAPER_FROM = 0.75  # of the largest lag: where the smoothing window starts to fall
_LOWEST = 4  # samples of the box next to the origin, where the modulus is set to that around it


@dataclass(frozen=True)
class Spectrum:
    """An amplitude spectrum.

    Attributes
    ----------
    amplitude : ndarray of float32, shape [box, box]
        Mean modulus of the transform, the origin at pixel ``box // 2``, and its mirror image in the other half.
    pixel_size : float
        Å per pixel of an image with this spectrum: sample i from the centre is the frequency
        ``i / (box * pixel_size)`` in 1/Å.
    """

    amplitude: Floats
    pixel_size: float

    @property
    def box(self) -> int:
        """Samples along a side."""
        return len(self.amplitude)

    @property
    def step(self) -> float:
        """1/Å from one sample to the next."""
        return 1.0 / (self.box * self.pixel_size)


def amplitude_spectrum(
    images: Iterable[NDArray[np.generic]], pixel_size: float, box: int, target_pixel_size: float = 0.0
) -> Spectrum:
    """Return the amplitude spectrum of a micrograph, or the mean of those of several frames.

    Parameters
    ----------
    images : iterable of ndarray, shape [y, x]
        One micrograph, or sums of a few movie frames each; all of one size. May be a generator.
    pixel_size : float
        Å per pixel.
    box : int
        Samples along a side of the spectrum; even.
    target_pixel_size : float
        Å. Frequencies beyond 1/(2 target) are left out, so that the samples lie where the rings are. Finer images only.

    Raises
    ------
    ValueError
        If there is no image, `box` is not even, or an image is smaller than half the box.
    """
    if box < 32 or box % 2:
        raise ValueError(f"the box of a spectrum must be even and at least 32, not {box}")
    total, count, shape = None, 0, (0, 0)
    for image in images:
        height, width = image.shape
        if min(height, width) < box // 2:
            raise ValueError(f"an image of {width} x {height} pixels is too small for spectra of {box} samples a side")
        if total is not None and (height, width) != shape:
            raise ValueError(f"frames of {width} x {height} and {shape[1]} x {shape[0]} pixels in one movie")
        shape = (height, width)
        modulus = np.abs(fft.rfft2(_tapered(image)))
        total = modulus if total is None else total + modulus
        count += 1
    if total is None:
        raise ValueError("no image to take a spectrum of")
    total *= np.float32(1.0 / (count * math.sqrt(shape[0] * shape[1])))
    lags = fft.next_fast_len(max(box, round(box * target_pixel_size / pixel_size)), real=True)
    lags += lags % 2
    return Spectrum(_resampled(total, shape, lags, box), pixel_size * lags / box)


def _tapered(image: NDArray[np.generic]) -> Floats:
    """The image less its mean, falling to zero at its edges; constant images become zero."""
    pixels = np.asarray(image, dtype=np.float32)
    centred: Floats = pixels - pixels.mean(dtype=np.float64).astype(np.float32)
    height, width = centred.shape
    centred *= _edge_window(height)[:, None]
    centred *= _edge_window(width)[None, :]
    return centred


def _edge_window(length: int) -> Floats:
    edge = max(2, round(length * _EDGE))
    window = np.ones(length, dtype=np.float32)
    window[:edge] = np.sin(0.5 * np.pi * (np.arange(edge) + 0.5) / edge) ** 2
    window[-edge:] = window[:edge][::-1]
    return window


def _resampled(modulus: Floats, shape: tuple[int, int], lags: int, box: int) -> Floats:
    """Smooth a half-plane modulus by cutting its transform to `lags` a side, and sample it on a centred box."""
    height, width = shape
    _level_origin(modulus, shape, _LOWEST / lags)
    # The modulus is even, so its transform (a kind of autocorrelation) is real and even, too.
    correlation = fft.irfft2(modulus, s=shape, overwrite_x=True)
    rows, columns = min(lags, height), min(lags, width)
    cut = np.zeros((lags, lags), dtype=np.float32)
    up, left = rows // 2, columns // 2
    down, right = rows - up, columns - left
    cut[:down, :right] = correlation[:down, :right]
    cut[lags - up :, :right] = correlation[height - up :, :right]
    cut[:down, lags - left :] = correlation[:down, width - left :]
    cut[lags - up :, lags - left :] = correlation[height - up :, width - left :]
    cut *= _lag_window(lags)[:, None]
    cut *= _lag_window(lags)[None, :]
    half = fft.rfft2(cut).real[:, : box // 2 + 1] * np.float32(1.0)
    half = np.concatenate([half[lags - box // 2 :], half[: box // 2]])  # rows -box/2 ... box/2 - 1
    full = np.empty((box, box), dtype=np.float32)
    full[:, box // 2 :] = half[:, : box // 2]
    # Friedel's law: row r, column -c is row -r, column c; row -box/2 is its own mirror image.
    mirrored = np.concatenate([half[:1], half[:0:-1]])
    full[:, : box // 2] = mirrored[:, box // 2 : 0 : -1]
    return full


def _lag_window(lags: int) -> Floats:
    """1 at small lags, falling to 0 at the largest; in the order of an unshifted transform."""
    lag = np.abs(fft.fftfreq(lags)) * 2
    falling = np.clip((lag - _TAPER_FROM) / (1 - _TAPER_FROM), 0, 1)
    return np.asarray(np.cos(0.5 * np.pi * falling) ** 2, dtype=np.float32)


def _level_origin(modulus: Floats, shape: tuple[int, int], radius: float) -> None:
    """Give the samples next to the origin and on the axes, in place, the modulus of their neighbours.

    They hold the ramp and the edges of the image, a thousand times above all rings, and would ring themselves.
    """
    height, width = shape
    ky, kx = fft.fftfreq(height)[:, None], fft.rfftfreq(width)[None, :]
    reach_y, reach_x = int(2 * radius * height) + 2, int(2 * radius * width) + 2
    rows = np.r_[0:reach_y, height - reach_y : height]
    corner = modulus[rows, :reach_x]
    squared = (ky[rows] ** 2 + kx[:, :reach_x] ** 2) / radius**2
    ring = (squared > 1) & (squared < 4)
    modulus[rows, :reach_x] = np.where(squared <= 1, np.median(corner[ring]), corner)
    modulus[:, 0] = modulus[:, 1:4].mean(axis=1)
    modulus[0] = (modulus[1] + modulus[2] + modulus[-1] + modulus[-2]) / 4
