"""SPIDER images, volumes and stacks, as SPIDER and XMIPP (``.spi``, ``.stk``, ``.xmp``, ``.vol``) write them.

Format: a header of 4-byte floats, whole records long, then 4-byte floats; in stacks every image has a header of its own
behind that of the stack (Frank et al. 1996, doi:10.1006/jsbi.1996.0030; the words are numbered as in SPIDER's manual).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from vitrea.formats.atomic import atomic_path
from vitrea.formats.mrc_header import reading
from vitrea.records.errors import InputError

_HEADER_WORDS = 256
_SLICES, _ROWS, _FORM, _COLUMNS, _HEADER_RECORDS, _HEADER_BYTES, _RECORD_BYTES = 1, 2, 5, 12, 13, 22, 23
_STACK, _IMAGES, _NUMBER, _PIXEL_SIZE, _TOTAL_RECORDS = 24, 26, 27, 38, 3
_IMAGE_FORM, _VOLUME_FORM = 1, 3
_MOST = 1 << 24


@dataclass(frozen=True)
class SpiderHeader:
    """What a header says.

    Attributes
    ----------
    shape : tuple of int
        Images (or slices of a volume), rows, columns.
    is_volume : bool
        Whether the sections are the slices of one volume.
    pixel_size : float
        Å; 0 where the header gives none.
    byte_order : "<" or ">"
    header_bytes : int
        Length of each header.
    is_stack : bool
        Whether each image has a header of its own behind the first.
    """

    shape: tuple[int, int, int]
    is_volume: bool
    pixel_size: float
    byte_order: Literal["<", ">"]
    header_bytes: int
    is_stack: bool

    @property
    def file_bytes(self) -> int:
        """Length of the whole file."""
        sections, rows, columns = self.shape
        headers = 1 + sections if self.is_stack else 1
        return headers * self.header_bytes + 4 * sections * rows * columns


def read_spider_header(path: str | Path) -> SpiderHeader:
    """Read a header and check it against the length of the file.

    Raises
    ------
    InputError
        If the file is missing, truncated, or not a SPIDER image.
    """
    path = Path(path)
    with reading(path):
        with path.open("rb") as file:
            raw = file.read(4 * _HEADER_WORDS)
        actual = path.stat().st_size
    header = _parse(raw.ljust(4 * _HEADER_WORDS, b"\0"), "<") or _parse(raw.ljust(4 * _HEADER_WORDS, b"\0"), ">")
    if header is None:
        raise InputError(f"{path} is not a SPIDER image: the numbers in its header make no sense")
    if actual < header.file_bytes:
        sections, rows, columns = header.shape
        raise InputError(
            f"{path} is truncated or its header is corrupt: {sections} images of {columns} x {rows} pixels need "
            f"{header.file_bytes} bytes, the file has {actual}"
        )
    return header


def _parse(raw: bytes, order: Literal["<", ">"]) -> SpiderHeader | None:
    words = np.frombuffer(raw, dtype=f"{order}f4").astype(np.float64)

    def whole(number: int) -> int:
        value = words[number - 1]
        return int(value) if np.isfinite(value) and value == np.round(value) and abs(value) < _MOST else -1

    slices, rows, columns, form = (whole(number) for number in (_SLICES, _ROWS, _COLUMNS, _FORM))
    header_bytes, stack, images = whole(_HEADER_BYTES), whole(_STACK), whole(_IMAGES)
    if form not in (_IMAGE_FORM, _VOLUME_FORM) or min(rows, columns) < 1 or header_bytes < 4 * columns:
        return None
    slices = max(1, abs(slices))
    is_stack = stack > 0
    if is_stack and (images < 1 or slices > 1):
        return None  # stacks of volumes are not read
    size = words[_PIXEL_SIZE - 1]
    pixel_size = round(float(size), 6) if np.isfinite(size) and 0 < size < 1e4 else 0.0
    count = images if is_stack else slices
    return SpiderHeader((count, rows, columns), form == _VOLUME_FORM, pixel_size, order, header_bytes, is_stack)


def open_spider(path: str | Path) -> NDArray[Any]:
    """Open the images of a SPIDER file, or the slices of a volume, without reading them.

    Returns
    -------
    ndarray, shape [n, y, x]
        Memory-mapped and read-only, float32 in the byte order of the file; rows as stored, the first at the bottom of a
        picture in this project's view, as in MRC.

    Raises
    ------
    InputError
        As `read_spider_header`.
    """
    path = Path(path)
    header = read_spider_header(path)
    sections, rows, columns = header.shape
    pixels = np.dtype(f"{header.byte_order}f4")
    with reading(path):
        if not header.is_stack:
            return np.memmap(path, dtype=pixels, mode="r", offset=header.header_bytes, shape=header.shape)
        one = np.dtype([("header", f"V{header.header_bytes}"), ("image", pixels, (rows, columns))])
        images: NDArray[Any] = np.memmap(path, dtype=one, mode="r", offset=header.header_bytes, shape=(sections,))[
            "image"
        ]
    return images


def write_spider(path: str | Path, images: NDArray[Any], pixel_size: float = 0.0, *, volume: bool = False) -> None:
    """Write images, shape [n, y, x] or [y, x], as a SPIDER stack or image, or a volume [z, y, x]; whole or not at all.

    Parameters
    ----------
    path : str or Path
    images : ndarray
        Little-endian float32 is written.
    pixel_size : float
        Å; 0 if not known.
    volume : bool
        Whether the sections are slices of one volume.

    Raises
    ------
    InputError
        If the file cannot be written.
    """
    is_stack = images.ndim == 3 and not volume
    sections = images if images.ndim == 3 else images[None]
    first = _header(sections, pixel_size, volume=volume, images=len(sections) if is_stack else 0)
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        file.write(first)
        for number, section in enumerate(sections, start=1):
            if is_stack:
                file.write(_header(section[None], pixel_size, volume=False, number=number))
            file.write(np.ascontiguousarray(section, dtype="<f4").data)


def _header(sections: NDArray[Any], pixel_size: float, *, volume: bool, images: int = 0, number: int = 0) -> bytes:
    """Return a header: of a stack where `images` is given, of an image in one where `number` is."""
    count, rows, columns = sections.shape
    record = 4 * columns
    header_records = math.ceil(4 * _HEADER_WORDS / record)
    words = np.zeros(header_records * columns, dtype="<f4")
    slices = 1 if images else count
    values = {
        _SLICES: slices, _ROWS: rows, _TOTAL_RECORDS: slices * rows + header_records,
        _FORM: _VOLUME_FORM if volume else _IMAGE_FORM, _COLUMNS: columns, _HEADER_RECORDS: header_records,
        _HEADER_BYTES: header_records * record, _RECORD_BYTES: record, _STACK: 2 if images else 0, _IMAGES: images,
        _NUMBER: number, _PIXEL_SIZE: pixel_size,
    }  # fmt: skip
    for place, value in values.items():
        words[place - 1] = value
    return words.tobytes()
