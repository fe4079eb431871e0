"""How accurately poses can be found: the smallest change of a pose that the data would notice.

A change is noticed when it makes the image less probable by a factor of 100, that is when the difference of two
noise-free projections, weighed by the noise, reaches ``sum |CTF (P - P')|² / (2 sigma²) = ln 100`` (RELION's criterion;
Scheres 2012, doi:10.1016/j.jsb.2012.09.006).
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vitrea.fourier.packed import PackedSamples
from vitrea.geometry.euler import euler_to_matrix
from vitrea.matching.images import PreparedImages
from vitrea.matching.reference import Reference

NOTICEABLE = math.log(100.0)
# Errors tried, degrees for rotations and pixels for translations: fine where poses are accurate.
_ERRORS = np.concatenate(
    [np.arange(0.05, 1.0, 0.05), np.arange(1.0, 3.0, 0.1), np.arange(3.0, 10.0, 0.5), np.arange(10.0, 31.0, 2.0)]
)


def estimate_accuracy(
    images: PreparedImages,
    eulers: NDArray[np.float64],
    reference: Reference,
    samples: PackedSamples,
    seed: int,
    planar: bool = False,
) -> tuple[float, float]:
    """Estimate the accuracy of rotations and translations.

    Parameters
    ----------
    images : PreparedImages
        A few particles; only their CTF and noise are used.
    eulers : ndarray, shape [particles, 3]
        Their poses in degrees.
    reference : Reference
    samples : PackedSamples
        Samples of the images.
    seed : int
        Decides which angle and which axis is disturbed in which particle.
    planar : bool
        Disturb in-plane angles only: for class averages.

    Returns
    -------
    rotation, translation : float
        Mean over the particles, degrees and pixels.
    """
    rng = np.random.default_rng([seed, 17])
    weight = 0.5 * images.ctf**2 * images.precision
    rotations, translations = [], []
    steps = [np.outer(_ERRORS, direction) for direction in np.eye(2)]
    moves = [samples.phase_ramps(shifts).to(weight.device) - 1.0 for shifts in steps]
    for i in range(len(images)):
        angle, axis = 2 if planar else rng.integers(3), rng.integers(2)
        disturbed = np.tile(eulers[i], (len(_ERRORS) + 1, 1))
        disturbed[1:, angle] += _ERRORS
        matrices = torch.from_numpy(euler_to_matrix(disturbed).astype(np.float32)).to(weight.device)
        projections = reference.project(matrices, samples)
        rotations.append(_first_noticed(projections[1:] - projections[0], weight[i]))
        translations.append(_first_noticed(projections[0] * moves[axis], weight[i]))
    return float(np.mean(rotations)), float(np.mean(translations))


def _first_noticed(difference: Tensor, weight: Tensor) -> float:
    """Smallest tried error whose difference is noticed; the largest tried where none is."""
    evidence = (difference.real**2 + difference.imag**2) @ weight
    noticed = np.flatnonzero(evidence.cpu().numpy() >= NOTICEABLE)
    return float(_ERRORS[noticed[0]] if len(noticed) else _ERRORS[-1])
