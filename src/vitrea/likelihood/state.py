"""What a likelihood run estimates, as it stands after an iteration: all that is needed to go on from there."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from vitrea.reconstruction.accumulator import FourierAccumulator

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class ClassModel:
    """One class: its reference and what is known of it.

    Attributes
    ----------
    voxels : ndarray of float32, shape [n, n, n] or [n, n]
        Reference for the next iteration: a map, or a 2D class average.
    unfiltered : ndarray of float32, same shape, or None
        The reference without regularisation.
    tau2, sigma2_map, ssnr, fsc, completeness : ndarray, shape [shells]
        Signal variance, noise variance of the reference, their ratio, the FSC between the halves (zero where there are
        none) and the fraction of Fourier voxels where data outweigh the prior. Variances are per real or imaginary part
        of an orthonormal slice.
    direction_prior : ndarray, shape [directions]
        Probability of each direction within the class; empty during local searches.
    share : float
        Share of the particles: the probability of the class.
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
    direction_prior: FloatArray
    share: float = 1.0
    accuracy_rotation: float = 999.0
    accuracy_translation: float = 999.0


def new_class(voxels: NDArray[np.float32], directions: int, share: float = 1.0) -> ClassModel:
    """Return a class of which only the reference is known; all directions are equally probable."""
    unknown = np.zeros(voxels.shape[-1] // 2 + 1)
    flat = np.full(directions, 1.0 / directions)
    return ClassModel(voxels, None, unknown, unknown, unknown, unknown, unknown, flat, share)


@dataclass(frozen=True)
class Model:
    """What is estimated of a set of particles: one or several classes, and what they share.

    Attributes
    ----------
    classes : tuple of ClassModel
    sigma2_noise : ndarray, shape [groups, shells]
        Noise variance of the images.
    scale : ndarray, shape [groups]
    sigma_offset : float
        Width of the prior on offsets, Å.
    average_norm : float
        Mean of the particles' norm corrections.
    log_likelihood, average_pmax : float
    """

    classes: tuple[ClassModel, ...]
    sigma2_noise: FloatArray
    scale: FloatArray
    sigma_offset: float
    average_norm: float = 1.0
    log_likelihood: float = 0.0
    average_pmax: float = 0.0

    def with_classes(self, classes: Iterable[ClassModel]) -> Model:
        """Return the model with other classes."""
        return replace(self, classes=tuple(classes))


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
    psi_step : float
        Coarse in-plane step in degrees; 0 where it follows from the order.
    """

    healpix_order: int
    offset_range: float
    offset_step: float
    local: bool = False
    perturbation: float = 0.0
    psi_step: float = 0.0


@dataclass(frozen=True)
class Progress:
    """What decides when to sample more finely and when to stop (RELION's auto-refine rules).

    Attributes
    ----------
    resolution : float
        What the last iteration may claim, Å.
    best_resolution : float
        The finest at which half maps have agreed so far, Å; what the start map may have brought counts here.
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
    change_class : float
        Share of the particles that changed class in the last iteration.
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
    change_class: float = 0.0
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
        Half set, 1 or 2; 0 where there are none.
    class_index : ndarray of int64, shape [particles]
        Most probable class, from 0.
    occupancy : ndarray of float32, shape [particles, classes], or [particles, 0]
        Probability of each class, where it is asked for.
    """

    eulers: FloatArray
    shifts: FloatArray
    norm: FloatArray
    log_likelihood: FloatArray
    pmax: FloatArray
    significant: NDArray[np.int64]
    half: NDArray[np.int64]
    class_index: NDArray[np.int64]
    occupancy: NDArray[np.float32]


@dataclass(frozen=True)
class RunState:
    """A run after an iteration.

    Attributes
    ----------
    iteration : int
        0 before the first one.
    models : tuple of Model
        One model for each half set, or the only one.
    joined : Model or None
        The model of both half sets together, after the last iteration.
    sampling : Sampling
        Sampling that made this state (for iteration 0: that the first iteration will use).
    progress : Progress
    particles : ParticleState
    carried : tuple of FourierAccumulator
        Sums of earlier mini-batches, one for each class, where the schedule keeps them.
    """

    iteration: int
    models: tuple[Model, ...]
    sampling: Sampling
    progress: Progress
    particles: ParticleState
    joined: Model | None = None
    carried: tuple[FourierAccumulator, ...] = ()
