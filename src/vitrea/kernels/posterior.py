"""From log-likelihoods to posterior weights: max, exp, sum and threshold without sweeping the array five times.

The smallest set of samples that holds a fraction f of a particle's probability is found from a histogram of the
probability over log-weight (bins of 1/8 nat below the maximum), not by sorting: the set kept is never smaller than the
exact one. Samples more than `DEPTH` nats below the maximum carry less than 1e-7 of a probability spread over
a million samples and count as zero.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numba import njit, prange
from torch import Tensor

DEPTH = 30.0
BINS_PER_NAT = 8
_BINS = int(DEPTH * BINS_PER_NAT) + 1  # rounding may put a sample at DEPTH itself


@njit(fastmath=False, cache=True)
def _threshold(histogram, fraction):  # type: ignore[no-untyped-def]
    """Depth below the maximum at which the probability above reaches `fraction`, and the total probability."""
    total = 0.0
    for b in range(len(histogram)):
        total += histogram[b]
    kept = 0.0
    for b in range(len(histogram)):
        kept += histogram[b]
        if kept >= fraction * total:
            return (b + 1) / BINS_PER_NAT, total
    return DEPTH, total


@njit(parallel=True, fastmath=True, cache=True)
def _select_dense_numba(  # type: ignore[no-untyped-def]
    scores, power, log_orientation, log_shift, fraction, margin, flags, counts
) -> None:
    particles, shifts, orientations = scores.shape
    for i in prange(particles):
        best = np.float32(-1e30)
        for t in range(shifts):
            row, extra = scores[i, t], log_shift[i, t]
            top = np.float32(-1e30)
            for o in range(orientations):
                value = row[o] - power[i, o] + log_orientation[o] + extra
                row[o] = value
                top = max(top, value)
            best = max(best, top)
        histogram = np.zeros(_BINS)
        floor = best - np.float32(DEPTH)
        for t in range(shifts):
            row = scores[i, t]
            for o in range(orientations):
                if row[o] > floor:
                    depth = np.float64(best - row[o])
                    histogram[int(depth * BINS_PER_NAT)] += math.exp(-depth)
        depth, _ = _threshold(histogram, fraction)
        cut = best - np.float32(min(depth + margin, DEPTH))
        count = 0
        for t in range(shifts):
            row = scores[i, t]
            for o in range(orientations):
                if row[o] >= cut:
                    flags[i, o] = 1
                    count += 1
        counts[i] = count


@njit(parallel=True, fastmath=True, cache=True)
def _normalise_rows_numba(scores, order, first, fraction, best_row, best_shift, evidence, top, counts) -> None:  # type: ignore[no-untyped-def]
    shifts = scores.shape[1]
    for i in prange(len(first) - 1):
        best = np.float32(-1e30)
        for k in range(first[i], first[i + 1]):
            row = scores[order[k]]
            for t in range(shifts):
                if row[t] > best:
                    best, best_row[i], best_shift[i] = row[t], order[k], t
        histogram = np.zeros(_BINS)
        floor = best - np.float32(DEPTH)
        for k in range(first[i], first[i + 1]):
            row = scores[order[k]]
            for t in range(shifts):
                if row[t] > floor:
                    depth = np.float64(best - row[t])
                    histogram[int(depth * BINS_PER_NAT)] += math.exp(-depth)
        depth, total = _threshold(histogram, fraction)
        cut = best - np.float32(depth)
        evidence[i] = best + math.log(total)
        top[i] = 1.0 / total
        count = 0
        for k in range(first[i], first[i + 1]):
            row = scores[order[k]]
            for t in range(shifts):
                if row[t] >= cut:
                    row[t] = math.exp(np.float64(row[t] - best)) / total
                    count += 1
                else:
                    row[t] = 0.0
        counts[i] = count


@njit(parallel=True, fastmath=True, cache=True)
def _normalise_dense_numba(  # type: ignore[no-untyped-def]
    scores, power, log_orientation, log_shift, fraction, best_row, best_shift, evidence, top, counts
) -> None:
    particles, shifts, orientations = scores.shape
    for i in prange(particles):
        best = np.float32(-1e30)
        for t in range(shifts):
            row, extra = scores[i, t], log_shift[i, t]
            for o in range(orientations):
                value = row[o] - power[i, o] + log_orientation[o] + extra
                row[o] = value
                if value > best:
                    best, best_row[i], best_shift[i] = value, o, t
        histogram = np.zeros(_BINS)
        floor = best - np.float32(DEPTH)
        for t in range(shifts):
            row = scores[i, t]
            for o in range(orientations):
                if row[o] > floor:
                    depth = np.float64(best - row[o])
                    histogram[int(depth * BINS_PER_NAT)] += math.exp(-depth)
        depth, total = _threshold(histogram, fraction)
        cut = best - np.float32(depth)
        evidence[i] = best + math.log(total)
        top[i] = 1.0 / total
        count = 0
        for t in range(shifts):
            row = scores[i, t]
            for o in range(orientations):
                if row[o] >= cut:
                    row[o] = math.exp(np.float64(row[o] - best)) / total
                    count += 1
                else:
                    row[o] = 0.0
        counts[i] = count


def normalise_dense_torch(
    scores: Tensor, power: Tensor, log_orientation: Tensor, log_shift: Tensor, fraction: float
) -> dict[str, Tensor]:
    """Plain torch body of `normalise_dense`; sorts, so that the set kept is the smallest."""
    scores += (log_orientation - power)[:, None, :] + log_shift[:, :, None]
    flat = scores.double().flatten(1)
    best, place = flat.max(dim=1)
    weights = torch.exp(flat - best[:, None])
    total = weights.sum(dim=1)
    ranked = weights.sort(dim=1, descending=True).values
    mass = ranked.cumsum(dim=1)
    last = (mass < fraction * mass[:, -1:]).sum(dim=1, keepdim=True)
    kept = torch.where(weights >= ranked.gather(1, last), weights / total[:, None], 0.0)
    scores.copy_(kept.view(scores.shape))
    orientations = scores.shape[2]
    return {
        "best_row": (place % orientations).cpu(),
        "best_shift": (place // orientations).cpu(),
        "evidence": (best + total.log()).cpu(),
        "top": (1.0 / total).cpu(),
        "counts": (kept > 0).sum(dim=1).cpu(),
    }


def normalise_dense(
    scores: Tensor, power: Tensor, log_orientation: Tensor, log_shift: Tensor, fraction: float
) -> dict[str, Tensor]:
    """Turn the agreement of every pose into its posterior weight, in place; insignificant ones become zero.

    Parameters are those of `significant_orientations`.

    Returns
    -------
    dict of Tensor, each of shape [particles]
        As `normalise_rows`; ``best_row`` is an orientation.
    """
    if scores.device.type == "cpu":
        host = _empty_results(len(scores))
        _normalise_dense_numba(
            scores.numpy(),
            power.numpy(),
            log_orientation.numpy(),
            log_shift.numpy(),
            fraction,
            *(host[name].numpy() for name in host),
        )
        return host
    return normalise_dense_torch(scores, power, log_orientation, log_shift, fraction)


def significant_orientations_torch(
    scores: Tensor, power: Tensor, log_orientation: Tensor, log_shift: Tensor, fraction: float, margin: float
) -> tuple[Tensor, Tensor]:
    """Plain torch body of `significant_orientations`; sorts, so that the set kept is the smallest."""
    scores += (log_orientation - power)[:, None, :] + log_shift[:, :, None]
    flat = scores.flatten(1)
    best = flat.amax(dim=1, keepdim=True)
    ranked = flat.sort(dim=1, descending=True).values
    mass = torch.exp(ranked - best).cumsum(dim=1)
    last = (mass < fraction * mass[:, -1:]).sum(dim=1, keepdim=True)
    keep = scores >= (ranked.gather(1, last) - margin)[:, :, None]
    return keep.any(dim=1).to(torch.uint8), keep.sum(dim=(1, 2))


def significant_orientations(
    scores: Tensor, power: Tensor, log_orientation: Tensor, log_shift: Tensor, fraction: float, margin: float
) -> tuple[Tensor, Tensor]:
    """Find the orientations in which any translation of a particle is significant.

    Parameters
    ----------
    scores : Tensor of float32, shape [particles, shifts, orientations]
        Agreement of each pose; overwritten.
    power : Tensor of float32, shape [particles, orientations]
        Half the weighted power of each projection, subtracted.
    log_orientation : Tensor of float32, shape [orientations]
    log_shift : Tensor of float32, shape [particles, shifts]
        Log priors, added.
    fraction : float
        Fraction of the probability to keep.
    margin : float
        Nats by which the threshold is lowered, for the error of a low-precision product.

    Returns
    -------
    flags : Tensor of uint8, shape [particles, orientations]
        1 where an orientation is significant.
    counts : Tensor of int64, shape [particles]
        Number of significant poses.
    """
    if scores.device.type == "cpu":
        flags = torch.zeros(power.shape, dtype=torch.uint8)
        counts = torch.zeros(len(scores), dtype=torch.int64)
        _select_dense_numba(
            scores.numpy(),
            power.numpy(),
            log_orientation.numpy(),
            log_shift.numpy(),
            fraction,
            margin,
            flags.numpy(),
            counts.numpy(),
        )
        return flags, counts
    return significant_orientations_torch(scores, power, log_orientation, log_shift, fraction, margin)


def normalise_rows_torch(scores: Tensor, order: Tensor, first: Tensor, fraction: float) -> dict[str, Tensor]:
    """Plain torch body of `normalise_rows`; sorts, so that the set kept is the smallest."""
    host = _empty_results(len(first) - 1)
    bounds = first.tolist()
    for i in range(len(first) - 1):
        rows = order[bounds[i] : bounds[i + 1]].to(scores.device)
        block = scores[rows].double()
        best, place = block.flatten().max(dim=0)
        weights = torch.exp(block - best)
        total = weights.sum()
        ranked = weights.flatten().sort(descending=True).values
        mass = ranked.cumsum(0)
        cut = ranked[(mass < fraction * mass[-1]).sum()]
        kept = torch.where(weights >= cut, weights / total, 0.0)
        scores[rows] = kept.to(scores.dtype)
        host["best_row"][i] = rows[int(place) // block.shape[1]]
        host["best_shift"][i] = int(place) % block.shape[1]
        host["evidence"][i] = float(best) + math.log(float(total))
        host["top"][i] = 1.0 / float(total)
        host["counts"][i] = int((kept > 0).sum())
    return host


def _empty_results(particles: int) -> dict[str, Tensor]:
    return {
        "best_row": torch.zeros(particles, dtype=torch.int64),
        "best_shift": torch.zeros(particles, dtype=torch.int64),
        "evidence": torch.zeros(particles, dtype=torch.float64),
        "top": torch.zeros(particles, dtype=torch.float64),
        "counts": torch.zeros(particles, dtype=torch.int64),
    }


def normalise_rows(scores: Tensor, order: Tensor, first: Tensor, fraction: float) -> dict[str, Tensor]:
    """Turn the log-weights of candidate rows into posterior weights, in place; insignificant ones become zero.

    Parameters
    ----------
    scores : Tensor of float32, shape [rows, shifts]
        Log-weights; overwritten by posterior weights.
    order : Tensor of int64, shape [rows]
        Rows listed particle by particle.
    first : Tensor of int64, shape [particles + 1]
        Where each particle begins in `order`.
    fraction : float
        Fraction of the probability to keep.

    Returns
    -------
    dict of Tensor, each of shape [particles]
        ``best_row``, ``best_shift`` (the most probable pose), ``evidence`` (log of the summed weights), ``top``
        (the largest posterior weight) and ``counts`` (number of significant poses).
    """
    if scores.device.type == "cpu":
        host = _empty_results(len(first) - 1)
        _normalise_rows_numba(
            scores.numpy(), order.numpy(), first.numpy(), fraction, *(host[name].numpy() for name in host)
        )
        return host
    return normalise_rows_torch(scores, order, first, fraction)
