"""What lies around the particles: local statistics, areas to avoid, boxes of plain ice, the spectrum to whiten by.

Avoiding areas of high variance or abnormal mean and choosing background boxes by their variance follow cisTEM (Grant,
Rohou & Grigorieff 2018, doi:10.7554/eLife.35383), whitening Sigworth (2004, doi:10.1016/j.jsb.2003.10.025).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter
from torch import Tensor

from vitrea.fourier.rectangles import rectangle_frequencies, rectangle_to_real
from vitrea.picking.field import PickingField

Floats = NDArray[np.float32]
BoxChoice = Literal["lowest-variance", "usual-variance"]

FINE_PIXEL = 6.0  # Å: sampling at which surroundings are measured
_FINE_BAND = (12.5, 60.0)  # Å: the detail that tells carbon from ice
_FIT_ROUNDS = 6  # of the fit of a gradient
_ENOUGH_PEAKS, _LONELY = 6, 3.0  # with fewer peaks than that, limits are so many times as wide
_SMALL_SAMPLE = 30  # peaks: of so many the spread is known so badly that limits are twice as wide
_SHORTEST = 0.4  # of all values: what the shortest interval holds
_DENSEST, _FEW = 0.2, 40  # the same around many peaks, of which particles may be less than half; peaks it holds
_FEWEST = 0.1  # of all values: a side with fewer tells no spread
_THIN = 2  # every so many pixels tell what is usual: windows overlap
_WIDTH = 2 * 2.355  # standard deviations from the usual value on which a value is abnormal
_SKEWS = (1.4, 1.0, 1.0)  # of mean, deviation, texture around particles: neighbours make the mean's tail longer
_EDGE = 0.12  # width of the low-pass filter's edge, relative to its frequency


@dataclass(frozen=True)
class Surroundings:
    """Statistics of the window around each pixel, in units of what is usual in the micrograph.

    Attributes
    ----------
    mean : ndarray of float32, shape [y, x]
        Mean, relative to the usual one, in units of the usual standard deviation.
    deviation : ndarray of float32, shape [y, x]
        Standard deviation over the usual one.
    texture : ndarray of float32, shape [y, x]
        Standard deviation of fine detail after whitening by the background's spectrum, over the usual one: carbon film
        has more of it than ice, with particles or without.
    window : int
        Edge of the window in pixels.
    """

    mean: Floats
    deviation: Floats
    texture: Floats
    window: int

    def around(self, pixels: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return mean, deviation and texture around some pixels (rows of row and column), shape [pixels, 3]."""
        place = tuple(pixels.T)
        return np.stack([values[place] for values in (self.mean, self.deviation, self.texture)], axis=1)

    def at(self, shape: tuple[int, int]) -> Surroundings:
        """Return the statistics at a coarser sampling of the same area."""
        old = self.mean.shape
        if old == shape:
            return self
        rows, columns = (
            np.minimum((np.arange(n) * m / n).round().astype(int), m - 1) for n, m in zip(shape, old, strict=True)
        )
        mean, deviation, texture = (
            np.ascontiguousarray(values[rows][:, columns]) for values in (self.mean, self.deviation, self.texture)
        )
        return Surroundings(mean, deviation, texture, max(3, round(self.window * shape[1] / old[1])))


@dataclass(frozen=True)
class Usual:
    """What is usual around particles.

    Attributes
    ----------
    centres, spreads : ndarray of float64, shape [3]
        Usual value and standard deviation of the windows' mean, deviation and texture.
    count : int
        Peaks that told them.
    """

    centres: NDArray[np.float64]
    spreads: NDArray[np.float64]
    count: int

    @classmethod
    def of(cls, values: NDArray[np.floating[Any]]) -> Usual:
        """Measure it around peaks, shape [peaks, 3]: those of many micrographs, so that a dirty one is seen as such."""
        if not len(values):
            return cls(np.zeros(3), np.zeros(3), 0)
        part = min(max(_DENSEST, _FEW / len(values)), _SHORTEST)
        found = np.array([usual_value(column, part, skew) for column, skew in zip(values.T, _SKEWS, strict=True)])
        return cls(found[:, 0], found[:, 1], len(values))


