"""From the best point of the search to the maximum of the likelihood."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from vitrea.kernels.thon_rings import ring_derivatives, sum_by_place
from vitrea.records.optics import Optics
from vitrea.thon_rings.samples import CtfConstants, ctf_constants, half_plane
from vitrea.thon_rings.search import Candidate, filter_gain, restraint
from vitrea.thon_rings.settings import FitSettings
from vitrea.thon_rings.spectrum import Floats

_ROUNDS = 3  # of estimating the strength of the rings and refining
_STEPS = 30  # of Newton's method, at most
_TOLERANCE = 0.02  # Å, and millirad of phase shift: steps below this end the refinement
_PER_RING = 16  # points of the averaged curve
_RINGS = 1.25  # to either side, from which the strength of a ring is taken
_LEAST_GAIN = 0.3  # of the filter that took the background off: what remains of rings is divided by it
_STRENGTH_SAMPLES = 12  # to either side, at least


@dataclass(frozen=True)
class FittedSamples:
    """The samples of a pattern that are fitted, and what chi depends on there.

    Attributes
    ----------
    values : ndarray, shape [samples]
    squared : ndarray, shape [samples]
        k² in 1/Å².
    cosine, sine : ndarray, shape [samples]
        Of twice the direction of k.
    constants : CtfConstants
    box : int
        Samples along a side of the spectrum.
    step, width : float
        1/Å: from sample to sample, and over which the pattern's background was averaged, rings included (0: without).
    """

    values: NDArray[np.float64]
    squared: NDArray[np.float64]
    cosine: NDArray[np.float64]
    sine: NDArray[np.float64]
    constants: CtfConstants
    box: int
    step: float
    width: float


def fitted_samples(pattern: Floats, optics: Optics, step: float, radii: tuple[int, int], width: int) -> FittedSamples:
    """Take the samples between two radii out of a ring pattern (`vitrea.thon_rings.background`)."""
    samples = half_plane(len(pattern))
    values = pattern.ravel()[samples.flat]
    inside = samples.within(*radii) & (values != 0)
    angle = 2 * samples.angle[inside]
    return FittedSamples(
        values[inside].astype(np.float64), (samples.radius[inside] * step) ** 2, np.cos(angle), np.sin(angle),
        ctf_constants(optics), len(pattern), step, width * step,
    )  # fmt: skip


def refine(start: Candidate, data: FittedSamples, settings: FitSettings) -> Candidate:
    """Move a candidate to the nearest maximum of the likelihood.

    The pattern is taken as rings of a strength that varies slowly with frequency, in noise of unit variance. The
    strength is estimated where the rings are thought to be, the parameters are refined with it by Newton's method, and
    so on: frequencies without rings lose their say.

    Returns
    -------
    Candidate
        Its score is the correlation of the pattern with rings of equal strength everywhere, as in the search.
    """
    basis, free = _basis(data, settings)
    point = _point(start, settings)
    for _ in range(_ROUNDS):
        candidate = _candidate(point, start, settings)
        strength, level = _rings(candidate, data)
        constant = _constant(candidate, data, settings)
        score = with_score(candidate, data, settings).score
        point = _newton(point, data.values - level, strength, basis, constant, _stiffness(free, score, settings))
    return with_score(_candidate(point, start, settings), data, settings)


def _basis(data: FittedSamples, settings: FitSettings) -> tuple[NDArray[np.float64], list[str]]:
    """Derivatives of chi [samples, free parameters]: mean defocus, astigmatism, phase shift."""
    scaled = -data.constants.linear * data.squared
    columns, names = [scaled], ["defocus"]
    if settings.known_astigmatism is None:
        columns += [scaled * data.cosine, scaled * data.sine]
        names += ["cosine", "sine"]
    if settings.fits_phase:
        columns.append(np.full(len(scaled), -1e-3))  # the phase shift is refined in millirad, of the size of Å
        names.append("phase")
    return np.ascontiguousarray(np.stack(columns, axis=1)), names


def _point(candidate: Candidate, settings: FitSettings) -> NDArray[np.float64]:
    values = [candidate.defocus]
    if settings.known_astigmatism is None:
        values += [candidate.cosine, candidate.sine]
    if settings.fits_phase:
        values.append(1e3 * candidate.phase_shift)
    return np.array(values)


def _candidate(point: NDArray[np.float64], start: Candidate, settings: FitSettings) -> Candidate:
    values = list(point)
    defocus = values.pop(0)
    cosine, sine = start.cosine, start.sine
    if settings.known_astigmatism is None:
        cosine, sine = values.pop(0), values.pop(0)
    phase = 1e-3 * values.pop(0) if settings.fits_phase else start.phase_shift
    return Candidate(float(defocus), float(cosine), float(sine), float(phase), start.score)


def _constant(candidate: Candidate, data: FittedSamples, settings: FitSettings) -> NDArray[np.float64]:
    """The part of chi that is not refined."""
    fixed = replace(candidate, defocus=0.0)
    if settings.known_astigmatism is None:
        fixed = replace(fixed, cosine=0.0, sine=0.0)
    if settings.fits_phase:
        fixed = replace(fixed, phase_shift=0.0)
    return phase_of(fixed, data)


def phase_of(candidate: Candidate, data: FittedSamples) -> NDArray[np.float64]:
    """Return chi of a CTF at the fitted samples, in radians."""
    defocus = candidate.defocus + candidate.cosine * data.cosine + candidate.sine * data.sine
    return data.constants.phase(data.squared, defocus, candidate.phase_shift)


def _gain(candidate: Candidate, data: FittedSamples) -> NDArray[np.float64]:
    return filter_gain(data.constants, np.sqrt(data.squared), candidate.defocus, data.width)


def _rings(candidate: Candidate, data: FittedSamples) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return strength of the rings and what the background's removal left beneath them, at each sample.

    Samples are averaged by phase, so that the pattern becomes a wave of known period, and about each half ring a wave
    and a constant, both with a slope, are fitted to it. Without the slopes the steep fall of a spectrum at low
    frequency would pass for a shift of the rings.
    """
    rings = phase_of(candidate, data) / -math.pi
    first = float(rings.min())
    place = (rings - first) * _PER_RING
    low = place.astype(np.int64)
    total, weight = sum_by_place(data.values, low, place - low, int(low.max()) + 2)
    curve = total / np.maximum(weight, 1e-9)
    number = first + np.arange(len(curve)) / _PER_RING
    nodes = np.arange(number[0], number[-1] + 0.5, 0.5)
    span = math.sqrt(float(data.squared.max())) - math.sqrt(float(data.squared.min()))
    # Rings are broad at low and narrow at high frequency, where more of them are averaged.
    frequency = np.linspace(0, 1, 256) * span + math.sqrt(float(data.squared.min()))
    along = data.constants.phase(frequency**2, candidate.defocus, candidate.phase_shift) / -math.pi
    slope = np.abs(np.interp(nodes, along, np.gradient(along, frequency)))
    reach = np.maximum(_RINGS, _STRENGTH_SAMPLES * data.step * slope)
    height, level = _local_waves(number, curve, weight, nodes, reach)
    strength = np.maximum(height, 0.0)
    # Where nothing is seen a trace is kept, so that rings may still appear there as the fit improves.
    strength = np.maximum(strength, 0.02 * strength.max() + 1e-6)
    return np.interp(rings, nodes, strength), np.interp(rings, nodes, level)


