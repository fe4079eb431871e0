"""How many independent samples a shell of two maps holds, as the maps themselves tell.

Maps of particles whose poses are hardly known are nearly radial: every image went into them from all sides. A whole
shell is then one number, and two halves of noise agree in it, or disagree, by chance. With C the covariance of the
components of a shell, the FSC of independent maps has the variance ``tr(C1 C2) / (tr C1 tr C2)``. All directions being
alike, C depends on the angle between two components alone, and can be estimated from one map.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vitrea.fourier.grid import frequency_axes
from vitrea.fourier.transforms import to_fourier

_COMPONENTS = 256  # of a shell, whose pairs are looked at
_ANGLES = 24  # ranges of the cosine between -1 and 1


def independent_samples(first: Tensor, second: Tensor, seed: int = 0) -> Tensor:
    """Return how many independent samples make the FSC of two maps in each shell.

    Parameters
    ----------
    first, second : Tensor, shape [n, n, n]
        Independent maps: what they have in common by chance does not lower the number.
    seed : int
        Of the choice of components.

    Returns
    -------
    Tensor of float64, shape [n // 2 + 1]
        One over the variance that the FSC of two such maps has where they share nothing; at least 1, and infinite where
        angles show no correlation at all. Neighbours closer than a few degrees, and symmetry, are not noticed: see
        `masked_noise.noise_deviation`.
    """
    size = first.shape[-1]
    x, y, z = frequency_axes(size, 3, dtype=torch.float64, device=first.device)
    shape = (size, size, size // 2 + 1)
    points = torch.stack([axis.expand(shape) for axis in (x, y, z)], dim=-1).reshape(-1, 3)
    shells = points.square().sum(dim=1).sqrt().round().long()
    transforms = [to_fourier(volume, 3).flatten() for volume in (first, second)]
    order = torch.argsort(shells, stable=True)
    bounds = torch.searchsorted(shells[order], torch.arange(size // 2 + 2, device=first.device)).tolist()
    generator = torch.Generator(first.device).manual_seed(seed)
    found = torch.ones(size // 2 + 1, dtype=torch.float64, device=first.device)
    for shell in range(1, size // 2 + 1):
        members = order[bounds[shell] : bounds[shell + 1]]
        chosen = members[torch.randperm(len(members), generator=generator, device=first.device)[:_COMPONENTS]]
        one, other = (_by_angle(transform[chosen], points[chosen]) for transform in transforms)
        variance = (one[0] * one[1] * other[1]).sum() / one[0].sum()
        found[shell] = 1.0 / variance.clamp(1e-12, 1.0)
    return found


def _by_angle(values: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
    """Return the number of pairs of components, and their mean correlation, in each range of angles.

    A pair stands for two angles: Friedel's mate of one component lies opposite.
    """
    directions = points / points.norm(dim=1, keepdim=True)
    above = torch.triu(torch.ones(len(values), len(values), dtype=torch.bool, device=values.device), diagonal=1)
    cosine = (directions @ directions.T)[above]
    pairs = [
        (cosine, torch.outer(values, values.conj()).real[above]),
        (-cosine, torch.outer(values, values).real[above]),
    ]
    index = torch.cat([((angle + 1) / 2 * _ANGLES).long().clamp(0, _ANGLES - 1) for angle, _ in pairs])
    products = torch.cat([product for _, product in pairs]).double()
    counts = torch.bincount(index, minlength=_ANGLES).double()
    sums = torch.bincount(index, weights=products, minlength=_ANGLES)
    power = values.abs().double().square().mean().clamp_min(torch.finfo(torch.float64).tiny)
    return counts, sums / counts.clamp_min(1.0) / power
