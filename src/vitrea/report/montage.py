"""Images side by side, as grey pixels: one pixel of an image is one of the picture."""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vitrea.formats.atomic import atomic_path

_GAP = 1


def grey_levels(
    images: NDArray[Any], sigma: float = 3.0, black: float | None = None, white: float | None = None
) -> NDArray[np.uint8]:
    """Turn values into grey levels, each image by itself.

    Parameters
    ----------
    images : ndarray, shape [m, ...]
    sigma : float
        Black and white lie this many standard deviations below and above the mean, but not beyond the values there are;
        0: at minimum and maximum.
    black, white : float, optional
        Values that are black and white, instead.

    Returns
    -------
    ndarray of uint8, shape of `images`
    """
    levels = np.empty(images.shape, dtype=np.uint8)
    for level, image in zip(levels, images, strict=True):
        low, high = float(image.min()), float(image.max())
        if sigma > 0:
            mean, deviation = float(image.mean(dtype=np.float64)), float(image.std(dtype=np.float64))
            low, high = max(low, mean - sigma * deviation), min(high, mean + sigma * deviation)
        low, high = low if black is None else black, high if white is None else white
        scale = 255.0 / (high - low) if high != low else 0.0
        level[...] = np.clip((image - low) * scale, 0, 255).round()
    return levels


def montage(tiles: NDArray[np.uint8], columns: int = 0) -> NDArray[np.uint8]:
    """Lay images side by side, row by row from the top left, each with y upwards.

    Parameters
    ----------
    tiles : ndarray, shape [m, y, x]
    columns : int
        Images in a row; 0: as many as make the whole about square.

    Returns
    -------
    ndarray, shape [rows, columns]
        The first row is the top one. White lines of a pixel part the images.
    """
    count, height, width = tiles.shape
    columns = columns or min(count, max(1, round(math.sqrt(count * height / width))))
    rows = math.ceil(count / columns)
    page = np.full((rows * (height + _GAP) - _GAP, columns * (width + _GAP) - _GAP), 255, dtype=np.uint8)
    for number, tile in enumerate(tiles):
        top, left = number // columns * (height + _GAP), number % columns * (width + _GAP)
        page[top : top + height, left : left + width] = tile[::-1]
    return page


def save_grey_png(pixels: NDArray[np.uint8], path: str | Path) -> None:
    """Write grey pixels, the top row first, as a PNG file, which appears complete or not at all.

    Raises
    ------
    InputError
        If the file cannot be written.
    """
    from matplotlib.image import imsave

    buffer = io.BytesIO()
    imsave(buffer, pixels, format="png", cmap="gray", vmin=0, vmax=255)
    with atomic_path(path) as temporary:
        temporary.write_bytes(buffer.getvalue())
