"""The model of local motion in functions of place and time that are orthonormal.

They span what RELION's polynomial spans, less its mean over the frame, which belongs to the whole-frame shifts. In
them coefficients are comparable: each is the root mean square, over the frame, of what it adds.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vitrea.motion.local import COEFFICIENTS, LocalMotion

Array = NDArray[np.float64]

# Exponents of x and y in RELION's order of terms.
_EXPONENTS = ((0, 0), (1, 0), (2, 0), (0, 1), (0, 2), (1, 1))
_HIGHEST = 2
_LINE, _CURVE, _TWIST = np.sqrt(12.0), np.sqrt(180.0), 12.0
# Functions of place, by rows, in those terms: 1, x, x² - 1/12, y, y² - 1/12, xy, of unit mean square from -0.5 to 0.5.
_FUNCTIONS = np.diag([1.0, _LINE, _CURVE, _LINE, _CURVE, _TWIST])
_FUNCTIONS[2, 0] = _FUNCTIONS[4, 0] = -_CURVE / 12
# Order in space of each function but the first.
SPATIAL_ORDER = np.array([1, 2, 1, 2, 2])
PLACES, TIMES = 5, 3


class MotionField:
    """The functions for frames, or groups of frames, at these times.

    Parameters
    ----------
    times : ndarray, shape [groups]
        Frames since the first one used.

    Attributes
    ----------
    times : ndarray, shape [groups]
    courses : ndarray, shape [groups, 3]
        Polynomials of first to third order in time, orthonormal over the groups, 0 on average: only differences
        between frames can be measured.
    """

    def __init__(self, times: Array) -> None:
        self.times = times
        self._span = max(1.0, float(times.max()))
        powers = (times / self._span)[:, None] ** np.array([1.0, 2.0, 3.0])
        self._powers = powers
        self.courses, self._change = np.linalg.qr(powers - powers.mean(axis=0))

    def split(self, model: LocalMotion) -> tuple[Array, Array]:
        """Return the model's mean over the frame, shape [groups, 2], and its coefficients, shape [5, 3, 2]."""
        rest, mean = model.without_mean()
        scale = self._span ** np.array([1.0, 2.0, 3.0])
        terms = (rest.coefficients.reshape(2, 6, 3) * scale)[:, 1:] / np.diag(_FUNCTIONS)[1:, None]
        return self._powers @ (mean * scale).T, np.asarray(np.einsum("bk,ask->sba", self._change, terms))

    def model(self, coefficients: Array) -> LocalMotion:
        """Return the model with these coefficients, shape [5, 3, 2]; its mean over the frame is 0."""
        inverse = np.linalg.inv(self._change) / self._span ** np.array([[1.0], [2.0], [3.0]])
        terms = np.einsum("kb,sba,sm->amk", inverse, coefficients, _FUNCTIONS[1:])
        return LocalMotion(terms.reshape(2, COEFFICIENTS))


class PlaceSums:
    """Sums over an image weighted with the functions of place, or with their products in pairs.

    Parameters
    ----------
    shape : (int, int)
        Rows and columns.
    device : torch.device
    """

    def __init__(self, shape: tuple[int, int], device: torch.device) -> None:
        self._y, self._x = (
            ((torch.arange(length, dtype=torch.float64) / length - 0.5)[:, None] ** torch.arange(2 * _HIGHEST + 1))
            .float()
            .to(device)
            for length in shape
        )
        self._pixels = shape[0] * shape[1]

    def means(self, image: Tensor) -> Array:
        """Return the mean over pixels of the image times each function, shape [6]."""
        moments = self._moments(image, _HIGHEST)
        return np.asarray(_FUNCTIONS @ np.array([moments[y, x] for x, y in _EXPONENTS]))

    def products(self, image: Tensor) -> Array:
        """Return the mean over pixels of the image times each two functions, shape [6, 6]."""
        moments = self._moments(image, 2 * _HIGHEST)
        pairs = np.array([[moments[y + v, x + u] for u, v in _EXPONENTS] for x, y in _EXPONENTS])
        return np.asarray(_FUNCTIONS @ pairs @ _FUNCTIONS.T)

    def _moments(self, image: Tensor, highest: int) -> Array:
        """Return the mean of the image times y^i x^j, shape [i, j]."""
        count = highest + 1
        sums = self._y[:, :count].T @ (image @ self._x[:, :count])
        return np.asarray(sums.double().cpu().numpy() / self._pixels)
