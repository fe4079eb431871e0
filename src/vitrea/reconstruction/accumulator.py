"""Sums of weighted central slices, and the map they make.

Direct Fourier inversion in an oversampled grid with a Wiener filter: ``F = data / (weight + 1 / tau2)`` (Scheres 2012,
doi:10.1016/j.jsb.2012.09.006, equation 8 of the M-step; the grid and its correction follow its section 3.3).
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vitrea.fourier.gridding import interpolation_correction
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
            own[mine] += factor * given[theirs]

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
        points = self._points()
        inside = points.square().sum(dim=1) <= (self.padding * self.radius + 0.5) ** 2
        place, points = torch.nonzero(inside)[:, 0], points[inside].contiguous()
        for grid in (self.data, self.weight.to(torch.complex64)):
            total = torch.zeros(len(points), dtype=torch.complex64, device=grid.device)
            for operator in symmetry:
                total += project_slices(grid, self.half, self.half, operator[None].contiguous(), points)[0]
            target = self.data if grid is self.data else self.weight
            flat = torch.zeros(target.numel(), dtype=target.dtype, device=grid.device)
            flat[place] = total if target.is_complex() else total.real
            target.copy_(flat.view(target.shape))

    def _points(self) -> Tensor:
        """Grid index (x, y, z) of every voxel, shape [voxels, 3]."""
        slow = torch.arange(-self.half, self.half + 1, dtype=torch.float32, device=self.data.device)
        z, y, x = torch.meshgrid(slow, slow, slow[self.half :], indexing="ij")
        return torch.stack([x.flatten(), y.flatten(), z.flatten()], dim=1)

    def _squared_radius(self) -> Tensor:
        """Squared distance of every voxel from the origin in grid voxels; shape of the grid."""
        slow = torch.arange(-self.half, self.half + 1, dtype=torch.float32, device=self.data.device) ** 2
        deep = slow if self.dims == 3 else torch.tensor([0.0, _FAR**2], device=self.data.device)
        return deep[:, None, None] + slow[None, :, None] + slow[None, None, self.half :]

    def shells(self) -> Tensor:
        """Shell of every voxel in Fourier pixels, rounded; shape of the grid."""
        return torch.round(self._squared_radius().sqrt() / self.padding).to(torch.int64)

    def shell_weight(self) -> Tensor:
        """Mean weight per Fourier pixel of the map in each shell, shape [size // 2 + 1], float64.

        Its reciprocal is the noise variance (per real or imaginary part) of the reconstructed component.
        """
        shells, count = self.shells().flatten(), self.size // 2 + 1
        inside = shells < count
        index = shells[inside]
        total = torch.zeros(count, dtype=torch.float64, device=self.data.device)
        total.index_add_(0, index, self.weight.flatten()[inside].double())
        voxels = torch.bincount(index, minlength=count).double()
        mean: Tensor = total / voxels * self.padding**self.dims
        return mean

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
        shells = self.shells()
        limit = min(self.radius, self.size // 2)
        if tau2 is None:
            mean = (self.shell_weight() / self.padding**self.dims).to(torch.float32)
            floor = WEIGHT_FLOOR * mean[shells.clamp(max=len(mean) - 1)]
            denominator = torch.maximum(self.weight, floor)
        else:
            strength = (tau2.double() * fudge * self.padding**self.dims).clamp(min=1e-30)
            prior = torch.where(tau2 > 0, 1.0 / strength, torch.inf).to(torch.float32).to(self.data.device)
            denominator = self.weight + prior[shells.clamp(max=len(prior) - 1)]
        # The same ball as slices fill: voxels just outside it hold only the rim of a few samples.
        usable = (self._squared_radius() <= (limit * self.padding) ** 2) & (denominator > 0)
        usable &= shells > above
        volume = torch.where(usable, self.data / denominator.clamp(min=1e-30), 0.0)
        return self._to_real(volume)

    def _to_real(self, volume: Tensor) -> Tensor:
        wide, dims = self.padding * self.size, self.dims
        axis = torch.arange(-self.half, self.half + 1, device=volume.device)
        rows, columns = abs(axis) < (wide + 1) // 2, axis[self.half :] <= wide // 2
        target = [axis[rows] % wide] * (dims - 1) + [axis[self.half :][columns]]
        volume = volume[rows] if dims == 3 else volume[0]
        transform = torch.zeros([wide] * (dims - 1) + [wide // 2 + 1], dtype=volume.dtype, device=volume.device)
        transform[torch.meshgrid(*target, indexing="ij")] = volume[..., rows, :][..., columns]
        # Undo the 1 / size by which a reference is scaled (matching.reference).
        axes = tuple(range(dims))
        voxels = torch.fft.fftshift(torch.fft.irfftn(transform * self.size, s=(wide,) * dims, dim=axes))
        inner = slice(wide // 2 - self.size // 2, wide // 2 - self.size // 2 + self.size)
        voxels = voxels[(inner,) * dims] / interpolation_correction(self.size, self.padding, dims, volume.device)
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
    low = first.shells() <= radius
    for one, other in ((first.data, second.data), (first.weight, second.weight)):
        mean = 0.5 * (one[low] + other[low])
        one[low], other[low] = mean, mean


def combine(first: FourierAccumulator, second: FourierAccumulator) -> FourierAccumulator:
    """Return the accumulator of both half sets together."""
    total = FourierAccumulator(first.size, first.radius, first.padding, first.data.device, first.dims)
    total.data = first.data + second.data
    total.weight = first.weight + second.weight
    return total
