"""Where the samples of a transform lie: integer frequencies and radii in Vitrea's Fourier layout."""

from __future__ import annotations

import torch
from torch import Tensor


def half_shape(size: int, dims: int) -> tuple[int, ...]:
    """Return the shape of the transform of a box: ``(n, n // 2 + 1)`` in 2D, ``(n, n, n // 2 + 1)`` in 3D."""
    return (size,) * (dims - 1) + (size // 2 + 1,)


def frequency_axes(
    size: int, dims: int, *, dtype: torch.dtype = torch.float32, device: torch.device | str | None = None
) -> tuple[Tensor, ...]:
    """Return the integer frequencies along each axis, x first, shaped to broadcast over a transform.

    Parameters
    ----------
    size : int
        Box size n in pixels, even or odd.
    dims : int
        2 or 3.
    dtype, device
        Of the tensors returned.

    Returns
    -------
    tuple of Tensor
        ``(kx, ky)`` or ``(kx, ky, kz)`` in cycles per box. kx has shape [n // 2 + 1]; ky [n, 1]; kz [n, 1, 1]. An even
        box has kx = +n/2 and ky, kz = -n/2 at Nyquist, as ``rfftfreq`` and ``fftfreq`` have.
    """
    half = torch.arange(size // 2 + 1, dtype=dtype, device=device)
    full = torch.fft.fftfreq(size, d=1.0 / size, dtype=torch.float64).round().to(dtype=dtype, device=device)
    return (half, *(full.reshape((size,) + (1,) * axis) for axis in range(1, dims)))


def frequency_radius(
    size: int, dims: int, *, dtype: torch.dtype = torch.float32, device: torch.device | str | None = None
) -> Tensor:
    """Return the distance of each sample from the origin, in cycles per box, in the layout of a transform."""
    square = torch.zeros((), dtype=torch.float64)
    for k in frequency_axes(size, dims, dtype=torch.float64):
        square = square + k * k
    return square.sqrt().to(dtype=dtype, device=device)


def redundancy(size: int, *, dtype: torch.dtype = torch.float32, device: torch.device | str | None = None) -> Tensor:
    """Return how many samples of the full transform each column of the half transform stands for.

    Returns
    -------
    Tensor, shape [n // 2 + 1]
        2 for columns whose mirror image is left out (0 < kx < n/2), 1 for kx = 0 and, in an even box, kx = n/2, where
        the half transform holds both mates.
    """
    weights = torch.full((size // 2 + 1,), 2.0, dtype=dtype, device=device)
    weights[0] = 1.0
    if size % 2 == 0:
        weights[-1] = 1.0
    return weights
