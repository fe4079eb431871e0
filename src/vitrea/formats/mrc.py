"""MRC maps and image stacks.

Read are modes 0, 1, 2, 6, 12 and 101 (4-bit), both byte orders, extended headers, gzip and bzip2; written are modes 2
(32-bit float) and 12 (16-bit float), little-endian, as MRC2014 has it (doi:10.1016/j.jsb.2015.04.002).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Literal, Self

import numpy as np
from numpy.typing import NDArray

from vitrea.formats.atomic import atomic_path
from vitrea.formats.mrc_header import (
    HEADER_BYTES,
    MODE_DTYPES,
    PACKED_MODE,
    MrcHeader,
    Statistics,
    build_header,
    check_length,
    compression,
    open_bytes,
    read_header,
    reading,
)
from vitrea.records.errors import InputError
from vitrea.records.map import Map

__all__ = [
    "MrcHeader",
    "StackWriter",
    "open_sections",
    "open_stack",
    "read_header",
    "read_map",
    "unpack_nibbles",
    "write_map",
    "write_stack",
]

_ANISOTROPY = 0.01  # voxel edges that differ by less count as rounding
_PIECE_BYTES = 1 << 26  # what is converted and written at a time


def read_map(path: str | Path) -> Map:
    """Read a 3D map into memory.

    Parameters
    ----------
    path : str or Path
        An MRC or CCP4 map; may be gzipped or bzip2ed.

    Returns
    -------
    Map
        float32 voxels [z, y, x] (axes put in that order where the file has another). The voxel size is 1.0 Å where the
        header gives none, as in RELION.

    Raises
    ------
    InputError
        If the file is missing, truncated, corrupt, of an unsupported mode, a stack of images, or its voxels are not
        cubes (edges differing by more than 1%).
    """
    path = Path(path)
    header = read_header(path)
    sections, rows, columns = header.shape
    if header.is_stack and sections > 1 and len({sections, rows, columns}) > 1:
        raise InputError(f"{path} is a stack of {sections} images of {columns} x {rows} pixels, not a 3D map")
    sizes = [size for size in header.voxel_sizes if size > 0]
    if sizes and max(sizes) > min(sizes) * (1 + _ANISOTROPY):
        raise InputError(
            f"{path}: its voxels of {header.voxel_sizes[0]:g} x {header.voxel_sizes[1]:g} x "
            f"{header.voxel_sizes[2]:g} Å are not cubes; resample the map first"
        )
    stored = _data(path, header)
    # axes[i] tells which of x, y, z the stored columns, rows, sections are; the array's axes are in reverse.
    where = {axis: 2 - position for position, axis in enumerate(header.axes)}
    voxels = np.array(stored.transpose(where[3], where[2], where[1]), dtype=np.float32, order="C")
    return Map(voxels, header.pixel_size or 1.0, header.origin)


def open_stack(path: str | Path) -> NDArray[Any]:
    """Open a stack of images, or a single image, without reading it.

    Parameters
    ----------
    path : str or Path
        The stack. Whether its header declares a stack or a map does not matter.

    Returns
    -------
    ndarray, shape [n, y, x]
        Memory-mapped and read-only, in the type and byte order of the file. Compressed files, and 4-bit ones, are read
        into memory.

    Raises
    ------
    InputError
        If the file is missing, truncated, corrupt or of an unsupported mode.
    """
    path = Path(path)
    return _data(path, read_header(path))


def open_sections(path: str | Path) -> Callable[[int], NDArray[Any]]:
    """Open a stack to read one section, shape [y, x], at a time: 4-bit movies, too, are not read as a whole.

    Errors are those of `open_stack`.
    """
    path = Path(path)
    header = read_header(path)
    stored = _stored(path, header)
    return lambda section: _unpacked(stored[section], header)


def unpack_nibbles(packed: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Take bytes of two 4-bit values apart, the low half first: shape [..., x] to [..., 2 x]."""
    return np.stack([packed & 15, packed >> 4], axis=-1).reshape(*packed.shape[:-1], -1)


def _data(path: Path, header: MrcHeader) -> NDArray[Any]:
    """Return the values, shape [sections, rows, columns]."""
    return _unpacked(_stored(path, header), header)


