"""Simulated particles whose poses, noise and scales are known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from vitrea.geometry.euler import matrix_to_euler
from vitrea.geometry.symmetry import symmetry_matrices
from vitrea.likelihood.classification import Classification
from vitrea.likelihood.data import ParticleData
from vitrea.likelihood.maximisation import round_mask
from vitrea.likelihood.refinement import Refinement
from vitrea.likelihood.scheme import Scheme
from vitrea.likelihood.settings import Settings
from vitrea.likelihood.state import ParticleState
from vitrea.optics.ctf import ctf
from vitrea.records.optics import Optics
from vitrea.records.recorder import SilentRecorder

PIXEL = 4.0


@dataclass(frozen=True)
class Simulation:
    """Particles with known poses.

    Attributes
    ----------
    data : ParticleData
    images : ndarray of float32, shape [particles, n, n]
    eulers, origins : ndarray
        True poses: degrees; Å, the shift that brings a particle to the centre.
    map : ndarray of float32, shape [n, n, n]
        The true map, on the greyscale of the images.
    sigma : float
        Standard deviation of the noise.
    """

    data: ParticleData
    images: NDArray[np.float32]
    eulers: NDArray[np.float64]
    origins: NDArray[np.float64]
    map: NDArray[np.float32]
    sigma: float

    def with_images(self, images: NDArray[np.float32], **optics: Any) -> Simulation:
        """The same particles with other images, and optics changed."""
        groups = tuple(replace(group, **optics) for group in self.data.optics)
        data = replace(self.data, load=lambda index: images[index], optics=groups)
        return replace(self, images=images, data=data)

    def particles(self, known: bool = False) -> ParticleState:
        """State before the first iteration, with or without the true poses."""
        count = len(self.data)
        zeros, whole = np.zeros(count), np.zeros(count, dtype=np.int64)
        eulers, shifts = (self.eulers, self.origins) if known else (np.zeros((count, 3)), np.zeros((count, 2)))
        half = np.arange(count) // 2 % 2 + 1  # both halves hold particles of every micrograph
        return ParticleState(
            eulers, shifts, np.ones(count), zeros, zeros, whole, half, whole, np.zeros((count, 0), np.float32)
        )

    def refinement(self, settings: Settings, memory: int = 64 << 20) -> Refinement:
        """A refinement of these particles on the CPU."""
        mask = round_mask(self.data.box_size, settings.particle_diameter, PIXEL, settings.mask_edge)
        return Refinement(self.data, settings, mask, torch.device("cpu"), memory, SilentRecorder())

    def classification(self, settings: Settings, scheme: Scheme, memory: int = 64 << 20) -> Classification:
        """A classification of these particles on the CPU, with a recorder of its own."""
        dims, pixel = 2 if scheme.planar else 3, self.data.pixel_size
        mask = round_mask(self.data.box_size, settings.particle_diameter, pixel, settings.mask_edge, dims)
        return Classification(self.data, settings, mask, torch.device("cpu"), memory, SilentRecorder(), scheme)


def _transfer(size: int, defocus: NDArray[np.float64], optics: Optics) -> NDArray[np.float32]:
    ky, kx = np.fft.fftfreq(size, PIXEL), np.fft.rfftfreq(size, PIXEL)
    y, x = np.broadcast_arrays(ky[:, None], kx[None, :])
    return ctf(torch.from_numpy(y.copy()), torch.from_numpy(x.copy()), optics, torch.from_numpy(defocus)).numpy()


@pytest.fixture(scope="session")
def simulate(lopsided: Any) -> Callable[..., Simulation]:
    """Maker of simulations."""

    def make(
        particles: int,
        size: int = 24,
        snr: float = 1.0,
        symmetry: str = "C1",
        seed: int = 1,
        matrices: NDArray[np.float64] | None = None,
        origins: NDArray[np.float64] | None = None,
        gains: NDArray[np.float64] | None = None,
        scales: NDArray[np.float64] | None = None,
        with_ctf: bool = True,
        width: float = 1.3,
    ) -> Simulation:
        """Simulate.

        snr is the variance of the signal (CTF applied, whole box) over that of the noise; gains multiply whole images;
        scales the signal only, of micrographs to which particles belong in turn. origins in pixels;
        width of the particle's balls in pixels.
        """
        rng = np.random.default_rng([seed, 77])
        shape = replace(lopsided if symmetry == "C1" else _symmetric(lopsided, symmetry), width=width)
        views = Rotation.random(particles, random_state=seed).as_matrix() if matrices is None else matrices
        shifts = rng.uniform(-1.5, 1.5, (particles, 2)) if origins is None else origins
        optics = Optics(PIXEL, size, 300.0, 2.7, 0.1)
        defocus = np.column_stack([rng.uniform(8e3, 2.5e4, (particles,))] * 2 + [np.zeros(particles)])
        factor = np.ones(1) if scales is None else scales
        group = np.arange(particles) % len(factor)
        transforms = shape.transforms(size, views, -shifts)
        if with_ctf:
            transforms = transforms * _transfer(size, defocus, optics)
        signal = shape.images(transforms, size)
        # Signal of unit variance would be noise of unit power: keep the greyscale of the map as it is.
        sigma = float(signal.std() / np.sqrt(snr)) if np.isfinite(snr) else 1e-3 * float(signal.std())
        images = signal * factor[group][:, None, None] + sigma * rng.standard_normal(signal.shape)
        if gains is not None:
            images = images * gains[:, None, None]
        images = images.astype(np.float32)
        zeros = np.zeros(particles)
        data = ParticleData(
            lambda index: images[index],
            size,
            PIXEL,
            (optics,),
            np.zeros(particles, dtype=np.int64),
            defocus,
            zeros,
            zeros,
            np.ones(particles),
            group,
            tuple(f"micrograph {i}" for i in range(len(factor))),
        )
        eulers = matrix_to_euler(views)
        return Simulation(data, images, eulers, shifts * PIXEL, shape.map(size), sigma)

    return make


def _symmetric(lopsided: Any, symmetry: str) -> Any:
    points = (lopsided.points[:5] + np.array([3.0, 2.0, 1.0])) * 0.8
    everywhere = np.concatenate([points @ operator.T for operator in symmetry_matrices(symmetry)])
    copies = len(everywhere) // len(points)
    return type(lopsided)(everywhere, np.tile(lopsided.heights[:5], copies), lopsided.width)


@pytest.fixture(scope="session")
def transfer() -> Callable[[Simulation], NDArray[np.float32]]:
    """Contrast transfer functions of simulated particles, shape [particles, n, n // 2 + 1]."""
    return lambda simulation: _transfer(simulation.data.box_size, simulation.data.defocus, simulation.data.optics[0])


@pytest.fixture(scope="session")
def of_mixture() -> Callable[[Any], Simulation]:
    """Return a function that makes of a mixed set (see the fixture `mixture`) what a run knows of it."""

    def make(made: Any) -> Simulation:
        images, particles = made.images, made.particles
        count, column = len(images), particles.table.numbers
        zeros = np.zeros(count)
        data = ParticleData(
            lambda index: images[index],
            images.shape[-1],
            particles.optics[0].pixel_size,
            particles.optics,
            np.zeros(count, dtype=np.int64),
            np.stack([column(name) for name in ("rlnDefocusU", "rlnDefocusV", "rlnDefocusAngle")], axis=1),
            zeros,
            zeros,
            np.ones(count),
            np.zeros(count, dtype=np.int64),
            ("all",),
        )
        origins = np.stack([column("rlnOriginXAngst"), column("rlnOriginYAngst")], axis=1)
        return Simulation(data, images, particles.eulers, origins, made.maps[0], float("nan"))

    return make


@pytest.fixture(scope="session")
def mixed(mixture: Callable[..., Any], of_mixture: Callable[[Any], Simulation]) -> Callable[..., Any]:
    """Maker of mixed sets (see the fixture `mixture`), as what a run knows of them and as the truth."""

    def make(*names: str, **choices: Any) -> tuple[Simulation, Any]:
        made = mixture(*names, **{"junk_fraction": 0.0, **choices})
        return of_mixture(made), made

    return make
