"""Loops over the samples of a spectrum: agreement of rings with a CTF, and its derivatives."""

from __future__ import annotations

import math

import numpy as np
from numba import njit


@njit(nogil=True, fastmath=True, cache=True)
def search_rings(  # type: ignore[no-untyped-def]
    real, imaginary, sector_cosine, sector_sine, first, astigmatism, per_step, phase_low, phase_high, out, out_phase
) -> None:
    """Sum the sectors' correlations with rings along the defocus each sector has, for all defoci and astigmatisms.

    `real`, `imaginary` [sectors, defoci] are sums of the spectrum times exp(2 i chi); `sector_cosine`, `sector_sine` of
    twice the sectors' angles; `first` [means] places of the mean defoci among the defoci; `astigmatism` [pairs, 2] the
    components of half the astigmatism in Å, `per_step` defoci per Å. The phase of a phase plate, doubled, is the best
    between `phase_low` and `phase_high` (radians; no search where they are equal). Results go into `out` and
    `out_phase` [means, pairs].
    """
    sectors, defoci = real.shape
    for pair in range(len(astigmatism)):
        cosine, sine = astigmatism[pair, 0] * per_step, astigmatism[pair, 1] * per_step
        for mean in range(len(first)):
            a, b = 0.0, 0.0
            for sector in range(sectors):
                place = first[mean] + math.floor(cosine * sector_cosine[sector] + sine * sector_sine[sector] + 0.5)
                place = min(max(place, 0), defoci - 1)
                a += real[sector, place]
                b += imaginary[sector, place]
            # -Re[(a + i b) exp(-i phase)] is largest, at sqrt(a^2 + b^2), where the phase is that of -(a + i b).
            phase = phase_low
            if phase_high > phase_low:
                phase = math.atan2(-b, -a)
                phase += 2 * math.pi * math.ceil((phase_low - phase) / (2 * math.pi))
                if phase > phase_high:
                    low = -a * math.cos(phase_low) - b * math.sin(phase_low)
                    high = -a * math.cos(phase_high) - b * math.sin(phase_high)
                    phase = phase_high if high > low else phase_low
            out[mean, pair] = -a * math.cos(phase) - b * math.sin(phase)
            out_phase[mean, pair] = phase


@njit(nogil=True, fastmath=True, cache=True)
def ring_derivatives(values, strength, basis, constant, parameters, gradient, curvature):  # type: ignore[no-untyped-def]
    """Return how well rings of known strength fit, with its first and second derivatives.

    The model of a value is -strength cos(2 chi) with chi = constant + basis . parameters; returned is
    sum(values model - model^2 / 2), the log-likelihood but for a constant where the noise has unit variance. `basis` is
    [samples, parameters]; `gradient` and `curvature` (of which the lower triangle is set) are overwritten.
    """
    number = basis.shape[1]
    gradient[:] = 0.0
    curvature[:] = 0.0
    total = 0.0
    for i in range(len(values)):
        chi = constant[i]
        for p in range(number):
            chi += basis[i, p] * parameters[p]
        cosine, sine = math.cos(2 * chi), math.sin(2 * chi)
        a = strength[i]
        model = -a * cosine
        total += values[i] * model - 0.5 * model * model
        # d model / d chi and its derivative
        slope, bend = 2 * a * sine, 4 * a * cosine
        first = (values[i] - model) * slope
        second = (values[i] - model) * bend - slope * slope
        for p in range(number):
            gradient[p] += first * basis[i, p]
            for q in range(p + 1):
                curvature[p, q] += second * basis[i, p] * basis[i, q]
    return total


@njit(nogil=True, fastmath=True, cache=True)
def sum_by_place(values, place, below, bins):  # type: ignore[no-untyped-def]
    """Add values to bins, each shared between two: the fraction 1 - `below` to `place`, the rest to the next."""
    total, weight = np.zeros(bins), np.zeros(bins)
    for i in range(len(values)):
        j, f = place[i], below[i]
        if 0 <= j < bins - 1:
            total[j] += (1 - f) * values[i]
            weight[j] += 1 - f
            total[j + 1] += f * values[i]
            weight[j + 1] += f
    return total, weight
