"""A micrograph made ready for picking: outliers clipped, cut down in Fourier space, its edges continued by mirrors."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vitrea.fourier.rectangles import Shape, crop_rectangle, rectangle_to_real, smooth_size

_CLIP = 8.0  # robust standard deviations: hot pixels go, particles and even ice crystals stay what they are
_SAMPLE_STEP = 7  # every so many pixels are looked at for the statistics that clip


@dataclass(frozen=True)
class PickingField:
    """A micrograph at the sampling that picking needs.

    Attributes
    ----------
    image : Tensor of float32, shape [y, x]
        Zero mean. Pixel 0 lies on pixel 0 of the micrograph.
    full_shape : (int, int)
        Rows and columns of the micrograph.
    pixel_sizes : (float, float)
        Å per pixel of `image` along y and x; they differ by the rounding of its shape.
    margin : int
        Pixels by which `padded` continues the image at least.
    """

    image: Tensor
    full_shape: Shape
    pixel_sizes: tuple[float, float]
    margin: int

    @property
    def shape(self) -> Shape:
        """Rows and columns of the image."""
        return int(self.image.shape[0]), int(self.image.shape[1])

    @property
    def padded_shape(self) -> Shape:
        """Rows and columns of the image with its margins, good for transforms."""
        rows, columns = (smooth_size(size + 2 * self.margin, 4 * size + 4 * self.margin) for size in self.shape)
        return rows, columns

    @property
    def pixel_size(self) -> float:
        """Å per pixel, the mean of both directions."""
        return sum(self.pixel_sizes) / 2

    @cached_property
    def transform(self) -> Tensor:
        """Transform of the image continued by its mirror images: no edge, so no false contrast there.

        Layout of `fourier.rectangles`; image pixel (0, 0) is pixel (margin, margin). Shape [rows, columns // 2 + 1].
        """
        rows, columns = self.padded_shape
        index_y = _mirror(self.shape[0], self.margin, rows)
        index_x = _mirror(self.shape[1], self.margin, columns)
        continued = self.image[index_y][:, index_x]
        transform: Tensor = torch.fft.rfft2(continued, norm="forward")
        return transform

    def inner(self, padded: Tensor) -> Tensor:
        """Cut the image's own area out of maps, shape [..., rows, columns], of the padded shape."""
        rows, columns = self.shape
        return padded[..., self.margin : self.margin + rows, self.margin : self.margin + columns]

    def to_micrograph(self, places: NDArray[np.float64]) -> NDArray[np.float64]:
        """Turn places (x, y) in pixels of the image, shape [n, 2], into pixels of the micrograph."""
        rows, columns = self.shape
        factors = (self.full_shape[1] / columns, self.full_shape[0] / rows)
        return np.asarray(np.asarray(places, dtype=np.float64) * factors)


def reduce_micrograph(pixels: NDArray[np.generic], pixel_size: float, wanted: float, margin: float) -> PickingField:
    """Make a micrograph ready for picking.

    Parameters
    ----------
    pixels : ndarray, shape [y, x]
        Any real type.
    pixel_size : float
        Å.
    wanted : float
        Å per pixel that the image should have at most; it is never enlarged.
    margin : float
        Å by which transforms continue the image beyond its edges.

    Raises
    ------
    ValueError
        If the micrograph is not a plane, holds values that are not finite, is constant, or is smaller than a margin.
    """
    if pixels.ndim != 2:
        raise ValueError(f"a micrograph is one image, this has {pixels.ndim} axes")
    image = torch.from_numpy(np.array(pixels, dtype=np.float32))
    sample = image.reshape(-1)[::_SAMPLE_STEP]
    if not bool(torch.isfinite(image.sum(dtype=torch.float64))):
        raise ValueError("it holds values that are not numbers (NaN or infinite)")
    low, high = torch.aminmax(image)
    if bool(low == high):
        raise ValueError("all its pixels have one value")
    middle, spread = _robust_statistics(sample)
    if spread > 0:
        image = image.clamp(middle - _CLIP * spread, middle + _CLIP * spread)
    shape = int(pixels.shape[0]), int(pixels.shape[1])
    return _reduced(image, shape, (pixel_size, pixel_size), wanted, margin)


def coarser(field: PickingField, wanted: float, margin: float) -> PickingField:
    """Return a field at a coarser sampling, `wanted` Å per pixel at most, with a margin in Å; or the field itself."""
    if max(field.pixel_sizes) * 1.1 > wanted:
        return field
    return _reduced(field.image, field.full_shape, field.pixel_sizes, wanted, margin)


def _reduced(
    image: Tensor, full_shape: Shape, pixel_sizes: tuple[float, float], wanted: float, margin: float
) -> PickingField:
    old = int(image.shape[0]), int(image.shape[1])
    new = tuple(smooth_size(n * min(1.0, px / wanted), n) for n, px in zip(old, pixel_sizes, strict=True))
    rows, columns = new
    reduced = _crop_image(image, old, (rows, columns))
    sizes = (pixel_sizes[0] * old[0] / rows, pixel_sizes[1] * old[1] / columns)
    border = math.ceil(margin / min(sizes)) + 1
    if min(rows, columns) <= border:
        side = min(rows * sizes[0], columns * sizes[1])
        raise ValueError(f"it is only {side:.0f} Å wide, too small for particles that need {margin:.0f} Å around them")
    return PickingField(reduced, full_shape, sizes, border)


def _robust_statistics(sample: Tensor) -> tuple[float, float]:
    """Return the median and the standard deviation that the median absolute deviation stands for."""
    middle = sample.median()
    spread = (sample - middle).abs().median() * 1.4826
    return float(middle), float(spread)


def _crop_image(image: Tensor, shape: Shape, new_shape: Shape) -> Tensor:
    """Cut down in Fourier space and remove the mean. Rows are cut before columns are transformed: half the work."""
    columns = new_shape[1]
    half = torch.fft.rfft(image, dim=1, norm="forward")[:, : columns // 2 + 1]
    transform = crop_rectangle(torch.fft.fft(half, dim=0, norm="forward"), (shape[0], columns), new_shape)
    transform[0, 0] = 0
    return rectangle_to_real(transform, new_shape)


def _mirror(size: int, margin: int, padded: int) -> Tensor:
    """Indices that continue `size` pixels by their mirror images to `padded`, pixel 0 at `margin`."""
    place = (torch.arange(padded) - margin) % (2 * size)
    return torch.where(place < size, place, 2 * size - 1 - place)
