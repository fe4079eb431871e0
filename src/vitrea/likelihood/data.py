"""What a likelihood run knows of its particles before it starts, and how it makes them ready for comparison."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vitrea.compute.memory import chunk_size
from vitrea.fourier.grid import frequency_axes
from vitrea.fourier.packed import PackedSamples, packed_samples
from vitrea.fourier.transforms import resample, to_fourier, to_real
from vitrea.geometry.masks import soft_sphere
from vitrea.likelihood.settings import Settings
from vitrea.matching.images import PreparedImages, transform_images, translate_whole_pixels
from vitrea.optics.aberrations import aberration_phase
from vitrea.optics.transfer import grouped_ctf
from vitrea.records.optics import Optics

# Images that were multiplied by their CTF are divided by it again, by this at least; samples where the CTF is smaller
# carry nothing and are left out of comparisons.
SMALLEST_CTF = 0.05
# Bytes to spend on images and their transforms while they are made ready.
PIECE_BYTES = 8 << 20
# Images read and shrunk at a time.
READ_AT_ONCE = 256


@dataclass(frozen=True)
class ParticleData:
    """The particles of a run, images read on demand.

    Attributes
    ----------
    load : callable
        ``load(indices)`` returns the images as float32, shape [particles, n, n].
    box_size : int
    pixel_size : float
        Å.
    optics : tuple of Optics
    optics_index : ndarray of int64, shape [particles]
    defocus : ndarray of float64, shape [particles, 3]
        U, V in Å, angle in degrees.
    phase_shift, b_factor, ctf_scale : ndarray of float64, shape [particles]
        Degrees, Å², no unit.
    group : ndarray of int64, shape [particles]
        Index of the group (micrograph) whose noise spectrum and scale a particle shares.
    group_names : tuple of str
    """

    load: Callable[[NDArray[np.int64]], NDArray[np.float32]]
    box_size: int
    pixel_size: float
    optics: tuple[Optics, ...]
    optics_index: NDArray[np.int64]
    defocus: NDArray[np.float64]
    phase_shift: NDArray[np.float64]
    b_factor: NDArray[np.float64]
    ctf_scale: NDArray[np.float64]
    group: NDArray[np.int64]
    group_names: tuple[str, ...]

    def __len__(self) -> int:
        """Return the number of particles."""
        return len(self.group)

    def shrunk(self, chosen: NDArray[np.int64], box_size: int, strongest: float = math.inf) -> ParticleData:
        """Return some of the particles in a smaller box of the same extent, their images kept in memory.

        Parameters
        ----------
        chosen : ndarray of int64
        box_size : int
            Pixels; detail that these cannot show is cut away. Grey values stay.
        strongest : float
            Images whose variance is more than this times the median are scaled down to that: contaminants.
        """
        images = np.empty((len(chosen), box_size, box_size), dtype=np.float32)
        for start in range(0, len(chosen), READ_AT_ONCE):
            part = slice(start, start + READ_AT_ONCE)
            images[part] = resample(torch.from_numpy(self.load(chosen[part])), box_size).numpy()
        variance = images.var(axis=(1, 2), dtype=np.float64)
        limit = strongest * np.median(variance)
        for number in np.flatnonzero(variance > limit):
            images[number] *= np.sqrt(limit / variance[number])
        return replace(
            self,
            load=lambda indices: images[indices],
            box_size=box_size,
            pixel_size=self.pixel_size * self.box_size / box_size,
            optics_index=self.optics_index[chosen],
            defocus=self.defocus[chosen],
            phase_shift=self.phase_shift[chosen],
            b_factor=self.b_factor[chosen],
            ctf_scale=self.ctf_scale[chosen],
            group=self.group[chosen],
        )


def mask_share(data: ParticleData, settings: Settings) -> float:
    """Return the share of the noise of an image that the particle mask leaves."""
    radius = settings.particle_diameter / (2 * data.pixel_size)
    return float(np.mean(soft_sphere(data.box_size, radius, settings.mask_edge, dims=2) ** 2))


def noise_share(data: ParticleData, settings: Settings) -> float:
    """Return by what power left over in masked images is divided to be the noise that they are compared with.

    Samples of a transform are correlated where an image has been masked: there are fewer independent ones than there
    are samples. Divided by the noise variance of the whole image instead of that of the masked one, squared differences
    of all samples add up to what the independent ones are worth.
    """
    return mask_share(data, settings) if settings.whole_noise and settings.zero_mask else 1.0


class ImagePreparer:
    """Turns images into packed samples of one size, the same way in every iteration.

    Parameters
    ----------
    data : ParticleData
    settings : Settings
    radius : int
        Largest Fourier radius wanted.
    limits : tuple of float
        Lowest and highest Fourier radius that takes part in the comparison.
    device : torch.device
    """

    def __init__(
        self, data: ParticleData, settings: Settings, radius: int, limits: tuple[float, float], device: torch.device
    ) -> None:
        self.data, self.settings, self.device = data, settings, device
        self.full = packed_samples(data.box_size, data.box_size // 2)
        self.samples: PackedSamples = self.full.prefix(radius)
        mask_radius = settings.particle_diameter / (2 * data.pixel_size)
        disc = soft_sphere(data.box_size, mask_radius, settings.mask_edge, dims=2)
        self.mask = torch.from_numpy(disc.astype(np.float32)).to(device)
        self.shell = torch.from_numpy(self.samples.shell).to(device)
        length = np.linalg.norm(self.samples.coordinates.astype(np.float64), axis=1)
        used = (length > 0) & (length >= limits[0]) & (length <= limits[1])
        self.used = torch.from_numpy(used.astype(np.float32)).to(device)
        frequency = torch.from_numpy(self.samples.coordinates.astype(np.float64)) / (data.box_size * data.pixel_size)
        self.frequency_x, self.frequency_y = frequency[:, 0].to(device), frequency[:, 1].to(device)
        self.aberrations = [aberration_phase(self.frequency_y, self.frequency_x, group) for group in data.optics]

    def prepare(
        self,
        indices: NDArray[np.int64],
        shifts: NDArray[np.float64],
        gain: NDArray[np.float64],
        sigma2: NDArray[np.float64],
        scale: NDArray[np.float64],
        seed: int,
    ) -> PreparedImages:
        """Read, centre, mask and transform particles, a few at a time.

        Parameters
        ----------
        indices : ndarray of int64, shape [particles]
        shifts : ndarray, shape [particles, 2]
            Shifts x, y in pixels. Masks follow whole pixels only.
        gain : ndarray, shape [particles]
            Factor by which grey values are multiplied (norm correction).
        sigma2 : ndarray, shape [groups, shells]
            Noise variance per real or imaginary part.
        scale : ndarray, shape [groups]
            Intensity scale of each group.
        seed : int
            Seed of the noise that fills the outside of the mask where that is wanted.
        """
        size = chunk_size(8 * (3 * self.data.box_size**2 + 8 * len(self.full)), PIECE_BYTES)
        if len(indices) <= size:
            return self._prepare(indices, shifts, gain, sigma2, scale, seed)
        whole: PreparedImages | None = None
        for start in range(0, len(indices), size):
            part = slice(start, start + size)
            piece = self._prepare(indices[part], shifts[part], gain[part], sigma2, scale, seed)
            whole = piece.room(len(indices)) if whole is None else whole
            whole.put(start, piece)
        assert whole is not None  # there are more particles than none
        return whole

    def _prepare(
        self,
        indices: NDArray[np.int64],
        shifts: NDArray[np.float64],
        gain: NDArray[np.float64],
        sigma2: NDArray[np.float64],
        scale: NDArray[np.float64],
        seed: int,
    ) -> PreparedImages:
        raw = self.load(indices)
        raw = raw * torch.from_numpy(gain.astype(np.float32)).to(self.device)[:, None, None]
        whole = np.round(shifts).astype(np.int64)
        images = translate_whole_pixels(raw, torch.from_numpy(whole).to(self.device))
        group = self.data.group[indices]
        fill = None if self.settings.zero_mask else self._noise(indices, sigma2[group], seed)
        signs = self._signs(indices) if self.settings.gather_signal else None
        masked, unmasked, spectrum, total = transform_images(images, self.mask, fill, self.full, self.samples, signs)
        if np.any(whole != shifts):
            ramps = self.samples.phase_ramps(shifts - whole).to(self.device)
            masked, unmasked = masked * ramps, unmasked * ramps
        transfer = self._transfer(indices, self.frequency_y, self.frequency_x)
        precision = torch.from_numpy(1.0 / np.maximum(sigma2, 1e-30)).to(torch.float32).to(self.device)
        precision = precision[torch.from_numpy(group).to(self.device)][:, self.shell] * self.used
        masked, unmasked = self._correct_phases(indices, masked), self._correct_phases(indices, unmasked)
        multiplied = self._premultiplied(indices)
        if multiplied.any():
            precision = precision * ~(multiplied[:, None] & (transfer.abs() < SMALLEST_CTF))
        if self.settings.only_flip_phases:
            masked, unmasked, transfer = masked * transfer.sign(), unmasked * transfer.sign(), torch.ones_like(transfer)
        amplitude = torch.from_numpy(scale[group].astype(np.float32)).to(self.device)
        return PreparedImages(masked, unmasked, transfer * amplitude[:, None], precision, spectrum, total)

    def load(self, indices: NDArray[np.int64]) -> Tensor:
        """Read images, shape [particles, n, n]; those that were multiplied by their CTF become plain images again."""
        images = torch.from_numpy(self.data.load(indices)).to(self.device)
        multiplied = self._premultiplied(indices)
        if not multiplied.any():
            return images
        transfer = self._whole_transfer(indices)
        divisor = torch.where(transfer < 0, -1.0, 1.0) * transfer.abs().clamp(min=SMALLEST_CTF)
        plain = to_real(to_fourier(images) / divisor, self.data.box_size)
        return torch.where(multiplied[:, None, None], plain, images)

    def _signs(self, indices: NDArray[np.int64]) -> Tensor:
        """Sign of the CTF of each particle, shape [particles, n, n // 2 + 1]; 1 where the CTF is zero."""
        return torch.where(self._whole_transfer(indices) < 0, -1.0, 1.0)

    def _whole_transfer(self, indices: NDArray[np.int64]) -> Tensor:
        """CTF of each particle at all components of a half transform, shape [particles, n, n // 2 + 1]."""
        size = self.data.box_size
        x, y = frequency_axes(size, 2, dtype=torch.float64, device=self.device)
        x, y = x.expand(size, -1), y.expand(-1, size // 2 + 1)
        extent = size * self.data.pixel_size
        return self._transfer(indices, y.flatten() / extent, x.flatten() / extent).view(len(indices), *x.shape)

    def _premultiplied(self, indices: NDArray[np.int64]) -> Tensor:
        flags = np.array([group.ctf_premultiplied for group in self.data.optics])
        return torch.from_numpy(flags[self.data.optics_index[indices]]).to(self.device)

    def _transfer(self, indices: NDArray[np.int64], frequency_y: Tensor, frequency_x: Tensor) -> Tensor:
        """CTF of each particle at spatial frequencies (1/Å), shape [particles, samples]."""
        if not self.settings.ctf:
            return torch.ones((len(indices), len(frequency_x)), dtype=torch.float32, device=self.device)
        data = self.data
        return grouped_ctf(
            frequency_y,
            frequency_x,
            data.optics,
            data.optics_index[indices],
            defocus=data.defocus[indices],
            phase_shift=data.phase_shift[indices],
            b_factor=data.b_factor[indices],
            scale=data.ctf_scale[indices],
            intact_first_peak=self.settings.ctf_intact_first_peak,
            absolute=self.settings.ctf_phase_flipped,
        )

    def _correct_phases(self, indices: NDArray[np.int64], packed: Tensor) -> Tensor:
        """Take out beam tilt and odd aberrations."""
        if all(phase is None for phase in self.aberrations):
            return packed
        packed = packed.clone()
        for number, phase in enumerate(self.aberrations):
            if phase is not None:
                chosen = torch.from_numpy(self.data.optics_index[indices] == number).to(self.device)
                packed[chosen] = packed[chosen] * phase.conj()
        return packed

    def _noise(self, indices: NDArray[np.int64], sigma2: NDArray[np.float64], seed: int) -> Tensor:
        """Gaussian noise with each particle's own noise spectrum, shape [particles, n, n]; depends on the seed only."""
        size = self.data.box_size
        axis = np.fft.fftfreq(size, 1.0 / size)
        radius = np.hypot(axis[:, None], np.arange(size // 2 + 1)[None])
        shell = np.minimum(np.round(radius).astype(int), size // 2)
        out = np.empty((len(indices), size, size // 2 + 1), dtype=np.complex64)
        for row, index in enumerate(indices):
            white = np.random.default_rng([seed, int(index)]).standard_normal((size, size), dtype=np.float32)
            out[row] = np.fft.rfft2(white, norm="ortho") * np.sqrt(2.0 * sigma2[row][shell])
        return to_real(torch.from_numpy(out).to(self.device), size, 2)
