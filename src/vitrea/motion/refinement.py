"""Joint refinement of whole-frame shifts and local motion, without peaks.

The peak of one patch in one frame is often lost in noise. What is maximised here is the sum of all correlations, of
every patch in every frame with the sum of that patch's other frames, over the parameters of the motion alone.
Correlations enter by their slope at the present shifts, which is linear in the data, and by their mean curvature; each
round is a least-squares step (Gauss-Newton). Frequencies are weighted by how well the frames agree there.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vitrea.fourier.rectangles import Shape, rectangle_frequencies, shift_ramps
from vitrea.motion.local import COEFFICIENTS, LocalMotion, Patches, motion_basis

_ROUNDS = 3
# Pixels of the patches: a step is never longer, so that a patch without signal cannot throw the others off.
_LONGEST_STEP = 1.0


@dataclass(frozen=True)
class _Slopes:
    """What one round measures.

    Attributes
    ----------
    steps : ndarray, shape [patches, groups, 2]
        Slope over curvature: where each correlation would peak were its curvature the mean one, in pixels.
    weights : ndarray, shape [patches, 2]
        Mean curvature along x and y.
    """

    steps: NDArray[np.float64]
    weights: NDArray[np.float64]


def refine_motion(
    patches: Patches, model: LocalMotion, weight: Tensor, scale: tuple[float, float]
) -> tuple[NDArray[np.float64], LocalMotion]:
    """Refine whole-frame shifts and the local model together.

    Parameters
    ----------
    patches : Patches
        Of frames moved by their whole-frame shifts.
    model : LocalMotion
        To begin with.
    weight : Tensor, shape [y, x // 2 + 1]
        Of the components of a patch in the first round.
    scale : (float, float)
        Pixels of the movie's frames to a pixel of the patches.

    Returns
    -------
    (ndarray, LocalMotion)
        What to add to the whole-frame shifts of the groups, shape [groups, 2], in pixels of the movie's frames, and the
        model.
    """
    whole = np.zeros((len(patches.times), 2))
    span = max(1.0, float(patches.times.max()))
    powers = np.tile(span ** -np.array([1.0, 2.0, 3.0]), 6)
    basis = motion_basis(patches.times / span, patches.centres[:, :1], patches.centres[:, 1:])
    free = basis - basis.mean(axis=1, keepdims=True)
    coefficients = (model.coefficients / powers).T  # [18, 2]
    for _ in range(_ROUNDS):
        shifts = (whole + basis @ coefficients) / scale
        slopes, weight = _measure(patches, shifts, weight)
        steps = slopes.steps * scale
        share = slopes.weights / slopes.weights.sum(axis=0)  # [patches, 2]
        common = np.einsum("pgc,pc->gc", steps, share)
        whole += common
        left = steps - common
        for axis in range(2):
            root = np.sqrt(share[:, axis])[:, None]
            lines = (free * root[..., None]).reshape(-1, COEFFICIENTS)
            coefficients[:, axis] += np.linalg.lstsq(lines, (left[..., axis] * root).ravel(), rcond=1e-10)[0]
    return whole - whole[0], LocalMotion((coefficients * powers[:, None]).T)


def _measure(patches: Patches, shifts: NDArray[np.float64], weight: Tensor) -> tuple[_Slopes, Tensor]:
    """Measure slopes and curvatures at these shifts; also return weights for the next round."""
    shape = patches.shape
    kx, ky = (2 * torch.pi * k for k in rectangle_frequencies(shape, device=weight.device))
    twice = torch.full_like(kx, 2.0)
    twice[0] = 1
    weighted = weight * twice
    steps, curvatures = [], []
    together = torch.zeros_like(weight)
    apart = torch.zeros_like(weight)
    for spectra, moves in zip(patches, shifts, strict=True):
        ramp_x, ramp_y = shift_ramps(shape, torch.from_numpy(moves).to(weight.device))
        moved = spectra * ramp_x * ramp_y
        total = moved.sum(dim=0)
        power = moved.abs().square().sum(dim=0)
        together += total.abs().square()
        apart += power
        product = (total * moved.conj()).imag * weighted  # the frame itself adds nothing to the imaginary part
        slope = torch.stack([-(product * kx).sum(dim=(1, 2)), -(product * ky).sum(dim=(1, 2))], dim=1)
        agreement = (total.abs().square() - power) * weighted
        curvature = torch.stack([(agreement * kx.square()).sum(), (agreement * ky.square()).sum()]) / len(moved)
        steps.append(slope.double().cpu().numpy())
        curvatures.append(curvature.double().cpu().numpy())
    slopes, curved = np.array(steps), np.array(curvatures)
    # Curvature belongs to the specimen, and to how much of it a patch holds: neither is negative.
    curved = np.maximum(curved, 0.2 * np.maximum(curved.mean(axis=0), 1e-30))
    length = np.clip(slopes / curved[:, None], -_LONGEST_STEP, _LONGEST_STEP)
    return _Slopes(length, curved), _agreement_weight(together, apart, shape, len(patches.times))


def _agreement_weight(together: Tensor, apart: Tensor, shape: Shape, count: int) -> Tensor:
    """Return the best weights of components: the part of signal in the sum of frames over the noise, by ring."""
    kx, ky = rectangle_frequencies(shape, device=together.device)
    edge = max(shape)
    rings = (torch.sqrt(kx.square() + ky.square()) * edge).round().long()
    last = int(rings.max()) + 1
    sums = [
        torch.zeros(last, device=together.device).index_add_(0, rings.ravel(), one.ravel()) for one in (together, apart)
    ]
    signal = ((sums[0] - sums[1]) / (count - 1)).clamp(min=0)  # n times the power of the specimen in one frame
    noise = ((sums[1] - signal) / count).clamp(min=1e-30)
    ratio = signal / noise
    smooth = torch.nn.functional.avg_pool1d(ratio[None, None], 5, 1, 2, count_include_pad=False)[0, 0]
    members = torch.bincount(rings.ravel(), minlength=last).clamp(min=1)
    level = smooth / (1 + smooth) / (noise / members)
    level = level / level.max().clamp(min=1e-30)
    weight = level[rings]
    weight[0, 0] = 0
    return weight
