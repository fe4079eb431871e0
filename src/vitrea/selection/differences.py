"""Difference images: each particle minus its aligned reference, with the CTF applied, in units of the noise.

A particle image is modelled as ``X = a C P + noise``: the reference's projection P at the particle's pose, its CTF C
and a factor a, fitted by weighted least squares,

    a = sum(Re(X conj(C P)) / sigma²) / sum(|C P|² / sigma²),

so that references need not be on the grey scale of the particles (templates, filtered maps). The noise spectrum sigma²
is measured from the differences themselves, as the median over particles in each shell, which up to half of them being
junk cannot turn. Differences are divided by sigma ("whitened"): a good particle leaves white noise of unit variance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vitrea.fourier.filters import raised_cosine
from vitrea.fourier.packed import PackedSamples, packed_samples
from vitrea.fourier.transforms import to_fourier, to_real
from vitrea.geometry.euler import euler_to_matrix
from vitrea.matching.reference import Reference, reference_from_map
from vitrea.optics.transfer import particle_aberrations, particle_ctf
from vitrea.records.particles import Particles

_EDGE_SHELLS = 2.0


@dataclass(frozen=True)
class Transfer:
    """What of the CTF is applied to references.

    Attributes
    ----------
    ctf : bool
        Apply it at all; correct beam tilt and odd aberrations with it.
    phase_flipped : bool
        The images' phases were flipped: apply its absolute value.
    intact_first_peak : bool
        Take 1 up to the CTF's first extremum.
    """

    ctf: bool = True
    phase_flipped: bool = False
    intact_first_peak: bool = False


@dataclass(frozen=True)
class Pairs:
    """Particles and their references as packed Fourier samples.

    Attributes
    ----------
    images : Tensor of complex64, shape [particles, samples]
        Orthonormal transforms, centred by the particles' shifts.
    references : Tensor of complex64, shape [particles, samples]
        Projections with CTF, on the references' own grey scale.
    """

    images: Tensor
    references: Tensor


class PairMaker:
    """Brings particles and their references together.

    Parameters
    ----------
    references : sequence of Tensor of float32, shape [n, n] or [n, n, n]
        One for each class; all 2D (class averages, templates) or all 3D.
    pixel_size : float
        Å.
    radius : int
        Largest Fourier radius to compare, in Fourier pixels; at most ``(n - 1) // 2``. References are low-passed there,
        with a soft edge.
    transfer : Transfer

    Attributes
    ----------
    window : Tensor of float32, shape [samples]
        The low-pass filter of references.
    """

    def __init__(
        self, references: Sequence[Tensor], pixel_size: float, radius: int, transfer: Transfer | None = None
    ) -> None:
        self.size, self.dims = int(references[0].shape[-1]), references[0].ndim
        self.pixel_size, self.radius, self.transfer = pixel_size, radius, transfer or Transfer()
        self.samples: PackedSamples = packed_samples(self.size, radius)
        self._references: list[Reference] = [reference_from_map(voxels, radius) for voxels in references]
        length = torch.from_numpy(np.linalg.norm(self.samples.coordinates, axis=1))
        self.window = raised_cosine(length, radius - _EDGE_SHELLS, radius)

    def pairs(self, images: Tensor, particles: Particles, classes: NDArray[np.int64]) -> Pairs:
        """Transform and centre images, and project the references they belong to.

        Parameters
        ----------
        images : Tensor of float32, shape [particles, n, n]
        particles : Particles
            Angles, shifts and, where the CTF is wanted, defocus. Of the angles, 2D references use psi only.
        classes : ndarray of int64, shape [particles]
            Index of each particle's reference.
        """
        transforms, transfer = self.transforms(images, particles)
        transforms = transforms * self.samples.phase_ramps(particles.shifts / self.pixel_size)
        return Pairs(transforms, self._project(particles.eulers, classes) * self.window * transfer)

    def transforms(self, images: Tensor, particles: Particles) -> tuple[Tensor, Tensor]:
        """Transform images as they are, corrected for odd aberrations where the CTF is wanted.

        Parameters
        ----------
        images : Tensor of float32, shape [particles, n, n]
        particles : Particles
            Defocus where the CTF is wanted.

        Returns
        -------
        transforms : Tensor of complex64, shape [particles, samples]
        transfer : Tensor of float32, shape [particles, samples]
            The CTF, as it is to be applied to references; 1 where it is not wanted.
        """
        transforms = self.samples.gather(to_fourier(images))
        if not self.transfer.ctf:
            return transforms, torch.ones(transforms.shape)
        frequency_y, frequency_x = self.samples.frequencies(self.pixel_size)
        aberrations = particle_aberrations(frequency_y, frequency_x, particles)
        if aberrations is not None:
            transforms = transforms * aberrations.conj()
        return transforms, self._ctf(particles, frequency_y, frequency_x)

    def _project(self, eulers: NDArray[np.float64], classes: NDArray[np.int64]) -> Tensor:
        if self.dims == 2:
            eulers = eulers * [0.0, 0.0, 1.0]
        matrices = torch.from_numpy(euler_to_matrix(eulers).astype(np.float32))
        out = torch.empty((len(classes), len(self.samples)), dtype=torch.complex64)
        for number in np.unique(classes):
            rows = torch.from_numpy(np.flatnonzero(classes == number))
            out[rows] = self._references[number].project(matrices[rows], self.samples)
        return out

    def _ctf(self, particles: Particles, frequency_y: Tensor, frequency_x: Tensor) -> Tensor:
        values = particle_ctf(
            frequency_y,
            frequency_x,
            particles,
            intact_first_peak=self.transfer.intact_first_peak,
            absolute=self.transfer.phase_flipped,
        )
        # Images that were multiplied by their CTF carry it twice.
        multiplied = np.array([group.ctf_premultiplied for group in particles.optics])[particles.optics_index]
        return torch.where(torch.from_numpy(multiplied)[:, None], values * values, values)


def fit_scale(pairs: Pairs, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Fit the grey scale of each particle's reference.

    Parameters
    ----------
    pairs : Pairs
    weights : Tensor of float32, shape [samples]
        1 / sigma²; 0 for samples to leave out.

    Returns
    -------
    scale : Tensor of float64, shape [particles]
        The factor a of the module's head; 0 where the reference is empty.
    strength : Tensor of float64, shape [particles]
        ``sqrt(2 sum(|C P|² / sigma²))``: the reference's signal in standard deviations of white noise, so that `scale`
        has a standard error of ``1 / strength``.
    """
    reference = torch.view_as_real(pairs.references).double()
    weighted = reference * weights[:, None]
    product = (torch.view_as_real(pairs.images) * weighted).sum(dim=(1, 2))
    power = (reference * weighted).sum(dim=(1, 2))
    return torch.where(power > 0, product / power.clamp(min=1e-300), 0.0), (2.0 * power).sqrt()


