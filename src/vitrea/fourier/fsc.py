"""Fourier shell correlation and the resolution it stands for.

References
----------
Harauz & van Heel (1986), Optik 73:146. Rosenthal & Henderson (2003), doi:10.1016/j.jmb.2003.07.013 (threshold 0.143).
Chen et al. (2013), doi:10.1016/j.ultramic.2013.06.004 (phase randomisation).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from vitrea.fourier.grid import frequency_radius
from vitrea.fourier.shells import sum_stored_samples
from vitrea.fourier.transforms import to_fourier, to_real


def fourier_shell_correlation(first: Tensor, second: Tensor, dims: int = 3) -> Tensor:
    """Return the Fourier shell correlation of two maps (or, with dims = 2, the ring correlation of two images).

    Parameters
    ----------
    first, second : Tensor, shape [..., n, n, n] (or [..., n, n])
        Real space, same box.
    dims : int
        3 or 2.

    Returns
    -------
    Tensor, shape [..., n // 2 + 1]
        One value a shell, -1 to 1; 0 where either map has no power.
    """
    return correlate_transforms(to_fourier(first, dims), to_fourier(second, dims), first.shape[-1], dims)


def correlate_transforms(first: Tensor, second: Tensor, size: int, dims: int = 3) -> Tensor:
    """Return the shell correlation of two transforms in the Fourier layout; see `fourier_shell_correlation`.

    As in RELION, every stored sample of the half transform counts once, so that the plane kx = 0, which holds both
    mates of each pair, weighs double. Users compare curves between programs; this makes them the same to 1e-6, where
    an even count differs from RELION's by up to 0.01 in a shell (within its noise).
    """
    power, other = first.abs().double().square(), second.abs().double().square()
    return shell_correlation((first * second.conj()).real, power, other, size, dims).to(first.real.dtype)


def shell_correlation(cross: Tensor, first_power: Tensor, second_power: Tensor, size: int, dims: int = 3) -> Tensor:
    """Return the shell correlation that follows from a cross spectrum and two powers, as `correlate_transforms`.

    Parameters
    ----------
    cross, first_power, second_power : Tensor, real, in the Fourier layout
    size : int
        Box size n.
    dims : int
        2 or 3.

    Returns
    -------
    Tensor of float64, shape [..., n // 2 + 1]
    """
    sums = [sum_stored_samples(values.double(), size, dims) for values in (cross, first_power, second_power)]
    power = sums[1] * sums[2]
    return torch.where(power > 0, sums[0] / power.clamp_min(torch.finfo(torch.float64).tiny).sqrt(), 0.0)


def shell_resolution(shell: float, voxel_size: float, size: int) -> float:
    """Return the resolution in Å of a shell (which may be fractional); infinite for shell 0."""
    return size * voxel_size / shell if shell > 0 else float("inf")


def last_shell_above(fsc: Tensor | Sequence[float], threshold: float) -> int:
    """Return the last shell before the curve first falls below a threshold (shell 0 is not judged).

    This is RELION's rule for the final resolution. A curve that never falls below gives its last shell.
    """
    values = torch.as_tensor(fsc)
    below = torch.nonzero(values[1:] < threshold).flatten()
    return int(below[0]) if len(below) else len(values) - 1


def resolution_at(fsc: Tensor | Sequence[float], threshold: float, voxel_size: float, size: int) -> float:
    """Return the resolution in Å of the last shell before the curve first falls below a threshold.

    Parameters
    ----------
    fsc : Tensor or sequence, shape [n // 2 + 1]
    threshold : float
        0.143 for independent half maps, 0.5 for a map against a model.
    voxel_size : float
        Å.
    size : int
        Box size n.

    Returns
    -------
    float
        Å; infinite if already the first shell is below.
    """
    return shell_resolution(last_shell_above(fsc, threshold), voxel_size, size)


def interpolated_resolution_at(fsc: Tensor | Sequence[float], threshold: float, voxel_size: float, size: int) -> float:
    """Return the resolution in Å at which the curve, drawn with straight lines, first crosses a threshold.

    Arguments as `resolution_at`; a curve that never falls below gives the resolution of its last shell (Nyquist).
    """
    values = torch.as_tensor(fsc)
    above = last_shell_above(values, threshold)
    if above + 1 >= len(values) or above == 0:
        return shell_resolution(above, voxel_size, size)
    high, low = float(values[above]), float(values[above + 1])
    return shell_resolution(above + (high - threshold) / (high - low), voxel_size, size)


def randomise_phases(volume: Tensor, from_shell: float, generator: torch.Generator | None = None) -> Tensor:
    """Replace the phases from a shell on by random ones; amplitudes stay.

    Parameters
    ----------
    volume : Tensor, shape [n, n, n]
        Real space.
    from_shell : float
        Samples at this radius (cycles per box) and beyond lose their phases.
    generator : torch.Generator, optional
        Source of the random phases, on the device of `volume`; without one, torch's global one.

    Returns
    -------
    Tensor, shape [n, n, n]
        Real space. The phases are those of white noise, hence uniform and those of a real map (mates stay conjugate,
        so no power is lost in the plane kx = 0).
    """
    size = volume.shape[-1]
    noise = torch.randn(volume.shape, generator=generator, dtype=volume.dtype, device=volume.device)
    random = to_fourier(noise, 3)
    transform = to_fourier(volume, 3)
    phase = random / random.abs().clamp_min(torch.finfo(volume.dtype).tiny)
    beyond = frequency_radius(size, 3, dtype=torch.float64, device=volume.device) >= from_shell
    return to_real(torch.where(beyond, transform.abs() * phase, transform), size, 3)


def mask_corrected_fsc(
    first: Tensor,
    second: Tensor,
    mask: Tensor,
    from_shell: int,
    randomise: Callable[[Tensor, int], Tensor],
    draws: int = 1,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the FSC of masked maps, and the same without what the mask itself correlates.

    Parameters
    ----------
    first, second : Tensor, shape [n, n, n]
        Independent half maps, unmasked.
    mask : Tensor, shape [n, n, n]
        0 to 1.
    from_shell : int
        Phases are randomised from this shell on; the correction begins two shells beyond.
    randomise : callable
        ``randomise(volume, from_shell)`` returns the volume with random phases: `randomise_phases` with a generator, or
        `vitrea.fourier.random_phases.RelionPhases`.
    draws : int
        Times phases are drawn; their curves are averaged. `masked_noise.mean_random_phase_fsc` has the mean of all.

    Returns
    -------
    masked, randomised, corrected : Tensor of float64, shape [n // 2 + 1]
        See `without_mask_correlation`.
    """
    masked = fourier_shell_correlation(first * mask, second * mask).double()
    randomised = torch.zeros_like(masked)
    for _ in range(draws):
        one, other = (randomise(half, from_shell) * mask for half in (first, second))
        randomised += fourier_shell_correlation(one, other).double() / draws
    return masked, randomised, without_mask_correlation(masked, randomised, from_shell)


def without_mask_correlation(masked: Tensor, randomised: Tensor, from_shell: int) -> Tensor:
    """Return the FSC of masked maps without what the mask itself correlates.

    Parameters
    ----------
    masked, randomised : Tensor of float64, shape [n // 2 + 1]
        FSC of masked maps, and the same with random phases from a shell on.
    from_shell : int
        That shell; the correction begins two shells beyond.

    Returns
    -------
    Tensor of float64, shape [n // 2 + 1]
        ``(masked - randomised) / (1 - randomised)`` (Chen et al. 2013, doi:10.1016/j.ultramic.2013.06.004).
    """
    corrected = masked.clone()
    noise = randomised[from_shell + 2 :].clamp(max=1.0 - 1e-9)
    corrected[from_shell + 2 :] = (masked[from_shell + 2 :] - noise) / (1.0 - noise)
    return corrected
