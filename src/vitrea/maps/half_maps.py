"""What two independent half maps say about resolution: the FSC curves of ``relion_postprocess``.

References
----------
Chen et al. (2013), doi:10.1016/j.ultramic.2013.06.004: the effect of the mask measured by phase randomisation.
Grant, Rohou & Grigorieff (2018), doi:10.7554/eLife.35383: the FSC of the particle from that of the box.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vitrea.fourier.fsc import fourier_shell_correlation, last_shell_above, mask_corrected_fsc, shell_resolution

Floats = NDArray[np.floating[Any]]
Curve = NDArray[np.float64]

FSC_THRESHOLD = 0.143
"""FSC of independent half maps at the resolution of their sum (Rosenthal & Henderson 2003)."""

_PARTICLE_SHARE_OF_BOX = 0.476
"""RELION's constant for the part of a box that noise fills, in ``f = 0.476 / (part of the box inside the mask)``."""


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

    @property
    def final_shell(self) -> int:
        """Last shell before the corrected curve first falls below 0.143."""
        return last_shell_above(self.corrected.tolist(), FSC_THRESHOLD)

    @property
    def resolution(self) -> float:
        """Resolution in Å of `final_shell`; infinite where no shell agrees."""
        return shell_resolution(self.final_shell, self.voxel_size, self.size)

    @property
    def unmasked_shell(self) -> int:
        """Last shell before the unmasked curve first falls below 0.143."""
        return last_shell_above(self.unmasked.tolist(), FSC_THRESHOLD)

    def without_mask(self) -> HalfMapFsc:
        """Return the unmasked curve alone, as if no mask had been given."""
        return HalfMapFsc(self.voxel_size, self.size, self.unmasked, self.unmasked)


def half_map_fsc(
    half1: Floats,
    half2: Floats,
    voxel_size: float,
    mask: Floats | None = None,
    randomise_below: float = 0.8,
    seed: int = 0,
    randomisations: int = 4,
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
    randomise_below : float
        Phases are randomised from the first shell whose unmasked FSC is below this.
    seed : int
        Of the random phases.
    randomisations : int
        How many times phases are drawn; their curves are averaged. RELION draws once, which alone scatters an
        automatic B-factor by about 2%.

    Returns
    -------
    HalfMapFsc
        ``corrected = (masked - randomised) / (1 - randomised)`` from two shells beyond the first randomised one, and
        equal to `masked` before.
    """
    first, second = as_tensor(half1), as_tensor(half2)
    size = int(first.shape[-1])
    unmasked = _correlate(first, second)
    if mask is None:
        return HalfMapFsc(voxel_size, size, unmasked, unmasked)
    weight = as_tensor(mask).to(first.dtype)
    masked = _correlate(first * weight, second * weight)
    fraction = particle_fraction(mask)
    particle = fraction * unmasked / (1.0 + (fraction - 1.0) * unmasked)
    low = np.flatnonzero(unmasked[1:] < randomise_below) + 1
    if len(low) == 0:
        return HalfMapFsc(voxel_size, size, unmasked, masked, masked, None, particle, None, fraction)
    start = int(low[0])
    generator = torch.Generator().manual_seed(seed)
    curves = mask_corrected_fsc(first, second, weight, start, generator, randomisations)
    masked, randomised, corrected = (_as_curve(curve) for curve in curves)
    return HalfMapFsc(voxel_size, size, unmasked, corrected, masked, randomised, particle, start, fraction)


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
