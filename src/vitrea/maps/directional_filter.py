"""Maps made of a directional FSC: the 3D FSC itself, and a map filtered in each direction to its own resolution."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vitrea.fourier.transforms import to_fourier, to_real
from vitrea.maps.directional_fsc import DirectedSamples, DirectionalFsc, DirectionalResolution
from vitrea.maps.half_maps import as_tensor

Floats = NDArray[np.floating[Any]]

_EDGE = 2.0  # shells of the filter's soft edge


def fsc_volume(fsc: DirectionalFsc) -> NDArray[np.float32]:
    """Return the 3D FSC: at each point of Fourier space the FSC of its shell inside the cone about its direction.

    Returns
    -------
    ndarray of float32, shape [n, n, n]
        The origin is at voxel ``n // 2``; a voxel is ``1 / (n * voxel size)`` 1/Å wide. 0 beyond the last shell.
    """
    samples = DirectedSamples(fsc.size)
    half = torch.zeros(samples.inside.shape, dtype=torch.float32)
    half[samples.inside] = _interpolated(fsc, samples)
    return _both_halves(half, fsc.size)


def filter_by_direction(density: Floats, fsc: DirectionalFsc, resolution: DirectionalResolution) -> NDArray[np.float32]:
    """Filter a map in each direction to the resolution it has there.

    Parameters
    ----------
    density : ndarray, shape [n, n, n]
        The mean of the half maps.
    fsc : DirectionalFsc
    resolution : DirectionalResolution
        Where to end in each direction.

    Returns
    -------
    ndarray of float32, shape [n, n, n]
        Weighted by ``sqrt(2 FSC / (1 + FSC))`` (Rosenthal & Henderson 2003, doi:10.1016/j.jmb.2003.07.013) up to the
        crossing of each direction, with a cosine edge of two shells there. Directions without signal are left empty:
        no other streaks, but what was never measured is not made up either.
    """
    samples = DirectedSamples(fsc.size)
    correlation = _interpolated(fsc, samples).clamp(0.0, 1.0)
    end = torch.from_numpy(resolution.shells.astype(np.float32))[samples.bin]
    ramp = ((samples.radius - end) / _EDGE + 0.5).clamp(0.0, 1.0)
    weight = (2.0 * correlation / (1.0 + correlation)).sqrt() * (0.5 + 0.5 * torch.cos(torch.pi * ramp))
    voxels = as_tensor(density)
    transform = to_fourier(voxels, 3)
    filtered = torch.zeros_like(transform)
    filtered[samples.inside] = transform[samples.inside] * weight.to(voxels.dtype)
    return np.asarray(to_real(filtered, fsc.size, 3).float().numpy())


def _interpolated(fsc: DirectionalFsc, samples: DirectedSamples) -> Tensor:
    """Return the directional FSC at each sample, between shells by straight lines: float32 [samples]."""
    curves = torch.from_numpy(fsc.curves)
    last = curves.shape[1] - 1
    below = samples.radius.floor().long().clamp(max=last)
    part = (samples.radius - below).clamp(max=1.0)
    return torch.lerp(curves[samples.bin, below], curves[samples.bin, (below + 1).clamp(max=last)], part)


def _both_halves(half: Tensor, size: int) -> NDArray[np.float32]:
    """Return values at all frequencies, the origin in the middle, of those in the Fourier layout; mates are equal."""
    axes = (0, 1)
    mates = torch.roll(torch.flip(half, axes), (1, 1), axes)
    negative = torch.flip(mates[..., 1 : size // 2 + 1], (2,))  # kx from -(n // 2) to -1
    full = torch.cat([negative, half[..., : (size + 1) // 2]], dim=2)
    return np.ascontiguousarray(torch.fft.fftshift(full, dim=axes).numpy())
