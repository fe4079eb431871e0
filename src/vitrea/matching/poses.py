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
    """Coarse poses and the finer ones inside each of them, for one or several classes.

    Orientation number ``o = (class * n_directions + direction) * n_psi + psi``; its children are ``o * children + c``.

    Attributes
    ----------
    orientations : OrientationGrid
    shifts : ndarray, shape [shifts, dims]
        Coarse translations in pixels.
    fine_shifts : ndarray, shape [shifts * children, dims]
        Children of the coarse translations, in the same order.
    oversampling : int
        Times the coarse steps are halved.
    classes : int
        Number of classes, all tried in the same poses.
    """

    orientations: OrientationGrid
    shifts: NDArray[np.float64]
    fine_shifts: NDArray[np.float64]
    oversampling: int
    classes: int = 1

    @property
    def psi_count(self) -> int:
        """Number of in-plane angles."""
        return len(self.orientations.psi)

    @property
    def orientation_count(self) -> int:
        """Number of coarse orientations of all classes together."""
        return self.classes * self.orientations.size

    @cached_property
    def children(self) -> int:
        """Number of fine orientations inside each coarse one."""
        return self.orientations.children(self.oversampling)

    @property
    def direction_count(self) -> int:
        """Number of directions of one class."""
        return len(self.orientations.directions)

    def directions_of(self, orientation: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the direction of each coarse orientation, counted on from class to class."""
        return orientation // self.psi_count

    def classes_of(self, fine: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the class of each fine orientation."""
        return fine // (self.orientations.size * self.children)

    def coarse_classes_of(self, orientation: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the class of each coarse orientation."""
        return orientation // self.orientations.size

    def coarse_matrices(self, orientation: NDArray[np.int64]) -> Tensor:
        """Rotation matrices of coarse orientations, float32, shape [orientations, 3, 3]."""
        return torch.from_numpy(self._matrices(orientation, 0).astype(np.float32))

    def fine_matrices(self, fine: NDArray[np.int64]) -> NDArray[np.float64]:
        """Rotation matrices of fine orientations, float64, shape [orientations, 3, 3].

        Parameters
        ----------
        fine : ndarray of int64
            Numbers of fine orientations; neighbours in the list that share a parent cost little.
        """
        parents, inverse = np.unique(fine // self.children, return_inverse=True)
        every = self._matrices(parents, self.oversampling)
        matrices: NDArray[np.float64] = every[inverse * self.children + fine % self.children]
        return matrices

    def _matrices(self, orientation: NDArray[np.int64], oversampling: int) -> NDArray[np.float64]:
        within = orientation % self.orientations.size
        return self.orientations.matrices(within // self.psi_count, within % self.psi_count, oversampling)


@dataclass(frozen=True)
class GivenPoses:
    """Orientations of the particles' own, tried for each class: what is left when they are not searched.

    Orientation number ``o = class * particles + particle``; there are no children. The attributes shared with
    `PoseGrid` mean the same.

    Attributes
    ----------
    matrices : ndarray, shape [particles, 3, 3]
    fine_shifts : ndarray, shape [shifts, dims]
    classes : int
    """

    matrices: NDArray[np.float64]
    fine_shifts: NDArray[np.float64]
    classes: int = 1
    children: int = 1

    def classes_of(self, fine: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the class of each orientation."""
        return fine // len(self.matrices)

    def directions_of(self, orientation: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the class of each orientation: directions are not told apart."""
        return self.classes_of(orientation)

    def fine_matrices(self, fine: NDArray[np.int64]) -> NDArray[np.float64]:
        """Rotation matrices, float64, shape [orientations, 3, 3]."""
        matrices: NDArray[np.float64] = self.matrices[fine % len(self.matrices)]
        return matrices
