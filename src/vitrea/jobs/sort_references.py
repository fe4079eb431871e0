"""The references particles are compared with when they are sorted: templates, class averages, maps."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vitrea.formats.mrc import open_stack, read_header, read_map
from vitrea.formats.star import read_star
from vitrea.jobs.run_inputs import find_reference
from vitrea.records.errors import InputError
from vitrea.records.recorder import Recorder
from vitrea.records.table import Table

_SAME_SIZE = 0.01
_UNSET = (0.0, 1.0)
_LABELS = ("rlnReferenceImage", "rlnImageName")


@dataclass(frozen=True)
class References:
    """References of all classes, in the order of their class numbers.

    Attributes
    ----------
    images : tuple of ndarray of float32, shape [n, n] each or [n, n, n] each
    source : Path
        The file they were named by.
    """

    images: tuple[NDArray[np.float32], ...]
    source: Path


def find_references(particles: Path) -> Path:
    """Return the model file beside a class job's particle file: ``run_it025_model.star`` of ``run_it025_data.star``.

    Raises
    ------
    InputError
        If there is none.
    """
    name = particles.name
    model = particles.with_name(name.removesuffix("_data.star") + "_model.star")
    if not name.endswith("_data.star") or not model.is_file():
        raise InputError(f"no references: {particles} has no model file of a class job beside it; give --ref")
    return model


def read_references(path: Path, size: int, pixel_size: float, recorder: Recorder) -> References:
    """Read references and bring them to the particles' box.

    Parameters
    ----------
    path : Path
        A map, a stack of 2D references, or a STAR file that names either (``rlnReferenceImage`` of a model file,
        else ``rlnImageName``). A cube is a map unless its name ends in ``.mrcs``.
    size : int
        The particles' box.
    pixel_size : float
        The particles', Å.
    recorder : Recorder
        Told where boxes differ.

    Raises
    ------
    InputError
        If files are missing or no references, differ in size among each other, hold values that are not numbers,
        or differ from the particles in pixel size by more than 1%.
    """
    named = _named_in_star(path) if path.suffix.lower() == ".star" else [(path, None)]
    images: list[NDArray[np.float32]] = []
    for file, index in named:
        images += _read(file, index, pixel_size)
    shapes = sorted({image.shape for image in images})
    if len(shapes) > 1:
        raise InputError(f"{path}: references differ in size or dimension ({_text(shapes[0])} and {_text(shapes[1])})")
    box = shapes[0][-1]
    if box != size:
        recorder.warn(f"{path}: references have a box of {box}, particles one of {size} pixels: they are cut or padded")
        images = [_resize(image, size) for image in images]
    return References(tuple(images), path)


def _named_in_star(path: Path) -> list[tuple[Path, int | None]]:
    """Return file and index in the stack of each reference a STAR file lists; no index: the whole file."""
    blocks = read_star(path)
    tables = [block for name, block in blocks.items() if isinstance(block, Table) and name != "optics"]
    for label in _LABELS:
        for table in tables:
            if label in table and len(table):
                return [find_reference(str(name), path) for name in table[label]]
    raise InputError(f"{path} names no references: none of its tables has the column {_LABELS[0]} or {_LABELS[1]}")


def _read(path: Path, index: int | None, pixel_size: float) -> list[NDArray[np.float32]]:
    header = read_header(path)
    if header.pixel_size not in _UNSET and abs(header.pixel_size - pixel_size) > _SAME_SIZE * pixel_size:
        raise InputError(
            f"{path} has {header.pixel_size:g} Å per pixel, but the particles {pixel_size:g}: bring references to the "
            "particles' pixel size first"
        )
    sections, rows, columns = header.shape
    if rows != columns:
        raise InputError(f"{path}: references must be square, these are {columns} x {rows} pixels")
    if index is None and sections == rows and path.suffix.lower() != ".mrcs":
        found = [read_map(path).voxels]
    else:
        stack = open_stack(path)
        if index is not None and index >= sections:
            raise InputError(f"{path} holds {sections} references, but number {index + 1} is asked for")
        wanted = range(sections) if index is None else [index]
        found = [np.array(stack[i], dtype=np.float32) for i in wanted]
    for image in found:
        if not np.isfinite(image).all():
            raise InputError(f"{path} holds values that are not numbers (NaN or infinite)")
    return found


def _resize(image: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    import torch

    from vitrea.fourier.transforms import resize_box

    resized: NDArray[np.float32] = resize_box(torch.from_numpy(image), size, image.ndim).numpy()
    return resized


def _text(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape[::-1]))
