"""How far the rings reach, and how well the CTF fits them: curves over spatial frequency.

Equi-phase averaging (Zhang 2016, doi:10.1016/j.jsb.2015.11.003; Rohou & Grigorieff 2015) adds up samples of equal CTF
phase instead of equal radius, so that astigmatism does not smear the rings: a sample counts at the frequency where a
CTF without astigmatism, of the mean defocus, has its phase.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter1d

from vitrea.kernels.thon_rings import sum_by_place
from vitrea.thon_rings.samples import CtfConstants, Samples, half_plane
from vitrea.thon_rings.search import Candidate
from vitrea.thon_rings.spectrum import Floats

PER_SAMPLE = 2  # points of a curve per sample of the spectrum
ICE_RING = (0.25, 0.28)  # 1/Å: where crystalline ice has its strongest ring
_THRESHOLD = 0.5  # of the correlation with the CTF: below, rings do not fit
_RINGS = 1.5  # within which that correlation is taken, to either side
_FEWEST = 10  # points to either side, at least


@dataclass(frozen=True)
class RingCurves:
    """Curves over spatial frequency.

    Attributes
    ----------
    frequency : ndarray, shape [points]
        1/Å, from 0 to the edge of the spectrum.
    radial : ndarray, shape [points]
        Mean over rings of equal radius of the spectrum without its background, in units of one sample's noise.
    equiphase : ndarray, shape [points]
        The same over rings of equal CTF phase.
    fit : ndarray, shape [points]
        |CTF| of the fit along its mean defocus.
    quality : ndarray, shape [points]
        Local correlation of the equi-phase average with the fit, -1 to 1.
    noise : ndarray, shape [points]
        Two standard deviations of that correlation where there are no rings.
    """

    frequency: NDArray[np.float64]
    radial: NDArray[np.float64]
    equiphase: NDArray[np.float64]
    fit: NDArray[np.float64]
    quality: NDArray[np.float64]
    noise: NDArray[np.float64]


def ring_curves(pattern: Floats, step: float, candidate: Candidate, constants: CtfConstants) -> RingCurves:
    """Average a ring pattern along the rings of a CTF and compare the two.

    Parameters
    ----------
    pattern : ndarray, shape [box, box]
        From `vitrea.thon_rings.background.ring_pattern`, its rings known.
    step : float
        1/Å per sample.
    candidate : Candidate
        The fit.
    constants : CtfConstants
    """
    samples = half_plane(len(pattern))
    values = pattern.ravel()[samples.flat].astype(np.float64)
    seen = values != 0
    values = values[seen]
    points = PER_SAMPLE * (len(pattern) // 2)
    frequency = np.asarray(np.arange(points) * step / PER_SAMPLE, dtype=np.float64)
    radial, _ = _average(values, samples.radius[seen] * PER_SAMPLE, points)
    equal = equiphase_frequency(samples, step, candidate, constants)[seen]
    equiphase, weight = _average(values, equal * (PER_SAMPLE / step), points)
    chi = constants.phase(frequency**2, candidate.defocus, candidate.phase_shift)
    model = -np.cos(2 * chi)
    half = _half_windows(constants, frequency, candidate.defocus, step)
    quality = _local_correlation(equiphase, model, weight, half)
    return RingCurves(frequency, radial, equiphase, np.abs(np.sin(chi)), quality, 2 / np.sqrt(2 * half + 1.0))


def equiphase_frequency(
    samples: Samples, step: float, candidate: Candidate, constants: CtfConstants
) -> NDArray[np.float64]:
    """Return for each sample the frequency (1/Å) at which the CTF along the mean defocus has the sample's phase.

    NaN where it never has.
    """
    squared = (samples.radius * step) ** 2
    angle = 2 * samples.angle
    local = candidate.defocus + candidate.cosine * np.cos(angle) + candidate.sine * np.sin(angle)
    spherical, linear = constants.spherical, constants.linear * candidate.defocus
    # spherical x² - linear x = spherical k^4 - linear D k²: the root on the sample's side of the CTF's turning point.
    product = constants.linear * local * squared - spherical * squared**2
    with np.errstate(invalid="ignore", divide="ignore"):
        root = np.sqrt(linear**2 - 4 * spherical * product)
        before = 2 * product / (linear + root)
        after = (linear + root) / (2 * spherical) if spherical > 0 else np.full_like(squared, np.nan)
        turned = 2 * spherical * squared > constants.linear * local
        return np.sqrt(np.where(turned, after, before))


def _average(
    values: NDArray[np.float64], place: NDArray[np.float64], points: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean of values about each point of a curve, and how many samples it is of."""
    known = np.isfinite(place)
    place = np.where(known, place, -1.0)
    low = np.floor(place).astype(np.int64)
    total, weight = sum_by_place(values, low, place - low, points)
    return total / np.maximum(weight, 1.0), weight


