"""IMAGIC stacks: a file of headers (``.hed``) and one of pixels (``.img``).

Format: 1024 bytes of header an image, 256 words numbered as in IMAGIC-5's manual (van Heel et al. 1996,
doi:10.1006/jsbi.1996.0004); the pixels of all images follow each other.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from vitrea.formats.atomic import atomic_path
from vitrea.formats.mrc_header import reading
from vitrea.records.errors import InputError

_HEADER_BYTES = 1024
_NUMBER, _FOLLOWING, _RECORDS, _PIXELS, _PIXELS_TOO, _LINES, _COLUMNS, _TYPE, _PLANES, _OBJECTS, _STAMP = (
    1, 2, 4, 11, 12, 13, 14, 15, 61, 62, 69,
)  # fmt: skip
_DAY, _MONTH, _YEAR, _HOUR, _MINUTE, _SECOND = 5, 6, 7, 8, 9, 10
_LITTLE_ENDIAN = 33686018
_DTYPES = {b"REAL": "f4", b"INTG": "i2", b"PACK": "u1", b"LONG": "i4"}
_MOST = 1 << 24


@dataclass(frozen=True)
class ImagicHeader:
    """What the first header says.

    Attributes
    ----------
    shape : tuple of int
        Images (or sections of volumes), rows, columns.
    dtype : dtype
        Type of the pixels, byte order included.
    """

    shape: tuple[int, int, int]
    dtype: np.dtype[Any]


def imagic_files(path: str | Path) -> tuple[Path, Path]:
    """Return the names of header and pixel file, given either."""
    path = Path(path)
    upper = path.suffix.isupper()
    return path.with_suffix(".HED" if upper else ".hed"), path.with_suffix(".IMG" if upper else ".img")


def read_imagic_header(path: str | Path) -> ImagicHeader:
    """Read the first header and check both files' lengths.

    Parameters
    ----------
    path : str or Path
        The ``.hed`` or the ``.img`` file.

    Raises
    ------
    InputError
        If one of the files is missing or too short, or holds what is not read (complex numbers).
    """
    headers, pixels = imagic_files(path)
    with reading(headers):
        with headers.open("rb") as file:
            raw = file.read(_HEADER_BYTES)
        held = headers.stat().st_size // _HEADER_BYTES
    with reading(pixels):
        actual = pixels.stat().st_size
    kind = raw[4 * (_TYPE - 1) : 4 * _TYPE].upper()
    header = _parse(raw, kind, "<") or _parse(raw, kind, ">") if len(raw) == _HEADER_BYTES else None
    if header is None:
        raise InputError(f"{headers} is not an IMAGIC header, or its pixels are of a type that is not read ({kind!r})")
    count, rows, columns = header.shape
    expected = count * rows * columns * header.dtype.itemsize
    if actual < expected:
        raise InputError(
            f"{pixels} is truncated: {count} images of {columns} x {rows} pixels need {expected} bytes, it has {actual}"
        )
    if held < 1:
        raise InputError(f"{headers} is truncated: it has {held} headers")
    return header


def _parse(raw: bytes, kind: bytes, order: Literal["<", ">"]) -> ImagicHeader | None:
    words = np.frombuffer(raw, dtype=f"{order}i4")
    following, rows, columns, planes = (int(words[place - 1]) for place in (_FOLLOWING, _LINES, _COLUMNS, _PLANES))
    if kind not in _DTYPES or not (0 < rows < _MOST and 0 < columns < _MOST and 0 <= following < _MOST):
        return None
    sections = (following + 1) * max(1, planes if 0 < planes < _MOST else 1)
    return ImagicHeader((sections, rows, columns), np.dtype(order + _DTYPES[kind]))


def open_imagic(path: str | Path) -> NDArray[Any]:
    """Open the images of an IMAGIC stack, or the sections of a volume, without reading them.

    Returns
    -------
    ndarray, shape [n, y, x]
        Memory-mapped and read-only, in the type and byte order of the file, rows as stored.

    Raises
    ------
    InputError
        As `read_imagic_header`.
    """
    header = read_imagic_header(path)
    _, pixels = imagic_files(path)
    with reading(pixels):
        return np.memmap(pixels, dtype=header.dtype, mode="r", shape=header.shape)


def write_imagic(path: str | Path, images: NDArray[Any], *, volume: bool = False) -> None:
    """Write images, shape [n, y, x] or [y, x], or a volume [z, y, x], as float32.

    Each of the two files appears whole or not at all, the pixels first.

    Parameters
    ----------
    path : str or Path
        The ``.hed`` or the ``.img`` file.
    images : ndarray
    volume : bool
        Whether the sections are those of one volume.

    Raises
    ------
    InputError
        If a file cannot be written.
    """
    headers, pixels = imagic_files(path)
    stack = images if images.ndim == 3 else images[None]
    with atomic_path(pixels) as temporary, temporary.open("wb") as file:
        for image in stack:
            file.write(np.ascontiguousarray(image, dtype="<f4").data)
    with atomic_path(headers) as temporary, temporary.open("wb") as file:
        planes = len(stack) if volume else 1
        for number in range(1, 2 if volume else len(stack) + 1):
            following = 0 if volume or number > 1 else len(stack) - 1
            file.write(_header(number, following, (planes, *stack.shape[1:])))


def _header(number: int, following: int, shape: tuple[int, ...]) -> bytes:
    words = np.zeros(_HEADER_BYTES // 4, dtype="<i4")
    planes, rows, columns = shape
    now = time.localtime()
    values = {
        _NUMBER: number, _FOLLOWING: following, _RECORDS: 1, _PIXELS: rows * columns, _PIXELS_TOO: rows * columns,
        _LINES: rows, _COLUMNS: columns, _PLANES: planes, _OBJECTS: 1, _STAMP: _LITTLE_ENDIAN,
        _DAY: now.tm_mday, _MONTH: now.tm_mon, _YEAR: now.tm_year - 1900, _HOUR: now.tm_hour, _MINUTE: now.tm_min,
        _SECOND: now.tm_sec, _TYPE: int.from_bytes(b"REAL", "little"),
    }  # fmt: skip
    for place, value in values.items():
        words[place - 1] = value
    return words.tobytes()
