"""What every likelihood run shares.

Its particles, its device, and the parts of an iteration that do not depend on how many maps or classes there are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vitrea.geometry.euler import euler_to_matrix
from vitrea.geometry.sampling import OrientationGrid, orientation_grid, planar_grid
from vitrea.geometry.shifts import oversample_shifts, shift_grid
from vitrea.geometry.symmetry import symmetry_distance
from vitrea.likelihood.accuracy import estimate_accuracy
from vitrea.likelihood.data import ImagePreparer, ParticleData, mask_share
from vitrea.likelihood.settings import Settings
from vitrea.likelihood.state import Model, ParticleState, Sampling
from vitrea.likelihood.sums import Sums
from vitrea.matching.images import shell_spectrum, transform_images
from vitrea.matching.poses import PoseGrid
from vitrea.matching.reference import ReferenceSet, reference_from_map
from vitrea.records.recorder import Recorder

INITIAL_NOISE_PARTICLES = 1000
WITHIN_PIXEL = 0.75
# Rotation matrices held at once: nine numbers for each particle, several times over.
ROTATIONS_AT_ONCE = 20_000


@dataclass(frozen=True)
class Run:
    """A likelihood run that can be started, or gone on with from any of its states.

    Attributes
    ----------
    data : ParticleData
    settings : Settings
    solvent_mask : ndarray of float32, shape [n, n, n] or [n, n]
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

    def initial_noise(self, indices: NDArray[np.int64]) -> NDArray[np.float64]:
        """Noise spectrum of particles before anything is known: mean power of masked images less that of their mean.

        Parameters
        ----------
        indices : ndarray of int64
            Which particles; some of them are looked at.

        Returns
        -------
        ndarray, shape [groups, shells]
            The same for every group.
        """
        chosen = indices[:INITIAL_NOISE_PARTICLES]
        preparer = self.preparer(self.data.box_size // 2)
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
        # Images were masked with zeros: where noise fills them, or where whole images count, there is more of it.
        partly = self.settings.zero_mask and not self.settings.whole_noise
        share = 1.0 if partly else mask_share(self.data, self.settings)
        noise = np.maximum(power, 1e-12) / (2.0 * np.maximum(counts, 1) * share)
        return np.tile(noise, (len(self.data.group_names), 1))

    def preparer(self, radius: int) -> ImagePreparer:
        """Return what makes images ready up to a Fourier radius."""
        low, high = self.settings.lowest_resolution, self.settings.highest_resolution
        limits = (self.box_angstrom / low if low > 0 else 0.0, self.box_angstrom / high if high > 0 else np.inf)
        return ImagePreparer(self.data, self.settings, radius, limits, self.device)

    def references(self, model: Model, radius: int) -> ReferenceSet:
        """Make the model's references ready to be projected up to a Fourier radius."""
        return ReferenceSet(
            tuple(
                reference_from_map(torch.from_numpy(group.voxels).to(self.device), radius, self.settings.padding)
                for group in model.classes
            )
        )

    def grid(self, sampling: Sampling) -> OrientationGrid:
        """Return the grid of coarse orientations: in the plane where the sampling has no HEALPix order."""
        if sampling.healpix_order < 0:
            return planar_grid(sampling.psi_step, sampling.perturbation)
        return orientation_grid(
            sampling.healpix_order, self.settings.symmetry, sampling.psi_step or None, sampling.perturbation
        )

    def poses(self, sampling: Sampling, classes: int = 1, oversampling: int | None = None) -> PoseGrid:
        """Return the poses that a sampling stands for, oversampled as the settings say or as is asked for."""
        levels = self.settings.oversampling if oversampling is None else oversampling
        pixel = self.data.pixel_size
        step = sampling.offset_step / pixel
        # Images are centred by whole pixels: what is left, half a pixel along x and y, must be within reach.
        coarse = shift_grid(max(sampling.offset_range / pixel, WITHIN_PIXEL), step)
        return PoseGrid(
            self.grid(sampling),
            oversample_shifts(coarse, step, 0, sampling.perturbation),
            oversample_shifts(coarse, step, levels, sampling.perturbation),
            levels,
            classes,
        )

    def accuracy(
        self,
        chosen: NDArray[np.int64],
        particles: ParticleState,
        model: Model,
        number: int,
        references: ReferenceSet,
        preparer: ImagePreparer,
    ) -> tuple[float, float]:
        """Estimate the accuracy of poses in one class.

        Parameters
        ----------
        chosen : ndarray of int64
            Particles to try it with.
        particles : ParticleState
            Of all particles.
        model : Model
        number : int
            The class.
        references : ReferenceSet
        preparer : ImagePreparer

        Returns
        -------
        rotation, translation : float
            Degrees and Å.
        """
        still, neutral = np.zeros((len(chosen), 2)), np.ones(len(chosen))
        images = preparer.prepare(chosen, still, neutral, model.sigma2_noise, model.scale, 0)
        reference, eulers = references.members[number], particles.eulers[chosen]
        planar = model.classes[number].voxels.ndim == 2
        rotation, pixels = estimate_accuracy(images, eulers, reference, preparer.samples, self.settings.seed, planar)
        return rotation, pixels * self.data.pixel_size

    def changes(
        self, before: ParticleState, after: ParticleState, chosen: NDArray[np.int64] | None = None
    ) -> tuple[float, float]:
        """Mean change of the rotations (degrees) and root-mean-square change of the offsets (Å, per axis).

        Of all particles, or of those chosen.
        """
        indices = np.arange(len(before.eulers)) if chosen is None else chosen
        turned, moved = np.empty(len(indices)), np.empty(len(indices))
        for start in range(0, len(indices), ROTATIONS_AT_ONCE):
            part = slice(start, start + ROTATIONS_AT_ONCE)
            rows = indices[part]
            old, new = euler_to_matrix(before.eulers[rows]), euler_to_matrix(after.eulers[rows])
            turned[part] = symmetry_distance(old, new, self.settings.symmetry)
            moved[part] = np.mean((before.shifts[rows] - after.shifts[rows]) ** 2, axis=1)
        return float(np.mean(turned)), float(np.sqrt(np.mean(moved)))


def collect(before: ParticleState, sums: Sequence[Sums], pixel_size: float, keep_norm: bool) -> ParticleState:
    """Put the per-particle results of sums into the table of all particles.

    Parameters
    ----------
    before : ParticleState
    sums : sequence of Sums
    pixel_size : float
        Å.
    keep_norm : bool
        Leave norm corrections as they were.
    """
    count = len(before.norm)
    # Results of all particles in order are taken as they are: at a million particles a copy of each column counts.
    whole = len(sums) == 1 and np.array_equal(sums[0].indices, np.arange(count))

    def merged(old: NDArray[Any], found: Sequence[NDArray[Any]]) -> NDArray[Any]:
        if whole:
            return found[0]
        new = old.copy()
        for part, values in zip(sums, found, strict=True):
            new[part.indices] = values
        return new

    occupancy = before.occupancy
    if (classes := sums[0].occupancy.shape[1]) > 0:
        known = occupancy.shape[1] == classes  # else not asked for until now
        empty = occupancy if known else np.zeros((count, classes), dtype=np.float32)
        occupancy = merged(empty, [part.occupancy for part in sums])
    return ParticleState(
        eulers=merged(before.eulers, [part.eulers for part in sums]),
        shifts=merged(before.shifts, [part.shifts * pixel_size for part in sums]),
        norm=before.norm.copy() if keep_norm else merged(before.norm, [part.norm for part in sums]),
        log_likelihood=merged(before.log_likelihood, [part.log_likelihood for part in sums]),
        pmax=merged(before.pmax, [part.pmax for part in sums]),
        significant=merged(before.significant, [part.significant for part in sums]),
        half=before.half,
        class_index=merged(before.class_index, [part.class_index for part in sums]),
        occupancy=occupancy,
    )
