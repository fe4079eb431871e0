"""Packed Fourier samples: a centred image as the vector of its independent components, sorted by radius.

Sorting by radius makes a lower resolution a prefix of a higher one, so that a resolution limit is a slice and
every comparison of an image with a projection is a dot product. The same record describes a square image and a
cube (a sub-tomogram): only the number of dimensions differs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True)
class PackedSamples:
    """The independent Fourier components of a box of `size` pixels within a radius.

    Attributes
    ----------
    size : int
        Box size in pixels.
    radius : int
        Largest radius kept, in Fourier pixels.
    coordinates : ndarray of float32, shape [samples, 3]
        Fourier index (x, y, z) of each sample, x >= 0; z is zero for images.
    index : ndarray of int64, shape [samples]
        Position of each sample in the flattened half transform (layout of `fourier.transforms`).
    shell : ndarray of int64, shape [samples]
        Shell of each sample: its radius, rounded.
    dims : int
        2 for images, 3 for volumes.
    """

    size: int
    radius: int
    coordinates: NDArray[np.float32]
    index: NDArray[np.int64]
    shell: NDArray[np.int64]
    dims: int

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.index)

    def prefix(self, radius: int) -> PackedSamples:
        """Return the samples within a smaller radius (a view of the first samples of this one)."""
        count = int(np.searchsorted((self.coordinates.astype(np.float64) ** 2).sum(axis=1), radius**2, side="right"))
        return PackedSamples(
            self.size, radius, self.coordinates[:count], self.index[:count], self.shell[:count], self.dims
        )

    def gather(self, transforms: Tensor) -> Tensor:
        """Take the samples out of half transforms.

        Parameters
        ----------
        transforms : Tensor, complex, shape [images, *half transform]

        Returns
        -------
        Tensor, complex, shape [images, samples]
        """
        return transforms.flatten(start_dim=1)[:, torch.from_numpy(self.index).to(transforms.device)]

    def scatter(self, packed: Tensor) -> Tensor:
        """Put samples back into half transforms, zero elsewhere: `gather` undone for what the radius holds.

        Parameters
        ----------
        packed : Tensor, complex, shape [images, samples]

        Returns
        -------
        Tensor, complex, shape [images, *half transform]
            In the layout of `fourier.transforms`, both mates in the plane x = 0: its inverse transform is real.
        """
        lead, shape = len(packed), (self.size,) * (self.dims - 1) + (self.size // 2 + 1,)
        flat = torch.zeros((lead, int(np.prod(shape))), dtype=packed.dtype, device=packed.device)
        flat[:, torch.from_numpy(self.index).to(packed.device)] = packed
        edge = np.flatnonzero((self.coordinates[:, 0] == 0) & (self.shell > 0))
        mirrored = -self.coordinates[edge].astype(np.int64) % self.size
        place = mirrored[:, 1] * shape[-1] + (mirrored[:, 2] * self.size * shape[-1] if self.dims == 3 else 0)
        chosen = torch.from_numpy(edge).to(packed.device)
        flat[:, torch.from_numpy(place).to(packed.device)] = packed[:, chosen].conj()
        return flat.reshape(lead, *shape)

    def frequencies(self, pixel_size: float) -> tuple[Tensor, Tensor]:
        """Spatial frequency (y, x) of each sample in 1/Å, float64, shape [samples] each; pixel size in Å."""
        scaled = torch.from_numpy(self.coordinates.astype(np.float64)) / (self.size * pixel_size)
        return scaled[:, 1].contiguous(), scaled[:, 0].contiguous()

    def phase_ramps(self, shifts: NDArray[np.float64]) -> Tensor:
        """Return the phase factors that translate an image.

        Parameters
        ----------
        shifts : ndarray, shape [shifts, dims]
            Translation (x, y[, z]) in pixels: multiplying a transform by a ramp moves its image by +shift.

        Returns
        -------
        Tensor of complex64, shape [shifts, samples]
        """
        phase = -2.0 * np.pi / self.size * (shifts @ self.coordinates[:, : self.dims].T.astype(np.float64))
        return torch.from_numpy(np.exp(1j * phase).astype(np.complex64))


def packed_samples(size: int, radius: int, dims: int = 2) -> PackedSamples:
    """List the independent Fourier components of a box within a radius.

    Of each pair of components that a real image makes equal (Friedel mates) one is kept. Components at the Nyquist
    index of an even box are left out: their sign, and so a translation of them, is not defined.

    Parameters
    ----------
    size : int
        Box size in pixels.
    radius : int
        Largest radius in Fourier pixels; at most ``size // 2``.
    dims : int
        2 for images, 3 for volumes.

    Raises
    ------
    ValueError
        If the radius exceeds the box's Nyquist frequency.
    """
    if radius > size // 2:
        raise ValueError(f"radius {radius} exceeds the Nyquist frequency of a box of {size} pixels")
    full = np.fft.fftfreq(size, 1.0 / size).round().astype(np.int64)
    half = np.arange(size // 2 + 1)
    axes = np.meshgrid(*([full] * (dims - 1)), half, indexing="ij")
    *slow, x = [axis.ravel() for axis in axes]  # slow: (z,) y
    y = slow[-1]
    z = slow[0] if dims == 3 else np.zeros_like(x)
    squared = x * x + y * y + z * z
    independent = (x > 0) | (y > 0) | ((y == 0) & (z >= 0))
    inside = (squared <= radius * radius) & (2 * np.maximum(np.maximum(x, abs(y)), abs(z)) < size)
    chosen = np.flatnonzero(independent & inside)
    chosen = chosen[np.argsort(squared[chosen], kind="stable")]
    coordinates = np.stack([x, y, z], axis=1)[chosen].astype(np.float32)
    shell = np.floor(np.sqrt(squared[chosen]) + 0.5).astype(np.int64)
    return PackedSamples(size, radius, coordinates, chosen.astype(np.int64), shell, dims)
