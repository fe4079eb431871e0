"""What stands before the beam in one micrograph, as the lens shows it: particles, each at its focus, in ice."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.fft import next_fast_len
from torch import Tensor

from vitrea.fourier.transforms import resize_box
from vitrea.optics.transfer import particle_aberrations, particle_ctf
from vitrea.records.particles import Particles
from vitrea.simulate.amorphous import ice_average, ice_power, ice_steps, layer_transfer
from vitrea.simulate.canvas import Canvas
from vitrea.simulate.imaging import Imaging, Lens
from vitrea.simulate.landscape import Landscape
from vitrea.simulate.projections import Projector
from vitrea.simulate.scattering import interaction_constant

_FINEST = 2.5  # Å: how far the image of a particle spreads is reckoned for this resolution, or Nyquist if that is lower
_CHUNK = 16  # particles imaged at a time
_ICE = 21  # random stream


class Scene:
    """The contrast of one micrograph, in Fourier space: intensity = 1 + contrast.

    Weak-phase imaging: contrast = -2 CTF phase, where phase = interaction constant * projected potential above ice.

    Parameters
    ----------
    canvas : Canvas
    imaging : Imaging
    lens : Lens
    projectors : sequence of Projector
        The molecules that ``rlnClassNumber`` counts from 1, in volts above ice.
    field : Particles
        From `imaging.draw_field`.
    landscape : Landscape, optional
        Carbon, contamination, uneven ice.

    Attributes
    ----------
    particles : Tensor of complex64
        Contrast of the undamaged particles, on the canvas.
    surroundings : Tensor of complex64 or None
        Contrast of the landscape.
    ice_amplitude : Tensor of float32
        Root of the power of the contrast of ice at rest, per component.
    """

    def __init__(
        self,
        canvas: Canvas,
        imaging: Imaging,
        lens: Lens,
        projectors: Sequence[Projector],
        field: Particles,
        landscape: Landscape | None = None,
    ) -> None:
        self.canvas, self.imaging, self.lens = canvas, imaging, lens
        self.frequency = canvas.radius()
        self._envelope = torch.exp(-imaging.b_factor / 4 * self.frequency.square()) * imaging.visibility
        self.particles = canvas.to_fourier(particle_contrast(canvas, projectors, field, interaction_constant(
            imaging.optics.voltage))) * self._envelope.float()  # fmt: skip
        self.surroundings = landscape.contrast(canvas, imaging, lens) if landscape else None
        power = ice_power(self.frequency, imaging.ice_thickness, imaging.optics.voltage)
        self.ice_amplitude = (2 * self._transfer() * power.sqrt() * self._envelope / canvas.pixel_size).float()

    def _transfer(self) -> Tensor:
        y, x = self.canvas.frequencies()
        thickness = self.imaging.ice_thickness
        return layer_transfer(y, x, self.imaging.optics, self.lens.defocus, self.lens.phase_shift, thickness)

    def contrasts(self, frames: int, seed: Sequence[int]) -> Iterator[Tensor]:
        """Yield the contrast of each frame, not moved: complex64, half transform of the canvas.

        Parameters
        ----------
        frames : int
            Of equal exposure.
        seed : sequence of int
            Of the ice.
        """
        imaging = self.imaging
        exposure = imaging.exposure / frames
        left = imaging.surviving(self.frequency, imaging.pre_exposure, exposure).float()
        fading = imaging.surviving(self.frequency, exposure, 0.0).float()  # from one frame to the next
        for ice in self.ice(frames, seed):
            contrast = torch.addcmul(ice, self.particles, left)
            yield contrast if self.surroundings is None else contrast.add_(self.surroundings)
            left *= fading

    def ice(self, frames: int, seed: Sequence[int]) -> Iterator[Tensor]:
        """Yield the contrast of the ice in each frame; parameters as in `contrasts`.

        Ice is a random process of which each frame is the average over its exposure: an Ornstein-Uhlenbeck process per
        component, so that the sum of all frames does not depend on how many there are.
        """
        random = np.random.default_rng([*seed, _ICE])
        exposure = self.imaging.exposure / frames
        if frames == 1:
            yield self.canvas.white(random) * (
                ice_average(self.frequency, exposure).sqrt().float() * self.ice_amplitude
            )
            return
        kept, entering, following, fresh, renewed = ice_steps(self.frequency, exposure)
        entering, following, fresh = (part * self.ice_amplitude for part in (entering, following, fresh))
        state = self.canvas.white(random)
        for _ in range(frames):
            news = self.canvas.white(random)
            yield (entering * state).addcmul_(following, news).addcmul_(fresh, self.canvas.white(random))
            state = state.mul_(kept).addcmul_(renewed, news)


def particle_contrast(
    canvas: Canvas, projectors: Sequence[Projector], field: Particles, phase_per_volt: float
) -> Tensor:
    """Add up the images of particles, each at its own defocus.

    Parameters
    ----------
    canvas : Canvas
    projectors : sequence of Projector
        By ``rlnClassNumber``, from 1.
    field : Particles
        With coordinates in the image.
    phase_per_volt : float
        Radians per V Å.

    Returns
    -------
    Tensor of float32, of the canvas's shape
        -2 CTF phase. What leaves the canvas is lost.
    """
    if not len(field):
        return torch.zeros(canvas.shape)
    size = projectors[0].size
    patch = _patch_size(size, canvas.pixel_size, field)
    total = torch.zeros(canvas.shape[0] + 2 * patch, canvas.shape[1] + 2 * patch)
    scale = -2 * phase_per_volt * canvas.pixel_size  # the projector sums voxels along the line of sight
    for rows in _chunks(field, patch, canvas):
        group = field.rows(rows)
        images = scale * _focused(projectors[int(group.table["rlnClassNumber"][0]) - 1], group, patch)
        corners = _corners(group, patch, canvas)
        for image, (top, left) in zip(images, corners + patch, strict=True):
            total[top : top + patch, left : left + patch] += image
    return total[patch:-patch, patch:-patch].contiguous()


def _patch_size(size: int, pixel_size: float, field: Particles) -> int:
    """Box in which a particle's image has room: the defocus spreads it by lambda times defocus times frequency."""
    frequency = min(0.5 / pixel_size, 1 / _FINEST)
    defocus = float(np.abs(field.defocus[:, :2]).max(initial=0.0))
    optics = field.optics[0]
    spherical = optics.spherical_aberration * 1e7 * (optics.wavelength * frequency) ** 3
    spread = max(optics.wavelength * defocus * frequency, spherical)
    return int(next_fast_len(size + 2 * math.ceil(spread / pixel_size), real=True))


