"""Gold-standard refinement of one map from one particle set: the loop around expectation and maximisation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from vitrea.compute.memory import return_freed_memory
from vitrea.fourier.filters import lowpass
from vitrea.geometry.euler import euler_to_matrix
from vitrea.geometry.sampling import orientation_grid, perturbation
from vitrea.geometry.shifts import oversample_shifts, shift_grid
from vitrea.geometry.symmetry import symmetry_distance
from vitrea.likelihood.accuracy import estimate_accuracy
from vitrea.likelihood.data import ImagePreparer, ParticleData
from vitrea.likelihood.expectation import Expectation
from vitrea.likelihood.maximisation import Maximiser
from vitrea.likelihood.schedule import has_converged, update_changes, update_resolution, update_sampling
from vitrea.likelihood.settings import Settings
from vitrea.likelihood.state import HalfModel, ParticleState, Progress, RunState, Sampling
from vitrea.likelihood.sums import HalfSums
from vitrea.matching.images import shell_spectrum, transform_images
from vitrea.matching.poses import PoseGrid
from vitrea.matching.reference import Reference, reference_from_map
from vitrea.records.recorder import Recorder

INITIAL_NOISE_PARTICLES = 1000
WITHIN_PIXEL = 0.75


@dataclass(frozen=True)
class Refinement:
    """A refinement that can be started, or gone on with from any of its states.

    Attributes
    ----------
    data : ParticleData
    settings : Settings
    solvent_mask : ndarray of float32, shape [n, n, n]
    device : torch.device
    memory : int
        Bytes that scores and rows of one block may take.
    recorder : Recorder
    """

    data: ParticleData
    settings: Settings
    solvent_mask: NDArray[np.float32]
    device: torch.device
    memory: int
    recorder: Recorder

    @property
    def box_angstrom(self) -> float:
        """Box size in Å."""
        return self.data.box_size * self.data.pixel_size

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
        shells = np.zeros(size // 2 + 1)
        halves = []
        for half in (1, 2):
            noise = self._initial_noise(np.flatnonzero(particles.half == half))
            halves.append(
                HalfModel(
                    voxels.numpy(),
                    None,
                    shells,
                    shells,
                    shells,
                    shells,
                    shells,
                    noise,
                    np.ones(len(self.data.group_names)),
                    np.full(len(grid.directions), 1.0 / len(grid.directions)),
                    settings.sigma_offset,
                )
            )
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

    def _initial_noise(self, indices: NDArray[np.int64]) -> NDArray[np.float64]:
        """Noise spectrum of the half set: mean power of the masked images less the power of their mean."""
        chosen = indices[:INITIAL_NOISE_PARTICLES]
        preparer = self._preparer(self.data.box_size // 2)
        samples, shells = preparer.full, self.data.box_size // 2 + 1
        total = torch.zeros(shells, dtype=torch.float64, device=self.device)
        mean = torch.zeros((1, len(samples)), dtype=torch.complex64, device=self.device)
        for start in range(0, len(chosen), 256):
            images = preparer.load(chosen[start : start + 256])
            masked, _, spectrum, _ = transform_images(images, preparer.mask, None, samples, preparer.samples)
            total += spectrum.sum(dim=0)
            mean += masked.sum(dim=0, keepdim=True)
        average = shell_spectrum(samples, mean / len(chosen), shells)[0]
        counts = np.bincount(samples.shell, minlength=shells)[:shells]
        power = (total / len(chosen) - average).cpu().numpy()
        noise = np.maximum(power, 1e-12) / (2.0 * np.maximum(counts, 1))
        return np.tile(noise, (len(self.data.group_names), 1))

    def _preparer(self, radius: int) -> ImagePreparer:
        low, high = self.settings.lowest_resolution, self.settings.highest_resolution
        limits = (self.box_angstrom / low if low > 0 else 0.0, self.box_angstrom / high if high > 0 else np.inf)
        return ImagePreparer(self.data, self.settings, radius, limits, self.device)

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
        references = tuple(
            reference_from_map(torch.from_numpy(half.voxels).to(self.device), radius, settings.padding)
            for half in state.halves
        )
        preparer = self._preparer(radius)
        state, progress, sampling = self._before(state, references, preparer, first, last)
        sampling = replace(sampling, perturbation=perturbation(settings.seed, iteration, settings.perturbation))
        poses = self._poses(sampling)
        models = tuple(_matching_prior(model, len(poses.orientations.directions)) for model in state.halves)
        sums = []
        for half in (0, 1):
            step = Expectation(
                self.data,
                settings,
                models[half],
                references[half],
                poses,
                sampling,
                preparer,
                first=first,
                memory=self.memory,
                seed=settings.seed + 1000 * iteration,
                recorder=self.recorder,
            )
            indices = np.flatnonzero(state.particles.half == half + 1)
            self.recorder.stage(f"iteration {iteration}, half {half + 1}", len(indices), "particles")
            sums.append(step.run(indices, state.particles))
            del step
            return_freed_memory()
        self.recorder.stage(f"iteration {iteration}, reconstruction")
        maximiser = Maximiser(self.data, settings, self.solvent_mask, keep_noise=first)
        pair = (sums[0], sums[1])
        halves = maximiser.halves(pair, (models[0], models[1]), self.box_angstrom / settings.join_resolution)
        joined = maximiser.joined(pair, halves) if last else None
        if joined is not None:
            joined = _joined_statistics(joined, halves)
        return_freed_memory()
        particles = _collect(state.particles, pair, self.data.pixel_size, keep_norm=first)
        rotation, offset = self._changes(state.particles, particles)
        progress = update_changes(progress, sampling, rotation, offset)
        model = joined or halves[0]
        progress = update_resolution(progress, model.ssnr, model.fsc, self.box_angstrom)
        progress = replace(progress, converged=not last and has_converged(progress), finished=last)
        return RunState(iteration, halves, sampling, progress, particles, joined)

    def _before(
        self,
        state: RunState,
        references: tuple[Reference, ...],
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
        model = state.halves[0]
        images = preparer.prepare(
            chosen, np.zeros((len(chosen), 2), dtype=np.int64), np.ones(len(chosen)), model.sigma2_noise, model.scale, 0
        )
        eulers = state.particles.eulers[chosen]
        rotation, pixels = estimate_accuracy(images, eulers, references[0], preparer.samples, self.settings.seed)
        translation = pixels * self.data.pixel_size
        one, two = (
            replace(half, accuracy_rotation=rotation, accuracy_translation=translation) for half in state.halves
        )
        state = replace(state, halves=(one, two))
        if last:
            return state, state.progress, state.sampling
        progress, sampling = update_sampling(state.progress, state.sampling, self.settings, rotation, translation)
        return state, progress, sampling

    def _poses(self, sampling: Sampling) -> PoseGrid:
        settings, pixel = self.settings, self.data.pixel_size
        grid = orientation_grid(sampling.healpix_order, settings.symmetry, perturbation=sampling.perturbation)
        step = sampling.offset_step / pixel
        # Images are centred by whole pixels: what is left, half a pixel along x and y, must be within reach.
        coarse = shift_grid(max(sampling.offset_range / pixel, WITHIN_PIXEL), step)
        return PoseGrid(
            grid,
            oversample_shifts(coarse, step, 0, sampling.perturbation),
            oversample_shifts(coarse, step, settings.oversampling, sampling.perturbation),
            settings.oversampling,
        )

    def _changes(self, before: ParticleState, after: ParticleState) -> tuple[float, float]:
        """Mean change of the rotations (degrees) and root-mean-square change of the offsets (Å, per axis)."""
        old, new = euler_to_matrix(before.eulers), euler_to_matrix(after.eulers)
        rotation = float(np.mean(symmetry_distance(old, new, self.settings.symmetry)))
        return rotation, float(np.sqrt(np.mean((before.shifts - after.shifts) ** 2)))


def _matching_prior(model: HalfModel, directions: int) -> HalfModel:
    """Return the model with a flat prior on directions where it has none for this grid."""
    if len(model.direction_prior) == directions:
        return model
    return replace(model, direction_prior=np.full(directions, 1.0 / directions))


def _joined_statistics(joined: HalfModel, halves: tuple[HalfModel, HalfModel]) -> HalfModel:
    """Average what is estimated per half set."""
    one, two = halves
    return replace(
        joined,
        sigma2_noise=0.5 * (one.sigma2_noise + two.sigma2_noise),
        scale=0.5 * (one.scale + two.scale),
        direction_prior=0.5 * (one.direction_prior + two.direction_prior),
        sigma_offset=0.5 * (one.sigma_offset + two.sigma_offset),
        average_norm=0.5 * (one.average_norm + two.average_norm),
        average_pmax=0.5 * (one.average_pmax + two.average_pmax),
        log_likelihood=one.log_likelihood + two.log_likelihood,
    )


def _collect(
    before: ParticleState, sums: tuple[HalfSums, HalfSums], pixel_size: float, keep_norm: bool
) -> ParticleState:
    """Put the per-particle results of both half sets into one table."""
    eulers, shifts, norm = before.eulers.copy(), before.shifts.copy(), before.norm.copy()
    likelihood, pmax, significant = before.log_likelihood.copy(), before.pmax.copy(), before.significant.copy()
    for half in sums:
        eulers[half.indices], shifts[half.indices] = half.eulers, half.shifts * pixel_size
        if not keep_norm:
            norm[half.indices] = half.norm
        likelihood[half.indices], pmax[half.indices] = half.log_likelihood, half.pmax
        significant[half.indices] = half.significant
    return ParticleState(eulers, shifts, norm, likelihood, pmax, significant, before.half)