def _half_windows(
    constants: CtfConstants, frequency: NDArray[np.float64], defocus: float, step: float
) -> NDArray[np.int64]:
    """Points to either side within which the local correlation is taken: some rings, but never very few points."""
    ring = np.pi / np.maximum(np.abs(constants.slope(frequency, defocus)), 1e-9)
    points = np.minimum(_RINGS * ring * PER_SAMPLE / step, len(frequency) / 8)
    return np.maximum(points.astype(np.int64), _FEWEST)


def _local_correlation(
    curve: NDArray[np.float64], model: NDArray[np.float64], weight: NDArray[np.float64], half: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Correlation of two curves about each point, with weights."""

    def window_sum(values: NDArray[np.float64]) -> NDArray[np.float64]:
        total = np.concatenate([[0.0], np.cumsum(values)])
        place = np.arange(len(values))
        return np.asarray(total[np.minimum(place + half + 1, len(values))] - total[np.maximum(place - half, 0)])

    norm = np.maximum(window_sum(weight), 1e-12)
    mean_curve, mean_model = window_sum(weight * curve) / norm, window_sum(weight * model) / norm
    cross = window_sum(weight * curve * model) / norm - mean_curve * mean_model
    power_curve = window_sum(weight * curve**2) / norm - mean_curve**2
    power_model = window_sum(weight * model**2) / norm - mean_model**2
    return np.asarray(cross / np.sqrt(np.maximum(power_curve * power_model, 1e-20)))


def fit_resolution(curves: RingCurves, lowest_resolution: float) -> float:
    """Return the resolution in Å to which the rings follow the fit without a gap; infinite where they never do.

    The quality must reach 0.5 somewhere in the first third of the curve. From the best place there on, the resolution
    is where it stays below for longer than the correlation's narrowest window; shorter dips are the noise of the
    correlation, and before the best place the first ring is hard to tell from the background.
    """
    first = int(np.searchsorted(curves.frequency, 1 / lowest_resolution))
    quality = curves.quality[first:]
    follows = quality >= np.maximum(_THRESHOLD, curves.noise[first:])
    early = np.where(follows, quality, -1.0)[: max(len(curves.frequency) // 3 - first, 1)]
    if early.max() < 0:
        return math.inf
    good = np.flatnonzero(follows)
    good = good[good >= early.argmax()]
    gaps = np.flatnonzero(np.diff(good) > _FEWEST)
    last = good[gaps[0]] if len(gaps) else good[-1]
    return float(1 / curves.frequency[first + last])


def alias_resolution(constants: CtfConstants, defocus: float, step: float, box: int) -> float:
    """Return the resolution in Å beyond which rings are closer than two samples; 0 where they never are."""
    frequency = np.asarray(np.arange(1, box // 2) * step, dtype=np.float64)
    aliased = np.flatnonzero(np.abs(constants.slope(frequency, defocus)) * 2 * step > np.pi)
    return float(1 / frequency[aliased[0]]) if len(aliased) else 0.0


def ice_ring_density(curves: RingCurves) -> float:
    """Return the sum of the radial average over the ring of crystalline ice, sample by sample, as RELION forms it."""
    each = curves.frequency[::PER_SAMPLE], curves.radial[::PER_SAMPLE]
    inside = (each[0] >= ICE_RING[0]) & (each[0] <= ICE_RING[1])
    return float(np.abs(each[1][inside]).sum())


def normalised(curve: NDArray[np.float64], curves: RingCurves) -> NDArray[np.float64]:
    """Scale a curve of rings so that it swings between about 0 and 1, as |CTF| does, for plots and files."""
    half = 4 * _FEWEST
    mean = uniform_filter1d(curve, 2 * half + 1, mode="nearest")
    swing = np.sqrt(uniform_filter1d((curve - mean) ** 2, 2 * half + 1, mode="nearest"))
    strongest = max(float(np.median(swing)), 1e-9)
    return np.asarray(np.clip(0.5 + (curve - mean) / (2 * math.sqrt(2) * np.maximum(swing, strongest)), -0.5, 1.5))
