"""References as Fourier grids that can be sampled on rotated coordinates."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vitrea.fourier.gridding import grid_of_map, interpolation_correction
from vitrea.fourier.packed import PackedSamples
from vitrea.kernels.project import project_slices


@dataclass(frozen=True)
class Reference:
    """A map (or a 2D class average) ready to be projected.

    Attributes
    ----------
    grid : Tensor of complex64, shape [z, y, x]
        Oversampled half transform (see kernels/README.md), scaled so that a slice is the orthonormal transform of the
        projection.
    half_z, half : int
        Index of z = 0 and of y = 0 in the grid.
    padding : float
        Grid voxels per Fourier pixel.
    radius : int
        Largest Fourier radius that may be sampled.
    """

    grid: Tensor
    half_z: int
    half: int
    padding: float
    radius: int

    def project(self, matrices: Tensor, samples: PackedSamples, out: Tensor | None = None) -> Tensor:
        """Project along rotations.

        Parameters
        ----------
        matrices : Tensor of float32, shape [projections, 3, 3]
        samples : PackedSamples
            Must not reach beyond `radius`.
        out : Tensor of complex64, shape [projections, samples], optional
            Receives the projections.

        Returns
        -------
        Tensor of complex64, shape [projections, samples]
        """
        if samples.radius > self.radius:
            raise ValueError(f"samples reach radius {samples.radius}, the reference only {self.radius}")
        coordinates = torch.from_numpy(samples.coordinates).to(self.grid.device)
        return project_slices(self.grid, self.half_z, self.half, matrices, coordinates, self.padding, out)


@dataclass(frozen=True)
class ReferenceSet:
    """The references of several classes, of the same size.

    Attributes
    ----------
    members : tuple of Reference
    """

    members: tuple[Reference, ...]

    @property
    def device(self) -> torch.device:
        """Where the references live."""
        return self.members[0].grid.device

    def project(
        self, classes: NDArray[np.int64], matrices: Tensor, samples: PackedSamples, out: Tensor | None = None
    ) -> Tensor:
        """Project each class along its rotations.

        Parameters
        ----------
        classes : ndarray of int64, shape [projections]
            Class of each projection, ascending.
        matrices : Tensor of float32, shape [projections, 3, 3]
        samples : PackedSamples
        out : Tensor of complex64, shape [projections, samples], optional
            Receives the projections.

        Returns
        -------
        Tensor of complex64, shape [projections, samples]
        """
        if out is None:
            out = torch.empty((len(matrices), len(samples)), dtype=torch.complex64, device=self.device)
        for number, where in class_runs(classes):
            self.members[number].project(matrices[where], samples, out[where])
        return out


def class_runs(classes: NDArray[np.int64]) -> Iterator[tuple[int, slice]]:
    """Cut an ascending list of classes into runs of one class each: class and where it stands."""
    bounds = np.append(np.flatnonzero(np.diff(classes, prepend=-1)), len(classes))
    for start, stop in pairwise(bounds.tolist()):
        yield int(classes[start]), slice(start, stop)


def reference_from_map(voxels: Tensor, radius: int, padding: int = 2) -> Reference:
    """Make a reference from a real-space map, or from a 2D class average.

    Parameters
    ----------
    voxels : Tensor of float32, shape [n, n, n] or [n, n]
        Density; the centre is at ``n // 2``.
    radius : int
        Largest Fourier radius that will be sampled.
    padding : int
        Oversampling of the Fourier grid.

    Returns
    -------
    Reference
    """
    size, dims = voxels.shape[-1], voxels.ndim
    corrected = voxels / interpolation_correction(size, padding, dims, voxels.device)
    # One voxel beyond the radius for interpolation, one more for rounding.
    half = padding * radius + 2
    # A line integral through n voxels: the orthonormal transform of the projection is the unnormalised 3D slice / n.
    grid = grid_of_map(corrected.div_(size), padding * size, half)
    if dims == 2:
        grid = torch.stack([grid, torch.zeros_like(grid)])
    return Reference(grid, half if dims == 3 else 0, half, float(padding), radius)
