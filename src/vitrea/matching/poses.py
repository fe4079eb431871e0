"""The poses a particle is tried in: orientations on a grid, translations on a grid, each at two levels."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vitrea.geometry.sampling import OrientationGrid


@dataclass(frozen=True)
class PoseGrid:
    """Coarse poses and the finer ones inside each of them.

    Orientation number ``o = direction * n_psi + psi``; its children are ``o * children + c``.

    Attributes
    ----------
    orientations : OrientationGrid
    shifts : ndarray, shape [shifts, dims]
        Coarse translations in pixels.
    fine_shifts : ndarray, shape [shifts * children, dims]
        Children of the coarse translations, in the same order.
    oversampling : int
        Times the coarse steps are halved.
    """

    orientations: OrientationGrid
    shifts: NDArray[np.float64]
    fine_shifts: NDArray[np.float64]
    oversampling: int

    @property
    def psi_count(self) -> int:
        """Number of in-plane angles."""
        return len(self.orientations.psi)

    @property
    def orientation_count(self) -> int:
        """Number of coarse orientations."""
        return len(self.orientations.directions) * self.psi_count

    @cached_property
    def children(self) -> int:
        """Number of fine orientations inside each coarse one."""
        return len(self._fine(np.zeros(1, dtype=np.int64)))

    def directions_of(self, orientation: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the direction of each coarse orientation."""
        return orientation // self.psi_count

    def coarse_matrices(self, orientation: NDArray[np.int64]) -> Tensor:
        """Rotation matrices of coarse orientations, float32, shape [orientations, 3, 3]."""
        matrices = self.orientations.matrices(orientation // self.psi_count, orientation % self.psi_count, 0)
        return torch.from_numpy(matrices.astype(np.float32))

    def fine_matrices(self, fine: NDArray[np.int64]) -> NDArray[np.float64]:
        """Rotation matrices of fine orientations, float64, shape [orientations, 3, 3].

        Parameters
        ----------
        fine : ndarray of int64
            Numbers of fine orientations; neighbours in the list that share a parent cost little.
        """
        parents, inverse = np.unique(fine // self.children, return_inverse=True)
        matrices: NDArray[np.float64] = self._fine(parents)[inverse * self.children + fine % self.children]
        return matrices

    def _fine(self, parents: NDArray[np.int64]) -> NDArray[np.float64]:
        return self.orientations.matrices(parents // self.psi_count, parents % self.psi_count, self.oversampling)
