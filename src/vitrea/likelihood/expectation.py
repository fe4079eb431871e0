"""The expectation step: the posterior of each particle's pose, and the sums it contributes to the next model.

Two passes (adaptive oversampling; Scheres 2012, doi:10.1016/j.jsb.2012.09.006): a coarse one over the whole grid, or
over the neighbourhood of the last pose, keeps the orientations that hold almost all the probability; a fine one in
float32 scores their children for every translation. Significant fine poses are summed per orientation before they
are put into the map. A class is one more coordinate of the pose; in two dimensions directions fall away.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vitrea.compute.memory import Workspace, chunk_size
from vitrea.fourier.packed import PackedSamples
from vitrea.geometry.euler import euler_to_matrix
from vitrea.geometry.local_search import candidates_per_particle, local_candidates
from vitrea.kernels.posterior import normalise_rows
from vitrea.likelihood.collection import Block, Collector
from vitrea.likelihood.data import ImagePreparer, ParticleData
from vitrea.likelihood.focus import focused_posterior, pairs_of_rows
from vitrea.likelihood.search import Search, coarse_radius
from vitrea.likelihood.settings import Settings
from vitrea.likelihood.state import Model, ParticleState
from vitrea.likelihood.sums import Sums, empty_sums
from vitrea.matching.candidates import Candidates, Rows, RowScorer, expand, join_candidates
from vitrea.matching.dense import DenseSearch
from vitrea.matching.images import PreparedImages
from vitrea.matching.poses import GivenPoses
from vitrea.matching.reference import ReferenceSet
from vitrea.records.recorder import Recorder

# Correlation scores differ little between poses: this makes a softmax of them pick the best one.
CORRELATION_SHARPNESS = 1e6
# Rows worked on at a time; fewer where an image has many samples.
MOST_ROWS, FEWEST_ROWS = 1024, 64
MOST_PARTICLES = 512
# What a row holds for each sample: its projection, its product with the image or its summed ramps, and its part of a
# slice (complex numbers all), with a weight.
ROW_SAMPLE_BYTES = 3 * 8 + 4
# What an image holds for each sample: transforms with and without mask, CTF and weight, and what is made of them for a
# comparison, a complex number and two weights.
IMAGE_SAMPLE_BYTES = 24 + 16
# What a row holds beside its scores: numbers of particle and orientation, prior, and their sorted copies.
ROW_BYTES = 64


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
        self.chunk = chunk_size(ROW_SAMPLE_BYTES * len(samples), memory, FEWEST_ROWS, MOST_ROWS)
        self.workspace = Workspace(self.device)
        self.fine_scorer = RowScorer(references, samples, self.poses, "fine", self.chunk, self.workspace)
        self._log_shares = self._class_prior()
        self.dense: DenseSearch | None = None
        if self.local:
            self.coarse_scorer = RowScorer(references, self.coarse, self.poses, "coarse", self.chunk, self.workspace)
        elif not search.given:
            self.dense = self._dense_search(samples if self.direct else self.coarse)
        self._gaussian = -0.5 * (data.pixel_size / model.sigma_offset) ** 2
        self.collector = Collector(data, model, search, preparer)

    def _class_prior(self) -> NDArray[np.float32]:
        """Log probability of each class beforehand; minus infinity for those without particles."""
        share = np.array([group.share for group in self.model.classes])
        if self.search.even_shares:
            share = (share > 0) / max(int((share > 0).sum()), 1)
        with np.errstate(divide="ignore"):
            log_share: NDArray[np.float32] = np.log(share).astype(np.float32)
        return log_share if self.search.log_handicap is None else log_share + self.search.log_handicap

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
            log_direction = np.concatenate(
                [np.log(group.direction_prior) + log for group, log in zip(classes, self._log_shares, strict=False)]
            )
        return DenseSearch(references, samples, poses, log_direction.astype(np.float32))

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
        block = self.block_size
        for start in range(0, len(indices), block):
            stop = min(start + block, len(indices))
            self._block(indices[start:stop], particles, sums, start)
            self.recorder.advance(stop - start)
        return sums

    def class_evidence(self, indices: NDArray[np.int64], particles: ParticleState) -> NDArray[np.float64]:
        """Log probability of some particles under each class, in all coarse poses taken together.

        Parameters
        ----------
        indices : ndarray of int64
            Which ones.
        particles : ParticleState
            Of all particles.

        Returns
        -------
        ndarray, shape [indices, classes]
            Nats, up to a constant for each particle; minus infinity for classes without particles.
        """
        assert self.dense is not None  # poses are looked for everywhere
        found = np.empty((len(indices), len(self.model.classes)))
        size = self.coarse_size
        for start in range(0, len(indices), size):
            block = self._prepared(indices[start : start + size], particles, start)
            log_shift = self._log_shift(block.centre, self.poses.shifts)
            images = block.scoring.prefix(len(self.dense.samples))
            found[start : start + size] = self.dense.class_evidence(images, log_shift).double().cpu().numpy()
        return found

    @property
    def block_size(self) -> int:
        """Particles that are held ready at once: the more, the more of them share a projection."""
        return chunk_size(IMAGE_SAMPLE_BYTES * len(self.preparer.samples), self.memory, 1, MOST_PARTICLES)

    @property
    def coarse_size(self) -> int:
        """Particles that are compared with coarse poses at once."""
        per_particle = IMAGE_SAMPLE_BYTES * len(self.coarse)
        if self.dense is not None:
            per_particle += self.dense.bytes_per_particle(folded=self.direct)
        elif self.local:
            rows = candidates_per_particle(self.poses.orientations, self.search.local_sigma, self.search.local_sigma)
            per_particle += int(rows * self.poses.classes) * (4 * len(self.poses.shifts) + ROW_BYTES)
        return min(self.block_size, chunk_size(per_particle, self.memory, 1, MOST_PARTICLES))

    def _prepared(self, indices: NDArray[np.int64], particles: ParticleState, place: int) -> Block:
        """Prepare the images of some particles, which begin at a place among all of this run."""
        centre = particles.shifts[indices] / self.data.pixel_size
        if len(self.poses.fine_shifts) > 1:
            centre = np.round(centre)
        gain = np.ones(len(indices))
        if self.settings.norm_correction:
            gain = self.model.average_norm / particles.norm[indices]
        images = self.preparer.prepare(indices, centre, gain, self.model.sigma2_noise, self.model.scale, self.seed)
        return Block(indices, np.arange(place, place + len(indices)), centre, gain, images, self._scoring(images))

    def _block(self, indices: NDArray[np.int64], particles: ParticleState, sums: Sums, place: int) -> None:
        block = self._prepared(indices, particles, place)
        found, size = [], self.coarse_size
        for start in range(0, len(indices), size):
            part = block.part(slice(start, start + size))
            if self.direct:
                self._direct_pass(part, sums)
            else:
                found.append(self._coarse_pass(part, particles.eulers[part.indices]))
        if self.direct:
            return
        candidates = join_candidates(found)
        for start, stop in self._parts(candidates, len(indices)):
            part, scorer = block.part(slice(start, stop)), self.fine_scorer
            if self.search.given:
                eulers = particles.eulers[part.indices]
                poses = GivenPoses(euler_to_matrix(eulers), self.poses.fine_shifts, self.poses.classes)
                scorer = RowScorer(self.references, self.preparer.samples, poses, "fine", self.chunk, self.workspace)
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
        if self.search.focus is None:
            found = normalise_rows(scores, *rows.by_particle(len(images)), self.settings.adaptive_fraction)
            counts: NDArray[np.int64] = found["counts"].numpy()
        else:  # every class keeps its best poses: which one is right is not decided by the whole image
            pairs = pairs_of_rows(rows.particle, self.poses.coarse_classes_of(rows.orientation))
            found = normalise_rows(scores, pairs.order, pairs.first, self.settings.adaptive_fraction)
            counts = np.bincount(pairs.particle, found["counts"].numpy(), len(images)).astype(np.int64)
        keep = np.flatnonzero((scores > 0).any(dim=1).cpu().numpy())
        kept = rows.subset(keep)
        return Candidates(kept.particle, kept.orientation, kept.log_prior, counts)

    def _parts(self, candidates: Candidates, particles: int) -> Iterator[tuple[int, int]]:
        """Cut a block into runs of particles whose scores fit the memory."""
        children = 1 if self.search.given else self.poses.children
        per_pair = children * (4 * len(self.poses.fine_shifts) + ROW_BYTES)
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
        if correlation:
            best = normalise_rows(weights * CORRELATION_SHARPNESS, *rows.by_particle(len(block.images)), 0.0)
            best["top"].fill_(1.0)
        elif self.search.focus is not None:
            log_share = self._log_share(np.arange(len(self.model.classes)))
            best = focused_posterior(
                self.search.focus, log_share, block.scoring, rows, weights, scorer, self.settings.adaptive_fraction,
                self.data.pixel_size,
            )  # fmt: skip
        else:
            best = normalise_rows(weights, *rows.by_particle(len(block.images)), self.settings.adaptive_fraction)
        if correlation or self.search.best_only:
            weights.zero_()
            weights[best["best_row"], best["best_shift"]] = 1.0
        best["counts"] = torch.from_numpy(candidates.counts)
        self.collector.add_rows(block, rows, weights, best, scorer, sums)

    def _direct_pass(self, block: Block, sums: Sums) -> None:
        """Compare with the whole grid and put every pose into the maps by its weight."""
        assert self.dense is not None
        log_shift = self._log_shift(block.centre, self.poses.shifts)
        weights, best = self.dense.posterior(block.scoring, log_shift, self.settings.adaptive_fraction)
        if self.search.best_only:
            weights.zero_()
            weights[torch.arange(len(weights)), best["best_shift"], best["best_row"]] = 1.0
        self.collector.add_grid(block, weights, best, self.dense, sums)
