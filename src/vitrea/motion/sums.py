"""Sums of aligned frames: plain, weighted by exposure, and of their amplitude spectra."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vitrea.fourier.rectangles import (
    Shape,
    crop_rectangle,
    rectangle_frequencies,
    rectangle_to_fourier,
    rectangle_to_real,
    shift_ramps,
)
from vitrea.kernels.warp import warp_add
from vitrea.motion.local import LocalMotion
from vitrea.optics.dose import critical_exposure

# Å: pixels of the spectra written for CTF fits, as in CTFFIND and RELION; finer ones hold no rings.
_SPECTRUM_PIXEL = 1.4


@dataclass(frozen=True)
class Exposure:
    """Exposure of a movie.

    Attributes
    ----------
    per_frame : float
        e-/Å².
    before : float
        e-/Å² that the specimen had received before the movie's first frame.
    voltage : float
        kV.
    restore_power : bool
        Whether the weighted sum is rescaled so that noise has the power it has in the plain sum.
    """

    per_frame: float
    before: float = 0.0
    voltage: float = 300.0
    restore_power: bool = True


@dataclass(frozen=True)
class Wanted:
    """Which sums to make.

    Attributes
    ----------
    plain : bool
        The sum without weights.
    exposure : Exposure or None
        For the sum weighted by exposure; None: none.
    spectrum_groups : sequence of slice
        Frames to sum before amplitudes are taken for the sum of spectra; empty: none. Rings of drifting, damaged frames
        survive in it.
    spectrum_size : int
        Rows and columns of that.
    """

    plain: bool = True
    exposure: Exposure | None = None
    spectrum_groups: Sequence[slice] = ()
    spectrum_size: int = 512


@dataclass(frozen=True)
class Sums:
    """Sums of aligned frames.

    Attributes
    ----------
    plain, weighted : Tensor or None
        float32, shape [y, x].
    spectrum : Tensor or None
        Sum of amplitudes, float32, shape [size, size], the origin at pixel size // 2.
    spectrum_pixel : float
        Å: pixel size of an image that has this spectrum: 1.4, or that of the frames where it is coarser.
    """

    plain: Tensor | None = None
    weighted: Tensor | None = None
    spectrum: Tensor | None = None
    spectrum_pixel: float = 0.0


@dataclass(frozen=True)
class FrameGeometry:
    """How the frames that are summed lie.

    Attributes
    ----------
    shape : (int, int)
        Rows and columns of the images.
    pixel_size : float
        Å.
    shifts : ndarray, shape [frames, 2]
        x, y in pixels of these images that move each frame onto the first.
    local : LocalMotion or None
        Further shifts, in pixels of the movie's frames.
    scale : (float, float)
        Pixels of the movie's frames to a pixel of these images, along x and y.
    first : int
        Number, from 0, of the first of them in the movie; it decides the exposure.
    """

    shape: Shape
    pixel_size: float
    shifts: NDArray[np.float64]
    local: LocalMotion | None = None
    scale: tuple[float, float] = (1.0, 1.0)
    first: int = 0


def _first_weight(geometry: FrameGeometry, exposure: Exposure, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the exposure filter of the first frame, and what turns that of each frame into that of the next."""
    kx, ky = rectangle_frequencies(geometry.shape, device=device)
    rate = -0.5 / critical_exposure(torch.sqrt(kx.square() + ky.square()) / geometry.pixel_size, exposure.voltage)
    decay = rate * exposure.per_frame  # of the logarithm, in one frame; 0 at the origin
    if not exposure.restore_power:
        weight = torch.exp(rate * (exposure.before + (geometry.first + 1) * exposure.per_frame))
        return weight, torch.exp(decay)
    # Weights over the root of their mean square: what all frames share cancels, and the rest is a geometric series.
    count = len(geometry.shifts)
    series = torch.expm1(2 * count * decay) / (count * torch.expm1(2 * decay))
    series[0, 0] = 1
    return series.rsqrt(), torch.exp(decay)


