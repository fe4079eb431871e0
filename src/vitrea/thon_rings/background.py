"""The rings of a spectrum without what lies beneath them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter, uniform_filter1d

from vitrea.thon_rings.samples import Samples, half_plane
from vitrea.thon_rings.spectrum import Floats, Spectrum

_SPOT = 4.0  # standard deviations above the mean of its radius: a sample that is no ring but a crystal's spot
_LEAST = 0.2  # of the background: what rings may leave of it where they are divided out
_CROSS = 2  # samples: half the width of the central cross that is left out


def filter_width(spectrum: Spectrum, lowest_resolution: float) -> int:
    """Return the side, odd, of the square over which the background is averaged.

    It covers the first ring that is fitted: sqrt(2) times the radius where fitting begins, as in CTFFIND4.
    """
    return 2 * round(0.5 * math.sqrt(2) / (lowest_resolution * spectrum.step)) + 1


@dataclass(frozen=True)
class RingPattern:
    """A spectrum relative to its background.

    Attributes
    ----------
    values : ndarray of float32, shape [box, box]
        Spectrum over background, less 1, over `noise`: rings of whatever height in noise of standard deviation 1. It is
        0 on the cross, next to the origin and in the corners.
    noise : ndarray, shape [radii]
        Standard deviation at each radius in samples.
    """

    values: Floats
    noise: NDArray[np.float64]


def ring_pattern(spectrum: Spectrum, width: int, rings: NDArray[np.float64] | None = None) -> RingPattern:
    """Return the spectrum without its background.

    The background is smooth: first a curve over radius, then the mean over squares of `width` samples. The cross of the
    image's edges and everything next to the origin take no part in it. Spots of crystals are cut to the brightness
    of noise.

    Parameters
    ----------
    spectrum : Spectrum
    width : int
        Odd.
    rings : ndarray, shape [samples], optional
        What is known of the rings at the samples of `half_plane`, relative to the background: they are divided out
        before it is averaged. Without, broad rings pull the background with them and so lose height and shift.
    """
    box = spectrum.box
    samples = half_plane(box)
    ring = np.rint(samples.radius).astype(np.int64)
    flat = np.maximum(spectrum.amplitude.ravel()[samples.flat].astype(np.float64), 1e-30)
    known = np.ones(len(flat)) if rings is None else np.maximum(1 + rings, _LEAST)
    flat /= np.exp(_smooth_radial(np.log(_ring_means(flat / known, ring)), width))[ring]
    mean, spread = _ring_means(flat, ring), _ring_deviations(flat, ring)
    flat = np.minimum(flat, (mean + _SPOT * spread)[ring])
    used = _outside_cross(samples, width)
    plane = _full(samples, np.where(used, flat / known, 0.0), box)
    weight = uniform_filter(_full(samples, used.astype(np.float64), box), width, mode="constant")
    smooth = uniform_filter(plane, width, mode="constant") / np.maximum(weight, 1e-6)
    relative = np.where(used, flat / np.maximum(smooth.ravel()[samples.flat], 1e-6) - 1, 0.0)
    deviation = np.maximum(_ring_deviations(relative, ring), 1e-6)
    # The noise of a ring changes slowly with radius; the rings' own contrast must not be divided away.
    noise = uniform_filter1d(deviation, 2 * width + 1, mode="nearest")
    return RingPattern(_full(samples, relative / noise[ring], box), noise)


def _outside_cross(samples: Samples, width: int) -> NDArray[np.bool_]:
    x, y = samples.radius * np.cos(samples.angle), samples.radius * np.sin(samples.angle)
    return (np.abs(x) > _CROSS) & (np.abs(y) > _CROSS) & (samples.radius > width / (2 * math.sqrt(2)) / 2)


def _ring_means(values: NDArray[np.float64], ring: NDArray[np.int64]) -> NDArray[np.float64]:
    count = np.maximum(np.bincount(ring), 1)
    mean = np.bincount(ring, weights=values) / count
    mean[0] = mean[1]
    return np.asarray(mean)


def _ring_deviations(values: NDArray[np.float64], ring: NDArray[np.int64]) -> NDArray[np.float64]:
    mean = _ring_means(values, ring)
    return np.sqrt(_ring_means((values - mean[ring]) ** 2, ring))


def _smooth_radial(curve: NDArray[np.float64], width: int) -> NDArray[np.float64]:
    """Smooth a falling curve; it is continued in a straight line at its ends, so that these are not bent."""
    pad = width
    left = curve[0] - (curve[1 : pad + 1][::-1] - curve[0])
    right = curve[-1] - (curve[-pad - 1 : -1][::-1] - curve[-1])
    extended = np.concatenate([left, curve, right])
    for _ in range(2):
        extended = uniform_filter1d(extended, width, mode="nearest")
    return extended[pad:-pad]


def _full(samples: Samples, values: NDArray[np.float64], box: int) -> Floats:
    """Put half-plane values, and their mirror images, into a plane; the rest is 0."""
    plane = np.zeros(box * box, dtype=np.float32)
    plane[samples.flat] = values
    # (y, x) and (-y, -x) about the centre: flat places that add up to twice that of the centre.
    plane[box * (box + 1) - samples.flat] = values
    return plane.reshape(box, box)
