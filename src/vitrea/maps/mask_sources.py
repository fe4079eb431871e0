"""What a mask may start from beside a threshold: a cylinder, the atoms of a model, what two maps differ by.

Arrays are [z, y, x]; distances are in voxels unless it says Å.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

from vitrea.maps.masking import raised_cosine_fall

Floats = NDArray[np.floating[Any]]
Binary = NDArray[np.bool_]

_HALF_DIAGONAL = 0.5 * 3.0**0.5
_DIFFERENCE_LEVELS = 5.0  # standard deviations of the noise; a million voxels of it reach that once or twice
_RIPPLES = 0.1
_TO_DEVIATION = 1.4826  # from the median absolute value of Gaussian noise to its standard deviation


def cylinder_mask(
    size: int,
    outer_radius: float,
    length: float,
    soft_edge_pixels: float = 0.0,
    inner_radius: float = 0.0,
    center: tuple[float, float, float] = (0.0, 0.0, 0.0),
    axis: tuple[float, float, float] = (0.0, 0.0, 1.0),
) -> NDArray[np.float32]:
    """Make a cylindrical mask, or a tube if an inner radius is given.

    Parameters
    ----------
    size : int
        Box size n in voxels.
    outer_radius, inner_radius : float
        Voxels. The mask is 1 between them.
    length : float
        Voxels, along the axis; infinite: through the whole box.
    soft_edge_pixels : float
        Width of the raised cosine outside the cylinder (rims are rounded) and inside the inner radius.
    center : tuple of float
        x, y, z of the middle in voxels from voxel ``n // 2``.
    axis : tuple of float
        x, y, z of its direction, of any length.

    Returns
    -------
    ndarray of float32, shape [n, n, n]

    Raises
    ------
    ValueError
        If the direction is zero.
    """
    direction = np.asarray(axis, dtype=np.float64)
    if not direction.any():
        raise ValueError("the axis of a cylinder needs a direction")
    direction /= np.linalg.norm(direction)
    line = np.arange(size, dtype=np.float64) - size // 2
    x, y, z = line[None, None, :] - center[0], line[None, :, None] - center[1], line[:, None, None] - center[2]
    along = x * direction[0] + y * direction[1] + z * direction[2]
    radius = np.sqrt(np.maximum(x**2 + y**2 + z**2 - along**2, 0.0))
    outside = np.hypot(np.maximum(radius - outer_radius, 0.0), np.maximum(np.abs(along) - length / 2, 0.0))
    mask = raised_cosine_fall(outside, soft_edge_pixels)
    if inner_radius > 0:
        mask = mask * raised_cosine_fall(inner_radius - radius, soft_edge_pixels)
    return mask.astype(np.float32)


def cut_along_z(mask: Floats, share: float, soft_edge_pixels: float) -> NDArray[np.float32]:
    """Keep the central part of a mask along z, with a soft edge outside, as RELION does for helices.

    Parameters
    ----------
    mask : ndarray, shape [n, n, n]
    share : float
        Of the box along z.
    soft_edge_pixels : float
    """
    size = mask.shape[0]
    distance = np.abs(np.arange(size, dtype=np.float64) - size // 2) - size * share / 2
    return (mask * raised_cosine_fall(distance, soft_edge_pixels)[:, None, None]).astype(np.float32)


def atoms_binary(
    positions: Floats, size: int, voxel_size: float, radius: float, origin: tuple[float, float, float] = (0.0, 0.0, 0.0)
) -> Binary:
    """Mark every voxel whose centre is within a distance of an atom.

    Parameters
    ----------
    positions : ndarray, shape [atoms, 3]
        x, y, z in Å, in the frame of the map: its first voxel lies at `origin`.
    size : int
        Box size n in voxels.
    voxel_size : float
        Å.
    radius : float
        Å about each atom.
    origin : tuple of float
        x, y, z of the first voxel in Å.

    Returns
    -------
    ndarray of bool, shape [n, n, n]

    Raises
    ------
    ValueError
        If no atom lies in the box.
    """
    voxels = (np.asarray(positions, dtype=np.float64) - np.asarray(origin)) / voxel_size
    reach = radius / voxel_size
    near = voxels[((voxels > -reach - 1) & (voxels < size + reach)).all(axis=1)]
    if not ((voxels > -0.5) & (voxels < size - 0.5)).all(axis=1).any():
        extent = np.stack([positions.min(axis=0), positions.max(axis=0)])
        box = np.stack([np.asarray(origin), np.asarray(origin) + size * voxel_size])
        raise ValueError(
            f"no atom lies in the box: x, y, z of the atoms are {_ranges(extent)} Å, of the box {_ranges(box)} Å"
        )
    # The distance to the voxels that atoms are rounded to is right to half a voxel's diagonal: only where that leaves
    # it open is the distance to the atoms themselves looked up.
    margin = int(np.ceil(reach + 1))
    seeds = np.zeros((size + 2 * margin,) * 3, dtype=bool)
    seeds[tuple(np.rint(near[:, ::-1]).astype(int).T + margin)] = True
    inner = (slice(margin, margin + size),) * 3
    distance = ndimage.distance_transform_edt(~seeds)[inner]
    binary: Binary = distance <= reach - _HALF_DIAGONAL
    open_voxels = np.argwhere(~binary & (distance <= reach + _HALF_DIAGONAL))
    if len(open_voxels):
        exact, _ = cKDTree(near[:, ::-1]).query(open_voxels, distance_upper_bound=reach + 1e-9)
        binary[tuple(open_voxels.T)] = exact <= reach + 1e-9
    return binary


def _ranges(ends: Floats) -> str:
    """Write the ranges of three coordinates, given as their two ends, shape [2, 3]."""
    return ", ".join(f"{low:.0f} to {high:.0f}" for low, high in ends.T)


def scaled_difference(first: Floats, second: Floats) -> NDArray[np.float64]:
    """Subtract a map from another after bringing it to its scale and level by least squares.

    Parameters
    ----------
    first, second : ndarray, shape [n, n, n]
        Low-pass filtered to one resolution.

    Returns
    -------
    ndarray, shape [n, n, n]
        ``first - (a second + b)``.

    Raises
    ------
    ValueError
        If the maps do not correlate, so that no scale fits.
    """
    a, b = (np.asarray(density, dtype=np.float64) for density in (first, second))
    spread = b - b.mean()
    scale = float(np.sum((a - a.mean()) * spread) / np.sum(spread**2))
    if scale <= 0:
        raise ValueError("the two maps do not correlate: are they aligned, and of the same contrast?")
    difference: NDArray[np.float64] = a - a.mean() - scale * spread
    return difference


def difference_threshold(difference: Floats) -> float:
    """Return the value above which a difference of maps is not noise: five of its standard deviations.

    The noise is taken from the median of the absolute values: where two maps differ must be a small part of the box.
    Where there is hardly any noise, a tenth of the largest value, for the ripples of the filter.

    Raises
    ------
    ValueError
        If the maps differ nowhere by more than noise.
    """
    noise = _TO_DEVIATION * float(np.median(np.abs(difference)))
    largest = float(np.abs(difference).max())
    if largest <= _DIFFERENCE_LEVELS * noise:
        raise ValueError("the two maps differ nowhere by more than noise")
    return max(_DIFFERENCE_LEVELS * noise, _RIPPLES * largest)
