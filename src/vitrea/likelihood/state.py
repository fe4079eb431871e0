"""What a likelihood run estimates, as it stands after an iteration: all that is needed to go on from there."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class HalfModel:
    """The model of one half set.

    Attributes
    ----------
    voxels : ndarray of float32, shape [n, n, n]
        Reference for the next iteration.
    unfiltered : ndarray of float32, shape [n, n, n] or None
        The map without regularisation.
    tau2, sigma2_map, ssnr, fsc, completeness : ndarray, shape [shells]
        Signal variance, noise variance of the map, their ratio, the FSC between the halves and the fraction of Fourier
        voxels where data outweigh the prior. Variances are per real or imaginary part of an orthonormal slice.
    sigma2_noise : ndarray, shape [groups, shells]
        Noise variance of the images.
    scale : ndarray, shape [groups]
    direction_prior : ndarray, shape [directions]
        Probability of each direction; empty during local searches.
    sigma_offset : float
        Width of the prior on offsets, Å.
    average_norm : float
        Mean of the particles' norm corrections.
    log_likelihood, average_pmax : float
    accuracy_rotation, accuracy_translation : float
        Estimated accuracy of the poses in degrees and Å; 999 where not yet known.
    """

    voxels: NDArray[np.float32]
    unfiltered: NDArray[np.float32] | None
    tau2: FloatArray
    sigma2_map: FloatArray
    ssnr: FloatArray
    fsc: FloatArray
    completeness: FloatArray
    sigma2_noise: FloatArray
    scale: FloatArray
    direction_prior: FloatArray
    sigma_offset: float
    average_norm: float = 1.0
    log_likelihood: float = 0.0
    average_pmax: float = 0.0
    accuracy_rotation: float = 999.0
    accuracy_translation: float = 999.0


@dataclass(frozen=True)
class Sampling:
    """How poses are sampled.

    Attributes
    ----------
    healpix_order : int
        Order of the coarse grid.
    offset_range, offset_step : float
        Coarse translational search, Å.
    local : bool
        Whether orientations are searched near the previous ones only.
    perturbation : float
        Instance of the random turn of this iteration's grid.
    """

    healpix_order: int
    offset_range: float
    offset_step: float
    local: bool = False
    perturbation: float = 0.0


@dataclass(frozen=True)
class Progress:
    """What decides when to sample more finely and when to stop (RELION's auto-refine rules).

    Attributes
    ----------
    resolution : float
        Current resolution, Å.
    best_resolution : float
        Best so far, Å.
    current_size : int
        Diameter in Fourier pixels of the comparison in the next iteration.
    increment : int
        Shells beyond the current resolution that the next iteration uses.
    high_fsc_at_limit : bool
        Whether the FSC is still above 0.2 at the limit of the last comparison.
    stalled_resolution, stalled_poses : int
        Iterations since the resolution improved; since poses changed less than ever.
    change_rotation, change_offset : float
        Root-mean-square change of the poses in the last iteration, degrees and Å.
    smallest_rotation, smallest_offset : float
        The smallest such changes so far.
    fine_enough : bool
        Whether the angular step is finer than the data can tell.
    converged : bool
        Whether the next iteration is the last one.
    finished : bool
        Whether the last iteration is done.
    """

    resolution: float
    best_resolution: float
    current_size: int
    increment: int = 10
    high_fsc_at_limit: bool = False
    stalled_resolution: int = 0
    stalled_poses: int = 0
    change_rotation: float = 999.0
    change_offset: float = 999.0
    smallest_rotation: float = 999.0
    smallest_offset: float = 999.0
    fine_enough: bool = False
    converged: bool = False
    finished: bool = False


@dataclass(frozen=True)
class ParticleState:
    """What is estimated of each particle; all arrays have one row a particle.

    Attributes
    ----------
    eulers : ndarray, shape [particles, 3]
        Degrees.
    shifts : ndarray, shape [particles, 2]
        Å; the shift that brings the particle to the centre.
    norm : ndarray, shape [particles]
    log_likelihood, pmax : ndarray, shape [particles]
    significant : ndarray of int64, shape [particles]
    half : ndarray of int64, shape [particles]
        Half set, 1 or 2.
    """

    eulers: FloatArray
    shifts: FloatArray
    norm: FloatArray
    log_likelihood: FloatArray
    pmax: FloatArray
    significant: NDArray[np.int64]
    half: NDArray[np.int64]


@dataclass(frozen=True)
class RunState:
    """A run after an iteration.

    Attributes
    ----------
    iteration : int
        0 before the first one.
    halves : tuple of HalfModel
        One model for each half set.
    joined : HalfModel or None
        The model of all particles, after the last iteration.
    sampling : Sampling
        Sampling that made this state (for iteration 0: that the first iteration will use).
    progress : Progress
    particles : ParticleState
    """

    iteration: int
    halves: tuple[HalfModel, HalfModel]
    sampling: Sampling
    progress: Progress
    particles: ParticleState
    joined: HalfModel | None = None
