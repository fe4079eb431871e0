"""How micrographs are taken: lens, dose, ice and detector, and the field of particles in each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vitrea.optics.dose import critical_exposure
from vitrea.records.optics import Optics
from vitrea.records.particles import DEFOCUS_LABELS, EULER_LABELS, SHIFT_LABELS, Particles
from vitrea.records.table import Table
from vitrea.simulate.placement import place_particles
from vitrea.simulate.scattering import WATER, WATER_DENSITY, inelastic_mean_free_path
from vitrea.simulate.truth import random_eulers

_PLACES, _POSES, _LENS = 11, 12, 13  # random streams of a micrograph


@dataclass(frozen=True)
class Imaging:
    """What all micrographs of a session share.

    Attributes
    ----------
    optics : Optics
        ``pixel_size`` is that of the micrographs.
    exposure : float
        Electrons per Å² on the specimen, in all.
    pre_exposure : float
        Electrons per Å² before the first frame.
    ice_thickness : float
        Å.
    energy_filter : bool
        Whether inelastically scattered electrons are kept from the detector; else they add background.
    efficiency : float
        Part of the electrons that the detector counts.
    b_factor : float
        Å²; envelope exp(-B k²/4) of all that is seen through the lens.
    damage : bool
        Whether particles fade with the exposure.
    """

    optics: Optics
    exposure: float
    pre_exposure: float = 0.0
    ice_thickness: float = 500.0
    energy_filter: bool = True
    efficiency: float = 0.85
    b_factor: float = 0.0
    damage: bool = True

    @property
    def unscattered(self) -> float:
        """Part of the electrons that lose no energy in the ice."""
        return math.exp(-self.ice_thickness / inelastic_mean_free_path(WATER, WATER_DENSITY, self.optics.voltage))

    @property
    def counts(self) -> float:
        """Mean count of a pixel in bare ice over the whole exposure, before the gain."""
        passed = self.unscattered if self.energy_filter else 1.0
        return self.exposure * self.optics.pixel_size**2 * self.efficiency * passed

    @property
    def visibility(self) -> float:
        """Part of the contrast that is left: 1 with an energy filter."""
        return 1.0 if self.energy_filter else self.unscattered

    def surviving(self, frequency: Tensor, before: float, exposure: float) -> Tensor:
        """Return the mean over a frame of the amplitude that radiation damage leaves.

        Parameters
        ----------
        frequency : Tensor, any shape
            1/Å.
        before, exposure : float
            Electrons per Å² before (with the pre-exposure) and during the frame.

        Returns
        -------
        Tensor, same shape
            The integral of exp(-N / (2 Nc)) from `before` to ``before + exposure``, over `exposure`.
        """
        if not self.damage:
            return torch.ones_like(frequency)
        rate = 0.5 / critical_exposure(frequency, self.optics.voltage)
        decay = rate * exposure
        mean = torch.where(decay > 1e-6, -torch.expm1(-decay) / decay.clamp(min=1e-6), 1.0)
        return torch.exp(-rate * before) * mean


@dataclass(frozen=True)
class Lens:
    """Focus of one micrograph: defocus U, V in Å and angle in degrees at mid height; phase shift in degrees."""

    defocus_u: float
    defocus_v: float
    defocus_angle: float
    phase_shift: float = 0.0

    @property
    def defocus(self) -> Tensor:
        """U, V and angle: float64, shape [3]."""
        return torch.tensor([self.defocus_u, self.defocus_v, self.defocus_angle], dtype=torch.float64)


@dataclass(frozen=True)
class Session:
    """What is drawn anew for each micrograph, and from which range.

    Attributes
    ----------
    particles : int
        Centres within a micrograph.
    spacing : float
        Least distance of two centres in Å.
    border : float
        Å around the image in which further particles lie (`placement.place_particles`).
    depth : float
        Å; heights of particles are drawn evenly over it, about mid height.
    shares : sequence of float
        How often each molecule occurs.
    defocus : tuple of float
        Range of the mean defocus in Å.
    astigmatism : tuple of float
        Range of the difference of U and V in Å.
    phase_shift : tuple of float
        Range in degrees.
    preferred : float
        Concentration of views about the z axis (`truth.Acquisition`).
    seed : int
    """

    particles: int
    spacing: float
    border: float = 0.0
    depth: float = 0.0
    shares: Sequence[float] = (1.0,)
    defocus: tuple[float, float] = (10_000.0, 20_000.0)
    astigmatism: tuple[float, float] = (0.0, 300.0)
    phase_shift: tuple[float, float] = (0.0, 0.0)
    preferred: float = 0.0
    seed: int = 1


def draw_lens(session: Session, micrograph: int) -> Lens:
    """Draw the focus of a micrograph, counted from 0; the angle of astigmatism is even over 180 degrees."""
    random = np.random.default_rng([session.seed, _LENS, micrograph])
    mean, difference = random.uniform(*session.defocus), random.uniform(*session.astigmatism)
    angle, shift = random.uniform(0, 180), random.uniform(*session.phase_shift)
    return Lens(mean + difference / 2, mean - difference / 2, angle, shift)


def draw_field(
    session: Session,
    micrograph: int,
    imaging: Imaging,
    lens: Lens,
    size: tuple[int, int],
    allowed: NDArray[np.bool_] | None = None,
    places: NDArray[np.float64] | None = None,
) -> Particles:
    """Draw the particles of a micrograph.

    Parameters
    ----------
    session : Session
    micrograph : int
        Its number, from 0.
    imaging : Imaging
    lens : Lens
        A particle's defocus is this and its own height.
    size : tuple of int
        Rows and columns of the image.
    allowed : ndarray of bool, shape [rows, columns], optional
        Where centres may lie.
    places : ndarray, shape [particles, 2], optional
        x, y in pixels, instead of drawn ones.

    Returns
    -------
    Particles
        Whole coordinates (``rlnCoordinateX`` counts from 0) and the rest in ``rlnOriginXAngst``, so that boxes cut out
        there are posed as they stand: the particle lies at coordinate minus origin. ``rlnClassNumber`` is the
        molecule, from 1. Those within the image come first.
    """
    pixel_size = imaging.optics.pixel_size
    if places is None:
        random = np.random.default_rng([session.seed, _PLACES, micrograph])
        places = place_particles(
            random,
            session.particles,
            size[0],
            size[1],
            session.spacing / pixel_size,
            session.border / pixel_size,
            allowed,
        )
    number = len(places)
    poses = np.array([_draw_pose(session, micrograph, i) for i in range(number)]).reshape(-1, 5)
    whole = np.rint(places)
    origins = (whole - places) * pixel_size
    heights = session.depth * (poses[:, 3] - 0.5)
    shares = np.cumsum(session.shares) / np.sum(session.shares)
    columns = {
        "rlnCoordinateX": whole[:, 0],
        "rlnCoordinateY": whole[:, 1],
        **dict(zip(EULER_LABELS, poses[:, :3].T, strict=True)),
        **dict(zip(SHIFT_LABELS, origins.T, strict=True)),
        **dict(zip(DEFOCUS_LABELS, (lens.defocus_u + heights, lens.defocus_v + heights,
                                    np.full(number, lens.defocus_angle)), strict=True)),
        "rlnPhaseShift": np.full(number, lens.phase_shift),
        "rlnClassNumber": np.searchsorted(shares, poses[:, 4], side="right").clip(max=len(shares) - 1) + 1,
        "rlnOpticsGroup": np.full(number, imaging.optics.group, dtype=np.int64),
    }  # fmt: skip
    return Particles(Table(columns), (imaging.optics,))


def inside(field: Particles, size: tuple[int, int]) -> NDArray[np.bool_]:
    """Tell which particles have their centre within an image of so many rows and columns."""
    x, y = field.table.numbers("rlnCoordinateX"), field.table.numbers("rlnCoordinateY")
    return (x >= 0) & (y >= 0) & (x <= size[1] - 1) & (y <= size[0] - 1)


def _draw_pose(session: Session, micrograph: int, index: int) -> list[float]:
    """Rot, tilt, psi in degrees; height and molecule as numbers between 0 and 1."""
    random = np.random.default_rng([session.seed, _POSES, micrograph, index])
    return [*random_eulers(random, session.preferred), *random.random(2)]
