"""Sums of weighted central slices, and the map they make.

Direct Fourier inversion in an oversampled grid with a Wiener filter: ``F = data / (weight + 1 / tau2)`` (Scheres 2012,
doi:10.1016/j.jsb.2012.09.006, equation 8 of the M-step; the grid and its correction follow its section 3.3).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vitrea.fourier.gridding import interpolation_correction, map_of_grid, row_blocks
from vitrea.fourier.packed import PackedSamples
from vitrea.geometry.masks import soft_sphere
from vitrea.kernels.project import backproject_slices, project_slices

# Where nothing regularises a reconstruction, a voxel's weight is not allowed below this share of its shell's mean:
# a voxel that few slices touched would otherwise be pure amplified noise.
WEIGHT_FLOOR = 1e-3
# Width in voxels of the soft edge outside the largest sphere in the box.
CORNER_EDGE = 3.0


# Stands for the distance of voxels that belong to no shell.
_FAR = 1e6


class FourierAccumulator:
    """A numerator and a denominator on an oversampled half Fourier grid, of a map or of a 2D class average.

    Parameters
    ----------
    size : int
        Box size of the map in voxels.
    radius : int
        Largest Fourier radius that slices reach.
    padding : int
        Oversampling of the grid.
    device : torch.device, optional
        Where the sums live.
    dims : int
        3 for maps; 2 for class averages: their grid has the plane z = 0 and a second one that stays empty, because
        interpolation looks at two.

    Attributes
    ----------
    data : Tensor of complex64, shape [z, y, x]
        Layout of kernels/README.md.
    weight : Tensor of float32, shape [z, y, x]
    """

    def __init__(
        self, size: int, radius: int, padding: int = 2, device: torch.device | None = None, dims: int = 3
    ) -> None:
        self.size, self.radius, self.padding, self.dims = size, radius, padding, dims
        self.half = padding * radius + 2
        self.half_z = self.half if dims == 3 else 0
        shape = (2 * self.half + 1 if dims == 3 else 2, 2 * self.half + 1, self.half + 1)
        self.data = torch.zeros(shape, dtype=torch.complex64, device=device)
        self.weight = torch.zeros(shape, dtype=torch.float32, device=device)

    def add(self, sums: Tensor, weights: Tensor, matrices: Tensor, samples: PackedSamples) -> None:
        """Add slices.

        Parameters
        ----------
        sums : Tensor of complex64, shape [slices, samples]
            Images times CTF / sigma², summed over particles.
        weights : Tensor of float32, shape [slices, samples]
            CTF² / sigma², summed likewise.
        matrices : Tensor of float32, shape [slices, 3, 3]
        samples : PackedSamples
        """
        coordinates = torch.from_numpy(samples.coordinates).to(self.data.device)
        backproject_slices(
            sums, weights, self.half_z, self.half, matrices, coordinates, float(self.padding), self.data, self.weight
        )

    def add_scaled(self, other: FourierAccumulator, factor: float) -> None:
        """Add another accumulator of the same map, times a factor, as far as both reach."""
        reach = min(self.half, other.half)
        mine, theirs = (self._middle(accumulator, reach) for accumulator in (self, other))
        for own, given in ((self.data, other.data), (self.weight, other.weight)):
            own[mine].add_(given[theirs], alpha=factor)

    def clear(self) -> None:
        """Forget what was added."""
        self.data.zero_()
        self.weight.zero_()

    def translate(self, shift: NDArray[np.float64]) -> None:
        """Move the map that the sums stand for.

        Parameters
        ----------
        shift : ndarray, shape [3]
            x, y, z in pixels of the map; z does not matter in two dimensions.
        """
        slow = torch.arange(-self.half, self.half + 1, dtype=torch.float64, device=self.data.device)
        axes = (slow if self.dims == 3 else torch.zeros_like(slow[:2]), slow, slow[self.half :])
        step = -2.0 * np.pi / (self.padding * self.size)
        z, y, x = (torch.exp(1j * step * float(by) * axis) for axis, by in zip(axes, shift[::-1], strict=True))
        self.data *= (z[:, None, None] * y[:, None] * x).to(self.data.dtype)

    @staticmethod
    def _middle(accumulator: FourierAccumulator, reach: int) -> tuple[slice, slice, slice]:
        """Where the voxels within `reach` of the origin stand."""
        around = slice(accumulator.half - reach, accumulator.half + reach + 1)
        deep = around if accumulator.dims == 3 else slice(0, 2)
        return deep, around, slice(0, reach + 1)

    def finish(self, symmetry: Tensor) -> None:
        """Complete the sums: Friedel mates in the plane x = 0, then the operators of the point group.

        Parameters
        ----------
        symmetry : Tensor of float32, shape [operators, 3, 3]
            Includes the identity.
        """
        self._complete_plane()
        if len(symmetry) > 1 and self.dims == 3:
            self._symmetrise(symmetry)

    def _complete_plane(self) -> None:
        # A sample with 0 <= x < 1 has a mate with -1 < x <= 0 that also reaches the plane x = 0, at (-y, -z).
        for grid in (self.data, self.weight):
            plane = grid[:, :, 0]
            mate = torch.flip(plane, (0, 1) if self.dims == 3 else (1,))
            grid[:, :, 0] = plane + (mate.conj() if plane.is_complex() else mate)

    def _symmetrise(self, symmetry: Tensor) -> None:
        for name in ("data", "weight"):
            grid: Tensor = getattr(self, name)
            source, total = grid.to(torch.complex64), torch.zeros_like(grid)
            for block in row_blocks(self.half):
                inside = self._squared_radius(block) <= (self.padding * self.radius + 0.5) ** 2
                points = self._points(block)[inside]
                summed = torch.zeros(len(points), dtype=torch.complex64, device=grid.device)
                for operator in symmetry:
                    summed += project_slices(source, self.half, self.half, operator[None].contiguous(), points)[0]
                total[:, block][inside] = summed if grid.is_complex() else summed.real
            setattr(self, name, total)

    def _points(self, rows: slice) -> Tensor:
        """Grid index (x, y, z) of every voxel in a run of rows, shape [z, rows, x, 3]."""
        slow = torch.arange(-self.half, self.half + 1, dtype=torch.float32, device=self.data.device)
        z, y, x = torch.meshgrid(slow, slow[rows], slow[self.half :], indexing="ij")
        return torch.stack([x, y, z], dim=-1)

    def _squared_radius(self, rows: slice) -> Tensor:
        """Squared distance in grid voxels from the origin of every voxel in a run of rows, shape [z, rows, x]."""
        slow = torch.arange(-self.half, self.half + 1, dtype=torch.float32, device=self.data.device) ** 2
        deep = slow if self.dims == 3 else torch.tensor([0.0, _FAR**2], device=self.data.device)
        return deep[:, None, None] + slow[None, rows, None] + slow[None, None, self.half :]

    def _by_shell(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Shells and weights of all voxels that a map of this size has, a run of rows at a time."""
        for block in row_blocks(self.half):
            shells = self.shells(block)
            inside = shells <= self.size // 2
            yield shells[inside], self.weight[:, block][inside]

    def shells(self, rows: slice = slice(None)) -> Tensor:
        """Shell of every voxel (in a run of rows) in Fourier pixels, rounded, int64, shape [z, rows, x]."""
        return torch.round(self._squared_radius(rows).sqrt_().div_(self.padding)).to(torch.int64)

    def shell_weight(self) -> Tensor:
        """Mean weight per Fourier pixel of the map in each shell, shape [size // 2 + 1], float64.

        Its reciprocal is the noise variance (per real or imaginary part) of the reconstructed component.
        """
        count = self.size // 2 + 1
        total, voxels = torch.zeros((2, count), dtype=torch.float64, device=self.data.device)
        for shells, weight in self._by_shell():
            total.index_add_(0, shells, weight.double())
            voxels += torch.bincount(shells, minlength=count)
        mean: Tensor = total / voxels * self.padding**self.dims
        return mean

    def completeness(self, least: Tensor) -> Tensor:
        """Fraction of the voxels in each shell that weigh at least `least` (per Fourier pixel), shape as `least`."""
        count = len(least)
        least = least.to(torch.float32).to(self.data.device)
        enough, voxels = torch.zeros((2, count), dtype=torch.float64, device=self.data.device)
        for shells, weight in self._by_shell():
            voxels += torch.bincount(shells, minlength=count)
            enough += torch.bincount(shells[weight * self.padding**self.dims >= least[shells]], minlength=count)
        fraction: Tensor = enough / voxels.clamp(min=1.0)
        return fraction

    def reconstruct(self, tau2: Tensor | None = None, fudge: float = 1.0, above: int = -1) -> Tensor:
        """Make the map.

        Parameters
        ----------
        tau2 : Tensor, shape [size // 2 + 1], optional
            Variance of the signal in each shell (per real or imaginary part of a slice's component). Without it the
            map is not regularised.
        fudge : float
            RELION's regularisation parameter T, multiplies tau2.
        above : int
            Leave out this shell and those below.

        Returns
        -------
        Tensor of float32, shape [size] * dims
        """
        if tau2 is None:
            prior = None
            floor = (WEIGHT_FLOOR * self.shell_weight() / self.padding**self.dims).to(torch.float32)
        else:
            strength = (tau2.double() * fudge * self.padding**self.dims).clamp(min=1e-30)
            prior = torch.where(tau2 > 0, 1.0 / strength, torch.inf).to(torch.float32).to(self.data.device)
        limit = min(self.radius, self.size // 2)

        def components(rows: slice) -> Tensor:
            shells, weight = self.shells(rows), self.weight[:, rows]
            place = shells.clamp(max=self.size // 2)
            denominator = torch.maximum(weight, floor[place]) if prior is None else weight + prior[place]
            # The same ball as slices fill: voxels just outside it hold only the rim of a few samples.
            usable = (self._squared_radius(rows) <= (limit * self.padding) ** 2) & (denominator > 0) & (shells > above)
            # Undo the 1 / size by which a reference is scaled (matching.reference).
            found = torch.where(usable, self.data[:, rows] / denominator.clamp(min=1e-30) * self.size, 0.0)
            return found if self.dims == 3 else found[0]

        voxels = map_of_grid(components, self.half, self.padding * self.size, self.size, self.dims)
        voxels /= interpolation_correction(self.size, self.padding, self.dims, voxels.device)
        return _without_corners(voxels)


def _without_corners(voxels: Tensor) -> Tensor:
    """Replace what lies outside the sphere that the box holds by its mean: no view of the particle reaches there."""
    size = voxels.shape[-1]
    inside = torch.from_numpy(soft_sphere(size, size / 2, CORNER_EDGE, dims=voxels.ndim).astype(np.float32)).to(
        voxels.device
    )
    outside = 1.0 - inside
    background = (voxels * outside).sum() / outside.sum().clamp(min=1e-12)
    return (voxels * inside + background * outside).contiguous()


def join_below(first: FourierAccumulator, second: FourierAccumulator, radius: float) -> None:
    """Make two half-set accumulators share their sums up to a Fourier radius (in pixels of the map), in place.

    The two half maps then have the same orientation and origin: without a common frame their FSC would be
    meaningless (Scheres & Chen 2012, doi:10.1038/nmeth.2115).
    """
    for block in row_blocks(first.half):
        low = first.shells(block) <= radius
        for one, other in ((first.data, second.data), (first.weight, second.weight)):
            mean = 0.5 * (one[:, block][low] + other[:, block][low])
            one[:, block][low], other[:, block][low] = mean, mean