def surroundings(field: PickingField, radius: float, boxes: int = 20) -> Surroundings:
    """Measure what lies in a square window of edge twice the radius (Å) around each pixel.

    Parameters
    ----------
    field : PickingField
        At `FINE_PIXEL` or less, so that there is fine detail to look at.
    radius : float
        Å.
    boxes : int
        Background boxes to whiten by, for the texture.
    """
    window = min(max(3, round(2 * radius / field.pixel_size)), *field.shape)
    image = _without_gradient(field.image.numpy().astype(np.float64), window)
    mean, deviation = _window_statistics(image, window)
    unit = usual_value(deviation[::_THIN, ::_THIN])[0] or float(deviation.mean()) or 1.0
    middle = usual_value(mean[::_THIN, ::_THIN])[0]
    plain = np.ones_like(deviation, dtype=np.float32)
    around = Surroundings(
        ((mean - middle) / unit).astype(np.float32), (deviation / unit).astype(np.float32), plain, window
    )
    spectrum = background_spectrum(field, background_boxes(around, boxes), window)
    fine = band(field, max(_FINE_BAND[0], 2.05 * max(field.pixel_sizes)), _FINE_BAND[1])
    white = fine / spectrum.clamp(min=max(1e-6 * float(spectrum.max()), 1e-30)).sqrt()
    detail = field.inner(rectangle_to_real(field.transform * white, field.padded_shape)).numpy().astype(np.float64)
    _, texture = _window_statistics(detail, window)
    usual = usual_value(texture[::_THIN, ::_THIN])[0] or 1.0
    return Surroundings(around.mean, around.deviation, (texture / usual).astype(np.float32), window)


