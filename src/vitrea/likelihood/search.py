"""Which poses an expectation step looks at, and how much detail its coarse pass can use."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vitrea.likelihood.focus import FocusSphere
from vitrea.matching.poses import PoseGrid

# A grid step moves the edge of the particle by at most this fraction of the coarse resolution (RELION's choice).
COARSE_SAFETY = 1.2


def coarse_radius(particle_diameter: float, step: float, box_angstrom: float, radius: int) -> int:
    """Return the Fourier radius that a coarse pass can use: finer detail turns away within one step (degrees)."""
    moved = step / 360.0 * math.pi * particle_diameter
    return max(2, min(radius, math.ceil(box_angstrom / (moved / COARSE_SAFETY))))


@dataclass(frozen=True)
class Search:
    """Which poses an expectation step looks at.

    Attributes
    ----------
    poses : PoseGrid
    local_sigma : float
        Width in degrees of the prior around the previous orientations, near which alone they are searched then;
        0: search everywhere.
    given : bool
        Do not search orientations at all: take those the particles have. Translations are searched still, unless
        the grid has just one.
    correlation : bool
        Compare by cross-correlation and take the best pose alone: for references off the greyscale of the images.
    seeds : ndarray of int64, shape [all particles], optional
        The one class that each particle may belong to.
    smoothing : float
        Factor between 0 and 1 on all log-likelihoods: the smaller, the broader the posterior.
    occupancy : bool
        Keep the probability of each class of each particle.
    even_shares : bool
        Let all classes that hold particles be equally probable beforehand.
    log_handicap : ndarray of float32, shape [classes], optional
        Added to the log probability of each class beforehand (see `balance`).
    best_only : bool
        Give all weight to the most probable pose.
    focus : FocusSphere, optional
        The region of the particle that decides on its class; poses are near the previous ones, or given, then.
    """

    poses: PoseGrid
    local_sigma: float = 0.0
    given: bool = False
    correlation: bool = False
    seeds: NDArray[np.int64] | None = None
    smoothing: float = 1.0
    occupancy: bool = False
    even_shares: bool = False
    log_handicap: NDArray[np.float32] | None = None
    best_only: bool = False
    focus: FocusSphere | None = None

    def __post_init__(self) -> None:
        if self.focus is not None and not (self.given or self.local_sigma > 0):
            raise ValueError("a search everywhere cannot be focussed on a region")
