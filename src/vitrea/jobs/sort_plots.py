"""Pictures of a sorting: the distribution of Z-scores, the best particles beside the worst."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray

from vitrea.fourier.filters import lowpass
from vitrea.report.figures import histogram, image_gallery

_SIDE = 5
_DIAMETER_PER_RESOLUTION = 10
_PERCENTILES = (1, 99)
_GAP = 2


def score_histogram(scores: NDArray[np.float64]) -> Figure:
    """Draw the distribution of Z-scores (shape [particles]); the last bin holds all of the largest half per cent."""
    limit = float(np.percentile(scores, 99.5))
    return histogram(np.minimum(scores, limit), "Z-score")


def best_and_worst(
    load: Callable[[NDArray[np.int64]], NDArray[np.float32]],
    order: NDArray[np.int64],
    scores: NDArray[np.float64],
    pixel_size: float,
    diameter: float,
) -> Figure:
    """Draw the best and the worst particles, 25 of each, low-pass filtered, each in its own greyscale.

    Parameters
    ----------
    load : callable
        ``load(rows)`` returns images, shape [rows, n, n].
    order : ndarray of int64, shape [particles]
        Rows from the best to the worst.
    scores : ndarray, shape [particles]
    pixel_size, diameter : float
        Å.
    """
    resolution = max(diameter / _DIAMETER_PER_RESOLUTION, 2.0 * pixel_size)
    mosaics, titles = [], []
    for name, rows in (("best", order[: _SIDE**2]), ("worst", order[::-1][: _SIDE**2])):
        images = torch.from_numpy(np.nan_to_num(load(rows), posinf=0.0, neginf=0.0))
        mosaics.append(_mosaic(lowpass(images, resolution, pixel_size, dims=2).numpy()))
        titles.append(f"{name}: Z-score {scores[rows].min():.2f} to {scores[rows].max():.2f}")
    return image_gallery(mosaics, pixel_size, titles)


def _mosaic(images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Lay images out in rows from the top (the last rows of the array), grey values between 0 and 1."""
    size = images.shape[-1] + _GAP
    canvas = np.zeros((_SIDE * size - _GAP, _SIDE * size - _GAP), dtype=np.float32)
    for place, image in enumerate(images):
        low, high = np.percentile(image, _PERCENTILES)
        y, x = (_SIDE - 1 - place // _SIDE) * size, place % _SIDE * size
        grey = np.clip((image - low) / max(high - low, 1e-12), 0.0, 1.0)
        canvas[y : y + size - _GAP, x : x + size - _GAP] = grey
    return canvas
