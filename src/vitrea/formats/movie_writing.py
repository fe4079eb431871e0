"""Writing movies: counts frame by frame, as compressed TIFF or as MRC."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from vitrea.formats.atomic import atomic_path
from vitrea.formats.mrc import StackWriter

_COMPRESSION_LEVEL = 6
_PIXELS_PER_CENTIMETRE = 1e8  # of a pixel of 1 Å


def write_movie(
    path: str | Path,
    frames: Iterable[NDArray[Any]],
    pixel_size: float,
    dtype: Literal["uint8", "uint16", "float32"] = "uint8",
) -> None:
    """Write a movie, whole or not at all.

    Parameters
    ----------
    path : str or Path
        ``.tif`` or ``.tiff`` is written with deflate compression and, as SerialEM and RELION have it, with the last row
        first, so that `formats.movies` and RELION read frames as they were; anything else is MRC, mode 2.
    frames : iterable of ndarray, shape [y, x]
        Whole numbers; taken one at a time.
    pixel_size : float
        Å.
    dtype : "uint8", "uint16" or "float32"
        Of the pixels of a TIFF; counts beyond it are saturated.

    Raises
    ------
    InputError
        If the file cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() not in (".tif", ".tiff"):
        with StackWriter(path, pixel_size) as writer:
            for frame in frames:
                writer.append(frame)
        return
    import tifffile

    limit = np.inf if dtype == "float32" else np.iinfo(dtype).max
    resolution = _PIXELS_PER_CENTIMETRE / pixel_size
    with atomic_path(path) as temporary, temporary.open("wb") as file, tifffile.TiffWriter(file) as tiff:
        for frame in frames:
            tiff.write(
                np.minimum(frame, limit).astype(dtype)[::-1],
                photometric="minisblack",
                compression="zlib",
                compressionargs={"level": _COMPRESSION_LEVEL},
                predictor=False,
                rowsperstrip=frame.shape[0],
                resolution=(resolution, resolution),
                resolutionunit="CENTIMETER",
                metadata=None,
            )
