"""What an expectation step collects of one half set: the sums from which the next model follows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from vitrea.likelihood.state import FloatArray
from vitrea.reconstruction.accumulator import FourierAccumulator


@dataclass
class HalfSums:
    """Sums over the particles of one half set, posterior-weighted. Filled block by block.

    Attributes
    ----------
    indices : ndarray of int64, shape [particles]
        Which particles these are.
    accumulator : FourierAccumulator
    residual : ndarray, shape [groups, shells]
        Power of the difference between images and model over the independent samples of each shell.
    counts : ndarray, shape [groups]
        Particles of each group.
    agreement, strength : ndarray, shape [groups]
        Sums of ``Re(conj(A) X)`` and ``|A|²`` over well-determined shells, A the unscaled model: their ratio is the
        scale.
    directions : ndarray, shape [directions]
        Probability mass of each direction.
    offset_square, mass : float
        Sum of squared offsets (pixels², both axes) and of probability mass.
    eulers, shifts, norm, log_likelihood, pmax, significant : ndarray
        Per particle, in the order of `indices`; shifts in pixels.
    """

    indices: NDArray[np.int64]
    accumulator: FourierAccumulator
    residual: FloatArray
    counts: FloatArray
    agreement: FloatArray
    strength: FloatArray
    directions: FloatArray
    offset_square: float
    mass: float
    eulers: FloatArray
    shifts: FloatArray
    norm: FloatArray
    log_likelihood: FloatArray
    pmax: FloatArray
    significant: NDArray[np.int64]


def empty_sums(
    indices: NDArray[np.int64],
    size: int,
    radius: int,
    padding: int,
    groups: int,
    directions: int,
    device: torch.device,
) -> HalfSums:
    """Return sums of nothing.

    Parameters
    ----------
    indices : ndarray of int64, shape [particles]
    size : int
        Box size.
    radius : int
        Fourier radius of the reconstruction.
    padding : int
    groups, directions : int
        How many there are.
    device : torch.device
    """
    particles, shells = len(indices), size // 2 + 1
    return HalfSums(
        indices=indices,
        accumulator=FourierAccumulator(size, radius, padding, device),
        residual=np.zeros((groups, shells)),
        counts=np.zeros(groups),
        agreement=np.zeros(groups),
        strength=np.zeros(groups),
        directions=np.zeros(directions),
        offset_square=0.0,
        mass=0.0,
        eulers=np.zeros((particles, 3)),
        shifts=np.zeros((particles, 2)),
        norm=np.ones(particles),
        log_likelihood=np.zeros(particles),
        pmax=np.zeros(particles),
        significant=np.zeros(particles, dtype=np.int64),
    )
