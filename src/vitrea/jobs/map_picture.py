"""Images, or the slices of a map, side by side in a PNG file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vitrea.jobs.map_parameters import MapParameters

_CONTRAST = 3.0  # standard deviations from the mean to black, and to white, of noisy images


def write_picture(
    path: Path, parameters: MapParameters, changed: Iterator[tuple[NDArray[Any], float]], dims: int, count: int
) -> None:
    """Write a montage of images, or of slices of a map across z.

    Parameters
    ----------
    path : Path
    parameters : MapParameters
    changed : iterator of (ndarray, float)
        Images, shape [m, y, x], or one map, [1, z, y, x]; and their pixel size.
    dims : int
        2 or 3.
    count : int
        How many images there are.

    Raises
    ------
    InputError
        If the file cannot be written.
    """
    from vitrea.report.montage import grey_levels, montage, save_grey_png

    contrast = parameters.sigma_contrast
    if contrast is None:
        contrast = 0.0 if dims == 3 else _CONTRAST
    if dims == 3:
        images = next(changed)[0][0]
        images = images[chosen_places(len(images), parameters.most)]
        # All slices of a map share their grey scale.
        tiles = grey_levels(images[None], contrast, parameters.black, parameters.white)[0]
    else:
        wanted, seen, kept = chosen_places(count, parameters.most), 0, []
        for piece, _ in changed:
            kept.append(piece[[place - seen for place in wanted if seen <= place < seen + len(piece)]])
            seen += len(piece)
        tiles = grey_levels(np.concatenate(kept), contrast, parameters.black, parameters.white)
    save_grey_png(montage(tiles, parameters.columns), path)


def chosen_places(count: int, most: int) -> list[int]:
    """Return the places of so many images that are drawn: all, or an even choice."""
    return [int(place) for place in np.linspace(0, count - 1, min(count, most)).round()]
