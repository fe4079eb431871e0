"""Motion that differs from place to place: trajectories of patches, and the smooth model fitted to them.

The model is RELION's (Zivanov, Nakane & Scheres 2019, doi:10.1107/S205225251801463X; Zheng et al. 2017,
doi:10.1038/nmeth.4193): a polynomial of third order in time and second order in space, without a constant in time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vitrea.fourier.rectangles import Shape, rectangle_to_fourier, smooth_size
from vitrea.motion.alignment import AlignmentSettings, align_frames

COEFFICIENTS = 18
# A patch reaches this much further than its share of the field on each side; a cosine there halves its weight at the
# border, so that every part of the specimen counts once and no edge correlates with itself.
_OVERLAP = 0.25
# Residuals beyond this many standard deviations are outliers (Tukey's biweight).
_TUKEY = 4.685
_ROUNDS = 10
# Å: the furthest that a patch is moved from the place that the alignment of whole frames gave it, per iteration.
_FURTHEST = 40.0


@dataclass(frozen=True)
class LocalMotion:
    """The model: shifts that local parts of a frame need beyond those of the whole frame.

    Attributes
    ----------
    coefficients : ndarray, shape [2, 18]
        For x and y, in pixels of the movie's frames: terms 1, x, x², y, y², xy, each times z, z², z³ (RELION's order).
        x and y run from -0.5 to 0.5 over the frame, z is the number of frames since the first one used.
    """

    coefficients: NDArray[np.float64]

    def shifts(self, z: NDArray[np.float64], x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return shifts x, y in pixels, shape [..., 2], at times and places that broadcast."""
        return np.asarray(motion_basis(z, x, y) @ self.coefficients.T)

    def at_frame(self, z: float) -> NDArray[np.float64]:
        """Return the spatial coefficients (1, x, x², y, y², xy) of one frame, shape [2, 6]."""
        powers = np.array([z, z**2, z**3])
        return np.asarray(self.coefficients.reshape(2, 6, 3) @ powers)

    def without_mean(self) -> tuple[LocalMotion, NDArray[np.float64]]:
        """Return the model less its mean over the frame, and that mean: coefficients of z, z², z³, shape [2, 3]."""
        terms = self.coefficients.reshape(2, 6, 3).copy()
        mean = terms[:, 0] + (terms[:, 2] + terms[:, 4]) / 12  # x² and y² are 1/12 on average
        terms[:, 0] -= mean
        return LocalMotion(terms.reshape(2, COEFFICIENTS)), mean


@dataclass(frozen=True)
class Trajectories:
    """What was measured in patches.

    Attributes
    ----------
    centres : ndarray, shape [patches, 2]
        x, y from -0.5 to 0.5.
    times : ndarray, shape [groups]
        Frames since the first one used; the mean where frames were grouped.
    shifts : ndarray, shape [patches, groups, 2]
        x, y in pixels of the movie's frames, beyond the shifts of whole frames; 0 on average over time.
    converged : ndarray of bool, shape [patches]
    """

    centres: NDArray[np.float64]
    times: NDArray[np.float64]
    shifts: NDArray[np.float64]
    converged: NDArray[np.bool_]


