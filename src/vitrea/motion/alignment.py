"""Alignment of the frames of a movie, or of a part of them, to each other.

Grant & Grigorieff (2015), doi:10.7554/eLife.06980 (Unblur): each frame is compared with the sum of all others, both
damped by a B-factor; the shifts found are smoothed over time and applied, and all is done again until they settle.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vitrea.fourier.rectangles import Shape, rectangle_frequencies, rectangle_to_real, shift_ramps, smooth_size
from vitrea.motion.smoothing import polynomial_smooth, savitzky_golay, spline_smooth

# Components damped below this part say nothing about a shift.
_NEGLIGIBLE = 1e-3
# Half the width, in pixels of the correlation maps, of the window searched once shifts are nearly right.
_WINDOW = 4
# Degree of the polynomial in time that smooths the first, coarse shifts, as in Unblur.
_COARSE_DEGREE = 4


@dataclass(frozen=True)
class AlignmentSettings:
    """How frames are aligned.

    Attributes
    ----------
    b_factor : float
        Å²; correlations are weighted with exp(-B k² / 4).
    minimum_shift : float
        Å; nearer to the origin no peak is believed at first, because the detector's fixed pattern makes one there.
    maximum_shift : float
        Å; the furthest that one iteration may move a frame.
    threshold : float
        Å; done when no frame moves further than this.
    max_iterations : int
    smoothing : str
        How shifts are smoothed over time: "spline" (stiffness by cross-validation), "savitzky-golay" (as Unblur does),
        "none".
    smoothing_window : int
        Frames over which "savitzky-golay" fits a straight line.
    running_average : int
        Frames averaged with each one before it is compared; 1: none.
    vertical_mask, horizontal_mask : int
        Widths in Fourier pixels of the lines of the central cross left out of the comparison: fixed patterns of
        detectors read out in stripes. 0: nothing.
    """

    b_factor: float = 1500.0
    minimum_shift: float = 2.0
    maximum_shift: float = 80.0
    threshold: float = 0.5
    max_iterations: int = 20
    smoothing: Literal["spline", "savitzky-golay", "none"] = "spline"
    smoothing_window: int = 5
    running_average: int = 1
    vertical_mask: int = 0
    horizontal_mask: int = 0


@dataclass(frozen=True)
class Alignment:
    """Shifts of frames.

    Attributes
    ----------
    shifts : ndarray, shape [frames, 2]
        x, y in pixels of the images aligned: what moves each frame onto the first one.
    iterations : int
    largest : float
        The furthest a frame moved in the last iteration, in pixels.
    converged : bool
        Whether the last iteration moved no frame further than the threshold.
    """

    shifts: NDArray[np.float64]
    iterations: int
    largest: float
    converged: bool


def alignment_shape(shape: Shape, pixel_size: float, b_factor: float) -> Shape:
    """Return the size to which frames may be cut in Fourier space without a loss for their alignment.

    Parameters
    ----------
    shape : (int, int)
        Rows and columns of the frames.
    pixel_size : float
        Å.
    b_factor : float
        Å² of `AlignmentSettings`.
    """
    if b_factor <= 0:
        return shape
    finest = math.sqrt(4 * math.log(1 / _NEGLIGIBLE) / b_factor)  # 1/Å
    part = min(1.0, 2 * finest * pixel_size)
    return smooth_size(shape[0] * part, shape[0]), smooth_size(shape[1] * part, shape[1])


def align_frames(
    spectra: Tensor, shape: Shape, pixel_size: tuple[float, float], settings: AlignmentSettings
) -> Alignment:
    """Align frames to the sum of the others.

    Parameters
    ----------
    spectra : Tensor, complex64, shape [frames, y, x // 2 + 1]
        Transforms of the frames in the layout of `fourier.rectangles`; any device.
    shape : (int, int)
        Rows and columns of the images they are transforms of.
    pixel_size : (float, float)
        Å along x and along y: frames cut in Fourier space may have pixels that are not quite square.
    settings : AlignmentSettings

    Returns
    -------
    Alignment
    """
    pixel = np.asarray(pixel_size, dtype=np.float64)
    weight = component_weight(shape, pixel, settings).to(spectra.device)
    count = spectra.shape[0]
    shifts = np.zeros((count, 2))
    search = _Search(shape, pixel, settings.maximum_shift, spectra.device)
    # The peak of the fixed pattern is a pixel wide: Unblur leaves out at least that.
    coarse = settings.minimum_shift > 0
    largest, iteration = math.inf, 0
    for iteration in range(1, settings.max_iterations + 1):
        correlations = _correlations(spectra, shape, shifts, weight, settings.running_average)
        inner = max(settings.minimum_shift, 1.01 * pixel.max()) if coarse else 0.0
        moves = search.far(correlations, inner) if iteration == 1 else search.near(correlations)
        if settings.running_average > 1:
            # A window tells the mean error of its frames: what alternates from frame to frame it may tell with the
            # wrong sign. Averaged once more, no error grows.
            moves = _running_sums(torch.from_numpy(moves), settings.running_average, mean=True).numpy()
        moved = shifts + moves
        moved = polynomial_smooth(moved, _COARSE_DEGREE) if coarse else smooth_shifts(moved, settings)
        moves = moved - shifts
        moves -= moves[count // 2]
        shifts = shifts + moves
        largest = float(np.hypot(*(moves * pixel).T).max())
        if not coarse and largest <= settings.threshold:
            break
        coarse = False
    return Alignment(shifts - shifts[0], iteration, largest / pixel.max(), largest <= settings.threshold)


def smooth_shifts(
    shifts: NDArray[np.float64], settings: AlignmentSettings, noise: NDArray[np.float64] | None = None
) -> NDArray[np.float64]:
    """Smooth shifts over time, shape [frames, 2], as the settings say; `noise`: their standard deviation, if known."""
    if settings.smoothing == "spline":
        return spline_smooth(shifts, noise)
    return savitzky_golay(shifts, settings.smoothing_window) if settings.smoothing == "savitzky-golay" else shifts


def component_weight(shape: Shape, pixel: NDArray[np.float64], settings: AlignmentSettings) -> Tensor:
    """Return the weights of the components of a correlation, shape [y, x // 2 + 1]; 0 for the mean.

    `pixel` is the size of a pixel in Å along x and y.
    """
    kx, ky = rectangle_frequencies(shape)
    square = (kx / pixel[0]).square() + (ky / pixel[1]).square()
    weight = torch.exp(-settings.b_factor / 4 * square)
    if settings.vertical_mask > 0:
        weight[:, : (settings.vertical_mask + 1) // 2] = 0
    if settings.horizontal_mask > 0:
        half = (settings.horizontal_mask + 1) // 2
        weight[:half] = 0
        weight[shape[0] - half + 1 :] = 0
    weight[0, 0] = 0
    return weight


def _correlations(
    spectra: Tensor, shape: Shape, shifts: NDArray[np.float64], weight: Tensor, running_average: int
) -> Tensor:
    """Return the transforms of each frame's correlation with the sum of the others, all moved by `shifts`."""
    ramp_x, ramp_y = shift_ramps(shape, torch.from_numpy(shifts).to(spectra.device))
    moved = spectra * ramp_x
    moved *= ramp_y
    total = moved.sum(dim=0)
    if running_average > 1:
        moved = _running_sums(moved, running_average)
    others = total - moved
    others *= weight
    return torch.mul(others, moved.conj(), out=others)


def _running_sums(moved: Tensor, width: int, mean: bool = False) -> Tensor:
    """Sum, or average, each frame and its neighbours; windows reaching over an end are moved inside, as in Unblur."""
    count = moved.shape[0]
    half = max(1, (width - 1) // 2)
    sums = torch.empty_like(moved)
    for frame in range(count):
        start = max(0, min(frame - half, count - 1 - 2 * half))
        window = moved[start : min(count, start + 2 * half + 1)]
        sums[frame] = window.mean(dim=0) if mean else window.sum(dim=0)
    return sums


class _Search:
    """Finds the peaks of correlations, in whole maps or, much faster, in a small window about the origin."""

    def __init__(self, shape: Shape, pixel: NDArray[np.float64], maximum: float, device: torch.device) -> None:
        self._shape = shape
        rows, columns = shape
        y = torch.fft.fftfreq(rows, 1 / rows, dtype=torch.float64)[:, None] * pixel[1]
        x = torch.fft.fftfreq(columns, 1 / columns, dtype=torch.float64) * pixel[0]
        self._radius = torch.hypot(x, y).to(torch.float32).to(device)
        self._maximum = max(maximum, float(pixel.max()))
        reach = np.minimum(np.maximum(1, np.floor(self._maximum / pixel)), (columns // 2 - 1, rows // 2 - 1))
        self._reach_x, self._reach_y = (min(_WINDOW, int(limit)) for limit in reach)
        self._columns, self._rows = self._waves(device)

    def _waves(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Return the matrices that evaluate an inverse transform at the pixels of the window only."""
        kx, ky = rectangle_frequencies(self._shape, dtype=torch.float64)
        x = torch.arange(-self._reach_x, self._reach_x + 1, dtype=torch.float64)
        y = torch.arange(-self._reach_y, self._reach_y + 1, dtype=torch.float64)
        twice = torch.full_like(kx, 2.0)  # kx < 0 is not stored
        twice[0] = 1
        if self._shape[1] % 2 == 0:
            twice[-1] = 1
        columns = torch.polar(twice[:, None].expand(-1, len(x)).contiguous(), 2 * torch.pi * kx[:, None] * x)
        rows = torch.polar(torch.ones(len(y), len(ky), dtype=torch.float64), 2 * torch.pi * y[:, None] * ky.T)
        return columns.to(torch.complex64).to(device), rows.to(torch.complex64).to(device)

    def far(self, correlations: Tensor, inner: float) -> NDArray[np.float64]:
        """Find the highest peaks from `inner` to the maximum shift (Å); return x, y in pixels, shape [frames, 2]."""
        allowed = (self._radius <= self._maximum) & (self._radius >= inner)
        rows, columns = self._shape
        moves = np.zeros((correlations.shape[0], 2))
        for frame, correlation in enumerate(correlations):
            map_ = rectangle_to_real(correlation, self._shape)
            peak = int(torch.where(allowed, map_, -torch.inf).argmax())
            y, x = divmod(peak, columns)
            around = map_[torch.arange(y - 1, y + 2)[:, None] % rows, torch.arange(x - 1, x + 2) % columns]
            signed = (x if x < (columns + 1) // 2 else x - columns, y if y < (rows + 1) // 2 else y - rows)
            moves[frame] = np.array(signed) + vertex(around.double().cpu().numpy())
        return moves

    def near(self, correlations: Tensor) -> NDArray[np.float64]:
        """Find the highest peaks near the origin; where one lies on the window's edge, in the whole map."""
        maps = (self._rows @ (correlations @ self._columns)).real.double().cpu().numpy()
        count, height, width = maps.shape
        peaks = maps.reshape(count, -1).argmax(axis=1)
        moves = np.zeros((count, 2))
        for frame, (y, x) in enumerate(zip(*np.divmod(peaks, width), strict=True)):
            if 0 < y < height - 1 and 0 < x < width - 1:
                centre = np.array([x - self._reach_x, y - self._reach_y])
                moves[frame] = centre + vertex(maps[frame, y - 1 : y + 2, x - 1 : x + 2])
            else:
                moves[frame] = self.far(correlations[frame : frame + 1], 0.0)[0]
        return moves


def vertex(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return where the paraboloid fitted to 3 x 3 values about a maximum peaks: x, y in pixels from the centre.

    Least squares over the nine values; at most one pixel off, and 0 where the values do not curve downwards.
    """
    steps = np.array([-1.0, 0.0, 1.0])
    slope_x, slope_y = (values * steps).sum() / 6, (values * steps[:, None]).sum() / 6
    curve_x = (values * (steps**2 - 2 / 3)).sum() / 2
    curve_y = (values * (steps[:, None] ** 2 - 2 / 3)).sum() / 2
    cross = (values * steps * steps[:, None]).sum() / 4
    determinant = 4 * curve_x * curve_y - cross**2
    if determinant <= 0 or curve_x >= 0:
        return np.zeros(2)
    x = (cross * slope_y - 2 * curve_y * slope_x) / determinant
    y = (cross * slope_x - 2 * curve_x * slope_y) / determinant
    return np.asarray(np.clip([x, y], -1.0, 1.0))
