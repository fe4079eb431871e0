"""Normalisation against what it is defined to do, on images whose background is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from vitrea.extraction import background as module
from vitrea.extraction.background import Background, Normalisation, normalise


def images_with_ramps(size: int, count: int = 5, level: float = 1000.0) -> NDArray[np.float32]:
    rng = np.random.default_rng(size)
    y, x = np.mgrid[:size, :size] - size // 2
    ramps = level + rng.normal(0, 2, (count, 1, 1)) * x + rng.normal(0, 2, (count, 1, 1)) * y
    ramps = ramps + rng.normal(0, 3, (count, size, size)) + 50 * (x**2 + y**2 < (size / 5) ** 2)
    return ramps.astype(np.float32)


@settings(max_examples=15, deadline=None)
@given(size=st.integers(12, 65), level=st.sampled_from([0.0, 1.0, 3e4]))
def test_the_background_has_no_slope_no_mean_and_deviation_one(size: int, level: float) -> None:
    images = images_with_ramps(size, level=level)
    circle = Background(size, 0.375 * size)
    assert normalise(images, circle, Normalisation(circle.radius), np.random.default_rng()).all()
    weights, plane = circle.weights, circle.plane
    pixels = images.reshape(5, -1).astype(np.float64)
    slopes = pixels @ (plane * weights).T / circle.count
    assert np.abs(slopes).max() < 1e-5 * size
    assert np.sqrt(pixels**2 @ weights / circle.count) == pytest.approx(np.ones(5), rel=1e-5)
    centre = images[:, size // 2, size // 2]
    assert (centre > 5).all()  # the particle, 50 / 3 above the background, is not fitted away


def test_without_ramp_slopes_stay() -> None:
    images = images_with_ramps(32)
    flat, sloped = images.copy(), images.copy()
    circle = Background(32, 12)
    for result, ramp in ((flat, True), (sloped, False)):
        normalise(result, circle, Normalisation(12, ramp), np.random.default_rng())
    slope = sloped.reshape(5, -1) @ (circle.plane * circle.weights).T[:, 1:]
    assert np.abs(slope).max() > 100
    assert np.abs(flat.reshape(5, -1) @ (circle.plane * circle.weights).T[:, 1:]).max() < 0.1


def test_the_sign_turns_the_contrast() -> None:
    images = images_with_ramps(24)
    other = images.copy()
    for result, sign in ((images, 1.0), (other, -1.0)):
        normalise(result, Background(24, 9), Normalisation(9), np.random.default_rng(), sign)
    assert np.array_equal(other, -images)


def test_how_images_are_cut_up_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Dust, too: its random values come in the order of the images."""
    images = images_with_ramps(24, count=9)
    images[:, 3, 4] += 200
    results = []
    for pixels in (24 * 24, 1 << 17):
        monkeypatch.setattr(module, "_PIECE_PIXELS", pixels)
        one = images.copy()
        normalise(one, Background(24, 9), Normalisation(9, True, 5, 5), np.random.default_rng(3))
        results.append(one)
    assert np.allclose(*results, atol=2e-6)
    assert np.abs(results[0][:, 3, 4]).max() < 5


@pytest.mark.parametrize(("white", "black", "left"), [(6, 0, 1), (0, 6, 1), (6, 6, 0), (100, 100, 2)])
def test_dust_of_either_colour(white: float, black: float, left: int) -> None:
    rng = np.random.default_rng(2)
    images = rng.normal(size=(1, 40, 40)).astype(np.float32)
    images[0, 2, 3], images[0, 30, 2] = 30, -30
    normalise(images, Background(40, 15), Normalisation(15, True, white, black), rng)
    assert np.count_nonzero(np.abs(images) > 8) == left


def test_images_that_cannot_be_normalised_are_told() -> None:
    images = images_with_ramps(24, count=4)
    images[1] = 3e4
    images[2, 0, 0] = np.nan
    for dust in (0.0, 5.0):
        result = images.copy()
        usable = normalise(result, Background(24, 9), Normalisation(9, True, dust, dust), np.random.default_rng())
        assert usable.tolist() == [True, False, False, True]


def test_a_circle_must_leave_some_background() -> None:
    with pytest.raises(ValueError, match="leaves no background"):
        Background(16, 12)
