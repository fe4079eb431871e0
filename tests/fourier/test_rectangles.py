"""Transforms of images that are not square."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vitrea.fourier.rectangles import (
    crop_rectangle,
    rectangle_frequencies,
    rectangle_to_fourier,
    rectangle_to_real,
    shift_ramps,
    smooth_size,
)

SHAPES = [(24, 30), (25, 30), (24, 31), (25, 31)]


def image(shape: tuple[int, int], seed: int = 1) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape))


@pytest.mark.parametrize("shape", SHAPES)
def test_transform_and_back(shape: tuple[int, int]) -> None:
    one = image(shape)
    transform = rectangle_to_fourier(one)
    torch.testing.assert_close(rectangle_to_real(transform, shape), one)
    assert transform[0, 0].real.item() == pytest.approx(one.mean().item())


@pytest.mark.parametrize("shape", SHAPES)
def test_frequencies_are_those_of_the_transform(shape: tuple[int, int]) -> None:
    kx, ky = rectangle_frequencies(shape, dtype=torch.float64)
    x, y = torch.arange(shape[1]).double(), torch.arange(shape[0]).double()[:, None]
    wave = torch.cos(2 * torch.pi * (kx[4] * x + ky[shape[0] - 3] * y))
    power = rectangle_to_fourier(wave).abs()
    assert divmod(int(power.argmax()), power.shape[1]) == (shape[0] - 3, 4)


@pytest.mark.parametrize("new", [(12, 16), (13, 15), (12, 15)])
@pytest.mark.parametrize("shape", SHAPES)
def test_cropping_samples_smooth_images_more_coarsely(shape: tuple[int, int], new: tuple[int, int]) -> None:
    def smooth(rows: int, columns: int) -> torch.Tensor:
        y, x = torch.arange(rows).double()[:, None] / rows, torch.arange(columns).double() / columns
        return 3 + torch.cos(2 * torch.pi * (2 * x + 3 * y) + 0.4) + torch.sin(2 * torch.pi * (5 * x - y))

    cropped = crop_rectangle(rectangle_to_fourier(smooth(*shape)), shape, new)
    torch.testing.assert_close(rectangle_to_real(cropped, new), smooth(*new))


def test_cropping_gives_a_new_tensor_and_refuses_to_grow() -> None:
    transform = rectangle_to_fourier(image((24, 30)))
    same = crop_rectangle(transform, (24, 30), (24, 30))
    same[0, 0] = 99
    assert transform[0, 0] != 99
    with pytest.raises(ValueError, match="cannot crop 30 x 24 pixels to 32 x 24"):
        crop_rectangle(transform, (24, 30), (24, 32))


@pytest.mark.parametrize("shape", SHAPES)
def test_ramps_move_the_content_by_plus_shift(shape: tuple[int, int]) -> None:
    one = image(shape).float()
    ramp_x, ramp_y = shift_ramps(shape, torch.tensor([[3.0, -2.0], [0.0, 0.0]]))
    moved = rectangle_to_real(rectangle_to_fourier(one) * ramp_x * ramp_y, shape)
    torch.testing.assert_close(moved[0], torch.roll(one, (-2, 3), (0, 1)), atol=1e-5, rtol=0)
    torch.testing.assert_close(moved[1], one, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("request_", "largest", "size"), [(97, 4096, 100), (1114, 4096, 1152), (7, 8, 8), (95, 97, 96), (99, 98, 98)]
)
def test_fast_sizes(request_: float, largest: int, size: int) -> None:
    assert smooth_size(request_, largest) == size
