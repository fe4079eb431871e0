"""The orientation of a gain is found from counts alone, and it is said where it cannot be."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from vitrea.formats.gain import ORIENTATIONS, GainOrientation
from vitrea.motion.gain_orientation import find_orientation

SIZE = 300


@pytest.fixture(scope="module")
def gain() -> NDArray[np.float32]:
    rng = np.random.default_rng(2)
    gain = rng.normal(1.0, 0.06, size=(SIZE, SIZE)) * (1 + 0.03 * rng.normal(size=SIZE))
    gain[17] = 0
    return gain.astype(np.float32)


def counts(gain: NDArray[np.float32], electrons: float, seed: int = 0) -> NDArray[np.int64]:
    """What a camera of this gain counts below a beam and a specimen that are not flat."""
    y, x = np.mgrid[:SIZE, :SIZE] / SIZE
    beam = np.exp(-((x - 0.4) ** 2) - (y - 0.7) ** 2) * (1 + 0.2 * np.sin(20 * x + 31 * y))
    efficiency = np.divide(1, gain, out=np.zeros_like(gain), where=gain > 0)
    total = np.random.default_rng(seed).poisson(electrons * beam * efficiency)
    total[5, 5] = 100_000  # a hot pixel
    return total


@pytest.mark.parametrize("orientation", ORIENTATIONS, ids=str)
def test_every_orientation_is_found(gain: NDArray[np.float32], orientation: GainOrientation) -> None:
    """20 electrons a pixel in all: 22% of noise over 6% of gain, yet a correlation of a quarter."""
    found = find_orientation(counts(orientation.turn(gain), 20), gain)
    assert found.verdict == "fits"
    assert found.best == orientation
    scores = dict(found.scores)
    best = scores.pop(orientation)
    expected = 0.067 / math.hypot(0.067, 1 / math.sqrt(20 * 0.75))
    assert best == pytest.approx(expected, abs=0.05)
    # Where columns stay columns their share of the pattern fits upside down, too: a fifth of it here.
    assert max(map(abs, scores.values())) < best / 3
    assert found.chance == pytest.approx(1 / SIZE)


def test_corrected_frames_and_other_cameras_fit_no_orientation(gain: NDArray[np.float32]) -> None:
    assert find_orientation(counts(gain, 50) * gain, gain).verdict == "none"
    other = np.random.default_rng(9).normal(1.0, 0.06, size=gain.shape).astype(np.float32)
    assert find_orientation(counts(other, 50), gain).verdict == "none"
    assert find_orientation(counts(gain, 50), np.ones_like(gain)).verdict == "none"


def test_a_gain_that_divides_is_told(gain: NDArray[np.float32]) -> None:
    alive = np.where(gain > 0, gain, 1)
    found = find_orientation(counts(GainOrientation(1).turn(alive), 50), 1 / alive)
    assert found.verdict == "divides"
    assert found.best == GainOrientation(1)


def test_oblong_gains_fit_in_four_ways_at_most(gain: NDArray[np.float32]) -> None:
    total = counts(gain, 50)[:, :200]
    found = find_orientation(total, gain[:, :200])
    assert found.best == GainOrientation()
    assert found.verdict == "fits"
    assert sum(math.isnan(score) for _, score in found.scores) == 4
    turned = find_orientation(total, GainOrientation(1).turn(gain[:, :200]))
    assert turned.best == GainOrientation(3)
    with pytest.raises(ValueError, match="in no orientation"):
        find_orientation(total, gain)
