"""What an expectation step collects of one set of particles: the sums from which the next model follows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vitrea.likelihood.state import FloatArray
from vitrea.reconstruction.accumulator import FourierAccumulator


class Explained(NamedTuple):
    """How well the model explains each image of a block, posterior-weighted.

    Attributes
    ----------
    cross, power : Tensor of float64, shape [particles, shells]
        ``Re(conj(A) X)`` and ``|A|²`` with A the model of the image.
    """

    cross: Tensor
    power: Tensor


@dataclass
class Sums:
    """Sums over a set of particles, posterior-weighted. Filled block by block.

    Attributes
    ----------
    indices : ndarray of int64, shape [particles]
        Which particles these are.
    accumulators : tuple of FourierAccumulator
        One for each class.
    residual : ndarray, shape [groups, shells]
        Power of the difference between images and model over the independent samples of each shell.
    counts : ndarray, shape [groups]
        Particles of each group.
    agreement, strength : ndarray, shape [groups]
        Sums of ``Re(conj(A) X)`` and ``|A|²`` over well-determined shells, A the unscaled model: their ratio is the
        scale.
    directions : ndarray, shape [classes, directions]
        Probability mass of each direction in each class.
    offset_square, mass : float
        Sum of squared offsets (pixels², both axes) and of probability mass.
    eulers, shifts, norm, log_likelihood, pmax, significant, class_index : ndarray
        Per particle, in the order of `indices`; shifts in pixels.
    occupancy : ndarray of float32, shape [particles, classes], or [particles, 0]
        Posterior probability of each class.
    """

    indices: NDArray[np.int64]
    accumulators: tuple[FourierAccumulator, ...]
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
    class_index: NDArray[np.int64]
    occupancy: NDArray[np.float32]


def empty_sums(
    indices: NDArray[np.int64],
    size: int,
    radius: int,
    padding: int,
    groups: int,
    directions: int,
    device: torch.device,
    classes: int = 1,
    dims: int = 3,
    occupancy: bool = False,
) -> Sums:
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
    classes : int
    dims : int
        3 for maps, 2 for class averages.
    occupancy : bool
        Keep the probability of each class of each particle.
    """
    particles, shells = len(indices), size // 2 + 1
    return Sums(
        indices=indices,
        accumulators=tuple(FourierAccumulator(size, radius, padding, device, dims) for _ in range(classes)),
        residual=np.zeros((groups, shells)),
        counts=np.zeros(groups),
        agreement=np.zeros(groups),
        strength=np.zeros(groups),
        directions=np.zeros((classes, directions)),
        offset_square=0.0,
        mass=0.0,
        eulers=np.zeros((particles, 3)),
        shifts=np.zeros((particles, 2)),
        norm=np.ones(particles),
        log_likelihood=np.zeros(particles),
        pmax=np.zeros(particles),
        significant=np.zeros(particles, dtype=np.int64),
        class_index=np.zeros(particles, dtype=np.int64),
        occupancy=np.zeros((particles, classes if occupancy else 0), dtype=np.float32),
    )
