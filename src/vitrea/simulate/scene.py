"""What stands before the beam in one micrograph, as the lens shows it: particles, each at its focus, in ice."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import cached_property

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
from vitrea.simulate.deformation import Deformation
from vitrea.simulate.imaging import Imaging, Lens
from vitrea.simulate.landscape import Landscape
from vitrea.simulate.motion import Motion
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
        self._patches = ParticlePatches(canvas, projectors, field, interaction_constant(imaging.optics.voltage))
        self.particles = self._seen(self._patches.contrast())
        self._landscape = landscape
        self.surroundings = landscape.contrast(canvas, imaging, lens) if landscape else None
        power = ice_power(self.frequency, imaging.ice_thickness, imaging.optics.voltage)
        self._grain = (power.sqrt() / canvas.pixel_size).float()  # of the phase of ice
        self._lens = (2 * self._transfer() * self._envelope).float()
        self.ice_amplitude = self._grain * self._lens

    def _seen(self, contrast: Tensor) -> Tensor:
        """Transform a contrast to which CTFs have been applied, and put the envelope of the lens upon it."""
        return self.canvas.to_fourier(contrast) * self._envelope.float()

    def _transfer(self) -> Tensor:
        y, x = self.canvas.frequencies()
        thickness = self.imaging.ice_thickness
        return layer_transfer(y, x, self.imaging.optics, self.lens.defocus, self.lens.phase_shift, thickness)

    def contrasts(self, frames: int, seed: Sequence[int], motion: Motion | None = None) -> Iterator[Tensor]:
        """Yield the contrast of each frame: complex64, half transform of the canvas.

        Parameters
        ----------
        frames : int
            Of equal exposure.
        seed : sequence of int
            Of the ice.
        motion : Motion, optional
            Its local part moves the specimen before the lens shows it: the CTF stays what it is, and particles are
            moved as they are. The drift of the whole is left to the caller.
        """
        imaging = self.imaging
        exposure = imaging.exposure / frames
        left = imaging.surviving(self.frequency, imaging.pre_exposure, exposure).float()
        fading = imaging.surviving(self.frequency, exposure, 0.0).float()  # from one frame to the next
        moves = motion is not None and bool(motion.local.any())
        for frame, grain in enumerate(self._grains(frames, seed)):
            particles, surroundings = self.particles, self.surroundings
            if moves and motion is not None:
                deformation = Deformation(self.canvas, motion.field(frame))
                grain = deformation.moved_transform(grain)
                particles = self._seen(self._patches.contrast(deformation))
                if self._landscape is not None:
                    surroundings = self._landscape.moved(deformation).contrast(self.canvas, imaging, self.lens)
            contrast = torch.addcmul(grain.mul_(self._lens), particles, left)
            yield contrast if surroundings is None else contrast.add_(surroundings)
            left *= fading

    def ice(self, frames: int, seed: Sequence[int]) -> Iterator[Tensor]:
        """Yield the contrast of the ice in each frame at rest; parameters as in `contrasts`."""
        for grain in self._grains(frames, seed):
            yield grain.mul_(self._lens)

    def _grains(self, frames: int, seed: Sequence[int]) -> Iterator[Tensor]:
        """Yield the phase of the ice in each frame, half transform of the canvas.

        Ice is a random process of which each frame is the average over its exposure: an Ornstein-Uhlenbeck process per
        component, so that the sum of all frames does not depend on how many there are.
        """
        random = np.random.default_rng([*seed, _ICE])
        exposure = self.imaging.exposure / frames
        if frames == 1:
            yield self.canvas.white(random) * (ice_average(self.frequency, exposure).sqrt().float() * self._grain)
            return
        kept, entering, following, fresh, renewed = ice_steps(self.frequency, exposure)
        entering, following, fresh = (part * self._grain for part in (entering, following, fresh))
        state = self.canvas.white(random)
        for _ in range(frames):
            news = self.canvas.white(random)
            yield (entering * state).addcmul_(following, news).addcmul_(fresh, self.canvas.white(random))
            state = state.mul_(kept).addcmul_(renewed, news)


class ParticlePatches:
    """Images of particles, each at its own defocus, to be added up on a canvas wherever they have moved.

    Parameters
    ----------
    canvas : Canvas
    projectors : sequence of Projector
        By ``rlnClassNumber``, from 1.
    field : Particles
        With coordinates in the image.
    phase_per_volt : float
        Radians per V Å.
    """

    def __init__(
        self, canvas: Canvas, projectors: Sequence[Projector], field: Particles, phase_per_volt: float
    ) -> None:
        self._canvas, self._projectors, self._field = canvas, projectors, field
        # The projector sums voxels along the line of sight.
        self._scale = -2 * phase_per_volt * canvas.pixel_size
        self._patch = _patch_size(projectors[0].size, canvas.pixel_size, field) if len(field) else 0

    def contrast(self, deformation: Deformation | None = None) -> Tensor:
        """Return -2 CTF phase, float32, of the canvas's shape; what leaves the canvas is lost.

        Particles are moved as rigid bodies by what the deformation is at their centres.
        """
        canvas, field, patch = self._canvas, self._field, self._patch
        if not len(field):
            return torch.zeros(canvas.shape)
        total = torch.zeros(canvas.shape[0] + 2 * patch, canvas.shape[1] + 2 * patch)
        corners = _corners(field, patch, canvas)
        moves = np.zeros((len(field), 2)) if deformation is None else deformation.at(*_places(field))[:, ::-1]
        whole = np.rint(moves).astype(np.int64)
        for rows, transforms in self._transforms if deformation is not None else self._chunks():
            images = transforms
            if deformation is not None:
                images = transforms * _ramps(patch, moves[rows] - whole[rows])
            images = torch.fft.irfft2(images, s=(patch, patch))
            places = np.clip(corners[rows] + patch + whole[rows], 0, np.array(total.shape) - patch)
            for image, (top, left) in zip(images, places, strict=True):
                total[top : top + patch, left : left + patch] += image
        return total[patch:-patch, patch:-patch].contiguous()

    @cached_property
    def _transforms(self) -> list[tuple[NDArray[np.int64], Tensor]]:
        """All patches; kept, as every frame of a movie moves them anew."""
        return list(self._chunks())

    def _chunks(self) -> Iterator[tuple[NDArray[np.int64], Tensor]]:
        """Yield rows of particles and the half transforms of their patches."""
        for rows in _chunks(self._field, self._patch, self._canvas):
            group = self._field.rows(rows)
            projector = self._projectors[int(group.table["rlnClassNumber"][0]) - 1]
            yield rows, self._scale * _focused(projector, group, self._patch)


def _ramps(patch: int, moves: NDArray[np.float64]) -> Tensor:
    """Phase ramps that move patches by y, x in pixels: complex64, shape [particles, patch, patch // 2 + 1]."""
    shifts = -2 * torch.pi * torch.from_numpy(moves)
    one = torch.ones((), dtype=torch.float64)
    down = torch.polar(one, shifts[:, :1] * torch.fft.fftfreq(patch, dtype=torch.float64))
    across = torch.polar(one, shifts[:, 1:] * torch.fft.rfftfreq(patch, dtype=torch.float64))
    return (down[:, :, None] * across[:, None, :]).to(torch.complex64)


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
    x, y = _places(group)
    return np.stack([y + canvas.top, x + canvas.left], axis=1).astype(np.int64) - patch // 2


def _places(field: Particles) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    return field.table.numbers("rlnCoordinateX"), field.table.numbers("rlnCoordinateY")


def _chunks(field: Particles, patch: int, canvas: Canvas) -> Iterator[NDArray[np.int64]]:
    """Yield particles that reach the canvas, of one molecule at a time."""
    corners = _corners(field, patch, canvas)
    reaching = (corners > -patch).all(axis=1) & (corners < np.array(canvas.shape)).all(axis=1)
    molecules = field.table["rlnClassNumber"]
    for molecule in np.unique(molecules):
        rows = np.flatnonzero(reaching & (molecules == molecule))
        yield from (rows[start : start + _CHUNK] for start in range(0, len(rows), _CHUNK))


def _focused(projector: Projector, group: Particles, patch: int) -> Tensor:
    """Project particles and apply their CTFs in a box of `patch` pixels: half transforms, complex64."""
    images = resize_box(projector.images(group, with_ctf=False), patch)
    y = torch.fft.fftfreq(patch, projector.pixel_size, dtype=torch.float64)[:, None].expand(-1, patch // 2 + 1)
    x = torch.fft.rfftfreq(patch, projector.pixel_size, dtype=torch.float64)[None, :].expand(patch, -1)
    y, x = y.reshape(-1), x.reshape(-1)
    factor: Tensor = particle_ctf(y, x, group)
    aberrations = particle_aberrations(y, x, group)
    if aberrations is not None:
        factor = factor * aberrations
    transforms: Tensor = torch.fft.rfft2(images) * factor.reshape(len(group), patch, -1)
    return transforms.to(torch.complex64)
