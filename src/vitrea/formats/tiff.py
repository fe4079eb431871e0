"""The directories of a TIFF file: read fast, and checked against the length of the file.

A movie is many pages, and an EER movie more than a thousand. What is looked at here is where each page lies and what
kind it is; pixels are left to `tifffile` and `imagecodecs`. Formats: TIFF 6.0 (1992), BigTIFF; EER 3.0.
"""

from __future__ import annotations

import operator
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vitrea.formats.mrc_header import reading
from vitrea.records.errors import InputError

EER_COMPRESSIONS = (65000, 65001, 65002)

# Codes of `struct` and bytes a value, by TIFF's number of the type.
_TYPES = {1: ("B", 1), 2: ("B", 1), 3: ("H", 2), 4: ("I", 4), 5: ("I", 4), 6: ("b", 1), 7: ("B", 1), 8: ("h", 2),
          9: ("i", 4), 10: ("i", 4), 11: ("f", 4), 12: ("d", 8), 13: ("I", 4), 16: ("Q", 8), 17: ("q", 8),
          18: ("Q", 8)}  # fmt: skip
_RATIONALS = (5, 10)  # two numbers a value
_WIDTH, _LENGTH, _BITS, _COMPRESSION, _STRIPS, _SAMPLES, _STRIP_BYTES = 256, 257, 258, 259, 273, 277, 279
_RESOLUTION, _UNIT, _TILES, _TILE_BYTES, _SAMPLE_FORMAT, _EER_METADATA = 282, 296, 324, 325, 339, 65001
_EER_BITS = (65007, 65008, 65009)  # of skips, horizontal and vertical sub-pixels, where compression is 65002
_EER_FIXED_BITS = {65000: (8, 2, 2), 65001: (7, 2, 2)}
_WANTED = {_WIDTH, _LENGTH, _BITS, _COMPRESSION, _STRIPS, _SAMPLES, _STRIP_BYTES, _RESOLUTION, _UNIT, _TILES,
           _TILE_BYTES, _SAMPLE_FORMAT, _EER_METADATA, *_EER_BITS}  # fmt: skip
_ANGSTROMS = {2: 2.54e8, 3: 1e8}  # in an inch, in a centimetre
_LARGEST_PIXEL = 1000.0  # Å; above it a resolution is one for printers (72 dots an inch)
_READ_AHEAD = 1024  # bytes: most directories fit


@dataclass(frozen=True)
class TiffPage:
    """One directory of a TIFF file.

    Attributes
    ----------
    shape : tuple of int
        Rows and columns.
    dtype : str
        Type of the pixels: u1, i2, f4 ...; "" for what is none of these (4-bit, colour).
    compression : int
        TIFF's number: 1 none, 5 LZW, 8 deflate, 50000 zstd, 65000 to 65002 EER.
    offsets, counts : tuple of int
        Where its compressed strips or tiles lie in the file, and how long they are.
    eer_bits : tuple of int
        Bits of a skip, of horizontal and vertical sub-pixels; (0, 0, 0) where it is not EER.
    pixel_size : float
        Å, from the resolution; 0 where unknown.
    eer_metadata : bytes
        The XML that the first page of an EER file carries.
    """

    shape: tuple[int, int]
    dtype: str
    compression: int
    offsets: tuple[int, ...]
    counts: tuple[int, ...]
    eer_bits: tuple[int, int, int]
    pixel_size: float
    eer_metadata: bytes


def read_tiff_pages(path: Path) -> list[TiffPage]:
    """Read the directories of all pages, and check that the file is long enough for what they say.

    Raises
    ------
    InputError
        If the file is missing, is no TIFF, or ends before a page does (names the page).
    """
    with reading(path), path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        return list(_pages(file.fileno(), size, path))


@dataclass(frozen=True)
class _Layout:
    """How numbers lie in classic TIFF or BigTIFF."""

    order: str
    count: str  # of entries in a directory
    entry: str  # tag, type, number of values, and these or where they are
    pointer: str

    @property
    def inline(self) -> int:
        """Bytes of values that stand in the entry itself."""
        return struct.calcsize(self.pointer)


