"""How a classification goes about its iterations: which particles, how much detail, which poses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from vitrea.likelihood.focus import FocusSphere

Schedule = Literal["em", "auto", "batches"]
Search = Literal["global", "local", "shifts", "none"]
# cisTEM's automatic choice: so many particles a class in the first half of the iterations, then this share, then all.
FIRST_PART, SECOND_PART = 0.5, 0.75
SECOND_SHARE = 0.3
# What a mini-batch keeps of the sums of those before it, at the beginning and at the end.
KEPT_AT_START, KEPT_AT_END = 0.5, 0.9


@dataclass(frozen=True)
class Plan:
    """What one iteration does.

    Attributes
    ----------
    share : float
        Share of the particles that take part.
    resolution : float
        Finest detail compared, Å; 0 for no limit of its own.
    kept : float
        What remains of the sums of earlier iterations; 0 for none.
    """

    share: float = 1.0
    resolution: float = 0.0
    kept: float = 0.0


@dataclass(frozen=True)
class Scheme:
    """The choices of a classification beyond those of every likelihood run.

    Attributes
    ----------
    classes : int
    planar : bool
        2D class averages, not maps.
    schedule : {"em", "auto", "batches"}
        All particles at every iteration (RELION); a growing share of them with a resolution limit that goes from
        `start_resolution` to `finish_resolution` (cisTEM); or mini-batches whose sums are carried over.
    psi_step : float
        Coarse in-plane step, degrees; 0 to follow the HEALPix order.
    search : {"global", "local", "shifts", "none"}
        Where poses are looked for: everywhere, near the previous ones, translations only, nowhere.
    local_sigma : float
        Width of local searches in degrees.
    centre_classes : bool
        Move the centre of mass of references to the centre of the box.
    smoothing : float
        See `expectation.Search`.
    particles_per_class : int
        Of the first iterations with schedule auto, and of a mini-batch.
    share : float
        Share of the particles that takes part in each iteration of em and auto; 0 for what the schedule says.
    start_resolution, finish_resolution : float
        Å.
    occupancy : bool
        Keep the probability of each class of each particle.
    even_shares : bool
        Let all classes that hold particles be equally probable beforehand, instead of by their shares.
    balanced : float
        Share of the iterations, the first ones, in which all classes are kept equally large (see `balance`).
    best_pose_only : bool
        Put each particle into its best pose alone, not into all by their probability.
    always_oversample : bool
        Look at fine poses even while references are too blurred for that to matter.
    focus : FocusSphere, optional
        The region that decides on classes, where poses are not looked for everywhere.
    """

    classes: int
    planar: bool
    schedule: Schedule = "em"
    psi_step: float = 0.0
    search: Search = "global"
    local_sigma: float = 0.0
    centre_classes: bool = False
    smoothing: float = 1.0
    particles_per_class: int = 300
    share: float = 0.0
    start_resolution: float = 40.0
    finish_resolution: float = 8.0
    occupancy: bool = False
    even_shares: bool = False
    balanced: float = 0.0
    best_pose_only: bool = False
    always_oversample: bool = False
    focus: FocusSphere | None = None

    def plan(self, iteration: int, iterations: int, particles: int) -> Plan:
        """Return what an iteration does.

        Parameters
        ----------
        iteration : int
            From 1.
        iterations : int
            How many there will be.
        particles : int
        """
        if self.schedule == "em":
            return Plan(self.share or 1.0)
        few = min(1.0, self.classes * self.particles_per_class / particles)
        part = (iteration - 1) / max(iterations - 1, 1)
        resolution = self.start_resolution + part * (self.finish_resolution - self.start_resolution)
        if self.schedule == "auto":
            share = few if part < FIRST_PART else max(few, SECOND_SHARE) if part < SECOND_PART else 1.0
            return Plan(self.share or share, resolution)
        if iteration == iterations:
            return Plan()
        kept = KEPT_AT_START + part * (KEPT_AT_END - KEPT_AT_START) if few < 1.0 else 0.0
        return Plan(few, resolution, kept)


def choose(share: float, particles: int, seed: int, iteration: int) -> NDArray[np.int64]:
    """Return the particles of an iteration, ascending: all, or a random part.

    Mini-batches go through a shuffled list of all particles, so that each is seen before any comes again. All are of
    one size: where a batch ends one list and begins the next, what it took from the first comes later in the second.
    """
    if share >= 1.0:
        return np.arange(particles)
    count = max(1, round(share * particles))
    start = (iteration - 1) * count
    turn = 0
    order = _shuffled(particles, seed, turn)
    while start >= (turn + 1) * particles:
        turn, order = turn + 1, _next_list(order, count, seed, turn + 1)
    place = start - turn * particles
    chosen = order[place : place + count]
    if len(chosen) < count:
        following = _next_list(order, count, seed, turn + 1)
        chosen = np.concatenate([chosen, following[: count - len(chosen)]])
    return np.sort(chosen)


def _shuffled(particles: int, seed: int, turn: int) -> NDArray[np.int64]:
    return np.random.default_rng([seed, 5, turn]).permutation(particles)


def _next_list(order: NDArray[np.int64], count: int, seed: int, turn: int) -> NDArray[np.int64]:
    """Return the list of a turn, of which the batch that `order` did not fill takes none it already holds."""
    particles = len(order)
    following = _shuffled(particles, seed, turn)
    held = turn * particles % count  # by the batch that is not full
    if not held:
        return following
    fresh = np.flatnonzero(~np.isin(following, order[particles - held :]))[: count - held]
    return np.concatenate([following[fresh], np.delete(following, fresh)])
