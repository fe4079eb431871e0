"""A first 3D model from nothing but particles: the best of several first maps, and starts that follow each other.

Every start begins at low resolution with few particles, and goes on to finer detail with more of them (Grigorieff 2016,
doi:10.1016/bs.mie.2016.04.013; cisTEM's ab-initio: Grant et al. 2018, doi:10.7554/eLife.35383). First maps are made of
particles at random orientations (`first_maps`). With mini-batches whose sums are carried over this is stochastic
gradient descent with a step for each voxel: the new map is the old one plus a part of what the batch asks for, in
proportion to the weight of the batch (Punjani et al. 2017, doi:10.1038/nmeth.4169).

A model must explain particles that it was not made of better than a ball of the same density does, or nothing: noise
gives a map, too, but one that other noise does not fit. What the ball leaves over counts as noise: taken for noise
itself, the ball that a round molecule nearly is would drown what its detail says. A wrong map of true particles may
pass: that first maps agree tells.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from vitrea.fourier.shells import radial_real_profile
from vitrea.likelihood.classification import Classification
from vitrea.likelihood.expectation import Expectation
from vitrea.likelihood.first_maps import FINEST_DETAIL, find_first_maps, finest_detail
from vitrea.likelihood.maximisation import Maximiser
from vitrea.likelihood.scheme import Plan
from vitrea.likelihood.search import Search
from vitrea.likelihood.state import Model, ParticleState, RunState
from vitrea.likelihood.sums import Sums

# Share of the particles that never enter a map, and the most and the fewest there may be of them.
HELD_OUT_SHARE, MOST_HELD_OUT, FEWEST_HELD_OUT = 0.1, 400, 40
# Share of the iterations of the first start during which posteriors are kept broad.
WARM_PART = 0.7
# The most that the best pose may hold of the probability in the first iteration; it grows to all.
SHARPEST_AT_START = 0.01
# Factors tried, on about so many particles.
WARMTHS = (1.0, 0.5, 0.25, 0.12, 0.06, 0.03)
TRIED = 30
# Particles that were not used must gain this much on average, in nats and in standard errors. Maps of noise gain
# less than 0.001 nats of other noise: they come out almost empty.
CLEAR_GAIN, CLEAR_ERRORS = 0.1, 3.0
# How often the noise that a ball leaves is estimated: its place depends on the noise, a little.
NOISE_ROUNDS = 2
# A start from a first map begins at this times its finest detail.
BLUR_OF_FIRST = 1.25


@dataclass(frozen=True)
class Verdict:
    """Whether a model says something of particles that it was not made of.

    Attributes
    ----------
    gain : float
        Mean log-likelihood that a particle gains over a ball of the same density, or over nothing, nats.
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


def _unknown(one: NDArray[np.float32], two: NDArray[np.float32], pixel_size: float) -> float:
    return math.inf


