"""Which poses of which particles are worth a close look, and how well each of them agrees."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vitrea.compute.memory import Workspace
from vitrea.compute.precision import fast_products
from vitrea.fourier.packed import PackedSamples
from vitrea.kernels.posterior import normalise_dense, significant_orientations
from vitrea.kernels.rows import correlate_rows
from vitrea.matching.images import PreparedImages
from vitrea.matching.poses import GivenPoses, PoseGrid
from vitrea.matching.reference import ReferenceSet, class_runs

# Nats by which the coarse threshold is lowered where products may run in bfloat16.
PRODUCT_MARGIN = 0.1
ORIENTATION_SLICE = 1024


@dataclass(frozen=True)
class Candidates:
    """Pairs of a particle and a coarse orientation.

    Attributes
    ----------
    particle : ndarray of int64, shape [pairs]
        Index within the block.
    orientation : ndarray of int64, shape [pairs]
        Number of the coarse orientation.
    log_prior : ndarray of float32, shape [pairs]
        Log prior of that orientation for that particle.
    counts : ndarray of int64, shape [particles]
        Significant coarse poses of each particle, translations counted.
    """

    particle: NDArray[np.int64]
    orientation: NDArray[np.int64]
    log_prior: NDArray[np.float32]
    counts: NDArray[np.int64]

    def of_particles(self, start: int, stop: int) -> Candidates:
        """Return the pairs of a range of particles, renumbered from zero."""
        chosen = (self.particle >= start) & (self.particle < stop)
        return Candidates(
            self.particle[chosen] - start, self.orientation[chosen], self.log_prior[chosen], self.counts[start:stop]
        )


def join_candidates(parts: Sequence[Candidates]) -> Candidates:
    """Put the pairs of consecutive runs of particles together, the particles numbered on."""
    if len(parts) == 1:
        return parts[0]
    first = np.cumsum([0, *(len(part.counts) for part in parts)])
    return Candidates(
        np.concatenate([part.particle + start for part, start in zip(parts, first, strict=False)]),
        np.concatenate([part.orientation for part in parts]),
        np.concatenate([part.log_prior for part in parts]),
        np.concatenate([part.counts for part in parts]),
    )


def ramp_matrix(ramps: Tensor) -> Tensor:
    """Arrange phase ramps so that ``view_as_real(Q) @ matrix`` is ``Re(Q ramp)``; shape [2 samples, shifts]."""
    return torch.view_as_real(ramps.conj().resolve_conj()).flatten(1).T.contiguous()


def correlation_scores(scores: Tensor, power: Tensor) -> Tensor:
    """Normalise agreements to correlation coefficients up to a constant per particle.

    Parameters
    ----------
    scores : Tensor of float32, shape [particles, shifts, orientations] or [rows, shifts]
    power : Tensor of float32, shape [particles, orientations] or [rows]
        Half the power of each projection.
    """
    norm = torch.rsqrt((2.0 * power).clamp(min=1e-20))
    return scores * (norm[:, None, :] if scores.ndim == 3 else norm[:, None])


class DenseSearch:
    """Compare every particle with every coarse orientation: two matrix products.

    ``log L = Re(P conj(X_t)) - |P|²/2 (CTF²/sigma²)`` with X the image times CTF / sigma²: both terms are products of
    a matrix of projections with a matrix of particles.

    Parameters
    ----------
    references : ReferenceSet
    samples : PackedSamples
        Samples of the coarse comparison.
    poses : PoseGrid
    log_orientation : ndarray of float32, shape [coarse orientations]
        Log prior of each orientation.
    """

    def __init__(
        self, references: ReferenceSet, samples: PackedSamples, poses: PoseGrid, log_orientation: NDArray[np.float32]
    ) -> None:
        self.samples, self.poses = samples, poses
        device = references.device
        self.allowed = np.flatnonzero(np.isfinite(log_orientation))
        self.log_orientation = torch.from_numpy(log_orientation[self.allowed]).to(device)
        matrices = poses.coarse_matrices(self.allowed).to(device)
        self.projections = references.project(poses.coarse_classes_of(self.allowed), matrices, samples)
        self.ramps = samples.phase_ramps(poses.shifts).to(device)

    def bytes_per_particle(self) -> int:
        """Memory that the comparison of one particle takes."""
        return 4 * len(self.ramps) * (len(self.allowed) + 4 * len(self.samples))

    def _agreements(self, images: PreparedImages, fast: bool = True) -> tuple[Tensor, Tensor]:
        """Agreement of each pose, [particles, shifts, orientations], and half the power of each projection."""
        target, weight = images.targets()
        shifted = torch.view_as_real((target[:, None, :] * self.ramps).flatten(0, 1)).flatten(1)
        count, device = len(self.allowed), target.device
        scores = torch.empty((len(shifted), count), dtype=torch.float32, device=device)
        power = torch.empty((len(images), count), dtype=torch.float32, device=device)
        # In slices, so that the products' own copies of their factors stay small.
        for start in range(0, count, ORIENTATION_SLICE):
            part = slice(start, min(start + ORIENTATION_SLICE, count))
            projections = self.projections[part]
            with fast_products() if fast else nullcontext():
                scores[:, part] = shifted @ torch.view_as_real(projections).flatten(1).T
                power[:, part] = weight @ (0.5 * (projections.real**2 + projections.imag**2)).T
        return scores.view(len(images), len(self.ramps), -1), power

    def significant(self, images: PreparedImages, log_shift: Tensor, fraction: float) -> Candidates:
        """Return the orientations that hold a fraction of each particle's probability."""
        scores, power = self._agreements(images)
        flags, counts = significant_orientations(
            scores, power, self.log_orientation, log_shift, fraction, PRODUCT_MARGIN
        )
        particle, place = np.nonzero(flags.cpu().numpy())
        log_prior = self.log_orientation.cpu().numpy()[place]
        return Candidates(particle, self.allowed[place], log_prior, counts.cpu().numpy())

    def posterior(self, images: PreparedImages, log_shift: Tensor, fraction: float) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the posterior weight of every pose, in float32 throughout.

        Returns
        -------
        weights : Tensor of float32, shape [particles, shifts, allowed orientations]
        best : dict of Tensor
            As `kernels.posterior.normalise_dense` returns it; orientations are places in `allowed`.
        """
        scores, power = self._agreements(images, fast=False)
        return scores, normalise_dense(scores, power, self.log_orientation, log_shift, fraction)

    def class_evidence(self, images: PreparedImages, log_shift: Tensor) -> Tensor:
        """Log probability of each image under each class, all poses taken together, up to a constant for each image.

        Returns
        -------
        Tensor of float32, shape [particles, classes]
            Minus infinity for classes that no pose is allowed in.
        """
        scores, power = self._agreements(images)
        scores += (self.log_orientation - power)[:, None, :] + log_shift[:, :, None]
        found = torch.full((len(images), self.poses.classes), -torch.inf, device=scores.device)
        for number, run in class_runs(self.poses.coarse_classes_of(self.allowed)):
            found[:, number] = scores[:, :, run].flatten(1).logsumexp(dim=1)
        return found

    def slices(self, images: PreparedImages, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Sum images, moved to the centre, and their weights for each orientation.

        Parameters
        ----------
        images : PreparedImages
        weights : Tensor of float32, shape [particles, shifts, allowed orientations]

        Returns
        -------
        sums : Tensor of complex64, shape [allowed orientations, samples]
        weights : Tensor of float32, shape [allowed orientations, samples]
        """
        gain = images.ctf * images.precision
        moved = torch.view_as_real(((images.unmasked * gain)[:, None, :] * self.ramps).flatten(0, 1)).flatten(1)
        sums = (weights.flatten(0, 1).T @ moved).view(weights.shape[2], -1, 2)
        return torch.view_as_complex(sums), weights.sum(dim=1).T @ (images.ctf * gain)

    def explained(self, images: PreparedImages, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Posterior mean of ``Re(conj(A) X)`` and ``|A|²`` at each sample, A the model of image X.

        Returns two tensors of float32, shape [particles, samples]; parameters as `slices`.
        """
        count, shifts = weights.shape[:2]
        model = (weights.flatten(0, 1) @ torch.view_as_real(self.projections).flatten(1)).view(count, shifts, -1, 2)
        # Moving the model back instead of the image: one sum over translations, then one product.
        still = (torch.view_as_complex(model) * self.ramps.conj()).sum(dim=1)
        cross = images.ctf * (still.real * images.masked.real + still.imag * images.masked.imag)
        strength = self.projections.real**2 + self.projections.imag**2
        return cross, images.ctf**2 * (weights.sum(dim=1) @ strength)

    def best(self, images: PreparedImages) -> Candidates:
        """Return the one orientation of each particle that correlates best, whatever the greyscale."""
        scores, power = self._agreements(images)
        highest = correlation_scores(scores, power).amax(dim=1).argmax(dim=1).cpu().numpy()
        count = len(images)
        return Candidates(
            np.arange(count), self.allowed[highest], np.zeros(count, dtype=np.float32), np.ones(count, dtype=np.int64)
        )


@dataclass(frozen=True)
class Rows:
    """Candidate rows sorted by orientation (see kernels.rows).

    Attributes
    ----------
    particle : ndarray of int64, shape [rows]
    orientation : ndarray of int64, shape [rows]
        Fine orientation numbers, ascending.
    log_prior : ndarray of float32, shape [rows]
    """

    particle: NDArray[np.int64]
    orientation: NDArray[np.int64]
    log_prior: NDArray[np.float32]

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.particle)

    def subset(self, index: NDArray[np.int64]) -> Rows:
        """Return some of the rows."""
        return Rows(self.particle[index], self.orientation[index], self.log_prior[index])

    def by_particle(self, particles: int) -> tuple[Tensor, Tensor]:
        """List the rows particle by particle: their order, and where each particle begins."""
        order = np.argsort(self.particle, kind="stable")
        first = np.searchsorted(self.particle[order], np.arange(particles + 1))
        return torch.from_numpy(order), torch.from_numpy(first)

    def chunks(self, rows: int) -> Iterator[tuple[slice, NDArray[np.int64], NDArray[np.int64]]]:
        """Cut into runs of about `rows` rows that do not split an orientation.

        Yields
        ------
        (slice of the rows, distinct orientations in it, row at which each begins and, last, the number of rows)
        """
        change = np.flatnonzero(np.diff(self.orientation, prepend=-1))
        bounds = np.append(change, len(self.orientation))
        start = 0
        while start < len(change):
            stop = int(np.searchsorted(bounds, bounds[start] + rows, side="right")) - 1
            stop = min(max(stop, start + 1), len(change))
            where = slice(int(bounds[start]), int(bounds[stop]))
            yield where, self.orientation[change[start:stop]], bounds[start : stop + 1] - bounds[start]
            start = stop


def expand(candidates: Candidates, children: int) -> Rows:
    """Replace each coarse orientation by its children, sorted by orientation."""
    fine = (candidates.orientation[:, None] * children + np.arange(children)).ravel()
    order = np.argsort(fine, kind="stable")
    return Rows(
        np.repeat(candidates.particle, children)[order], fine[order], np.repeat(candidates.log_prior, children)[order]
    )


class RowScorer:
    """Score candidate rows for all translations at once.

    Parameters
    ----------
    references : ReferenceSet
    samples : PackedSamples
    poses : PoseGrid or GivenPoses
    level : {"coarse", "fine"}
        Which orientations and translations the rows refer to.
    chunk : int
        Rows worked on at a time.
    workspace : Workspace, optional
        Room for a chunk, which scorers that take turns can share.
    """

    def __init__(
        self,
        references: ReferenceSet,
        samples: PackedSamples,
        poses: PoseGrid | GivenPoses,
        level: Literal["coarse", "fine"],
        chunk: int = 1024,
        workspace: Workspace | None = None,
    ) -> None:
        self.references, self.samples, self.poses, self.level, self.chunk = references, samples, poses, level, chunk
        self.device = references.device
        shifts = poses.shifts if level == "coarse" and isinstance(poses, PoseGrid) else poses.fine_shifts
        self.ramps = samples.phase_ramps(shifts).to(self.device)
        self.workspace = workspace or Workspace(self.device)
        self._matrix = ramp_matrix(self.ramps)

    def project(self, orientations: NDArray[np.int64]) -> tuple[Tensor, Tensor, NDArray[np.int64]]:
        """Project the references along the rows' orientations (ascending); the next call overwrites the result.

        Returns
        -------
        projections : Tensor of complex64, shape [orientations, samples]
        matrices : Tensor of float32, shape [orientations, 3, 3]
        classes : ndarray of int64, shape [orientations]
        """
        if self.level == "coarse" and isinstance(self.poses, PoseGrid):
            matrices, classes = self.poses.coarse_matrices(orientations), self.poses.coarse_classes_of(orientations)
        else:
            matrices = torch.from_numpy(self.poses.fine_matrices(orientations).astype(np.float32))
            classes = self.poses.classes_of(orientations)
        matrices = matrices.to(self.device)
        out = self.workspace.take("projections", (len(classes), len(self.samples)), torch.complex64)
        return self.references.project(classes, matrices, self.samples, out), matrices, classes

    def score(
        self, images: PreparedImages, rows: Rows, log_shift: Tensor | None = None, correlation: bool = False
    ) -> Tensor:
        """Return the log-likelihood of each row and translation, up to a constant per particle.

        Parameters
        ----------
        images : PreparedImages
            With the samples of this scorer.
        rows : Rows
        log_shift : Tensor of float32, shape [particles, shifts], optional
            Log prior of the translations, added together with that of the rows' orientations; without it no prior is.
        correlation : bool
            Return correlation coefficients (times a constant per particle) instead.

        Returns
        -------
        Tensor of float32, shape [rows, shifts]
        """
        target, weight = images.targets()
        scores = torch.empty((len(rows), len(self.ramps)), dtype=torch.float32, device=self.device)
        for where, orientations, first in rows.chunks(self.chunk):
            projections = self.project(orientations)[0]
            which = torch.from_numpy(np.repeat(np.arange(len(orientations)), np.diff(first))).to(self.device)
            particle = torch.from_numpy(rows.particle[where]).to(self.device)
            out = self.workspace.take("rows", (len(which), len(self.samples)), torch.complex64)
            products, power = correlate_rows(projections, which, target, weight, particle, out)
            block = torch.view_as_real(products).flatten(1) @ self._matrix
            power *= 0.5
            if correlation:
                scores[where] = correlation_scores(block, power)
                continue
            if log_shift is not None:
                power -= torch.from_numpy(rows.log_prior[where]).to(self.device)
                block += log_shift[particle]
            torch.sub(block, power[:, None], out=scores[where])
        return scores
