"""What jobs ask of particles whose poses are given, checked before anything is computed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vitrea.formats.particle_files import read_particles
from vitrea.records.errors import InputError
from vitrea.records.particles import EULER_LABELS, Particles
from vitrea.records.recorder import Recorder

_SAME_SIZE = 0.01
_CHUNK_BYTES = 64 << 20


def read_posed_particles(
    path: Path, *, require_ctf: bool, require_images: bool, pixel_size: float | None = None
) -> Particles:
    """Read a particle set that must have Euler angles; arguments and errors as `read_particles`.

    Raises
    ------
    InputError
        Also if one of the angles is missing.
    """
    particles = read_particles(path, require_ctf=require_ctf, require_images=require_images, pixel_size=pixel_size)
    missing = [label for label in EULER_LABELS if label not in particles.table]
    if missing:
        raise InputError(f"{path} lacks the column {missing[0]}: the orientations of the particles must be known")
    return particles


def check_pixel_sizes(particles: Particles, pixel_size: float, where: str) -> None:
    """Raise InputError where an optics group's pixel size differs by more than 1% from that of `where` (Å)."""
    for group in particles.optics:
        if abs(group.pixel_size - pixel_size) > _SAME_SIZE * max(group.pixel_size, pixel_size):
            raise InputError(
                f"{particles.source}: rlnImagePixelSize of optics group {group.group} is {group.pixel_size:g} Å, but "
                f"{where} has {pixel_size:g} Å; correct the one that is wrong"
            )


def chunks(count: int, size: int) -> Iterator[NDArray[np.int64]]:
    """Yield the rows of `count` images of `size` pixels in chunks of some 64 MiB."""
    step = max(1, _CHUNK_BYTES // (4 * size * size))
    for start in range(0, count, step):
        yield np.arange(start, min(start + step, count))


def readable_images(pixels: NDArray[np.float32], names: NDArray[Any], recorder: Recorder) -> NDArray[np.bool_]:
    """Tell which images are numbers throughout, and name the others: one of them would spoil what is made of all."""
    good = np.asarray(np.isfinite(pixels.reshape(len(pixels), -1)).all(axis=1))
    for name in names[~good]:
        recorder.warn(f"{name} holds NaN or infinite pixels and is left out")
    return good
