"""What two independent half maps say about resolution: the FSC curves of ``relion_postprocess``.

References
----------
Chen et al. (2013), doi:10.1016/j.ultramic.2013.06.004: the effect of the mask measured by phase randomisation.
Grant, Rohou & Grigorieff (2018), doi:10.7554/eLife.35383: the FSC of the particle from that of the box.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vitrea.fourier.fsc import (
    fourier_shell_correlation,
    interpolated_resolution_at,
    last_shell_above,
    mask_corrected_fsc,
    shell_resolution,
    without_mask_correlation,
)
from vitrea.fourier.masked_noise import mean_random_phase_fsc, noise_deviation
from vitrea.fourier.random_phases import RelionPhases

Floats = NDArray[np.floating[Any]]
Curve = NDArray[np.float64]

FSC_THRESHOLD = 0.143
"""FSC of independent half maps at the resolution of their sum (Rosenthal & Henderson 2003)."""

FSC_HALF = 0.5
"""The older, stricter threshold: as much signal as noise in each half map."""

_PARTICLE_SHARE_OF_BOX = 0.476
"""RELION's constant for the part of a box that noise fills, in ``f = 0.476 / (part of the box inside the mask)``."""

_DALTON_PER_CUBIC_ANGSTROM = 0.81
"""Of protein at 1.35 g/cm³, as RELION has it."""


_FEIGNED_SHELLS = 0.05
"""Shells of noise that may be expected above 0.143 by the chance of one draw of random phases."""


@dataclass(frozen=True)
class FscSettings:
    """How the FSC of half maps is measured.

    Attributes
    ----------
    randomise_below : float
        Phases are randomised from the first shell whose unmasked FSC is below this.
    randomise_at : float
        Å from which phases are randomised instead; 0: as `randomise_below` has it.
    seed : int
        Of the random phases; the same seed gives RELION's.
    draws : int or None
        Times phases are drawn; their curves are averaged. RELION draws once. 0: the mean of all draws, which is known
        without drawing. None: once, unless noise could then pass for signal (see `draws_needed`).
    molecular_weight : float
        kDa of ordered mass, for the FSC of the particle that follows from it; 0: not known.
    """

    randomise_below: float = 0.8
    randomise_at: float = 0.0
    seed: int = 0
    draws: int | None = None
    molecular_weight: float = 0.0


