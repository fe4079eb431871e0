"""Particle images made ready to be compared with projections."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from vitrea.fourier.packed import PackedSamples
from vitrea.fourier.transforms import to_fourier, to_real


@dataclass(frozen=True)
class PreparedImages:
    """A block of particles as packed Fourier samples.

    Attributes
    ----------
    masked, unmasked : Tensor of complex64, shape [particles, samples]
        Orthonormal transforms with and without the particle mask, roughly centred by a whole-pixel shift.
    ctf : Tensor of float32, shape [particles, samples]
        Contrast transfer times the group's scale: what a projection is multiplied by.
    precision : Tensor of float32, shape [particles, samples]
        1 / sigma² with sigma² the noise variance per real or imaginary part; 0 where a sample is not to be used.
    spectrum : Tensor of float64, shape [particles, shells]
        Power of the masked image summed over the independent samples of each shell, up to Nyquist.
    total_power : Tensor of float64, shape [particles]
        Sum of squares of the masked image's pixels.
    """

    masked: Tensor
    unmasked: Tensor
    ctf: Tensor
    precision: Tensor
    spectrum: Tensor
    total_power: Tensor

    def __len__(self) -> int:
        """Return the number of particles."""
        return len(self.masked)

    def prefix(self, count: int) -> PreparedImages:
        """Return the same images with only their first `count` samples: a lower resolution."""
        return replace(
            self,
            masked=self.masked[:, :count].contiguous(),
            unmasked=self.unmasked[:, :count],
            ctf=self.ctf[:, :count].contiguous(),
            precision=self.precision[:, :count].contiguous(),
        )

    def part(self, where: slice) -> PreparedImages:
        """Return a run of the particles."""
        return PreparedImages(*(getattr(self, item.name)[where] for item in fields(self)))

    def pieces(self, size: int) -> Iterator[PreparedImages]:
        """Cut into runs of particles."""
        for start in range(0, len(self), size):
            yield self.part(slice(start, start + size))

    def members(self, index: Tensor) -> PreparedImages:
        """Return some of the particles."""
        return PreparedImages(*(getattr(self, item.name)[index] for item in fields(self)))

    def room(self, count: int) -> PreparedImages:
        """Return room for as many images of this kind, to be filled by `put`."""
        parts = (getattr(self, item.name) for item in fields(self))
        return PreparedImages(*(part.new_empty((count, *part.shape[1:])) for part in parts))

    def put(self, start: int, images: PreparedImages) -> None:
        """Overwrite a run of the particles."""
        for item in fields(self):
            getattr(self, item.name)[start : start + len(images)] = getattr(images, item.name)

    def with_precision(self, precision: Tensor) -> PreparedImages:
        """Return the same images weighed otherwise."""
        return replace(self, precision=precision)

    def targets(self) -> tuple[Tensor, Tensor]:
        """Return what a likelihood needs of the images.

        Returns
        -------
        target : Tensor of complex64, shape [particles, samples]
            ``CTF X / sigma²``.
        weight : Tensor of float32, shape [particles, samples]
            ``CTF² / sigma²``.
        """
        gain = self.ctf * self.precision
        return self.masked * gain, self.ctf * gain


def translate_whole_pixels(images: Tensor, shifts: Tensor) -> Tensor:
    """Move images by whole pixels; what enters from outside the box is zero.

    Parameters
    ----------
    images : Tensor, shape [images, n, n]
    shifts : Tensor of int64, shape [images, 2]
        x, y in pixels.
    """
    size = images.shape[-1]
    axis = torch.arange(size, device=images.device)
    x, y = axis[None] - shifts[:, :1], axis[None] - shifts[:, 1:]
    inside = ((x >= 0) & (x < size))[:, None, :] & ((y >= 0) & (y < size))[:, :, None]
    which = torch.arange(len(images), device=images.device)[:, None, None]
    return images[which, y.clamp(0, size - 1)[:, :, None], x.clamp(0, size - 1)[:, None, :]] * inside


def shell_spectrum(samples: PackedSamples, packed: Tensor, shells: int) -> Tensor:
    """Sum |F|² over the samples of each shell.

    Parameters
    ----------
    samples : PackedSamples
    packed : Tensor of complex64, shape [images, samples]
    shells : int

    Returns
    -------
    Tensor of float64, shape [images, shells]
    """
    return shell_sums(samples, packed.real**2 + packed.imag**2, shells)


def shell_sums(samples: PackedSamples, values: Tensor, shells: int) -> Tensor:
    """Sum values over the samples of each shell.

    Parameters
    ----------
    samples : PackedSamples
    values : Tensor, real, shape [images, samples]
    shells : int

    Returns
    -------
    Tensor of float64, shape [images, shells]
    """
    shell = torch.from_numpy(samples.shell).to(values.device)
    total = torch.zeros((len(values), shells), dtype=torch.float64, device=values.device)
    return total.index_add_(1, shell, values.double())


def transform_images(
    images: Tensor,
    mask: Tensor,
    fill: Tensor | None,
    full: PackedSamples,
    samples: PackedSamples,
    signs: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Mask and transform centred images.

    Parameters
    ----------
    images : Tensor of float32, shape [particles, n, n]
    mask : Tensor of float32, shape [n, n]
        1 inside the particle, falling softly to 0.
    fill : Tensor of float32, shape [particles, n, n], optional
        What takes the place of the image outside the mask (noise); by default nothing does.
    full : PackedSamples
        All samples up to Nyquist, for the power spectrum.
    samples : PackedSamples
        Samples wanted (a prefix of `full`).
    signs : Tensor, shape [particles, n, n // 2 + 1], optional
        Sign of each image's CTF: phases are flipped while the mask is applied, and flipped back. Defocus moves detail
        of spatial frequency k by lambda * defocus * k, out of a narrow mask; with flipped phases most of it is back at
        its place, and that of neighbours at theirs.

    Returns
    -------
    masked, unmasked : Tensor of complex64, shape [particles, samples]
    spectrum : Tensor of float64, shape [particles, n // 2 + 1]
    total_power : Tensor of float64, shape [particles]
    """
    there = images if signs is None else to_real(to_fourier(images) * signs, full.size)
    inside = there * mask
    if fill is not None:
        inside = inside + fill * (1.0 - mask)
    transform = to_fourier(inside)
    everything = full.gather(transform if signs is None else transform * signs)
    spectrum = shell_spectrum(full, everything, full.size // 2 + 1)
    unmasked = samples.gather(to_fourier(images))
    masked = everything[:, : len(samples)].contiguous()
    return masked, unmasked, spectrum, inside.double().square().sum(dim=(1, 2))
