"""Interpolation along a field of shifts."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vitrea.kernels.warp import _warp_torch, warp_add

# Coefficients of 1, x, x², y, y², xy for the shifts along x and y.
FIELD = torch.tensor([[1.3, 2.0, -1.0, 0.5, 0.7, -0.4], [-0.6, 0.3, 0.9, -2.0, 0.2, 1.1]], dtype=torch.float64)


def wave(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """A sum of plane waves up to 0.7 of Nyquist."""
    return torch.cos(2 * torch.pi * (0.35 * x + 0.01 * y)) + torch.sin(2 * torch.pi * (0.11 * x - 0.34 * y) + 0.3)


def grid(rows: int, columns: int) -> tuple[torch.Tensor, torch.Tensor]:
    y, x = torch.meshgrid(torch.arange(rows).double(), torch.arange(columns).double(), indexing="ij")
    return x, y


def shifts(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    u, v = x / x.shape[1] - 0.5, y / x.shape[0] - 0.5
    terms = torch.stack([torch.ones_like(u), u, u * u, v, v * v, u * v])
    return torch.tensordot(FIELD, terms, dims=1)


@pytest.mark.parametrize(("block", "tolerance"), [(1, 0.02), (8, 0.08)])
def test_image_is_sampled_where_the_field_says(block: int, tolerance: float) -> None:
    x, y = grid(150, 203)
    move_x, move_y = shifts(x, y)
    total = torch.ones(150, 203)
    warp_add(wave(x, y).float(), FIELD, total, block)
    inside = (slice(8, -8),) * 2
    error = (total.double() - 1 - wave(x - move_x, y - move_y))[inside]
    # Root-mean-square of the wave is 1; this field is so steep that blocks of 8 pixels are 0.03 off.
    assert error.square().mean().sqrt() < tolerance


@pytest.mark.parametrize("block", [1, 8])
def test_both_bodies_agree(block: int) -> None:
    image = torch.from_numpy(np.random.default_rng(3).normal(size=(61, 50)).astype(np.float32))
    fast, plain = torch.zeros(61, 50), torch.zeros(61, 50)
    warp_add(image, FIELD * 3, fast, block)
    _warp_torch(image, (FIELD * 3).numpy(), plain, block)
    torch.testing.assert_close(fast, plain, rtol=0, atol=2e-5)


def test_whole_pixels_are_moved_exactly_and_edges_repeat() -> None:
    image = torch.arange(40.0 * 30).reshape(40, 30)
    field = torch.zeros(2, 6, dtype=torch.float64)
    field[0, 0], field[1, 0] = 2, -3
    total = torch.zeros(40, 30)
    warp_add(image, field, total)
    torch.testing.assert_close(total[:-3, 2:], image[3:, :-2], rtol=0, atol=1e-3)
    torch.testing.assert_close(total[-4:, 5], image[-1:, 3].expand(4), rtol=0, atol=1e-3)


def test_constant_stays_constant() -> None:
    total = torch.zeros(64, 48)
    warp_add(torch.full((64, 48), 5.0), FIELD, total)
    torch.testing.assert_close(total, torch.full((64, 48), 5.0), rtol=1e-6, atol=0)