@dataclass(frozen=True)
class AbInitio(Classification):
    """An ab-initio reconstruction.

    Attributes
    ----------
    starts : int
        Each has the same number of iterations.
    particles_at_end : int
        Particles a class in the last iteration of a start.
    first_maps : int
        Independent first maps, of which the best goes on; 0: begin with one map of particles at random orientations.
    first_symmetry : str
        Point group of the first maps; empty: that of the run.
    between : callable or None
        ``between(model, start)`` changes the model before a start (0 follows the first maps): masks it, or turns it
        onto its axes.
    resemblance : callable
        ``resemblance(map, other, pixel_size)``: where their FSC falls below 0.5, Å, either hand, best placement.
    annealing : bool
        See `warmth`.
    finer_from : float
        Share of the iterations of a start after which the grid is one HEALPix order finer.
    held : ndarray of int64, optional
        The particles that never enter a map; by default some chosen by chance.
    """

    starts: int = 1
    particles_at_end: int = 3000
    first_maps: int = 0
    first_symmetry: str = ""
    between: Callable[[Model, int], Model] | None = None
    resemblance: Callable[[NDArray[np.float32], NDArray[np.float32], float], float] = _unknown
    annealing: bool = True
    finer_from: float = 1.0
    held: NDArray[np.int64] | None = None

    def start(self, references: Sequence[NDArray[np.float32]], particles: ParticleState) -> RunState:
        """Return the state before the first iteration: with the best of the first maps, where these are asked for."""
        if not self.first_maps:
            return super().start(references, particles)
        symmetry = self.first_symmetry or self.settings.symmetry
        free = replace(self, settings=replace(self.settings, symmetry=symmetry))
        found = find_first_maps(free, particles, self.first_maps)
        state = super().start(found.voxels, particles)
        # Noise taken to be all the power there is would mix classes again that first maps have told apart.
        noise = state.models[0].sigma2_noise.copy()
        noise[:, : len(found.noise)] = np.minimum(noise[:, : len(found.noise)], found.noise)
        return self.restart(replace(state, models=(replace(state.models[0], sigma2_noise=noise),)), 0)

    @property
    def begin_resolution(self) -> float:
        """Resolution of the first iteration of a start, Å."""
        if not self.first_maps:
            return self.scheme.start_resolution
        first = replace(self.settings, symmetry=self.first_symmetry or self.settings.symmetry)
        blurred = BLUR_OF_FIRST * finest_detail(first, self.scheme)
        return min(self.scheme.start_resolution, blurred)

    @property
    def iterations_each(self) -> int:
        """Number of iterations of one start."""
        return self.settings.maximum_iterations // self.starts

    @property
    def coarsest_order(self) -> int:
        """First maps have gone through coarse steps before."""
        return self.settings.healpix_order

    def held_out(self) -> NDArray[np.int64]:
        """Return the particles that never enter a map, ascending."""
        if self.held is not None:
            return self.held
        count = len(self.data)
        wanted = int(np.clip(HELD_OUT_SHARE * count, FEWEST_HELD_OUT, MOST_HELD_OUT))
        order = np.random.default_rng([self.settings.seed, 8]).permutation(count)
        return np.sort(order[: min(wanted, count // 2)])

    def choosers(self) -> NDArray[np.int64]:
        """Return those that were held out and choose among first maps: a third, since right ones are far ahead."""
        return self.held_out()[::3]

    def judges(self) -> NDArray[np.int64]:
        """Return the others that were held out: those that chose a map would speak well of it, whatever it is."""
        return np.setdiff1d(self.held_out(), self.choosers())

    def members(self) -> NDArray[np.int64]:
        """Return the particles that take part, ascending."""
        return np.setdiff1d(np.arange(len(self.data)), self.held_out())

    def plan(self, iteration: int) -> Plan:
        """Return what an iteration does: detail and number of particles grow in equal steps within a start."""
        scheme, within = self.scheme, (iteration - 1) % self.iterations_each
        part = within / max(self.iterations_each - 1, 1)
        begin = self.begin_resolution
        resolution = begin + part * (scheme.finish_resolution - begin)
        if scheme.schedule == "batches":
            return replace(
                scheme.plan(within + 2, self.iterations_each + 2, len(self.members())), resolution=resolution
            )
        per_class = scheme.particles_per_class + part * (self.particles_at_end - scheme.particles_per_class)
        return Plan(min(1.0, per_class * scheme.classes / len(self.members())), resolution)

    def step(self, state: RunState) -> RunState:
        """Do one iteration."""
        start, within = divmod(state.iteration, self.iterations_each)
        if within == 0 and start > 0:
            state = self.restart(state, start)
        smoothing = self.scheme.smoothing * self.warmth(state)
        run = replace(self, scheme=replace(self.scheme, smoothing=smoothing))
        return super(AbInitio, run).step(state)

    def warmth(self, state: RunState) -> float:
        """Return the factor on log-likelihoods that keeps posteriors broad while the first map is still chance.

        Clear particles would otherwise settle in whatever orientation a random map offers (deterministic annealing;
        Ueda & Nakano 1998, doi:10.1016/S0893-6080(97)00133-0). Tried on a few particles of the next iteration: the
        largest factor with which the best pose holds no more than its share of the probability, on average.
        """
        start, within = divmod(state.iteration, self.iterations_each)
        part = within / max(self.iterations_each - 1, 1)
        if self.first_maps or start > 0 or part >= WARM_PART or not self.annealing:
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

    def _order(self, state: RunState) -> int:
        """HEALPix order of the coarse grid."""
        within = state.iteration % self.iterations_each
        finer = within >= self.finer_from * self.iterations_each
        return super()._order(state) + int(finer)

    def ending(self, iteration: int) -> bool:
        """Tell whether what follows an iteration looks at fine poses in any case: never, while poses are uncertain."""
        return False

    def restart(self, state: RunState, start: int) -> RunState:
        """Begin anew from the last map, blurred to the resolution of the first iteration."""
        model = state.models[0]
        if self.between is not None:
            model = self.between(model, start)
        limit = self.begin_resolution
        shell = max(int(self.box_angstrom / limit), 1)
        model = replace(model, sigma_offset=self.settings.sigma_offset).with_classes(
            replace(group, voxels=self.filtered(group.voxels, limit)) for group in model.classes
        )
        return replace(state, models=(model,), progress=self.progress_at(state.progress, shell), carried=())

    def judge(self, state: RunState) -> Verdict:
        """Compare the model with balls of the same density, and with nothing, on the particles that were held out.

        As far as a first map goes: finer detail than the coarse grid can place would count against it.
        """
        chosen, model = self.judges(), state.models[0]
        radius = max(min(state.progress.current_size // 2, self.data.box_size // 2), 1)
        limit = int(np.ceil(self.box_angstrom / max(self.scheme.finish_resolution, FINEST_DETAIL)))
        fair = self._fair()
        trial = partial(fair.trial, chosen=chosen, radius=min(radius, limit), state=state)
        balls = model.with_classes(replace(group, voxels=_ball(group.voxels)) for group in model.classes)
        nothing = model.with_classes(replace(group, voxels=np.zeros_like(group.voxels)) for group in model.classes)
        noise = fair.initial_noise(chosen)
        for _ in range(NOISE_ROUNDS):
            noise = np.minimum(noise, fair._left_over(trial(balls, noise)))
        found, *rivals = (trial(part, noise).log_likelihood for part in (model, balls, nothing))
        gain = found - max(rivals, key=lambda likelihood: float(likelihood.mean()))
        return Verdict(float(gain.mean()), float(gain.std() / np.sqrt(len(gain))), len(gain))

    def log_likelihood(
        self, model: Model, chosen: NDArray[np.int64], radius: int, state: RunState
    ) -> NDArray[np.float64]:
        """Log-likelihood of some particles under a model's maps, when nothing is known of their poses, nats.

        Their noise is taken to be all the power they have: a spectrum that went down with what a map was fitted to
        would make it look like a better one.
        """
        fair = self._fair()
        return fair.trial(model, fair.initial_noise(chosen), chosen, radius, state).log_likelihood

    def _fair(self) -> AbInitio:
        """Return the same run with log-likelihoods that are no larger than the data warrant."""
        return replace(self, settings=replace(self.settings, whole_noise=True))

    def _left_over(self, sums: Sums) -> NDArray[np.float64]:
        """Noise spectrum if what a trial's maps explain is signal and the rest is noise, shape [groups, shells]."""
        noise = Maximiser(self.data, self.settings, self.solvent_mask).noise(sums)
        return np.tile(noise.mean(axis=0), (len(noise), 1))

    def trial(
        self, model: Model, noise: NDArray[np.float64], chosen: NDArray[np.int64], radius: int, state: RunState
    ) -> Sums:
        """Compare some particles with a model's maps on the coarse grid."""
        poses = self.poses(replace(state.sampling, perturbation=0.0), self.scheme.classes, 0)
        flat = np.full(poses.direction_count, 1.0 / poses.direction_count)
        preparer = self.preparer(radius)
        model = replace(model, sigma2_noise=noise, scale=np.ones_like(model.scale))
        model = model.with_classes(replace(group, direction_prior=flat) for group in model.classes)
        expectation = Expectation(
            self.data,
            self.settings,
            model,
            self.references(model, radius),
            Search(poses),
            preparer,
            memory=self.memory,
            seed=self.settings.seed,
            recorder=self.recorder,
        )
        neutral = replace(state.particles, norm=np.full(len(self.data), model.average_norm))
        still = replace(neutral, shifts=np.zeros((len(self.data), 2)))
        return expectation.run(chosen, still)


def _ball(voxels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Replace a map by its average over all rotations."""
    ball: NDArray[np.float32] = radial_real_profile(torch.from_numpy(voxels)).numpy()
    return ball
