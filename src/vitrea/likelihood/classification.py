"""Classification of particles into several 2D averages or 3D maps: the loop around expectation and maximisation.

Classes, poses and noise are estimated together by regularised likelihood (Scheres 2012, doi:10.1016/j.jmb.2011.11.010;
Sigworth 1998 for 2D, doi:10.1006/jsbi.1998.4014). There are no half sets: the signal's variance follows from the power
of the references. One class in three dimensions is a refinement at fixed sampling.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from vitrea.compute.memory import return_freed_memory
from vitrea.fourier.filters import lowpass
from vitrea.geometry.euler import euler_to_matrix
from vitrea.geometry.sampling import perturbation
from vitrea.likelihood.balance import handicaps
from vitrea.likelihood.centring import centre_class
from vitrea.likelihood.data import ImagePreparer
from vitrea.likelihood.diversity import copies, dealt_out, remembered, reseeded, told_apart
from vitrea.likelihood.expectation import Expectation
from vitrea.likelihood.maximisation import Maximiser
from vitrea.likelihood.refinement import matching_prior
from vitrea.likelihood.run import ROTATIONS_AT_ONCE, Run, collect
from vitrea.likelihood.schedule import signal_shell
from vitrea.likelihood.scheme import Plan, Scheme, choose
from vitrea.likelihood.search import Search, coarse_radius
from vitrea.likelihood.state import Model, ParticleState, Progress, RunState, Sampling, new_class
from vitrea.likelihood.sums import Sums
from vitrea.matching.reference import ReferenceSet
from vitrea.reconstruction.accumulator import FourierAccumulator

# First averages are round blobs, on which nothing moves: the prior on offsets must not close in on that. In pixels
# (RELION's choice is a variance of 2).
SMALLEST_SIGMA_OFFSET = 2.0**0.5
# Shells beyond the current resolution that take part, so that it can improve.
INCREMENT = 10
# A class smaller than this share of the mean does not decide how much detail all are compared at.
SMALL_CLASS = 0.1
# Poses count as uncertain while more coarse ones are significant, translations counted, than this share of the
# orientations there are, in 2D and in 3D. With more than that, the fine pass would take longer than all the rest.
UNCERTAIN_PLANE, UNCERTAIN_SPACE = 0.5, 0.05
# While references are blurred, orientations are looked at on a grid that can place what they show: no coarser than
# this order (steps of 30°), and with so many orientations left where symmetry makes most of them equivalent.
COARSEST_ORDER, FEWEST_ORIENTATIONS = 1, 500
# Share of the iterations, the last ones, that look at fine poses in any case.
FINE_AT_END = 0.25
# Averages to start from are blurred to this frequency, in cycles per pixel (RELION's choice).
START_FREQUENCY = 0.07
# Particles that make one of the averages a 2D run starts from.
START_PARTICLES = 300
# A class with less than this share of the mean is dead.
DEAD_CLASS = 0.05
# Particles from which the handicaps of classes are found, for each class. Where only some poses are looked at, those
# with so much of the probability, classes may be less probable than this and not be seen.
BALANCED_PARTICLES = 150
BALANCED_FRACTION, UNKNOWN_PROBABILITY = 0.9999, 1e-5
# Fewest particles from which the accuracy of poses in a class is estimated.
FEW_PARTICLES = 10


@dataclass(frozen=True)
class Classification(Run):
    """A classification.

    Attributes
    ----------
    scheme : Scheme
    """

    scheme: Scheme

    def start(self, references: Sequence[NDArray[np.float32]], particles: ParticleState) -> RunState:
        """Return the state before the first iteration.

        Parameters
        ----------
        references : sequence of ndarray of float32, shape [n, n] or [n, n, n]
            One for each class; one for all classes (particles then begin in classes chosen by chance); or none:
            averages, or maps, of particles at random orientations.
        particles : ParticleState
        """
        settings, scheme = self.settings, self.scheme
        if scheme.planar:
            # A class average has no third dimension into which a view could be tilted.
            particles = replace(particles, eulers=particles.eulers * [0.0, 0.0, 1.0])
        noise = self.initial_noise(choose(1.0, len(self.data), settings.seed, 0))
        sampling = Sampling(
            -1 if scheme.planar else settings.healpix_order,
            settings.offset_range,
            settings.offset_step,
            local=scheme.search == "local",
            psi_step=scheme.psi_step,
        )
        directions = len(self.grid(sampling).directions)
        shape = (self.data.box_size,) * (2 if scheme.planar else 3)
        given = [self.filtered(voxels, settings.initial_resolution) for voxels in references] or [
            np.zeros(shape, dtype=np.float32)
        ]
        given = self._told_apart(given) if len(given) > 1 else given * scheme.classes
        share = 1.0 / scheme.classes
        classes = tuple(new_class(voxels, directions, share) for voxels in given)
        model = Model(classes, noise, np.ones(len(self.data.group_names)), settings.sigma_offset)
        limit = settings.initial_resolution or 4 * self.data.pixel_size
        if not references:
            # Finer detail of averages over all directions is noise, after which classes would be modelled.
            limit = settings.initial_resolution or self.data.pixel_size / START_FREQUENCY
            model = self._random_model(model, particles, limit)
        shell = max(int(self.box_angstrom / limit), 1)
        progress = self.progress_at(Progress(0.0, np.inf, 0), shell)
        return RunState(0, (model,), sampling, progress, particles)

    def filtered(self, voxels: NDArray[np.float32], limit: float) -> NDArray[np.float32]:
        """Low-pass filter a reference to a limit in Å; 0: leave it."""
        if limit <= 0:
            return voxels
        tensor = torch.from_numpy(np.ascontiguousarray(voxels, dtype=np.float32))
        filtered = lowpass(tensor, limit, self.data.pixel_size, dims=voxels.ndim)
        found: NDArray[np.float32] = filtered.numpy()
        return found

    def _told_apart(self, given: list[NDArray[np.float32]]) -> list[NDArray[np.float32]]:
        """Make references that a user gave twice differ, and say so."""
        again = copies(given)
        if again:
            names = ", ".join(str(number + 1) for number in again)
            self.recorder.warn(f"the references of classes {names} are copies of others: noise tells them apart")
        return told_apart(given, again, self.solvent_mask, np.random.default_rng([self.settings.seed, 7]))

    def _random_model(self, model: Model, particles: ParticleState, limit: float) -> Model:
        """Average particles at random orientations, each in a class chosen by chance."""
        settings, count, classes = self.settings, len(self.data), self.scheme.classes
        rng = np.random.default_rng([settings.seed, 3])
        chosen = np.sort(rng.permutation(self.members())[: classes * START_PARTICLES])
        turns = rng.uniform(0.0, 360.0, (count, 3))
        turns[:, 1] = np.degrees(np.arccos(rng.uniform(-1.0, 1.0, count)))
        if self.scheme.planar:
            turns[:, :2] = 0.0
        seeds = np.empty(count, dtype=np.int64)
        seeds[chosen] = rng.permutation(np.arange(len(chosen)) % classes)
        radius = self.data.box_size // 2
        preparer = self.preparer(radius)
        poses = self.poses(Sampling(-1, 0.0, self.data.pixel_size, psi_step=90.0), classes)
        poses = replace(poses, shifts=np.zeros((1, 2)), fine_shifts=np.zeros((1, 2)))
        search = Search(poses, given=True, seeds=seeds)
        sums = self.expect(model, self.references(model, radius), search, preparer, chosen, 0, particles, turns)
        plain = Maximiser(self.data, settings, self.solvent_mask, keep_noise=True).classes(sums, model)
        share = 1.0 / classes
        # Poses that were not looked for say nothing of the offsets.
        return replace(plain, sigma_offset=model.sigma_offset).with_classes(
            replace(new, voxels=self.filtered(new.voxels, limit), share=share, direction_prior=old.direction_prior)
            for new, old in zip(plain.classes, model.classes, strict=True)
        )

    @property
    def coarsest_order(self) -> int:
        """The lowest HEALPix order that may take the place of the one asked for."""
        return COARSEST_ORDER

    def iterate(self, state: RunState) -> Iterator[RunState]:
        """Go on from a state until the last iteration; yields the state after each."""
        while not state.progress.finished:
            state = self.step(state)
            yield state

    def members(self) -> NDArray[np.int64]:
        """Return the particles that take part at all, ascending."""
        return np.arange(len(self.data))

    def plan(self, iteration: int) -> Plan:
        """Return what an iteration does."""
        return self.scheme.plan(iteration, self.settings.maximum_iterations, len(self.data))

    def chosen(self, iteration: int) -> NDArray[np.int64]:
        """Return the particles that take part in an iteration."""
        members = self.members()
        return members[choose(self.plan(iteration).share, len(members), self.settings.seed, iteration)]

    def step(self, state: RunState) -> RunState:
        """Do one iteration."""
        settings, iteration = self.settings, state.iteration + 1
        plan, chosen = self.plan(iteration), self.chosen(iteration)
        model, references, preparer, search, sampling = self.prepared(state)
        if iteration > 1:
            model = self._with_accuracies(model, state, references, preparer)
        first = search.correlation
        search = self._balanced(model, references, search, preparer, chosen, state)
        self.recorder.stage(f"iteration {iteration}", len(chosen), "particles")
        sums = self.expect(model, references, search, preparer, chosen, iteration, state.particles)
        self.recorder.stage(f"iteration {iteration}, reconstruction")
        carried = self._carry(state, sums, plan)
        maximiser = Maximiser(
            self.data,
            settings,
            self.solvent_mask,
            keep_noise=first,
            keep_prior=search.given,
            smallest_offset=SMALLEST_SIGMA_OFFSET * self.data.pixel_size,
        )
        model = maximiser.classes(sums, model, complete=not carried)
        particles = collect(state.particles, [sums], self.data.pixel_size, keep_norm=first)
        del sums  # results of each particle: with a million of them half as much again
        progress = self._changes(state, particles, chosen)
        self._watch_chance(state, particles)
        model, particles = self._tidy(model, particles, carried, iteration)
        progress = self.progress_at(progress, self._resolved(model))
        progress = replace(progress, finished=iteration >= settings.maximum_iterations)
        return_freed_memory()
        return RunState(iteration, (model,), sampling, progress, particles, carried=carried)

    def prepared(self, state: RunState) -> tuple[Model, ReferenceSet, ImagePreparer, Search, Sampling]:
        """Return what the expectation step after a state works with."""
        settings, scheme, iteration = self.settings, self.scheme, state.iteration + 1
        radius = self._radius(state, self.plan(iteration))
        turn = perturbation(settings.seed, iteration, settings.perturbation)
        sampling = replace(state.sampling, perturbation=turn, healpix_order=self._order(state))
        state = replace(state, sampling=sampling)
        poses = self.poses(sampling, scheme.classes, self._oversampling(state))
        if scheme.search == "none":
            poses = replace(poses, shifts=np.zeros((1, 2)), fine_shifts=np.zeros((1, 2)))
        model = matching_prior(state.models[0], poses.direction_count)
        search = Search(
            poses,
            local_sigma=scheme.local_sigma if scheme.search == "local" else 0.0,
            given=scheme.search in ("shifts", "none"),
            correlation=settings.first_iteration_correlation and iteration == 1,
            seeds=self._seeds(state),
            smoothing=scheme.smoothing,
            occupancy=scheme.occupancy,
            even_shares=scheme.even_shares,
            best_only=scheme.best_pose_only,
            focus=scheme.focus,
        )
        return model, self.references(model, radius), self.preparer(radius), search, sampling

    def _balanced(
        self,
        model: Model,
        references: ReferenceSet,
        search: Search,
        preparer: ImagePreparer,
        chosen: NDArray[np.int64],
        state: RunState,
    ) -> Search:
        """Give classes, as long as they are to be equally large, the handicaps that make them so; tried on a few.

        Only where poses are looked for everywhere: with known poses maps are clear from the first iteration on, and
        a rare state would be filled up with others.
        """
        iteration, classes = state.iteration + 1, self.scheme.classes
        if iteration > self.scheme.balanced * self.settings.maximum_iterations or classes == 1:
            return search
        if search.correlation or search.seeds is not None or self.scheme.search != "global":
            return search
        few = chosen[:: max(1, len(chosen) // (BALANCED_PARTICLES * classes))]
        even = replace(search, even_shares=True, occupancy=True)
        wide = replace(self, settings=replace(self.settings, adaptive_fraction=BALANCED_FRACTION))
        expectation = wide._expectation(model, references, even, preparer, iteration)
        if expectation.direct:
            evidence = expectation.class_evidence(few, state.particles)
        else:  # coarse poses say less than the fine ones that decide
            probability = expectation.run(few, state.particles).occupancy
            evidence = np.log(np.maximum(probability.astype(np.float64), UNKNOWN_PROBABILITY))
            evidence[:, [group.share == 0 for group in model.classes]] = -np.inf
        found = handicaps(evidence)
        self.recorder.event("balance", handicaps_nats=", ".join(f"{value:.1f}" for value in found))
        return replace(even, occupancy=search.occupancy, log_handicap=found)

    def _radius(self, state: RunState, plan: Plan) -> int:
        """Fourier radius compared: a little beyond what is resolved, and within the limit of the plan."""
        radius = min(state.progress.current_size // 2, self.data.box_size // 2)
        if plan.resolution > 0:
            radius = min(radius, int(np.ceil(self.box_angstrom / plan.resolution)))
        return max(radius, INCREMENT // 2)

    def _order(self, state: RunState) -> int:
        """HEALPix order of the coarse grid: lower than asked for while that places all that references show."""
        finest = -1 if self.scheme.planar else self.settings.healpix_order
        if self.scheme.search != "global" or self.scheme.always_oversample or self.ending(state.iteration):
            return finest
        resolved, shells = self.box_angstrom / state.progress.resolution, self.data.box_size // 2
        for order in range(self.coarsest_order, finest):
            grid = self.grid(replace(state.sampling, healpix_order=order, perturbation=0.0))
            reach = coarse_radius(self.settings.particle_diameter, grid.step, self.box_angstrom, shells)
            if resolved < reach and grid.size >= FEWEST_ORIENTATIONS:
                return order
        return finest

    def _oversampling(self, state: RunState) -> int:
        """Coarse poses suffice while references show less than a coarse step blurs and poses are uncertain anyway."""
        grid, shells = self.grid(state.sampling), self.data.box_size // 2
        blurred = coarse_radius(self.settings.particle_diameter, grid.step, self.box_angstrom, shells)
        resolved = self.box_angstrom / state.progress.resolution
        seen = state.particles.significant[state.particles.significant > 0]
        most = UNCERTAIN_PLANE if self.scheme.planar else UNCERTAIN_SPACE
        # After an iteration by correlation one pose is significant, whatever the particle says.
        unknown = len(seen) == 0 or (self.settings.first_iteration_correlation and state.iteration <= 1)
        if self.ending(state.iteration) or self.scheme.always_oversample:
            return self.settings.oversampling
        uncertain = unknown or float(seen.mean()) > most * grid.size * self.scheme.classes
        # What a correlation seems to resolve is no measure: all particles sit in one pose each.
        return 0 if uncertain and (unknown or resolved < blurred) else self.settings.oversampling

    def ending(self, iteration: int) -> bool:
        """Tell whether what follows an iteration looks at fine poses in any case."""
        return iteration >= self.settings.maximum_iterations * (1.0 - FINE_AT_END)

    def _seeds(self, state: RunState) -> NDArray[np.int64] | None:
        """Classes chosen by chance, as long as all references are the same."""
        first, *others = state.models[0].classes
        if not others or any(not np.array_equal(first.voxels, other.voxels) for other in others):
            return None
        return dealt_out(len(self.data), self.scheme.classes, self.settings.seed)

    def _watch_chance(self, before: RunState, after: ParticleState) -> None:
        """Warn of classes that stay as chance made them: told by the second iteration, with poses that are known."""
        if before.iteration != 1 or self.scheme.search not in ("none", "shifts") or self.scheme.classes == 1:
            return
        chance = dealt_out(len(self.data), self.scheme.classes, self.settings.seed)
        if np.array_equal(before.particles.class_index, chance):
            text = remembered(chance, after.class_index, self.scheme.classes)
            if text:
                self.recorder.warn(text)

    def expect(
        self,
        model: Model,
        references: ReferenceSet,
        search: Search,
        preparer: ImagePreparer,
        chosen: NDArray[np.int64],
        iteration: int,
        particles: ParticleState,
        eulers: NDArray[np.float64] | None = None,
    ) -> Sums:
        """Do an expectation step over some particles; `eulers` take the place of those of all particles."""
        expectation = self._expectation(model, references, search, preparer, iteration)
        return expectation.run(chosen, particles if eulers is None else replace(particles, eulers=eulers))

    def _expectation(
        self, model: Model, references: ReferenceSet, search: Search, preparer: ImagePreparer, iteration: int
    ) -> Expectation:
        return Expectation(
            self.data,
            self.settings,
            model,
            references,
            search,
            preparer,
            memory=self.memory,
            seed=self.settings.seed + 1000 * iteration,
            recorder=self.recorder,
        )

    def _carry(self, state: RunState, sums: Sums, plan: Plan) -> tuple[FourierAccumulator, ...]:
        """Add what is kept of earlier sums; return the sums to keep in turn, none where the plan keeps none."""
        if plan.kept <= 0:
            return ()
        Maximiser(self.data, self.settings, self.solvent_mask).complete(sums.accumulators)
        for number, earlier in enumerate(state.carried):
            sums.accumulators[number].add_scaled(earlier, plan.kept)
        return sums.accumulators

    def _with_accuracies(
        self, model: Model, state: RunState, references: ReferenceSet, preparer: ImagePreparer
    ) -> Model:
        """Estimate how accurately poses are found in each class, from some of its particles, if that is asked for."""
        if not self.settings.accuracy_particles:
            return model
        rng = np.random.default_rng([self.settings.seed, state.iteration])
        order = rng.permutation(len(self.data))
        few = max(self.settings.accuracy_particles // self.scheme.classes, FEW_PARTICLES)
        found = []
        for number, group in enumerate(model.classes):
            members = np.sort(order[state.particles.class_index[order] == number][:few])
            if len(members) and group.share > 0:
                rotation, translation = self.accuracy(members, state.particles, model, number, references, preparer)
                group = replace(group, accuracy_rotation=rotation, accuracy_translation=translation)
            found.append(group)
        return model.with_classes(found)

    def _resolved(self, model: Model) -> int:
        """Last shell resolved in any class that is not tiny."""
        enough = SMALL_CLASS / len(model.classes)
        return max([signal_shell(group.ssnr) for group in model.classes if group.share >= enough], default=1)

    def progress_at(self, progress: Progress, shell: int) -> Progress:
        """Return the progress of a run that has resolved a shell."""
        shells = self.data.box_size // 2
        resolution = self.box_angstrom / max(shell, 1)
        size = 2 * min(max(shell, 1) + INCREMENT, shells)
        best = min(resolution, progress.best_resolution)
        return replace(progress, resolution=resolution, best_resolution=best, current_size=size)

    def _changes(self, state: RunState, after: ParticleState, chosen: NDArray[np.int64]) -> Progress:
        """How far particles moved: those that took part and kept their class."""
        before = state.particles
        stayed = chosen[before.class_index[chosen] == after.class_index[chosen]]
        change = 1.0 - len(stayed) / len(chosen)
        if len(stayed) == 0:
            return replace(state.progress, change_class=change)
        rotation, offset = self.changes(before, after, stayed)
        return replace(state.progress, change_class=change, change_rotation=rotation, change_offset=offset)

    def _tidy(
        self, model: Model, particles: ParticleState, carried: tuple[FourierAccumulator, ...], iteration: int
    ) -> tuple[Model, ParticleState]:
        """Centre references, and give classes that died a new start; the sums that are kept follow, in place."""
        if self.scheme.centre_classes:
            model, particles = self._centred(model, particles, carried)
        fewest = DEAD_CLASS / len(model.classes)
        dead = [number for number, group in enumerate(model.classes) if group.share <= fewest]
        names = ", ".join(str(number + 1) for number in dead)
        if dead and iteration <= self.settings.maximum_iterations * (1.0 - FINE_AT_END):
            rng = np.random.default_rng([self.settings.seed, 6, iteration])
            model = reseeded(model, dead, self.solvent_mask, rng)
            for number in dead if carried else ():
                carried[number].clear()
            self.recorder.warn(f"iteration {iteration}: hardly a particle in class {names}: started anew from others")
        elif dead and iteration == self.settings.maximum_iterations:
            self.recorder.warn(f"hardly a particle is left in class {names}")
        return model, particles

    def _centred(
        self, model: Model, particles: ParticleState, carried: tuple[FourierAccumulator, ...]
    ) -> tuple[Model, ParticleState]:
        shifts = particles.shifts.copy()
        aligned = particles.pmax > 0  # the others have not taken part yet
        found = []
        for number, group in enumerate(model.classes):
            group, moved = centre_class(group, self.solvent_mask, self.data.pixel_size)
            found.append(group)
            members = aligned & (particles.class_index == number)
            if np.any(moved != 0) and carried:
                carried[number].translate(moved)
            if np.any(moved != 0) and members.any():
                # The reference moved by `moved`; a particle's projection moves by its view of that.
                rows = np.flatnonzero(members)
                for part in np.array_split(rows, len(rows) // ROTATIONS_AT_ONCE + 1):
                    seen = euler_to_matrix(particles.eulers[part]) @ moved
                    shifts[part] += seen[:, :2] * self.data.pixel_size
        return model.with_classes(found), replace(particles, shifts=shifts)
