"""Local motion in orthonormal functions, drawn to zero by noise, refined on whole frames."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from vitrea.motion.field import PLACES, TIMES, MotionField, PlaceSums
from vitrea.motion.local import LocalMotion
from vitrea.motion.refinement import RefinedMotion, refine_motion
from vitrea.motion.shrinkage import shrink

from .synthetic_movies import bending, field_errors, make_movie

LINE = (np.arange(100) + 0.5) / 100 - 0.5
X, Y = (grid.ravel()[:, None] for grid in np.meshgrid(LINE, LINE))


def draw(seed: int = 4) -> NDArray[np.float64]:
    return np.random.default_rng(seed).normal(size=(PLACES, TIMES, 2))


@pytest.mark.parametrize("times", [np.arange(20.0), np.array([2.5, 8.5, 14.5, 20.5, 27.0])])
def test_coefficients_are_root_mean_squares_over_the_frame(times: NDArray[np.float64]) -> None:
    field, coefficients = MotionField(times), draw()
    shifts = field.model(coefficients).shifts(times, X, Y)
    varying = shifts - shifts.mean(axis=1, keepdims=True)  # what can be measured
    power = (varying**2).mean(axis=0).sum(axis=0)
    np.testing.assert_allclose(power, (coefficients**2).sum(axis=(0, 1)), rtol=1e-3)
    np.testing.assert_allclose(shifts.mean(axis=0), 0, atol=1e-3)


def test_models_are_split_into_mean_and_coefficients_and_back() -> None:
    times = np.arange(17.0)
    rng = np.random.default_rng(3)
    model = LocalMotion(rng.normal(size=(2, 18)) * np.tile(17.0 ** -np.array([1.0, 2.0, 3.0]), 6))
    field = MotionField(times)
    whole, coefficients = field.split(model)
    again = field.model(coefficients).shifts(times, X, Y) + whole
    np.testing.assert_allclose(again, model.shifts(times, X, Y), atol=1e-9)
    np.testing.assert_allclose(field.model(coefficients).without_mean()[1], 0, atol=1e-12)


def test_sums_over_places() -> None:
    image = torch.from_numpy(np.random.default_rng(2).normal(size=(30, 50))).float()
    sums = PlaceSums((30, 50), torch.device("cpu"))
    y, x = (np.arange(n) / n - 0.5 for n in (30, 50))
    u, v = x + 0 * y[:, None], y[:, None] + 0 * x
    functions = [
        1 + 0 * u,
        12**0.5 * u,
        180**0.5 * (u**2 - 1 / 12),
        12**0.5 * v,
        180**0.5 * (v**2 - 1 / 12),
        12 * u * v,
    ]
    np.testing.assert_allclose(sums.means(image), [(f * image.numpy()).mean() for f in functions], atol=1e-5)
    expected = [[(f * g * image.numpy()).mean() for g in functions] for f in functions]
    np.testing.assert_allclose(sums.products(image), expected, atol=1e-5)


def test_noise_draws_coefficients_to_zero_and_nothing_else_does() -> None:
    """Slow terms stand out and stay; fast ones are pure noise and go; without noise all stay."""
    information = np.stack([np.eye(PLACES)] * 2)
    true = draw() * np.array([3.0, 1.0, 0.0])[:, None]
    np.testing.assert_allclose(shrink(information, true, 1e-9), true, atol=1e-5)
    noise = 0.2
    errors = []
    for seed in range(20):
        measured = true + np.random.default_rng(seed).normal(0, noise, true.shape)
        found = shrink(information, measured, noise**2)
        errors.append([((one - true) ** 2).mean(axis=(0, 2)) for one in (measured, found)])
    plain, shrunk = np.mean(errors, axis=0)
    assert shrunk[2] < 0.25 * plain[2]
    assert (shrunk[:2] < 1.05 * plain[:2]).all()


def _refined(strength: float, contrast: float) -> tuple[RefinedMotion, float, float]:
    """Refine from nothing; also return the root-mean-square error in pixels after and before."""
    local = bending(14, strength)
    movie = make_movie(shape=(256, 240), frames=14, local=local, distance=0.0, contrast=contrast)
    used = torch.ones(256, 121, dtype=torch.bool)
    used[0, 0] = False
    none = np.zeros((14, 2))
    frames = torch.from_numpy(movie.frames)
    found = refine_motion(frames, np.arange(14.0), none, LocalMotion(np.zeros((2, 18))), used, (1.0, 1.0))
    after, before = (
        float(np.sqrt((field_errors(shifts, movie, local, model) ** 2).mean()))
        for shifts, model in ((found.shifts, found.model.coefficients), (none, None))
    )
    return found, after, before


def test_motion_is_found_from_nothing() -> None:
    found, after, before = _refined(3.0, contrast=0.08)
    assert before > 0.5
    assert after < 0.35 * before
    assert 0.03 < found.noise.min() <= found.noise.max() < 0.3


def test_a_specimen_that_does_not_bend_is_left_alone() -> None:
    found, _, _ = _refined(0.0, contrast=0.08)
    moves = found.model.shifts(np.arange(14.0), X, Y)
    assert np.sqrt(((moves - moves.mean(axis=1, keepdims=True)) ** 2).mean()) < 0.06
    # What is left of whole-frame shifts is noise of the size that is said.
    spread = (found.shifts - found.shifts.mean(axis=0)).std(axis=0)
    np.testing.assert_allclose(spread, found.noise, rtol=0.5)


def test_frames_without_anything_in_common_are_left_alone() -> None:
    noise = torch.from_numpy(np.random.default_rng(1).normal(size=(8, 64, 64))).float()
    alternating = noise - noise.roll(1, 0)  # frames that oppose each other
    used = torch.ones(64, 33, dtype=torch.bool)
    model = LocalMotion(np.zeros((2, 18)))
    found = refine_motion(alternating, np.arange(8.0), np.zeros((8, 2)), model, used, (1.0, 1.0))
    assert np.isfinite(found.shifts).all()
    assert np.abs(found.model.coefficients).max() == 0
