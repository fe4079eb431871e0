"""Gold-standard refinement of one map from one particle set: the loop around expectation and maximisation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from vitrea.compute.memory import return_freed_memory
from vitrea.fourier.angular_correlation import independent_samples
from vitrea.fourier.filters import lowpass
from vitrea.fourier.masked_noise import noise_deviation
from vitrea.geometry.masks import soft_sphere
from vitrea.geometry.sampling import orientation_grid, perturbation
from vitrea.geometry.symmetry import symmetry_matrices
from vitrea.likelihood.data import ImagePreparer
from vitrea.likelihood.expectation import Expectation
from vitrea.likelihood.maximisation import Maximiser
from vitrea.likelihood.run import Run, collect
from vitrea.likelihood.schedule import (
    RESOLVED_FSC,
    Evidence,
    has_converged,
    update_changes,
    update_resolution,
    update_sampling,
)
from vitrea.likelihood.search import Search
from vitrea.likelihood.state import Model, ParticleState, Progress, RunState, Sampling, new_class
from vitrea.matching.reference import ReferenceSet

# First zero of the transform of a disc of diameter one.
AIRY = 1.22
# Standard deviations at which an FSC is told from chance.
SIGNIFICANT = 3.0


@dataclass(frozen=True)
class Refinement(Run):
    """A gold-standard refinement."""

    @cached_property
    def mask_reach(self) -> float:
        """How far, in Fourier pixels, masks carry what is in one shell: the first zero of the transform of a disc.

        The narrower of the particles' mask and the solvent mask counts, the latter taken for a ball of its volume.
        """
        diameter = self.settings.particle_diameter
        if self.settings.flatten_solvent:
            volume = float(self.solvent_mask.sum(dtype=np.float64)) * self.data.pixel_size**3
            diameter = min(diameter, (6.0 * volume / np.pi) ** (1 / 3))
        return AIRY * self.box_angstrom / diameter

    @property
    def join_radius(self) -> float:
        """Fourier radius in pixels up to which the halves are joined."""
        return self.box_angstrom / self.settings.join_resolution

    @property
    def start_radius(self) -> float:
        """Fourier radius in pixels at which the map that both halves begin with ends; 0 where it is not filtered.

        That is halfway down the outer half of the filter's edge.
        """
        resolution = self.settings.initial_resolution
        return round(self.box_angstrom / resolution) + 0.5 if resolution > 0 else 0.0

    @cached_property
    def _samples(self) -> NDArray[np.float64]:
        """How many independent samples mask and symmetry leave in each shell."""
        settings, size = self.settings, self.data.box_size
        mask = self.solvent_mask if settings.solvent_correct_fsc else soft_sphere(size, size / 2, 0.0)
        deviation: NDArray[np.float64] = noise_deviation(torch.from_numpy(mask.astype(np.float32))).numpy()
        return deviation**-2 / len(symmetry_matrices(settings.symmetry))

    def evidence(self, halves: tuple[Model, Model]) -> Evidence:
        """What the agreement of two half maps must exceed.

        In a shell of n independent samples noise has an FSC of more than 3 / sqrt(n + 8) once in 740 shells (Student's
        t of a correlation). There are as few as the mask, the point group (of g operators, one of g) and the maps
        themselves leave, which are nearly radial where poses are hardly known. Up to the resolution of the start map,
        or that of the join, agreement is taken for granted.
        """
        one, two = (torch.from_numpy(half.classes[0].unfiltered) for half in halves)
        settings = self.settings
        samples = np.clip(np.minimum(self._samples, independent_samples(one, two).numpy()), 1.0, None)
        threshold = np.maximum(RESOLVED_FSC, SIGNIFICANT / np.sqrt(samples - 1.0 + SIGNIFICANT**2))
        common = max(self.start_radius, self.join_radius)
        threshold[: int(common) + 1] = RESOLVED_FSC
        # Without a filter the start map's resolution is not known: nothing could be told from it.
        inherited = int(common + self.mask_reach) if self.start_radius > 0 else 0
        return Evidence(threshold, int(self.box_angstrom / (settings.initial_resolution or np.inf)), inherited)

    def start(self, start_map: NDArray[np.float32], particles: ParticleState) -> RunState:
        """Return the state before the first iteration.

        Parameters
        ----------
        start_map : ndarray of float32, shape [n, n, n]
        particles : ParticleState
            Half sets, and poses where they are known.
        """
        settings, size = self.settings, self.data.box_size
        voxels = torch.from_numpy(np.ascontiguousarray(start_map, dtype=np.float32))
        if settings.initial_resolution > 0:
            voxels = lowpass(voxels, settings.initial_resolution, self.data.pixel_size)
        grid = orientation_grid(settings.healpix_order, settings.symmetry)
        halves = []
        for half in (1, 2):
            noise = self.initial_noise(np.flatnonzero(particles.half == half))
            group = new_class(voxels.numpy(), len(grid.directions))
            halves.append(Model((group,), noise, np.ones(len(self.data.group_names)), settings.sigma_offset))
        limit = settings.initial_resolution or 4 * self.data.pixel_size
        shell = max(int(self.box_angstrom / limit), 1)
        resolution = self.box_angstrom / shell
        progress = Progress(resolution, resolution, current_size=2 * min(shell + 10, size // 2))
        sampling = Sampling(
            settings.healpix_order,
            settings.offset_range,
            settings.offset_step,
            local=settings.healpix_order >= settings.auto_local_healpix_order,
        )
        return RunState(0, (halves[0], halves[1]), sampling, progress, particles)

    def iterate(self, state: RunState) -> Iterator[RunState]:
        """Go on from a state until the refinement has converged; yields the state after each iteration."""
        while not state.progress.finished:
            state = self.step(state)
            yield state

    def step(self, state: RunState) -> RunState:
        """Do one iteration."""
        settings = self.settings
        iteration = state.iteration + 1
        last = state.progress.converged or iteration >= settings.maximum_iterations
        first = settings.first_iteration_correlation and iteration == 1
        half_box = self.data.box_size // 2
        radius = half_box if last else min(state.progress.current_size // 2, half_box)
        references = self.references(state.models[0], radius)
        preparer = self.preparer(radius)
        state, progress, sampling = self._before(state, references, preparer, first, last)
        sampling = replace(sampling, perturbation=perturbation(settings.seed, iteration, settings.perturbation))
        poses = self.poses(sampling)
        models = tuple(matching_prior(model, poses.direction_count) for model in state.models)
        step = poses.orientations.step / 2**settings.oversampling
        # Where no pose is known yet, the first search must be global however fine its steps are.
        local = sampling.local and (iteration > 1 or bool(state.particles.eulers.any()))
        local_sigma = settings.local_sigma_factor * step if local else 0.0
        search = Search(poses, local_sigma, correlation=first)
        sums = []
        for half in (0, 1):
            if half == 1:  # one at a time: each takes as much memory as what is summed
                references = self.references(state.models[1], radius)
            expectation = Expectation(
                self.data,
                settings,
                models[half],
                references,
                search,
                preparer,
                memory=self.memory,
                seed=settings.seed + 1000 * iteration,
                recorder=self.recorder,
            )
            indices = np.flatnonzero(state.particles.half == half + 1)
            self.recorder.stage(f"iteration {iteration}, half {half + 1}", len(indices), "particles")
            sums.append(expectation.run(indices, state.particles))
            del expectation
            return_freed_memory()
        del references
        self.recorder.stage(f"iteration {iteration}, reconstruction")
        maximiser = Maximiser(self.data, settings, self.solvent_mask, keep_noise=first)
        pair = (sums[0], sums[1])
        # Joined halves keep one frame for the next iteration; after the last one nothing follows that would need it.
        shared = max(self.join_radius, self.start_radius) if last else self.join_radius
        halves = maximiser.halves(pair, (models[0], models[1]), shared, join=not last)
        joined = maximiser.joined(pair, halves) if last else None
        if joined is not None:
            joined = _joined_statistics(joined, halves)
        return_freed_memory()
        particles = collect(state.particles, pair, self.data.pixel_size, keep_norm=first)
        rotation, offset = self.changes(state.particles, particles)
        progress = update_changes(progress, sampling, rotation, offset)
        model = joined or halves[0]
        group = model.classes[0]
        progress = update_resolution(progress, group.ssnr, group.fsc, self.box_angstrom, self.evidence(halves))
        progress = replace(progress, converged=not last and has_converged(progress), finished=last)
        return RunState(iteration, halves, sampling, progress, particles, joined)

    def _before(
        self,
        state: RunState,
        references: ReferenceSet,
        preparer: ImagePreparer,
        first: bool,
        last: bool,
    ) -> tuple[RunState, Progress, Sampling]:
        """Estimate the accuracy of the poses and choose the sampling of this iteration."""
        if state.iteration == 0 or first:
            return state, state.progress, state.sampling
        indices = np.flatnonzero(state.particles.half == 1)
        rng = np.random.default_rng([self.settings.seed, state.iteration])
        chosen = np.sort(rng.permutation(indices)[: self.settings.accuracy_particles])
        rotation, translation = self.accuracy(chosen, state.particles, state.models[0], 0, references, preparer)
        models = tuple(
            half.with_classes([replace(half.classes[0], accuracy_rotation=rotation, accuracy_translation=translation)])
            for half in state.models
        )
        state = replace(state, models=models)
        if last:
            return state, state.progress, state.sampling
        progress, sampling = update_sampling(state.progress, state.sampling, self.settings, rotation, translation)
        return state, progress, sampling


def matching_prior(model: Model, directions: int) -> Model:
    """Return the model with a flat prior on directions where it has none for this grid."""
    flat = np.full(directions, 1.0 / directions)
    return model.with_classes(
        group if len(group.direction_prior) == directions else replace(group, direction_prior=flat)
        for group in model.classes
    )


def _joined_statistics(joined: Model, halves: tuple[Model, ...]) -> Model:
    """Average what is estimated per half set."""
    one, two = halves
    prior = 0.5 * (one.classes[0].direction_prior + two.classes[0].direction_prior)
    return replace(
        joined,
        classes=(replace(joined.classes[0], direction_prior=prior),),
        sigma2_noise=0.5 * (one.sigma2_noise + two.sigma2_noise),
        scale=0.5 * (one.scale + two.scale),
        sigma_offset=0.5 * (one.sigma_offset + two.sigma_offset),
        average_norm=0.5 * (one.average_norm + two.average_norm),
        average_pmax=0.5 * (one.average_pmax + two.average_pmax),
        log_likelihood=one.log_likelihood + two.log_likelihood,
    )
