"""An image moved by a smooth field of displacements, with quintic B-splines: the accuracy that a simulated truth needs.

The image is sampled 1.5 times finer first, by padding its transform; the coefficients of the spline are found there,
where dividing by the transform of the sampled B-spline is exact (Unser 1999, doi:10.1109/79.799930). A wave of
frequency f (1 is the finer sampling) loses twice (f / (1 - f))^6 of its amplitude: 0.3% at 0.75 of Nyquist and 3% at
Nyquist.
`kernels.warp` is the fast counterpart for real movies.
"""

from __future__ import annotations

import math

import torch
from numba import njit, prange
from scipy.fft import next_fast_len
from torch import Tensor

_FINER = 1.5
_ROUNDS = 2  # of the fixed point x = y - m(x): m changes by a pixel in a hundred at most


def spline_coefficients(transform: Tensor, shape: tuple[int, int]) -> Tensor:
    """Return the coefficients of an image's quintic B-spline on a grid 1.5 times finer.

    Parameters
    ----------
    transform : Tensor of complex64, shape [rows, columns // 2 + 1]
        Orthonormal half transform of the image.
    shape : tuple of int
        Rows and columns of the image.

    Returns
    -------
    Tensor of float32, shape [finer rows, finer columns]
    """
    finer = (
        next_fast_len(math.ceil(_FINER * shape[0]), real=True),
        next_fast_len(math.ceil(_FINER * shape[1]), real=True),
    )
    down, across = (_sampled_spline(torch.fft.fftfreq(finer[0])), _sampled_spline(torch.fft.rfftfreq(finer[1])))
    padded = torch.zeros(finer[0], finer[1] // 2 + 1, dtype=transform.dtype)
    positive, negative, half = (shape[0] + 1) // 2, shape[0] // 2, shape[1] // 2 + 1
    scale = math.sqrt(finer[0] * finer[1] / (shape[0] * shape[1]))
    across = scale / across[:half]
    padded[:positive, :half] = transform[:positive] * (across / down[:positive, None])
    padded[finer[0] - negative :, :half] = transform[positive:] * (across / down[finer[0] - negative :, None])
    coefficients: Tensor = torch.fft.irfft2(padded, s=finer, norm="ortho")
    return coefficients


def _sampled_spline(frequency: Tensor) -> Tensor:
    """Transform of the quintic B-spline's values at whole numbers; frequency in cycles per sample."""
    angle = 2 * torch.pi * frequency
    return (66 + 52 * torch.cos(angle) + 2 * torch.cos(2 * angle)) / 120


def warp_spline(
    coefficients: Tensor,
    shape: tuple[int, int],
    field: Tensor,
    area: tuple[int, int, int, int],
    drift: tuple[float, float] = (0.0, 0.0),
) -> Tensor:
    """Move what an image shows: what lay at x comes to lie at x + m(x).

    Parameters
    ----------
    coefficients : Tensor of float32, shape [finer rows, finer columns]
        From `spline_coefficients`; the image is periodic.
    shape : tuple of int
        Rows and columns of the image itself.
    field : Tensor of float64, shape [2, 6]
        m along x and y in pixels: coefficients of 1, x, x², y, y², xy, with x and y from -0.5 to 0.5 over `area`.
    area : tuple of int
        Top, left, height, width: the part of the image that is wanted, and over which the field is defined.
    drift : tuple of float
        x, y: how far the image has been moved already: the field belongs to the places before.

    Returns
    -------
    Tensor of float32, shape [height, width]
    """
    out = torch.empty(area[2], area[3], dtype=torch.float32)
    finer = (coefficients.shape[0] / shape[0], coefficients.shape[1] / shape[1])
    _warp(coefficients.numpy(), finer, field.double().numpy(), area, drift, out.numpy())
    return out


@njit(cache=True, inline="always")
def _weights(t, w):  # type: ignore[no-untyped-def]
    """Values of the quintic B-spline at distances t + 2, t + 1, ... t - 3 (Unser, Aldroubi & Eden 1993)."""
    squared = t * t
    w[5] = t * squared * squared / 120.0
    squared -= t
    fourth = squared * squared
    shifted = t - 0.5
    middle = squared * (squared - 3.0)
    w[0] = (0.2 + squared + fourth) / 24.0 - w[5]
    even = (squared * (squared - 5.0) + 46.0 / 5.0) / 24.0
    odd = -shifted * (middle + 4.0) / 12.0
    w[2] = even + odd
    w[3] = even - odd
    even = (9.0 / 5.0 - middle) / 16.0
    odd = shifted * (fourth - squared - 5.0) / 24.0
    w[1] = even + odd
    w[4] = even - odd


@njit(cache=True, inline="always")
def _value(c, x, y):  # type: ignore[no-untyped-def]
    return c[0] + (c[1] + c[2] * x) * x + (c[3] + c[4] * y + c[5] * x) * y


@njit(parallel=True, cache=True, fastmath=True)
def _warp(image, finer, field, area, drift, out):  # type: ignore[no-untyped-def]
    rows, columns = image.shape
    top, left, height, width = area
    for i in prange(height):
        wx, wy = [0.0] * 6, [0.0] * 6
        at = [0] * 6
        for j in range(width):
            x, y = j - drift[0], i - drift[1]
            for _ in range(_ROUNDS):
                u, v = x / width - 0.5, y / height - 0.5
                x = j - drift[0] - _value(field[0], u, v)
                y = i - drift[1] - _value(field[1], u, v)
            # The image has drifted: the place to read is the one before the field acted, moved by the drift.
            x, y = finer[1] * (x + drift[0] + left), finer[0] * (y + drift[1] + top)
            x0, y0 = int(x // 1.0), int(y // 1.0)
            _weights(x - x0, wx)
            _weights(y - y0, wy)
            for k in range(6):
                at[k] = (x0 + k - 2) % columns
            total = 0.0
            for k in range(6):
                row = image[(y0 + k - 2) % rows]
                line = 0.0
                for m in range(6):
                    line += wx[m] * row[at[m]]
                total += wy[k] * line
            out[i, j] = total
