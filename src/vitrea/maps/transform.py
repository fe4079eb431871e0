"""Turning, mirroring, shifting and symmetrising of maps in real space.

A placement sends the point x (in voxels from the centre ``n // 2``, order x, y, z) of a map to ``R x + t``; a mirrored
one is first reflected by `vitrea.fourier.filters.invert_hand`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from vitrea.fourier.filters import invert_hand
from vitrea.fourier.transforms import resample
from vitrea.geometry.euler import angular_distance
from vitrea.maps.half_maps import as_tensor

Floats = NDArray[np.floating[Any]]

_LARGEST_OVERSAMPLED_BOX = 320


@dataclass(frozen=True)
class Placement:
    """A rigid motion of a map, with or without a change of hand.

    Attributes
    ----------
    rotation : ndarray, shape [3, 3]
        R, acting on (x, y, z) column vectors.
    shift : ndarray, shape [3]
        t in voxels, order x, y, z.
    mirrored : bool
        Whether the map is reflected before it is turned.
    """

    rotation: NDArray[np.float64]
    shift: NDArray[np.float64]
    mirrored: bool = False

    @classmethod
    def identity(cls) -> Placement:
        """Return the placement that leaves a map where it is."""
        return cls(np.eye(3), np.zeros(3))

    @property
    def angle(self) -> float:
        """Angle of the turn in degrees, 0 to 180."""
        return float(angular_distance(np.eye(3), self.rotation))


def smallest_equivalent(rotation: Floats, operators: Floats) -> NDArray[np.float64]:
    """Return the one of ``rotation @ operator`` (operators of shape [m, 3, 3]) that turns by the smallest angle."""
    equivalent = np.asarray(rotation, dtype=np.float64) @ np.asarray(operators, dtype=np.float64)
    smallest: NDArray[np.float64] = equivalent[np.trace(equivalent, axis1=1, axis2=2).argmax()]
    return smallest


def place_map(density: Floats, placement: Placement) -> NDArray[np.float32]:
    """Turn, shift and (if so placed) mirror a map; what comes from outside the box is 0.

    Parameters
    ----------
    density : ndarray, shape [n, n, n]
    placement : Placement

    Returns
    -------
    ndarray of float32, shape [n, n, n]
        Cubic splines on a grid oversampled twofold (up to a box of 320; large boxes are interpolated as they are), so
        that little is lost even near Nyquist.
    """
    size = density.shape[-1]
    source = invert_hand(as_tensor(density)) if placement.mirrored else as_tensor(density)
    fine = min(2 * size, max(size, _LARGEST_OVERSAMPLED_BOX))
    turned = _interpolate(
        resample(source, fine, 3).numpy(), size, placement.rotation, placement.shift, fine / size, order=3
    )
    return turned.astype(np.float32)


def symmetrise(density: Floats, operators: Sequence[Floats] | Floats) -> NDArray[np.float32]:
    """Average a map over the operators of a point group, as ``relion_image_handler --sym``.

    Parameters
    ----------
    density : ndarray, shape [n, n, n]
    operators : array, shape [m, 3, 3]
        Rotations about the centre, the identity among them, acting on (x, y, z).

    Returns
    -------
    ndarray of float32, shape [n, n, n]
        Linear interpolation in real space, 0 outside the box, as in RELION.
    """
    matrices = np.asarray(operators, dtype=np.float64)
    source = np.asarray(density)
    total = np.zeros(source.shape, dtype=np.float64)
    for matrix in matrices:
        total += _interpolate(source, source.shape[-1], matrix, np.zeros(3), 1.0, order=1)
    return (total / len(matrices)).astype(np.float32)


def _interpolate(
    source: Floats, size: int, rotation: Floats, shift: Floats, oversampling: float, order: int
) -> NDArray[np.float64]:
    """Sample ``source`` (oversampled) at the points that ``x -> R x + t`` brings onto the grid of an n³ box."""
    inverse = np.asarray(rotation, dtype=np.float64).T
    # SciPy counts axes z, y, x and pixels from the corner.
    matrix = inverse[::-1, ::-1] * oversampling
    origin = np.full(3, size // 2) + np.asarray(shift, dtype=np.float64)[::-1]
    offset = source.shape[-1] // 2 - matrix @ origin
    result: NDArray[np.float64] = ndimage.affine_transform(
        source, matrix, offset=offset, output_shape=(size,) * 3, output=np.float64, order=order, mode="constant"
    )
    return result


def rotate_batch(source: torch.Tensor, rotations: torch.Tensor, shifts: torch.Tensor) -> torch.Tensor:
    """Turn one map many ways by linear interpolation; differentiable in rotations and shifts.

    Parameters
    ----------
    source : Tensor, shape [n, n, n]
    rotations : Tensor, shape [batch, 3, 3]
        R of ``x -> R x + t``.
    shifts : Tensor, shape [batch, 3]
        t in voxels, order x, y, z.

    Returns
    -------
    Tensor, shape [batch, n, n, n]
        0 outside the box.
    """
    size = source.shape[-1]
    axis = torch.arange(size, dtype=source.dtype, device=source.device) - size // 2
    z, y, x = torch.meshgrid(axis, axis, axis, indexing="ij")
    points = torch.stack([x, y, z], dim=-1).reshape(-1, 3)
    # R^T (x - t), written for row vectors, and brought to grid_sample's -1 ... 1 in the same product.
    scale = 2.0 / (size - 1)
    origin = (size // 2 - shifts[:, None] @ rotations) * scale - 1.0
    grid = torch.baddbmm(origin, points.expand(len(rotations), -1, -1), rotations * scale)
    grid = grid.reshape(len(rotations), size, size, size, 3)
    batch = source.expand(len(rotations), 1, *source.shape)
    return torch.nn.functional.grid_sample(batch, grid, mode="bilinear", padding_mode="zeros", align_corners=True)[:, 0]
