"""The effect of interpolation in an oversampled Fourier grid, and how to undo it."""

from __future__ import annotations

import torch
from torch import Tensor


def interpolation_correction(size: int, padding: float, dims: int, device: torch.device | None = None) -> Tensor:
    """Real-space image of trilinear interpolation in an oversampled Fourier grid: ``sinc²(r / (padding size))``.

    Dividing a map by it before it is sampled, or after it is reconstructed, undoes the interpolation's fall-off
    (Jackson et al. 1991, doi:10.1109/42.97598).

    Returns
    -------
    Tensor of float32, shape [size] * dims
    """
    axis = torch.arange(size, dtype=torch.float64, device=device) - size // 2
    squared = sum(torch.meshgrid(*([axis**2] * dims), indexing="ij"), start=torch.zeros((), dtype=torch.float64))
    return (torch.sinc(squared.sqrt() / (padding * size)) ** 2).to(torch.float32)