def motion_basis(z: NDArray[np.float64], x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the 18 terms of the model at times and places that broadcast, shape [..., 18]."""
    z, x, y = np.broadcast_arrays(np.asarray(z, dtype=np.float64), x, y)
    space = np.stack([np.ones_like(z), x, x * x, y, y * y, x * y], axis=-1)
    time = np.stack([z, z * z, z**3], axis=-1)
    return (space[..., :, None] * time[..., None, :]).reshape(*z.shape, COEFFICIENTS)


def frame_groups(frames: int, size: int) -> list[slice]:
    """Divide frames into groups of `size`; what remains is added to the last ones: motion is fast in the first."""
    count = max(1, frames // size)
    sizes = np.full(count, frames // count if count == 1 else size)
    for extra in range(frames - int(sizes.sum())):
        sizes[count - 1 - extra % max(1, count - 1)] += 1
    ends = np.cumsum(sizes)
    return [slice(int(end - length), int(end)) for end, length in zip(ends, sizes, strict=True)]


def group_frames(frames: Tensor, size: int) -> tuple[Tensor, NDArray[np.float64]]:
    """Return sums of groups of so many frames, and the mean times of the groups, from 0.

    Parameters
    ----------
    frames : Tensor, shape [frames, y, x]
    size : int
    """
    groups = frame_groups(len(frames), size)
    times = np.array([(group.start + group.stop - 1) / 2 for group in groups], dtype=np.float64)
    return (torch.stack([frames[group].sum(dim=0) for group in groups]) if size > 1 else frames), times


class Patches:
    """The frames of a movie cut into overlapping patches with soft borders, transformed.

    Iterating gives the transforms of one patch after the other: complex64, shape [groups, y, x // 2 + 1].

    Parameters
    ----------
    frames : Tensor, shape [groups, y, x]
        Frames, or sums of groups of them, at the sampling of the alignment, moved by the shifts of whole frames.
    grid : (int, int)
        Patches along x and y.
    times : ndarray, shape [groups], optional
        Frames since the first one used; by default every frame is a group.

    Attributes
    ----------
    centres : ndarray, shape [patches, 2]
        x, y from -0.5 to 0.5.
    times : ndarray, shape [groups]
    shape : (int, int)
        Rows and columns of a patch.
    """

    def __init__(self, frames: Tensor, grid: tuple[int, int], times: NDArray[np.float64] | None = None) -> None:
        self.times = np.arange(len(frames), dtype=np.float64) if times is None else times
        height, width = frames.shape[1:]
        (above, rows), (left, columns) = _tiles(height, grid[1]), _tiles(width, grid[0])
        # Patches at the border reach over it, where there is nothing: each has its centre at that of its share.
        mean = frames.mean(dim=(1, 2), keepdim=True)
        self._frames = torch.nn.functional.pad(frames - mean, (left, left, above, above))
        self._tiles = [(row, column) for row in rows for column in columns]
        self.centres = np.array([(_centre(x, left, width), _centre(y, above, height)) for y, x in self._tiles])
        self.shape: Shape = (rows[0].stop - rows[0].start, columns[0].stop - columns[0].start)
        self._taper = _taper(self.shape, frames.device)

    def __len__(self) -> int:
        """Return the number of patches."""
        return len(self._tiles)

    def __iter__(self) -> Iterator[Tensor]:
        """Yield the transforms of each patch."""
        for row, column in self._tiles:
            yield rectangle_to_fourier(self._frames[:, row, column] * self._taper)


def measure_trajectories(
    patches: Patches, pixel_size: tuple[float, float], scale: tuple[float, float], settings: AlignmentSettings
) -> Trajectories:
    """Align the frames of every patch.

    Parameters
    ----------
    patches : Patches
    pixel_size : (float, float)
        Å along x and y at their sampling.
    scale : (float, float)
        Pixels of the movie's frames to a pixel of the patches, along x and y.
    settings : AlignmentSettings
        The minimum shift does not apply: fixed patterns were overcome by the alignment of whole frames. Nor does the
        smoothing over time: the model does that.
    """
    furthest = min(settings.maximum_shift, _FURTHEST)
    local = replace(settings, minimum_shift=0.0, maximum_shift=furthest, smoothing="none")
    shifts, converged = [], []
    for spectra in patches:
        alignment = align_frames(spectra, patches.shape, pixel_size, local)
        moved = alignment.shifts * scale
        shifts.append(moved - moved.mean(axis=0))
        converged.append(alignment.converged)
    return Trajectories(patches.centres, patches.times, np.array(shifts), np.array(converged, dtype=np.bool_))


def _tiles(length: int, count: int) -> tuple[int, list[slice]]:
    """Return how far windows reach over the ends of a line, and overlapping windows that share the line thus padded."""
    share = length / count
    size = smooth_size(share * (1 + 2 * _OVERLAP), 2 * length)
    starts = [round((number + 0.5) * share - size / 2) for number in range(count)]
    margin = max(0, -starts[0], starts[-1] + size - length)
    return margin, [slice(start + margin, start + margin + size) for start in starts]


def _centre(tile: slice, margin: int, length: int) -> float:
    return float(((tile.start + tile.stop - 1) / 2 - margin) / length - 0.5)


def _taper(shape: Shape, device: torch.device) -> Tensor:
    lines = []
    for length in shape:
        edge = max(1, round(length * 2 * _OVERLAP / (1 + 2 * _OVERLAP)))
        ramp = 0.5 - 0.5 * torch.cos(torch.pi * (torch.arange(edge, dtype=torch.float64) + 0.5) / edge)
        line = torch.ones(length, dtype=torch.float64)
        line[:edge] *= ramp
        line[length - edge :] *= ramp.flip(0)
        lines.append(line.float())
    return torch.outer(*lines).to(device)


def fit_local_motion(trajectories: Trajectories) -> tuple[LocalMotion, NDArray[np.float64]] | None:
    """Fit the model to trajectories, outliers given little weight.

    Only differences within a patch are measured, so that each patch has a free constant beside the model: the error of
    one frame, the first, is not imposed on all.

    Returns
    -------
    (LocalMotion, ndarray) or None
        The model, and its root-mean-square residual along x and y in pixels; None where there is too little to fit.
    """
    used = trajectories.converged
    if used.sum() * (len(trajectories.times) - 1) <= COEFFICIENTS or len(trajectories.times) < 4 or used.sum() < 9:
        return None
    centres, shifts = trajectories.centres[used], trajectories.shifts[used]
    span = max(1.0, float(trajectories.times.max()))
    basis = motion_basis(trajectories.times / span, centres[:, :1], centres[:, 1:])  # [patches, groups, 18]
    weights = np.ones(shifts.shape[:2])
    coefficients = np.zeros((COEFFICIENTS, 2))
    residual = shifts
    for _ in range(_ROUNDS):
        part = weights[..., None] / weights.sum(axis=1)[:, None, None]
        free = basis - (basis * part).sum(axis=1, keepdims=True)
        data = shifts - (shifts * part).sum(axis=1, keepdims=True)
        root = np.sqrt(weights)[..., None]
        flat = (free * root).reshape(-1, COEFFICIENTS), (data * root).reshape(-1, 2)
        coefficients = np.linalg.lstsq(*flat, rcond=1e-10)[0]
        residual = data - free @ coefficients
        distance = np.hypot(residual[..., 0], residual[..., 1])
        spread = max(1e-6, float(np.median(distance)) / 1.1774)  # of a Rayleigh distribution
        weights = np.clip(1 - (distance / (_TUKEY * spread)) ** 2, 1e-3, 1) ** 2
    powers = np.tile(span ** -np.array([1.0, 2.0, 3.0]), 6)
    rms = np.sqrt((residual**2 * weights[..., None]).sum(axis=(0, 1)) / weights.sum())
    return LocalMotion((coefficients * powers[:, None]).T), rms
