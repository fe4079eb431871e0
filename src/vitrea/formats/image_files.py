"""Files of images or of a map in any format that is read: MRC, SPIDER, IMAGIC, TIFF, EER, and plain numbers (raw).

`formats.image_stacks` maps the stacks of particles; here single sections are read whatever holds them, and written
again in the format that the ending tells.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vitrea.formats.atomic import atomic_path
from vitrea.formats.image_stacks import IMAGIC_ENDINGS, SPIDER_ENDINGS, open_images, read_stack_header
from vitrea.formats.imagic import write_imagic
from vitrea.formats.movie_writing import write_movie
from vitrea.formats.movies import open_movie, read_movie_header
from vitrea.formats.mrc import StackWriter, open_sections, read_header, read_map, write_map
from vitrea.formats.mrc_header import reading
from vitrea.formats.spider import read_spider_header, write_spider
from vitrea.records.errors import InputError
from vitrea.records.map import Map

Kind = Literal["auto", "map", "stack"]
RawType = Literal["int8", "uint8", "int16", "uint16", "int32", "float16", "float32", "float64"]

MOVIE_ENDINGS = frozenset({".tif", ".tiff", ".eer"})
RAW_ENDINGS = frozenset({".raw", ".bin", ".dat"})
_STACK_ENDINGS = frozenset({".mrcs", ".st", ".mrcst"})
_MRC_ENDINGS = frozenset({".mrc", ".map", ".ccp4", ".rec", ".gz", ".bz2"}) | _STACK_ENDINGS
_WRITTEN = ".mrc .mrcs .map .ccp4 .st, .spi .stk .xmp .vol, .hed .img, .tif .tiff, .raw .bin .dat"


@dataclass(frozen=True)
class RawLayout:
    """How the numbers of a raw file lie.

    Attributes
    ----------
    shape : tuple of int
        Sections, rows, columns.
    dtype : str
        Type of one number.
    offset : int
        Bytes before the first.
    big_endian : bool
    """

    shape: tuple[int, int, int]
    dtype: RawType = "float32"
    offset: int = 0
    big_endian: bool = False


@dataclass(frozen=True)
class ImageFile:
    """Images, or the slices of one map, that are read when asked for.

    Attributes
    ----------
    path : Path
    shape : tuple of int
        Sections, rows, columns.
    pixel_size : float
        Å; 0 where the file does not tell.
    is_map : bool
        Whether the sections are the slices of one map.
    read : callable
        ``read(numbers)`` yields sections as stored, shape [y, x].
    """

    path: Path
    shape: tuple[int, int, int]
    pixel_size: float
    is_map: bool
    read: Callable[[Sequence[int]], Iterator[NDArray[Any]]]

    def __len__(self) -> int:
        """Return the number of sections."""
        return self.shape[0]

    def load(self, sections: ArrayLike) -> NDArray[np.float32]:
        """Return sections, shape [m, y, x], as float32; IndexError where there are not so many."""
        numbers = np.asarray(sections, dtype=np.int64).reshape(-1).tolist()
        wrong = [number for number in numbers if not 0 <= number < len(self)]
        if wrong:
            raise IndexError(f"{self.path} has no section {wrong[0]} (from 0); it has {len(self)}")
        images = np.empty((len(numbers), *self.shape[1:]), dtype=np.float32)
        for place, section in enumerate(self.read(numbers)):
            images[place] = section
        return images

    def load_map(self) -> Map:
        """Return all sections as one map; of an MRC file with its axes put in the usual order.

        Raises
        ------
        InputError
            As `formats.mrc.read_map`.
        """
        if self.path.suffix.lower() in _MRC_ENDINGS and self.is_map:
            return replace(read_map(self.path), voxel_size=self.pixel_size or 1.0)
        return Map(self.load(range(len(self))), self.pixel_size or 1.0)


def open_image_file(path: str | Path, kind: Kind = "auto", raw: RawLayout | None = None) -> ImageFile:
    """Open a file of images, or a map.

    Parameters
    ----------
    path : str or Path
        The ending tells the format; endings that are not known are those of MRC files.
    kind : "auto", "map" or "stack"
        What the sections are, where the file does not tell, or says it wrongly. By itself an MRC file is a map unless
        its header or its ending (.mrcs, .st) says otherwise, a SPIDER file what its header says, all others are stacks.
    raw : RawLayout, optional
        Of a file without a header: its ending does not matter then.

    Raises
    ------
    InputError
        If the file is missing, truncated, corrupt, of a format that is not read, or raw without a layout.
    """
    path = Path(path)
    ending = path.suffix.lower()
    if raw is not None:
        return ImageFile(path, raw.shape, 0.0, kind == "map", _picker(_open_raw(path, raw).__getitem__))
    if ending in RAW_ENDINGS:
        raise InputError(f"{path} has no header: give the size of its images and the type of its numbers (--raw_shape)")
    if ending in MOVIE_ENDINGS:
        movie_header = read_movie_header(path)
        return ImageFile(path, movie_header.shape, movie_header.pixel_size, kind == "map", partial(_frames, path))
    if ending in SPIDER_ENDINGS | IMAGIC_ENDINGS:
        stack_header = read_stack_header(path)
        is_map = ending in SPIDER_ENDINGS and read_spider_header(path).is_volume
        read = _picker(open_images(path).__getitem__)
        return ImageFile(path, stack_header.shape, stack_header.pixel_size, _choose(kind, is_map), read)
    header = read_header(path)
    is_map = header.shape[0] > 1 and not header.is_stack and ending not in _STACK_ENDINGS
    return ImageFile(path, header.shape, header.pixel_size, _choose(kind, is_map), _picker(open_sections(path)))


def _picker(one: Callable[[int], NDArray[Any]]) -> Callable[[Sequence[int]], Iterator[NDArray[Any]]]:
    return lambda numbers: map(one, numbers)


def _frames(path: Path, numbers: Sequence[int]) -> Iterator[NDArray[Any]]:
    with open_movie(path) as movie:
        yield from map(movie.read, numbers)


def _choose(kind: Kind, is_map: bool) -> bool:
    return is_map if kind == "auto" else kind == "map"


def _open_raw(path: Path, layout: RawLayout) -> NDArray[Any]:
    dtype = np.dtype(layout.dtype).newbyteorder(">" if layout.big_endian else "<")
    sections, rows, columns = layout.shape
    expected = layout.offset + sections * rows * columns * dtype.itemsize
    with reading(path):
        actual = path.stat().st_size
        if actual < expected:
            raise InputError(
                f"{path} is too short: {sections} sections of {columns} x {rows} numbers of type {layout.dtype} after "
                f"{layout.offset} bytes need {expected} bytes, it has {actual}"
            )
        return np.memmap(path, dtype=dtype, mode="r", offset=layout.offset, shape=layout.shape)


class ImageFileWriter:
    """Write images piece by piece in the format that the ending tells.

    MRC stacks are written as they come; all else is gathered and written at the end. Use as a context manager: the file
    appears when the block ends well, and not at all otherwise.

    Parameters
    ----------
    path : str or Path
    pixel_size : float
        Å.
    half_precision : bool
        16-bit floats (MRC mode 12) instead of 32-bit ones; stacks in MRC only.

    Raises
    ------
    InputError
        If the ending is none of a format that is written, or half precision is asked for where there is none.
    """

    def __init__(self, path: str | Path, pixel_size: float, *, half_precision: bool = False) -> None:
        self.path = Path(path)
        check_written(self.path)
        is_mrc = self.path.suffix.lower() in _MRC_ENDINGS
        if half_precision and not is_mrc:
            raise InputError(f"{path}: 16-bit floats are written to MRC files only")
        self._pixel_size = pixel_size
        self.count = 0
        self._pieces: list[NDArray[np.float32]] = []
        self._stack = StackWriter(self.path, pixel_size, 12 if half_precision else 2) if is_mrc else None

    def __enter__(self) -> Self:
        """Open the file."""
        if self._stack is not None:
            self._stack.__enter__()
        return self

    def append(self, images: NDArray[Any]) -> None:
        """Add images, shape [m, y, x]; all must be of one size."""
        self.count += len(images)
        if self._stack is not None:
            self._stack.append(images)
        else:
            self._pieces.append(np.asarray(images, dtype=np.float32))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        """Complete the file, or remove it."""
        if self._stack is not None:
            return self._stack.__exit__(kind, error, trace)
        if kind is None:
            write_sections(self.path, np.concatenate(self._pieces), self._pixel_size)
        return None


def check_written(path: Path) -> None:
    """Raise InputError unless files of this ending are written."""
    ending = path.suffix.lower()
    if ending in {".gz", ".bz2", ".eer"} or ending not in (
        _MRC_ENDINGS | SPIDER_ENDINGS | IMAGIC_ENDINGS | MOVIE_ENDINGS | RAW_ENDINGS
    ):
        raise InputError(f"{path}: '{ending}' is no ending of a format that is written; these are {_WRITTEN}")


def write_sections(path: str | Path, sections: NDArray[Any], pixel_size: float) -> None:
    """Write images, shape [n, y, x], as a stack in the format that the ending tells, whole or not at all.

    Parameters
    ----------
    path : str or Path
    sections : ndarray
        May be memory-mapped: it is read in pieces. TIFF has the last row first, as SerialEM and RELION have it; raw
        files hold little-endian 32-bit floats.
    pixel_size : float
        Å; 0 if not known. IMAGIC and raw files do not tell it.

    Raises
    ------
    InputError
        If the ending is none of a format that is written, or the file cannot be written.
    """
    path = Path(path)
    check_written(path)
    ending = path.suffix.lower()
    if ending in _MRC_ENDINGS:
        with StackWriter(path, pixel_size) as writer:
            for section in sections:
                writer.append(section)
    else:
        _write_other(path, sections, pixel_size, volume=False)


def write_volume(path: str | Path, density: Map) -> None:
    """Write a map in the format that the ending tells, whole or not at all; errors as in `write_sections`."""
    path = Path(path)
    check_written(path)
    if path.suffix.lower() in _MRC_ENDINGS:
        write_map(path, density)
    else:
        _write_other(path, density.voxels, density.voxel_size, volume=True)


def _write_other(path: Path, sections: NDArray[Any], pixel_size: float, *, volume: bool) -> None:
    ending = path.suffix.lower()
    if ending in SPIDER_ENDINGS:
        write_spider(path, sections, pixel_size, volume=volume)
    elif ending in IMAGIC_ENDINGS:
        write_imagic(path, sections, volume=volume)
    elif ending in MOVIE_ENDINGS:
        write_movie(path, sections, pixel_size or 1.0, "float32")
    else:
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            for section in sections:
                file.write(np.ascontiguousarray(section, dtype="<f4").data)
