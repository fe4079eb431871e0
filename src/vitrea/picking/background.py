"""What lies around the particles: local statistics, areas to avoid, boxes of plain ice, the spectrum to whiten by.

Avoiding areas of high variance or abnormal mean and choosing background boxes by their variance follow cisTEM (Grant,
Rohou & Grigorieff 2018, doi:10.7554/eLife.35383), whitening Sigworth (2004, doi:10.1016/j.jsb.2003.10.025).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter
from torch import Tensor

from vitrea.fourier.rectangles import rectangle_frequencies
from vitrea.picking.field import PickingField

Floats = NDArray[np.float32]
BoxChoice = Literal["lowest-variance", "usual-variance"]

_BINS = 120
_SMOOTH = 5  # bins over which a histogram is averaged before its peak is looked for
_WIDTHS = 2.0  # full widths at half maximum beyond the mode from which a value is abnormal
_EDGE = 0.12  # width of the low-pass filter's edge, relative to its frequency


@dataclass(frozen=True)
class Surroundings:
    """Statistics of the window around each pixel.

    Attributes
    ----------
    mean, deviation : ndarray of float32, shape [y, x]
        Mean and standard deviation of the window, in units of the micrograph's usual local standard deviation; the
        usual deviation is 1, the usual mean 0.
    window : int
        Edge of the window in pixels.
    """

    mean: Floats
    deviation: Floats
    window: int


def surroundings(field: PickingField, radius: float) -> Surroundings:
    """Measure mean and standard deviation in a square window of edge twice the radius (Å) around each pixel."""
    image = _without_gradient(field.image.numpy().astype(np.float64))
    window = max(3, round(2 * radius / field.pixel_size))
    mean = uniform_filter(image, window, mode="reflect")
    variance = uniform_filter(image * image, window, mode="reflect") - mean * mean
    deviation = np.sqrt(np.maximum(variance, 0.0))
    usual, _ = mode_and_width(deviation)
    unit = usual if usual > 0 else float(deviation.mean()) or 1.0
    middle, _ = mode_and_width(mean)
    return Surroundings(((mean - middle) / unit).astype(np.float32), (deviation / unit).astype(np.float32), window)


def _without_gradient(image: NDArray[np.float64]) -> NDArray[np.float64]:
    """Subtract the paraboloid that fits an image best: an uneven beam is no abnormal ice."""
    rows, columns = image.shape
    y, x = np.linspace(-1, 1, rows)[:, None], np.linspace(-1, 1, columns)[None, :]
    terms = [np.broadcast_to(term, image.shape).ravel() for term in (np.ones((1, 1)), y, x, y * x, y * y, x * x)]
    design = np.stack(terms, axis=1)
    fit = np.linalg.solve(design.T @ design, design.T @ image.ravel())
    return np.asarray(image - (design @ fit).reshape(image.shape))


def mode_and_width(values: NDArray[np.floating]) -> tuple[float, float]:
    """Return the mode of a distribution and its full width at half maximum, of a histogram without its far tails."""
    low, high = np.percentile(values, (0.5, 99.5))
    if not high > low:
        return float(low), 0.0
    # The bulk decides the bins: a tail (carbon, ice) must not make them coarse.
    quarter, half, three = np.percentile(values, (25, 50, 75))
    reach = 4.0 * max(three - quarter, 1e-12 * (high - low))
    counts, edges = np.histogram(values, bins=_BINS, range=(max(low, half - reach), min(high, half + reach)))
    smooth = np.convolve(counts, np.ones(_SMOOTH) / _SMOOTH, mode="same")
    centres = (edges[1:] + edges[:-1]) / 2
    peak = int(smooth.argmax())
    below = np.flatnonzero(smooth[:peak] < smooth[peak] / 2)
    above = np.flatnonzero(smooth[peak:] < smooth[peak] / 2)
    start = centres[below[-1]] if len(below) else centres[0]
    end = centres[peak + above[0]] if len(above) else centres[-1]
    return float(centres[peak]), float(end - start)


def areas_to_avoid(
    around: Surroundings,
    *,
    high_variance: bool,
    abnormal_mean: bool,
    largest_deviation: float = 0.0,
    smallest_mean: float = -np.inf,
) -> NDArray[np.bool_]:
    """Mark the pixels where no particle may be centred.

    Parameters
    ----------
    around : Surroundings
    high_variance : bool
        Avoid windows whose standard deviation exceeds the mode by two full widths at half maximum.
    abnormal_mean : bool
        Avoid windows whose mean differs from the mode by more than that, either way.
    largest_deviation : float
        Greatest standard deviation, in units of the usual one; 0: no limit.
    smallest_mean : float
        Least mean in the same unit.
    """
    avoid = around.mean < smallest_mean
    if largest_deviation > 0:
        avoid |= around.deviation > largest_deviation
    if high_variance:
        mode, width = mode_and_width(around.deviation)
        avoid |= around.deviation > mode + _WIDTHS * width
    if abnormal_mean:
        mode, width = mode_and_width(around.mean)
        avoid |= np.abs(around.mean - mode) > _WIDTHS * width
    return np.asarray(avoid)


def background_boxes(around: Surroundings, count: int, choice: BoxChoice = "lowest-variance") -> NDArray[np.int64]:
    """Choose boxes that hold background rather than particles.

    Parameters
    ----------
    around : Surroundings
    count : int
        Boxes wanted.
    choice : str
        "lowest-variance": ice without particles, where there is any. "usual-variance": nearest to the mode.

    Returns
    -------
    ndarray of int64, shape [boxes, 2]
        First row and column; edge `around.window`; not overlapping. Fewer than asked for where there is no room.
    """
    window = around.window
    shift = window // 2  # a uniform filter's window of n pixels begins n // 2 before its pixel
    rows, columns = (size - window + 1 for size in around.deviation.shape)
    if rows < 1 or columns < 1:
        return np.zeros((1, 2), dtype=np.int64)
    merit = around.deviation[shift : shift + rows, shift : shift + columns].copy()
    if choice == "usual-variance":
        merit = np.abs(merit - 1.0)
    found = []
    for _ in range(count):
        row, column = divmod(int(merit.argmin()), columns)
        if not np.isfinite(merit[row, column]):
            break
        found.append((row, column))
        merit[max(0, row - window + 1) : row + window, max(0, column - window + 1) : column + window] = np.inf
    return np.array(found, dtype=np.int64)


def micrograph_spectrum(field: PickingField) -> Tensor:
    """Return the power of each component of the field's transform, averaged over shells one component wide.

    Shape [rows, columns // 2 + 1] of the padded field, in the unit of a unit-variance field's power.
    """
    rows, columns = field.padded_shape
    return _radial_average(field.transform.abs().square() * (rows * columns), field)


def background_spectrum(field: PickingField, boxes: NDArray[np.int64], window: int) -> Tensor:
    """Return the mean power spectrum of boxes, spread over the components of the field's transform.

    Parameters
    ----------
    field : PickingField
    boxes : ndarray, shape [boxes, 2]
        First row and column of each.
    window : int
        Edge in pixels.
    """
    taper = torch.hann_window(window + 2, periodic=False)[1:-1]
    weight = taper[:, None] * taper
    image = field.image
    pieces = torch.stack([image[row : row + window, column : column + window] for row, column in boxes.tolist()])
    pieces = (pieces - pieces.mean(dim=(1, 2), keepdim=True)) * weight
    power = torch.fft.rfft2(pieces).abs().square().mean(dim=0) / weight.square().sum()
    radius = _frequency_radius((window, window)) * window
    shell = radius.round().long()
    counts = torch.bincount(shell.reshape(-1))
    means = (torch.bincount(shell.reshape(-1), weights=power.reshape(-1).double()) / counts.clamp(min=1)).numpy()
    means[0] = means[1]  # the mean of each piece was taken away
    wide = _frequency_radius(field.padded_shape).numpy()
    return torch.from_numpy(np.interp(wide * window, np.arange(len(means)), means).astype(np.float32))


def _radial_average(power: Tensor, field: PickingField) -> Tensor:
    shape = field.padded_shape
    shell = (_frequency_radius(shape) * min(shape)).round().long().reshape(-1)
    totals = torch.bincount(shell, weights=power.reshape(-1).double())
    means = totals / torch.bincount(shell).clamp(min=1)
    return means[shell].reshape(power.shape).float()


def _frequency_radius(shape: tuple[int, int]) -> Tensor:
    """Return cycles per pixel of each component."""
    kx, ky = rectangle_frequencies(shape)
    return torch.hypot(ky.expand(-1, len(kx)), kx.expand(len(ky), -1))


def frequencies(field: PickingField) -> tuple[Tensor, Tensor]:
    """Return spatial frequencies y and x in 1/Å of each component of the field's transform; both of its shape."""
    kx, ky = rectangle_frequencies(field.padded_shape, dtype=torch.float64)
    y, x = ky / field.pixel_sizes[0], kx / field.pixel_sizes[1]
    return y.expand(-1, len(kx)), x.expand(len(ky), -1)


def band(field: PickingField, highest_resolution: float, lowest_resolution: float) -> Tensor:
    """Return the weights of a band-pass filter with soft edges, in the layout of the field's transform.

    Parameters
    ----------
    field : PickingField
    highest_resolution : float
        Å; components beyond are left out.
    lowest_resolution : float
        Å; slower ones, gradients of the ice and the beam, are left out.
    """
    y, x = frequencies(field)
    k = torch.hypot(y, x).float()
    high = 1.0 / highest_resolution
    upper = ((high * (1 + _EDGE / 2) - k) / (high * _EDGE)).clamp(0.0, 1.0)
    low = 1.0 / lowest_resolution
    lower = 1.0 - torch.exp(-0.5 * (k / (0.5 * low)).square())
    return upper * lower
