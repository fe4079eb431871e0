"""From posteriors to sums: what an expectation step keeps of each block of particles."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vitrea.geometry.euler import matrix_to_euler
from vitrea.kernels.rows import accumulate_rows, sum_by_particle
from vitrea.likelihood.data import ImagePreparer, ParticleData
from vitrea.likelihood.search import Search
from vitrea.likelihood.state import Model
from vitrea.likelihood.sums import Explained, Sums
from vitrea.matching.candidates import Rows, RowScorer
from vitrea.matching.dense import DenseSearch
from vitrea.matching.images import PreparedImages, shell_sums
from vitrea.matching.poses import GivenPoses, PoseGrid
from vitrea.matching.reference import class_runs

# Shells whose signal exceeds the noise this many times, on average over the classes, decide the intensity scale of
# a group.
WELL_DETERMINED_SSNR = 3.0
# Particles whose log-likelihoods are completed at once, in float64.
PARTICLES_AT_ONCE = 64


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


def log_normalisation(images: PreparedImages) -> Tensor:
    """Return what a log-likelihood of images lacks, float64, shape [particles]; to be subtracted.

    log p(X) = log sum of weights - |X|² / (2 sigma²) - log(2 pi sigma²), over the samples compared.
    """
    precision = images.precision.double()
    power = (images.masked.real**2 + images.masked.imag**2).double()
    constant = torch.where(precision > 0, torch.log(2 * math.pi / precision.clamp(min=1e-300)), 0.0)
    return constant.add_(power.mul_(precision), alpha=0.5).sum(dim=1)


class Collector:
    """Adds posteriors of poses to sums.

    Parameters
    ----------
    data : ParticleData
    model : Model
        Which the particles were compared with.
    search : Search
    preparer : ImagePreparer
    """

    def __init__(self, data: ParticleData, model: Model, search: Search, preparer: ImagePreparer) -> None:
        self.data, self.model, self.search, self.preparer = data, model, search, preparer
        self.poses, self.device = search.poses, preparer.device
        ssnr = sum(group.share * group.ssnr for group in model.classes)
        self._clear = ssnr / sum(group.share for group in model.classes) > WELL_DETERMINED_SSNR

    def add_rows(
        self, block: Block, rows: Rows, weights: Tensor, best: dict[str, Tensor], scorer: RowScorer, sums: Sums
    ) -> None:
        """Add posteriors of candidate rows.

        Parameters
        ----------
        block : Block
        rows : Rows
        weights : Tensor of float32, shape [rows, shifts]
        best : dict of Tensor
            As `kernels.posterior.normalise_rows` returns it, ``counts`` being those of coarse poses.
        scorer : RowScorer
            That scored the rows.
        sums : Sums
            Added to.
        """
        explained = self._maximise(block.images, rows, weights, scorer, sums)
        self._offsets(weights, block.centre[rows.particle], sums)
        if self.search.occupancy:
            place = (block.place[rows.particle], scorer.poses.classes_of(rows.orientation))
            np.add.at(sums.occupancy, place, weights.sum(dim=1).cpu().numpy())
        orientation = rows.orientation[best["best_row"].numpy()]
        self._per_particle(block, best, orientation, scorer.poses, sums)
        self._noise_and_scale(block, explained, sums)

    def add_grid(self, block: Block, weights: Tensor, best: dict[str, Tensor], dense: DenseSearch, sums: Sums) -> None:
        """Add posteriors of the whole grid: matrix products throughout.

        Parameters
        ----------
        block : Block
        weights : Tensor of float32, shape [particles, shifts, allowed orientations]
        best : dict of Tensor
            As `kernels.posterior.normalise_dense` returns it; orientations are places in ``dense.allowed``.
        dense : DenseSearch
        sums : Sums
            Added to.
        """
        seeds = np.zeros(len(weights), dtype=np.int64)
        if self.search.seeds is not None:
            seeds = self.search.seeds[block.indices]
        folded = plus, _ = dense.fold(weights)
        for number in np.unique(seeds):
            if (seeds == number).all():
                self._add_slices(block.images, folded, int(number), dense, sums)
                continue
            members = torch.from_numpy(np.flatnonzero(seeds == number)).to(self.device)
            theirs = plus[members], folded[1][members]
            self._add_slices(block.images.members(members), theirs, int(number), dense, sums)
        shells = self.data.box_size // 2 + 1
        cross, power = dense.explained(block.images, folded)
        explained = Explained(*(shell_sums(self.preparer.samples, part, shells) for part in (cross, power)))
        # One row for each particle and translation would do for the offsets; orientations are summed out first.
        self._offsets(plus.sum(dim=2), block.centre, sums)
        if self.search.occupancy:
            for number, run in class_runs(self.poses.coarse_classes_of(dense.views)):
                mass = plus[:, :, run].sum(dim=(1, 2)).cpu().numpy()
                np.add.at(sums.occupancy, (block.place, number + seeds), mass)
        orientation = dense.allowed[best["best_row"].numpy()] + seeds * self.poses.orientations.size
        self._per_particle(block, best, orientation, self.poses, sums)
        self._noise_and_scale(block, explained, sums)

    def _add_slices(
        self, images: PreparedImages, folded: tuple[Tensor, Tensor], seed: int, dense: DenseSearch, sums: Sums
    ) -> None:
        """Sum images over particles and translations for each view, and put the sums into the maps."""
        slices, slice_weights = dense.slices(images, folded)
        mass = folded[0].sum(dim=(0, 1)).cpu().numpy().astype(np.float64)
        for number, run in class_runs(self.poses.coarse_classes_of(dense.views)):
            accumulator = sums.accumulators[number + seed]
            accumulator.add(slices[run], slice_weights[run], dense.matrices[run], self.preparer.samples)
            directions = self.poses.directions_of(dense.views[run] % self.poses.orientations.size)
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
        ramps, space, samples = torch.view_as_real(scorer.ramps).flatten(1), scorer.workspace, len(scorer.samples)
        shape = (len(images), self.data.box_size // 2 + 1)
        explained = Explained(*(torch.zeros(shape, dtype=torch.float64, device=self.device) for _ in range(2)))
        for where, orientations, first in kept.chunks(scorer.chunk):
            projections, matrices, classes = scorer.project(orientations)
            moved = space.take("rows", (len(chosen[where]), samples), torch.complex64)
            torch.mm(weights[chosen[where]], ramps, out=torch.view_as_real(moved).flatten(1))
            slices = space.take("slices", (len(orientations), samples), torch.complex64)
            slice_weights = space.take("weights", (len(orientations), samples), torch.float32)
            particle = torch.from_numpy(kept.particle[where]).to(self.device)
            *_, row_cross, row_power = accumulate_rows(
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
                (slices, slice_weights),
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

    def _per_particle(
        self,
        block: Block,
        best: dict[str, Tensor],
        orientation: NDArray[np.int64],
        poses: PoseGrid | GivenPoses,
        sums: Sums,
    ) -> None:
        where = block.place
        images = block.images if self.search.correlation else block.scoring
        sums.eulers[where] = matrix_to_euler(poses.fine_matrices(orientation))
        sums.class_index[where] = poses.classes_of(orientation)
        sums.shifts[where] = block.centre + self.poses.fine_shifts[best["best_shift"].numpy()]
        sums.pmax[where] = best["top"].numpy()
        sums.significant[where] = best["counts"].numpy()
        constants = [log_normalisation(part).cpu().numpy() for part in images.pieces(PARTICLES_AT_ONCE)]
        sums.log_likelihood[where] = best["evidence"].numpy() - np.concatenate(constants)

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
