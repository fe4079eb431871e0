"""A first 3D model from nothing but particles: several starts, each from the result of the one before.

Every start begins at low resolution with few particles, and goes on to finer detail with more of them (Grigorieff 2016,
doi:10.1016/bs.mie.2016.04.013; cisTEM's ab-initio: Grant et al. 2018, doi:10.7554/eLife.35383). The first map of all is
made of particles at random orientations. With mini-batches whose sums are carried over this is stochastic gradient
descent with a step for each voxel: the new map is the old one plus a part of what the batch asks for, in proportion to
the weight of the batch (Punjani et al. 2017, doi:10.1038/nmeth.4169).

A model must explain particles that it was not made of better than a ball of the same density does: noise gives a map
too, but one that other noise does not fit. A wrong map of true particles may pass: that other starts agree tells.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from vitrea.fourier.shells import radial_real_profile
from vitrea.likelihood.classification import Classification
from vitrea.likelihood.expectation import Expectation
from vitrea.likelihood.scheme import Plan
from vitrea.likelihood.search import Search
from vitrea.likelihood.state import Model, RunState

# Share of the particles that never enter a map, and the most and the fewest there may be of them.
HELD_OUT_SHARE, MOST_HELD_OUT, FEWEST_HELD_OUT = 0.1, 200, 20
# Share of the iterations of the first start during which posteriors are kept broad.
WARM_PART = 0.7
# The most that the best pose may hold of the probability in the first iteration; it grows to all.
SHARPEST_AT_START = 0.01
# Factors tried, on about so many particles.
WARMTHS = (1.0, 0.5, 0.25, 0.12, 0.06, 0.03)
TRIED = 30
# Particles that were not used must gain this much on average, in nats and in standard errors.
CLEAR_GAIN, CLEAR_ERRORS = 1.0, 3.0


@dataclass(frozen=True)
class Verdict:
    """Whether a model says something of particles that it was not made of.

    Attributes
    ----------
    gain : float
        Mean log-likelihood that a particle gains over a ball of the same density, nats.
    error : float
        Its standard error.
    particles : int
        How many were tried.
    """

    gain: float
    error: float
    particles: int

    @property
    def confident(self) -> bool:
        """Whether the particles hold a signal that the model has found; it may still be a wrong map of them."""
        return self.gain > CLEAR_GAIN and self.gain > CLEAR_ERRORS * self.error


@dataclass(frozen=True)
class AbInitio(Classification):
    """An ab-initio reconstruction.

    Attributes
    ----------
    starts : int
        Each has the same number of iterations.
    particles_at_end : int
        Particles a class in the last iteration of a start.
    unsymmetric : int
        Number of starts, from the first on, without symmetry.
    between : callable or None
        ``between(model, start)`` changes the model before a start (1, 2 ...): masks it, or turns it onto its axes.
    annealing : bool
        See `warmth`.
    """

    starts: int = 1
    particles_at_end: int = 3000
    unsymmetric: int = 0
    between: Callable[[Model, int], Model] | None = None
    annealing: bool = True

    @property
    def iterations_each(self) -> int:
        """Number of iterations of one start."""
        return self.settings.maximum_iterations // self.starts

    def held_out(self) -> NDArray[np.int64]:
        """Return the particles that never enter a map, ascending."""
        count = len(self.data)
        wanted = int(np.clip(HELD_OUT_SHARE * count, FEWEST_HELD_OUT, MOST_HELD_OUT))
        order = np.random.default_rng([self.settings.seed, 8]).permutation(count)
        return np.sort(order[: min(wanted, count // 2)])

    def members(self) -> NDArray[np.int64]:
        """Return the particles that take part, ascending."""
        return np.setdiff1d(np.arange(len(self.data)), self.held_out())

    def plan(self, iteration: int) -> Plan:
        """Return what an iteration does: detail and number of particles grow in equal steps within a start."""
        scheme, within = self.scheme, (iteration - 1) % self.iterations_each
        part = within / max(self.iterations_each - 1, 1)
        resolution = scheme.start_resolution + part * (scheme.finish_resolution - scheme.start_resolution)
        if scheme.schedule == "batches":
            return replace(
                scheme.plan(within + 2, self.iterations_each + 2, len(self.members())), resolution=resolution
            )
        per_class = scheme.particles_per_class + part * (self.particles_at_end - scheme.particles_per_class)
        return Plan(min(1.0, per_class * scheme.classes / len(self.members())), resolution)

    def step(self, state: RunState) -> RunState:
        """Do one iteration."""
        start, within = divmod(state.iteration, self.iterations_each)
        symmetry = "C1" if start < self.unsymmetric else self.settings.symmetry
        run = replace(self, settings=replace(self.settings, symmetry=symmetry))
        if within == 0 and start > 0:
            state = run.restart(state, start)
        smoothing = self.scheme.smoothing * run.warmth(state)
        run = replace(run, scheme=replace(self.scheme, smoothing=smoothing))
        return super(AbInitio, run).step(state)

    def warmth(self, state: RunState) -> float:
        """Return the factor on log-likelihoods that keeps posteriors broad while the first map is still chance.

        Clear particles would otherwise settle in whatever orientation a random map offers (deterministic annealing;
        Ueda & Nakano 1998, doi:10.1016/S0893-6080(97)00133-0). Tried on a few particles of the next iteration: the
        largest factor with which the best pose holds no more than its share of the probability, on average.
        """
        start, within = divmod(state.iteration, self.iterations_each)
        part = within / max(self.iterations_each - 1, 1)
        if start > 0 or part >= WARM_PART or not self.annealing:
            return 1.0
        most = SHARPEST_AT_START ** (1.0 - part / WARM_PART)
        chosen = self.chosen(state.iteration + 1)
        few = chosen[:: max(1, len(chosen) // TRIED)]
        model, references, preparer, search, _ = self.prepared(state)
        for factor in WARMTHS:
            trial = replace(search, smoothing=factor)
            sums = self.expect(model, references, trial, preparer, few, state.iteration + 1, state.particles)
            if float(sums.pmax.mean()) <= most:
                return factor
        return WARMTHS[-1]

    def ending(self, iteration: int) -> bool:
        """Tell whether what follows an iteration looks at fine poses in any case: never, while poses are uncertain."""
        return False

    def restart(self, state: RunState, start: int) -> RunState:
        """Begin anew from the last map, blurred to the resolution of the first iteration."""
        model = state.models[0]
        if self.between is not None:
            model = self.between(model, start)
        limit = self.scheme.start_resolution
        shell = max(int(self.box_angstrom / limit), 1)
        model = replace(model, sigma_offset=self.settings.sigma_offset).with_classes(
            replace(group, voxels=self.filtered(group.voxels, limit)) for group in model.classes
        )
        return replace(state, models=(model,), progress=self.progress_at(state.progress, shell), carried=())

    def judge(self, state: RunState) -> Verdict:
        """Compare the model with balls of the same density on the particles that were held out."""
        chosen, model = self.held_out(), state.models[0]
        radius = max(min(state.progress.current_size // 2, self.data.box_size // 2), 1)
        limit = int(np.ceil(self.box_angstrom / self.scheme.finish_resolution))
        balls = model.with_classes(replace(group, voxels=_ball(group.voxels)) for group in model.classes)
        found = [self._log_likelihood(part, chosen, min(radius, limit), state) for part in (model, balls)]
        gain = found[0] - found[1]
        return Verdict(float(gain.mean()), float(gain.std() / np.sqrt(len(gain))), len(gain))

    def _log_likelihood(
        self, model: Model, chosen: NDArray[np.int64], radius: int, state: RunState
    ) -> NDArray[np.float64]:
        poses = self.poses(replace(state.sampling, perturbation=0.0), self.scheme.classes)
        flat = np.full(poses.direction_count, 1.0 / poses.direction_count)
        model = model.with_classes(replace(group, direction_prior=flat) for group in model.classes)
        expectation = Expectation(
            self.data,
            self.settings,
            model,
            self.references(model, radius),
            Search(poses),
            self.preparer(radius),
            memory=self.memory,
            seed=self.settings.seed,
            recorder=self.recorder,
        )
        neutral = replace(state.particles, norm=np.full(len(self.data), model.average_norm))
        still = replace(neutral, shifts=np.zeros((len(self.data), 2)))
        likelihood: NDArray[np.float64] = expectation.run(chosen, still).log_likelihood
        return likelihood


def _ball(voxels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Replace a map by its average over all rotations."""
    ball: NDArray[np.float32] = radial_real_profile(torch.from_numpy(voxels)).numpy()
    return ball
