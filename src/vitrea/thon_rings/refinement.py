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
_STRENGTH_SAMPLES = 24  # over which the strength of the rings is averaged along the radius


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
    step, width : float
        1/Å: from sample to sample, and over which the pattern's background was averaged.
    """

    values: NDArray[np.float64]
    squared: NDArray[np.float64]
    cosine: NDArray[np.float64]
    sine: NDArray[np.float64]
    constants: CtfConstants
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
        ctf_constants(optics), step, width * step,
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
        strength = _strength(candidate, data)
        constant = _constant(candidate, data, settings)
        score = with_score(candidate, data, settings).score
        point = _newton(point, data.values, strength, basis, constant, _stiffness(free, score, settings))
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


def _strength(candidate: Candidate, data: FittedSamples) -> NDArray[np.float64]:
    """Strength of the rings at each sample, in units of the noise, as the background's removal left it."""
    model = -_gain(candidate, data) * np.cos(2 * phase_of(candidate, data))
    place = (np.sqrt(data.squared) - math.sqrt(float(data.squared.min()))) / (data.step * _STRENGTH_SAMPLES)
    low = place.astype(np.int64)
    bins = int(low.max()) + 2
    cross, _ = sum_by_place(data.values * model, low, place - low, bins)
    power, _ = sum_by_place(model * model, low, place - low, bins)
    strength = np.maximum(cross / np.maximum(power, 1e-9), 0.0)
    # Where nothing is seen a trace is kept, so that rings may still appear there as the fit improves.
    strength = np.maximum(strength, 0.02 * strength.max() + 1e-6)
    at_sample = np.interp(place, np.arange(bins), strength)
    return np.asarray(at_sample * _gain(candidate, data))


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
