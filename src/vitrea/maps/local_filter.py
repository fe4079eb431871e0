"""A map filtered to a resolution that changes from place to place."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from vitrea.fourier.filters import bfactor_window
from vitrea.fourier.shells import shell_mean, spread_shells
from vitrea.fourier.transforms import to_fourier, to_real
from vitrea.maps.half_maps import as_tensor
from vitrea.maps.local_fsc import LocalFsc
from vitrea.maps.sharpening import ModulationTransfer, mtf_window

Floats = NDArray[np.floating[Any]]
Curves = NDArray[np.float64]

_TOLERANCE = 1e-3
"""What a sum of few filters may differ by from all of them, relative to the map filtered (root mean square)."""
_MOST_NODES = 48


def sharpened_transform(
    half1: Floats, half2: Floats, voxel_size: float, bfactor: float = 0.0, mtf: ModulationTransfer | None = None
) -> Tensor:
    """Return the transform of the mean of two half maps, divided by the detector's MTF and sharpened.

    Parameters
    ----------
    half1, half2 : ndarray, shape [n, n, n]
    voxel_size : float
        Å.
    bfactor : float
        Å²; negative sharpens.
    mtf : ModulationTransfer, optional

    Returns
    -------
    Tensor, complex, shape [n, n, n // 2 + 1]
        Corners beyond Nyquist are 0.
    """
    size = half1.shape[-1]
    transform = to_fourier(as_tensor((half1 + half2) / 2), 3)
    weights = bfactor_window(size, 3, bfactor, voxel_size, dtype=torch.float64)
    if mtf is not None:
        weights = weights / mtf_window(size, voxel_size, mtf)
    return transform * weights.to(transform.real.dtype)


def window_filters(local: LocalFsc, edge: float = 2.0) -> Curves:
    """Return what ``relion_postprocess --locres`` multiplies the shells of a map by, window by window.

    Parameters
    ----------
    local : LocalFsc
    edge : float
        Full width in shells of the edge of the low-pass filter at the resolution of a window.

    Returns
    -------
    ndarray, shape [windows, n // 2 + 1]
        ``sqrt(2 FSC / (1 + FSC))``, 0 from the first shell whose FSC is not positive, and 0 beyond the resolution.
    """
    size = local.lattice.size
    positive = np.cumprod(local.corrected > 1e-10, axis=1)
    fsc = np.clip(local.corrected, 0.0, 1.0)
    limit = size * local.voxel_size / local.resolution[:, None]
    return positive * np.sqrt(2 * fsc / (1 + fsc)) * _lowpass_curves(limit, size, edge)


def _lowpass_curves(limits: Floats, size: int, edge: float) -> Curves:
    """Return low-pass filters per shell with edges of `edge` shells about limits (shells), shape [filters, 1]."""
    shells = np.arange(size // 2 + 1)
    ramp = np.clip((shells - limits) / max(edge, 1e-6) + 0.5, 0.0, 1.0)
    curves: Curves = 0.5 + 0.5 * np.cos(np.pi * ramp)
    return curves


def filter_in_windows(transform: Tensor, local: LocalFsc, filters: Curves) -> NDArray[np.float32]:
    """Filter a map by the filters of windows, and blend what they leave as the windows overlap.

    All filters are sums of a few (their principal components, weighted by the map's power per shell), so that few
    maps are filtered and blended instead of one for each window.

    Parameters
    ----------
    transform : Tensor, complex, shape [n, n, n // 2 + 1]
    local : LocalFsc
    filters : ndarray, shape [windows, n // 2 + 1]

    Returns
    -------
    ndarray of float32, shape [n, n, n]
        0 where there is no window.
    """
    size = local.lattice.size
    amplitude = np.sqrt(shell_mean(transform.abs().square().double(), size, 3).numpy() * _samples(size))
    amplitude = np.maximum(amplitude, 1e-12 * amplitude.max())
    left, strength, right = np.linalg.svd(filters * amplitude, full_matrices=False)
    tail = np.sqrt(np.cumsum(strength[::-1] ** 2)[::-1])  # of what is left out from here on
    rank = max(1, int((tail > _TOLERANCE * tail[0]).sum()))
    shares, curves = left[:, :rank] * strength[:rank], right[:rank] / amplitude
    return _sum_of_filters(transform, curves, local.lattice.blend(shares))


def _samples(size: int) -> Floats:
    shells = np.arange(size // 2 + 1)
    return 4 * np.pi * shells**2 + 1.0


def filter_by_map(transform: Tensor, voxel_size: float, resolution: Floats, edge: float = 2.0) -> NDArray[np.float32]:
    """Low-pass filter a map to the resolution that another map gives at each voxel.

    Parameters
    ----------
    transform : Tensor, complex, shape [n, n, n // 2 + 1]
    voxel_size : float
        Å.
    resolution : ndarray, shape [n, n, n]
        Å; 0 where nothing is known: the result is 0 there.
    edge : float
        Full width of the filters' edges in shells.

    Returns
    -------
    ndarray of float32, shape [n, n, n]
    """
    size = resolution.shape[-1]
    known = resolution > 0
    frequency = np.divide(size * voxel_size, resolution, out=np.zeros(resolution.shape), where=known)  # shells
    if not known.any():
        return np.zeros(resolution.shape, dtype=np.float32)
    # Steps between regions would show as seams: half the finest resolution blurs them.
    blur = 0.5 * float(resolution[known].min()) / voxel_size
    weight = ndimage.gaussian_filter(known.astype(np.float32), blur)
    smooth = ndimage.gaussian_filter(frequency.astype(np.float32), blur) / np.maximum(weight, 1e-6)
    low, high = float(smooth[known].min()), float(smooth[known].max())
    nodes = np.linspace(low, high, min(_MOST_NODES, max(2, round(high - low) + 1)))
    place = np.interp(smooth[known], nodes, np.arange(len(nodes)))
    return _between_filters(transform, _lowpass_curves(nodes[:, None], size, edge), np.flatnonzero(known), place)


def _between_filters(
    transform: Tensor, curves: Curves, voxels: NDArray[np.signedinteger[Any]], place: Floats
) -> NDArray[np.float32]:
    """Return a map that is at each of some voxels between the two filtered ones its place lies between; else 0.

    Parameters
    ----------
    transform : Tensor, complex, shape [n, n, n // 2 + 1]
    curves : ndarray, shape [filters, n // 2 + 1]
    voxels : ndarray of int
        Indices into the map, flattened.
    place : ndarray, shape of `voxels`
        Which filter is meant: 1.25 is three quarters of the second and a quarter of the third.
    """
    size = int(transform.shape[-2])
    order = np.argsort(place, kind="stable")
    voxels, place = voxels[order], place[order]
    bounds = np.searchsorted(place, np.arange(-1, len(curves) + 1))
    total = np.zeros(size**3, dtype=np.float32)
    for number, (begin, end) in enumerate(zip(bounds[:-2], bounds[2:], strict=True)):
        if begin == end:
            continue
        here = voxels[begin:end]
        weight = (1.0 - np.abs(place[begin:end] - number)).astype(np.float32)
        total[here] += weight * _filtered(transform, curves[number]).numpy().reshape(-1)[here]
    return total.reshape((size,) * 3)


def _sum_of_filters(transform: Tensor, curves: Curves, weights: Iterable[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Return the sum of filtered maps, each times its weight at each voxel."""
    size = int(transform.shape[-2])
    total = torch.zeros((size,) * 3, dtype=transform.real.dtype)
    for curve, weight in zip(curves, weights, strict=True):
        total.addcmul_(_filtered(transform, curve), torch.from_numpy(weight))
    return total.numpy().astype(np.float32)


def _filtered(transform: Tensor, curve: Curves) -> Tensor:
    """Return a map whose shells are multiplied by a curve."""
    size = int(transform.shape[-2])
    window = spread_shells(torch.from_numpy(curve).to(transform.real.dtype), size, 3)
    return to_real(transform * window, size, 3)
