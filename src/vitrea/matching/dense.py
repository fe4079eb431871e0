"""Every particle with every coarse orientation: large matrix products."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vitrea.compute.precision import fast_products
from vitrea.fourier.packed import PackedSamples
from vitrea.kernels.posterior import normalise_dense, significant_orientations
from vitrea.matching.candidates import Candidates, correlation_scores
from vitrea.matching.images import PreparedImages
from vitrea.matching.poses import PoseGrid
from vitrea.matching.reference import ReferenceSet, class_runs

# Nats by which the coarse threshold is lowered where products may run in bfloat16.
PRODUCT_MARGIN = 0.1
VIEWS_AT_ONCE = 512


class DenseSearch:
    """Compare every particle with every coarse orientation.

    ``log L = Re(P conj(X_t)) - |P|²/2 (CTF²/sigma²)`` with X the image times CTF / sigma²: both terms are products of
    a matrix of projections with a matrix of particles.

    A projection turned by half a turn in its plane is its own complex conjugate, as it is real. So of two such
    orientations, ``Re(P) Re(X) + Im(P) Im(X)`` is the one's agreement and ``Re(P) Re(X) - Im(P) Im(X)`` the other's:
    only the first is projected, multiplied and put into maps, its *view*, which is half the work. (Not so for volumes,
    nor where the number of in-plane angles is odd: there every orientation is a view.)

    Parameters
    ----------
    references : ReferenceSet
    samples : PackedSamples
        Samples of the coarse comparison.
    poses : PoseGrid
    log_direction : ndarray of float32, shape [classes * directions]
        Log prior of each direction; minus infinity for those not to be looked at.

    Attributes
    ----------
    allowed : ndarray of int64, shape [allowed orientations]
        Numbers of the orientations that are compared, ascending.
    views : ndarray of int64, shape [views]
        Numbers of those that are projected, ascending.
    matrices : Tensor of float32, shape [views, 3, 3]
    turns : int
        Orientations that share a view: 2, or 1 where there are no pairs.
    real, imaginary : Tensor of float32, shape [views, samples]
        Projections.
    ramps : Tensor of complex64, shape [shifts, samples]
    """

    def __init__(
        self, references: ReferenceSet, samples: PackedSamples, poses: PoseGrid, log_direction: NDArray[np.float32]
    ) -> None:
        self.samples, self.poses = samples, poses
        device, angles = references.device, poses.psi_count
        self.turns = 2 if samples.dims == 2 and angles % 2 == 0 else 1
        directions = np.flatnonzero(np.isfinite(log_direction))
        self.allowed = (directions[:, None] * angles + np.arange(angles)).ravel()
        self.views = (directions[:, None] * angles + np.arange(angles // self.turns)).ravel()
        self.log_orientation = torch.from_numpy(np.repeat(log_direction[directions], angles)).to(device)
        self.matrices = poses.coarse_matrices(self.views).to(device)
        projections = references.project(poses.coarse_classes_of(self.views), self.matrices, samples)
        self.real, self.imaginary = projections.real.contiguous(), projections.imag.contiguous()
        self.ramps = samples.phase_ramps(poses.shifts).to(device)
        self._cosine, self._sine = self.ramps.real.contiguous(), self.ramps.imag.contiguous()

    def bytes_per_particle(self, folded: bool) -> int:
        """Memory that the comparison of one particle takes, and the folding of its weights where that follows."""
        beside = 2 * VIEWS_AT_ONCE  # one part of the products
        if folded:
            beside = max(beside, 2 * len(self.views))
        return 4 * len(self.ramps) * (len(self.allowed) + beside + 4 * len(self.samples))

    def _parts(self) -> Iterator[tuple[slice, slice]]:
        """Yield runs of directions with their views, so that what a product makes beside its result stays small."""
        angles = self.poses.psi_count // self.turns
        directions, step = len(self.views) // angles, max(1, VIEWS_AT_ONCE // angles)
        for start in range(0, directions, step):
            stop = min(start + step, directions)
            yield slice(start, stop), slice(start * angles, stop * angles)

    def _by_direction(self, values: Tensor) -> Tensor:
        """View values [rows, orientations] as [rows, directions, turns, angles of a turn]."""
        return values.view(len(values), -1, self.turns, self.poses.psi_count // self.turns)

    def fold(self, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Add the weights of both turns, and subtract them: the factors of real and of imaginary parts.

        Parameters
        ----------
        weights : Tensor of float32, shape [particles, shifts, allowed orientations]

        Returns
        -------
        two tensors of float32, shape [particles, shifts, views]
        """
        turns = self._by_direction(weights.flatten(0, 1)).unbind(dim=2)
        shape = (*weights.shape[:2], -1)
        if self.turns == 1:
            return weights, weights
        return (turns[0] + turns[1]).view(shape), (turns[0] - turns[1]).view(shape)

    def _strength(self, views: slice) -> Tensor:
        return self.real[views].square() + self.imaginary[views].square()

    def _shifted(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Move images by every translation; real and imaginary part, each [particles * shifts, samples]."""
        # Part by part: a complex product would have to be taken apart again.
        real, imaginary = images.real.contiguous()[:, None], images.imag.contiguous()[:, None]
        moved = (real * self._cosine).addcmul_(imaginary, self._sine, value=-1.0)
        return moved.flatten(0, 1), (real * self._sine).addcmul_(imaginary, self._cosine).flatten(0, 1)

    def _agreements(self, images: PreparedImages, fast: bool = True) -> tuple[Tensor, Tensor]:
        """Agreement of each pose, [particles, shifts, orientations], and half the power of each projection."""
        target, weight = images.targets()
        real, imaginary = self._shifted(target)
        count, device = len(self.allowed), target.device
        scores = torch.empty((len(real), count), dtype=torch.float32, device=device)
        power = torch.empty((len(images), count), dtype=torch.float32, device=device)
        all_scores, all_power = self._by_direction(scores), self._by_direction(power)
        for directions, views in self._parts():
            with fast_products() if fast else nullcontext():
                even, odd = real @ self.real[views].T, imaginary @ self.imaginary[views].T
                half = weight @ (0.5 * self._strength(views)).T
            shape = (-1, directions.stop - directions.start, all_scores.shape[3])
            all_power[:, directions] = half.view(shape)[:, :, None]
            torch.add(even.view(shape), odd.view(shape), out=all_scores[:, directions, 0])
            if self.turns == 2:
                torch.sub(even.view(shape), odd.view(shape), out=all_scores[:, directions, 1])
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

    def slices(self, images: PreparedImages, folded: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Sum images, moved to the centre, and their weights for each view; turned ones are turned back.

        Parameters
        ----------
        images : PreparedImages
        folded : tuple of Tensor
            Weights as `fold` returns them.

        Returns
        -------
        sums : Tensor of complex64, shape [views, samples]
        weights : Tensor of float32, shape [views, samples]
        """
        gain = images.ctf * images.precision
        real, imaginary = self._shifted(images.unmasked * gain)
        plus, minus = folded
        sums = torch.complex(plus.flatten(0, 1).T @ real, minus.flatten(0, 1).T @ imaginary)
        return sums, plus.sum(dim=1).T @ (images.ctf * gain)

    def explained(self, images: PreparedImages, folded: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Posterior mean of ``Re(conj(A) X)`` and ``|A|²`` at each sample, A the model of image X.

        Returns two tensors of float32, shape [particles, samples]; parameters as `slices`.
        """
        plus, minus = folded
        strength = plus.sum(dim=1) @ self._strength(slice(None))
        real, imaginary = plus @ self.real, minus @ self.imaginary
        # Moving the model back instead of the image: one sum over translations, then one product.
        still_real, still_imaginary = torch.zeros_like(strength), torch.zeros_like(strength)
        for shift, (cosine, sine) in enumerate(zip(self._cosine, self._sine, strict=True)):
            still_real.addcmul_(real[:, shift], cosine).addcmul_(imaginary[:, shift], sine)
            still_imaginary.addcmul_(imaginary[:, shift], cosine).addcmul_(real[:, shift], sine, value=-1.0)
        cross = images.ctf * (still_real * images.masked.real + still_imaginary * images.masked.imag)
        return cross, images.ctf**2 * strength

    def best(self, images: PreparedImages) -> Candidates:
        """Return the one orientation of each particle that correlates best, whatever the greyscale."""
        scores, power = self._agreements(images)
        highest = correlation_scores(scores, power).amax(dim=1).argmax(dim=1).cpu().numpy()
        count = len(images)
        return Candidates(
            np.arange(count), self.allowed[highest], np.zeros(count, dtype=np.float32), np.ones(count, dtype=np.int64)
        )
