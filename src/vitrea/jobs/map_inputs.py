"""What jobs ask of the maps and masks a user gives, checked before anything is computed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vitrea.formats.mrc import read_map
from vitrea.records.errors import InputError
from vitrea.records.map import Map
from vitrea.records.recorder import Recorder

_SAME_SIZE = 0.01
_MASK_TOLERANCE = 1e-3
_ENDINGS = (".mrc", ".map", ".ccp4")


def read_cubic_map(path: Path, voxel_size: float = 0.0, recorder: Recorder | None = None) -> Map:
    """Read a map that must be a cube of finite numbers.

    Parameters
    ----------
    path : Path
    voxel_size : float
        Å; overrides the header's unless 0.
    recorder : Recorder, optional
        Warned where the override differs from the header by more than 1%.

    Raises
    ------
    InputError
        If the file cannot be read, the box is not a cube, or voxels are NaN, infinite or all equal.
    """
    density = read_map(path)
    shape = density.voxels.shape
    if len(set(shape)) != 1:
        raise InputError(f"{path} is not a cube: its box is {' x '.join(map(str, shape[::-1]))} voxels")
    if not np.isfinite(density.voxels).all():
        raise InputError(f"{path} holds voxels that are not numbers (NaN or infinite)")
    if density.voxels.min() == density.voxels.max():
        raise InputError(f"{path} is empty: all its voxels are {density.voxels.flat[0]:g}")
    if voxel_size > 0:
        if recorder and density.voxel_size != 1.0 and _differ(voxel_size, density.voxel_size):
            recorder.warn(f"{path}: using {voxel_size:g} Å per voxel; its header says {density.voxel_size:g}")
        return Map(density.voxels, voxel_size, density.origin)
    return density


def check_same_grid(first: Map, first_path: Path, second: Map, second_path: Path) -> None:
    """Raise InputError unless two maps have the same box and voxel sizes within 1%."""
    if first.voxels.shape != second.voxels.shape:
        raise InputError(
            f"{second_path} has a box of {second.voxels.shape[0]} voxels, but {first_path} one of "
            f"{first.voxels.shape[0]}: bring them to one box first"
        )
    if _differ(first.voxel_size, second.voxel_size):
        raise InputError(
            f"{second_path} has {second.voxel_size:g} Å per voxel, but {first_path} {first.voxel_size:g}: "
            "they differ by more than 1%; a wrong header is mended by vitrea map --force_header_angpix"
        )


def read_mask(path: Path, like: Map, like_path: Path, voxel_size: float = 0.0) -> NDArray[np.float32]:
    """Read a mask for a map.

    Parameters
    ----------
    path : Path
    like : Map
        The map it must fit.
    like_path : Path
        For the message.
    voxel_size : float
        Å; overrides the header's unless 0.

    Raises
    ------
    InputError
        If it does not fit, holds values outside [0, 1], or is 0 everywhere.
    """
    mask = read_map(path)
    check_same_grid(like, like_path, Map(mask.voxels, voxel_size or mask.voxel_size), path)
    low, high = float(mask.voxels.min()), float(mask.voxels.max())
    # Written so that NaN is refused too.
    if not (low >= -_MASK_TOLERANCE and high <= 1 + _MASK_TOLERANCE):
        raise InputError(f"{path} is not a mask: its values must lie in [0, 1], these run from {low:g} to {high:g}")
    if high <= 0:
        raise InputError(f"{path} is 0 everywhere: nothing would be left of the map")
    return np.clip(mask.voxels, 0.0, 1.0)


def check_map_name(path: Path) -> None:
    """Raise InputError unless a map, which is written as MRC, has a name by which others will read it as that."""
    if path.suffix.lower() not in _ENDINGS:
        raise InputError(
            f"--o {path}: maps are written as MRC, with the ending {', '.join(_ENDINGS[:-1])} or {_ENDINGS[-1]}; "
            "vitrea convert makes other files of them"
        )


def make_folder(path: Path) -> None:
    """Make the folder a file is to be written to.

    Raises
    ------
    InputError
        If that is not possible.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot make the folder {path.parent}: {error.strerror}") from error


def _differ(first: float, second: float) -> bool:
    return abs(first - second) > _SAME_SIZE * max(first, second)
