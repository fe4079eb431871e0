"""Models of several classes from sums made by hand, and the variance of the signal without half sets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from vitrea.fourier.packed import packed_samples
from vitrea.geometry.euler import euler_to_matrix
from vitrea.geometry.masks import soft_sphere
from vitrea.geometry.sampling import orientation_grid
from vitrea.likelihood.maximisation import FEWEST_SHELLS, Maximiser, round_mask, signal_variance
from vitrea.likelihood.settings import Settings
from vitrea.likelihood.state import Model, new_class
from vitrea.likelihood.sums import Sums, empty_sums
from vitrea.reconstruction.accumulator import CORNER_EDGE

SIZE, RADIUS, PIXEL = 24, 10, 4.0
SHELLS = SIZE // 2 + 1
SETTINGS = Settings(particle_diameter=80.0, flatten_solvent=False, tau2_fudge=2.0)


def test_signal_variance_is_what_noise_does_not_explain() -> None:
    """Samples drawn as signal plus noise: their power less the noise is the variance of the signal."""
    rng = np.random.default_rng(1)
    tau2, sigma2 = np.geomspace(10.0, 0.1, 40), np.full(40, 2.0)
    samples = np.sqrt(tau2 + sigma2) * rng.standard_normal((20000, 40))
    found = signal_variance((samples**2).mean(axis=0), sigma2, 1e3)
    # 20,000 squares of a Gaussian: 1% of signal plus noise; four times that.
    np.testing.assert_array_less(np.abs(found - tau2)[FEWEST_SHELLS:], 0.04 * (tau2 + sigma2)[FEWEST_SHELLS:])


def test_signal_below_the_noise_counts_as_none() -> None:
    """``T tau² >= 2 sigma²``: at T = 2 signal as strong as the noise, at T = 4 half of that."""
    power = np.array([9.0] * FEWEST_SHELLS + [6.0, 4.0, 3.0, 2.0, 1.0])
    sigma2 = np.full(10, 2.0)
    np.testing.assert_array_equal(signal_variance(power, sigma2, 2.0)[FEWEST_SHELLS:], [4.0, 2.0, 0, 0, 0])
    np.testing.assert_array_equal(signal_variance(power, sigma2, 4.0)[FEWEST_SHELLS:], [4.0, 2.0, 1.0, 0, 0])
    # A mask that leaves a half of the noise.
    np.testing.assert_array_equal(signal_variance(power, sigma2, 2.0, 0.5)[FEWEST_SHELLS:], [5.0, 3.0, 2.0, 0, 0])


def test_first_shells_count_as_signal() -> None:
    power, sigma2 = np.full(10, 0.5), np.ones(10)
    sigma2[[2, 8]] = 0.0  # no data
    tau2 = signal_variance(power, sigma2, 2.0)
    np.testing.assert_array_equal(tau2, [0.5, 0.5, 0.0, 0.5, 0.5, 0, 0, 0, 0, 0])


@pytest.fixture(scope="module")
def data(simulate: Callable[..., Any]) -> Any:
    return simulate(12, SIZE).data


def _views(dims: int, count: int) -> torch.Tensor:
    rng = np.random.default_rng(3)
    if dims == 2:
        return torch.from_numpy(euler_to_matrix(rng.uniform(0, 360, (count, 3)) * [0, 0, 1]).astype(np.float32))
    grid = orientation_grid(2)
    return torch.from_numpy(grid.matrices(*grid.split(rng.permutation(grid.size)[:count])).astype(np.float32))


def _sums(dims: int, variance: float, masses: tuple[float, ...], count: int = 3000) -> Sums:
    """White noise of a known variance in each class, `count` views each."""
    rng = np.random.default_rng(4)
    samples = packed_samples(SIZE, RADIUS)
    sums = empty_sums(np.arange(12), SIZE, RADIUS, 2, 1, 5, torch.device("cpu"), len(masses), dims)
    for accumulator, mass in zip(sums.accumulators, masses, strict=True):
        noise = rng.standard_normal((count, len(samples), 2)).astype(np.float32) * np.float32(variance**0.5)
        packed = torch.view_as_complex(torch.from_numpy(noise))
        weights = torch.full(packed.shape, 1 / variance)
        if mass > 0:
            accumulator.add(packed / variance, weights, _views(dims, count), samples)
    sums.directions[:] = np.array(masses)[:, None] * np.array([0.1, 0.2, 0.3, 0.4, 0.0])
    sums.counts[:], sums.residual[:] = 12, 100.0
    sums.mass, sums.offset_square = 12.0, 6.0
    return sums


def _model(dims: int, classes: int) -> Model:
    voxels = np.random.default_rng(5).standard_normal((classes, *(SIZE,) * dims)).astype(np.float32)
    groups = tuple(new_class(one, 5, 1.0 / classes) for one in voxels)
    return Model(groups, np.ones((1, SHELLS)), np.ones(1), 10.0)


@pytest.mark.parametrize("flatten", [False, True])
@pytest.mark.parametrize("dims", [2, 3])
def test_power_and_noise_of_a_reference_have_one_unit(dims: int, flatten: bool, data: Any) -> None:
    """A reference made of noise has the power that its weights say, in every shell: no signal is found there."""
    count = 3000
    mask = round_mask(SIZE, 60.0, PIXEL, 3.0, dims)
    maximiser = Maximiser(data, replace(SETTINGS, flatten_solvent=flatten), mask)
    sums = _sums(dims, 4.0, (12.0,), count)
    maximiser.complete(sums.accumulators)
    sigma2 = maximiser._noise_of(sums.accumulators[0])
    power, noise_share = maximiser._reference_power(sums.accumulators[0].reconstruct())
    inside = np.arange(3, RADIUS - 1)
    if dims == 2:
        np.testing.assert_allclose(sigma2[inside], 4.0 / count, rtol=0.05)
    # Noise fills the ball that the box holds, or the mask: its share of the box is what is left of the power. A shell
    # of a 2D average holds tens of independent components: 20% each, and more inside a mask.
    ball = soft_sphere(SIZE, SIZE / 2, CORNER_EDGE, dims=dims)
    share = float((np.square(mask if flatten else ball)).mean())
    assert np.mean(power[inside] / sigma2[inside]) == pytest.approx(share, rel=0.2)
    assert noise_share == pytest.approx(share if flatten else 1.0)
    model = maximiser.classes(sums, _model(dims, 1), complete=False)
    assert np.median(model.classes[0].ssnr[FEWEST_SHELLS:RADIUS]) < 0.3


@pytest.mark.parametrize("dims", [2, 3])
def test_classes_of_sums(dims: int, data: Any) -> None:
    """Shares are those of the masses; a class without particles keeps its reference, and its share is zero."""
    before = _model(dims, 3)
    maximiser = Maximiser(data, SETTINGS, round_mask(SIZE, 80.0, PIXEL, 5.0, dims), smallest_offset=1.0)
    after = maximiser.classes(_sums(dims, 4.0, (3.0, 0.0, 9.0), 200), before)
    np.testing.assert_allclose([group.share for group in after.classes], [0.25, 0.0, 0.75])
    dead, old = after.classes[1], before.classes[1]
    np.testing.assert_array_equal(dead.voxels, old.voxels)
    assert dead.unfiltered is None
    for number in (0, 2):
        group = after.classes[number]
        assert group.voxels.shape == (SIZE,) * dims
        assert not np.array_equal(group.voxels, before.classes[number].voxels)
        np.testing.assert_allclose(group.direction_prior, [0.1, 0.2, 0.3, 0.4, 0.0])
        np.testing.assert_array_equal(group.fsc, 0.0)
    assert not np.array_equal(after.classes[0].voxels, after.classes[2].voxels)
    assert after.sigma_offset == pytest.approx(np.sqrt(6.0 / 24.0) * PIXEL)
    wide = replace(maximiser, smallest_offset=7.0).classes(_sums(dims, 4.0, (3.0, 0.0, 9.0), 20), before)
    assert wide.sigma_offset == 7.0
    few = maximiser.classes(_sums(dims, 4.0, (0.4, 0.0, 11.6), 20), before)
    assert few.classes[0].share == 0.0  # less than half a particle makes no class


def test_priors_of_directions_can_be_kept(data: Any) -> None:
    maximiser = Maximiser(data, SETTINGS, round_mask(SIZE, 80.0, PIXEL, 5.0), keep_prior=True)
    after = maximiser.classes(_sums(3, 4.0, (3.0, 9.0), 20), _model(3, 2))
    for group in after.classes:
        np.testing.assert_array_equal(group.direction_prior, 0.2)


def test_sums_are_completed_once(data: Any) -> None:
    """Sums that were completed before, as those carried from batch to batch are, give the same model."""
    maximiser = Maximiser(data, SETTINGS, round_mask(SIZE, 80.0, PIXEL, 5.0, 2))
    first = maximiser.classes(_sums(2, 4.0, (12.0,), 50), _model(2, 1))
    sums = _sums(2, 4.0, (12.0,), 50)
    maximiser.complete(sums.accumulators)
    second = maximiser.classes(sums, _model(2, 1), complete=False)
    np.testing.assert_array_equal(first.classes[0].voxels, second.classes[0].voxels)
    twice = maximiser.classes(sums, _model(2, 1))
    assert not np.array_equal(twice.classes[0].voxels, first.classes[0].voxels)