@dataclass(frozen=True)
class HalfMapFsc:
    """FSC curves between two half maps, each of shape [n // 2 + 1].

    Attributes
    ----------
    voxel_size : float
        Å.
    size : int
        Box size n.
    unmasked : ndarray
        FSC of the half maps as they are.
    corrected : ndarray
        The curve to quote: masked, corrected for the mask's own correlation; the unmasked one without a mask.
    masked, randomised, particle : ndarray or None
        FSC of the masked half maps; of the masked half maps with random phases beyond `randomised_from`; and the FSC
        of the particle inferred from the unmasked curve and the mask's share of the box. None without a mask.
    randomised_from : int or None
        First shell with random phases; None without a mask, or where the unmasked FSC never falls low enough.
    particle_fraction : float or None
        f of ``particle = f FSC / (1 + (f - 1) FSC)``.
    weighed, weight_fraction : ndarray and float, or None
        The same as `particle` and `particle_fraction`, from the molecular weight, where that was given.
    noise : ndarray or None
        Standard deviation that `corrected` has where the maps are noise.
    draws : int or None
        Times phases were drawn for `randomised`; 0: it is the mean of all draws. None where there is no such curve.
    """

    voxel_size: float
    size: int
    unmasked: Curve
    corrected: Curve
    masked: Curve | None = None
    randomised: Curve | None = None
    particle: Curve | None = None
    randomised_from: int | None = None
    particle_fraction: float | None = None
    weighed: Curve | None = None
    weight_fraction: float | None = None
    noise: Curve | None = None
    draws: int | None = None

    @property
    def corrected_shell(self) -> int:
        """Last shell before the corrected curve first falls below 0.143."""
        return last_shell_above(self.corrected.tolist(), FSC_THRESHOLD)

    @property
    def told_shell(self) -> int:
        """Last shell before the corrected curve first falls to where noise may be, but not beyond `corrected_shell`.

        First shells of so few samples that noise might reach 1 tell nothing and are passed over.
        """
        least, told = self.above_noise, 0
        for shell in range(1, self.corrected_shell + 1):
            if least[shell] < 1.0:
                if self.corrected[shell] < least[shell]:
                    break
                told = shell
        return told

    @property
    def final_shell(self) -> int:
        """`corrected_shell`, which is RELION's; 0 where no shell up to it is told from noise."""
        return self.corrected_shell if self.told_shell else 0

    @property
    def resolution(self) -> float:
        """Resolution in Å of `final_shell`; infinite where no shell agrees."""
        return shell_resolution(self.final_shell, self.voxel_size, self.size)

    @property
    def unmasked_shell(self) -> int:
        """Last shell before the unmasked curve first falls below 0.143."""
        return last_shell_above(self.unmasked.tolist(), FSC_THRESHOLD)

    @property
    def above_noise(self) -> Curve:
        """What a shell must reach to be signal: 0.143, or three standard deviations of noise where that is more."""
        least = np.full(len(self.corrected), FSC_THRESHOLD)
        return least if self.noise is None else np.maximum(least, 3.0 * self.noise)

    @property
    def curves(self) -> dict[str, Curve]:
        """The curves there are, by name: unmasked and, with a mask, masked, randomised, corrected."""
        found = {"unmasked": self.unmasked, "masked": self.masked, "randomised": self.randomised}
        if self.masked is not None:
            found["corrected"] = self.corrected
        return {name: curve for name, curve in found.items() if curve is not None}

    def crossing(self, curve: Curve, threshold: float) -> float | None:
        """Return where a curve, drawn with straight lines, first falls below a threshold, in Å.

        None where it never does: the pixels then limit the resolution, not the data. Infinite where the first shell is
        below.
        """
        if (curve[1:] >= threshold).all():
            return None
        return interpolated_resolution_at(curve.tolist(), threshold, self.voxel_size, self.size)

    def without_mask(self) -> HalfMapFsc:
        """Return the unmasked curve alone, as if no mask had been given."""
        return HalfMapFsc(
            self.voxel_size,
            self.size,
            self.unmasked,
            self.unmasked,
            weighed=self.weighed,
            weight_fraction=self.weight_fraction,
            noise=_noise(torch.ones((self.size,) * 3)),
        )


def half_map_fsc(
    half1: Floats,
    half2: Floats,
    voxel_size: float,
    mask: Floats | None = None,
    settings: FscSettings | None = None,
) -> HalfMapFsc:
    """Compute the unmasked, masked, phase-randomised and corrected FSC of two half maps.

    Parameters
    ----------
    half1, half2 : ndarray, shape [n, n, n]
        Unfiltered half maps of independent refinements.
    voxel_size : float
        Å.
    mask : ndarray, shape [n, n, n], optional
        Soft solvent mask, 0 to 1.
    settings : FscSettings, optional

    Returns
    -------
    HalfMapFsc
        ``corrected = (masked - randomised) / (1 - randomised)`` from two shells beyond the first randomised one, and
        equal to `masked` before.
    """
    settings = settings or FscSettings()
    first, second = as_tensor(half1), as_tensor(half2)
    size = int(first.shape[-1])
    unmasked = _correlate(first, second)
    found = HalfMapFsc(voxel_size, size, unmasked, unmasked)
    if mask is None:
        found = found.without_mask()
    if settings.molecular_weight > 0:
        factor = weight_fraction(settings.molecular_weight, size * voxel_size)
        found = replace(found, weighed=particle_curve(unmasked, factor), weight_fraction=factor)
    if mask is None:
        return found
    fraction = particle_fraction(mask)
    found = replace(found, particle=particle_curve(unmasked, fraction), particle_fraction=fraction)
    weight = as_tensor(mask).to(first.dtype)
    masked, noise = _correlate(first * weight, second * weight), _noise(weight)
    found = replace(found, masked=masked, corrected=masked, noise=noise)
    start = _first_randomised(unmasked, size * voxel_size, settings)
    if start is None:
        return found
    draws = draws_needed(noise[start + 2 :]) if settings.draws is None else settings.draws
    if draws == 0:
        random = mean_random_phase_fsc(first, second, weight, start)
        corrected = without_mask_correlation(torch.from_numpy(masked), random, start)
    else:
        _, random, corrected = mask_corrected_fsc(first, second, weight, start, RelionPhases(settings.seed), draws)
    randomised = _as_curve(random)
    # A correlation r scatters by 1 - r² of what 0 does, and the correction divides by 1 - r.
    widened = (1.0 + np.clip(randomised, 0.0, 1.0)) * math.sqrt(1.0 + (1.0 / draws if draws else 0.0))
    noise = noise * np.where(np.arange(len(noise)) >= start + 2, widened, 1.0)
    return replace(
        found, randomised=randomised, corrected=_as_curve(corrected), randomised_from=start, noise=noise, draws=draws
    )


