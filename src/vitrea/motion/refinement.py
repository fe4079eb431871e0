"""Joint refinement of whole-frame shifts and local motion on whole frames, without patches and without peaks.

What is maximised is the likelihood of all frames, for a specimen and noise that are Gaussian with power by frequency:
the power of the sum of all moved frames, weighted by frequency. Each pixel of each frame tells, by its slope against
that sum, which way it should move; slopes are summed with the functions of place that the model is made of. So specimen
counts where it lies, not at the centre of a patch, and none is blurred by the bending inside one. Steps are
Gauss-Newton's; the local motion is drawn to 0 as far as noise asks for it (`motion.shrinkage`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vitrea.fourier.rectangles import Shape, rectangle_frequencies, rectangle_to_fourier, rectangle_to_real
from vitrea.kernels.warp import warp_add
from vitrea.motion.field import PLACES, TIMES, MotionField, PlaceSums
from vitrea.motion.local import LocalMotion
from vitrea.motion.shrinkage import shrink

Array = NDArray[np.float64]

_ROUNDS = 8
# Pixels of the frames compared: no place moves further in a round, and the last round moves none further than this.
_LONGEST_STEP, _SETTLED = 2.0, 0.02
# Of a frame's rows or columns, on each side: weights rise from 0 to 1, so that no edge is taken for specimen.
_SOFT_EDGE = 0.03
# Of the mean: curvature belongs to the specimen, and no combination of functions has less.
_LEAST_CURVATURE = 0.05


@dataclass(frozen=True)
class RefinedMotion:
    """What came of it.

    Attributes
    ----------
    shifts : ndarray, shape [groups, 2]
        To add to the whole-frame shifts, in pixels of the movie's frames.
    model : LocalMotion
        Its mean over the frame is 0.
    noise : ndarray, shape [2]
        Standard deviation of each shift along x and y, in pixels of the movie's frames; 0 if it is not known.
    """

    shifts: Array
    model: LocalMotion
    noise: Array


def refine_motion(
    frames: Tensor, times: Array, applied: Array, model: LocalMotion, used: Tensor, scale: tuple[float, float]
) -> RefinedMotion:
    """Refine whole-frame shifts and the local model together.

    Parameters
    ----------
    frames : Tensor of float32, shape [groups, y, x]
        Frames, or sums of groups of them, at the sampling of the alignment, moved by their whole-frame shifts.
    times : ndarray, shape [groups]
        Frames since the first one used.
    applied : ndarray, shape [groups, 2]
        Those shifts, in pixels of `frames`: what they brought in from the opposite side is left out.
    model : LocalMotion
        To begin with.
    used : Tensor of bool, shape [y, x // 2 + 1]
        Which components of a frame are compared.
    scale : (float, float)
        Pixels of the movie's frames to one of `frames`, along x and y.
    """
    field, slopes = MotionField(times), _Slopes(frames, applied, used, np.asarray(scale))
    whole, coefficients = field.split(model)
    start = RefinedMotion(whole - whole[0], field.model(coefficients), np.zeros(2))
    noise = np.zeros(2)
    for _ in range(_ROUNDS):
        measured = slopes.measure(whole, field.model(coefficients), times)
        if not all(matrix[0, 0] > 0 for matrix in measured.information):
            return start  # nothing in these frames agrees
        step = _step(measured, field, coefficients)
        longest = step.longest(field, scale)
        part = min(1.0, _LONGEST_STEP / max(longest, 1e-9))
        whole = whole + part * step.whole
        coefficients = coefficients + part * step.coefficients
        noise = step.noise
        if longest < _SETTLED:
            break
    return RefinedMotion(whole - whole[0], field.model(coefficients), noise)


@dataclass(frozen=True)
class _Measured:
    """Slopes of the log-likelihood and its curvature, in pixels of the movie's frames.

    Attributes
    ----------
    slopes : ndarray, shape [groups, 2, 6]
        By axis and function of place; 0 on average over groups.
    information : ndarray, shape [2, 6, 6]
    """

    slopes: Array
    information: Array


@dataclass(frozen=True)
class _Step:
    """Changes of whole-frame shifts, shape [groups, 2], and coefficients, [5, 3, 2]; the noise of the former."""

    whole: Array
    coefficients: Array
    noise: Array

    def longest(self, field: MotionField, scale: tuple[float, float]) -> float:
        """Return the furthest that a place moves, in pixels of the frames compared."""
        line = np.array([-0.5, 0.0, 0.5])
        x, y = (grid.ravel()[:, None] for grid in np.meshgrid(line, line))
        model = field.model(self.coefficients)
        moves = model.shifts(field.times, x, y) + self.whole
        moves -= moves.mean(axis=1, keepdims=True)
        return float(np.hypot(*np.moveaxis(moves / np.asarray(scale), -1, 0)).max())


def _step(measured: _Measured, field: MotionField, coefficients: Array) -> _Step:
    """Return the step to the most probable motion."""
    courses = field.courses
    groups = len(courses)
    beside = measured.information[:, 0, 1:] / measured.information[:, 0, :1]  # what a whole-frame shift takes up
    information = measured.information[:, 1:, 1:] - measured.information[:, 1:, :1] * beside[:, None]
    information = np.stack([_positive(matrix) for matrix in information])
    slopes = measured.slopes[..., 1:] - measured.slopes[..., :1] * beside  # [groups, 2, 5]
    along = np.einsum("gas,gb->asb", slopes, courses)
    fit = coefficients + np.linalg.solve(information, along).transpose(1, 2, 0)
    # What no model of this kind explains is noise, by which the likelihood is scaled.
    left = slopes - np.einsum("asb,gb->gas", along, courses)
    freedom = (groups - 1 - TIMES) * PLACES * 2
    unexplained = np.einsum("gas,ast,gat->", left, np.linalg.inv(information), left)
    noise = float(unexplained / freedom) if freedom > 0 else 1.0
    change = shrink(information, fit, noise) - coefficients
    taken = np.einsum("sba,gb,as->ga", change, courses, measured.information[:, 0, 1:])
    whole = (measured.slopes[..., 0] - taken) / measured.information[:, 0, 0]
    return _Step(whole, change, np.sqrt(noise / measured.information[:, 0, 0]))


def _positive(matrix: Array) -> Array:
    """Return the symmetric matrix with its smallest eigenvalues raised."""
    values, vectors = np.linalg.eigh(matrix)
    least = _LEAST_CURVATURE * max(float(np.abs(values).mean()), 1e-30)
    return np.asarray((vectors * np.maximum(values, least)) @ vectors.T)


class _Slopes:
    """Measures slopes and curvatures of the likelihood of moved frames."""

    def __init__(self, frames: Tensor, applied: Array, used: Tensor, scale: Array) -> None:
        self._frames = frames - frames.mean(dim=(1, 2), keepdim=True)
        self._shape: Shape = (frames.shape[1], frames.shape[2])
        self._scale, self._used = scale, used
        self._sums = PlaceSums(self._shape, frames.device)
        self._window = _window(self._shape, applied).to(frames.device)
        self._kx, self._ky = rectangle_frequencies(self._shape, device=frames.device)
        self._apart = torch.zeros(self._shape[0], self._shape[1] // 2 + 1, device=frames.device)
        for frame in self._frames:
            self._apart += rectangle_to_fourier(frame).abs().square()

    def measure(self, whole: Array, model: LocalMotion, times: Array) -> _Measured:
        """Return slopes and curvatures at these shifts."""
        count, shape = len(self._frames), self._shape
        moved = torch.zeros_like(self._frames)
        for frame, shift, time, out in zip(self._frames, whole, times, moved, strict=True):
            place = model.at_frame(float(time))
            place[:, 0] += shift
            warp_add(frame, torch.from_numpy(place / self._scale[:, None]), out)
        total = moved.sum(dim=0)
        together = rectangle_to_fourier(total)
        weight = self._best_weight(together.abs().square(), count)
        reference = together * weight
        slopes, information = np.empty((count, 2, 6)), np.empty((2, 6, 6))
        for axis, frequency in enumerate((self._kx, self._ky)):
            wave = 2 * torch.pi * frequency
            slope = rectangle_to_real(reference * (1j * wave), shape) * self._window
            slopes[:, axis] = [self._sums.means(frame * slope) for frame in moved]
            curved = rectangle_to_real(reference * wave.square(), shape) * total
            # Each frame agrees with itself in the sum, noise and all: that part is the same everywhere.
            alone = (self._apart * weight * wave.square() * self._twice()).double().sum()
            agreement = (curved - float(alone)) * self._window / (count - 1)
            information[axis] = self._sums.products(agreement)
        slopes -= slopes.mean(axis=0)
        return _Measured(slopes / self._scale[:, None], information / (self._scale**2)[:, None, None])

    def _twice(self) -> Tensor:
        """Components along x that stand for two, by columns."""
        twice = torch.full_like(self._kx, 2.0)
        twice[0] = 1
        if self._shape[1] % 2 == 0:
            twice[-1] = 1
        return twice

    def _best_weight(self, together: Tensor, count: int) -> Tensor:
        """Return the weights of the likelihood: S / (N (N + n S)), signal S and noise N by ring, n frames."""
        rings = (torch.sqrt(self._kx.square() + self._ky.square()) * max(self._shape)).round().long()
        last = int(rings.max()) + 1
        both, alone, members = (
            torch.zeros(last, device=together.device).index_add_(0, rings.ravel(), (one * self._twice()).ravel())
            for one in (together, self._apart, torch.ones_like(together))
        )
        signal = ((both - alone) / (count * (count - 1))).clamp(min=0) / members
        noise = (alone / count / members - signal).clamp(min=1e-30)
        ratio = torch.nn.functional.avg_pool1d((count * signal / noise)[None, None], 5, 1, 2, count_include_pad=False)
        level = (ratio / (1 + ratio))[0, 0] / (count * noise)
        return level[rings] * self._used


def _window(shape: Shape, applied: Array) -> Tensor:
    """Return weights of pixels: 0 where any frame was moved in from the opposite side, 1 inside."""
    lines = []
    for length, moves in zip(shape, (applied[:, 1], applied[:, 0]), strict=True):
        place = torch.arange(length, dtype=torch.float64) + 0.5
        inside = torch.minimum(place - max(0.0, moves.max()), length - place - max(0.0, -moves.min()))
        lines.append(0.5 - 0.5 * torch.cos(torch.pi * (inside / (_SOFT_EDGE * length)).clamp(0, 1)))
    return torch.outer(*lines).float()
