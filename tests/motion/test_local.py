"""The model of local motion: its terms, its fit, and what outliers do to it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from vitrea.motion.local import LocalMotion, Patches, Trajectories, fit_local_motion, frame_groups, motion_basis


def random_model(seed: int = 3, frames: int = 20) -> LocalMotion:
    rng = np.random.default_rng(seed)
    scale = np.tile(2.0 / frames ** np.array([1.0, 2.0, 3.0]), 6)
    return LocalMotion(rng.normal(size=(2, 18)) * scale)


def trajectories(model: LocalMotion, noise: float = 0.0, seed: int = 5) -> Trajectories:
    line = np.linspace(-0.4, 0.4, 5)
    x, y = (grid.ravel() for grid in np.meshgrid(line, line))
    times = np.arange(20.0)
    shifts = model.shifts(times, x[:, None], y[:, None])
    shifts = shifts + np.random.default_rng(seed).normal(0, 1, shifts.shape) * noise
    return Trajectories(np.stack([x, y], axis=1), times, shifts, np.ones(25, dtype=bool))


def test_terms_are_in_relions_order() -> None:
    """RELION: (c0 z + c1 z² + c2 z³) + (c3 z + ...) x + (c6 ...) x² + (c9 ...) y + (c12 ...) y² + (c15 ...) xy."""
    z, x, y = 3.0, 0.25, -0.4
    expected = [s * t for s in (1, x, x**2, y, y**2, x * y) for t in (z, z**2, z**3)]
    assert motion_basis(np.array(z), np.array(x), np.array(y)).tolist() == pytest.approx(expected)
    model = random_model()
    terms = np.array([1, x, x**2, y, y**2, x * y])
    np.testing.assert_allclose(model.at_frame(z) @ terms, model.shifts(np.array(z), np.array(x), np.array(y)))


def test_no_motion_in_the_first_frame() -> None:
    assert random_model().shifts(np.array(0.0), np.array(0.3), np.array(0.1)).tolist() == [0, 0]


def test_exact_trajectories_give_the_model_back() -> None:
    model = random_model()
    found, rms = fit_local_motion(trajectories(model)) or pytest.fail("no fit")
    np.testing.assert_allclose(found.coefficients, model.coefficients, atol=1e-8)
    assert rms.max() < 1e-9


def test_a_constant_shift_of_a_patch_means_nothing() -> None:
    model = random_model()
    exact = trajectories(model)
    offsets = np.random.default_rng(2).normal(0, 5, (25, 1, 2))
    found, _ = fit_local_motion(replace(exact, shifts=exact.shifts + offsets)) or pytest.fail("no fit")
    np.testing.assert_allclose(found.coefficients, model.coefficients, atol=1e-7)


def test_outliers_count_little() -> None:
    model = random_model()
    measured = trajectories(model, noise=0.05)
    spoilt = measured.shifts.copy()
    rng = np.random.default_rng(9)
    wrong = rng.random(spoilt.shape[:2]) < 0.15
    spoilt[wrong] += rng.normal(0, 10, (int(wrong.sum()), 2))
    found, rms = fit_local_motion(replace(measured, shifts=spoilt)) or pytest.fail("no fit")
    times, (x, y) = measured.times, measured.centres.T
    error = found.shifts(times, x[:, None], y[:, None]) - model.shifts(times, x[:, None], y[:, None])
    error -= error.mean(axis=1, keepdims=True)
    assert np.sqrt((error**2).mean()) < 0.05
    assert rms.max() < 0.2


def test_patches_that_did_not_settle_are_left_out() -> None:
    model = random_model()
    measured = trajectories(model)
    shifts, good = measured.shifts.copy(), measured.converged.copy()
    shifts[:6] += np.random.default_rng(1).normal(0, 20, shifts[:6].shape)
    good[:6] = False
    found, _ = fit_local_motion(replace(measured, shifts=shifts, converged=good)) or pytest.fail("no fit")
    np.testing.assert_allclose(found.coefficients, model.coefficients, atol=1e-6)
    assert fit_local_motion(replace(measured, converged=np.arange(25) < 8)) is None


def test_mean_over_the_field_can_be_taken_out() -> None:
    model = random_model()
    rest, mean = model.without_mean()
    line = (np.arange(200) + 0.5) / 200 - 0.5
    x, y = np.meshgrid(line, line)
    for z in (1.0, 7.0):
        over_field = model.shifts(np.array(z), x, y).mean(axis=(0, 1))
        np.testing.assert_allclose(mean @ [z, z**2, z**3], over_field, atol=1e-4)
        np.testing.assert_allclose(rest.shifts(np.array(z), x, y).mean(axis=(0, 1)), 0, atol=1e-4)


@pytest.mark.parametrize(
    ("frames", "size", "lengths"),
    [(20, 1, [1] * 20), (20, 6, [6, 7, 7]), (7, 3, [3, 4]), (5, 9, [5]), (9, 2, [2, 2, 2, 3])],
)
def test_frames_are_grouped_and_the_rest_goes_to_the_last(frames: int, size: int, lengths: list[int]) -> None:
    groups = frame_groups(frames, size)
    assert [group.stop - group.start for group in groups] == lengths
    assert [i for group in groups for i in range(group.start, group.stop)] == list(range(frames))


def test_patches_share_the_field_evenly() -> None:
    patches = Patches(torch.zeros(4, 120, 200), (5, 3))
    assert len(patches) == 15
    np.testing.assert_allclose(patches.centres[:5, 0], np.linspace(-0.4, 0.4, 5), atol=0.01)
    np.testing.assert_allclose(patches.centres[::5, 1], [-1 / 3, 0, 1 / 3], atol=0.01)
    spectra = next(iter(patches))
    assert spectra.shape == (4, patches.shape[0], patches.shape[1] // 2 + 1)
