"""Which way up a gain reference lies on the frames: all eight flips and rotations against what was counted."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from vitrea.formats.gain import ORIENTATIONS, GainOrientation

Verdict = Literal["fits", "divides", "none"]

_WINDOW = 31  # pixels; what is smoother belongs to beam and specimen, not to single pixels
_CLIP = 5.0  # standard deviations; hot pixels must not decide
_SIGNIFICANT = 6.0  # standard deviations of a chance correlation


@dataclass(frozen=True)
class OrientationTest:
    """How well each orientation of a gain explains a sum of uncorrected frames.

    Attributes
    ----------
    scores : tuple of (GainOrientation, float)
        All eight. The score is the correlation of the counts with the inverse of the gain, pixel by pixel, from -1 to
        1; NaN where the shape does not fit.
    chance : float
        Standard deviation of a score that is chance.
    best : GainOrientation
        That of the highest score; where the verdict is "divides" of the lowest.
    verdict : "fits", "divides" or "none"
        Whether it explains the counts; or its inverse would, so that the file divides instead of multiplying; or no
        orientation stands out: the frames are corrected already, or the gain belongs to another camera or day.
    """

    scores: tuple[tuple[GainOrientation, float], ...]
    chance: float
    best: GainOrientation
    verdict: Verdict


def find_orientation(total: NDArray[Any], gain: NDArray[np.float32]) -> OrientationTest:
    """Compare a sum of frames as they were counted with all orientations of a gain.

    A pixel that counts too few electrons has a gain above 1. Counts and inverse gain are divided by their local means,
    which takes beam and specimen away, and correlated.

    Parameters
    ----------
    total : ndarray, shape [y, x]
        Sum of many uncorrected frames, better of several movies: the more electrons, the clearer.
    gain : ndarray of float32, shape [y, x] or [x, y]
        To be multiplied; zeros are dead pixels.

    Raises
    ------
    ValueError
        If no orientation has the shape of the frames.
    """
    counted = _fine_structure(np.asarray(total, dtype=np.float32))
    inverse = _fine_structure(np.divide(1.0, gain, out=np.zeros_like(gain), where=gain > 0))
    scores = []
    for orientation in ORIENTATIONS:
        turned = orientation.turn(inverse)
        scores.append(_correlation(counted, turned) if turned.shape == counted.shape else math.nan)
    if all(map(math.isnan, scores)):
        raise ValueError(f"a gain of shape {gain.shape} fits frames of shape {total.shape} in no orientation")
    chance = 1.0 / math.sqrt(counted.size)
    ranked = sorted(score for score in scores if not math.isnan(score))
    verdict: Verdict = "none"
    if ranked[-1] - ranked[-2] > _SIGNIFICANT * chance and ranked[-1] > abs(ranked[0]):
        verdict = "fits"
    elif ranked[1] - ranked[0] > _SIGNIFICANT * chance and -ranked[0] > ranked[-1]:
        verdict = "divides"
    extreme = ranked[0] if verdict == "divides" else ranked[-1]
    best = ORIENTATIONS[scores.index(extreme)]
    return OrientationTest(tuple(zip(ORIENTATIONS, scores, strict=True)), chance, best, verdict)


def _fine_structure(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the relative deviation from the local mean, zero at dead pixels, extremes cut; mean 0."""
    from scipy.ndimage import uniform_filter

    alive = (image > 0).astype(np.float32)
    # Means over living pixels only; a pixel without a living neighbour is dead itself.
    mean = uniform_filter(image * alive, _WINDOW)
    share = uniform_filter(alive, _WINDOW)
    fine: NDArray[np.float32] = np.divide(image * share, mean, out=np.ones_like(image), where=mean > 0) - np.float32(1)
    fine *= alive
    limit = _CLIP * float(fine.std(dtype=np.float64))
    np.clip(fine, -limit, limit, out=fine)
    fine -= fine.mean(dtype=np.float64)
    return fine


def _correlation(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    norm = math.sqrt(float(np.square(one).sum(dtype=np.float64)) * float(np.square(other).sum(dtype=np.float64)))
    return float((one * other).sum(dtype=np.float64)) / norm if norm > 0 else 0.0
