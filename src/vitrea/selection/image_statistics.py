"""Grey-value statistics of particle images."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

STATISTICS = ("mean", "stddev", "min", "max")


def image_statistics(images: NDArray[np.float32]) -> NDArray[np.float64]:
    """Measure images.

    Parameters
    ----------
    images : ndarray of float32, shape [images, n, n]

    Returns
    -------
    ndarray of float64, shape [images, 4]
        Columns as in `STATISTICS`. An image with a NaN pixel has NaN, one with an infinite pixel has infinities or NaN.
    """
    pixels = images.reshape(len(images), -1)
    with np.errstate(invalid="ignore", over="ignore"):
        mean = pixels.mean(axis=1, dtype=np.float64)
        deviation = pixels.std(axis=1, dtype=np.float64)
    return np.stack([mean, deviation, pixels.min(axis=1), pixels.max(axis=1)], axis=1)