def draws_needed(noise: Curve) -> int:
    """Return how often phases must be drawn so that noise does not pass for signal: once, or 0 for the mean of all.

    The correction takes one noisy curve from another. Where a mask holds few independent samples, one draw makes it
    likely that some shell of mere noise comes to lie above 0.143.

    Parameters
    ----------
    noise : ndarray, shape [shells]
        Standard deviation of the masked FSC of noise, in the shells that are corrected.

    Returns
    -------
    int
        1, as in RELION, where one draw leaves fewer than 0.05 shells above 0.143 on average.
    """
    single = math.sqrt(2.0) * noise
    feigned = sum(0.5 * math.erfc(FSC_THRESHOLD / (math.sqrt(2.0) * deviation)) for deviation in single)
    return 1 if feigned < _FEIGNED_SHELLS else 0


def _noise(mask: torch.Tensor) -> Curve:
    deviation: Curve = noise_deviation(mask).numpy()
    return deviation


def _first_randomised(unmasked: Curve, extent: float, settings: FscSettings) -> int | None:
    """Return the first shell with random phases; None where no shell beyond the first two would be corrected."""
    if settings.randomise_at > 0:
        start = int(extent / settings.randomise_at)
        return start if 0 < start < len(unmasked) else None
    low = np.flatnonzero(unmasked[1:] < settings.randomise_below) + 1
    return int(low[0]) if len(low) else None


def particle_curve(unmasked: Curve, factor: float) -> Curve:
    """Return the FSC of the particle alone, ``f FSC / (1 + (f - 1) FSC)``, from that of the box."""
    return factor * unmasked / (1.0 + (factor - 1.0) * unmasked)


def weight_fraction(molecular_weight: float, extent: float) -> float:
    """Return RELION's f for a particle of a molecular weight in kDa and a box of an extent in Å."""
    return _PARTICLE_SHARE_OF_BOX * extent**3 * _DALTON_PER_CUBIC_ANGSTROM / (1000.0 * molecular_weight)


def particle_fraction(mask: Floats) -> float:
    """Return RELION's f: 0.476 over the fraction of voxels in which a mask exceeds one half."""
    inside = float(np.mean(np.asarray(mask) > 0.5))
    return _PARTICLE_SHARE_OF_BOX / inside if inside > 0 else float("inf")


def as_tensor(density: Floats) -> torch.Tensor:
    """Return voxels as a tensor of float32, or of float64 if that is what they are."""
    kind = np.float64 if density.dtype == np.float64 else np.float32
    return torch.from_numpy(np.ascontiguousarray(density, dtype=kind))


def _correlate(first: torch.Tensor, second: torch.Tensor) -> Curve:
    return _as_curve(fourier_shell_correlation(first, second))


def _as_curve(values: torch.Tensor) -> Curve:
    curve: Curve = values.double().numpy()
    # The mean of a map says nothing about agreement: shell 0 is 1 by convention.
    curve[0] = 1.0
    return curve
