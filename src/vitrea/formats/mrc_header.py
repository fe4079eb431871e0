"""The header of an MRC file: read with judgement, written by the book.

Format: MRC2014, Cheng et al. (2015) doi:10.1016/j.jsb.2015.04.002. The field layout is the one of `mrcfile`.
"""

from __future__ import annotations

import bz2
import gzip
import math
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal, cast

import numpy as np
from mrcfile.dtypes import HEADER_DTYPE
from numpy.typing import NDArray

import vitrea
from vitrea.records.errors import InputError

HEADER_BYTES = 1024
UNSET_PIXEL_SIZES = (0.0, 1.0)  # what headers hold where nobody set the pixel size
PACKED_MODE = 101  # IMOD's: two 4-bit values a byte, the low half first, rows of whole bytes
MODE_DTYPES = {0: "i1", 1: "i2", 2: "f4", 6: "u2", 12: "f2", PACKED_MODE: "u1"}
_MODE_NAMES = {3: "complex 16-bit integers", 4: "complex 32-bit numbers"}
_PIECE = 1 << 15  # values of which statistics are taken at a time
_MODE_HELP = "; convert it to mode 2 (32-bit float) first"
_COMPRESSED = {b"\x1f\x8b": "gzip", b"BZ": "bzip2"}
_IMOD_STAMP, _SIGNED_BYTES = 1146047817, 1  # what IMOD and SerialEM leave in a header; bit of the word after it
_LITTLE, _BIG = bytes((0x44, 0x44)), bytes((0x11, 0x11))


@dataclass(frozen=True)
class MrcHeader:
    """What a header says.

    Attributes
    ----------
    shape : tuple of int
        Sections, rows, columns as stored: (n, y, x) or, for a map with the usual axis order, (z, y, x).
    mode : int
        0 int8, 1 int16, 2 float32, 6 uint16, 12 float16, 101 packed 4-bit.
    pixel_size : float
        Å along the columns; 0 where the header gives none. 1.0 often means that nobody set it, too.
    voxel_sizes : tuple of float
        Å along x, y, z; 0 where the header gives none.
    byte_order : str
        "<" little-endian or ">" big-endian.
    is_stack : bool
        Whether the header declares a stack of images (space group 0, one section a volume). Some programs write
        stacks with headers of maps, so False does not prove a map.
    data_offset : int
        Bytes before the data: the header and its extension.
    axes : tuple of int
        MAPC, MAPR, MAPS: which of x (1), y (2), z (3) runs along columns, rows and sections.
    origin : tuple of float
        Position x, y, z of the first voxel in Å: ORIGIN, or where that is zero the start indices times the voxel.
    unsigned_bytes : bool
        Whether bytes of mode 0 are unsigned: so IMOD wrote them before MRC2014, and says so.
    """

    shape: tuple[int, int, int]
    mode: int
    pixel_size: float
    voxel_sizes: tuple[float, float, float]
    byte_order: Literal["<", ">"]
    is_stack: bool
    data_offset: int
    axes: tuple[int, int, int]
    origin: tuple[float, float, float]
    unsigned_bytes: bool = False

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the values as stored; those of packed ones (mode 101) once unpacked."""
        if self.mode == 0 and self.unsigned_bytes:
            return np.dtype("u1")
        return np.dtype(self.byte_order + MODE_DTYPES[self.mode])

    @property
    def data_bytes(self) -> int:
        """Length of the data."""
        return self.shape[0] * self.shape[1] * self.row_bytes

    @property
    def row_bytes(self) -> int:
        """Length of one row."""
        columns = self.shape[2]
        return (columns + 1) // 2 if self.mode == PACKED_MODE else columns * self.dtype.itemsize


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn what the system or a decompressor raises on reading a file into an InputError that names it."""
    try:
        yield
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist; check its name and the folder it is looked for in") from error
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error
    except (EOFError, zlib.error) as error:
        raise InputError(f"cannot read {path}, its compressed data are damaged: {error}") from error


def compression(path: Path) -> str | None:
    """Return "gzip", "bzip2" or None, judged by the first bytes of a file.

    Raises
    ------
    InputError
        If the file is missing or unreadable.
    """
    with reading(path), path.open("rb") as file:
        return _COMPRESSED.get(file.read(2))


def open_bytes(path: Path) -> BinaryIO:
    """Open a file for reading, uncompressing gzip and bzip2."""
    kind = compression(path)
    if kind == "gzip":
        return cast(BinaryIO, gzip.open(path, "rb"))
    return cast(BinaryIO, bz2.open(path, "rb")) if kind == "bzip2" else path.open("rb")


