"""Particle images with noise and a known truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vitrea.geometry.masks import soft_sphere
from vitrea.records.particles import Particles
from vitrea.simulate.noise import colour, white_noise
from vitrea.simulate.population import CLASS_LABEL, KIND_LABEL, PARTICLE
from vitrea.simulate.projections import Projector

# Images from which the mean power of the signal is measured.
_PROBES = 200


@dataclass(frozen=True)
class NoiseModel:
    """Noise to be added, of unit variance per pixel.

    Attributes
    ----------
    seed : int
    spectrum : ndarray, shape [n // 2 + 1], or None
        Mean |F|² by shell of noise of unit variance (`noise.unit_variance`); None: white.
    """

    seed: int
    spectrum: NDArray[np.float64] | None = None


class JunkSource(Protocol):
    """Makes images that are no particles (`junk.JunkMaker`)."""

    def images(self, kind: str, rows: NDArray[np.int64], noise: Tensor, gain: float) -> Tensor:
        """Make junk of one kind.

        Parameters
        ----------
        kind : str
            One of `population.JUNK_NAMES`.
        rows : ndarray of int64, shape [images]
            Their numbers in the set.
        noise : Tensor of float32, shape [images, n, n]
            Noise of unit variance for these images.
        gain : float
            From the maps' grey scale to that of the noise.

        Returns
        -------
        Tensor of float32, shape [images, n, n]
            Not yet normalised.
        """
        ...


class ParticleSimulator:
    """Makes particle images: white on black, background of zero mean and unit variance.

    ``image = (g * CTF * projection + noise)``, normalised. The noise has unit variance and g is chosen so that the
    variance of the signal within the particle's disc, averaged over particles, is `snr`. A reconstruction from the
    images is therefore `gain` times the map that was projected.

    Parameters
    ----------
    projectors : Projector or sequence of Projector
        Of one molecule, or of those that ``rlnClassNumber`` counts from 1; all on one grey scale and in one box.
    particles : Particles
        The truth (`truth.draw_particles`). With ``vitreaSimulatedKind`` (`population.draw_population`) some are junk.
    radius : float
        Radius of the particle in pixels: disc of the signal-to-noise ratio, and border of the background.
    snr : float
        Variance of the signal in the disc over variance of the noise; 0: nothing but noise.
    noise : NoiseModel or None
        None: no noise; images are then neither scaled (g is 1) nor normalised, and `snr` is not used.
    junk : JunkSource, optional
        Makes what is not a particle; needed if there is junk.

    Attributes
    ----------
    gain : float
        g.
    """

    def __init__(
        self,
        projectors: Projector | Sequence[Projector],
        particles: Particles,
        radius: float,
        snr: float,
        noise: NoiseModel | None,
        junk: JunkSource | None = None,
    ) -> None:
        self.projectors = (projectors,) if isinstance(projectors, Projector) else tuple(projectors)
        self.particles, self.noise, self.junk = particles, noise, junk
        self.size = self.projectors[0].size
        table = particles.table
        self._kinds = table[KIND_LABEL] if KIND_LABEL in table else np.full(len(particles), PARTICLE, dtype=object)
        self._classes = table.numbers(CLASS_LABEL, 1.0).astype(np.int64)
        disc = soft_sphere(self.size, radius, 0.0, dims=2) > 0.5
        self.inside, self.outside = torch.from_numpy(disc), torch.from_numpy(~disc)
        self.gain = 1.0 if noise is None else self._gain(snr)

    def _gain(self, snr: float) -> float:
        if snr <= 0:
            return 0.0
        real = np.flatnonzero(self._kinds == PARTICLE)
        rows = real if len(real) else np.arange(len(self.particles))
        rows = rows[np.unique(np.linspace(0, len(rows) - 1, min(_PROBES, len(rows))).astype(int))]
        # In a set of junk alone, pairs are as strong as the first molecule would be.
        clean = self.clean(rows) if len(real) else self.projectors[0].images(self.particles.rows(rows), with_ctf=True)
        variance = float(clean[:, self.inside].double().var(dim=1).mean())
        return float(np.sqrt(snr / variance))

    def clean(self, rows: NDArray[np.int64]) -> Tensor:
        """Project particles, with CTF, on the maps' grey scale; empty where there is junk; float32, [rows, n, n]."""
        images = torch.zeros(len(rows), self.size, self.size)
        for number, projector in enumerate(self.projectors, start=1):
            chosen = np.flatnonzero((self._classes[rows] == number) & (self._kinds[rows] == PARTICLE))
            if len(chosen):
                images[torch.from_numpy(chosen)] = projector.images(self.particles.rows(rows[chosen]), with_ctf=True)
        return images

    def images(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Make images.

        Parameters
        ----------
        rows : ndarray of int64
            Consecutive particles. What an image holds does not depend on those made with it.

        Returns
        -------
        ndarray of float32, shape [rows, n, n]
        """
        if self.noise is None:
            return np.asarray(self.clean(rows).numpy())
        images = torch.from_numpy(white_noise(self.noise.seed, int(rows[0]), len(rows), self.size))
        if self.noise.spectrum is not None:
            images = colour(images, self.noise.spectrum)
        if self.gain:
            images = images + self.gain * self.clean(rows)
        for kind in set(self._kinds[rows]) - {PARTICLE}:
            assert self.junk is not None
            chosen = np.flatnonzero(self._kinds[rows] == kind)
            where = torch.from_numpy(chosen)
            images[where] = self.junk.images(kind, rows[chosen], images[where], self.gain)
        return np.asarray(normalise(images, self.outside).numpy())


def normalise(images: Tensor, background: Tensor) -> Tensor:
    """Give images a background of zero mean and unit variance.

    Parameters
    ----------
    images : Tensor of float32, shape [images, n, n]
    background : Tensor of bool, shape [n, n]
        Pixels outside the particle.
    """
    pixels = images[:, background].double()
    mean, deviation = pixels.mean(dim=1), pixels.std(dim=1, correction=0)
    return ((images - mean[:, None, None]) / deviation[:, None, None]).to(images.dtype)
