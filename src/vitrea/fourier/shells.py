"""Sums and means over resolution shells.

Shell s holds the samples whose radius in cycles per box rounds to s; its resolution is ``n * pixel_size / s`` Å.
Corners of the transform beyond shell ``n // 2`` belong to no shell.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vitrea.fourier.grid import frequency_radius, half_shape, redundancy
from vitrea.fourier.transforms import to_fourier


def shell_index(size: int, dims: int, *, device: torch.device | str | None = None) -> Tensor:
    """Return the shell of each sample.

    Parameters
    ----------
    size : int
        Box size n in pixels.
    dims : int
        2 or 3.
    device
        Of the tensor returned.

    Returns
    -------
    Tensor of int64, shape [n, n // 2 + 1] or [n, n, n // 2 + 1]
        Nearest integer to the radius; larger than ``n // 2`` in the corners.
    """
    return frequency_radius(size, dims, dtype=torch.float64, device=device).round().long()


def shell_counts(
    size: int, dims: int, *, dtype: torch.dtype = torch.float32, device: torch.device | str | None = None
) -> Tensor:
    """Return the number of samples of the full (redundant) transform in each shell, shape [n // 2 + 1]."""
    return shell_sum(torch.ones(half_shape(size, dims), dtype=dtype, device=device), size, dims)


def shell_sum(values: Tensor, size: int, dims: int) -> Tensor:
    """Sum over each shell as over the full transform: samples whose mate is left out count twice.

    Parameters
    ----------
    values : Tensor, real, shape [..., n, n // 2 + 1] or [..., n, n, n // 2 + 1]
        In the Fourier layout; equal at a frequency and its mate, as powers and real parts are.
    size : int
        Box size n.
    dims : int
        2 or 3.

    Returns
    -------
    Tensor, shape [..., n // 2 + 1]
        Accumulated in float64 and returned in the type of `values`.
    """
    return sum_stored_samples(values * redundancy(size, dtype=values.dtype, device=values.device), size, dims)


def sum_stored_samples(values: Tensor, size: int, dims: int) -> Tensor:
    """Sum over each shell of the half transform as it is stored, every sample once; arguments as `shell_sum`."""
    lead = values.shape[: values.dim() - dims]
    shells = shell_index(size, dims, device=values.device)
    weighted = values.double()
    count = size // 2 + 1
    inside = (shells < count).reshape(-1)
    flat = weighted.reshape(*lead, -1)[..., inside]
    sums = torch.zeros(*lead, count, dtype=torch.float64, device=values.device)
    sums.index_add_(-1, shells.reshape(-1)[inside], flat)
    return sums.to(values.dtype)


def shell_mean(values: Tensor, size: int, dims: int) -> Tensor:
    """Mean over each shell, counted as `shell_sum` does; shape [..., n // 2 + 1]."""
    return shell_sum(values, size, dims) / shell_counts(size, dims, dtype=values.dtype, device=values.device)


def radial_power_spectrum(images: Tensor, dims: int = 2) -> Tensor:
    """Return the mean power in each shell of images or maps.

    Parameters
    ----------
    images : Tensor, shape [..., n, n] or [..., n, n, n]
    dims : int
        2 or 3.

    Returns
    -------
    Tensor, shape [..., n // 2 + 1]
        Mean ``|F|^2`` of orthonormal transforms: 1 in every shell for white noise of unit variance.
    """
    transforms = to_fourier(images, dims)
    return shell_mean(transforms.real.square() + transforms.imag.square(), images.shape[-1], dims)


def radial_real_profile(voxels: Tensor) -> Tensor:
    """Replace each voxel by the mean of all voxels at its distance from the centre, rounded to whole voxels.

    Parameters
    ----------
    voxels : Tensor, shape [n, n] or [n, n, n]

    Returns
    -------
    Tensor, shape of `voxels`
    """
    size, dims = voxels.shape[-1], voxels.ndim
    axis = torch.arange(size, device=voxels.device, dtype=torch.float64) - size // 2
    squared = sum(torch.meshgrid(*([axis**2] * dims), indexing="ij"), start=torch.zeros((), dtype=torch.float64))
    ring = squared.sqrt().round().long().flatten()
    total = torch.zeros(int(ring.max()) + 1, dtype=torch.float64, device=voxels.device)
    total.index_add_(0, ring, voxels.double().flatten())
    mean = total / torch.bincount(ring)
    return mean[ring].view(voxels.shape).to(voxels.dtype)


def spread_shells(curve: Tensor, size: int, dims: int, beyond: float = 0.0) -> Tensor:
    """Give each sample the value of its shell: the transpose of summing over shells.

    Parameters
    ----------
    curve : Tensor, shape [..., n // 2 + 1]
        One value a shell.
    size : int
        Box size n.
    dims : int
        2 or 3.
    beyond : float
        Value of the corners beyond the last shell.

    Returns
    -------
    Tensor, shape [..., n, n // 2 + 1] or [..., n, n, n // 2 + 1]
    """
    shells = shell_index(size, dims, device=curve.device)
    padded = torch.nn.functional.pad(curve, (0, 1), value=beyond)
    return padded[..., shells.clamp(max=size // 2 + 1)]
