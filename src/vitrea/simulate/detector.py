"""The detector: what it blurs, what it counts, and how unevenly its pixels do so."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vitrea.optics.damping import interpolate_mtf
from vitrea.simulate.canvas import Canvas

_GAIN, _COUNTS, _DEFECTS = 51, 52, 53  # random streams
# Spread of the pixels' sensitivity: each by itself, by strips that share an amplifier, and slowly over the chip.
_PIXEL_SPREAD, _STRIP_SPREAD, _SLOW_SPREAD = 0.03, 0.01, 0.02
_STRIPS = 16


def counting_mtf(frequency: Tensor) -> Tensor:
    """Return the MTF of an electron-counting detector like the K2 at 300 kV.

    The aperture of a pixel, a sinc, times exp(-1.19 f^1.27) for the error of an event's place; fitted to the curve
    measured for the K2 Summit: 0.73 at half of Nyquist and 0.39 there.

    Parameters
    ----------
    frequency : Tensor, any shape
        Cycles per pixel (0.5 is Nyquist).
    """
    return torch.sinc(frequency) * torch.exp(-1.19 * frequency.pow(1.27))


def detector_transfer(canvas: Canvas, table: tuple[NDArray[np.float64], NDArray[np.float64]] | None) -> Tensor:
    """Return the MTF on the half transform of a canvas, scaled to 1 at the origin: float32.

    Parameters
    ----------
    canvas : Canvas
    table : tuple of ndarray or None
        Frequencies in cycles per pixel, and values; None: `counting_mtf`.
    """
    frequency = canvas.radius() * canvas.pixel_size
    if table is None:
        return counting_mtf(frequency).float()
    value = interpolate_mtf(frequency.numpy(), *table) / table[1][0]
    return torch.from_numpy(value.astype(np.float32))


def draw_gain(seed: int, size: tuple[int, int]) -> NDArray[np.float32]:
    """Draw a gain reference: what corrects the counts of each pixel, multiplied; its mean is 1.

    Parameters
    ----------
    seed : int
    size : tuple of int
        Rows and columns.

    Returns
    -------
    ndarray of float32, shape [rows, columns]
        The inverse of the pixels' sensitivity.
    """
    random = np.random.default_rng([seed, _GAIN])
    rows, columns = size
    y, x = np.linspace(-1, 1, rows)[:, None], np.linspace(-1, 1, columns)
    slopes = random.normal(0, _SLOW_SPREAD, 4)
    logarithm = random.normal(0, _PIXEL_SPREAD, size)
    logarithm += slopes[0] * x + slopes[1] * y + slopes[2] * (x * x - 1 / 3) + slopes[3] * (y * y - 1 / 3)
    logarithm += np.repeat(random.normal(0, _STRIP_SPREAD, -(-columns // _STRIPS)), _STRIPS)[:columns]
    gain = np.exp(logarithm)
    return np.asarray(gain / gain.mean(), dtype=np.float32)


def draw_defects(seed: int, size: tuple[int, int], number: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Draw which pixels are bad.

    Returns
    -------
    dead, hot : ndarray of int64
        Indices of flattened pixels; half of `number` each, hot ones fewer.
    """
    chosen = np.random.default_rng([seed, _DEFECTS]).choice(size[0] * size[1], number, replace=False)
    return chosen[number // 2 :], chosen[: number // 2]


def count_electrons(
    expected: NDArray[np.float32], seed: tuple[int, ...], gain: NDArray[np.float32] | None = None
) -> NDArray[np.int64]:
    """Count electrons: Poisson, pixel by pixel.

    Parameters
    ----------
    expected : ndarray, shape [rows, columns]
        Electrons per pixel of a perfect detector; below 0 counts as 0.
    seed : tuple of int
        Of this image or frame.
    gain : ndarray, shape [rows, columns], optional
        What the counts will be corrected with: each pixel counts 1 / gain of its electrons, one of gain 0 nothing.
    """
    mean = np.clip(expected, 0, None).astype(np.float64)
    if gain is not None:
        mean = np.divide(mean, gain, out=np.zeros_like(mean), where=gain > 0)
    return np.random.default_rng([*seed, _COUNTS]).poisson(mean)
