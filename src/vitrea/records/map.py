"""A 3D density map."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Map:
    """Voxels with their scale.

    Attributes
    ----------
    voxels : ndarray of float32, shape [z, y, x]
        Density; the centre of the box is at voxel ``n // 2``.
    voxel_size : float
        Å per voxel.
    origin : tuple of float
        Position (x, y, z) of the first voxel in Å (the ORIGIN field of an MRC header).
    """

    voxels: NDArray[np.float32]
    voxel_size: float
    origin: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def with_voxels(self, voxels: NDArray[np.float32]) -> Map:
        """Return a map of the same scale with other voxels."""
        return replace(self, voxels=np.ascontiguousarray(voxels, dtype=np.float32))
