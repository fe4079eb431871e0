"""Noise of simulated images: white, or with a given power spectrum; the same for a particle whatever its company."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vitrea.fourier.shells import shell_counts, spread_shells
from vitrea.fourier.transforms import to_fourier, to_real

# The default coloured spectrum: what ice, carbon and inelastic scattering leave at low resolution over a white floor.
_EXCESS = 4.0
_EXCESS_FREQUENCY = 1 / 40.0  # 1/Å
_STREAM = 7  # keeps the noise's random numbers apart from those of poses


def white_noise(seed: int, first: int, count: int, size: int) -> NDArray[np.float32]:
    """Gaussian noise of unit variance.

    Parameters
    ----------
    seed : int
    first : int
        Number of the first image in its set: each image has a random stream of its own.
    count, size : int
        Images, and pixels along an edge.

    Returns
    -------
    ndarray of float32, shape [count, size, size]
    """
    noise = np.empty((count, size, size), dtype=np.float32)
    for row in range(count):
        np.random.default_rng([seed, _STREAM, first + row]).standard_normal(dtype=np.float32, out=noise[row])
    return noise


def coloured_spectrum(size: int, pixel_size: float) -> NDArray[np.float64]:
    """Power by shell of typical background: a white floor under a low-resolution excess.

    ``1 + 4 exp(-(k 40 Å)² / 2)``, scaled to unit variance per pixel; shape [size // 2 + 1].
    """
    k = np.arange(size // 2 + 1) / (size * pixel_size)
    return unit_variance(1.0 + _EXCESS * np.exp(-0.5 * (k / _EXCESS_FREQUENCY) ** 2), size)


def unit_variance(power: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    """Scale a spectrum so that noise with it has unit variance per pixel; the corners count as the last shell.

    Parameters
    ----------
    power : ndarray, shape [size // 2 + 1]
        Mean |F|² of orthonormal transforms by shell, not all 0.
    size : int
    """
    counts = shell_counts(size, 2, dtype=torch.float64).numpy()
    counts[-1] += size * size - counts.sum()
    return power * (size * size / float(counts @ power))


def colour(noise: Tensor, power: NDArray[np.float64]) -> Tensor:
    """Give white noise a spectrum.

    Parameters
    ----------
    noise : Tensor, shape [images, n, n]
        White, of unit variance.
    power : ndarray, shape [n // 2 + 1]
        Mean |F|² by shell.

    Returns
    -------
    Tensor, shape [images, n, n]
    """
    size = noise.shape[-1]
    amplitude = torch.from_numpy(np.sqrt(power)).to(noise.dtype)
    return to_real(to_fourier(noise) * spread_shells(amplitude, size, 2, beyond=float(amplitude[-1])), size, 2)
