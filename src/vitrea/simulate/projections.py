"""Images that a microscope would take of a map, without noise."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from vitrea.fourier.packed import PackedSamples, packed_samples
from vitrea.fourier.transforms import to_real
from vitrea.geometry.euler import euler_to_matrix
from vitrea.matching.reference import Reference, reference_from_map
from vitrea.optics.transfer import particle_aberrations, particle_ctf
from vitrea.records.particles import Particles


class Projector:
    """Projects a map along given orientations, with shifts and CTF.

    What it holds of the map is a ball in Fourier space up to Nyquist, and so are the projections; this, the trilinear
    interpolation in an oversampled transform and the grey values are relion_project's.

    Parameters
    ----------
    voxels : Tensor of float32, shape [n, n, n]
    pixel_size : float
        Å.
    padding : int
        Oversampling of the map's transform.
    """

    def __init__(self, voxels: Tensor, pixel_size: float, padding: int = 2) -> None:
        self.size, self.pixel_size = int(voxels.shape[-1]), pixel_size
        self.samples = _with_nyquist(packed_samples(self.size, self.size // 2))
        self.reference = _ball(reference_from_map(voxels, self.size // 2, padding))

    def packed(
        self, particles: Particles, *, with_ctf: bool, intact_first_peak: bool = False, absolute: bool = False
    ) -> Tensor:
        """Project, as packed Fourier samples.

        Parameters
        ----------
        particles : Particles
            Angles, shifts (an image is the projection moved by minus its origin) and optics.
        with_ctf : bool
            Apply CTF, beam tilt and odd aberrations. The particles must then have defocus.
        intact_first_peak, absolute : bool
            See `vitrea.optics.ctf.ctf`.

        Returns
        -------
        Tensor of complex64, shape [particles, samples]
            Orthonormal transforms.
        """
        matrices = torch.from_numpy(euler_to_matrix(particles.eulers).astype(np.float32))
        projections = self.reference.project(matrices, self.samples)
        projections = projections * self.samples.phase_ramps(-particles.shifts / self.pixel_size)
        if not with_ctf:
            return projections
        frequency_y, frequency_x = self.samples.frequencies(self.pixel_size)
        aberrations = particle_aberrations(frequency_y, frequency_x, particles)
        if aberrations is not None:
            projections = projections * aberrations
        return projections * particle_ctf(
            frequency_y, frequency_x, particles, intact_first_peak=intact_first_peak, absolute=absolute
        )

    def images(
        self, particles: Particles, *, with_ctf: bool, intact_first_peak: bool = False, absolute: bool = False
    ) -> Tensor:
        """Project, in real space: float32, shape [particles, n, n]; parameters as in `packed`."""
        packed = self.packed(particles, with_ctf=with_ctf, intact_first_peak=intact_first_peak, absolute=absolute)
        return to_real(self.samples.scatter(packed), self.size, 2)


def _with_nyquist(samples: PackedSamples) -> PackedSamples:
    """Add the two components on the axes at the Nyquist index of an even box, which the ball just reaches.

    A translation multiplies them by a cosine (only their real part survives the way back), as band-limited
    interpolation has it; matching, which needs both parts, leaves them out.
    """
    size, half = samples.size, samples.size // 2
    if size % 2:
        return samples
    extra = np.array([[half, 0, 0], [0, half, 0]], dtype=np.float32)
    index = np.array([half, half * (half + 1)], dtype=np.int64)  # columns run to half
    return replace(
        samples,
        coordinates=np.concatenate([samples.coordinates, extra]),
        index=np.concatenate([samples.index, index]),
        shell=np.concatenate([samples.shell, [half, half]]),
    )


def _ball(reference: Reference) -> Reference:
    """Empty the corners of a reference's grid, beyond its radius."""
    reach = torch.arange(-reference.half, reference.half + 1, dtype=torch.float32)
    squared = reach[:, None, None] ** 2 + reach[None, :, None] ** 2 + reach[None, None, reference.half :] ** 2
    outside = squared > (reference.padding * reference.radius) ** 2
    return replace(reference, grid=reference.grid.masked_fill(outside.to(reference.grid.device), 0))
