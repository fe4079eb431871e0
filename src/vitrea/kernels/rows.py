"""Work on candidate rows: one row is one particle compared with one oriented projection.

Rows are listed in the order of their orientations, so that a projection is made once for all particles that need it.
All translations of a row are then one matrix product with the phase ramps: ``Re(P conj(X) conj(ramp))``.
"""

from __future__ import annotations

import numpy as np
import torch
from numba import njit, prange
from torch import Tensor


@njit(parallel=True, fastmath=True, cache=True)
def _correlate_numba(projections, orientation, images, image_weight, particle, out, power) -> None:  # type: ignore[no-untyped-def]
    for row in prange(len(orientation)):
        p, x, w = projections[orientation[row]], images[particle[row]], image_weight[particle[row]]
        total = np.float32(0.0)
        for j in range(p.shape[0]):
            pr, pi, xr, xi = p[j, 0], p[j, 1], x[j, 0], x[j, 1]
            out[row, j, 0] = pr * xr + pi * xi
            out[row, j, 1] = pr * xi - pi * xr
            total += (pr * pr + pi * pi) * w[j]
        power[row] = total


@njit(parallel=True, fastmath=True, cache=True)
def _accumulate_numba(  # type: ignore[no-untyped-def]
    ramps, mass, first, projections, particle, masked, unmasked, ctf, precision, bounds, sums, weights, cross, power
) -> None:
    # Samples are sorted by radius: a shell is a run of them, summed in registers.
    for group in prange(len(first) - 1):
        p = projections[group]
        for row in range(first[group], first[group + 1]):
            i = particle[row]
            total = mass[row]
            for s in range(len(bounds) - 1):
                agreement, strength = np.float32(0.0), np.float32(0.0)
                for j in range(bounds[s], bounds[s + 1]):
                    rr, ri = ramps[row, j, 0], ramps[row, j, 1]
                    c, v = ctf[i, j], precision[i, j]
                    ur, ui = unmasked[i, j, 0], unmasked[i, j, 1]
                    gain = c * v
                    sums[group, j, 0] += gain * (ur * rr - ui * ri)
                    sums[group, j, 1] += gain * (ur * ri + ui * rr)
                    weights[group, j] += total * c * gain
                    xr, xi = masked[i, j, 0], masked[i, j, 1]
                    pr, pi = c * p[j, 0], c * p[j, 1]
                    agreement += pr * (xr * rr - xi * ri) + pi * (xr * ri + xi * rr)
                    strength += pr * pr + pi * pi
                cross[row, s] = agreement
                power[row, s] = total * strength


@njit(parallel=True, fastmath=True, cache=True)
def _sum_by_particle_numba(values, particle, total) -> None:  # type: ignore[no-untyped-def]
    # Each thread owns some columns: no two threads meet, and the order of the additions is that of the rows.
    columns = values.shape[1]
    blocks = (columns + 7) // 8
    for block in prange(blocks):
        start, stop = 8 * block, min(8 * block + 8, columns)
        for row in range(values.shape[0]):
            i = particle[row]
            for s in range(start, stop):
                total[i, s] += np.float64(values[row, s])


def sum_by_particle(values: Tensor, particle: Tensor, total: Tensor) -> None:
    """Add rows to the sums of their particles, in place.

    Parameters
    ----------
    values : Tensor of float32, shape [rows, shells]
    particle : Tensor of int64, shape [rows]
    total : Tensor of float64, shape [particles, shells]
        Receives the values.
    """
    if values.device.type != "cpu":
        total.index_add_(0, particle, values.double())
        return
    _sum_by_particle_numba(values.numpy(), particle.numpy(), total.numpy())


