"""The maximisation step: from the sums over particles to the next model."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vitrea.fourier.fsc import fourier_shell_correlation, mask_corrected_fsc
from vitrea.fourier.packed import packed_samples
from vitrea.geometry.masks import soft_sphere
from vitrea.geometry.symmetry import symmetry_matrices
from vitrea.likelihood.data import ParticleData
from vitrea.likelihood.settings import Settings
from vitrea.likelihood.state import FloatArray, HalfModel
from vitrea.likelihood.sums import HalfSums
from vitrea.reconstruction.accumulator import FourierAccumulator, combine, join_below

# A group's noise spectrum is drawn towards that of all particles as if it held this many more average particles:
# a small group is kept from fitting its own noise.
NOISE_PRIOR_PARTICLES = 5.0
# An FSC of exactly 0 or 1 would make tau2 zero or infinite.
FSC_RANGE = (0.001, 0.999)
# Intensity scales beyond these factors of the mean come from groups too small or too empty to tell.
SCALE_RANGE = (0.2, 5.0)
SMALLEST_SIGMA_OFFSET = 0.5
# The effect of a mask on the FSC is measured with random phases from where the unmasked FSC falls below this.
RANDOMISE_BELOW = 0.8


@dataclass(frozen=True)
class Maximiser:
    """Makes models out of sums.

    Attributes
    ----------
    data : ParticleData
    settings : Settings
    solvent_mask : ndarray of float32, shape [n, n, n]
        Multiplies references (with `flatten_solvent`).
    keep_noise : bool
        Leave noise spectra, scales and norm corrections as they are: after a first iteration by cross-correlation
        the reference is not on the greyscale of the images, and their difference means nothing.
    """

    data: ParticleData
    settings: Settings
    solvent_mask: NDArray[np.float32]
    keep_noise: bool = False

    def halves(
        self, sums: tuple[HalfSums, HalfSums], models: tuple[HalfModel, HalfModel], join_radius: float
    ) -> tuple[HalfModel, HalfModel]:
        """Make the two half models; the sums' accumulators are completed and joined at low resolution on the way.

        Parameters
        ----------
        sums, models
            Of half sets 1 and 2; the models are those the sums were made with.
        join_radius : float
            Fourier radius in pixels up to which the halves are joined.
        """
        for half in sums:
            operators = torch.from_numpy(symmetry_matrices(self.settings.symmetry).astype(np.float32))
            half.accumulator.finish(operators.to(half.accumulator.data.device))
        join_below(sums[0].accumulator, sums[1].accumulator, join_radius)
        plain = [half.accumulator.reconstruct() for half in sums]
        # What the halves share would leak into the next shells through the edges of box and mask: it must not pass for
        # agreement.
        shared = int(join_radius)
        apart = [half.accumulator.reconstruct(above=shared) for half in sums]
        fsc = self._fsc(apart[0], apart[1], shared + 1)
        fsc[: shared + 1] = 1.0
        fsc[np.arange(len(fsc)) > sums[0].accumulator.radius] = 0.0
        first, second = (
            self._statistics(
                half,
                self._regularised(half.accumulator, model, fsc, np.clip(fsc, *FSC_RANGE), voxels),
            )
            for half, model, voxels in zip(sums, models, plain, strict=True)
        )
        return first, second

    def _fsc(self, first: Tensor, second: Tensor, start: int) -> FloatArray:
        """FSC of half maps from shell `start` on; inside the mask, corrected for the mask, where that is wanted."""
        unmasked: FloatArray = fourier_shell_correlation(first, second).double().cpu().numpy()
        low = np.flatnonzero(unmasked[start:] < RANDOMISE_BELOW) + start
        if not self.settings.solvent_correct_fsc or len(low) == 0:
            return unmasked
        mask = torch.from_numpy(self.solvent_mask).to(first.device)
        generator = torch.Generator(first.device).manual_seed(self.settings.seed)
        _, _, corrected = mask_corrected_fsc(first, second, mask, int(low[0]), generator)
        fsc: FloatArray = corrected.cpu().numpy()
        return fsc

    def joined(self, sums: tuple[HalfSums, HalfSums], models: tuple[HalfModel, HalfModel]) -> HalfModel:
        """Make the model of all particles, after `halves`; its prior is the FSC that all data would have.

        ``sqrt(2 FSC / (1 + FSC))`` (Rosenthal & Henderson 2003, doi:10.1016/j.jmb.2003.07.013, equation 15).
        """
        total = combine(sums[0].accumulator, sums[1].accumulator)
        fsc = models[0].fsc
        positive = np.clip(fsc, 0.0, 1.0)
        whole = np.clip(np.sqrt(2 * positive / (1 + positive)), *FSC_RANGE)
        plain = total.reconstruct()
        return self._regularised(total, models[0], fsc, whole, plain)

    def _regularised(
        self, accumulator: FourierAccumulator, model: HalfModel, fsc: FloatArray, strength: FloatArray, plain: Tensor
    ) -> HalfModel:
        """Reconstruct with the prior that follows from an FSC."""
        weight = accumulator.shell_weight().cpu().numpy()
        sigma2 = np.where(weight > 0, 1.0 / np.maximum(weight, 1e-30), 0.0)
        ssnr = strength / (1.0 - strength)
        tau2 = ssnr * sigma2
        voxels = accumulator.reconstruct(torch.from_numpy(tau2), self.settings.tau2_fudge).cpu().numpy()
        if self.settings.flatten_solvent:
            voxels = voxels * self.solvent_mask
        return replace(
            model,
            voxels=voxels.astype(np.float32),
            unfiltered=plain.cpu().numpy(),
            tau2=tau2,
            sigma2_map=sigma2,
            ssnr=ssnr * self.settings.tau2_fudge,
            fsc=fsc,
            completeness=self._completeness(accumulator, tau2),
        )

    def _completeness(self, accumulator: FourierAccumulator, tau2: FloatArray) -> FloatArray:
        """Fraction of the voxels in each shell where the data outweigh the prior."""
        shells = accumulator.shells()
        inside = shells < len(tau2)
        index = shells[inside]
        prior = torch.from_numpy(1.0 / np.maximum(tau2 * self.settings.tau2_fudge, 1e-30)).to(torch.float32)
        enough = accumulator.weight[inside] * accumulator.padding**3 >= prior.to(index.device)[index]
        known = torch.bincount(index, weights=enough.double(), minlength=len(tau2))
        return (known / torch.bincount(index, minlength=len(tau2)).clamp(min=1)).cpu().numpy()

    def _statistics(self, sums: HalfSums, model: HalfModel) -> HalfModel:
        """Update noise, scales and priors."""
        sigma_offset = np.sqrt(sums.offset_square / max(2.0 * sums.mass, 1e-12)) * self.data.pixel_size
        updated = replace(
            model,
            direction_prior=sums.directions / max(sums.directions.sum(), 1e-12),
            sigma_offset=max(float(sigma_offset), SMALLEST_SIGMA_OFFSET),
            log_likelihood=float(sums.log_likelihood.sum()),
            average_pmax=float(sums.pmax.mean()),
        )
        if self.keep_noise:
            return updated
        return replace(
            updated,
            sigma2_noise=self._noise(sums),
            scale=self._scale(sums, model.scale) if self.settings.scale_correction else model.scale,
            average_norm=float(sums.norm.mean()),
        )

    def _noise(self, sums: HalfSums) -> FloatArray:
        size = self.data.box_size
        samples = np.bincount(packed_samples(size, size // 2).shell, minlength=size // 2 + 1)[: size // 2 + 1]
        divisor = 2.0 * np.maximum(samples, 1)
        average = sums.residual.sum(axis=0) / (divisor * max(sums.counts.sum(), 1.0))
        noise: FloatArray = (sums.residual / divisor + NOISE_PRIOR_PARTICLES * average) / (
            sums.counts + NOISE_PRIOR_PARTICLES
        )[:, None]
        return noise

    def _scale(self, sums: HalfSums, previous: FloatArray) -> FloatArray:
        known = sums.strength > 0
        if not known.any():
            return previous
        scale = np.where(known, sums.agreement / np.maximum(sums.strength, 1e-30), 1.0)
        scale = np.clip(scale, *SCALE_RANGE)
        # The mean over particles is one: otherwise scale and map could drift apart together.
        return np.where(known, scale / np.average(scale, weights=sums.counts), 1.0)


def spherical_mask(size: int, diameter: float, pixel_size: float, edge: float) -> NDArray[np.float32]:
    """Return the mask of a reference when the user gives none: a ball of the particle's diameter (Å)."""
    return soft_sphere(size, diameter / (2 * pixel_size), edge, dims=3).astype(np.float32)
