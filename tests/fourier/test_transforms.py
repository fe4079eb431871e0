"""The Fourier layout, resizing and shifting, held against analytic signals and plain numpy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from vitrea.fourier.transforms import (
    crop_fourier,
    pad_fourier,
    resample,
    resize_box,
    resize_fourier,
    shift_fourier,
    to_fourier,
    to_real,
)

SIZES = (7, 8)
DIMS = (2, 3)


def noise(size: int, dims: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn((size,) * dims, generator=generator, dtype=dtype)


def waves(size: int, waves_per_extent: tuple[float, ...], offset: float = 0.3) -> Tensor:
    """Sample a plane wave, fixed to the centre of the box, with as many periods along x, y(, z) as given."""
    axis = (torch.arange(size, dtype=torch.float64) - size // 2) / size
    phase = torch.tensor(offset, dtype=torch.float64)
    for number, periods in enumerate(waves_per_extent):
        phase = phase + 2 * math.pi * periods * axis.reshape((size,) + (1,) * number)
    return torch.cos(phase)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("dims", DIMS)
def test_a_point_at_the_centre_is_a_real_constant(size: int, dims: int) -> None:
    image = torch.zeros((size,) * dims)
    image[(size // 2,) * dims] = 1.0
    transform = to_fourier(image, dims)
    assert transform.shape == (size,) * (dims - 1) + (size // 2 + 1,)
    assert torch.allclose(transform, torch.full_like(transform, size ** (-dims / 2)), atol=1e-6)


@pytest.mark.parametrize("size", SIZES)
def test_the_layout_is_that_of_the_definition(size: int) -> None:
    image = noise(size, 2)
    axis = np.arange(size) - size // 2
    for row, column in ((0, 0), (1, 2), (size - 2, 3)):
        ky = np.fft.fftfreq(size, 1 / size)[row]
        kernel = np.exp(-2j * np.pi * (ky * axis[:, None] + column * axis[None, :]) / size)
        expected = (image.numpy() * kernel).sum() / size
        assert abs(complex(to_fourier(image, 2)[row, column]) - expected) < 1e-12


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("dims", DIMS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_there_and_back(size: int, dims: int, dtype: torch.dtype) -> None:
    images = torch.stack([noise(size, dims, seed, dtype) for seed in range(2)])
    back = to_real(to_fourier(images, dims), size, dims)
    assert back.dtype == dtype
    assert torch.allclose(back, images, atol=50 * torch.finfo(dtype).eps)


def test_dims_other_than_two_and_three_are_refused() -> None:
    with pytest.raises(ValueError, match="dims must be 2 or 3"):
        to_fourier(torch.zeros(4, 4), 1)


@settings(max_examples=40, deadline=None)
@given(st.integers(3, 12), st.integers(0, 6), st.sampled_from(DIMS))
def test_cropping_undoes_padding(size: int, extra: int, dims: int) -> None:
    transform = to_fourier(noise(size, dims, seed=size), dims)
    padded = pad_fourier(transform, size, size + extra, dims)
    assert torch.allclose(crop_fourier(padded, size + extra, size, dims), transform, atol=1e-12)
    # What comes out is the transform of a real image: going there and back changes nothing.
    assert torch.allclose(to_fourier(to_real(padded, size + extra, dims), dims), padded, atol=1e-12)


@settings(max_examples=30, deadline=None)
@given(st.integers(4, 12), st.integers(1, 5), st.sampled_from(DIMS))
def test_a_cropped_transform_belongs_to_a_real_image(new: int, extra: int, dims: int) -> None:
    cropped = crop_fourier(to_fourier(noise(new + extra, dims), dims), new + extra, new, dims)
    assert torch.allclose(to_fourier(to_real(cropped, new, dims), dims), cropped, atol=1e-12)


@pytest.mark.parametrize(
    ("old", "new"), [(16, 10), (16, 11), (15, 10), (15, 11), (10, 16), (11, 16), (10, 15), (11, 15)]
)
@pytest.mark.parametrize("periods", [(0, 0), (2, 0), (-3, 1), (4, 4)])
def test_resampling_a_wave_keeps_its_grey_values(old: int, new: int, periods: tuple[int, int]) -> None:
    assert torch.allclose(resample(waves(old, periods), new, 2), waves(new, periods), atol=1e-12)


@pytest.mark.parametrize("periods", [(5, 0), (0, 5), (5, 2), (-5, 5)])
def test_a_wave_at_the_new_nyquist_frequency_keeps_its_grey_values(periods: tuple[int, int]) -> None:
    assert torch.allclose(resample(waves(16, periods), 10, 2), waves(10, periods), atol=1e-12)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("dims", DIMS)
def test_upsampling_passes_through_the_samples(size: int, dims: int) -> None:
    image = noise(size, dims)
    fine = resample(image, 2 * size, dims)
    assert torch.allclose(fine[(slice(size % 2, None, 2),) * dims], image, atol=1e-12)


def test_white_noise_has_the_stated_power_after_cropping() -> None:
    transform = to_fourier(noise(64, 3), 3)
    cropped = crop_fourier(transform, 64, 33, 3)
    # 18,000 samples: the mean power is known to 1%.
    assert float(cropped.abs().square().mean()) == pytest.approx((33 / 64) ** 3, rel=0.03)


def test_resizing_goes_both_ways_and_wrong_ways_are_refused() -> None:
    transform = to_fourier(noise(8, 2), 2)
    assert resize_fourier(transform, 8, 6).shape == (6, 4)
    assert resize_fourier(transform, 8, 11).shape == (11, 6)
    with pytest.raises(ValueError, match="cannot crop"):
        crop_fourier(transform, 8, 9)
    with pytest.raises(ValueError, match="cannot pad"):
        pad_fourier(transform, 8, 7)


@pytest.mark.parametrize(("old", "new"), [(8, 5), (8, 6), (7, 4), (7, 12), (6, 9)])
@pytest.mark.parametrize("dims", DIMS)
def test_windowing_keeps_the_centre(old: int, new: int, dims: int) -> None:
    image = noise(old, dims)
    result = resize_box(image, new, dims, fill=-9.0)
    assert result.shape == (new,) * dims
    assert result[(new // 2,) * dims] == image[(old // 2,) * dims]
    assert result[(new // 2 - 1,) * dims] == image[(old // 2 - 1,) * dims]
    assert (result == -9.0).any() == (new > old)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("whole", [(2, -1), (1, 3, -2)])
def test_whole_shifts_roll_the_image_towards_larger_coordinates(size: int, whole: tuple[int, ...]) -> None:
    dims = len(whole)
    image = noise(size, dims)
    shifted = to_real(shift_fourier(to_fourier(image, dims), torch.tensor(whole)), size, dims)
    expected = torch.roll(image, whole, tuple(range(-1, -dims - 1, -1)))
    assert torch.allclose(shifted, expected, atol=1e-12)


@pytest.mark.parametrize("size", (15, 16))
def test_fractional_shifts_of_a_wave_are_exact(size: int) -> None:
    shift = torch.tensor([0.37, -1.81], dtype=torch.float64)
    moved = to_real(shift_fourier(to_fourier(waves(size, (3, 2)), 2), shift), size, 2)
    turn = -2 * math.pi * float(shift @ torch.tensor([3.0, 2.0], dtype=torch.float64)) / size
    assert torch.allclose(moved, waves(size, (3, 2), 0.3 + turn), atol=1e-12)


@settings(max_examples=25, deadline=None)
@given(st.floats(-20, 20), st.floats(-20, 20), st.sampled_from((9, 10)))
def test_shifting_back_restores(x: float, y: float, size: int) -> None:
    transform = to_fourier(noise(size, 2), 2)
    shift = torch.tensor([x, y], dtype=torch.float64)
    assert torch.allclose(shift_fourier(shift_fourier(transform, shift), -shift), transform, atol=1e-12)


def test_many_shifts_of_many_images_broadcast() -> None:
    transforms = to_fourier(torch.stack([noise(8, 2, seed) for seed in range(3)]), 2)
    shifts = torch.tensor([[[0.0, 0.0]], [[1.0, 0.5]]], dtype=torch.float64)  # [2, 1, 2]
    result = shift_fourier(transforms, shifts)
    assert result.shape == (2, 3, 8, 5)
    assert torch.equal(result[0], transforms)
    assert torch.allclose(result[1, 2], shift_fourier(transforms[2], shifts[1, 0]))


def test_shifting_keeps_single_precision() -> None:
    transform = to_fourier(noise(8, 2, dtype=torch.float32), 2)
    assert shift_fourier(transform, torch.tensor([0.5, 0.5])).dtype == torch.complex64
