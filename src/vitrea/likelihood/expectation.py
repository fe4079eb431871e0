"""The expectation step: the posterior of each particle's pose, and the sums it contributes to the next model.

Two passes (adaptive oversampling; Scheres 2012, doi:10.1016/j.jsb.2012.09.006): a coarse one over the whole grid, or
over the neighbourhood of the last pose, keeps the orientations that hold almost all the probability; a fine one in
float32 scores their children for every translation. Significant fine poses are summed per orientation before they
are put into the map.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vitrea.compute.memory import chunk_size
from vitrea.geometry.euler import matrix_to_euler
from vitrea.geometry.local_search import local_candidates
from vitrea.geometry.sampling import angular_step
from vitrea.kernels.posterior import normalise_rows
from vitrea.kernels.rows import accumulate_rows
from vitrea.likelihood.data import ImagePreparer, ParticleData
from vitrea.likelihood.settings import Settings
from vitrea.likelihood.state import HalfModel, ParticleState, Sampling
from vitrea.likelihood.sums import HalfSums, empty_sums
from vitrea.matching.candidates import Candidates, DenseSearch, Rows, RowScorer, expand
from vitrea.matching.images import PreparedImages
from vitrea.matching.poses import PoseGrid
from vitrea.matching.reference import Reference
from vitrea.records.recorder import Recorder

# Shells whose signal exceeds the noise this many times decide the intensity scale of a group.
WELL_DETERMINED_SSNR = 3.0
# A grid step moves the edge of the particle by at most this fraction of the coarse resolution (RELION's choice).
COARSE_SAFETY = 1.2
# Correlation scores differ little between poses: this makes a softmax of them pick the best one.
CORRELATION_SHARPNESS = 1e6
# Rows worked on at a time; fewer where an image has many samples.
MOST_ROWS, FEWEST_ROWS = 1024, 64
MOST_PARTICLES = 512


def coarse_radius(settings: Settings, healpix_order: int, box_angstrom: float, radius: int) -> int:
    """Return the Fourier radius that the coarse pass can use: finer detail turns away within one coarse step."""
    moved = angular_step(healpix_order) / 360.0 * math.pi * settings.particle_diameter
    return max(2, min(radius, math.ceil(box_angstrom / (moved / COARSE_SAFETY))))


@dataclass(frozen=True)
class Block:
    """Some particles of a half set, ready to be compared.

    Attributes
    ----------
    indices : ndarray of int64, shape [particles]
        Which particles of the data set.
    place : ndarray of int64, shape [particles]
        Their places in the half set.
    centre : ndarray of int64, shape [particles, 2]
        Whole-pixel shifts that have been applied.
    gain : ndarray, shape [particles]
        Grey-value factors that have been applied.
    images, scoring : PreparedImages
        For the statistics, and for the comparison; they differ in a first iteration by cross-correlation only.
    """

    indices: NDArray[np.int64]
    place: NDArray[np.int64]
    centre: NDArray[np.int64]
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
    """One expectation step over one half set.

    Parameters
    ----------
    data : ParticleData
    settings : Settings
    model : HalfModel
    reference : Reference
        Of the model's map, reaching at least `radius`.
    poses : PoseGrid
    sampling : Sampling
    preparer : ImagePreparer
        Its samples define the fine comparison.
    first : bool
        Whether this is a first iteration by cross-correlation.
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
        model: HalfModel,
        reference: Reference,
        poses: PoseGrid,
        sampling: Sampling,
        preparer: ImagePreparer,
        *,
        first: bool,
        memory: int,
        seed: int,
        recorder: Recorder,
    ) -> None:
        self.data, self.settings, self.model, self.poses = data, settings, model, poses
        self.preparer, self.first, self.memory, self.seed, self.recorder = preparer, first, memory, seed, recorder
        self.local, self.sampling = sampling.local and not first, sampling
        samples = preparer.samples
        box = data.box_size * data.pixel_size
        self.coarse = samples.prefix(coarse_radius(settings, sampling.healpix_order, box, samples.radius))
        # A row holds its projection, its product with the image and the summed ramps: three complex numbers a sample.
        chunk = chunk_size(24 * len(samples), memory, FEWEST_ROWS, MOST_ROWS)
        self.fine_scorer = RowScorer(reference, samples, poses, "fine", chunk)
        self.reference, self.device = reference, reference.grid.device
        if self.local:
            self.coarse_scorer = RowScorer(reference, self.coarse, poses, "coarse", chunk)
        else:
            with np.errstate(divide="ignore"):
                prior = np.log(model.direction_prior).astype(np.float32)
            log_orientation = np.repeat(prior, poses.psi_count)
            self.dense = DenseSearch(reference, self.coarse, poses, log_orientation)
        self._gaussian = -0.5 * (data.pixel_size / model.sigma_offset) ** 2

    def run(self, indices: NDArray[np.int64], particles: ParticleState) -> HalfSums:
        """Go through the particles of the half set, in blocks that fit the memory."""
        sums = empty_sums(
            indices,
            self.data.box_size,
            self.preparer.samples.radius,
            self.settings.padding,
            len(self.data.group_names),
            len(self.poses.orientations.directions),
            self.device,
        )
        block = self._block_size()
        for start in range(0, len(indices), block):
            stop = min(start + block, len(indices))
            self._block(indices[start:stop], particles, sums, start)
            self.recorder.advance(stop - start)
        return sums

    def _block_size(self) -> int:
        per_image = 8 * (self.data.box_size**2 * 3 + 8 * len(self.preparer.samples))
        if not self.local:
            per_image += self.dense.bytes_per_particle()
        return chunk_size(per_image, self.memory, 1, MOST_PARTICLES)

    def _block(self, indices: NDArray[np.int64], particles: ParticleState, sums: HalfSums, place: int) -> None:
        centre = np.round(particles.shifts[indices] / self.data.pixel_size).astype(np.int64)
        gain = np.ones(len(indices))
        if self.settings.norm_correction:
            gain = self.model.average_norm / particles.norm[indices]
        images = self.preparer.prepare(indices, centre, gain, self.model.sigma2_noise, self.model.scale, self.seed)
        scoring = images if not self.first else _without_noise_model(images, self.preparer.used)
        block = Block(indices, np.arange(place, place + len(indices)), centre, gain, images, scoring)
        candidates = self._coarse_pass(block, particles.eulers[indices])
        for start, stop in self._parts(candidates, len(indices)):
            self._fine_pass(block.part(slice(start, stop)), candidates.of_particles(start, stop), sums)

    def _log_shift(self, centre: NDArray[np.int64], shifts: NDArray[np.float64]) -> Tensor:
        """Log prior of each translation of each particle, shape [particles, shifts]."""
        offset = centre[:, None, :] + shifts[None]
        prior = (offset**2).sum(axis=-1) * self._gaussian
        # The same prior for all would be lost in rounding if its constant part stayed in.
        return torch.from_numpy((prior - prior.max(axis=1, keepdims=True)).astype(np.float32)).to(self.device)

    def _coarse_pass(self, block: Block, eulers: NDArray[np.float64]) -> Candidates:
        images = block.scoring.prefix(len(self.coarse))
        if self.first:
            return self.dense.best(images)
        log_shift = self._log_shift(block.centre, self.poses.shifts)
        if self.local:
            return self._local_pass(images, log_shift, eulers)
        return self.dense.significant(images, log_shift, self.settings.adaptive_fraction)

    def _local_pass(self, images: PreparedImages, log_shift: Tensor, eulers: NDArray[np.float64]) -> Candidates:
        sigma = self.settings.local_sigma_factor * angular_step(self.sampling.healpix_order, self.settings.oversampling)
        near = local_candidates(self.poses.orientations, eulers, sigma, sigma)
        offsets, orientation, log_prior = near.orientations()
        particle = np.repeat(np.arange(len(images)), np.diff(offsets))
        order = np.argsort(orientation, kind="stable")
        rows = Rows(particle[order], orientation[order], log_prior[order].astype(np.float32))
        scores = self.coarse_scorer.score(images, rows, log_shift)
        result = normalise_rows(scores, *rows.by_particle(len(images)), self.settings.adaptive_fraction)
        keep = np.flatnonzero((scores > 0).any(dim=1).cpu().numpy())
        kept = rows.subset(keep)
        return Candidates(kept.particle, kept.orientation, kept.log_prior, result["counts"].numpy())

    def _parts(self, candidates: Candidates, particles: int) -> Iterator[tuple[int, int]]:
        """Cut a block into runs of particles whose scores fit the memory."""
        per_pair = self.poses.children * (4 * len(self.poses.fine_shifts) + 24)
        load = np.bincount(candidates.particle, minlength=particles) * per_pair
        start, total = 0, 0
        for i in range(particles):
            if i > start and total + load[i] > self.memory:
                yield start, i
                start, total = i, 0
            total += int(load[i])
        yield start, particles

    def _fine_pass(self, block: Block, candidates: Candidates, sums: HalfSums) -> None:
        rows = expand(candidates, self.poses.children)
        log_shift = self._log_shift(block.centre, self.poses.fine_shifts)
        weights = self.fine_scorer.score(block.scoring, rows, log_shift, correlation=self.first)
        order, first = rows.by_particle(len(block.images))
        if self.first:
            best = normalise_rows(weights * CORRELATION_SHARPNESS, order, first, 0.0)
            weights.zero_()
            weights[best["best_row"], best["best_shift"]] = 1.0
            best["top"].fill_(1.0)
        else:
            best = normalise_rows(weights, order, first, self.settings.adaptive_fraction)
        cross, power = self._maximise(block.images, rows, weights, sums)
        self._offsets(rows, weights, block.centre, sums)
        self._per_particle(block, rows, best, candidates.counts, sums)
        self._noise_and_scale(block, cross, power, sums)

    def _maximise(
        self, images: PreparedImages, rows: Rows, weights: Tensor, sums: HalfSums
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Put the significant poses into the map; return what noise and scale need, shape [particles, shells]."""
        shells = self.data.box_size // 2 + 1
        mass = weights.sum(dim=1)
        significant = np.flatnonzero(mass.cpu().numpy() > 0)
        kept = rows.subset(significant)
        chosen = torch.from_numpy(significant).to(self.device)
        mass = mass[chosen]
        ramps = torch.view_as_real(self.fine_scorer.ramps).flatten(1)
        cross = torch.zeros((len(images), shells), dtype=torch.float64, device=self.device)
        power = torch.zeros_like(cross)
        for where, orientations, first in kept.chunks(self.fine_scorer.chunk):
            matrices = self.fine_scorer.matrices(orientations)
            projections = self.reference.project(matrices, self.fine_scorer.samples)
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
                shells,
            )
            sums.accumulator.add(slices, slice_weights, matrices, self.fine_scorer.samples)
            cross.index_add_(0, particle, row_cross.double())
            power.index_add_(0, particle, row_power.double())
            parents = orientations // self.poses.children
            per_orientation = np.add.reduceat(mass[where].cpu().numpy().astype(np.float64), first[:-1])
            np.add.at(sums.directions, self.poses.directions_of(parents), per_orientation)
        return cross.cpu().numpy(), power.cpu().numpy()

    def _offsets(self, rows: Rows, weights: Tensor, centre: NDArray[np.int64], sums: HalfSums) -> None:
        shifts = self.poses.fine_shifts
        terms = np.concatenate([np.ones((len(shifts), 1)), shifts, (shifts**2).sum(axis=1, keepdims=True)], axis=1)
        moments = (weights @ torch.from_numpy(terms.astype(np.float32)).to(self.device)).double().cpu().numpy()
        start = centre[rows.particle].astype(np.float64)
        mass, first, second = moments[:, 0], moments[:, 1:3], moments[:, 3]
        sums.offset_square += float((mass * (start**2).sum(axis=1) + 2 * (start * first).sum(axis=1) + second).sum())
        sums.mass += float(mass.sum())

    def _per_particle(
        self, block: Block, rows: Rows, best: dict[str, Tensor], counts: NDArray[np.int64], sums: HalfSums
    ) -> None:
        where, images = block.place, block.images
        chosen = rows.orientation[best["best_row"].numpy()]
        sums.eulers[where] = matrix_to_euler(self.poses.fine_matrices(chosen))
        sums.shifts[where] = block.centre + self.poses.fine_shifts[best["best_shift"].numpy()]
        sums.pmax[where] = best["top"].numpy()
        sums.significant[where] = counts
        # log p(X) = log sum of weights - |X|² / (2 sigma²) - log(2 pi sigma²), over the samples compared
        used = images.precision > 0
        precision = images.precision.double()
        image_power = (images.masked.real**2 + images.masked.imag**2).double()
        constant = (0.5 * image_power * precision).sum(dim=1)
        constant += torch.where(used, torch.log(2 * math.pi / precision.clamp(min=1e-300)), 0.0).sum(dim=1)
        sums.log_likelihood[where] = best["evidence"].numpy() - constant.cpu().numpy()

    def _noise_and_scale(
        self, block: Block, cross: NDArray[np.float64], power: NDArray[np.float64], sums: HalfSums
    ) -> None:
        group, images = self.data.group[block.indices], block.images
        explained = 2 * cross - power
        residual = images.spectrum.cpu().numpy() - explained
        np.add.at(sums.residual, group, np.maximum(residual, 0.0))
        np.add.at(sums.counts, group, 1.0)
        scale = self.model.scale[group]
        clear = self.model.ssnr > WELL_DETERMINED_SSNR
        np.add.at(sums.agreement, group, cross[:, clear].sum(axis=1) / scale)
        np.add.at(sums.strength, group, power[:, clear].sum(axis=1) / scale**2)
        # Independent samples are half of all; the image's own grey values are those before the gain.
        total = images.total_power.cpu().numpy() - 2 * explained.sum(axis=1)
        deviation = np.sqrt(np.maximum(total, 1e-12)) / self.data.box_size
        sums.norm[block.place] = deviation / block.gain


def _without_noise_model(images: PreparedImages, used: Tensor) -> PreparedImages:
    """Weigh all samples alike, for a comparison by cross-correlation."""
    return images.with_precision(used.expand_as(images.precision).contiguous())
