"""Particle images with noise and a known truth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vitrea.geometry.masks import soft_sphere
from vitrea.records.particles import Particles
from vitrea.simulate.noise import colour, white_noise
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


class ParticleSimulator:
    """Makes particle images: white on black, background of zero mean and unit variance.

    ``image = (g * CTF * projection + noise)``, normalised. The noise has unit variance and g is chosen so that the
    variance of the signal within the particle's disc, averaged over particles, is `snr`. A reconstruction from the
    images is therefore `gain` times the map that was projected.

    Parameters
    ----------
    projector : Projector
    particles : Particles
        The truth (`truth.draw_particles`).
    radius : float
        Radius of the particle in pixels: disc of the signal-to-noise ratio, and border of the background.
    snr : float
        Variance of the signal in the disc over variance of the noise; 0: nothing but noise.
    noise : NoiseModel or None
        None: no noise; images are then neither scaled (g is 1) nor normalised, and `snr` is not used.

    Attributes
    ----------
    gain : float
        g.
    """

    def __init__(
        self, projector: Projector, particles: Particles, radius: float, snr: float, noise: NoiseModel | None
    ) -> None:
        self.projector, self.particles, self.noise = projector, particles, noise
        disc = soft_sphere(projector.size, radius, 0.0, dims=2) > 0.5
        self.inside, self.outside = torch.from_numpy(disc), torch.from_numpy(~disc)
        self.gain = 1.0 if noise is None else self._gain(snr)

    def _gain(self, snr: float) -> float:
        if snr <= 0:
            return 0.0
        rows = np.unique(np.linspace(0, len(self.particles) - 1, min(_PROBES, len(self.particles))).astype(int))
        clean = self.projector.images(self.particles.rows(rows), with_ctf=True)
        variance = float(clean[:, self.inside].double().var(dim=1).mean())
        return float(np.sqrt(snr / variance))

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
        size = self.projector.size
        if self.noise is None:
            return np.asarray(self.projector.images(self.particles.rows(rows), with_ctf=True).numpy())
        images = torch.from_numpy(white_noise(self.noise.seed, int(rows[0]), len(rows), size))
        if self.noise.spectrum is not None:
            images = colour(images, self.noise.spectrum)
        if self.gain:
            images = images + self.gain * self.projector.images(self.particles.rows(rows), with_ctf=True)
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
