"""Which poses of which particles are worth a close look, and how well each of them agrees."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vitrea.compute.memory import Workspace
from vitrea.fourier.packed import PackedSamples
from vitrea.kernels.rows import correlate_rows
from vitrea.matching.images import PreparedImages
from vitrea.matching.poses import GivenPoses, PoseGrid
from vitrea.matching.reference import ReferenceSet


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