def read_header(path: str | Path) -> MrcHeader:
    """Read the header of an MRC file (plain, gzip or bzip2) and check that it makes sense.

    For plain files the length is checked, too.

    Raises
    ------
    InputError
        If the file is missing, shorter than its header says (names expected and actual bytes), is no MRC file, or has
        a mode that is not supported.
    """
    path = Path(path)
    with reading(path), open_bytes(path) as file:
        raw = file.read(HEADER_BYTES)
        actual = path.stat().st_size
    if len(raw) < HEADER_BYTES:
        raise InputError(f"{path} is truncated: an MRC header has {HEADER_BYTES} bytes, the file {len(raw)}")
    header = parse_header(raw, path)
    if compression(path) is None:
        if not _has_map_id(raw) and actual < header.data_offset + header.data_bytes:
            raise InputError(f"{path} is not an MRC file: neither its first bytes nor its length fit")
        check_length(path, header, actual)
    return header


def check_length(path: Path, header: MrcHeader, actual: int) -> None:
    """Raise InputError where a file of `actual` bytes is shorter than its header says."""
    expected = header.data_offset + header.data_bytes
    if actual < expected:
        n, y, x = header.shape
        raise InputError(
            f"{path} is truncated or its header is corrupt: {x} x {y} x {n} values of mode {header.mode} need "
            f"{expected} bytes, the file has {actual}; copy or make it again"
        )


def parse_header(raw: bytes, path: Path) -> MrcHeader:
    """Interpret 1024 bytes.

    The machine stamp decides the byte order where it is known; else the order in which the fields make sense. A
    missing "MAP " is forgiven, as old programs did not write it.
    """
    order = _byte_order(raw)
    fields = np.frombuffer(raw, dtype=HEADER_DTYPE.newbyteorder(order or "<"))[0]
    if order is None or not _is_plausible(fields):
        if int(fields["mode"]) not in MODE_DTYPES and order is not None and _has_map_id(raw):
            raise InputError(_mode_error(path, int(fields["mode"])))
        raise InputError(f"{path} is not an MRC file, or its header is corrupt")
    mode = int(fields["mode"])
    if mode not in MODE_DTYPES:
        raise InputError(_mode_error(path, mode))
    shape = (int(fields["nz"]), int(fields["ny"]), int(fields["nx"]))
    grid = [int(fields[name]) for name in ("mx", "my", "mz")]
    lengths = [float(fields["cella"][axis]) for axis in "xyz"]
    voxel = tuple(_divide(length, count) for length, count in zip(lengths, grid, strict=True))
    is_stack = int(fields["ispg"]) == 0 and grid[2] in (0, 1)
    axes = (int(fields["mapc"]), int(fields["mapr"]), int(fields["maps"]))
    return MrcHeader(
        shape=shape,
        mode=mode,
        pixel_size=voxel[0],
        voxel_sizes=cast(tuple[float, float, float], voxel),
        byte_order=order,
        is_stack=is_stack,
        data_offset=HEADER_BYTES + int(fields["nsymbt"]),
        axes=axes if sorted(axes) == [1, 2, 3] else (1, 2, 3),
        origin=_origin(fields, cast(tuple[float, float, float], voxel)),
        unsigned_bytes=_has_unsigned_bytes(raw, order),
    )


def _mode_error(path: Path, mode: int) -> str:
    what = _MODE_NAMES.get(mode, "unknown")
    return f"{path} has MRC mode {mode} ({what}), which Vitrea does not read{_MODE_HELP if mode in _MODE_NAMES else ''}"


def _has_map_id(raw: bytes) -> bool:
    return raw[208:211] == b"MAP"


def _has_unsigned_bytes(raw: bytes, order: str) -> bool:
    stamp, flags = np.frombuffer(raw, dtype=f"{order}i4", count=2, offset=152).tolist()
    return bool(stamp == _IMOD_STAMP and not flags & _SIGNED_BYTES)


def _byte_order(raw: bytes) -> Literal["<", ">"] | None:
    stamp = raw[212:214]
    if stamp in (_LITTLE, bytes((0x44, 0x41))):
        candidates: tuple[Literal["<", ">"], ...] = ("<", ">")
    elif stamp == _BIG:
        candidates = (">", "<")
    else:
        candidates = ("<", ">")
    for order in candidates:
        if _is_plausible(np.frombuffer(raw, dtype=HEADER_DTYPE.newbyteorder(order))[0]):
            return order
    return candidates[0] if _has_map_id(raw) else None