def _window_statistics(image: NDArray[np.float64], window: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    mean = uniform_filter(image, window, mode="reflect")
    variance = uniform_filter(image * image, window, mode="reflect") - mean * mean
    return mean, np.sqrt(np.maximum(variance, 0.0))


def _without_gradient(image: NDArray[np.float64], window: int) -> NDArray[np.float64]:
    """Subtract the paraboloid that fits the plain part of an image: an uneven beam is no abnormal ice.

    Windows of high variance have no weight in the fit, nor have those far from the usual mean, then from the fit of the
    round before: carbon, crystals, thick dirt, which lets so few electrons through that its variance is low.
    """
    mean, deviation = _window_statistics(image, window)
    step = max(1, window // 2)
    pick = (slice(step // 2, None, step), slice(step // 2, None, step))
    centre, sigma = usual_value(deviation[pick])
    plain = (deviation[pick] <= centre + _WIDTH * sigma).ravel()
    terms = _gradient_terms(image.shape)
    design = np.stack([term[pick].ravel() for term in terms], axis=1)
    values = mean[pick].ravel()
    residual = values
    for _ in range(_FIT_ROUNDS):
        middle, spread = usual_value(residual[plain])
        kept = plain & (np.abs(residual - middle) <= _WIDTH * spread + 1e-12)
        if kept.sum() <= 2 * len(terms):
            return image - np.median(image)
        fit, *_ = np.linalg.lstsq(design[kept], values[kept], rcond=None)
        residual = values - design @ fit
    return np.asarray(image - sum(factor * term for factor, term in zip(fit, terms, strict=True)))


def _gradient_terms(shape: tuple[int, ...]) -> list[NDArray[np.float64]]:
    y, x = np.linspace(-1, 1, shape[0])[:, None], np.linspace(-1, 1, shape[1])[None, :]
    return [np.broadcast_to(term, shape) for term in (np.ones((1, 1)), y, x, y * x, y * y, x * x)]


def usual_value(values: NDArray[np.floating[Any]], part: float = _SHORTEST, skew: float = 1.0) -> tuple[float, float]:
    """Return the centre and the standard deviation of the bulk of values, however many outliers lie to one side.

    The centre is the middle of the shortest interval that holds a `part` of the values. The deviation is that of the
    narrower side, of which half of the values lie within 0.67 standard deviations; or that of the wider side, where it
    is not more than `skew` times as wide.
    """
    ordered = np.sort(np.asarray(values, dtype=np.float64), axis=None)
    count = len(ordered)
    held = max(1, int(part * count))
    start = int(np.argmin(ordered[held:] - ordered[: count - held])) if count > held else 0
    centre = (ordered[start] + ordered[min(start + held, count - 1)]) / 2
    sides = (centre - ordered[ordered <= centre], ordered[ordered >= centre] - centre)
    spreads = [float(np.median(side)) for side in sides if len(side) >= count * _FEWEST]
    if not spreads:
        return float(centre), 0.0
    return float(centre), 1.4826 * min(max(spreads), skew * min(spreads))


def areas_to_avoid(
    around: Surroundings,
    usual: Usual,
    *,
    high_variance: bool,
    abnormal_mean: bool,
    largest_deviation: float = 0.0,
    smallest_mean: float = -np.inf,
) -> NDArray[np.bool_]:
    """Mark the pixels where no particle may be centred.

    A window is abnormal whose value lies two full widths at half maximum (4.7 standard deviations) or more beyond the
    usual one, which is cisTEM's rule for the variance, in the distribution over all pixels and also in that over
    particles: where these are few and their contrast is high, they are what is rare among all pixels.

    Parameters
    ----------
    around : Surroundings
    usual : Usual
        Around particles.
    high_variance : bool
        Avoid windows whose standard deviation or texture is abnormally high.
    abnormal_mean : bool
        Avoid windows whose mean is abnormal, either way.
    largest_deviation : float
        Greatest standard deviation, in units of the usual one; 0: no limit.
    smallest_mean : float
        Least mean, in units of the usual standard deviation.
    """
    avoid = around.mean < smallest_mean
    if largest_deviation > 0:
        avoid |= around.deviation > largest_deviation
    if high_variance:
        avoid |= around.deviation > _usual_range(around.deviation, usual, 1)[1]
        avoid |= around.texture > _usual_range(around.texture, usual, 2)[1]
    if abnormal_mean:
        low, high = _usual_range(around.mean, usual, 0)
        avoid |= (around.mean < low) | (around.mean > high)
    return np.asarray(avoid)


def _usual_range(values: Floats, usual: Usual, kind: int) -> tuple[float, float]:
    """Return the limits beyond which a value is abnormal, among all pixels as well as around particles."""
    centre, sigma = usual_value(values[::_THIN, ::_THIN])
    if usual.count < _ENOUGH_PEAKS:
        # Too few to tell particles from dirt: what is abnormal among all pixels may be a lonely particle.
        reach = _LONELY * _WIDTH * sigma
        return centre - reach, centre + reach
    other, spread = float(usual.centres[kind]), float(usual.spreads[kind])
    reaches = _WIDTH * sigma, _WIDTH * spread * (1 + _SMALL_SAMPLE / usual.count)
    return min(centre - reaches[0], other - reaches[1]), max(centre + reaches[0], other + reaches[1])


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
    merit = around.deviation[shift : shift + rows, shift : shift + columns].copy()
    if choice == "usual-variance":
        merit = np.abs(merit - 1.0)
    # Thick pieces of ice let so few electrons through that their variance is the lowest of all.
    low, high = _usual_range(around.mean, Usual.of(np.empty((0, 3))), 0)
    plain = (around.mean >= low) & (around.mean <= high)
    merit[~plain[shift : shift + rows, shift : shift + columns]] = np.inf
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
