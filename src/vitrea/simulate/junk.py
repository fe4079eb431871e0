"""Images that hold no single, centred particle: contaminants, and pairs of particles."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vitrea.fourier.grid import frequency_axes
from vitrea.fourier.transforms import resize_box, shift_fourier, to_fourier, to_real
from vitrea.optics.transfer import particle_aberrations, particle_ctf
from vitrea.records.particles import EULER_LABELS, SHIFT_LABELS, Particles
from vitrea.simulate.contaminants import paint_contaminant
from vitrea.simulate.particles import NoiseModel
from vitrea.simulate.picked_noise import PickedWindows
from vitrea.simulate.population import BORDER, NOISE, PAIR, PICKED_NOISE
from vitrea.simulate.projections import Projector
from vitrea.simulate.truth import random_eulers

_JUNK = 4  # random stream of each image
_CANVAS = 2  # boxes: nothing that leaves the image on one side comes back on the other
_MISSING = (0.05, 0.4)  # of an image at the micrograph's border
_SEPARATION = (1.1, 1.8)  # of the two particles of a pair, in particle radii


class JunkMaker:
    """Makes images of every kind of junk; see `particles.JunkSource`.

    Parameters
    ----------
    projectors : sequence of Projector
        The molecules that pairs are made of; the first is what noise is picked with.
    particles : Particles
        The truth of the whole set: CTF, origins and micrographs of the images.
    shares : sequence of float
        How often a molecule is in a pair; only ratios count.
    radius : float
        Radius of the particle in pixels.
    noise : NoiseModel
        Of the set. What an image shows depends on the seed and on its number alone (picked noise: on its micrograph).
    """

    def __init__(
        self,
        projectors: Sequence[Projector],
        particles: Particles,
        shares: Sequence[float],
        radius: float,
        noise: NoiseModel,
    ) -> None:
        self.projectors, self.particles, self.radius, self.seed = tuple(projectors), particles, radius, noise.seed
        self.shares = np.asarray(shares, dtype=np.float64) / np.sum(shares)
        self._windows = PickedWindows(projectors[0], particles, radius, noise)

    def images(self, kind: str, rows: NDArray[np.int64], noise: Tensor, gain: float) -> Tensor:
        """Make junk of one kind; arguments and result as in `particles.JunkSource`."""
        if kind == NOISE:
            return noise
        if kind == PICKED_NOISE:
            return self._windows.images(rows)
        if kind == BORDER:
            return torch.stack([self.repeat_border(image, int(row)) for image, row in zip(noise, rows, strict=True)])
        if kind == PAIR:
            return noise + gain * self.pairs(rows)
        return noise + self.contaminants(kind, rows)

    def contaminants(self, name: str, rows: NDArray[np.int64]) -> Tensor:
        """Paint one contaminant an image.

        Parameters
        ----------
        name : str
            One of `contaminants.CONTAMINANTS`.
        rows : ndarray of int64, shape [images]
            Numbers of the images in their set.

        Returns
        -------
        Tensor of float32, shape [images, n, n]
            In units of the noise's standard deviation.
        """
        canvas = _CANVAS * self.projectors[0].size
        paintings = [paint_contaminant(name, self._random(row), canvas, self.radius) for row in rows]
        amplitude, phase = (
            torch.from_numpy(np.stack(layers).astype(np.float32))
            for layers in ([one.amplitude for one in paintings], [one.phase for one in paintings])
        )
        return self._crop(amplitude + self._through_lens(phase, rows))

    def pairs(self, rows: NDArray[np.int64]) -> Tensor:
        """Paint two particles an image, on opposite sides of its origin; arguments and result as `contaminants`.

        The result is on the grey scale of the maps. The particle's origin moves the middle between the two.
        """
        size, particles = self.projectors[0].size, self.particles.rows(rows)
        wide = torch.zeros(len(rows), _CANVAS * size, _CANVAS * size)
        draws = [self._draw_pair(int(row)) for row in rows]
        for member in (0, 1):
            classes = np.array([draw[member][0] for draw in draws])
            eulers = np.array([draw[member][1] for draw in draws]).reshape(-1, 3)
            places = np.array([draw[member][2] for draw in draws]).reshape(-1, 2)
            places = places - particles.shifts / self.projectors[0].pixel_size
            posed = particles.with_columns(dict(zip(EULER_LABELS, eulers.T, strict=True)))
            posed = posed.with_columns({label: np.zeros(len(rows)) for label in SHIFT_LABELS})
            images = torch.zeros(len(rows), size, size)
            for number, projector in enumerate(self.projectors):
                chosen = np.flatnonzero(classes == number)
                if len(chosen):
                    images[torch.from_numpy(chosen)] = projector.images(posed.rows(chosen), with_ctf=False)
            wide += _moved(resize_box(images, _CANVAS * size, dims=2), places)
        return self._crop(self._through_lens(wide, rows))

    def repeat_border(self, image: Tensor, row: int) -> Tensor:
        """Make an image (shape [n, n]) one that was cut at the micrograph's border, whose last line is repeated."""
        random, size = self._random(row), image.shape[-1]
        missing, turns = int(size * random.uniform(*_MISSING)), int(random.integers(4))
        turned = torch.rot90(image, turns)
        cut = torch.cat([turned[missing].expand(missing, size), turned[missing:]])
        return torch.rot90(cut, -turns)

    def _draw_pair(self, row: int) -> list[tuple[int, list[float], NDArray[np.float64]]]:
        """Class (from 0), Euler angles and place (x, y in pixels) of both particles."""
        random = self._random(row)
        angle, distance = random.uniform(0, 2 * np.pi), random.uniform(*_SEPARATION) * self.radius
        half = distance / 2 * np.array([np.cos(angle), np.sin(angle)])
        return [
            (int(random.choice(len(self.shares), p=self.shares)), random_eulers(random), sign * half)
            for sign in (1, -1)
        ]

    def _random(self, row: int | np.int64) -> np.random.Generator:
        return np.random.default_rng([self.seed, _JUNK, int(row)])

    def _crop(self, wide: Tensor) -> Tensor:
        return resize_box(wide, self.projectors[0].size, dims=2)

    def _through_lens(self, objects: Tensor, rows: NDArray[np.int64]) -> Tensor:
        """Apply each image's CTF and aberrations on the canvas."""
        particles = self.particles.rows(rows)
        size, pixel_size = objects.shape[-1], self.projectors[0].pixel_size
        kx, ky = (axis / (size * pixel_size) for axis in frequency_axes(size, 2, dtype=torch.float64))
        frequency_y, frequency_x = ((axis + torch.zeros_like(kx + ky)).reshape(-1) for axis in (ky, kx))
        transfer: Any = particle_ctf(frequency_y, frequency_x, particles)
        aberrations = particle_aberrations(frequency_y, frequency_x, particles)
        if aberrations is not None:
            transfer = transfer * aberrations
        return to_real(to_fourier(objects) * transfer.reshape(-1, size, size // 2 + 1), size)


def _moved(images: Tensor, places: NDArray[np.float64]) -> Tensor:
    size = images.shape[-1]
    return to_real(shift_fourier(to_fourier(images), torch.from_numpy(places.astype(np.float32))), size)
