"""The maximisation step: from the sums over particles to the next model."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vitrea.fourier.filters import splice
from vitrea.fourier.fsc import fourier_shell_correlation, without_mask_correlation
from vitrea.fourier.masked_noise import mean_random_phase_fsc
from vitrea.fourier.packed import packed_samples
from vitrea.fourier.shells import radial_power_spectrum
from vitrea.geometry.masks import soft_sphere
from vitrea.geometry.symmetry import symmetry_matrices
from vitrea.likelihood.data import ParticleData, noise_share
from vitrea.likelihood.settings import Settings
from vitrea.likelihood.state import ClassModel, FloatArray, Model
from vitrea.likelihood.sums import Sums
from vitrea.reconstruction.accumulator import FourierAccumulator, join_below

# A group's noise spectrum is drawn towards that of all particles as if it held this many more average particles:
# a small group is kept from fitting its own noise.
NOISE_PRIOR_PARTICLES = 5.0
# An FSC of exactly 0 or 1 would make tau2 zero or infinite.
FSC_RANGE = (0.001, 0.999)
# Intensity scales beyond these factors of the mean come from groups too small or too empty to tell.
SCALE_RANGE = (0.2, 5.0)
# Fewer particles than this make no class.
SMALLEST_MASS = 0.5
# In a classification, signal below this many times the noise, T included, counts as none.
CLEAR_SIGNAL = 2.0
# Shells below this one are not regularised in a classification (RELION's choice).
FEWEST_SHELLS = 5
# The effect of a mask on the FSC is measured with random phases from where the unmasked FSC falls below this.
RANDOMISE_BELOW = 0.8


@dataclass(frozen=True)
class Maximiser:
    """Makes models out of sums.

    Attributes
    ----------
    data : ParticleData
    settings : Settings
    solvent_mask : ndarray of float32, shape [n, n, n] or [n, n]
        Multiplies references (with `flatten_solvent`).
    keep_noise : bool
        Leave noise spectra, scales and norm corrections as they are: after a first iteration by cross-correlation
        the reference is not on the greyscale of the images, and their difference means nothing.
    keep_prior : bool
        Leave the probabilities of directions as they are: where orientations were not searched.
    smallest_offset : float
        The width of the prior on offsets does not fall below this, Å.
    """

    data: ParticleData
    settings: Settings
    solvent_mask: NDArray[np.float32]
    keep_noise: bool = False
    keep_prior: bool = False
    smallest_offset: float = 0.5

    def halves(
        self, sums: tuple[Sums, Sums], models: tuple[Model, Model], shared_radius: float, join: bool = True
    ) -> tuple[Model, Model]:
        """Make the two half models; the sums' accumulators are completed, and joined at low resolution, on the way.

        Parameters
        ----------
        sums, models
            Of half sets 1 and 2; the models are those the sums were made with.
        shared_radius : float
            Fourier radius in pixels up to which the halves have something in common.
        join : bool
            Join them up to there: without a common frame the halves would drift apart.
        """
        one, two = (half.accumulators[0] for half in sums)
        self.complete((one, two))
        shared = int(shared_radius)
        if join:
            join_below(one, two, shared_radius)
        plain = [half.reconstruct() for half in (one, two)]
        # What the halves have in common would leak into the next shells through the edges of box and mask: it must not
        # pass for agreement.
        apart = [half.reconstruct(above=shared) for half in (one, two)]
        if join:
            fsc = self._fsc(apart[0], apart[1], shared + 1)
            fsc[: shared + 1] = 1.0
        else:
            plain = [splice(whole, fine, shared) for whole, fine in zip(plain, apart, strict=True)]
            fsc = self._fsc(plain[0], plain[1], 1)
            fsc[0] = 1.0
        fsc[np.arange(len(fsc)) > one.radius] = 0.0
        first, second = (
            self._statistics(
                half, model.with_classes([self._from_fsc(half, model, fsc, np.clip(fsc, *FSC_RANGE), map)])
            )
            for half, model, map in zip(sums, models, plain, strict=True)
        )
        return first, second

    def complete(self, accumulators: Iterable[FourierAccumulator]) -> None:
        """Finish sums: Friedel mates, and the operators of the point group."""
        operators = torch.from_numpy(symmetry_matrices(self.settings.symmetry).astype(np.float32))
        for accumulator in accumulators:
            accumulator.finish(operators.to(accumulator.data.device))

    def classes(self, sums: Sums, model: Model, complete: bool = True) -> Model:
        """Make the model of a classification; a class that no particle chose keeps its reference, its share is zero.

        There is no gold standard: the signal's variance follows from the power of each reference (`signal_variance`).

        Parameters
        ----------
        sums : Sums
            Their accumulators are completed on the way.
        model : Model
            The one they were made with.
        complete : bool
            Whether the accumulators are still to be completed.
        """
        if complete:
            self.complete(sums.accumulators)
        mass = sums.directions.sum(axis=1)
        share = mass / max(float(mass.sum()), 1e-12)
        found = []
        for number, group in enumerate(model.classes):
            if mass[number] < SMALLEST_MASS:
                found.append(replace(group, share=0.0))
                continue
            accumulator = sums.accumulators[number]
            plain = accumulator.reconstruct()
            power, noise_share = self._reference_power(plain)
            tau2 = signal_variance(power, self._noise_of(accumulator), self.settings.tau2_fudge, noise_share)
            updated = self._regularised(accumulator, group, tau2, np.zeros(len(tau2)), plain)
            found.append(replace(updated, share=float(share[number])))
        return self._statistics(sums, model.with_classes(found))

    def _reference_power(self, plain: Tensor) -> tuple[FloatArray, float]:
        """Power per real or imaginary part of the slices of a masked reference, and the share of noise left in it."""
        noise_share = 1.0
        if self.settings.flatten_solvent:
            mask = torch.from_numpy(self.solvent_mask).to(plain.device)
            plain, noise_share = plain * mask, float(mask.square().mean())
        # A slice of an orthonormal 3D transform is short of that of the projection by sqrt(n).
        unit = float(plain.shape[-1]) ** (plain.ndim - 2)
        power: FloatArray = 0.5 * unit * radial_power_spectrum(plain.double(), plain.ndim).cpu().numpy()
        return power, noise_share

    def _fsc(self, first: Tensor, second: Tensor, start: int) -> FloatArray:
        """FSC of half maps from shell `start` on; inside the mask, corrected for the mask, where that is wanted."""
        unmasked: FloatArray = fourier_shell_correlation(first, second).double().cpu().numpy()
        low = np.flatnonzero(unmasked[start:] < RANDOMISE_BELOW) + start
        if not self.settings.solvent_correct_fsc or len(low) == 0:
            return unmasked
        mask = torch.from_numpy(self.solvent_mask).to(first.device)
        masked = fourier_shell_correlation(first * mask, second * mask).double()
        randomised = mean_random_phase_fsc(first, second, mask, int(low[0]))
        fsc: FloatArray = without_mask_correlation(masked, randomised, int(low[0])).cpu().numpy()
        return fsc

    def joined(self, sums: tuple[Sums, Sums], models: tuple[Model, Model]) -> Model:
        """Make the model of all particles, after `halves`; the sums of the first half become those of both.

        Its prior is the FSC that all data would have, ``sqrt(2 FSC / (1 + FSC))`` (Rosenthal & Henderson 2003,
        doi:10.1016/j.jmb.2003.07.013, equation 15).
        """
        total = sums[0].accumulators[0]
        total.add_scaled(sums[1].accumulators[0], 1.0)
        fsc = models[0].classes[0].fsc
        positive = np.clip(fsc, 0.0, 1.0)
        whole = np.clip(np.sqrt(2 * positive / (1 + positive)), *FSC_RANGE)
        plain = total.reconstruct()
        group = models[0].classes[0]
        tau2 = whole / (1.0 - whole) * self._noise_of(total)
        return models[0].with_classes([self._regularised(total, group, tau2, fsc, plain)])

    def _from_fsc(self, half: Sums, model: Model, fsc: FloatArray, strength: FloatArray, plain: Tensor) -> ClassModel:
        """Reconstruct with the prior that follows from an FSC."""
        tau2 = strength / (1.0 - strength) * self._noise_of(half.accumulators[0])
        return self._regularised(half.accumulators[0], model.classes[0], tau2, fsc, plain)

    def _noise_of(self, accumulator: FourierAccumulator) -> FloatArray:
        """Noise variance of a reconstruction in each shell."""
        weight = accumulator.shell_weight().cpu().numpy()
        return np.where(weight > 0, 1.0 / np.maximum(weight, 1e-30), 0.0)

    def _regularised(
        self, accumulator: FourierAccumulator, group: ClassModel, tau2: FloatArray, fsc: FloatArray, plain: Tensor
    ) -> ClassModel:
        """Reconstruct with a prior of variance tau2."""
        sigma2 = self._noise_of(accumulator)
        ssnr = np.where(sigma2 > 0, tau2 / np.maximum(sigma2, 1e-30), 0.0)
        voxels = accumulator.reconstruct(torch.from_numpy(tau2), self.settings.tau2_fudge).cpu().numpy()
        if self.settings.flatten_solvent:
            voxels = voxels * self.solvent_mask
        return replace(
            group,
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
        prior = torch.from_numpy(1.0 / np.maximum(tau2 * self.settings.tau2_fudge, 1e-30))
        found: FloatArray = accumulator.completeness(prior).cpu().numpy()
        return found

    def _statistics(self, sums: Sums, model: Model) -> Model:
        """Update noise, scales and priors."""
        sigma_offset = np.sqrt(sums.offset_square / max(2.0 * sums.mass, 1e-12)) * self.data.pixel_size
        updated = replace(
            model,
            classes=tuple(
                replace(group, direction_prior=mass / mass.sum()) if mass.sum() > 0 and not self.keep_prior else group
                for group, mass in zip(model.classes, sums.directions, strict=True)
            ),
            sigma_offset=max(float(sigma_offset), self.smallest_offset),
            log_likelihood=float(sums.log_likelihood.sum()),
            average_pmax=float(sums.pmax.mean()),
        )
        if self.keep_noise:
            return updated
        return replace(
            updated,
            sigma2_noise=self.noise(sums),
            scale=self._scale(sums, model.scale) if self.settings.scale_correction else model.scale,
            average_norm=float(sums.norm.mean()),
        )

    def noise(self, sums: Sums) -> FloatArray:
        """Noise spectra that an expectation step leaves, shape [groups, shells]; small groups follow the others."""
        size = self.data.box_size
        samples = np.bincount(packed_samples(size, size // 2).shell, minlength=size // 2 + 1)[: size // 2 + 1]
        divisor = 2.0 * np.maximum(samples, 1) * noise_share(self.data, self.settings)
        average = sums.residual.sum(axis=0) / (divisor * max(sums.counts.sum(), 1.0))
        noise: FloatArray = (sums.residual / divisor + NOISE_PRIOR_PARTICLES * average) / (
            sums.counts + NOISE_PRIOR_PARTICLES
        )[:, None]
        return noise

    def _scale(self, sums: Sums, previous: FloatArray) -> FloatArray:
        known = sums.strength > 0
        if not known.any():
            return previous
        scale = np.where(known, sums.agreement / np.maximum(sums.strength, 1e-30), 1.0)
        scale = np.clip(scale, *SCALE_RANGE)
        # The mean over particles is one: otherwise scale and map could drift apart together.
        return np.where(known, scale / np.average(scale, weights=sums.counts), 1.0)


def signal_variance(power: FloatArray, sigma2: FloatArray, fudge: float, noise_share: float = 1.0) -> FloatArray:
    """Estimate the variance of the signal in each shell from the power of an unregularised reference.

    The samples of a shell are signal plus noise, Gaussian both, of variances tau² and sigma²; their likelihood is
    largest for ``tau² = power - sigma²`` (empirical Bayes; Efron & Morris 1973). Particles that were aligned to a
    reference agree with its noise, which adds to the power: where ``T tau² < 2 sigma²`` the signal counts as none.
    RELION takes the power of the regularised reference of the iteration before (Scheres 2012,
    doi:10.1016/j.jmb.2011.11.010, equation 4), which comes to the same where signal is strong, and with T = 2 to
    nothing at the same place.
    The first shells hold too few samples to tell: their power counts as signal.

    Parameters
    ----------
    power : ndarray, shape [shells]
        Per real or imaginary part of a slice.
    sigma2 : ndarray, shape [shells]
        Noise variance of the reference; zero where there are no data.
    fudge : float
        RELION's T.
    noise_share : float
        How much of the noise a mask has left in `power`.
    """
    signal = power - noise_share * sigma2
    tau2 = np.where((sigma2 > 0) & (fudge * signal >= CLEAR_SIGNAL * sigma2), signal, 0.0)
    tau2[:FEWEST_SHELLS] = np.where(sigma2 > 0, power, 0.0)[:FEWEST_SHELLS]
    return tau2


def round_mask(size: int, diameter: float, pixel_size: float, edge: float, dims: int = 3) -> NDArray[np.float32]:
    """Return the mask of a reference when the user gives none: a ball or disc of the particle's diameter (Å)."""
    return soft_sphere(size, diameter / (2 * pixel_size), edge, dims=dims).astype(np.float32)