def _corners(group: Particles, patch: int, canvas: Canvas) -> NDArray[np.int64]:
    """Row and column on the canvas of each patch's first pixel, shape [particles, 2]."""
    y, x = group.table.numbers("rlnCoordinateY"), group.table.numbers("rlnCoordinateX")
    return np.stack([y + canvas.top, x + canvas.left], axis=1).astype(np.int64) - patch // 2


def _chunks(field: Particles, patch: int, canvas: Canvas) -> Iterator[NDArray[np.int64]]:
    """Yield particles that reach the canvas, of one molecule at a time."""
    corners = _corners(field, patch, canvas)
    reaching = (corners > -patch).all(axis=1) & (corners < np.array(canvas.shape)).all(axis=1)
    molecules = field.table["rlnClassNumber"]
    for molecule in np.unique(molecules):
        rows = np.flatnonzero(reaching & (molecules == molecule))
        yield from (rows[start : start + _CHUNK] for start in range(0, len(rows), _CHUNK))


def _focused(projector: Projector, group: Particles, patch: int) -> Tensor:
    """Project particles and apply their CTFs in a box of `patch` pixels: float32, shape [particles, patch, patch]."""
    images = resize_box(projector.images(group, with_ctf=False), patch)
    y = torch.fft.fftfreq(patch, projector.pixel_size, dtype=torch.float64)[:, None].expand(-1, patch // 2 + 1)
    x = torch.fft.rfftfreq(patch, projector.pixel_size, dtype=torch.float64)[None, :].expand(patch, -1)
    y, x = y.reshape(-1), x.reshape(-1)
    factor: Tensor = particle_ctf(y, x, group)
    aberrations = particle_aberrations(y, x, group)
    if aberrations is not None:
        factor = factor * aberrations
    transforms = torch.fft.rfft2(images) * factor.reshape(len(group), patch, -1)
    result: Tensor = torch.fft.irfft2(transforms, s=(patch, patch))
    return result
