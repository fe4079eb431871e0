"""Shells: sums over the half transform must be those over the whole one."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vitrea.fourier.grid import frequency_axes, frequency_radius, redundancy
from vitrea.fourier.shells import (
    radial_power_spectrum,
    shell_counts,
    shell_index,
    shell_mean,
    shell_sum,
    spread_shells,
    sum_stored_samples,
)
from vitrea.fourier.transforms import to_fourier

CASES = [(8, 2), (9, 2), (8, 3), (9, 3)]


def full_radius(size: int, dims: int) -> np.ndarray:
    axes = np.meshgrid(*[np.fft.fftfreq(size, 1 / size)] * dims, indexing="ij")
    return np.sqrt(sum(axis**2 for axis in axes))


@pytest.mark.parametrize(("size", "dims"), CASES)
def test_radii_and_shells_are_those_of_the_full_transform(size: int, dims: int) -> None:
    radius = full_radius(size, dims)[..., : size // 2 + 1]
    assert np.allclose(frequency_radius(size, dims, dtype=torch.float64).numpy(), radius)
    assert np.array_equal(shell_index(size, dims).numpy(), np.floor(radius + 0.5).astype(int))


def test_axes_run_x_first() -> None:
    kx, ky, kz = frequency_axes(6, 3)
    assert kx.tolist() == [0, 1, 2, 3]
    assert ky.shape == (6, 1)
    assert kz.flatten().tolist() == [0, 1, 2, -3, -2, -1]


@pytest.mark.parametrize("size", [8, 9])
def test_every_sample_of_the_full_transform_is_counted_once(size: int) -> None:
    assert float(redundancy(size).sum()) == size


@pytest.mark.parametrize(("size", "dims"), CASES)
def test_sums_are_those_over_the_full_transform(size: int, dims: int) -> None:
    images = torch.randn((2,) + (size,) * dims, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    axes = tuple(range(1, dims + 1))
    power = np.abs(np.fft.fftn(images.numpy(), axes=axes, norm="ortho")) ** 2
    shells = np.floor(full_radius(size, dims) + 0.5).astype(int).ravel()
    expected = np.stack([np.bincount(shells, p.ravel())[: size // 2 + 1] for p in power])
    found = shell_sum(to_fourier(images, dims).abs().square(), size, dims)
    assert np.allclose(found.numpy(), expected)
    counts = np.bincount(shells)[: size // 2 + 1]
    assert np.allclose(shell_counts(size, dims).numpy(), counts)
    assert np.allclose(shell_mean(to_fourier(images, dims).abs().square(), size, dims).numpy(), expected / counts)
    assert np.allclose(radial_power_spectrum(images, dims).numpy(), expected / counts)


def test_stored_samples_count_once_each() -> None:
    ones = torch.ones(6, 4)
    sums = sum_stored_samples(ones, 6, 2)
    # Shell 1 of a 6 x 4 half transform: (±1 or 0, 1) and (±1, 0); 5 samples of which 8 make the full ring.
    assert sums.tolist()[:2] == [1, 5]
    assert shell_counts(6, 2).tolist()[:2] == [1, 8]


def test_white_noise_has_a_flat_spectrum_of_its_variance() -> None:
    noise = 3.0 * torch.randn(48, 48, 48, generator=torch.Generator().manual_seed(2))
    spectrum = radial_power_spectrum(noise, 3)
    # Shell s has about 2 pi s² independent components of relative scatter 1: five standard deviations at most.
    shells = torch.arange(2, 25)
    scatter = 5 * 9.0 / (2 * torch.pi * shells.double() ** 2).sqrt()
    assert ((spectrum[2:] - 9.0).abs() < scatter).all()
    assert spectrum.dtype == torch.float32


@pytest.mark.parametrize(("size", "dims"), CASES)
def test_spreading_gives_each_sample_its_shells_value(size: int, dims: int) -> None:
    curve = torch.arange(size // 2 + 1, dtype=torch.float64)
    spread = spread_shells(curve, size, dims, beyond=-1.0)
    shells = shell_index(size, dims)
    assert torch.equal(spread, torch.where(shells <= size // 2, shells.double(), -1.0))
    # Spreading and summing stored samples are each other's transpose.
    values = torch.rand(shells.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    left = (spread_shells(curve, size, dims) * values).sum()
    assert torch.allclose(left, curve @ sum_stored_samples(values, size, dims))