def correlate_rows_torch(
    projections: Tensor,
    orientation: Tensor,
    images: Tensor,
    image_weight: Tensor,
    particle: Tensor,
    out: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Plain torch body of `correlate_rows`."""
    chosen = projections[orientation]
    products = chosen.conj() * images[particle]
    power = (chosen.real**2 + chosen.imag**2).mul_(image_weight[particle]).sum(dim=1)
    return (products if out is None else out.copy_(products)), power


def correlate_rows(
    projections: Tensor,
    orientation: Tensor,
    images: Tensor,
    image_weight: Tensor,
    particle: Tensor,
    out: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Multiply images with projections, row by row.

    Parameters
    ----------
    projections : Tensor of complex64, shape [orientations, samples]
    orientation : Tensor of int64, shape [rows]
        Which projection each row uses.
    images : Tensor of complex64, shape [particles, samples]
    image_weight : Tensor of float32, shape [particles, samples]
        Weight of each sample of the projection's power (CTF² / sigma²).
    particle : Tensor of int64, shape [rows]
        Which image each row uses.
    out : Tensor of complex64, shape [rows, samples], optional
        Receives the products.

    Returns
    -------
    products : Tensor of complex64, shape [rows, samples]
        ``conj(P) X``.
    power : Tensor of float32, shape [rows]
        Sum of ``|P|² weight``.
    """
    if projections.device.type != "cpu":
        return correlate_rows_torch(projections, orientation, images, image_weight, particle, out)
    if out is None:
        out = torch.empty((len(orientation), projections.shape[1]), dtype=torch.complex64)
    power = torch.empty(len(orientation), dtype=torch.float32)
    _correlate_numba(
        torch.view_as_real(projections).numpy(),
        orientation.numpy(),
        torch.view_as_real(images).numpy(),
        image_weight.numpy(),
        particle.numpy(),
        torch.view_as_real(out).numpy(),
        power.numpy(),
    )
    return out, power


def accumulate_rows_torch(
    ramps: Tensor,
    mass: Tensor,
    first: Tensor,
    projections: Tensor,
    particle: Tensor,
    masked: Tensor,
    unmasked: Tensor,
    ctf: Tensor,
    precision: Tensor,
    shell: Tensor,
    shells: int,
    out: tuple[Tensor, Tensor] | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Plain torch body of `accumulate_rows`."""
    counts = first[1:] - first[:-1]
    group = torch.repeat_interleave(torch.arange(len(counts), device=first.device), counts)
    c, v = ctf[particle], precision[particle]
    sums = torch.zeros_like(projections).index_add_(0, group, unmasked[particle] * ramps * (c * v))
    weights = torch.zeros_like(projections.real).index_add_(0, group, mass[:, None] * c * c * v)
    modelled = projections[group] * c
    agreement = (modelled.conj() * masked[particle] * ramps).real
    strength = (modelled.real**2 + modelled.imag**2) * mass[:, None]
    empty = torch.zeros((len(particle), shells), dtype=mass.dtype, device=mass.device)
    cross, power = empty.index_add(1, shell, agreement), empty.index_add(1, shell, strength)
    if out is not None:
        sums, weights = out[0].copy_(sums), out[1].copy_(weights)
    return sums, weights, cross, power


def accumulate_rows(
    ramps: Tensor,
    mass: Tensor,
    first: Tensor,
    projections: Tensor,
    particle: Tensor,
    masked: Tensor,
    unmasked: Tensor,
    ctf: Tensor,
    precision: Tensor,
    shell: Tensor,
    shells: int,
    out: tuple[Tensor, Tensor] | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Sum weighted, translated images per orientation, and gather what noise and scale estimates need.

    Parameters
    ----------
    ramps : Tensor of complex64, shape [rows, samples]
        For each row the phase ramps of all translations, summed with their posterior weights.
    mass : Tensor of float32, shape [rows]
        Sum of those weights.
    first : Tensor of int64, shape [orientations + 1]
        Row at which each orientation begins; the last entry is the number of rows.
    projections : Tensor of complex64, shape [orientations, samples]
    particle : Tensor of int64, shape [rows]
    masked, unmasked : Tensor of complex64, shape [particles, samples]
        Images with and without the particle mask: the first are compared, the second are put into the map.
    ctf, precision : Tensor of float32, shape [particles, samples]
        Contrast transfer (with the group's scale) and 1 / sigma².
    shell : Tensor of int64, shape [samples]
        Ascending.
    shells : int
        Number of shells.
    out : tuple of Tensor, optional
        Receives `sums` and `weights`.

    Returns
    -------
    sums : Tensor of complex64, shape [orientations, samples]
        Numerator of the reconstruction.
    weights : Tensor of float32, shape [orientations, samples]
        Its denominator.
    cross, power : Tensor of float32, shape [rows, shells]
        Posterior-weighted ``Re(conj(CTF P) X)`` and ``|CTF P|²``.
    """
    if projections.device.type != "cpu":
        return accumulate_rows_torch(
            ramps, mass, first, projections, particle, masked, unmasked, ctf, precision, shell, shells, out
        )
    if out is None:
        out = torch.empty_like(projections), torch.empty(projections.shape, dtype=torch.float32)
    sums, weights = out[0].zero_(), out[1].zero_()
    cross, power = (torch.zeros((len(particle), shells), dtype=torch.float32) for _ in range(2))
    _accumulate_numba(
        torch.view_as_real(ramps).numpy(),
        mass.numpy(),
        first.numpy(),
        torch.view_as_real(projections).numpy(),
        particle.numpy(),
        torch.view_as_real(masked).numpy(),
        torch.view_as_real(unmasked).numpy(),
        ctf.numpy(),
        precision.numpy(),
        np.searchsorted(shell.numpy(), np.arange(shells + 1)),
        torch.view_as_real(sums).numpy(),
        weights.numpy(),
        cross.numpy(),
        power.numpy(),
    )
    return sums, weights, cross, power
