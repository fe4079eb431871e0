"""The exhaustive search: every defocus, astigmatism and phase shift at once, as matrix products.

CTF^2 = (1 - cos 2 chi) / 2, and chi is linear in the defocus. The pattern is summed in sectors of a few degrees, each
of which sees one defocus, D = mean + c cos 2 theta + s sin 2 theta; one product with exp(2 i chi(k, D)) gives the
correlation of every sector with every defocus, and any astigmatic CTF is a sum of one number from each sector. The
phase shift that fits best is that sum's own phase, so its search costs nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from vitrea.kernels.thon_rings import search_rings
from vitrea.records.optics import Optics
from vitrea.thon_rings.samples import CtfConstants, ctf_constants, half_plane
from vitrea.thon_rings.settings import FitSettings
from vitrea.thon_rings.spectrum import Floats

SECTORS = 36
_PER_SAMPLE = 2  # radial bins per sample of the spectrum
_PHASE_STEP = 0.35  # radians of chi at the highest resolution from one tabulated defocus to the next
_COARSE = 3  # tabulated defoci from one mean defocus that is tried to the next


@dataclass(frozen=True)
class Candidate:
    """A CTF that the search found.

    Attributes
    ----------
    defocus : float
        Mean of U and V in Å.
    cosine, sine : float
        Half the astigmatism times cos and sin of twice its angle, in Å.
    phase_shift : float
        Radians.
    score : float
        Correlation of pattern and rings, less the restraint on astigmatism.
    """

    defocus: float
    cosine: float
    sine: float
    phase_shift: float
    score: float


@dataclass(frozen=True)
class SectorSums:
    """A ring pattern summed over sectors and radii.

    Attributes
    ----------
    values : ndarray of float32, shape [SECTORS, radii]
    counts : ndarray of float32, shape [SECTORS, radii]
        Samples in each.
    power : float
        Sum of the squares of the samples.
    """

    values: Floats
    counts: Floats
    power: float


@dataclass(frozen=True)
class _Table:
    """Rings of every tabulated defocus, filtered along the radius as the pattern was."""

    defocus: NDArray[np.float64]  # [defoci]
    waves: Floats  # [radii, 2 defoci]: cos, then sin, of 2 chi
    norm: Floats  # [radii, defoci]: squares of these, on average over the phase shift


def radial_range(box: int, step: float, settings: FitSettings) -> tuple[int, int]:
    """Return the first and last sample, by radius, that is fitted."""
    low = math.ceil(1 / (settings.lowest_resolution * step))
    return low, min(math.floor(1 / (settings.highest_resolution * step)), box // 2 - 2)


def sector_sums(pattern: Floats, low: int, high: int) -> SectorSums:
    """Sum the half plane of a pattern between two radii in `SECTORS` sectors and `_PER_SAMPLE` bins a sample."""
    samples = half_plane(len(pattern))
    values = pattern.ravel()[samples.flat]
    inside = samples.within(low, high) & (values != 0)
    bins = (high - low) * _PER_SAMPLE + 1
    radius = np.rint((samples.radius[inside] - low) * _PER_SAMPLE).astype(np.int64)
    sector = np.minimum(((samples.angle[inside] / np.pi + 0.5) * SECTORS).astype(np.int64), SECTORS - 1)
    place, chosen = sector * bins + radius, values[inside].astype(np.float64)
    total = np.bincount(place, weights=chosen, minlength=SECTORS * bins).reshape(SECTORS, bins)
    count = np.bincount(place, minlength=SECTORS * bins).reshape(SECTORS, bins)
    return SectorSums(total.astype(np.float32), count.astype(np.float32), float(chosen @ chosen))


@lru_cache(maxsize=4)
def _table(optics: Optics, settings: FitSettings, step: float, low: int, high: int, width: int) -> _Table:
    constants = ctf_constants(optics)
    frequency = np.asarray((low + np.arange((high - low) * _PER_SAMPLE + 1) / _PER_SAMPLE) * step, dtype=np.float64)
    spacing = min(settings.defocus_step, _PHASE_STEP / (constants.linear * float(frequency[-1]) ** 2))
    reach = _reach(settings)
    first, last = settings.defocus_min - reach, settings.defocus_max + reach
    defocus = np.asarray(first + spacing * np.arange(math.ceil((last - first) / spacing) + 2), dtype=np.float64)
    double = 2 * constants.phase(frequency[:, None] ** 2, defocus[None, :], 0.0)
    gain = filter_gain(constants, frequency[:, None], defocus[None, :], width * step)
    waves = np.concatenate([gain * np.cos(double), gain * np.sin(double)], axis=1)
    return _Table(defocus, waves.astype(np.float32), (0.5 * gain**2).astype(np.float32))


def _reach(settings: FitSettings) -> float:
    """How far, in Å, a direction's defocus may lie from the mean."""
    if settings.known_astigmatism is not None:
        return abs(settings.known_astigmatism[0]) / 2
    return settings.largest_astigmatism / 2


def filter_gain(
    constants: CtfConstants, frequency: NDArray[np.float64], defocus: NDArray[np.float64] | float, width: float
) -> NDArray[np.float64]:
    """Return what is left of the rings, locally waves cos(2 chi), once their mean over `width` (1/Å) is taken off.

    All of them where `width` is 0: the background was averaged without them.
    """
    if width == 0:
        return np.ones(np.broadcast(frequency, defocus).shape)
    return np.asarray(1 - np.sinc(constants.slope(frequency, defocus) * width / np.pi))


