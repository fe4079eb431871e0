"""The images of a particle set, read in chunks from memory-mapped stacks."""

from __future__ import annotations

import mmap
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vitrea.formats.image_names import find_file, split_image_name
from vitrea.formats.image_stacks import open_images, read_stack_header
from vitrea.formats.mrc_header import UNSET_PIXEL_SIZES
from vitrea.records.errors import InputError
from vitrea.records.particles import Particles
from vitrea.records.recorder import Recorder

_OPEN_STACKS = 128  # every memory map holds a file descriptor, of which a process has 1024
# Bytes of a stack that may count as this process's at a time, and what one touch of a page may map.
_MAPPED_AT_ONCE, _NEIGHBOURHOOD = 16 << 20, 1 << 19
_TOLERANCE = 0.01  # pixel sizes closer than this differ by rounding


@dataclass(frozen=True)
class BadImage:
    """An image that cannot be used.

    Attributes
    ----------
    index : int
        Row in the particle set.
    name : str
        Its ``rlnImageName``.
    reason : str
        What is wrong with it.
    """

    index: int
    name: str
    reason: str


class ParticleImages:
    """The images of a particle set; nothing is read until asked for.

    Stacks are looked for from the STAR file's folder, the current folder, and the folders above the STAR file.
    Safe to use from several threads.

    Parameters
    ----------
    particles : Particles
        Must have ``rlnImageName``. All optics groups must agree in box and, within 1%, in pixel size.

    Raises
    ------
    InputError
        If the optics groups disagree, an image's name makes no sense, or a stack does not exist.
    """

    def __init__(self, particles: Particles) -> None:
        self._where = _where(particles)
        self._names: NDArray[Any] = _names(particles)
        self._used_groups = [particles.optics[int(i)] for i in np.unique(particles.optics_index)]
        self.box_size = self._common_box()
        self.pixel_size = self._common_pixel_size()
        files, self._file, self._index = _split_names(self._names)
        self._paths = [find_file(file, particles.image_root) for file in files]
        self._open: OrderedDict[int, NDArray[Any]] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self._names)

    @property
    def names(self) -> NDArray[Any]:
        """``rlnImageName`` of every image, shape [images]."""
        return self._names

    @property
    def paths(self) -> list[Path]:
        """The stacks the images lie in, as found."""
        return list(self._paths)

    def _common_box(self) -> int:
        boxes = sorted({group.image_size for group in self._used_groups})
        if len(boxes) > 1:
            raise InputError(
                f"{self._where}: optics groups differ in rlnImageSize ({', '.join(map(str, boxes))}); bring the images "
                "to one box first"
            )
        if boxes[0] <= 0:
            raise InputError(f"{self._where}: rlnImageSize is not known")
        return boxes[0]

    def _common_pixel_size(self) -> float:
        """Pixel size in Å of the group with most right to it: the first."""
        sizes = [group.pixel_size for group in self._used_groups]
        if max(sizes) > min(sizes) * (1 + _TOLERANCE):
            raise InputError(
                f"{self._where}: optics groups differ in rlnImagePixelSize by more than 1% ({min(sizes):g} and "
                f"{max(sizes):g}); rescale the images first"
            )
        return sizes[0]

    def load(self, indices: ArrayLike) -> NDArray[np.float32]:
        """Read images.

        Parameters
        ----------
        indices : array of int or bool, shape [m]
            Rows of the particle set, in any order.

        Returns
        -------
        ndarray of float32, shape [m, box, box]
            In the order asked for. Each stack is read once and from front to back; what was read does not stay in this
            process's memory.

        Raises
        ------
        InputError
            If a stack is missing, corrupt, too short, or of another box.
        """
        rows = np.arange(len(self))[np.asarray(indices)] if np.size(indices) else np.empty(0, np.int64)
        images = np.empty((len(rows), self.box_size, self.box_size), dtype=np.float32)
        order = np.lexsort((self._index[rows], self._file[rows]))
        for part in _runs(self._file[rows][order]):
            places = order[part]
            number = int(self._file[rows[places[0]]])
            stack = self._stack(number)
            wanted = self._index[rows[places]]
            if wanted[-1] >= len(stack):
                raise self._beyond(number, int(rows[places[-1]]), len(stack))
            for piece in _pieces(len(wanted), self.box_size):
                images[places[piece]] = stack[wanted[piece]]
                _forget_pages(stack)
        return images

    def _stack(self, number: int) -> NDArray[Any]:
        """Return the open stack of a file, the least recently used being closed where too many are open."""
        with self._lock:
            stack = self._open.pop(number, None)
            if stack is None:
                stack = open_images(self._paths[number])
                self._check_box(number, stack.shape[2], stack.shape[1])
            self._open[number] = stack
            if len(self._open) > _OPEN_STACKS:
                self._open.popitem(last=False)
            return stack

    def check(self, recorder: Recorder | None = None) -> None:
        """Check the headers of all stacks against the particle set.

        Parameters
        ----------
        recorder : Recorder, optional
            Told of pixel sizes that differ by less than 1%.

        Raises
        ------
        InputError
            For the first stack that is truncated, corrupt, not square, of another box than ``rlnImageSize``, too short
            for an image's number, or of a pixel size that differs by more than 1%; tells how many more there are.
        """
        problems: list[InputError] = []
        for number, rows in self._rows_by_file():
            try:
                self._check_stack(number, rows, recorder)
            except InputError as error:
                problems.append(error)
        if len(problems) > 1:
            raise InputError(f"{problems[0]} ({len(problems) - 1} more of {len(self._paths)} stacks have problems)")
        if problems:
            raise problems[0]

    def _rows_by_file(self) -> Iterator[tuple[int, NDArray[np.int64]]]:
        order = np.argsort(self._file, kind="stable")
        for part in _runs(self._file[order]):
            yield int(self._file[order[part.start]]), order[part]

    def _check_stack(self, number: int, rows: NDArray[np.int64], recorder: Recorder | None) -> None:
        header = read_stack_header(self._paths[number])
        count, height, width = header.shape
        self._check_box(number, width, height)
        last = int(rows[np.argmax(self._index[rows])])
        if self._index[last] >= count:
            raise self._beyond(number, last, count)
        unset = header.pixel_size in UNSET_PIXEL_SIZES
        ratio = header.pixel_size / self.pixel_size
        if not unset and not 1 / (1 + _TOLERANCE) <= ratio <= 1 + _TOLERANCE:
            raise InputError(
                f"the pixel size in the header of {self._paths[number]} is {header.pixel_size:g} Å, but "
                f"rlnImagePixelSize of {self._where} is {self.pixel_size:g} Å; correct the one that is wrong"
            )
        if not unset and abs(ratio - 1) > 1e-4 and recorder is not None:
            recorder.warn(
                f"{self._paths[number]} has a pixel size of {header.pixel_size:g} Å in its header, "
                f"{self.pixel_size:g} Å of the STAR file is used"
            )

    def _check_box(self, number: int, width: int, height: int) -> None:
        path = self._paths[number]
        if width != height:
            raise InputError(f"the images of {path} are {width} x {height} pixels; particle images must be square")
        if width != self.box_size:
            raise InputError(
                f"the images of {path} are {width} x {height} pixels, but rlnImageSize of {self._where} is "
                f"{self.box_size}"
            )

    def _beyond(self, number: int, row: int, count: int) -> InputError:
        return InputError(
            f"rlnImageName {self._names[row]} of {self._where} asks for image {self._index[row] + 1}, but "
            f"{self._paths[number]} holds {count}"
        )


