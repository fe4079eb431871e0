"""The references of a template search: class averages, other images, or projections of a map."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from vitrea.formats.mrc import open_stack, read_header
from vitrea.fourier.packed import packed_samples
from vitrea.fourier.transforms import to_real
from vitrea.geometry.euler import euler_to_matrix
from vitrea.geometry.sampling import orientation_grid
from vitrea.jobs.map_inputs import read_cubic_map
from vitrea.jobs.run_inputs import reference_files
from vitrea.matching.reference import reference_from_map
from vitrea.records.errors import InputError
from vitrea.records.recorder import Recorder

_UNSET = (0.0, 1.0)  # pixel sizes of headers that mean: not known
_SAME_SIZE = 0.01
_DEFAULT_DIAMETER = 0.75  # of the box


@dataclass(frozen=True)
class PickReferences:
    """References to search for.

    Attributes
    ----------
    images : ndarray of float32, shape [references, n, n]
        White on black.
    pixel_size : float
        Å.
    numbers : ndarray of int64, shape [references]
        Their numbers in the file, from 1: classes that were set aside leave gaps.
    """

    images: NDArray[np.float32]
    pixel_size: float
    numbers: NDArray[np.int64]

    @property
    def side(self) -> float:
        """Edge of the box in Å."""
        return int(self.images.shape[-1]) * self.pixel_size


def read_references(path: Path, pixel_size: float, micrograph_pixel: float, recorder: Recorder) -> PickReferences:
    """Read 2D references.

    Parameters
    ----------
    path : Path
        A stack, or a STAR file that names images (``rlnReferenceImage``: class averages that were selected, or a model
        file).
    pixel_size : float
        Å, for all; 0: what the headers say, or that of the micrographs where they say nothing.
    micrograph_pixel : float
        Å.
    recorder : Recorder
        Told which references are set aside: empty ones, and those whose pixel size or box is not that of the first.

    Raises
    ------
    InputError
        If a file is missing or is no image, or no reference is left.
    """
    named = reference_files(path) if path.suffix.lower() == ".star" else [(path, None)]
    found: list[tuple[int, float, NDArray[np.float32]]] = []
    number = 0
    for file, index in named:
        size = _pixel_size_of(file, pixel_size, micrograph_pixel, recorder)
        stack = open_stack(file)
        if index is not None and index >= len(stack):
            raise InputError(f"{file} holds {len(stack)} references, but {path} names number {index + 1}")
        for place in range(len(stack)) if index is None else (index,):
            number += 1
            found.append((number, size, np.array(stack[place], dtype=np.float32)))
    return _sieve(path, found, recorder)


def _pixel_size_of(file: Path, given: float, micrograph_pixel: float, recorder: Recorder) -> float:
    header = read_header(file)
    said = header.pixel_size if header.pixel_size not in _UNSET else 0.0
    if given and said and abs(given - said) > _SAME_SIZE * said:
        recorder.warn(f"{file}: using {given:g} Å per pixel, as --angpix_ref says; its header says {said:g}")
    if not given and not said:
        recorder.warn(
            f"{file} gives no pixel size: that of the micrographs, {micrograph_pixel:g} Å, is taken; else --angpix_ref"
        )
    return given or said or micrograph_pixel


def _sieve(path: Path, found: list[tuple[int, float, NDArray[np.float32]]], recorder: Recorder) -> PickReferences:
    """Set aside what cannot be searched for together with the rest."""
    kept: list[tuple[int, float, NDArray[np.float32]]] = []
    for number, size, image in found:
        reason = ""
        if image.shape[0] != image.shape[1]:
            reason = f"it is not square ({image.shape[1]} x {image.shape[0]} pixels)"
        elif not np.isfinite(image).all():
            reason = "it holds values that are not numbers"
        elif image.min() == image.max():
            reason = "it is empty"
        elif kept and abs(size - kept[0][1]) > _SAME_SIZE * kept[0][1]:
            reason = f"it has {size:g} Å per pixel, the first {kept[0][1]:g}"
        elif kept and image.shape != kept[0][2].shape:
            reason = f"it has a box of {image.shape[0]} pixels, the first {kept[0][2].shape[0]}"
        if reason:
            recorder.warn(f"set aside: reference {number} of {path}: {reason}")
        else:
            kept.append((number, size, image))
    if not kept:
        raise InputError(f"{path}: no reference is left to search for")
    numbers, sizes, images = zip(*kept, strict=True)
    return PickReferences(np.stack(images), float(sizes[0]), np.array(numbers, dtype=np.int64))


def project_map(path: Path, pixel_size: float, healpix_order: int, symmetry: str) -> PickReferences:
    """Project a map along the directions of a HEALPix grid, as many as its symmetry leaves different.

    Raises
    ------
    InputError
        If it is no map, or the symmetry is not known.
    """
    density = read_cubic_map(path, pixel_size)
    size = density.voxels.shape[0]
    directions = orientation_grid(healpix_order, symmetry).directions
    eulers = np.concatenate([directions, np.zeros((len(directions), 1))], axis=1)
    samples = packed_samples(size, size // 2 - 1)
    reference = reference_from_map(torch.from_numpy(density.voxels), size // 2 - 1)
    packed = reference.project(torch.from_numpy(euler_to_matrix(eulers).astype(np.float32)), samples)
    images = to_real(samples.scatter(packed), size, 2).numpy()
    return PickReferences(images, density.voxel_size, np.arange(1, len(images) + 1))


def is_map(path: Path) -> bool:
    """Tell whether a file is a 3D map rather than a stack of images: a cube whose name does not end in .mrcs."""
    if path.suffix.lower() in (".star", ".mrcs"):
        return False
    shape = read_header(path).shape
    return len(set(shape)) == 1 and shape[0] > 1


def choose_diameter(given: float, references: PickReferences, source: Path, recorder: Recorder) -> float:
    """Return the diameter to mask references to, in Å: 75% of their box where none is given.

    Raises
    ------
    InputError
        If it does not fit the box: the references' pixel size is wrong, or the diameter.
    """
    if not given:
        diameter = _DEFAULT_DIAMETER * references.side
        recorder.event("text", text=f"particle diameter: 75% of the references' box, {diameter:.0f} Å")
        return diameter
    if given > references.side * (1 + _SAME_SIZE):
        raise InputError(
            f"--particle_diameter {given:g} Å does not fit the references in {source}, {references.images.shape[-1]} "
            f"pixels of {references.pixel_size:g} Å, {references.side:.0f} Å in all; check --angpix_ref"
        )
    return given
