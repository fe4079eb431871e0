"""Quintic splines along a field of displacements, against waves that are known between pixels."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vitrea.kernels.spline_warp import spline_coefficients, warp_spline


def coefficients(image: torch.Tensor) -> torch.Tensor:
    return spline_coefficients(torch.fft.rfft2(image.float(), norm="ortho"), (image.shape[0], image.shape[1]))


def wave(y: torch.Tensor, x: torch.Tensor, shape: tuple[int, int], cycles: tuple[int, int]) -> torch.Tensor:
    return torch.cos(2 * torch.pi * (cycles[0] * y / shape[0] + cycles[1] * x / shape[1]) + 0.7)


def test_without_motion_the_image_comes_back() -> None:
    """White noise, whose finest waves lose 3% between the samples of the finer grid."""
    image = torch.randn(45, 55, generator=torch.Generator().manual_seed(1))
    area = (0, 0, 45, 55)
    back = warp_spline(coefficients(image), (45, 55), torch.zeros(2, 6), area)
    assert float((back - image).std()) < 0.02
    part = warp_spline(coefficients(image), (45, 55), torch.zeros(2, 6), (5, 9, 20, 30))
    assert torch.allclose(part, back[5:25, 9:39], atol=1e-5)


# A wave of f cycles per sample of the finer grid loses up to twice (f / (1 - f))^6 along each axis.
@pytest.mark.parametrize(("cycles", "error"), [((3, 5), 1e-5), ((16, 10), 1e-4), ((24, 20), 0.004), ((30, 36), 0.04)])
def test_a_wave_is_moved_as_the_field_says(cycles: tuple[int, int], error: float) -> None:
    """What lay at x lies at x + m(x), also where the whole image had drifted before."""
    shape, area, drift = (64, 80), (8, 10, 48, 60), (1.3, -0.6)
    field = torch.tensor([[0.4, 1.0, -0.8, 0.3, 0.5, 0.2], [-0.3, 0.2, 0.6, -1.1, 0.4, 0.3]], dtype=torch.float64)
    y, x = torch.meshgrid(*(torch.arange(n, dtype=torch.float64) for n in shape), indexing="ij")
    # The image after drift; beyond it the field acts on places before the drift.
    image = wave(y - drift[1], x - drift[0], shape, cycles)
    moved = warp_spline(coefficients(image), shape, field, area, drift)
    at_y, at_x = torch.meshgrid(*(torch.arange(n, dtype=torch.float64) for n in area[2:]), indexing="ij")
    before_y, before_x = at_y - drift[1], at_x - drift[0]
    for _ in range(20):  # solve x + m(x) + drift = place
        u, v = before_x / area[3] - 0.5, before_y / area[2] - 0.5
        terms = torch.stack([torch.ones_like(u), u, u * u, v, v * v, u * v])
        move = torch.einsum("ct,tyx->cyx", field, terms)
        before_x, before_y = at_x - drift[0] - move[0], at_y - drift[1] - move[1]
    expected = wave(before_y + area[0], before_x + area[1], shape, cycles)
    assert float((moved - expected).abs().max()) < error + 2e-3 * np.hypot(*cycles) / 20
