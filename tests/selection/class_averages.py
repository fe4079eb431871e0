"""Class averages as a 2D classification leaves them, of known content: particles, noise, contaminants.

Images are simulated one by one (CTF, white noise of unit variance), aligned, averaged with CTF correction and filtered
by their own signal-to-noise ratio, so that an average is noisy, blurred and damped as far as its images make it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from vitrea.fourier.grid import frequency_axes
from vitrea.fourier.shells import shell_mean, spread_shells
from vitrea.fourier.transforms import shift_fourier, to_fourier, to_real
from vitrea.geometry.masks import soft_sphere
from vitrea.optics.transfer import particle_ctf
from vitrea.records.optics import Optics
from vitrea.records.particles import EULER_LABELS, SHIFT_LABELS
from vitrea.simulate.noise import white_noise
from vitrea.simulate.projections import Projector
from vitrea.simulate.truth import Acquisition, draw_particles

TAU2_FUDGE = 2.0  # RELION's default in 2D
PSI_STEP = 10.0
MAX_SHIFT = 3  # pixels


@dataclass(frozen=True)
class Microscope:
    """What all images share: box in pixels, pixel size and mask diameter in Å, signal-to-noise ratio in the mask."""

    size: int = 48
    pixel_size: float = 5.0
    diameter: float = 200.0
    snr: float = 1.0

    @property
    def radius(self) -> float:
        """Of the mask, in pixels."""
        return self.diameter / (2 * self.pixel_size)

    @property
    def optics(self) -> Optics:
        return Optics(self.pixel_size, self.size, 300.0, 2.7, 0.1)


@dataclass(frozen=True)
class Average:
    """A class average.

    Attributes
    ----------
    image : ndarray of float32, shape [n, n]
    resolution : float
        Å, where the signal-to-noise ratio falls below 1, as in ``rlnEstimatedResolution``.
    count : int
        Images in it.
    ctf2 : ndarray of float64, shape [n // 2 + 1]
        Mean square of their CTF.
    """

    image: NDArray[np.float32]
    resolution: float
    count: int
    ctf2: NDArray[np.float64]


@dataclass(frozen=True)
class Images:
    """Transforms of images and their CTFs, both [images, n, n // 2 + 1]."""

    transforms: Tensor
    ctf: Tensor

    def __getitem__(self, rows: NDArray[np.int64]) -> Images:
        return Images(self.transforms[rows], self.ctf[rows])


def take_images(microscope: Microscope, views: Tensor | None, count: int, seed: int) -> Images:
    """Take noisy images of clean views, shape [count or 1, n, n] (None: of nothing), of which the noise is 1."""
    particles = draw_particles(Acquisition(microscope.optics, count, groups=min(20, count), seed=seed))
    extent = microscope.size * microscope.pixel_size
    x, y = (k / extent for k in torch.broadcast_tensors(*frequency_axes(microscope.size, 2)))
    transfer = particle_ctf(y.reshape(-1), x.reshape(-1), particles).reshape(count, *y.shape)
    images = to_fourier(torch.from_numpy(white_noise(seed, 0, count, microscope.size)))
    return Images(images if views is None else images + transfer * to_fourier(views), transfer)


def views_of(microscope: Microscope, projector: Projector, view: NDArray[np.float64], count: int, seed: int) -> Tensor:
    """Clean images of one class: views a few degrees apart, aligned to half a pixel and three degrees."""
    rng = np.random.default_rng(seed)
    particles = draw_particles(Acquisition(microscope.optics, count, seed=seed))
    eulers = view + rng.normal(0, [4.0, 4.0, 3.0], (count, 3))
    shifts = rng.normal(0, 0.5 * microscope.pixel_size, (count, 2))
    columns = dict(zip((*EULER_LABELS, *SHIFT_LABELS), np.hstack([eulers, shifts]).T, strict=True))
    views = projector.images(particles.with_columns(columns), with_ctf=False)
    inside = torch.from_numpy(soft_sphere(microscope.size, microscope.radius, 0.0, dims=2) > 0.5)
    return views * (microscope.snr**0.5 / views[:, inside].std(dim=1).mean())


def average(microscope: Microscope, images: Images) -> Average:
    """Average aligned images: CTF correction, regularisation by their own signal-to-noise ratio, mask."""
    size = microscope.size
    weight = shell_mean(images.ctf.square(), size, 2).sum(dim=0)
    raw = (images.transforms * images.ctf).sum(dim=0) / spread_shells(weight, size, 2, beyond=1.0)
    power = shell_mean(raw.real.square() + raw.imag.square(), size, 2)
    ssnr = TAU2_FUDGE * (power * weight - 1).clamp(min=0)
    image = to_real(raw * spread_shells(ssnr / (ssnr + 1), size, 2), size)
    mask = torch.from_numpy(soft_sphere(size, microscope.radius, 3.0, dims=2)).float()
    below = np.flatnonzero(ssnr[1:].numpy() < 1)
    shell = below[0] if len(below) else size // 2  # the last shell before: below[0] counts from shell 1
    resolution = size * microscope.pixel_size / max(shell, 0.5)
    return Average((image * mask).numpy(), resolution, len(images.ctf), (weight / len(images.ctf)).double().numpy())


def rotate(image: NDArray[np.float32], psi: float) -> NDArray[np.float32]:
    """Turn an image about pixel n // 2 by psi degrees."""
    cosine, sine = np.cos(np.radians(psi)), np.sin(np.radians(psi))
    matrix = np.array([[cosine, sine], [-sine, cosine]])
    centre = np.full(2, image.shape[0] // 2)
    return np.asarray(ndimage.affine_transform(image, matrix, centre - matrix @ centre, order=1), dtype=np.float32)


def align(images: Images, reference: NDArray[np.float32]) -> tuple[Images, NDArray[np.float64]]:
    """Turn and shift images so that each correlates best with a reference; also return the correlations."""
    size, psis = reference.shape[0], np.arange(0, 360, PSI_STEP)
    centre = slice(size // 2 - MAX_SHIFT, size // 2 + MAX_SHIFT + 1)
    found = []
    for psi in psis:
        turned = to_fourier(torch.from_numpy(rotate(reference, psi)))
        product = to_real(images.transforms * images.ctf * turned.conj(), size)[:, centre, centre]
        best, place = product.reshape(len(product), -1).max(dim=1)
        found.append(torch.stack([best.double(), place.double()]))
    scores = torch.stack(found)  # [psis, 2, images]
    which = scores[:, 0].argmax(dim=0)
    place = scores[which, 1, torch.arange(len(which))].long()
    width = 2 * MAX_SHIFT + 1
    shifts = torch.stack([place % width, place // width], dim=1).float() - MAX_SHIFT
    shifted = to_real(shift_fourier(images.transforms * images.ctf, -shifts), size).numpy()
    back = np.stack([rotate(image, -psis[psi]) for image, psi in zip(shifted, which.tolist(), strict=True)])
    # CTF x image was turned; a constant CTF of its root mean square stands for it from here on.
    rms = shell_mean(images.ctf.square(), size, 2).sqrt()
    flat = spread_shells(rms, size, 2, beyond=1.0)
    return Images(to_fourier(torch.from_numpy(back)) / flat, flat), scores[which, 0, torch.arange(len(which))].numpy()


def einstein(microscope: Microscope, template: NDArray[np.float32], count: int, picks: int, seed: int) -> Average:
    """The average of pure noise aligned to a template, and to its own average twice more.

    Of `count` times `picks` noise images, those that match the template best are taken: what template picking does.
    """
    noise = take_images(microscope, None, count * picks, seed)
    aligned, scores = align(noise, template)
    best = np.argsort(-scores)[:count]
    result = average(microscope, aligned[best])
    for _ in range(2):
        result = average(microscope, align(noise[best], result.image)[0])
    return result


def noise_power(microscope: Microscope) -> NDArray[np.float64]:
    return np.ones(microscope.size // 2 + 1)