def find_bad_images(images: ParticleImages, chunk: int = 1000) -> list[BadImage]:
    """List images that hold NaN or infinite values, or the same value everywhere.

    Parameters
    ----------
    images : ParticleImages
        All of them are read, once.
    chunk : int
        Images read at a time.
    """
    return _find(images, chunk, _unusable)


def find_blank_edges(images: ParticleImages, chunk: int = 1000) -> list[BadImage]:
    """List images whose window hung over the edge of the micrograph: filled with one value, or with repeated rows.

    Arguments are those of `find_bad_images`.
    """
    return _find(images, chunk, _blank_edges)


def _find(
    images: ParticleImages, chunk: int, faults: Callable[[NDArray[np.float32]], Iterator[tuple[int, str]]]
) -> list[BadImage]:
    """List images with faults, given a function that tells places and faults in some images."""
    found: list[BadImage] = []
    for start in range(0, len(images), chunk):
        pixels = images.load(np.arange(start, min(start + chunk, len(images))))
        found += [BadImage(start + i, str(images.names[start + i]), reason) for i, reason in faults(pixels)]
    return found


def _unusable(pixels: NDArray[np.float32]) -> Iterator[tuple[int, str]]:
    low, high = pixels.min(axis=(1, 2)), pixels.max(axis=(1, 2))  # NaN passes through both
    finite = np.isfinite(low) & np.isfinite(high)
    for i in np.flatnonzero(~finite | (low == high)).tolist():
        yield i, "all pixels are equal" if finite[i] else "NaN or infinite pixels"


def _blank_edges(pixels: NDArray[np.float32]) -> Iterator[tuple[int, str]]:
    sides = (pixels[:, :2], pixels[:, :-3:-1], pixels[:, :, :2].swapaxes(1, 2), pixels[:, :, :-3:-1].swapaxes(1, 2))
    blank = np.zeros(len(pixels), dtype=bool)
    for pair in sides:
        blank |= (pair[:, 0] == pair[:, 1]).all(axis=1)
    for i in np.flatnonzero(blank).tolist():
        yield i, "a blank edge"


def _pieces(count: int, box_size: int) -> Iterator[slice]:
    """Yield slices of images whose pages are few: of scattered ones the system maps neighbours, too."""
    together = max(1, _MAPPED_AT_ONCE // max(4 * box_size**2, _NEIGHBOURHOOD))
    yield from (slice(start, start + together) for start in range(0, count, together))


def _forget_pages(stack: NDArray[Any]) -> None:
    """Take what has been read of a memory-mapped stack out of the process's memory; the system's file cache keeps it.

    Without this, a run over a stack ends with all of it counted as its own. Does nothing to other arrays, nor where the
    system has no such call.
    """
    pages = stack.base
    if isinstance(pages, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        pages.madvise(mmap.MADV_DONTNEED)


def _where(particles: Particles) -> str:
    return "the particle set" if particles.source is None else str(particles.source)


def _names(particles: Particles) -> NDArray[Any]:
    if "rlnImageName" not in particles.table:
        raise InputError(f"{_where(particles)} lacks the column rlnImageName")
    return particles.table["rlnImageName"]


def _split_names(names: NDArray[Any]) -> tuple[list[str], NDArray[np.int32], NDArray[np.int32]]:
    """Return distinct files, and for every name the number of its file and the index in it."""
    numbers: dict[str, int] = {}
    file = np.empty(len(names), dtype=np.int32)
    index = np.empty(len(names), dtype=np.int32)
    for row, name in enumerate(names):
        path, index[row] = split_image_name(name)
        file[row] = numbers.setdefault(path, len(numbers))
    return list(numbers), file, index


def _runs(values: NDArray[Any]) -> Iterator[slice]:
    """Yield slices over which sorted values are the same."""
    if len(values):
        edges = [0, *(np.flatnonzero(np.diff(values)) + 1).tolist(), len(values)]
        yield from (slice(start, stop) for start, stop in pairwise(edges))