def _stored(path: Path, header: MrcHeader) -> NDArray[Any]:
    """Return the values as stored, shape [sections, rows, columns]; half the columns where they are packed."""
    shape = (*header.shape[:2], header.row_bytes // header.dtype.itemsize)
    with reading(path):
        if compression(path) is None:
            return np.memmap(path, dtype=header.dtype, mode="r", offset=header.data_offset, shape=shape)
        with open_bytes(path) as file:
            content = file.read(header.data_offset + header.data_bytes)
            file.read(1)  # the checksum is looked at where the data end
    check_length(path, header, len(content))
    return np.frombuffer(content, dtype=header.dtype, offset=header.data_offset).reshape(shape)


def _unpacked(stored: NDArray[Any], header: MrcHeader) -> NDArray[Any]:
    """Return the values of a file, packed or not."""
    if header.mode != PACKED_MODE:
        return stored
    return unpack_nibbles(stored)[..., : header.shape[2]]


def write_map(path: str | Path, density: Map) -> None:
    """Write a map in mode 2, whole or not at all.

    Raises
    ------
    InputError
        If the file cannot be written.
    ValueError
        If the voxels are not 3D.
    """
    if density.voxels.ndim != 3:
        raise ValueError(f"a map has three axes, these voxels have shape {density.voxels.shape}")
    voxels = np.ascontiguousarray(density.voxels, dtype="<f4")
    statistics = Statistics()
    statistics.add(voxels)
    depth, height, width = voxels.shape
    header = build_header(
        (depth, height, width), 2, density.voxel_size, statistics, is_stack=False, origin=density.origin
    )
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        file.write(header)
        file.write(voxels.data)


def write_stack(path: str | Path, images: NDArray[Any], pixel_size: float, mode: Literal[2, 12] = 2) -> None:
    """Write images, shape [n, y, x] or [y, x], as a stack, whole or not at all.

    Parameters
    ----------
    path : str or Path
        The file.
    images : ndarray
        May be memory-mapped: it is read in pieces.
    pixel_size : float
        Å.
    mode : 2 or 12
        32-bit or 16-bit float.

    Raises
    ------
    InputError
        If the file cannot be written, or values exceed what 16-bit floats hold.
    """
    stack = images[None] if images.ndim == 2 else images
    image_bytes = max(1, stack.shape[1] * stack.shape[2] * 4)
    step = max(1, _PIECE_BYTES // image_bytes)
    with StackWriter(path, pixel_size, mode) as writer:
        for start in range(0, len(stack), step):
            writer.append(stack[start : start + step])


class StackWriter:
    """Write a stack piece by piece; the header, with statistics, is completed at the end.

    Use as a context manager: the file appears under its name when the block ends well, and not at all otherwise.

    Parameters
    ----------
    path : str or Path
        The file.
    pixel_size : float
        Å.
    mode : 2 or 12
        32-bit or 16-bit float.
    """

    def __init__(self, path: str | Path, pixel_size: float, mode: Literal[2, 12] = 2) -> None:
        if mode not in (2, 12):
            raise ValueError(f"stacks are written in mode 2 or 12, not {mode}")
        self.path = Path(path)
        self.count = 0
        self._pixel_size = pixel_size
        self._mode = mode
        self._image_shape: tuple[int, int] | None = None
        self._statistics = Statistics()
        self._cleanup = ExitStack()
        self._file: BinaryIO | None = None

    def __enter__(self) -> Self:
        """Open a temporary file beside the target."""
        temporary = self._cleanup.enter_context(atomic_path(self.path))
        with ExitStack() as guard:
            guard.push(self._cleanup)  # if opening fails, the error passes through atomic_path
            self._file = self._cleanup.enter_context(temporary.open("wb"))
            self._file.write(bytes(HEADER_BYTES))
            guard.pop_all()
        return self

    def append(self, images: NDArray[Any]) -> None:
        """Add images, shape [n, y, x] or [y, x].

        Raises
        ------
        ValueError
            If their size differs from that of the images before.
        InputError
            If values exceed what 16-bit floats hold (mode 12).
        """
        assert self._file is not None, "use StackWriter in a with statement"
        stack = images[None] if images.ndim == 2 else images
        size = (int(stack.shape[1]), int(stack.shape[2]))
        if self._image_shape not in (None, size):
            raise ValueError(f"{self.path} holds images of shape {self._image_shape}, not {size}")
        self._image_shape = size
        with np.errstate(over="ignore"):
            stored = np.ascontiguousarray(stack, dtype="<" + MODE_DTYPES[self._mode])
        if self._mode == 12 and np.isinf(stored).any() and not np.isinf(stack).any():
            raise InputError(f"cannot write {self.path}: values beyond 65504 do not fit 16-bit floats; use mode 2")
        self._statistics.add(stored)
        self._file.write(stored.data)
        self.count += len(stack)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        """Complete the header and put the file in its place, or remove it."""
        if kind is not None:
            return self._cleanup.__exit__(kind, error, trace)
        with self._cleanup:
            if self._file is None or self._image_shape is None:
                raise ValueError(f"no images were given for {self.path}")
            shape = (self.count, *self._image_shape)
            self._file.seek(0)
            self._file.write(build_header(shape, self._mode, self._pixel_size, self._statistics, is_stack=True))
        return None