def _layout(head: bytes, path: Path) -> tuple[_Layout, int]:
    """Return the layout and where the first directory lies."""
    order = {b"II": "<", b"MM": ">"}.get(head[:2], "")
    version = struct.unpack_from(f"{order}H", head, 2)[0] if order and len(head) >= 16 else 0
    if version not in (42, 43):
        raise InputError(f"{path} is not a TIFF file, or its header is corrupt")
    if version == 42:
        return _Layout(order, f"{order}H", f"{order}HHI4s", f"{order}I"), struct.unpack_from(f"{order}I", head, 4)[0]
    return _Layout(order, f"{order}Q", f"{order}HHQ8s", f"{order}Q"), struct.unpack_from(f"{order}Q", head, 8)[0]


def _pages(file: int, size: int, path: Path) -> Iterator[TiffPage]:
    layout, where = _layout(os.pread(file, 16, 0), path)
    seen: set[int] = set()
    head, entry = struct.calcsize(layout.count), struct.calcsize(layout.entry)
    while where:
        number = len(seen) + 1
        if where in seen:
            raise InputError(f"{path} is corrupt: page {number} points back to an earlier one; make it again")
        seen.add(where)
        block = os.pread(file, _READ_AHEAD, where)
        entries = struct.unpack_from(layout.count, block)[0] if len(block) >= head else 0
        length = head + entries * entry
        if not 0 < entries < 1 << 12 or where + length + layout.inline > size:
            raise _truncated(path, number, size)
        if length + layout.inline > len(block):
            block = os.pread(file, length + layout.inline, where)
        page = _page(file, struct.iter_unpack(layout.entry, block[head:length]), layout)
        if page is None or max(map(operator.add, page.offsets, page.counts), default=0) > size:
            raise _truncated(path, number, size)
        yield page
        where = struct.unpack_from(layout.pointer, block, length)[0]
    if not seen:
        raise InputError(f"{path} is a TIFF file without a page; make it again")


def _truncated(path: Path, number: int, size: int) -> InputError:
    return InputError(
        f"{path} is truncated or corrupt: page {number} reaches beyond the end of the file ({size} bytes); copy or "
        "make it again"
    )


def _page(file: int, entries: Iterator[tuple[Any, ...]], layout: _Layout) -> TiffPage | None:
    """Return what a directory says; None where its values lie beyond the end of the file."""
    values: dict[int, tuple[Any, ...]] = {}
    inline = layout.inline
    for tag, kind, count, data in entries:
        if tag not in _WANTED or kind not in _TYPES:
            continue
        code, size = _TYPES[kind]
        items = 2 * count if kind in _RATIONALS else count
        if items * size > inline:
            data = os.pread(file, items * size, struct.unpack(layout.pointer, data)[0])
            if len(data) < items * size:
                return None
        values[tag] = struct.unpack_from(f"{layout.order}{items}{code}", data)
    return _interpret(values)


def _interpret(values: dict[int, tuple[Any, ...]]) -> TiffPage:
    def one(tag: int, default: int) -> int:
        return int(values[tag][0]) if values.get(tag) else default

    compression = one(_COMPRESSION, 1)
    bits, samples = one(_BITS, 1), one(_SAMPLES, 1)
    kind = {1: "u", 2: "i", 3: "f"}.get(one(_SAMPLE_FORMAT, 1), "u")
    known = samples == 1 and f"{kind}{bits // 8}" in ("u1", "i1", "u2", "i2", "f2", "u4", "i4", "f4") and not bits % 8
    bits_of_eer = _EER_FIXED_BITS.get(compression, tuple(one(tag, 0) for tag in _EER_BITS))
    offsets = values.get(_STRIPS, values.get(_TILES, ()))
    counts = values.get(_STRIP_BYTES, values.get(_TILE_BYTES, ()))
    return TiffPage(
        shape=(one(_LENGTH, 0), one(_WIDTH, 0)),
        dtype=f"{kind}{bits // 8}" if known else "",
        compression=compression,
        offsets=offsets,
        counts=counts if len(counts) == len(offsets) else (0,) * len(offsets),
        eer_bits=bits_of_eer if compression in EER_COMPRESSIONS else (0, 0, 0),  # type: ignore[arg-type]
        pixel_size=_pixel_size(values.get(_RESOLUTION, ()), one(_UNIT, 2)),
        eer_metadata=bytes(values.get(_EER_METADATA, ())) if compression in EER_COMPRESSIONS else b"",
    )


def _pixel_size(resolution: tuple[Any, ...], unit: int) -> float:
    if len(resolution) < 2 or unit not in _ANGSTROMS or not all(resolution):
        return 0.0
    size = _ANGSTROMS[unit] * resolution[1] / resolution[0]
    return round(size, 6) if size < _LARGEST_PIXEL else 0.0
