"""Sorting of particles: how far out is each one, judged by what it leaves when its reference is subtracted?

The Z-score of RELION-1.3 (Scheres 2015, doi:10.1016/j.jsb.2014.11.010) is the mean over features of a particle's
distance from the mean, in standard deviations. What is done otherwise here, and why (see `features` for the features):

* Median and median absolute deviation instead of mean and standard deviation: junk does not widen its own yardstick.
* Features count on the side that is suspicious only: a particle is not worse for agreeing well with its reference.
* Features answer four questions, and squares are averaged within a question and then over questions: five related
  features do not outvote one that stands alone. The two bands of the agreement test one hypothesis with
  independent noise, so their deviations are added; agreement makes half of the score, as it is the
  one question that noise, picked because it looks like the reference, does not answer like a particle.
* Agreements are compared with what the class and the micrograph show, each within its own standard error, so that
  views, defoci and ice that give little signal are not held against a particle.
* Particles are compared with others of their class where it has enough of them. Nothing but the scale is compared
  within micrographs: a micrograph of junk must not become its own standard.

With Gaussian noise a typical good particle has a Z-score of about 0.5, and one of twenty exceeds 1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vitrea.records.particles import Particles
from vitrea.selection.differences import (
    PairMaker,
    SmallBox,
    difference,
    fit_scale,
    noise_spectrum,
    shell_power,
)
from vitrea.selection.features import AGREEMENT, FEATURES, make_features

Floats = NDArray[np.float64]
# Fewer particles of a class than this are compared with all particles instead.
FEWEST_IN_CLASS = 50
# A micrograph's own scale counts as much as the class's where it has this many particles.
_MICROGRAPH_WEIGHT = 20
_SCALE_RANGE = (0.5, 2.0)
_MAD_TO_SD = 1.4826
# Standard deviations by which a good agreement in one band can excuse a bad one in the other.
_MOST_CREDIT = 1.0


class UnusableImagesError(ValueError):
    """There is no image to measure the noise on."""


@dataclass(frozen=True)
class FeatureTable:
    """Features of many particles.

    Attributes
    ----------
    values : ndarray, shape [particles, features]
        As `FeatureMaker.features` gives them; a row of NaN: an image that cannot be used.
    strength : ndarray, shape [particles, 2]
    """

    values: Floats
    strength: Floats


def measure_features(
    maker: PairMaker,
    particles: Particles,
    classes: NDArray[np.int64],
    load: Callable[[NDArray[np.int64]], NDArray[np.float32]],
    chunks: Iterable[NDArray[np.int64]],
    diameter: float,
    probe: NDArray[np.int64],
) -> FeatureTable:
    """Compute the features of all particles, reading each image once (and some a second time, for the noise).

    Parameters
    ----------
    maker : PairMaker
    particles : Particles
        With poses, and defocus where the CTF is applied.
    classes : ndarray of int64, shape [particles]
        Index of each particle's reference.
    load : callable
        ``load(rows)`` returns images as float32, shape [rows, n, n].
    chunks : iterable of ndarray of int64
        All rows, in the portions in which they are to be held in memory.
    diameter : float
        Of the particle, Å.
    probe : ndarray of int64
        Rows the noise spectrum is measured on.

    Raises
    ------
    UnusableImagesError
        If none of the images of `probe` can be used.
    """
    whitening = measure_whitening(maker, particles, classes, load, probe)
    features = make_features(SmallBox(maker.samples, maker.radius), diameter, maker.pixel_size)
    values = np.full((len(particles), len(FEATURES)), np.nan)
    strength = np.zeros((len(particles), len(AGREEMENT)))
    for rows in chunks:
        images = load(rows)
        good = usable(images)
        if good.any():
            kept = rows[good]
            pairs = maker.pairs(torch.from_numpy(images[good]), particles.rows(kept), classes[kept])
            values[kept], strength[kept] = features.features(pairs, whitening)
    return FeatureTable(values, strength)


def usable(images: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Tell which images (shape [images, n, n]) hold finite numbers that are not all equal; shape [images]."""
    flat = images.reshape(len(images), -1)
    low, high = flat.min(axis=1), flat.max(axis=1)  # NaN passes through both
    return np.asarray(np.isfinite(low) & np.isfinite(high) & (low < high))


