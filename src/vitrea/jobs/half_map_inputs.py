"""The two half maps that several jobs compare, found and checked before anything is computed."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from vitrea.jobs.map_inputs import check_same_grid, read_cubic_map
from vitrea.records.errors import InputError
from vitrea.records.map import Map
from vitrea.records.recorder import Recorder


def read_half_maps(
    first: Path, second: Path | None, voxel_size: float, recorder: Recorder | None = None
) -> tuple[Map, Map, Path]:
    """Read two half maps.

    Parameters
    ----------
    first : Path
    second : Path or None
        None: the first one's name with half1 replaced by half2.
    voxel_size : float
        Å; 0: from the headers.
    recorder : Recorder, optional
        Warned where the voxel size differs from the header's.

    Returns
    -------
    (Map, Map, Path)
        The maps, and where the second lies.

    Raises
    ------
    InputError
        If one cannot be found or read, is no cube of finite numbers, or they differ in box or voxel size, or not at
        all.
    """
    if second is None:
        if not first.is_file():
            raise InputError(f"{first} does not exist; check its name and the folder it is looked for in")
        if "half1" not in first.name:
            raise InputError(f"--i: {first.name} does not contain 'half1', so name the second half map with --i2")
        second = first.with_name(first.name.replace("half1", "half2"))
    half1 = read_cubic_map(first, voxel_size, recorder)
    half2 = read_cubic_map(second, voxel_size)
    check_same_grid(half1, first, half2, second)
    if np.array_equal(half1.voxels, half2.voxels):
        raise InputError(f"{first} and {second} are the same map: give two independent halves")
    return half1, half2, second


def resolution_text(resolution: float) -> str:
    """Return a resolution in words, an infinite one, too."""
    return f"{resolution:.2f} Å" if np.isfinite(resolution) else "none"


def first_half_map(path: Path) -> Path:
    """Return the first half map of what may be the start of a run's names, as in RELION-1.3: ``run``."""
    of_run = path.with_name(f"{path.name}_half1_class001_unfil.mrc")
    return of_run if not path.is_file() and of_run.is_file() else path


def read_map_or_halves(
    path: Path | None, half1: Path | None, half2: Path | None, voxel_size: float, recorder: Recorder
) -> tuple[Map, str, tuple[Map, Map] | None]:
    """Read a map, its half maps, or both; without the map it is the mean of the halves.

    Parameters
    ----------
    path, half1, half2 : Path or None
        `half2` None: as `read_half_maps` has it.
    voxel_size : float
        Å; 0: from the headers.
    recorder : Recorder
        Warned where the voxel size differs from the header's.

    Returns
    -------
    (Map, str, pair of Map or None)
        The map, where it comes from, and the halves if there are any.

    Raises
    ------
    InputError
        If there is neither, a file cannot be read, or they do not fit each other.
    """
    if path is None and half1 is None:
        raise InputError("give a map with --i, or two half maps with --half1 and --half2")
    if half2 is not None and half1 is None:
        raise InputError("--half2 needs --half1")
    halves = None if half1 is None else read_half_maps(half1, half2, voxel_size, recorder)[:2]
    if path is not None:
        density = read_cubic_map(path, voxel_size, recorder)
        if halves is not None and half1 is not None:
            check_same_grid(density, path, halves[0], half1)
        return density, str(path), halves
    assert halves is not None
    mean = np.asarray((halves[0].voxels + halves[1].voxels) / 2, dtype=np.float32)
    return halves[0].with_voxels(mean), "the mean of the half maps", halves
