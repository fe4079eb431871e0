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
        if "half1" not in first.name:
            raise InputError(f"--i: {first.name} does not contain 'half1', so name the second half map with --i2")
        second = first.with_name(first.name.replace("half1", "half2"))
    half1 = read_cubic_map(first, voxel_size, recorder)
    half2 = read_cubic_map(second, voxel_size)
    check_same_grid(half1, first, half2, second)
    if np.array_equal(half1.voxels, half2.voxels):
        raise InputError(f"{first} and {second} are the same map: give two independent halves")
    return half1, half2, second


def first_half_map(path: Path) -> Path:
    """Return the first half map of what may be the start of a run's names, as in RELION-1.3: ``run``."""
    of_run = path.with_name(f"{path.name}_half1_class001_unfil.mrc")
    return of_run if not path.is_file() and of_run.is_file() else path