def _is_plausible(fields: Any) -> bool:
    sizes = [int(fields[name]) for name in ("nx", "ny", "nz")]
    known = int(fields["mode"]) in MODE_DTYPES or int(fields["mode"]) in _MODE_NAMES
    return known and all(0 < size < 2**24 for size in sizes) and 0 <= int(fields["nsymbt"]) < 2**30


def _divide(length: float, count: int) -> float:
    size = length / count if count > 0 else 0.0
    return round(size, 6) if math.isfinite(size) and size > 0 else 0.0


def _origin(fields: Any, voxel: tuple[float, float, float]) -> tuple[float, float, float]:
    origin = tuple(float(fields["origin"][axis]) for axis in "xyz")
    if any(origin) and all(map(math.isfinite, origin)):
        return cast(tuple[float, float, float], origin)
    axes = [int(fields[name]) for name in ("mapc", "mapr", "maps")]
    starts = [int(fields[name]) for name in ("nxstart", "nystart", "nzstart")]  # along columns, rows, sections
    if sorted(axes) != [1, 2, 3] or max(map(abs, starts)) > 2**20:
        return (0.0, 0.0, 0.0)
    along = dict(zip(axes, starts, strict=True))
    return (along[1] * voxel[0], along[2] * voxel[1], along[3] * voxel[2])


@dataclass
class Statistics:
    """Minimum, maximum, mean and deviation of values that come piece by piece (Chan et al. 1983 update)."""

    count: int = 0
    minimum: float = math.inf
    maximum: float = -math.inf
    mean: float = 0.0
    squares: float = 0.0

    def add(self, values: NDArray[Any]) -> None:
        """Take in an array of any shape, in pieces that stay in a processor's cache."""
        flat = values.reshape(-1)
        for start in range(0, len(flat), _PIECE):
            self._add_piece(flat[start : start + _PIECE])

    def _add_piece(self, values: NDArray[Any]) -> None:
        self.minimum = min(self.minimum, float(values.min()))
        self.maximum = max(self.maximum, float(values.max()))
        exact = values.astype(np.float64)
        mean = float(exact.mean())
        exact -= mean
        squares = float(exact @ exact)
        total = self.count + values.size
        delta = mean - self.mean
        self.squares += squares + delta * delta * self.count * values.size / total
        self.mean += delta * values.size / total
        self.count = total

    @property
    def deviation(self) -> float:
        """Root mean square deviation from the mean."""
        return math.sqrt(self.squares / self.count) if self.count else 0.0


def build_header(
    shape: tuple[int, int, int],
    mode: int,
    pixel_size: float,
    statistics: Statistics,
    *,
    is_stack: bool,
    origin: tuple[float, float, float] = (0.0, 0.0, 0.0),
) -> bytes:
    """Return the 1024 bytes of a little-endian MRC2014 header.

    Parameters
    ----------
    shape : tuple of int
        Sections, rows, columns.
    mode : int
        2 or 12.
    pixel_size : float
        Å, the same along all axes.
    statistics : Statistics
        Of the values.
    is_stack : bool
        Stack of images (space group 0, mz 1), else map (space group 1, mz nz).
    origin : tuple of float
        Position x, y, z of the first voxel in Å.
    """
    fields = np.zeros((), dtype=HEADER_DTYPE.newbyteorder("<"))
    depth = 1 if is_stack else shape[0]
    fields["nz"], fields["ny"], fields["nx"] = shape
    fields["mz"], fields["my"], fields["mx"] = depth, shape[1], shape[2]
    fields["mode"] = mode
    fields["cella"] = (shape[2] * pixel_size, shape[1] * pixel_size, depth * pixel_size)
    fields["cellb"] = (90.0, 90.0, 90.0)
    fields["mapc"], fields["mapr"], fields["maps"] = 1, 2, 3
    fields["ispg"] = 0 if is_stack else 1
    fields["nversion"] = 20141
    fields["origin"] = origin
    fields["map"] = b"MAP "
    fields["machst"] = (0x44, 0x44, 0, 0)
    if statistics.count and math.isfinite(statistics.mean) and math.isfinite(statistics.deviation):
        fields["dmin"], fields["dmax"] = statistics.minimum, statistics.maximum
        fields["dmean"], fields["rms"] = statistics.mean, statistics.deviation
    else:  # MRC2014's signs for "not determined"
        fields["dmin"], fields["dmax"], fields["dmean"], fields["rms"] = 0, -1, -2, -1
    fields["nlabl"] = 1
    fields["label"][0] = f"Vitrea {vitrea.__version__}".encode("ascii")
    return fields.tobytes()
