"""Which peaks are particles: the heights of all peaks as a mixture of noise and particles."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_ROUNDS = 200
_ENOUGH = 20  # peaks; of fewer nothing is learnt
_LEAST_SHARE = 0.01  # of particles among the peaks
_BEGINNINGS = (70.0, 90.0, 97.0, 99.0)  # percentiles of all heights at which a fit takes particles to be at first
_APART = 2.0  # times the decay of noise: so much above the lowest peaks are particles
_BOUNDS = (0.35, 0.75)  # of the usual height, between which the threshold lies
_DEFAULT = 0.5  # of the usual height, where the mixture tells nothing
_ROOT = float(np.sqrt(2 * np.pi))


@dataclass(frozen=True)
class PeakHeights:
    """What heights peaks have.

    Attributes
    ----------
    usual : float
        Height that particles have on average.
    threshold : float
        Height from which on a peak is rather a particle than noise.
    share : float
        Part of the peaks that are particles; 0 where the mixture could not be fitted.
    """

    usual: float
    threshold: float
    share: float


def fit_peak_heights(heights: NDArray[np.float64], lowest: float, noise: float) -> PeakHeights:
    """Fit a mixture by expectation maximisation: noise decays exponentially from `lowest` on, particles are Gaussian.

    High maxima of a Gaussian random field, and the side lobes of particles, fall off so; the heights of particles vary
    with their view, the ice and the noise.

    Parameters
    ----------
    heights : ndarray, shape [peaks]
        Of all micrographs together.
    lowest : float
        Peaks below it were left out.
    noise : float
        The threshold is not below it.

    Returns
    -------
    PeakHeights
        Where peaks are too few, or do not divide into two kinds, the threshold is half their median.
    """
    values = np.asarray(heights, dtype=np.float64)
    values = values[values > lowest]
    fitted = _fit(values, lowest) if len(values) >= _ENOUGH else None
    if fitted is None:
        usual = float(np.median(values[values > noise])) if (values > noise).any() else noise
        return PeakHeights(usual, max(noise, _DEFAULT * usual), 0.0)
    share, mean = fitted[:2]
    grid = np.linspace(lowest, mean, 512)
    particles, noises = _densities(grid, lowest, *fitted)
    below = np.flatnonzero(particles < noises)
    crossing = float(grid[below[-1]]) if len(below) else lowest
    low, high = (bound * mean for bound in _BOUNDS)
    return PeakHeights(mean, max(noise, min(max(crossing, low), high)), share)


def _densities(
    values: NDArray[np.float64], lowest: float, share: float, mean: float, sigma: float, decay: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the densities of particles and of noise, each times its share."""
    particles = share * np.exp(-0.5 * ((values - mean) / sigma) ** 2) / (sigma * _ROOT)
    noise = (1 - share) * np.exp(-(values - lowest) / decay) / decay
    return particles, noise


def _fit(values: NDArray[np.float64], lowest: float) -> tuple[float, float, float, float] | None:
    """Return share, mean and standard deviation of particles, and the decay of noise; None if there is one kind.

    Of the fits from several beginnings, many particles to few, it is the likeliest in which particles are higher.
    """
    fits = [fit for percentile in _BEGINNINGS if (fit := _fit_from(values, lowest, percentile)) is not None]
    return max(fits, key=lambda fit: float(np.log(sum(_densities(values, lowest, *fit))).sum()), default=None)


def _fit_from(
    values: NDArray[np.float64], lowest: float, percentile: float
) -> tuple[float, float, float, float] | None:
    """Fit from a percentile as the height of particles; None where what comes out is not noise and higher particles."""
    least = _LEAST_SHARE * len(values)
    start = float(np.percentile(values, percentile))
    share, mean = min(0.5, 2 * (1 - percentile / 100)), start
    sigma = max(float(values[values >= start].std()) / 2, float(values.std()) / 4, 1e-3)
    decay = max(float((values[values <= start] - lowest).mean()) / 2, 1e-3)
    for _ in range(_ROUNDS):
        particles, noise = _densities(values, lowest, share, mean, sigma, decay)
        weight = particles / np.maximum(particles + noise, 1e-300)
        total = float(weight.sum())
        if not least <= total <= (1 - 1e-3) * len(values):
            return None
        share, mean = total / len(values), float((weight * values).sum()) / total
        sigma = max(float(np.sqrt((weight * (values - mean) ** 2).sum() / total)), 1e-3)
        decay = max(float(((1 - weight) * (values - lowest)).sum()) / (len(values) - total), 1e-3)
    return (share, mean, sigma, decay) if mean > lowest + max(sigma, _APART * decay) else None