def measure_whitening(
    maker: PairMaker,
    particles: Particles,
    classes: NDArray[np.int64],
    load: Callable[[NDArray[np.int64]], NDArray[np.float32]],
    probe: NDArray[np.int64],
) -> Tensor:
    """Measure the noise on the differences of some particles (`probe`); arguments as in `measure_features`.

    Returns
    -------
    Tensor of float32, shape [samples]
        1 / sigma of each sample.

    Raises
    ------
    UnusableImagesError
        If none of the images can be used.
    """
    even = torch.ones(len(maker.samples))
    power = []
    for rows in np.array_split(probe, max(1, len(probe) // 100)):
        images = load(rows)
        good = usable(images)
        if not good.any():
            continue
        pairs = maker.pairs(torch.from_numpy(images[good]), particles.rows(rows[good]), classes[rows[good]])
        power.append(shell_power(maker.samples, difference(pairs, fit_scale(pairs, even)[0].clamp(min=0))))
    if not power:
        raise UnusableImagesError("none of the images can be used")
    sigma2 = noise_spectrum(np.concatenate(power))
    return torch.from_numpy(sigma2[maker.samples.shell] ** -0.5).float()


def z_scores(
    table: FeatureTable, classes: NDArray[np.int64], micrographs: NDArray[np.int64], minimum: float = 0.0
) -> tuple[Floats, Floats]:
    """Turn features into one Z-score per particle: 0 is an ideal particle, large values are junk.

    Parameters
    ----------
    table : FeatureTable
    classes, micrographs : ndarray of int64, shape [particles]
        Index of the reference and of the micrograph of each particle.
    minimum : float
        Deviations of a feature below this many standard deviations count as none (RELION's ``--min_z``).

    Returns
    -------
    score : ndarray, shape [particles]
        NaN for rows of NaN.
    deviations : ndarray, shape [particles, features]
        Of each feature in robust standard deviations, positive where suspicious; 0 for features that are NaN for all.
    """
    values = table.values.copy()
    values[:, AGREEMENT] = _agreement(table, classes, micrographs)
    deviations = np.zeros_like(values)
    for rows in comparable(classes):
        deviations[rows] = _robust_deviations(values[rows])
    sides = np.array([feature.sides for feature in FEATURES])
    deviations = np.where(sides == 0, np.abs(deviations), deviations * sides)
    score = _combine(deviations, np.asarray(~np.isnan(values).all(axis=0)), minimum)
    score[np.isnan(table.values).all(axis=1)] = np.nan
    return score, deviations


def _combine(deviations: Floats, present: NDArray[np.bool_], minimum: float) -> Floats:
    """Combine suspicious deviations, shape [particles, features], into one score; `present` says which are known."""
    agreement = np.maximum(deviations[:, AGREEMENT], -_MOST_CREDIT).sum(axis=1) / len(AGREEMENT) ** 0.5
    others = []
    rest = [i for i in range(len(FEATURES)) if i not in AGREEMENT and present[i]]
    for name in dict.fromkeys(FEATURES[i].group for i in rest):
        columns = [i for i in rest if FEATURES[i].group == name]
        others.append(np.mean(_count(deviations[:, columns], minimum) ** 2, axis=1))
    return np.asarray(np.sqrt((_count(agreement, minimum) ** 2 + np.mean(others, axis=0)) / 2))


def _count(deviations: Floats, minimum: float) -> Floats:
    """Leave of deviations what is suspicious and not below the minimum."""
    return np.where(deviations >= minimum, np.maximum(deviations, 0.0), 0.0)


def comparable(classes: NDArray[np.int64]) -> Sequence[NDArray[np.int64]]:
    """Divide particles (rows) into sets that are compared among themselves: large classes, and all others together."""
    _, place, counts = np.unique(classes, return_inverse=True, return_counts=True)
    large = counts >= FEWEST_IN_CLASS
    sets = [np.flatnonzero(place == i) for i in np.flatnonzero(large)]
    rest = np.flatnonzero(~large[place])
    if len(rest) >= FEWEST_IN_CLASS or not sets:
        return [part for part in [*sets, rest] if len(part)]
    # Too few to know what is usual among them: they join the largest class.
    sets.sort(key=len)
    return [*sets[:-1], np.concatenate([sets[-1], rest])]


def _agreement(table: FeatureTable, classes: NDArray[np.int64], micrographs: NDArray[np.int64]) -> Floats:
    """Agreements as deviations from what is usual, in their own standard errors, shape [particles, 2]."""
    scale = table.values[:, AGREEMENT]
    usual = np.ones_like(scale)
    for rows in comparable(classes):
        known = rows[np.isfinite(scale[rows, 0])]
        if len(known):
            usual[rows] = np.median(scale[known], axis=0)
    relative = scale[:, 0] / np.where(usual[:, 0] > 0, usual[:, 0], 1.0)
    factor = np.ones(len(scale))
    known = np.flatnonzero(np.isfinite(relative))
    known = known[np.argsort(micrographs[known], kind="stable")]
    for rows in np.split(known, np.flatnonzero(np.diff(micrographs[known])) + 1):
        if len(rows):
            own = (len(rows) * np.median(relative[rows]) + _MICROGRAPH_WEIGHT) / (len(rows) + _MICROGRAPH_WEIGHT)
            factor[rows] = np.clip(own, *_SCALE_RANGE)
    return np.asarray((scale - usual * factor[:, None]) * table.strength)


def _robust_deviations(values: Floats) -> Floats:
    """Distance from the median in robust standard deviations, shape of `values`; NaN become 0."""
    out = np.zeros_like(values)
    for column in range(values.shape[1]):
        finite = np.isfinite(values[:, column])
        if finite.any():
            centred = values[finite, column] - np.median(values[finite, column])
            spread = _MAD_TO_SD * np.median(np.abs(centred)) or float(np.abs(centred).mean())
            out[finite, column] = centred / spread if spread > 0 else 0.0
    return out
