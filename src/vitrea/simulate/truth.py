"""What is true of simulated particles: orientations, shifts and optics, drawn at random but repeatably."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vitrea.geometry.euler import wrap_degrees
from vitrea.records.optics import Optics
from vitrea.records.particles import DEFOCUS_LABELS, EULER_LABELS, SHIFT_LABELS, Particles
from vitrea.records.table import Table

_POSES, _GROUPS = 1, 2  # random streams: each particle, and each group, has its own
_GIVEN = (*EULER_LABELS, *SHIFT_LABELS, *DEFOCUS_LABELS, "rlnPhaseShift")


@dataclass(frozen=True)
class Acquisition:
    """How particles are taken.

    Attributes
    ----------
    optics : Optics
    number : int
        Particles.
    groups : int
        Micrographs they are spread over, in runs of equal length.
    defocus_min, defocus_max : float
        Range in Å of the micrographs' mean defocus, drawn uniformly.
    defocus_spread : float
        Standard deviation in Å of particles' defocus around their micrograph's.
    astigmatism : float
        Largest difference of defocus U and V in Å; each micrograph's is drawn uniformly up to it.
    shift_sigma : float
        Standard deviation of the origins in Å, along each axis.
    scale_spread : float
        Standard deviation of the logarithm of the micrographs' intensity scales.
    preferred : float
        Concentration of views about the z axis (kappa of a von Mises-Fisher distribution); 0: uniform.
    seed : int
    """

    optics: Optics
    number: int
    groups: int = 1
    defocus_min: float = 10_000.0
    defocus_max: float = 20_000.0
    defocus_spread: float = 100.0
    astigmatism: float = 300.0
    shift_sigma: float = 0.0
    scale_spread: float = 0.0
    preferred: float = 0.0
    seed: int = 1


def draw_particles(acquisition: Acquisition, given: Particles | None = None) -> Particles:
    """Draw the true parameters of particles.

    Parameters
    ----------
    acquisition : Acquisition
        Particle i of a seed has the same orientation and shift whatever the number of particles.
    given : Particles, optional
        As many particles, whose angles, and where present shifts, defocus and phase shifts, replace those drawn.

    Returns
    -------
    Particles
        Without image names. ``rlnCtfScalefactor`` is there only if scales vary.
    """
    a = acquisition
    group = np.arange(a.number) * a.groups // max(a.number, 1)
    poses = np.array([_draw_pose(a, i) for i in range(a.number)]).reshape(-1, 6)
    microscope = np.array([_draw_group(a, i) for i in range(a.groups)])[group]
    mean = microscope[:, 0] + poses[:, 5]
    half = microscope[:, 1] / 2
    columns: dict[str, NDArray[np.generic]] = {
        "rlnMicrographName": np.array([f"Micrographs/mic{i + 1:04d}.mrc" for i in group], dtype=object),
        "rlnOpticsGroup": np.full(a.number, a.optics.group, dtype=np.int64),
        **dict(zip(EULER_LABELS, poses[:, :3].T, strict=True)),
        **dict(zip(SHIFT_LABELS, poses[:, 3:5].T, strict=True)),
        **dict(zip(DEFOCUS_LABELS, (mean + half, mean - half, microscope[:, 2]), strict=True)),
    }
    if a.scale_spread:
        columns["rlnCtfScalefactor"] = microscope[:, 3]
    if given is not None:
        columns |= {label: given.table.numbers(label) for label in _GIVEN if label in given.table}
    return Particles(Table(columns), (a.optics,))


def random_eulers(random: np.random.Generator, preferred: float = 0.0) -> list[float]:
    """Draw rot, tilt and psi in degrees; `preferred` as in `Acquisition`."""
    rot, level, psi = random.random(3)
    cosine = 2 * level - 1
    if preferred:
        # Inverse of the distribution of cos(tilt) under a von Mises-Fisher density on the sphere (Wood 1994).
        cosine = 1 + np.log(level + (1 - level) * np.exp(-2 * preferred)) / preferred
    turns = wrap_degrees([360 * rot, 360 * psi])
    return [float(turns[0]), float(np.degrees(np.arccos(np.clip(cosine, -1, 1)))), float(turns[1])]


def _draw_pose(a: Acquisition, index: int) -> list[float]:
    """Rot, tilt, psi in degrees, origin x and y in Å, and defocus beside that of the micrograph in Å."""
    random = np.random.default_rng([a.seed, _POSES, index])
    eulers = random_eulers(random, a.preferred)
    x, y, depth = random.standard_normal(3)
    return [*eulers, a.shift_sigma * x, a.shift_sigma * y, a.defocus_spread * depth]


def _draw_group(a: Acquisition, index: int) -> list[float]:
    """Mean defocus and astigmatism in Å, its angle in degrees, and the intensity scale."""
    random = np.random.default_rng([a.seed, _GROUPS, index])
    defocus = random.uniform(a.defocus_min, a.defocus_max)
    astigmatism, angle = random.uniform(0, a.astigmatism), random.uniform(0, 180)
    return [defocus, astigmatism, angle, float(np.exp(a.scale_spread * random.standard_normal()))]