def difference(pairs: Pairs, scale: Tensor) -> Tensor:
    """Subtract scaled references from their particles; Tensor of complex64, shape [particles, samples]."""
    return pairs.images - pairs.references * scale.to(torch.float32)[:, None]


def noise_spectrum(power: NDArray[np.float64]) -> NDArray[np.float64]:
    """Noise power by shell, from the power of many differences.

    Parameters
    ----------
    power : ndarray, shape [particles, shells]
        Mean |F|² of each particle's difference in each shell.

    Returns
    -------
    ndarray, shape [shells]
        Median over particles; never 0.
    """
    median = np.median(power, axis=0)
    return np.maximum(median, max(1e-12 * float(median.max()), 1e-30))


def shell_power(samples: PackedSamples, packed: Tensor) -> NDArray[np.float64]:
    """Mean |F|² of transforms in each shell, shape [particles, radius + 1]."""
    shells = torch.from_numpy(samples.shell)
    power = (packed.real**2 + packed.imag**2).double()
    total = torch.zeros((len(packed), samples.radius + 1), dtype=torch.float64).index_add_(1, shells, power)
    counts = torch.bincount(shells, minlength=samples.radius + 1).clamp(min=1)
    return np.asarray((total / counts).numpy())


@dataclass(frozen=True)
class SmallBox:
    """A box just large enough for a band of frequencies, in which differences are looked at in real space.

    Attributes
    ----------
    samples : PackedSamples
        Of the particles' box.
    radius : int
        Largest Fourier radius of the band.
    """

    samples: PackedSamples
    radius: int

    @property
    def size(self) -> int:
        """Box size in its own, larger pixels: they are ``samples.size / size`` pixels wide."""
        return 2 * self.radius + 2

    @cached_property
    def _band(self) -> PackedSamples:
        # Two pixels more than Nyquist asks for: no sample is lost, so both boxes hold the same samples in one order.
        return packed_samples(self.size, self.radius)

    def images(self, packed: Tensor) -> Tensor:
        """Transform whitened differences back.

        Parameters
        ----------
        packed : Tensor of complex64, shape [particles, samples]

        Returns
        -------
        Tensor of float32, shape [particles, size, size]
            White noise of unit power comes out with unit variance.
        """
        count = len(self._band)
        filled = (2 * count - 1) / self.size**2
        return to_real(self._band.scatter(packed[:, :count]), self.size) / float(np.sqrt(filled))
