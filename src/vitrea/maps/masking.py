"""Soft solvent masks from densities and from geometry, as ``relion_mask_create`` makes them.

A mask has values 0 to 1 and shape [z, y, x]. Distances are Euclidean and in voxels; soft edges are raised cosines of
the distance. Agreement with RELION 5 is to float32 rounding.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from vitrea.fourier.filters import lowpass as lowpass_filter

Floats = NDArray[np.floating[Any]]
Binary = NDArray[np.bool_]

LOGIC: dict[str, Callable[[Binary, Binary], Binary]] = {
    "and": lambda first, second: first & second,
    "or": lambda first, second: first | second,
    "and_not": lambda first, second: first & ~second,
    "or_not": lambda first, second: first | ~second,
}
"""How the voxels above threshold of two maps may be combined."""


def lowpass_density(density: Floats, resolution: float, voxel_size: float) -> Floats:
    """Low-pass filter a density of shape [n, n, n] to a resolution in Å; an edge of two shells."""
    return lowpass_filter(torch.from_numpy(np.ascontiguousarray(density)), resolution, voxel_size).numpy()


def extend(binary: Binary, pixels: float) -> Binary:
    """Grow a binary mask by every voxel nearer to it than a distance; a negative distance shrinks it.

    Parameters
    ----------
    binary : ndarray of bool, shape [z, y, x]
    pixels : float
        Distance in voxels; voxels at exactly this distance stay as they were, as in RELION.
    """
    if pixels == 0 or not binary.any() or binary.all():
        return binary.copy()
    distance = _distance_to(binary if pixels > 0 else ~binary)
    return binary | (distance < pixels) if pixels > 0 else binary & (distance >= -pixels)


def soften(binary: Binary, width: float) -> NDArray[np.float32]:
    """Give a binary mask a raised-cosine edge outside it.

    Parameters
    ----------
    binary : ndarray of bool, shape [z, y, x]
    width : float
        Distance in voxels over which the mask falls from 1 to 0; 0 leaves it binary.
    """
    if width <= 0 or not binary.any() or binary.all():
        return binary.astype(np.float32)
    return raised_cosine_fall(_distance_to(binary), width).astype(np.float32)


def _distance_to(binary: Binary) -> NDArray[np.float64]:
    """Distance in voxels from each voxel to the nearest one that is set."""
    distance: NDArray[np.float64] = ndimage.distance_transform_edt(~binary)
    return distance


def mask_from_binary(binary: Binary, extend_pixels: float = 0.0, soft_edge_pixels: float = 0.0) -> NDArray[np.float32]:
    """Extend a binary mask and soften what results; see `extend` and `soften`."""
    return soften(extend(binary, extend_pixels), soft_edge_pixels)


def mask_from_map(
    density: Floats,
    threshold: float,
    extend_pixels: float = 0.0,
    soft_edge_pixels: float = 0.0,
    lowpass: float | None = None,
    voxel_size: float = 1.0,
) -> NDArray[np.float32]:
    """Make a soft mask around what of a map lies above a threshold.

    Parameters
    ----------
    density : ndarray, shape [n, n, n]
    threshold : float
        Grey value; voxels above it start the mask.
    extend_pixels : float
        Voxels to grow the mask by (negative: to shrink it).
    soft_edge_pixels : float
        Width of the raised-cosine edge added outside.
    lowpass : float, optional
        Resolution in Å the density is filtered to before the threshold.
    voxel_size : float
        Å; used with `lowpass` only.

    Returns
    -------
    ndarray of float32, shape [n, n, n]

    Raises
    ------
    ValueError
        If no voxel, or every voxel, is above the threshold.
    """
    filtered = density if lowpass is None else lowpass_density(density, lowpass, voxel_size)
    binary = filtered > threshold
    if not binary.any() or binary.all():
        raise ValueError(
            f"the threshold {threshold:g} leaves {'every' if binary.any() else 'no'} voxel in the mask: "
            f"grey values run from {filtered.min():.4g} to {filtered.max():.4g}"
        )
    return mask_from_binary(binary, extend_pixels, soft_edge_pixels)


def sphere_mask(
    size: int,
    outer_radius: float,
    soft_edge_pixels: float = 0.0,
    inner_radius: float = 0.0,
    center: tuple[float, float, float] = (0.0, 0.0, 0.0),
) -> NDArray[np.float32]:
    """Make a spherical mask, or a shell if an inner radius is given.

    Parameters
    ----------
    size : int
        Box size n in voxels.
    outer_radius, inner_radius : float
        Voxels. The mask is 1 between them.
    soft_edge_pixels : float
        Width of the raised cosine outside the outer and inside the inner radius.
    center : tuple of float
        x, y, z of the centre in voxels from voxel ``n // 2``.

    Returns
    -------
    ndarray of float32, shape [n, n, n]
    """
    axis = np.arange(size, dtype=np.float64) - size // 2
    x, y, z = (axis - offset for offset in center)
    radius = np.sqrt(x[None, None, :] ** 2 + y[None, :, None] ** 2 + z[:, None, None] ** 2)
    mask = raised_cosine_fall(radius - outer_radius, soft_edge_pixels)
    if inner_radius > 0:
        mask = mask * raised_cosine_fall(inner_radius - radius, soft_edge_pixels)
    return mask.astype(np.float32)


def raised_cosine_fall(distance: NDArray[np.float64], width: float) -> NDArray[np.float64]:
    """Return 1 inside (distance <= 0), falling to 0 at `width` voxels outside; without a width the step itself."""
    if width <= 0:
        return (distance <= 0).astype(np.float64)
    return 0.5 + 0.5 * np.cos(np.pi * np.clip(distance / width, 0.0, 1.0))


def keep_large_pieces(binary: Binary, fraction: float) -> Binary:
    """Drop connected pieces with fewer voxels than a fraction of the largest piece."""
    labels, count = ndimage.label(binary)
    if count < 2:
        return binary
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    keep = sizes >= fraction * sizes.max()
    kept: Binary = keep[labels]
    return kept
