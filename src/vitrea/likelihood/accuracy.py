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
# Every how many of them are projected before those between; and the last one.
STRIDE = 8
_COARSE = np.append(np.arange(STRIDE - 1, len(_ERRORS) - 1, STRIDE), len(_ERRORS) - 1)
# Samples of projections worked on at a time: 8 MiB of complex numbers.
SAMPLES_TOGETHER = 1 << 20


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
    drawn = [(2 if planar else int(rng.integers(3)), int(rng.integers(2))) for _ in range(len(images))]
    angles, axes = np.array(drawn).T
    weight = 0.5 * images.ctf**2 * images.precision
    found = np.empty((2, len(images)))
    together = max(1, SAMPLES_TOGETHER // (len(_COARSE) * len(samples)))
    for start in range(0, len(images), together):
        part = slice(start, start + together)
        pose, angle = eulers[part], angles[part]
        still = _project(pose[:, None], reference, samples)[:, 0]
        found[0, part] = _rotations(still, pose, angle, weight[part], reference, samples)
        found[1, part] = _translations(still, axes[part], weight[part], samples)
    rotation, translation = found.mean(axis=1).tolist()
    return rotation, translation


def _project(eulers: NDArray[np.float64], reference: Reference, samples: PackedSamples) -> Tensor:
    """Project along Euler angles, shape [particles, errors, 3]; returns [particles, errors, samples]."""
    matrices = euler_to_matrix(eulers.reshape(-1, 3)).astype(np.float32)
    projections = reference.project(torch.from_numpy(matrices).to(reference.grid.device), samples)
    return projections.view(*eulers.shape[:2], -1)


def _rotations(
    still: Tensor,
    eulers: NDArray[np.float64],
    angle: NDArray[np.int64],
    weight: Tensor,
    reference: Reference,
    samples: PackedSamples,
) -> NDArray[np.float64]:
    """Smallest noticed error of one angle of each particle: some errors are tried, then those before the first."""

    def noticed(errors: NDArray[np.float64]) -> NDArray[np.bool_]:
        disturbed = np.repeat(eulers[:, None], errors.shape[-1], axis=1)
        disturbed[np.arange(len(eulers)), :, angle] += errors
        difference = _project(disturbed, reference, samples) - still[:, None]
        evidence = torch.view_as_real(difference).square_().sum(dim=-1) @ weight[:, :, None]
        return np.asarray(evidence[:, :, 0].cpu().numpy() >= NOTICEABLE)

    coarse = noticed(_ERRORS[_COARSE])
    last = _COARSE[np.where(coarse.any(axis=1), coarse.argmax(axis=1), len(_COARSE) - 1)]
    before = np.maximum(last[:, None] + np.arange(1 - STRIDE, 1), 0)
    return _first(_ERRORS[before], noticed(_ERRORS[before]))


def _translations(
    still: Tensor, axes: NDArray[np.int64], weight: Tensor, samples: PackedSamples
) -> NDArray[np.float64]:
    """Smallest noticed shift of each particle along one axis: |P (ramp - 1)|² is |P|² times |ramp - 1|²."""
    power = torch.view_as_real(still).square().sum(dim=-1) * weight
    found = np.empty(len(axes))
    for axis, direction in enumerate(np.eye(2)):
        moved = samples.phase_ramps(np.outer(_ERRORS, direction)).to(weight.device) - 1.0
        chosen = axes == axis
        evidence = power[torch.from_numpy(chosen).to(power.device)] @ torch.view_as_real(moved).square().sum(dim=-1).T
        found[chosen] = _first(_ERRORS, evidence.cpu().numpy() >= NOTICEABLE)
    return found


def _first(errors: NDArray[np.float64], noticed: NDArray[np.bool_]) -> NDArray[np.float64]:
    """First noticed of some errors, ascending, for each particle; the last where none is."""
    place = np.where(noticed.any(axis=1), noticed.argmax(axis=1), noticed.shape[1] - 1)
    chosen: NDArray[np.float64] = np.broadcast_to(errors, noticed.shape)[np.arange(len(place)), place]
    return chosen