def sum_frames(spectra: Callable[[int], Tensor], geometry: FrameGeometry, wanted: Wanted) -> Sums:
    """Sum aligned frames.

    Parameters
    ----------
    spectra : callable
        Gives the transform (`fourier.rectangles`) of the i-th frame, of as many as `geometry` has shifts.
    geometry : FrameGeometry
    wanted : Wanted
    """
    shape = geometry.shape
    device = spectra(0).device
    ramps = shift_ramps(shape, torch.from_numpy(geometry.shifts).to(device))
    totals: dict[str, Tensor] = {}
    weight, step = (None, None) if wanted.exposure is None else _first_weight(geometry, wanted.exposure, device)
    group_of = {number: index for index, group in enumerate(wanted.spectrum_groups) for number in _numbers(group)}
    amplitudes, part = torch.zeros(shape[0], shape[1] // 2 + 1, device=device), None
    for number in range(len(geometry.shifts)):
        moved = spectra(number) * ramps[0][number]
        moved *= ramps[1][number]
        if number in group_of:
            part = moved.clone() if part is None else part.add_(moved)
            if group_of.get(number + 1) != group_of[number]:
                amplitudes, part = amplitudes.add_(part.abs()), None
        if weight is not None and step is not None:
            _add(totals, "weighted", moved * weight, geometry, number)
            weight *= step
        if wanted.plain:
            _add(totals, "plain", moved, geometry, number)
    if geometry.local is None:
        totals = {kind: rectangle_to_real(total, shape) for kind, total in totals.items()}
    spectrum, pixel = None, 0.0
    if group_of:
        spectrum, pixel = _square_spectrum(amplitudes, shape, geometry.pixel_size, wanted.spectrum_size)
    return Sums(totals.get("plain"), totals.get("weighted"), spectrum, pixel)


def _numbers(group: slice) -> range:
    return range(group.start, group.stop)


def _add(totals: dict[str, Tensor], kind: str, moved: Tensor, geometry: FrameGeometry, number: int) -> None:
    """Add a frame, moved as a whole, to a sum: of transforms, or of images where parts move on their own."""
    if geometry.local is None:
        totals[kind] = totals[kind].add_(moved) if kind in totals else moved.clone()
        return
    image = rectangle_to_real(moved, geometry.shape)
    if kind not in totals:
        totals[kind] = torch.zeros_like(image)
    field = geometry.local.at_frame(float(number)) / np.asarray(geometry.scale)[:, None]
    warp_add(image, torch.from_numpy(field), totals[kind])


def _square_spectrum(half: Tensor, shape: Shape, pixel_size: float, size: int) -> tuple[Tensor, float]:
    """Lay out a half plane of amplitudes as RELION does: whole, square, centred, cut at 1.4 Å pixels, resampled."""
    rows, columns = shape
    mirrored = half[:, 1 : (columns + 1) // 2].flip(-1)
    mirrored = torch.roll(mirrored.flip(0), 1, 0)
    whole = torch.fft.fftshift(torch.cat([half, mirrored], dim=1))
    edge = min(rows, columns)
    if rows != columns:
        whole = _resampled(whole, (edge, edge))
    if pixel_size < _SPECTRUM_PIXEL:
        needed = math.ceil(edge * pixel_size / _SPECTRUM_PIXEL)
        needed += needed % 2
        start = edge // 2 - needed // 2
        whole = whole[start : start + needed, start : start + needed]
        pixel_size = edge * pixel_size / needed
    return _resampled(whole, (size, size)), pixel_size


def _resampled(image: Tensor, shape: Shape) -> Tensor:
    """Resample an image of the same field to fewer pixels, or more, by cutting or padding its transform."""
    transform = rectangle_to_fourier(image)
    old: Shape = (image.shape[0], image.shape[1])
    small = min(old[0], shape[0]), min(old[1], shape[1])
    cut = crop_rectangle(transform, old, small)
    if small != shape:
        padded = torch.zeros(shape[0], shape[1] // 2 + 1, dtype=cut.dtype, device=cut.device)
        positive, negative = (small[0] + 1) // 2, small[0] // 2
        padded[:positive, : cut.shape[1]] = cut[:positive]
        padded[shape[0] - negative :, : cut.shape[1]] = cut[small[0] - negative :]
        cut = padded
    # The origin stays at pixel n // 2: half a field from the first pixel, in even images exactly.
    return rectangle_to_real(cut, shape)
