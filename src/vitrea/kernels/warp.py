"""Interpolation of an image along a smooth field of shifts.

An 8-point Lanczos filter. Halfway between pixels, where interpolation is worst, it leaves 1.01 of an amplitude at half
of Nyquist and 0.97 at 0.7 of it; bilinear interpolation, as in RELION's motion correction, 0.71 and 0.45. Within a
small block of pixels the shift is taken as constant, so that the filter is two short sums, over columns and rows, with
weights that are looked up once.
"""

from __future__ import annotations

import functools

import numpy as np
import torch
from numba import njit, prange
from numpy.typing import NDArray
from torch import Tensor

_TAPS = 8
_BEFORE = 3  # pixels before the one at, or just before, the position
_STEPS = 2048  # of a pixel, for which the filter is tabulated


@functools.cache
def _lanczos_table() -> NDArray[np.float32]:
    """Weights of the eight pixels about a position that lies a fraction of a pixel after the fourth; rows sum to 1."""
    fraction = np.arange(_STEPS + 1)[:, None] / _STEPS
    distance = np.arange(_TAPS) - _BEFORE - fraction
    weights = np.sinc(distance) * np.sinc(distance / 4)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True), dtype=np.float32)


def warp_add(image: Tensor, field: Tensor, total: Tensor, block: int = 8) -> None:
    """Add an image, moved by shifts that vary over it, to a sum: ``total(p) += image(p - shift(p))``.

    Parameters
    ----------
    image : Tensor of float32, shape [y, x]
    field : Tensor of float64, shape [2, 6]
        The shift along x and y in pixels, as coefficients of 1, x, x², y, y², xy, where x and y run from -0.5 (the
        first pixel) to 0.5 over the image: RELION's polynomial at one time. Beyond an edge the last pixel repeats.
    total : Tensor of float32, shape [y, x]
        Receives the result.
    block : int
        Pixels along an edge of the squares whose shift is that of their centre; 1 for a field that varies fast.
    """
    coefficients = field.double().cpu().numpy()
    if image.device.type == "cpu":
        _warp_numba(image.numpy(), coefficients, total.numpy(), block, _lanczos_table())
    else:
        _warp_torch(image, coefficients, total, block)


def _field_at(field: NDArray[np.float64], x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    terms = (torch.ones_like(x * y), x, x * x, y, y * y, x * y)
    move_x, move_y = (sum(float(c) * term for c, term in zip(row, terms, strict=True)) for row in field)
    return torch.as_tensor(move_x), torch.as_tensor(move_y)


def _warp_torch(image: Tensor, field: NDArray[np.float64], total: Tensor, block: int) -> None:
    rows, columns = image.shape
    table = torch.from_numpy(_lanczos_table()).to(image.device)
    y = torch.arange(rows, dtype=torch.float64, device=image.device)[:, None]
    x = torch.arange(columns, dtype=torch.float64, device=image.device)
    move_x, move_y = _field_at(field, *(_block_centre(p, block, n) / n - 0.5 for p, n in ((x, columns), (y, rows))))
    corners, weights = [], []
    for move in (move_x, move_y):
        whole = torch.floor(-move)
        weights.append(table[torch.round((-move - whole) * _STEPS).long()])
        corners.append(whole.long())
    for j in range(_TAPS):
        row = (y.long() + corners[1] + (j - _BEFORE)).clamp(0, rows - 1)
        line = torch.zeros_like(image)
        for i in range(_TAPS):
            column = (x.long() + corners[0] + (i - _BEFORE)).clamp(0, columns - 1)
            line += weights[0][..., i] * image[row, column]
        total += weights[1][..., j] * line


def _block_centre(position: Tensor, block: int, length: int) -> Tensor:
    start = torch.floor(position / block) * block
    return (start + torch.clamp(start + block, max=length) - 1) / 2


@njit(cache=True, inline="always")
def _polynomial(c, x, y):  # type: ignore[no-untyped-def]
    return c[0] + (c[1] + c[2] * x) * x + (c[3] + c[4] * y + c[5] * x) * y


@njit(parallel=True, cache=True, fastmath=True)
def _warp_numba(image, field, total, block, table):  # type: ignore[no-untyped-def]
    rows, columns = image.shape
    for band in prange((rows + block - 1) // block):
        y0, y1 = band * block, min((band + 1) * block, rows)
        lines = np.empty((block + _TAPS - 1, block), dtype=np.float32)
        v = 0.5 * (y0 + y1 - 1) / rows - 0.5
        for x0 in range(0, columns, block):
            x1 = min(x0 + block, columns)
            u = 0.5 * (x0 + x1 - 1) / columns - 0.5
            move_x, move_y = -_polynomial(field[0], u, v), -_polynomial(field[1], u, v)
            whole_x, whole_y = int(np.floor(move_x)), int(np.floor(move_y))
            a = table[int(np.rint((move_x - whole_x) * _STEPS))]
            b = table[int(np.rint((move_y - whole_y) * _STEPS))]
            width, height = x1 - x0, y1 - y0
            left, right = x0 + whole_x - _BEFORE, x1 + whole_x + _TAPS - _BEFORE - 1
            inside = left >= 0 and right <= columns
            for j in range(height + _TAPS - 1):
                row = image[min(max(y0 + whole_y + j - _BEFORE, 0), rows - 1)]
                if inside:
                    part = row[left:right]
                    for i in range(width):
                        lines[j, i] = (
                            a[0] * part[i] + a[1] * part[i + 1] + a[2] * part[i + 2] + a[3] * part[i + 3]
                            + a[4] * part[i + 4] + a[5] * part[i + 5] + a[6] * part[i + 6] + a[7] * part[i + 7]
                        )  # fmt: skip
                else:
                    for i in range(width):
                        value = np.float32(0.0)
                        for tap in range(_TAPS):
                            value += a[tap] * row[min(max(left + i + tap, 0), columns - 1)]
                        lines[j, i] = value
            for j in range(height):
                out = total[y0 + j, x0:x1]
                for i in range(width):
                    out[i] += (
                        b[0] * lines[j, i] + b[1] * lines[j + 1, i] + b[2] * lines[j + 2, i]
                        + b[3] * lines[j + 3, i] + b[4] * lines[j + 4, i] + b[5] * lines[j + 5, i]
                        + b[6] * lines[j + 6, i] + b[7] * lines[j + 7, i]
                    )  # fmt: skip
