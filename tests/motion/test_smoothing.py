"""Smoothing of shifts over time."""

from __future__ import annotations

import numpy as np
import pytest

from vitrea.motion.smoothing import polynomial_smooth, savitzky_golay, spline_smooth

from .synthetic_movies import drift


def noisy(frames: int, deviation: float) -> tuple[np.ndarray, np.ndarray]:
    path = drift(frames, 10.0)
    return path, path + np.random.default_rng(4).normal(0, deviation, path.shape)


def test_straight_lines_pass_unchanged() -> None:
    line = np.arange(12.0)[:, None] * [0.5, -2.0]
    np.testing.assert_allclose(savitzky_golay(line, 5), line, atol=1e-12)
    np.testing.assert_allclose(polynomial_smooth(line, 4), line, atol=1e-12)


def test_spline_takes_most_of_the_noise_and_little_of_the_path() -> None:
    path, measured = noisy(40, 0.3)
    smooth = spline_smooth(measured)
    assert np.sqrt(np.mean((smooth - path) ** 2)) < 0.15
    clean, exact = noisy(40, 0.0)
    np.testing.assert_allclose(spline_smooth(exact), clean, atol=0.02)


def test_window_follows_savitzky_and_golay() -> None:
    values = np.random.default_rng(1).normal(size=(9, 1))
    smooth = savitzky_golay(values, 3)
    # A line fitted to three points passes through their mean in the middle.
    np.testing.assert_allclose(smooth[1:-1, 0], np.convolve(values[:, 0], np.ones(3) / 3, mode="valid"))
    # At the end it is the value of the last line, (-1, 2, 5) / 6.
    assert smooth[-1, 0] == pytest.approx(values[-3:, 0] @ [-1, 2, 5] / 6)
    np.testing.assert_array_equal(savitzky_golay(values, 4), savitzky_golay(values, 5))


@pytest.mark.parametrize("frames", [3, 4])
def test_short_movies_are_left_alone(frames: int) -> None:
    values = np.random.default_rng(1).normal(size=(frames, 2))
    np.testing.assert_array_equal(spline_smooth(values), values)
    np.testing.assert_array_equal(savitzky_golay(values, 5), values)
    assert polynomial_smooth(values, 4).shape == values.shape


def test_arguments_are_not_changed() -> None:
    values = np.random.default_rng(1).normal(size=(8, 2))
    before = values.copy()
    for smooth in (spline_smooth(values), savitzky_golay(values, 3), polynomial_smooth(values, 4)):
        assert smooth is not values
        np.testing.assert_array_equal(values, before)


def test_known_noise_decides_the_stiffness() -> None:
    """The error of smoothed paths, averaged over many, is below that of cross-validation, which short paths mislead."""
    time = np.arange(16.0)
    clean = np.stack([8 * (1 - np.exp(-time / 4)) + 0.2 * time, 0 * time], axis=1)
    errors = []
    for seed in range(40):
        measured = clean + np.random.default_rng(seed).normal(0, 0.3, clean.shape)
        known, guessed = spline_smooth(measured, np.array([0.3, 0.3])), spline_smooth(measured)
        errors.append([((one - clean) ** 2).mean() for one in (measured, guessed, known)])
    raw, guessed, known = np.mean(errors, axis=0)
    assert known < 0.95 * guessed < 0.5 * raw
    # Noise that is nothing leaves everything; noise that is all leaves a straight line.
    np.testing.assert_allclose(spline_smooth(measured, np.array([1e-6, 1e-6])), measured, atol=1e-3)
    line = spline_smooth(measured[:, 1:], np.array([50.0]))[:, 0]
    root = np.sqrt(time + 1)
    np.testing.assert_allclose(line, np.polyval(np.polyfit(root, measured[:, 1], 1), root), atol=0.02)
    np.testing.assert_array_equal(spline_smooth(measured, np.zeros(2)), spline_smooth(measured))
