"""What local motion does to what lies in the ice, before the lens shows it."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vitrea.kernels.spline_warp import spline_coefficients, warp_spline
from vitrea.simulate.canvas import Canvas


class Deformation:
    """A smooth field of displacements over a canvas.

    Parameters
    ----------
    canvas : Canvas
    field : Tensor of float64, shape [2, 6]
        Along x and y in pixels: coefficients of 1, x, x², y, y², xy, with x and y from -0.5 to 0.5 over the image.
        Beyond it the polynomial goes on.
    """

    def __init__(self, canvas: Canvas, field: Tensor) -> None:
        self._canvas, self._field = canvas, field

    def at(self, x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return how far places of the image, in pixels, are moved: x, y, shape [places, 2]."""
        u, v = x / self._canvas.width - 0.5, y / self._canvas.height - 0.5
        terms = np.stack([np.ones_like(u), u, u * u, v, v * v, u * v], axis=-1)
        return np.asarray(terms @ self._field.numpy().T)

    def moved_transform(self, transform: Tensor) -> Tensor:
        """Return the half transform of a field on the canvas after it was moved."""
        canvas = self._canvas
        coefficients = spline_coefficients(transform, canvas.shape)
        return canvas.to_fourier(warp_spline(coefficients, canvas.shape, self._over_canvas(), (0, 0, *canvas.shape)))

    def moved(self, field: Tensor) -> Tensor:
        """Return a field of the canvas's shape after it was moved."""
        canvas = self._canvas
        coefficients = spline_coefficients(canvas.to_fourier(field), canvas.shape)
        return warp_spline(coefficients, canvas.shape, self._over_canvas(), (0, 0, *canvas.shape))

    def _over_canvas(self) -> Tensor:
        """The same polynomial with x and y from -0.5 to 0.5 over the canvas."""
        canvas = self._canvas
        a, c = canvas.shape[1] / canvas.width, canvas.shape[0] / canvas.height
        b, d = a / 2 - canvas.left / canvas.width - 0.5, c / 2 - canvas.top / canvas.height - 0.5
        # In the image's coordinates x is a x + b, and y is c y + d.
        change = torch.tensor(
            [
                [1, b, b * b, d, d * d, b * d],
                [0, a, 2 * a * b, 0, 0, a * d],
                [0, 0, a * a, 0, 0, 0],
                [0, 0, 0, c, 2 * c * d, b * c],
                [0, 0, 0, 0, c * c, 0],
                [0, 0, 0, 0, 0, a * c],
            ],
            dtype=torch.float64,
        )
        return self._field.double() @ change.T