def _local_waves(
    number: NDArray[np.float64], curve: NDArray[np.float64], weight: NDArray[np.float64], nodes: NDArray[np.float64],
    reach: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:  # fmt: skip
    """Return heights of the wave and of the constant in a curve about each node; both may slope."""
    start, end = np.searchsorted(number, nodes - reach), np.searchsorted(number, nodes + reach)
    place = start[:, None] + np.arange((end - start).max())
    inside = place < end[:, None]
    place = np.minimum(place, len(number) - 1)
    away = (number[place] - nodes[:, None]) / reach[:, None]
    wave = -np.cos(2 * np.pi * number)[place]
    share = np.where(inside, weight[place] * (1 - away**2), 0.0)
    terms = np.stack([wave, np.ones_like(away), wave * away, away], axis=1)  # [nodes, 4, points]
    weighted = terms * share[:, None]
    # At the ends, where only one side is seen, the slopes are held back.
    held = np.diag([1e-6, 1e-6, 0.02, 0.02]) * np.maximum(share.sum(axis=1), 1e-9)[:, None, None]
    fitted = np.linalg.solve(weighted @ terms.transpose(0, 2, 1) + held, weighted @ curve[place][..., None])
    return fitted[:, 0, 0], fitted[:, 1, 0]


def relative_rings(candidate: Candidate, data: FittedSamples, noise: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the fitted rings relative to the background, at all samples of the half plane.

    Their strength is that at the nearest frequency that was fitted.

    Parameters
    ----------
    candidate : Candidate
    data : FittedSamples
    noise : ndarray, shape [radii]
        Of the pattern they were fitted to (`vitrea.thon_rings.background.RingPattern`).
    """
    samples = half_plane(data.box)
    order = np.argsort(data.squared)
    strength = _rings(candidate, data)[0] / np.maximum(_gain(candidate, data), _LEAST_GAIN)
    squared, angle = (samples.radius * data.step) ** 2, 2 * samples.angle
    everywhere = replace(data, squared=squared, cosine=np.cos(angle), sine=np.sin(angle))
    wave = -np.cos(2 * phase_of(candidate, everywhere))
    return np.asarray(
        np.interp(squared, data.squared[order], strength[order]) * wave * noise[np.rint(samples.radius).astype(int)]
    )


def _stiffness(free: list[str], score: float, settings: FitSettings) -> NDArray[np.float64]:
    """Curvature that the restraint on astigmatism adds, per Å², for each free parameter.

    CTFFIND4 takes (U - V)² / (2 tolerance² samples) off the correlation. The likelihood is half the square of the
    correlation, times the samples, so that there it is (U - V)² / (2 tolerance²) times the correlation.
    """
    stiffness = np.zeros(len(free))
    if settings.tolerated_astigmatism > 0:
        stiffness[[name in ("cosine", "sine") for name in free]] = (
            max(score, 0.0) * (2 / settings.tolerated_astigmatism) ** 2
        )
    return stiffness


def _newton(
    start: NDArray[np.float64], values: NDArray[np.float64], strength: NDArray[np.float64],
    basis: NDArray[np.float64], constant: NDArray[np.float64], stiffness: NDArray[np.float64],
) -> NDArray[np.float64]:  # fmt: skip
    """Maximise by Newton's method, damped as Levenberg and Marquardt do; never leaves a better point for a worse."""
    number = len(start)
    gradient, curvature = np.empty(number), np.empty((number, number))

    def evaluate(point: NDArray[np.float64]) -> tuple[float, NDArray[np.float64], NDArray[np.float64]]:
        value = ring_derivatives(values, strength, basis, constant, point, gradient, curvature)
        full = np.tril(curvature) + np.tril(curvature, -1).T
        slope = gradient - stiffness * point
        return float(value - 0.5 * (stiffness * point) @ point), slope, full - np.diag(stiffness)

    point, damping = start.copy(), 1e-3
    value, slope, bend = evaluate(point)
    for _ in range(_STEPS):
        # Far from the maximum the surface may curve the wrong way: the absolute eigenvalues point uphill.
        eigenvalues, vectors = np.linalg.eigh(bend)
        size = np.maximum(np.abs(eigenvalues), 1e-9 * np.abs(eigenvalues).max() + 1e-30)
        step = vectors @ ((vectors.T @ slope) / (size * (1 + damping)))
        trial = evaluate(point + step)
        if trial[0] >= value:
            point, (value, slope, bend), damping = point + step, trial, damping / 8
            if np.abs(step).max() < _TOLERANCE:
                break
        else:
            damping = max(8 * damping, 0.1)
            if damping > 1e6:
                break
    return point


def with_score(candidate: Candidate, data: FittedSamples, settings: FitSettings) -> Candidate:
    """Return the candidate with the correlation of the pattern and its rings, of equal strength everywhere."""
    model = -_gain(candidate, data) * np.cos(2 * phase_of(candidate, data))
    score = float(data.values @ model) / math.sqrt(max(float(data.values @ data.values) * float(model @ model), 1e-30))
    astigmatism = np.array(2 * math.hypot(candidate.cosine, candidate.sine))
    return replace(candidate, score=score - float(restraint(astigmatism, settings, len(data.values))))
