"""The area that is simulated: the image and a margin around it, from which things drift and blur into the image."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from scipy.fft import next_fast_len
from torch import Tensor


@dataclass(frozen=True)
class Canvas:
    """A rectangle of pixels with a periodic border, the image in its middle.

    Attributes
    ----------
    height, width : int
        Of the image, in pixels.
    pixel_size : float
        Å.
    top, left : int
        Where the image begins on the canvas.
    shape : tuple of int
        Rows and columns of the canvas.
    """

    height: int
    width: int
    pixel_size: float
    top: int
    left: int
    shape: tuple[int, int]

    def frequencies(self) -> tuple[Tensor, Tensor]:
        """Return spatial frequencies (y, x) in 1/Å of the half transform: float64, [rows, columns // 2 + 1]."""
        rows, columns = self.shape
        y = torch.fft.fftfreq(rows, self.pixel_size, dtype=torch.float64)
        x = torch.fft.rfftfreq(columns, self.pixel_size, dtype=torch.float64)
        return y[:, None].expand(-1, len(x)), x[None, :].expand(len(y), -1)

    def radius(self) -> Tensor:
        """Return the length of the spatial frequencies, in 1/Å, float64."""
        y, x = self.frequencies()
        return (y.square() + x.square()).sqrt()

    def crop(self, field: Tensor) -> Tensor:
        """Return the image's part of a field of the canvas's shape."""
        return field[..., self.top : self.top + self.height, self.left : self.left + self.width]

    def to_real(self, transform: Tensor) -> Tensor:
        """Transform back (orthonormal, phase origin at pixel 0): real, of the canvas's shape."""
        result: Tensor = torch.fft.irfft2(transform, s=self.shape, norm="ortho")
        return result

    def to_fourier(self, field: Tensor) -> Tensor:
        """Transform (orthonormal, phase origin at pixel 0)."""
        result: Tensor = torch.fft.rfft2(field, norm="ortho")
        return result

    def white(self, random: np.random.Generator) -> Tensor:
        """Draw the half transform of white noise of unit variance: complex64."""
        rows, columns = self.shape
        parts = random.standard_normal((rows, columns // 2 + 1, 2), dtype=np.float32)
        transform = torch.view_as_complex(torch.from_numpy(parts)) * math.sqrt(0.5)
        # The way back keeps only the even part of these columns: half of the power.
        transform[:, 0] *= math.sqrt(2.0)
        if columns % 2 == 0:
            transform[:, -1] *= math.sqrt(2.0)
        return transform


def make_canvas(height: int, width: int, pixel_size: float, margin: float) -> Canvas:
    """Lay a canvas around an image.

    Parameters
    ----------
    height, width : int
        Of the image, in pixels.
    pixel_size : float
        Å.
    margin : float
        Å wanted on every side; the canvas has the next size that transforms fast.
    """
    border = math.ceil(margin / pixel_size)
    rows, columns = (next_fast_len(n + 2 * border, real=True) for n in (height, width))
    return Canvas(height, width, pixel_size, (rows - height) // 2, (columns - width) // 2, (rows, columns))
