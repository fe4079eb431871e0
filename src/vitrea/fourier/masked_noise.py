"""What noise inside a mask correlates by: on average where phases are random, and by chance where maps are noise.

A mask multiplies maps, and so convolves their transforms: neighbouring components become alike. Two things follow. What
is left of low-resolution signal leaks into the shells beyond (the correlation that phase randomisation measures). And a
shell holds fewer independent components than samples, so that its correlation scatters more.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vitrea.fourier.fsc import shell_correlation
from vitrea.fourier.grid import frequency_radius, redundancy
from vitrea.fourier.shells import shell_counts
from vitrea.fourier.transforms import to_fourier, to_real

_RADII = 16  # at which a shell, one component thick, is looked at


def random_phase_spectra(first: Tensor, second: Tensor, mask: Tensor, from_shell: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the mean spectra, over all draws of random phases, of two maps inside a mask.

    Components whose phases are drawn have no mean. The mean cross spectrum is therefore that of the maps without them,
    and the mean power is the power of these plus that of the others convolved with the power of the mask: the transform
    of the product of their autocorrelations.

    Parameters
    ----------
    first, second : Tensor, shape [n, n, n]
        Independent half maps, unmasked.
    mask : Tensor, shape [n, n, n]
        0 to 1.
    from_shell : int
        Components at this radius (cycles per box) and beyond have random phases.

    Returns
    -------
    cross, first power, second power : Tensor, real, shape [n, n, n // 2 + 1]
        In the Fourier layout; the real part of the cross spectrum.
    """
    size = first.shape[-1]
    beyond = frequency_radius(size, 3, dtype=torch.float64, device=first.device) >= from_shell
    overlap = _autocorrelation(to_fourier(mask, 3).abs().square(), size)
    kept, powers = [], []
    for volume in (first, second):
        transform = to_fourier(volume, 3)
        random = _autocorrelation(torch.where(beyond, transform.abs().square(), 0.0), size)
        masked = to_fourier(to_real(torch.where(beyond, 0.0, transform), size, 3) * mask, 3)
        kept.append(masked)
        powers.append(masked.abs().square() + to_fourier(random * overlap, 3).real / size**1.5)
    return (kept[0] * kept[1].conj()).real, powers[0], powers[1]


def _autocorrelation(power: Tensor, size: int) -> Tensor:
    """Return the map whose transform is a power spectrum."""
    return to_real(torch.complex(power, torch.zeros_like(power)), size, 3)


def mean_random_phase_fsc(first: Tensor, second: Tensor, mask: Tensor, from_shell: int) -> Tensor:
    """Return the FSC of masked maps with random phases as the mean of all draws; arguments as `random_phase_spectra`.

    Returns
    -------
    Tensor of float64, shape [n // 2 + 1]
        Correlation of mean spectra, counted as `fourier_shell_correlation` counts.
    """
    return shell_correlation(*random_phase_spectra(first, second, mask, from_shell), first.shape[-1]).double()


def noise_deviation(mask: Tensor) -> Tensor:
    """Return by how much the FSC of two maps of pure noise inside a mask scatters about 0.

    With C the transform of the squared mask, the covariance of two components k, k' of white noise inside the mask is
    C(k - k'), and the cross spectrum of two such maps, summed over a shell, has the variance Σ |C(k - k')|² over its
    pairs. The share of pairs at a distance q is that of two points of a spherical shell one component thick.

    Parameters
    ----------
    mask : Tensor, shape [n, n, n]

    Returns
    -------
    Tensor of float64, shape [n // 2 + 1]
        Standard deviation; one over its square is the number of independent samples in a shell. Without a mask (all
        ones) that is the number of components of the shell. 1 in shell 0, and nowhere more.
    """
    size = mask.shape[-1]
    covariance = to_fourier(mask.square(), 3).abs().square().double()
    squared = frequency_radius(size, 3, dtype=torch.float64, device=mask.device).square().round().long().flatten()
    weight = (covariance * redundancy(size, dtype=torch.float64, device=mask.device)).flatten()
    total = torch.bincount(squared, weight)
    at = torch.nonzero(total).flatten()
    distance, total = at.double().sqrt(), total[at] / covariance[0, 0, 0]
    counts = shell_counts(size, 3, dtype=torch.float64, device=mask.device)
    pairs = [torch.ones((), dtype=torch.float64, device=mask.device)]
    pairs += [(total * _share_of_pairs(shell, distance)).sum() / counts[shell] for shell in range(1, len(counts))]
    return torch.stack(pairs).sqrt().clamp(max=1.0)


def _share_of_pairs(shell: int, distance: Tensor) -> Tensor:
    """Return how likely a point of a shell, moved by a distance in a random direction, is still in the shell."""
    steps = (torch.arange(_RADII, dtype=distance.dtype, device=distance.device) + 0.5) / _RADII - 0.5
    radius = (shell + steps)[:, None]
    moved = distance.clamp_min(1e-9)
    low, high = (
        (((shell + edge) ** 2 - radius.square() - moved.square()) / (2 * radius * moved)).clamp(-1.0, 1.0)
        for edge in (-0.5, 0.5)
    )
    weight = radius.square()
    share: Tensor = ((high - low) / 2 * weight).sum(dim=0) / weight.sum()
    return share
