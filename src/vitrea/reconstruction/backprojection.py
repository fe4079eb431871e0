"""From particle images with given poses to the sums of a reconstruction."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vitrea.fourier.packed import packed_samples
from vitrea.fourier.transforms import to_fourier
from vitrea.geometry.euler import euler_to_matrix
from vitrea.geometry.symmetry import symmetry_matrices
from vitrea.optics.transfer import particle_aberrations, particle_ctf
from vitrea.reconstruction.accumulator import FourierAccumulator
from vitrea.records.particles import Particles


@dataclass(frozen=True)
class CtfCorrection:
    """How images are corrected for the CTF.

    Attributes
    ----------
    phase_flipped : bool
        The images' phases are flipped already: the CTF is its absolute value.
    intact_first_peak : bool
        Leave amplitudes alone up to the first peak of the CTF.
    only_flip_phases : bool
        Correct phases, not amplitudes.
    """

    phase_flipped: bool = False
    intact_first_peak: bool = False
    only_flip_phases: bool = False


class Backprojector:
    """Adds particles with given poses into an accumulator.

    With X an image, C its CTF and w its weight, ``w C X`` goes into the numerator and ``w C²`` into the denominator of
    direct Fourier inversion. White noise of one variance is assumed.

    Parameters
    ----------
    size : int
        Box size of images and map.
    pixel_size : float
        Å.
    radius : int
        Largest Fourier radius, at most ``size // 2``.
    padding : int
        Oversampling of the Fourier grid.
    correction : CtfCorrection or None
        None: images are taken as they are (beam tilt is not corrected either).

    Attributes
    ----------
    accumulator : FourierAccumulator
    """

    def __init__(
        self, size: int, pixel_size: float, radius: int, padding: int = 2, correction: CtfCorrection | None = None
    ) -> None:
        self.pixel_size, self.correction = pixel_size, correction
        self.samples = packed_samples(size, radius)
        self.accumulator = FourierAccumulator(size, radius, padding)

    def add(self, images: Tensor, particles: Particles, weights: NDArray[np.float64]) -> None:
        """Add images.

        Parameters
        ----------
        images : Tensor of float32, shape [particles, n, n]
        particles : Particles
            Their angles, shifts and optics, in the same order. Groups marked as premultiplied are not multiplied by
            their CTF again.
        weights : ndarray, shape [particles]
            Weight of each image.
        """
        packed = self.samples.gather(to_fourier(images))
        packed = packed * self.samples.phase_ramps(particles.shifts / self.pixel_size)
        power = torch.ones(packed.shape, dtype=torch.float32)
        if self.correction is not None:
            packed, power = self._correct(packed, particles, self.correction)
        factor = torch.from_numpy(weights.astype(np.float32))[:, None]
        matrices = torch.from_numpy(euler_to_matrix(particles.eulers).astype(np.float32))
        self.accumulator.add(packed * factor, power * factor, matrices, self.samples)

    def _correct(self, packed: Tensor, particles: Particles, correction: CtfCorrection) -> tuple[Tensor, Tensor]:
        """Return C X and C²."""
        frequency_y, frequency_x = self.samples.frequencies(self.pixel_size)
        aberrations = particle_aberrations(frequency_y, frequency_x, particles)
        if aberrations is not None:
            packed = packed * aberrations.conj()
        transfer = particle_ctf(
            frequency_y,
            frequency_x,
            particles,
            intact_first_peak=correction.intact_first_peak,
            absolute=correction.phase_flipped,
        )
        if correction.only_flip_phases:
            transfer = transfer.sign()
        flags = np.array([group.ctf_premultiplied for group in particles.optics])[particles.optics_index]
        premultiplied = torch.from_numpy(flags)[:, None]
        return packed * torch.where(premultiplied, 1.0, transfer), transfer.square()

    def reconstruct(self, symmetry: str = "C1") -> Tensor:
        """Apply the point group and make the map, float32, shape [n, n, n]; to be called once, at the end.

        Nothing regularises it except the floor under the denominator (`accumulator.WEIGHT_FLOOR`).
        """
        self.accumulator.finish(torch.from_numpy(symmetry_matrices(symmetry).astype(np.float32)))
        return self.accumulator.reconstruct()
