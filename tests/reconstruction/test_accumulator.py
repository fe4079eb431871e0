"""Sums of slices in two dimensions: class averages come back, on their scale and where they were."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from vitrea.fourier.packed import packed_samples
from vitrea.geometry.euler import euler_to_matrix
from vitrea.geometry.masks import soft_sphere
from vitrea.matching.reference import reference_from_map
from vitrea.reconstruction.accumulator import FourierAccumulator

SIZE, RADIUS = 32, 15
IDENTITY = torch.eye(3)[None]


def _turns(count: int, seed: int = 1) -> NDArray[np.float64]:
    eulers = np.zeros((count, 3))
    eulers[:, 2] = np.random.default_rng(seed).uniform(0, 360, count)
    return euler_to_matrix(eulers)


def _accumulated(
    lopsided: Any, size: int, count: int, padding: int, weight: float = 1.0, radius: int | None = None
) -> FourierAccumulator:
    """Sums of an image turned and moved by chance, the moves undone by ramps; every sample has the same weight."""
    radius = size // 2 - 1 if radius is None else radius
    samples = packed_samples(size, radius)
    matrices = _turns(count)
    shifts = np.random.default_rng(2).uniform(-2, 2, (count, 2))
    packed = lopsided.transforms(size, matrices, shifts).reshape(count, -1)[:, samples.index]
    centred = torch.from_numpy(packed.astype(np.complex64)) * samples.phase_ramps(-shifts)
    accumulator = FourierAccumulator(size, radius, padding, dims=2)
    weights = torch.full((count, len(samples)), weight)
    accumulator.add(weight * centred, weights, torch.from_numpy(matrices.astype(np.float32)), samples)
    return accumulator


@pytest.mark.parametrize(("size", "padding"), [(SIZE, 2), (31, 2), (SIZE, 1)])
def test_turned_images_give_the_image_back(size: int, padding: int, lopsided: Any) -> None:
    accumulator = _accumulated(lopsided, size, 200, padding, weight=3.0)
    accumulator.finish(IDENTITY)
    found = accumulator.reconstruct().numpy().astype(np.float64)
    truth = lopsided.images(lopsided.transforms(size, np.eye(3)[None]), size)[0]
    inside = soft_sphere(size, 12, 2, dims=2)
    found, truth = found * inside, truth * inside
    assert np.corrcoef(found.ravel(), truth.ravel())[0, 1] > (0.999 if padding == 2 else 0.99)
    # Samples of turned images lie at radii 0, 1, 1.4, ... only: voxels between get the value of neighbours farther
    # out, where there is less signal. That is 2.4% here with padding 2.
    assert (found * truth).sum() / (truth**2).sum() == pytest.approx(1.0, abs=0.03 if padding == 2 else 0.06)
    assert found.shape == (size, size)


def test_weight_of_shells(lopsided: Any) -> None:
    """N images of weight w a sample: N w in every Fourier pixel, so that the noise variance is 1 / (N w)."""
    accumulator = _accumulated(lopsided, SIZE, 200, 2, weight=0.25)
    accumulator.finish(IDENTITY)
    weight = accumulator.shell_weight().numpy()
    assert weight.shape == (SIZE // 2 + 1,)
    # Shells are rounded and hold few voxels at the centre; the last is filled in part.
    np.testing.assert_allclose(weight[2:RADIUS], 200 * 0.25, rtol=0.05)
    assert weight[2:RADIUS].mean() == pytest.approx(200 * 0.25, rel=0.01)
    assert not accumulator.weight[1].any()  # the plane that is there for interpolation only


def test_noise_of_an_average() -> None:
    """White noise of unit power in N images of weight w: an average of power 1 / (N w) per real part."""
    samples = packed_samples(SIZE, RADIUS)
    rng = np.random.default_rng(5)
    count, variance = 400, 4.0
    noise = rng.standard_normal((count, len(samples), 2)) * np.sqrt(variance)
    packed = torch.from_numpy(noise[..., 0] + 1j * noise[..., 1]).to(torch.complex64)
    accumulator = FourierAccumulator(SIZE, RADIUS, 2, dims=2)
    weights = torch.full(packed.shape, 1 / variance)
    accumulator.add(packed / variance, weights, torch.from_numpy(_turns(count).astype(np.float32)), samples)
    accumulator.finish(IDENTITY)
    sigma2 = 1.0 / accumulator.shell_weight().numpy()
    np.testing.assert_allclose(sigma2[2:RADIUS], variance / count, rtol=0.05)
    average = accumulator.reconstruct().double()
    power = torch.fft.rfft2(average, norm="ortho").abs().square().numpy()
    ky, kx = np.meshgrid(np.fft.fftfreq(SIZE, 1 / SIZE), np.arange(SIZE // 2 + 1), indexing="ij")
    shell = np.hypot(ky, kx)
    found = 0.5 * power[(shell > 3) & (shell < 13)].mean()
    # 500 independent components: 5%; what the disc of the box cuts off and interpolation add as much again.
    assert found == pytest.approx(variance / count, rel=0.15)


def test_prior_damps_by_signal_over_noise(lopsided: Any) -> None:
    """``T tau² / (T tau² + sigma²)`` with sigma² = 1 / (N w) = 1/50."""
    accumulator = _accumulated(lopsided, SIZE, 200, 2, weight=0.25)
    accumulator.finish(IDENTITY)
    plain = accumulator.reconstruct()
    damped = accumulator.reconstruct(torch.full((SIZE // 2 + 1,), 0.01, dtype=torch.float64), fudge=4.0)
    one, other = (torch.fft.rfft2(image.double()).abs().square().numpy() for image in (damped, plain))
    ky, kx = np.meshgrid(np.fft.fftfreq(SIZE, 1 / SIZE), np.arange(SIZE // 2 + 1), indexing="ij")
    inside = (np.hypot(ky, kx) > 2) & (np.hypot(ky, kx) < 8)  # voxels farther in hold unequal weights
    ratio = np.sqrt(one[inside].sum() / other[inside].sum())
    assert ratio == pytest.approx(0.04 / (0.04 + 0.02), rel=0.02)
    nothing = accumulator.reconstruct(torch.zeros(SIZE // 2 + 1, dtype=torch.float64))
    assert not nothing.any()


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize(("mine", "theirs"), [(10, 10), (12, 7), (7, 12)])
def test_scaled_sums_of_another_reach(dims: int, mine: int, theirs: int) -> None:
    """What both hold is added at the same frequency, however far each reaches."""
    rng = np.random.default_rng(6)
    accumulators = []
    for radius in (mine, theirs):
        one = FourierAccumulator(SIZE, radius, 2, dims=dims)
        one.data += torch.from_numpy(rng.standard_normal((*one.data.shape, 2))).view(*one.data.shape, 2)[..., 0]
        one.weight += torch.from_numpy(rng.uniform(1, 2, one.weight.shape))
        accumulators.append(one)
    own, other = accumulators
    before, weight = own.data.clone(), own.weight.clone()
    own.add_scaled(other, 0.5)

    def at(accumulator: FourierAccumulator, grid: torch.Tensor, x: int, y: int, z: int) -> complex:
        return complex(grid[z + accumulator.half_z, y + accumulator.half, x])

    reach = 2 * min(mine, theirs) + 2
    for x, y, z in ((0, 0, 0), (3, -5, 0), (reach, 2, 0), (4, -reach, 0), (5, 1, -4 if dims == 3 else 0)):
        assert at(own, own.data, x, y, z) == pytest.approx(
            at(own, before, x, y, z) + 0.5 * at(other, other.data, x, y, z)
        )
        expected = at(own, weight, x, y, z) + 0.5 * at(other, other.weight, x, y, z)
        assert at(own, own.weight, x, y, z) == pytest.approx(expected)
    if mine > theirs:
        assert at(own, own.data, reach + 1, 0, 0) == at(own, before, reach + 1, 0, 0)


@pytest.mark.parametrize("dims", [2, 3])
def test_sums_move_with_their_map(dims: int, lopsided: Any) -> None:
    """A small particle moved by whole pixels: the map of the moved sums is the moved map; and sums can be forgotten."""
    small = type(lopsided)(lopsided.points * 0.4, lopsided.heights, lopsided.width)
    voxels = small.map(SIZE) if dims == 3 else small.map(SIZE).sum(axis=0)
    accumulator = FourierAccumulator(SIZE, RADIUS, 2, dims=dims)
    accumulator.data += reference_from_map(torch.from_numpy(voxels), RADIUS).grid
    accumulator.weight += 1.0
    still = accumulator.reconstruct().numpy()
    move = np.array([3.0, -2.0, 1.0])
    accumulator.translate(move)
    moved = accumulator.reconstruct().numpy()
    expected = np.roll(still, move[:dims][::-1].astype(int), tuple(range(dims)))
    # The correction of interpolation is that of the new place: (pi r / 2n)² / 3 at r = n / 4 is 5%.
    assert np.abs(moved - expected).max() < 0.05 * still.max()
    assert np.abs(still - expected).max() > 0.5 * still.max()
    accumulator.clear()
    assert not accumulator.data.any()
    assert not accumulator.weight.any()
