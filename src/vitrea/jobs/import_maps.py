"""``vitrea import maps``: maps of any header as plain MRC files with the right voxel size."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vitrea.jobs.base import Context, Job, parameter
from vitrea.jobs.import_parameters import IGNORED_OPTIONS, ImportParameters

if TYPE_CHECKING:
    from vitrea.records.map import Map

_ENDINGS = (".mrc", ".map", ".ccp4", ".gz", ".bz2")


class MapImportParameters(ImportParameters):
    """Import maps: MRC and CCP4, any order of axes, any pixel type, gzip and bzip2.

    Each is read whole and checked, and written as NAME.mrc: 32-bit floats, axes in the order x, y, z, with the voxel
    size given or that of its header. What is truncated, no map, or empty is set aside and listed in
    maps_set_aside.star.
    """

    voxel_size: float = parameter(
        0.0, "Voxel size to write; 0: that of each header.", unit="Å", options=["--angpix"], ge=0
    )


@dataclass(frozen=True)
class _Figures:
    """What is reported of a map."""

    size: str
    voxel_size: float
    mean: float
    deviation: float


def run(parameters: MapImportParameters, context: Context) -> None:
    """Read, check, write.

    Raises
    ------
    InputError
        If no map can be used, or two would have one name.
    """
    from vitrea.formats.micrograph_files import expand_names
    from vitrea.jobs.import_checks import over_files, report_set_aside
    from vitrea.jobs.map_inputs import make_folder
    from vitrea.records.errors import InputError

    if not parameters.input:
        raise InputError('give the maps: files, folders, or patterns in quotes ("Maps/*.mrc")')
    paths = list(dict.fromkeys(expand_names(parameters.input, _ENDINGS)))
    targets = {path: parameters.output / f"{map_stem(path)}.mrc" for path in paths}
    owners: dict[Path, Path] = {}
    for path, target in targets.items():
        if target in owners:
            raise InputError(f"{owners[target]} and {path} would both be written to {target}; import them apart")
        owners[target] = path
        if target.exists() and target.samefile(path):
            raise InputError(f"{path} would be written over itself; give another folder with --output")
    make_folder(parameters.output / "map.mrc")
    good, aside = over_files(
        paths,
        lambda path: _import_map(path, targets[path], parameters.voxel_size),
        context.recorder,
        "Reading maps",
        threads=1,  # maps are large
    )
    if not good:
        raise InputError(aside[0].reason + (f" ({len(aside) - 1} more maps cannot be used)" if len(aside) > 1 else ""))
    for path, figures in good.items():
        context.recorder.event(
            "text",
            text=f"{targets[path]}: {figures.size} voxels of {figures.voxel_size:g} Å, mean {figures.mean:.4g}, "
            f"standard deviation {figures.deviation:.4g}",
        )
    report_set_aside(aside, len(paths), "map", parameters.output / "maps_set_aside.star", context.recorder)


def map_stem(path: Path) -> str:
    """Return a map's name without its endings: ``emd_3197`` of ``emd_3197.map.gz``."""
    name = path.name
    for _ in range(2):
        if Path(name).suffix.lower() in _ENDINGS:
            name = Path(name).stem
    return name


def _import_map(path: Path, target: Path, voxel_size: float) -> _Figures:
    from dataclasses import replace

    from vitrea.formats.mrc import read_header, read_map, write_map

    density = read_map(path)
    _check(density, path)
    if voxel_size:
        density = replace(density, voxel_size=voxel_size)
    elif not read_header(path).pixel_size:
        from vitrea.records.errors import InputError

        raise InputError(f"the header of {path} gives no voxel size; give it with --angpix (in Å)")
    write_map(target, density)
    depth, height, width = density.voxels.shape
    return _Figures(
        f"{width} x {height} x {depth}",
        density.voxel_size,
        float(density.voxels.mean(dtype="f8")),
        float(density.voxels.std(dtype="f8")),
    )


def _check(density: Map, path: Path) -> None:
    import numpy as np

    from vitrea.records.errors import InputError

    low, high = float(density.voxels.min()), float(density.voxels.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        raise InputError(f"{path} holds NaN or infinite values")
    if low == high:
        raise InputError(f"{path} is empty: all its voxels are {low:g}")
    if density.voxels.shape[0] == 1:
        raise InputError(f"{path} is a single image, not a map")


JOB = Job(
    name="import maps",
    summary="Check maps and write them as plain MRC files with the right voxel size.",
    parameters=MapImportParameters,
    run=run,
    ignored_options=IGNORED_OPTIONS,
    examples=("vitrea import maps emd_1234.map --o Maps",),
)