def search(
    sums: SectorSums, optics: Optics, settings: FitSettings, step: float, radii: tuple[int, int], width: int, best: int
) -> list[Candidate]:
    """Try every combination of defocus, astigmatism and phase shift.

    Parameters
    ----------
    sums : SectorSums
        Of the ring pattern between the radii.
    optics : Optics
    settings : FitSettings
    step : float
        1/Å per sample.
    radii : tuple of int
        First and last radius in samples.
    width : int
        Samples over which the pattern's background was averaged.
    best : int
        How many to return.

    Returns
    -------
    list of Candidate
        The best ones of well separated defoci, best first.
    """
    table = _table(optics, settings, step, *radii, width)
    defoci = len(table.defocus)
    correlation = sums.values @ table.waves  # [sectors, 2 defoci]
    spacing = float(table.defocus[1] - table.defocus[0])
    tried = (table.defocus >= settings.defocus_min - spacing) & (table.defocus <= settings.defocus_max + spacing)
    means = np.flatnonzero(tried)[::_COARSE]
    pairs = _astigmatisms(settings, spacing)
    theta = 2 * np.pi * ((np.arange(SECTORS) + 0.5) / SECTORS - 0.5)
    out = np.empty((len(means), len(pairs)))
    phase = np.empty_like(out)
    low, high = (2 * math.radians(value) for value in (settings.phase_min, settings.phase_max))
    search_rings(
        np.ascontiguousarray(correlation[:, :defoci]), np.ascontiguousarray(correlation[:, defoci:]), np.cos(theta),
        np.sin(theta), means, pairs, 1 / spacing, low, high, out, phase,
    )  # fmt: skip
    norm = sums.counts.sum(axis=0) @ table.norm[:, means]
    score = out / np.sqrt(np.maximum(norm, 1e-12) * max(sums.power, 1e-12))[:, None]
    score -= restraint(np.hypot(pairs[:, 0], pairs[:, 1]) * 2, settings, float(sums.counts.sum()))[None, :]
    return _best(score, phase, table.defocus[means], pairs, best, apart=4 * spacing * _COARSE)


def defocus_curve(
    sums: SectorSums, candidate: Candidate, optics: Optics, settings: FitSettings, step: float,
    radii: tuple[int, int], width: int,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:  # fmt: skip
    """Return mean defoci in Å and how a pattern goes with each, astigmatism and phase shift being a candidate's.

    The second is a sum over the samples; its expectation without rings is 0.
    """
    table = _table(optics, settings, step, *radii, width)
    defoci = len(table.defocus)
    correlation = (sums.values @ table.waves).astype(np.float64)
    theta = 2 * np.pi * ((np.arange(SECTORS) + 0.5) / SECTORS - 0.5)
    offset = candidate.cosine * np.cos(theta) + candidate.sine * np.sin(theta)
    cosine, sine = math.cos(2 * candidate.phase_shift), math.sin(2 * candidate.phase_shift)
    total = np.zeros(defoci)
    for sector in range(SECTORS):
        wave = -(correlation[sector, :defoci] * cosine + correlation[sector, defoci:] * sine)
        total += np.interp(table.defocus + offset[sector], table.defocus, wave)
    return table.defocus, total


def restraint(astigmatism: NDArray[np.float64], settings: FitSettings, samples: float) -> NDArray[np.float64]:
    """Return what CTFFIND4 takes off the correlation for an astigmatism in Å, with so many samples fitted."""
    if settings.tolerated_astigmatism <= 0:
        return np.zeros_like(astigmatism)
    return np.asarray((astigmatism / settings.tolerated_astigmatism) ** 2 / (2 * max(samples, 1.0)))


def _astigmatisms(settings: FitSettings, spacing: float) -> NDArray[np.float64]:
    """Components (cos, sin of twice the angle) of half the astigmatism in Å, on a grid as fine as the defoci tried."""
    if settings.known_astigmatism is not None:
        difference, angle = settings.known_astigmatism
        double = 2 * math.radians(angle)
        return np.array([[math.cos(double), math.sin(double)]]) * difference / 2
    coarse, reach = spacing * _COARSE, settings.largest_astigmatism / 2
    line = coarse * np.arange(-math.floor(reach / coarse), math.floor(reach / coarse) + 1)
    cosine, sine = (axis.ravel() for axis in np.meshgrid(line, line))
    inside = np.hypot(cosine, sine) <= reach
    return np.stack([cosine[inside], sine[inside]], axis=1)


def _best(
    score: NDArray[np.float64], phase: NDArray[np.float64], defocus: NDArray[np.float64], pairs: NDArray[np.float64],
    number: int, apart: float,
) -> list[Candidate]:  # fmt: skip
    pair = score.argmax(axis=1)
    line = score[np.arange(len(defocus)), pair]
    found: list[Candidate] = []
    for i in np.argsort(-line, kind="stable"):
        if all(abs(defocus[i] - one.defocus) >= apart for one in found):
            cosine, sine = pairs[pair[i]]
            shift = 0.5 * float(phase[i, pair[i]])
            found.append(Candidate(float(defocus[i]), float(cosine), float(sine), shift, float(line[i])))
        if len(found) == number:
            break
    return found
