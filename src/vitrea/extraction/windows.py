"""Square windows around coordinates of a micrograph."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class WindowPlaces:
    """Where windows lie in a micrograph.

    Attributes
    ----------
    corners : ndarray of int64, shape [particles, 2]
        x, y of each window's first pixel.
    outside : ndarray of bool, shape [particles]
        Windows that share no pixel with the micrograph.
    over_edge : ndarray of bool, shape [particles]
        Windows that lie in the micrograph in part only.
    """

    corners: NDArray[np.int64]
    outside: NDArray[np.bool_]
    over_edge: NDArray[np.bool_]


def place_windows(coordinates: NDArray[np.float64], size: int, shape: tuple[int, int]) -> WindowPlaces:
    """Find where windows lie.

    As in RELION, coordinates lose their fraction (they are not rounded), and pixel ``size // 2`` of a window is the
    pixel so found.

    Parameters
    ----------
    coordinates : ndarray of float64, shape [particles, 2]
        x, y in pixels from the micrograph's first pixel; finite.
    size : int
        Side of the windows in pixels, even or odd.
    shape : tuple of int
        Rows and columns of the micrograph.
    """
    corners = window_centres(coordinates) - size // 2
    extent = np.array(shape[::-1])
    outside = np.asarray(((corners + size <= 0) | (corners >= extent)).any(axis=1))
    inside = np.asarray(((corners >= 0) & (corners + size <= extent)).all(axis=1))
    return WindowPlaces(corners, outside, ~inside & ~outside)


def window_centres(coordinates: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the pixels, x and y, that windows around coordinates are centred on; shape as given."""
    return np.trunc(coordinates).astype(np.int64)


def cut_windows(micrograph: NDArray[Any], corners: NDArray[np.int64], size: int) -> NDArray[np.float32]:
    """Cut windows out of a micrograph.

    Parameters
    ----------
    micrograph : ndarray, shape [rows, columns]
        Of any number type.
    corners : ndarray of int64, shape [particles, 2]
        x, y of each window's first pixel; every window must share a pixel with the micrograph.
    size : int
        Side of the windows in pixels.

    Returns
    -------
    ndarray of float32, shape [particles, size, size]
        Pixels beyond the micrograph's edge have the value of the nearest pixel inside, as in RELION.
    """
    rows, columns = micrograph.shape
    windows = np.empty((len(corners), size, size), dtype=np.float32)
    steps = np.arange(size)
    for window, (x, y) in zip(windows, corners.tolist(), strict=True):
        if x >= 0 and y >= 0 and x + size <= columns and y + size <= rows:
            window[...] = micrograph[y : y + size, x : x + size]
        else:
            nearest_row, nearest_column = (y + steps).clip(0, rows - 1), (x + steps).clip(0, columns - 1)
            window[...] = micrograph[nearest_row[:, None], nearest_column]
    return windows
