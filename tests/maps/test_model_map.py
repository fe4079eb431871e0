"""Map and model: FSC as noise predicts it, masks, correlations of parts, places and hands found."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from vitrea.fourier.filters import apply_bfactor
from vitrea.fourier.shells import radial_power_spectrum
from vitrea.maps.masking import sphere_mask
from vitrea.maps.model_fit import HAND_IS_CLEAR, compare_hands, fit_model, score_shifts
from vitrea.maps.model_map import ModelFsc, as_seen, correlations_of_parts, mask_around_atoms, model_fsc
from vitrea.maps.spectral_sharpening import change_hand
from vitrea.maps.transform import Placement, place_map

SIZE, VOXEL = 40, 3.0
Array = NDArray[np.float32]


@pytest.fixture(scope="module")
def atoms() -> NDArray[np.float64]:
    """A chain that winds through the box without symmetry; x, y, z in voxels from its centre."""
    t = np.linspace(0, 1, 400)
    path = np.stack([9 * np.cos(9 * t), 7 * np.sin(9 * t) + 3 * t, 18 * t - 9], axis=1)
    return path + np.random.default_rng(0).normal(0, 1.0, path.shape)


@pytest.fixture(scope="module")
def model(atoms: NDArray[np.float64]) -> Array:
    """Gaussian balls of 1.1 voxels at the atoms."""
    axis = np.arange(SIZE) - SIZE // 2
    lines = np.exp(-((axis - atoms[:, :, None]) ** 2) / (2 * 1.1**2))
    return np.einsum("bz,by,bx->zyx", lines[:, 2], lines[:, 1], lines[:, 0]).astype(np.float32)


@pytest.fixture(scope="module")
def mask(atoms: NDArray[np.float64]) -> Array:
    return mask_around_atoms(atoms, SIZE, 2.0, 4.0)


def noisy(model: Array, sigma: float, seed: int) -> Array:
    return (model + np.random.default_rng(seed).normal(0, sigma, model.shape)).astype(np.float32)


def test_fsc_is_what_the_noise_predicts(model: Array, mask: Array) -> None:
    """With white noise of power N on a signal S: sqrt(S / (S + N)), inside the mask with its share of the noise."""
    sigma = 0.6
    signal = radial_power_spectrum(torch.from_numpy(model * mask), 3).double().numpy()
    noise = sigma**2 * np.mean(mask.astype(float) ** 2)
    predicted = np.sqrt(signal / (signal + noise))
    curves = [model_fsc(model, noisy(model, sigma, seed), VOXEL, mask).masked for seed in range(6)]
    # Six draws, of shells with 300 independent components and more inside the mask.
    assert np.abs(np.mean(curves, axis=0) - predicted)[6:].max() < 0.05
    assert predicted[6] > 0.9
    assert predicted[-1] < 0.2


def test_half_maps_tell_what_a_perfect_model_reaches_and_over_fitting(model: Array, mask: Array) -> None:
    halves = noisy(model, 0.5, 1), noisy(model, 0.5, 2)
    mean = (halves[0] + halves[1]) / 2
    perfect = model_fsc(model, mean, VOXEL, mask, halves)
    assert perfect.expected is not None
    assert perfect.work is not None
    assert perfect.free is not None
    reached = perfect.halves > 0.1 if perfect.halves is not None else None
    assert reached is not None
    assert np.abs(perfect.masked - perfect.expected)[reached].max() < 0.12
    resolution = perfect.resolution_at(0.5)
    assert perfect.mean(perfect.work, resolution) == pytest.approx(perfect.mean(perfect.free, resolution), abs=0.03)
    # A "model" that has taken up noise of the first half.
    fitted = model_fsc(0.7 * model + 0.3 * halves[0], mean, VOXEL, mask, halves)
    assert fitted.work is not None
    assert fitted.free is not None
    assert fitted.mean(fitted.work, resolution) > fitted.mean(fitted.free, resolution) + 0.05


def test_a_mask_makes_no_agreement_out_of_noise(model: Array, mask: Array) -> None:
    curves = [
        model_fsc(model, np.random.default_rng(seed).normal(size=model.shape), VOXEL, mask).masked for seed in range(8)
    ]
    assert np.abs(np.mean(curves, axis=0)[3:]).max() < 0.15
    assert np.abs(np.mean(curves, axis=0)[8:]).max() < 0.06


def test_mean_fsc_counts_samples() -> None:
    curve = np.r_[1.0, np.linspace(1, 0, 20)]
    fsc = ModelFsc(VOXEL, SIZE, curve, curve)
    full = np.fft.fftfreq(SIZE, 1 / SIZE)
    shell = np.rint(np.sqrt(full[:, None, None] ** 2 + full[:, None] ** 2 + full**2)).astype(int)
    chosen = (shell >= 1) & (shell <= 10)
    assert fsc.mean(curve, SIZE * VOXEL / 10) == pytest.approx(curve[shell[chosen]].mean())


def test_the_mask_is_around_the_atoms() -> None:
    mask = mask_around_atoms(np.array([[5.0, 0.0, -3.0], [100.0, 0.0, 0.0]]), 32, 3.0, 4.0)
    assert mask[16 - 3, 16, 16 + 5] == 1
    assert mask[16 - 3, 16, 16 + 3] == 1
    assert 0 < mask[16 - 3, 16, 16] < 1
    assert mask[16 - 3, 16, 16 - 3] == 0
    with pytest.raises(ValueError, match="no atom lies in the box"):
        mask_around_atoms(np.array([[40.0, 0.0, 0.0]]), 32, 3.0, 4.0)
    with pytest.raises(ValueError, match="fills the box"):
        mask_around_atoms(np.zeros((1, 3)), 8, 20.0, 4.0)


def test_the_model_as_the_map_shows_it_is_damped_like_the_map(model: Array, mask: Array) -> None:
    damped = 3.0 * apply_bfactor(torch.from_numpy(model), 300.0, VOXEL).numpy()
    seen = as_seen(model, damped + 5.0, mask)
    inside = mask == 1
    # The mask mixes shells a little.
    assert np.corrcoef(seen[inside], damped[inside])[0, 1] > 0.99
    assert np.polyfit(seen[inside], damped[inside], 1)[0] == pytest.approx(1.0, abs=0.05)


def test_parts_that_do_not_fit_stand_out(model: Array, atoms: NDArray[np.float64]) -> None:
    parts = np.arange(400) // 50
    axis = np.arange(SIZE) - SIZE // 2
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
    part = atoms[150:200].mean(axis=0)
    near = (x - part[0]) ** 2 + (y - part[1]) ** 2 + (z - part[2]) ** 2 < 5**2
    damaged = np.where(near, np.random.default_rng(3).normal(1, 1, model.shape), model).astype(np.float32)
    values = correlations_of_parts(model, damaged, atoms, parts, 2.0)
    assert values[3] < 0.6
    assert (np.delete(values, [2, 3, 4]) > 0.8).all()
    assert np.allclose(correlations_of_parts(model, 2 * model + 1, atoms, parts, 2.0), 1.0)


def test_correlations_equal_pearsons_over_the_voxels_near_a_part(model: Array, atoms: NDArray[np.float64]) -> None:
    other = noisy(model, 0.3, 4)
    axis = np.arange(SIZE) - SIZE // 2
    grid = np.stack(np.meshgrid(axis, axis, axis, indexing="ij")[::-1], axis=-1)
    near = np.zeros(model.shape, dtype=bool)
    for place in atoms[60:75]:
        near |= ((grid - place) ** 2).sum(axis=-1) <= 1.7**2
    parts = np.where((np.arange(400) >= 60) & (np.arange(400) < 75), 1, 0)
    expected = np.corrcoef(model[near], other[near])[0, 1]
    assert correlations_of_parts(model, other, atoms, parts, 1.7)[1] == pytest.approx(expected, abs=1e-6)


def test_parts_outside_the_box_have_no_correlation(model: Array) -> None:
    values = correlations_of_parts(model, model, np.array([[90.0, 0, 0], [0, 0, 0]]), np.array([0, 1]), 2.0)
    assert np.isnan(values[0])
    assert np.isfinite(values[1])


def test_the_right_frame_scores_best(model: Array) -> None:
    shift = np.array([4.0, -3.0, 6.0])
    moved = place_map(model, Placement(np.eye(3), shift))
    shifts = {"none": np.zeros(3), "right": shift, "wrong": -shift, "outside": np.full(3, 25.0)}
    scores = score_shifts(model, noisy(moved, 0.3, 5), VOXEL, shifts)
    assert max(scores, key=lambda name: scores[name]) == "right"
    assert scores["right"] > 0.9
    assert scores["none"] < 0.6
    assert scores["outside"] == -1


@pytest.mark.parametrize("search", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_moved_model_is_found(model: Array, search: bool) -> None:
    angle = 170.0 if search else 8.0
    rotation = Rotation.from_rotvec(np.radians(angle) * np.array([0.36, 0.48, 0.8])).as_matrix()
    truth = Placement(rotation, np.array([2.0, -1.5, 1.0]))
    density = noisy(place_map(model, truth), 0.4, 6)
    start = None if search else Placement.identity()
    placement, correlation = fit_model(model, density, VOXEL, start)
    assert np.degrees(np.arccos(np.clip((np.trace(placement.rotation.T @ rotation) - 1) / 2, -1, 1))) < 1.5
    assert placement.shift == pytest.approx(truth.shift, abs=0.3)
    assert correlation > 0.5


@pytest.mark.parametrize("wrong", [pytest.param(False, marks=pytest.mark.slow), True])
def test_the_hand_is_told(model: Array, mask: Array, wrong: bool) -> None:
    density = change_hand(model) if wrong else model
    result = compare_hands(model, noisy(density, 0.4, 7), VOXEL, mask, Placement.identity())
    assert result.verdict == ("wrong" if wrong else "right")
    assert abs(result.difference) > 1.5 * HAND_IS_CLEAR


@pytest.mark.slow
def test_a_ball_has_no_hand() -> None:
    ball = sphere_mask(SIZE, 8.0, 3.0)
    result = compare_hands(ball, noisy(ball, 0.3, 8), VOXEL, ball, Placement.identity())
    assert result.verdict == "unclear"
