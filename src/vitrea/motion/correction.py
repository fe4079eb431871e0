"""Correction of one movie, from raw frames to sums."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vitrea.formats.gain import FrameCorrection
from vitrea.fourier.rectangles import Shape, rectangle_to_real, shift_ramps
from vitrea.motion.alignment import Alignment, AlignmentSettings, component_weight, smooth_shifts
from vitrea.motion.defects import find_hot_pixels
from vitrea.motion.distortion import Distortion, correct_distortion
from vitrea.motion.frames import FrameTransforms, align_whole, pixel_ratio
from vitrea.motion.local import (
    LocalMotion,
    Patches,
    Trajectories,
    fit_local_motion,
    frame_groups,
    group_frames,
    measure_trajectories,
)
from vitrea.motion.refinement import refine_motion
from vitrea.motion.sums import Exposure, FrameGeometry, Sums, Wanted, sum_frames

# Fewer patches along an axis do not determine the model, which is of second order in space.
FEWEST_PATCHES = 3
# Pixels: trajectories that the model misses by more are not understood, and it is not applied. RELION's figure.
_LARGEST_RESIDUAL = 10.0
FEWEST_FRAMES = 3


class BadMovieError(Exception):
    """A movie that cannot be aligned: one sentence that says why."""


@dataclass(frozen=True)
class CorrectionSettings:
    """What is done to a movie.

    Attributes
    ----------
    alignment : AlignmentSettings
    patches : (int, int)
        Along x and y; fewer than 3 along either: frames are moved as a whole.
    group_frames : int
        Frames summed before patches are aligned.
    bin_factor : float
        Pixels of a frame to a pixel of the sums; need not be whole.
    first, last : int
        First and last frame used, from 1; last 0: all.
    find_hot : bool
        Whether pixels that are too bright in the sum of all frames are treated as dead.
    plain : bool
        Whether the sum without weights is wanted.
    exposure : Exposure or None
        For the sum weighted by exposure; None: it is not wanted.
    spectrum_group : int
        Frames summed before amplitude spectra are summed for CTF fits; 0: no such sum.
    spectrum_size : int
    distortion : Distortion or None
        Anisotropic magnification to undo.
    """

    alignment: AlignmentSettings = field(default_factory=AlignmentSettings)
    patches: tuple[int, int] = (1, 1)
    group_frames: int = 1
    bin_factor: float = 1.0
    first: int = 1
    last: int = 0
    find_hot: bool = True
    plain: bool = True
    exposure: Exposure | None = None
    spectrum_group: int = 0
    spectrum_size: int = 512
    distortion: Distortion | None = None


@dataclass(frozen=True)
class CorrectedMovie:
    """What came of a movie.

    Attributes
    ----------
    sums : Sums
    pixel_size : float
        Å, of the sums.
    frames : int
        All there are in the movie.
    first : int
        First frame used, from 1.
    shape : (int, int)
        Rows and columns of the movie's frames.
    alignment : Alignment
        Shifts in pixels of the movie's frames, of the frames used.
    local : LocalMotion or None
    trajectories : Trajectories or None
    residual : float
        Root mean square in pixels by which the model misses the trajectories; 0 without them.
    hot : ndarray of int64, shape [pixels, 2]
        x, y from 0 of hot pixels.
    notes : tuple of str
        What the user should know.
    """

    sums: Sums
    pixel_size: float
    frames: int
    first: int
    shape: Shape
    alignment: Alignment
    local: LocalMotion | None
    trajectories: Trajectories | None
    residual: float
    hot: NDArray[np.int64]
    notes: tuple[str, ...] = ()


def correct_movie(
    raw: Callable[[int], NDArray[Any]],
    count: int,
    correction: FrameCorrection,
    pixel_size: float,
    settings: CorrectionSettings,
    device: torch.device,
) -> CorrectedMovie:
    """Align the frames of a movie and sum them.

    Parameters
    ----------
    raw : callable
        Returns frame i, from 0, as stored, shape [y, x]. Each frame used is read two or, where memory is short, three
        times.
    count : int
        Frames of the movie.
    correction : FrameCorrection
        Gain and dead pixels.
    pixel_size : float
        Å, of the frames.
    settings : CorrectionSettings
    device : torch.device

    Raises
    ------
    BadMovieError
        If too few frames are there, or a frame is empty.
    """
    numbers = _frames_used(count, settings)
    total = _total(raw, numbers, correction)
    hot = np.zeros(total.shape, dtype=np.bool_)
    if settings.find_hot:
        hot = find_hot_pixels(total, correction.dead)
        correction = correction.with_dead_pixels(hot) if hot.any() else correction
    source = FrameTransforms(raw, numbers, correction, settings.bin_factor, device)
    measured = _measure(source, pixel_size, settings)
    sums, final_pixel = _sum(source, measured, pixel_size, numbers.start, settings)
    too_few = f"it has only {count} frames; --last_frame_sum asks for {settings.last}" if settings.last > count else ""
    return CorrectedMovie(
        sums=sums,
        pixel_size=final_pixel,
        frames=count,
        first=numbers.start + 1,
        shape=source.full,
        alignment=measured.whole,
        local=measured.model,
        trajectories=measured.trajectories,
        residual=measured.residual,
        hot=np.argwhere(hot)[:, ::-1].astype(np.int64),
        notes=tuple(note for note in (too_few, *measured.notes) if note),
    )


@dataclass(frozen=True)
class _Measured:
    """The motion of a movie; shifts in pixels of its frames."""

    whole: Alignment
    model: LocalMotion | None = None
    trajectories: Trajectories | None = None
    residual: float = 0.0
    notes: tuple[str, ...] = ()


def _measure(source: FrameTransforms, pixel_size: float, settings: CorrectionSettings) -> _Measured:
    """Align whole frames and, where there are enough patches, these."""
    found, small, shape = align_whole(source, pixel_size, settings.alignment)
    scale = pixel_ratio(source.full, shape)
    pixel = (pixel_size * scale[0], pixel_size * scale[1])
    whole = replace(found, shifts=found.shifts * scale, largest=found.largest * max(scale))
    notes = () if found.converged else (f"shifts had not settled after {found.iterations} iterations",)
    if min(settings.patches) < FEWEST_PATCHES:
        return _Measured(whole, notes=notes)
    local = _measure_local(small, shape, pixel, scale, found, settings)
    moved = replace(whole, shifts=whole.shifts + local.more)
    return _Measured(moved, local.model, local.trajectories, local.residual, (*notes, local.note))


def _sum(
    source: FrameTransforms, measured: _Measured, pixel_size: float, first: int, settings: CorrectionSettings
) -> tuple[Sums, float]:
    """Return the sums and their pixel size; `first` is the number of the first frame, from 0."""
    scale = pixel_ratio(source.full, source.shape)
    pixel = pixel_size * scale[0]
    geometry = FrameGeometry(source.shape, pixel, measured.whole.shifts / scale, measured.model, scale, first)
    count = len(measured.whole.shifts)
    groups = frame_groups(count, settings.spectrum_group) if settings.spectrum_group else []
    wanted = Wanted(settings.plain, settings.exposure, groups, settings.spectrum_size)
    sums = sum_frames(source, geometry, wanted)
    return (sums, pixel) if settings.distortion is None else correct_distortion(sums, settings.distortion, pixel)


def _frames_used(count: int, settings: CorrectionSettings) -> range:
    last = min(count, settings.last) if settings.last > 0 else count
    numbers = range(settings.first - 1, last)
    if len(numbers) < FEWEST_FRAMES:
        raise BadMovieError(
            f"only {len(numbers)} of its {count} frames would be used; at least {FEWEST_FRAMES} are needed"
        )
    return numbers


def _total(raw: Callable[[int], NDArray[Any]], numbers: range, correction: FrameCorrection) -> NDArray[np.float32]:
    """Sum the frames with the gain applied; each must hold something."""
    total: NDArray[np.float32] | None = None
    for number in numbers:
        frame = raw(number)
        if not frame.any():
            raise BadMovieError(f"frame {number + 1} is empty: all its pixels are 0")
        if frame.dtype.kind == "f" and not np.isfinite(frame).all():
            raise BadMovieError(f"frame {number + 1} holds values that are no numbers")
        total = frame.astype(np.float32) if total is None else np.add(total, frame, out=total)
    if total is None:
        raise BadMovieError("it has no frames")
    return total if correction.gain is None else total * correction.gain


@dataclass(frozen=True)
class _Local:
    """What patches told: what to add to whole-frame shifts (movie pixels), the model, or why there is none."""

    more: NDArray[np.float64]
    model: LocalMotion | None
    trajectories: Trajectories
    residual: float
    note: str = ""


def _measure_local(
    small: Tensor,
    shape: Shape,
    pixel: tuple[float, float],
    scale: tuple[float, float],
    alignment: Alignment,
    settings: CorrectionSettings,
) -> _Local:
    """Measure and model the motion of patches, and refine whole-frame shifts with it."""
    ramp_x, ramp_y = shift_ramps(shape, torch.from_numpy(alignment.shifts).to(small.device))
    moved = (one * x * y for one, x, y in zip(small, ramp_x, ramp_y, strict=True))
    images = torch.stack([rectangle_to_real(one, shape) for one in moved])
    grouped, times = group_frames(images, settings.group_frames)
    patches = Patches(grouped, settings.patches, times)
    trajectories = measure_trajectories(patches, pixel, scale, settings.alignment)
    none = np.zeros_like(alignment.shifts)
    fit = fit_local_motion(trajectories)
    if fit is None:
        good = int(trajectories.converged.sum())
        return _Local(none, None, trajectories, 0.0, f"only {good} patches could be followed: no local motion")
    model, rms = fit
    residual = float(np.hypot(*rms))
    if rms.max() >= _LARGEST_RESIDUAL:
        note = f"the model misses the patches by {residual:.1f} pixels: no local motion"
        return _Local(none, None, trajectories, residual, note)
    used = component_weight(shape, np.array(pixel), settings.alignment).to(small.device) > 0
    refined = refine_motion(grouped, times, _at_groups(alignment.shifts, times), model, used, scale)
    frames = np.arange(len(alignment.shifts), dtype=np.float64)
    every = np.stack([np.interp(frames, times, column) for column in refined.shifts.T], axis=1)
    smooth = smooth_shifts(alignment.shifts * scale + every, settings.alignment, refined.noise)
    added = smooth - smooth[0] - alignment.shifts * scale
    # Paths are told relative to the whole frames as they lie now.
    beyond = _at_groups(added, times)
    relative = trajectories.shifts - (beyond - beyond.mean(axis=0))
    return _Local(added, refined.model, replace(trajectories, shifts=relative), residual)


def _at_groups(shifts: NDArray[np.float64], times: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return shifts of frames, shape [frames, 2], at the times of groups of them."""
    frames = np.arange(len(shifts), dtype=np.float64)
    return np.stack([np.interp(times, frames, column) for column in shifts.T], axis=1)
