"""Movies, frame by frame: MRC, TIFF (as SerialEM and RELION write it), EER.

Rows run as RELION has them, so that coordinates and gain references mean the same in both: MRC and EER as stored,
TIFF upside down.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from vitrea.formats.mrc import open_sections, read_header, unpack_nibbles
from vitrea.formats.mrc_header import reading
from vitrea.formats.tiff import EER_COMPRESSIONS, TiffPage, read_tiff_pages
from vitrea.records.errors import InputError

_SILENT = logging.NullHandler()
EXPOSURE_SUFFIXES = (".mrc", ".mrcs", ".st", ".tif", ".tiff", ".eer")
_TIFF_SUFFIXES = (".tif", ".tiff", ".eer", ".gain")
# SerialEM packs two 4-bit pixels of K3 and K2 super-resolution frames into a byte of a TIFF, and nothing in the file
# tells: IMOD and RELION know these rows and columns, of 8184 x 11520 and 7420 x 7676 pixels and the same turned.
_PACKED_SHAPES = {(8184, 5760), (11520, 4092), (7420, 3838), (7676, 3710)}
_EER_PIXEL = re.compile(rb'name="sensorPixelSize\.width"[^>]*unit="([^"]*)"[^>]*>\s*([-+.0-9eE]+)')
_EER_UNITS = {b"m": 1e10, b"nm": 10.0, b"um": 1e4, b"A": 1.0}


@dataclass(frozen=True)
class EerRendering:
    """How the electron events of an EER movie become frames.

    Attributes
    ----------
    grouping : int
        Raw frames of the detector that make one frame; what remains at the end is left out, as in RELION.
    upsampling : 1, 2 or 4
        Pixels of a frame along an edge of a detector pixel: super-resolution.
    """

    grouping: int = 40
    upsampling: Literal[1, 2, 4] = 1


@dataclass(frozen=True)
class MovieHeader:
    """What is known of a movie without decoding a pixel.

    Attributes
    ----------
    shape : tuple of int
        Frames, rows, columns; of an EER movie as rendered.
    dtype : dtype
        Of the pixels that `Movie.read` returns.
    pixel_size : float
        Å, of the frames; 0 where the file does not tell.
    kind : str
        "MRC", "TIFF" or "EER".
    raw_frames : int
        Of an EER movie the detector's own frames; else the same as frames.
    """

    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    pixel_size: float
    kind: Literal["MRC", "TIFF", "EER"]
    raw_frames: int


class Movie:
    """An open movie; a frame is read when it is asked for. Use as a context manager.

    Frames may be read from several threads.

    Attributes
    ----------
    path : Path
    header : MovieHeader
    """

    def __init__(self, path: Path, header: MovieHeader) -> None:
        self.path = path
        self.header = header

    def __len__(self) -> int:
        """Return the number of frames."""
        return self.header.shape[0]

    def read(self, frame: int) -> NDArray[Any]:
        """Return frame `frame`, from 0, as stored: shape [y, x], type ``header.dtype``.

        Raises
        ------
        InputError
            If it cannot be decoded; names file and frame.
        IndexError
            If there is no such frame.
        """
        if not 0 <= frame < len(self):
            raise IndexError(f"{self.path} has no frame {frame} (from 0); it has {len(self)}")
        return self._read(frame)

    def _read(self, frame: int) -> NDArray[Any]:
        raise NotImplementedError

    def __iter__(self) -> Iterator[NDArray[Any]]:
        """Yield all frames in order."""
        return (self.read(frame) for frame in range(len(self)))

    def close(self) -> None:
        """Close the file."""

    def __enter__(self) -> Self:
        """Return the movie itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file."""
        self.close()


def read_movie_header(path: str | Path, eer: EerRendering | None = None) -> MovieHeader:
    """Read and check what a movie's headers say; of TIFF and EER those of all pages.

    Raises
    ------
    InputError
        If the file is missing, truncated, corrupt, or of a format or pixel type that is not read; if pages differ in
        size; if an EER movie has fewer raw frames than are grouped.
    """
    return _inspect(Path(path), eer or EerRendering())[0]


def open_movie(path: str | Path, eer: EerRendering | None = None) -> Movie:
    """Open a movie of any format; errors as in `read_movie_header`."""
    path, eer = Path(path), eer or EerRendering()
    header, pages = _inspect(path, eer)
    if header.kind == "MRC":
        return _MrcMovie(path, header)
    if header.kind == "EER":
        return _EerMovie(path, header, pages, eer)
    return _TiffMovie(path, header, _is_packed(pages[0]))


def read_image(path: str | Path) -> NDArray[np.float32]:
    """Read a micrograph, or the first frame of a movie, as float32, shape [y, x]; errors as in `Movie.read`."""
    with open_movie(path, EerRendering(grouping=1)) as movie:
        return np.asarray(movie.read(0), dtype=np.float32)


def read_micrograph(path: str | Path, otherwise: str = "align the movie first") -> NDArray[np.float32]:
    """Read a file that holds one image, as float32, shape [y, x].

    Raises
    ------
    InputError
        As `Movie.read`; or if the file holds several images, which ends in `otherwise`, what then to do.
    """
    with open_movie(path) as movie:
        if len(movie) != 1:
            raise InputError(f"{path} holds {len(movie)} images where one is expected; {otherwise}")
        return np.asarray(movie.read(0), dtype=np.float32)


def _inspect(path: Path, eer: EerRendering) -> tuple[MovieHeader, list[TiffPage]]:
    if path.suffix.lower() not in _TIFF_SUFFIXES:
        mrc = read_header(path)
        return MovieHeader(mrc.shape, mrc.dtype.newbyteorder("="), mrc.pixel_size, "MRC", mrc.shape[0]), []
    pages = read_tiff_pages(path)
    if path.suffix.lower() == ".gain":
        pages = pages[:1]  # what follows the gain reference of a Falcon camera is something else
    events = [page for page in pages if page.compression in EER_COMPRESSIONS]
    kind: Literal["TIFF", "EER"] = "EER" if events else "TIFF"
    pages = events or pages
    for number, page in enumerate(pages, start=1):
        if page.shape != pages[0].shape or page.dtype != pages[0].dtype:
            raise InputError(
                f"page {number} of {path} is {_describe(page)}, the first {_describe(pages[0])}; frames must be alike"
            )
    height, width = pages[0].shape
    if not height or not width or (kind == "TIFF" and not pages[0].dtype):
        raise InputError(f"{path} does not hold grey images of 8, 16 or 32 bits, as movies do")
    if kind == "TIFF":
        dtype = np.dtype(pages[0].dtype)
        width *= 2 if _is_packed(pages[0]) else 1
        return MovieHeader((len(pages), height, width), dtype, pages[0].pixel_size, kind, len(pages)), pages
    if len(pages) < eer.grouping:
        raise InputError(f"{path} has {len(pages)} raw frames, fewer than the {eer.grouping} that make one frame")
    scale = eer.upsampling
    shape = (len(pages) // eer.grouping, height * scale, width * scale)
    return MovieHeader(shape, np.dtype(np.uint16), _eer_pixel_size(pages[0]) / scale, kind, len(pages)), pages


def _is_packed(page: TiffPage) -> bool:
    return page.dtype == "u1" and page.shape in _PACKED_SHAPES


def _describe(page: TiffPage) -> str:
    return f"{page.shape[1]} x {page.shape[0]} pixels of type {page.dtype or 'unknown'}"


def _eer_pixel_size(page: TiffPage) -> float:
    match = _EER_PIXEL.search(page.eer_metadata)
    if match is None or match[1] not in _EER_UNITS:
        return 0.0
    return round(float(match[2]) * _EER_UNITS[match[1]], 6)


class _MrcMovie(Movie):
    def __init__(self, path: Path, header: MovieHeader) -> None:
        super().__init__(path, header)
        self._sections = open_sections(path)

    def _read(self, frame: int) -> NDArray[Any]:
        return np.asarray(self._sections(frame), dtype=self.header.dtype)


class _TiffMovie(Movie):
    def __init__(self, path: Path, header: MovieHeader, packed: bool) -> None:
        import tifffile

        # What its logger says of a bad file ends in an exception, too; without a handler Python prints it.
        logging.getLogger("tifffile").addHandler(_SILENT)
        super().__init__(path, header)
        self._packed = packed
        try:
            with reading(path):
                self._file = tifffile.TiffFile(path)
        except tifffile.TiffFileError as error:
            raise InputError(f"{path} cannot be read as TIFF: {error}") from error
        self._file.filehandle.set_lock(True)

    def _read(self, frame: int) -> NDArray[Any]:
        try:
            with self._file.filehandle.lock:  # the reading of segments takes it itself
                page = self._file.pages[frame]
            pixels = page.asarray(maxworkers=1)
        except Exception as error:  # decoders of a dozen libraries raise what they like
            raise _undecodable(self.path, frame, error) from error
        stored = np.asarray(pixels[::-1], dtype=self.header.dtype)
        return unpack_nibbles(stored) if self._packed else stored

    def close(self) -> None:
        self._file.close()


class _EerMovie(Movie):
    def __init__(self, path: Path, header: MovieHeader, pages: list[TiffPage], eer: EerRendering) -> None:
        super().__init__(path, header)
        self._pages = pages
        self._eer = eer
        self._superres = {1: 0, 2: 1, 4: 2}[eer.upsampling]

    def _read(self, frame: int) -> NDArray[Any]:
        from imagecodecs import eer_decode

        counts = np.zeros(self.header.shape[1:], dtype=np.uint16)
        first = frame * self._eer.grouping
        with reading(self.path), self.path.open("rb") as file:
            for number in range(first, first + self._eer.grouping):
                page = self._pages[number]
                events = b"".join(_segments(file, page))
                try:
                    # The decoder adds to what is there. It takes whole 16-bit words.
                    eer_decode(events + b"\0" * (len(events) % 2), counts.shape, *page.eer_bits,
                               superres=self._superres, out=counts)  # fmt: skip
                except Exception as error:
                    raise _undecodable(self.path, number, error) from error
        return counts


def _segments(file: Any, page: TiffPage) -> Iterator[bytes]:
    for offset, count in zip(page.offsets, page.counts, strict=True):
        file.seek(offset)
        yield file.read(count)


def _undecodable(path: Path, frame: int, error: Exception) -> InputError:
    return InputError(f"frame {frame + 1} of {path} cannot be decoded ({error}); copy or make the file again")
