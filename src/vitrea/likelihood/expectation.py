"""The expectation step: the posterior of each particle's pose, and the sums it contributes to the next model.

Two passes (adaptive oversampling; Scheres 2012, doi:10.1016/j.jsb.2012.09.006): a coarse one over the whole grid, or
over the neighbourhood of the last pose, keeps the orientations that hold almost all the probability; a fine one in
float32 scores their children for every translation. Significant fine poses are summed per orientation before they
are put into the map. A class is one more coordinate of the pose; in two dimensions directions fall away.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vitrea.compute.memory import chunk_size
from vitrea.fourier.packed import PackedSamples
from vitrea.geometry.euler import euler_to_matrix, matrix_to_euler
from vitrea.geometry.local_search import local_candidates
from vitrea.kernels.posterior import normalise_rows
from vitrea.kernels.rows import accumulate_rows, sum_by_particle
from vitrea.likelihood.data import ImagePreparer, ParticleData
from vitrea.likelihood.search import Search, coarse_radius
from vitrea.likelihood.settings import Settings
from vitrea.likelihood.state import Model, ParticleState
from vitrea.likelihood.sums import Explained, Sums, empty_sums
from vitrea.matching.candidates import Candidates, DenseSearch, Rows, RowScorer, expand
from vitrea.matching.images import PreparedImages, shell_sums
from vitrea.matching.poses import GivenPoses, PoseGrid
from vitrea.matching.reference import ReferenceSet, class_runs
from vitrea.records.recorder import Recorder

# Shells whose signal exceeds the noise this many times, on average over the classes, decide the intensity scale of
# a group.
WELL_DETERMINED_SSNR = 3.0
# Correlation scores differ little between poses: this makes a softmax of them pick the best one.
CORRELATION_SHARPNESS = 1e6
# Rows worked on at a time; fewer where an image has many samples.
MOST_ROWS, FEWEST_ROWS = 1024, 64
MOST_PARTICLES = 512


@dataclass(frozen=True)
class Block:
    """Some particles, ready to be compared.

    Attributes
    ----------
    indices : ndarray of int64, shape [particles]
        Which particles of the data set.
    place : ndarray of int64, shape [particles]
        Their places in the list of particles worked on.
    centre : ndarray, shape [particles, 2]
        Shifts in pixels that have been applied: whole ones, where translations are searched.
    gain : ndarray, shape [particles]
        Grey-value factors that have been applied.
    images, scoring : PreparedImages
        For the statistics, and for the comparison; they differ in the weight of their samples.
    """

    indices: NDArray[np.int64]
    place: NDArray[np.int64]
    centre: NDArray[np.float64]
    gain: NDArray[np.float64]
    images: PreparedImages
    scoring: PreparedImages

    def part(self, where: slice) -> Block:
        """Return a run of the particles."""
        return Block(
            self.indices[where],
            self.place[where],
            self.centre[where],
            self.gain[where],
            self.images.part(where),
            self.scoring.part(where),
        )


class Expectation:
    """One expectation step over some particles.

    Parameters
    ----------
    data : ParticleData
    settings : Settings
    model : Model
    references : ReferenceSet
        Of the model's classes, reaching at least the radius of the preparer's samples.
    search : Search
    preparer : ImagePreparer
        Its samples define the fine comparison.
    memory : int
        Bytes for scores and rows.
    seed : int
        Seed of this iteration.
    recorder : Recorder
    """

    def __init__(
        self,
        data: ParticleData,
        settings: Settings,
        model: Model,
        references: ReferenceSet,
        search: Search,
        preparer: ImagePreparer,
        *,
        memory: int,
        seed: int,
        recorder: Recorder,
    ) -> None:
        self.data, self.settings, self.model, self.search, self.poses = data, settings, model, search, search.poses
        self.preparer, self.memory, self.seed, self.recorder = preparer, memory, seed, recorder
        self.references, self.device = references, references.device
        self.local = search.local_sigma > 0
        step, samples = self.poses.orientations.step, preparer.samples
        box = data.box_size * data.pixel_size
        self.coarse = samples.prefix(coarse_radius(settings.particle_diameter, step, box, samples.radius))
        # A row holds its projection, its product with the image and the summed ramps: three complex numbers a sample.
        self.chunk = chunk_size(24 * len(samples), memory, FEWEST_ROWS, MOST_ROWS)
        self.fine_scorer = RowScorer(references, samples, self.poses, "fine", self.chunk)
        self._log_shares = self._class_prior()
        self.dense: DenseSearch | None = None
        if self.local:
            self.coarse_scorer = RowScorer(references, self.coarse, self.poses, "coarse", self.chunk)
        elif not search.given:
            self.dense = self._dense_search(samples if self.direct else self.coarse)
        self._gaussian = -0.5 * (data.pixel_size / model.sigma_offset) ** 2
        ssnr = sum(group.share * group.ssnr for group in model.classes)
        self._clear = ssnr / sum(group.share for group in model.classes) > WELL_DETERMINED_SSNR

    def _class_prior(self) -> NDArray[np.float32]:
        """Log probability of each class beforehand; minus infinity for those without particles."""
        share = np.array([group.share for group in self.model.classes])
        if self.search.even_shares:
            share = (share > 0) / max(int((share > 0).sum()), 1)
        with np.errstate(divide="ignore"):
            log_share: NDArray[np.float32] = np.log(share).astype(np.float32)
        return log_share

    @property
    def direct(self) -> bool:
        """Whether one pass over the whole grid is all: nothing finer is looked at."""
        return self.poses.oversampling == 0 and not (self.local or self.search.given or self.search.correlation)

    def _dense_search(self, samples: PackedSamples) -> DenseSearch:
        classes, references, poses = self.model.classes, self.references, self.poses
        if self.search.seeds is not None:
            # Before particles have chosen, all classes look alike: one comparison tells for all.
            classes, references, poses = classes[:1], ReferenceSet(references.members[:1]), replace(poses, classes=1)
        with np.errstate(divide="ignore"):
            prior = np.concatenate(
                [np.log(group.direction_prior) + log for group, log in zip(classes, self._log_shares, strict=False)]
            )
        log_orientation = np.repeat(prior.astype(np.float32), poses.psi_count)
        return DenseSearch(references, samples, poses, log_orientation)

    def run(self, indices: NDArray[np.int64], particles: ParticleState) -> Sums:
        """Go through the particles, in blocks that fit the memory.

        Parameters
        ----------
        indices : ndarray of int64
            Which ones.
        particles : ParticleState
            Of all particles.
        """
        sums = empty_sums(
            indices,
            self.data.box_size,
            self.preparer.samples.radius,
            self.settings.padding,
            len(self.data.group_names),
            self.poses.direction_count,
            self.device,
            classes=len(self.model.classes),
            dims=self.model.classes[0].voxels.ndim,
            occupancy=self.search.occupancy,
        )
        block = self._block_size()
        for start in range(0, len(indices), block):
            stop = min(start + block, len(indices))
            self._block(indices[start:stop], particles, sums, start)
            self.recorder.advance(stop - start)
        return sums

    def _block_size(self) -> int:
        per_image = 8 * (self.data.box_size**2 * 3 + 8 * len(self.preparer.samples))
        if self.dense is not None:
            per_image += self.dense.bytes_per_particle()
        return chunk_size(per_image, self.memory, 1, MOST_PARTICLES)

    def _block(self, indices: NDArray[np.int64], particles: ParticleState, sums: Sums, place: int) -> None:
        centre = particles.shifts[indices] / self.data.pixel_size
        if len(self.poses.fine_shifts) > 1:
            centre = np.round(centre)
        gain = np.ones(len(indices))
        if self.settings.norm_correction:
            gain = self.model.average_norm / particles.norm[indices]
        images = self.preparer.prepare(indices, centre, gain, self.model.sigma2_noise, self.model.scale, self.seed)
        block = Block(indices, np.arange(place, place + len(indices)), centre, gain, images, self._scoring(images))
        if self.direct:
            self._direct_pass(block, sums)
            return
        candidates = self._coarse_pass(block, particles.eulers[indices])
        for start, stop in self._parts(candidates, len(indices)):
            part, scorer = block.part(slice(start, stop)), self.fine_scorer
            if self.search.given:
                eulers = particles.eulers[part.indices]
                poses = GivenPoses(euler_to_matrix(eulers), self.poses.fine_shifts, self.poses.classes)
                scorer = RowScorer(self.references, self.preparer.samples, poses, "fine", self.chunk)
                chosen = self._given(part)
            else:
                chosen = candidates.of_particles(start, stop)
            self._fine_pass(part, chosen, scorer, sums)

    def _scoring(self, images: PreparedImages) -> PreparedImages:
        """Return the images weighed for the comparison."""
        if self.search.correlation:
            return images.with_precision(self.preparer.used.expand_as(images.precision).contiguous())
        if self.search.smoothing < 1.0:
            return images.with_precision(images.precision * self.search.smoothing)
        return images

    def _log_shift(self, centre: NDArray[np.float64], shifts: NDArray[np.float64]) -> Tensor:
        """Log prior of each translation of each particle, shape [particles, shifts]."""
        offset = centre[:, None, :] + shifts[None]
        prior = (offset**2).sum(axis=-1) * self._gaussian
        # The same prior for all would be lost in rounding if its constant part stayed in.
        return torch.from_numpy((prior - prior.max(axis=1, keepdims=True)).astype(np.float32)).to(self.device)

    def _coarse_pass(self, block: Block, eulers: NDArray[np.float64]) -> Candidates:
        if self.search.given:
            return self._given(block)
        images = block.scoring.prefix(len(self.coarse))
        log_shift = self._log_shift(block.centre, self.poses.shifts)
        if self.local:
            return self._local_pass(images, log_shift, eulers, block.indices)
        assert self.dense is not None
        if self.search.correlation:
            found = self.dense.best(images)
        else:
            found = self.dense.significant(images, log_shift, self.settings.adaptive_fraction)
        if self.search.seeds is None:
            return found
        seed = self.search.seeds[block.indices][found.particle]
        return replace(found, orientation=found.orientation + seed * self.poses.orientations.size)

    def _open_classes(self, indices: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Pairs of a particle (its place in `indices`) and a class that it may belong to."""
        count = len(indices)
        if self.search.seeds is not None:
            return np.arange(count), self.search.seeds[indices]
        open_ones = np.array([number for number, group in enumerate(self.model.classes) if group.share > 0])
        return np.tile(np.arange(count), len(open_ones)), np.repeat(open_ones, count)

    def _log_share(self, classes: NDArray[np.int64]) -> NDArray[np.float32]:
        if self.search.seeds is not None:
            return np.zeros(len(classes), dtype=np.float32)
        return self._log_shares[classes]

    def _given(self, block: Block) -> Candidates:
        """Pair every particle with its own orientation in every class."""
        count = len(block.indices)
        particle, classes = self._open_classes(block.indices)
        counts = np.bincount(particle, minlength=count)
        return Candidates(particle, classes * count + particle, self._log_share(classes), counts)

    def _local_pass(
        self, images: PreparedImages, log_shift: Tensor, eulers: NDArray[np.float64], indices: NDArray[np.int64]
    ) -> Candidates:
        grid, sigma = self.poses.orientations, self.search.local_sigma
        offsets, near, near_prior = local_candidates(grid, eulers, sigma, sigma).orientations()
        pair, classes = self._open_classes(indices)
        # Every class of a particle looks at the same orientations.
        lengths = np.diff(offsets)[pair]
        entry = np.repeat(offsets[:-1][pair] - np.cumsum(lengths) + lengths, lengths) + np.arange(lengths.sum())
        orientation = near[entry] + np.repeat(classes, lengths) * grid.size
        log_prior = near_prior[entry] + np.repeat(self._log_share(classes), lengths)
        order = np.argsort(orientation, kind="stable")
        particle = np.repeat(pair, lengths)
        rows = Rows(particle[order], orientation[order], log_prior[order].astype(np.float32))
        if self.search.correlation:
            scores = self.coarse_scorer.score(images, rows, correlation=True) * CORRELATION_SHARPNESS
            best = normalise_rows(scores, *rows.by_particle(len(images)), 0.0)["best_row"].numpy()
            one = rows.subset(np.sort(best))
            return Candidates(one.particle, one.orientation, one.log_prior, np.ones(len(images), dtype=np.int64))
        scores = self.coarse_scorer.score(images, rows, log_shift)
        result = normalise_rows(scores, *rows.by_particle(len(images)), self.settings.adaptive_fraction)
        keep = np.flatnonzero((scores > 0).any(dim=1).cpu().numpy())
        kept = rows.subset(keep)
        return Candidates(kept.particle, kept.orientation, kept.log_prior, result["counts"].numpy())

    def _parts(self, candidates: Candidates, particles: int) -> Iterator[tuple[int, int]]:
        """Cut a block into runs of particles whose scores fit the memory."""
        children = 1 if self.search.given else self.poses.children
        per_pair = children * (4 * len(self.poses.fine_shifts) + 24)
        load = np.bincount(candidates.particle, minlength=particles) * per_pair
        start, total = 0, 0
        for i in range(particles):
            if i > start and total + load[i] > self.memory:
                yield start, i
                start, total = i, 0
            total += int(load[i])
        yield start, particles

    def _fine_pass(self, block: Block, candidates: Candidates, scorer: RowScorer, sums: Sums) -> None:
        rows = expand(candidates, scorer.poses.children)
        log_shift = self._log_shift(block.centre, scorer.poses.fine_shifts)
        correlation = self.search.correlation
        weights = scorer.score(block.scoring, rows, log_shift, correlation=correlation)
        order, first = rows.by_particle(len(block.images))
        if correlation:
            best = normalise_rows(weights * CORRELATION_SHARPNESS, order, first, 0.0)
            best["top"].fill_(1.0)
        else:
            best = normalise_rows(weights, order, first, self.settings.adaptive_fraction)
        if correlation or self.search.best_only:
            weights.zero_()
            weights[best["best_row"], best["best_shift"]] = 1.0
        explained = self._maximise(block.images, rows, weights, scorer, sums)
        self._offsets(weights, block.centre[rows.particle], sums)
        if self.search.occupancy:
            place = (block.place[rows.particle], scorer.poses.classes_of(rows.orientation))
            np.add.at(sums.occupancy, place, weights.sum(dim=1).cpu().numpy())
        best["orientation"] = torch.from_numpy(rows.orientation[best["best_row"].numpy()])
        best["counts"] = torch.from_numpy(candidates.counts)
        self._per_particle(block, best, scorer.poses, sums)
        self._noise_and_scale(block, explained, sums)

    def _direct_pass(self, block: Block, sums: Sums) -> None:
        """Compare with the whole grid and put every pose into the maps by its weight: matrix products throughout."""
        assert self.dense is not None
        log_shift = self._log_shift(block.centre, self.poses.shifts)
        weights, best = self.dense.posterior(block.scoring, log_shift, self.settings.adaptive_fraction)
        if self.search.best_only:
            weights.zero_()
            weights[torch.arange(len(weights)), best["best_shift"], best["best_row"]] = 1.0
        seeds = np.zeros(len(weights), dtype=np.int64)
        if self.search.seeds is not None:
            seeds = self.search.seeds[block.indices]
        for number in np.unique(seeds):
            members = torch.from_numpy(np.flatnonzero(seeds == number)).to(self.device)
            self._add_slices(block.images.members(members), weights[members], int(number), sums)
        shells = self.data.box_size // 2 + 1
        cross, power = self.dense.explained(block.images, weights)
        explained = Explained(*(shell_sums(self.preparer.samples, part, shells) for part in (cross, power)))
        # One row for each particle and translation would do for the offsets; orientations are summed out first.
        self._offsets(weights.sum(dim=2), block.centre, sums)
        orientation = self.dense.allowed[best["best_row"].numpy()] + seeds * self.poses.orientations.size
        best["orientation"] = torch.from_numpy(orientation)
        if self.search.occupancy:
            size = self.poses.orientations.size
            for number, run in class_runs(self.dense.allowed // size):
                mass = weights[:, :, run].sum(dim=(1, 2)).cpu().numpy()
                np.add.at(sums.occupancy, (block.place, number + seeds), mass)
        self._per_particle(block, best, self.poses, sums)
        self._noise_and_scale(block, explained, sums)

    def _add_slices(self, images: PreparedImages, weights: Tensor, seed: int, sums: Sums) -> None:
        """Sum images over particles and translations for each orientation, and put the sums into the maps."""
        assert self.dense is not None
        slices, slice_weights = self.dense.slices(images, weights)
        size, samples = self.poses.orientations.size, self.preparer.samples
        matrices = self.poses.coarse_matrices(self.dense.allowed).to(self.device)
        mass = weights.sum(dim=(0, 1)).cpu().numpy().astype(np.float64)
        for number, run in class_runs(self.dense.allowed // size):
            accumulator = sums.accumulators[number + seed]
            accumulator.add(slices[run], slice_weights[run], matrices[run], samples)
            directions = self.poses.directions_of(self.dense.allowed[run] % size)
            np.add.at(sums.directions[number + seed], directions, mass[run])

    def _maximise(
        self, images: PreparedImages, rows: Rows, weights: Tensor, scorer: RowScorer, sums: Sums
    ) -> Explained:
        """Put the significant poses into the maps; return what noise and scale need."""
        mass = weights.sum(dim=1)
        significant = np.flatnonzero(mass.cpu().numpy() > 0)
        kept = rows.subset(significant)
        chosen = torch.from_numpy(significant).to(self.device)
        mass = mass[chosen]
        ramps = torch.view_as_real(scorer.ramps).flatten(1)
        shape = (len(images), self.data.box_size // 2 + 1)
        explained = Explained(*(torch.zeros(shape, dtype=torch.float64, device=self.device) for _ in range(2)))
        for where, orientations, first in kept.chunks(scorer.chunk):
            projections, matrices, classes = scorer.project(orientations)
            moved = torch.view_as_complex((weights[chosen[where]] @ ramps).view(len(chosen[where]), -1, 2))
            particle = torch.from_numpy(kept.particle[where]).to(self.device)
            slices, slice_weights, row_cross, row_power = accumulate_rows(
                moved,
                mass[where],
                torch.from_numpy(first).to(self.device),
                projections,
                particle,
                images.masked,
                images.unmasked,
                images.ctf,
                images.precision,
                self.preparer.shell,
                self.data.box_size // 2 + 1,
            )
            for number, run in class_runs(classes):
                sums.accumulators[number].add(slices[run], slice_weights[run], matrices[run], scorer.samples)
            sum_by_particle(row_cross, particle, explained.cross)
            sum_by_particle(row_power, particle, explained.power)
            directions = scorer.poses.directions_of(orientations // scorer.poses.children)
            per_orientation = np.add.reduceat(mass[where].cpu().numpy().astype(np.float64), first[:-1])
            # Given poses come without directions: a class keeps its mass in the first one.
            target = sums.directions[:, 0] if self.search.given else sums.directions.reshape(-1)
            np.add.at(target, directions, per_orientation)
        return explained

    def _offsets(self, weights: Tensor, start: NDArray[np.float64], sums: Sums) -> None:
        """Add the moments of offsets; weights [rows, shifts], and the shift that each row starts from."""
        shifts = self.poses.fine_shifts
        terms = np.concatenate([np.ones((len(shifts), 1)), shifts, (shifts**2).sum(axis=1, keepdims=True)], axis=1)
        moments = (weights @ torch.from_numpy(terms.astype(np.float32)).to(self.device)).double().cpu().numpy()
        mass, first, second = moments[:, 0], moments[:, 1:3], moments[:, 3]
        sums.offset_square += float((mass * (start**2).sum(axis=1) + 2 * (start * first).sum(axis=1) + second).sum())
        sums.mass += float(mass.sum())

    def _per_particle(self, block: Block, best: dict[str, Tensor], poses: PoseGrid | GivenPoses, sums: Sums) -> None:
        where = block.place
        images = block.images if self.search.correlation else block.scoring
        chosen = best["orientation"].numpy()
        sums.eulers[where] = matrix_to_euler(poses.fine_matrices(chosen))
        sums.class_index[where] = poses.classes_of(chosen)
        sums.shifts[where] = block.centre + self.poses.fine_shifts[best["best_shift"].numpy()]
        sums.pmax[where] = best["top"].numpy()
        sums.significant[where] = best["counts"].numpy()
        # log p(X) = log sum of weights - |X|² / (2 sigma²) - log(2 pi sigma²), over the samples compared
        used = images.precision > 0
        precision = images.precision.double()
        image_power = (images.masked.real**2 + images.masked.imag**2).double()
        constant = (0.5 * image_power * precision).sum(dim=1)
        constant += torch.where(used, torch.log(2 * math.pi / precision.clamp(min=1e-300)), 0.0).sum(dim=1)
        sums.log_likelihood[where] = best["evidence"].numpy() - constant.cpu().numpy()

    def _noise_and_scale(self, block: Block, explained: Explained, sums: Sums) -> None:
        group, images = self.data.group[block.indices], block.images
        gained = (2 * explained.cross - explained.power).cpu().numpy()
        residual = images.spectrum.cpu().numpy() - gained
        np.add.at(sums.residual, group, np.maximum(residual, 0.0))
        np.add.at(sums.counts, group, 1.0)
        scale = self.model.scale[group]
        cross, power = (spectrum[:, self._clear].sum(dim=1).cpu().numpy() for spectrum in explained)
        np.add.at(sums.agreement, group, cross / scale)
        np.add.at(sums.strength, group, power / scale**2)
        # Independent samples are half of all; the image's own grey values are those before the gain.
        total = images.total_power.cpu().numpy() - 2 * gained.sum(axis=1)
        deviation = np.sqrt(np.maximum(total, 1e-12)) / self.data.box_size
        sums.norm[block.place] = deviation / block.gain
