"""Run another program, ResMap, on two half maps, and read the map it writes."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vitrea.formats.mrc import read_map, write_map
from vitrea.jobs.base import Context
from vitrea.jobs.localres import RESMAP_VARIABLE, LocalresParameters
from vitrea.jobs.programs import find_program
from vitrea.records.errors import InputError, JobError
from vitrea.records.map import Map

_RESULTS = ("half1_ori_resmap.mrc", "half1_resmap.mrc")
_UNRESOLVED = 100.0


def choose_resmap(parameters: LocalresParameters) -> str | None:
    """Return the ResMap to run, None for the methods that are built in.

    Raises
    ------
    InputError
        If one is asked for and not there.
    """
    if parameters.resmap_exe is None and not parameters.use_resmap:
        return None
    return find_program("ResMap", parameters.resmap_exe, "--resmap_exe", RESMAP_VARIABLE)


def run_resmap(
    program: str, parameters: LocalresParameters, halves: tuple[Path, Path], like: Map, context: Context
) -> NDArray[np.float32]:
    """Run ResMap in a folder of its own, and return the resolution it found.

    Parameters
    ----------
    program : str
        The executable.
    parameters : LocalresParameters
    halves : (Path, Path)
    like : Map
        The first half map.
    context : Context

    Returns
    -------
    ndarray of float32, shape [n, n, n]
        Å; what ResMap calls 100 Å, its mark for voxels outside its mask and for those it cannot resolve, is 0.

    Raises
    ------
    JobError
        If ResMap fails or writes no map of that box; names the log.
    """
    log = parameters.output.with_name(parameters.output.name + "_resmap.log")
    context.recorder.stage("ResMap")
    with tempfile.TemporaryDirectory(dir=log.parent, prefix="resmap_") as name:
        folder = Path(name)
        for number, path in enumerate(halves, start=1):
            write_map(folder / f"half{number}.mrc", like.with_voxels(read_map(path).voxels))
        command = [program, "--noguiSplit", "half1.mrc", "half2.mrc", f"--vxSize={like.voxel_size:g}"]
        command += [f"--pVal={parameters.p_value:g}", f"--minRes={parameters.highest_resolution:g}"]
        command += [f"--maxRes={parameters.lowest_resolution:g}", f"--stepRes={parameters.step or 1.0:g}"]
        if parameters.mask is not None:
            write_map(folder / "mask.mrc", like.with_voxels(read_map(parameters.mask).voxels))
            command.append("--maskVol=mask.mrc")
        with log.open("w", encoding="utf-8") as file:
            try:
                done = subprocess.run(
                    command, cwd=folder, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT, check=False
                )
            except OSError as error:
                raise InputError(f"cannot run {program}: {error.strerror}") from error
        if done.returncode:
            raise JobError(f"{program} failed with exit code {done.returncode}: see {log}")
        written = next((folder / result for result in _RESULTS if (folder / result).exists()), None)
        if written is None:
            raise JobError(f"{program} wrote no {_RESULTS[0]}: see {log}")
        voxels = read_map(written).voxels
    if voxels.shape != like.voxels.shape:
        raise JobError(f"{program} wrote a map of {voxels.shape[0]} voxels for half maps of {like.voxels.shape[0]}")
    return np.where(voxels >= _UNRESOLVED, 0.0, voxels).astype(np.float32)
