"""``vitrea symmetry``: the point group of a map, and where its axes are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator

from vitrea.jobs.base import Context, Job, JobParameters, parameter
from vitrea.jobs.map_inputs import check_map_name, make_folder, read_cubic_map
from vitrea.jobs.simulate_molecules import split_words
from vitrea.jobs.unused_options import refuse_unused
from vitrea.records.errors import InputError, JobError
from vitrea.records.map import Map

if TYPE_CHECKING:
    from vitrea.maps.point_group import SymmetryAxes

_MOST_AXES = 16  # printed
_TOO_LITTLE = 0.5  # correlation of a map with its average over a group that it is said to have


class SymmetryParameters(JobParameters):
    """Find the point group and the axes of a map, and turn and shift it to where RELION has them.

    Without --sym all groups are tried: Cn and Dn up to --largest_fold, tetrahedral, octahedral, icosahedral. The
    largest is chosen of those under whose operators the map correlates with itself nearly as well as under any other
    (at least 0.5, looked at to --resolution, without what is the same in all directions). With --o the map is turned
    and shifted, its axes to where RELION has them for that group; with --impose it is averaged over the group, too.

    Icosahedral maps have four settings, I1 to I4. One is turned from setting to setting, without a search, by
    --from_setting I1 --to_setting I3.
    """

    input: Path = parameter(..., "Map that no symmetry need be imposed on.", options=["--i"], positional=True)
    output: Path | None = parameter(None, "Map to write, its axes in place.", options=["--o"], positional=True)
    symmetry: Annotated[tuple[str, ...], BeforeValidator(split_words)] = parameter(
        (), "Groups to look for, e.g. C4,D4,O; I1 to I4 are settings of one group. By default all.", options=["--sym"]
    )
    largest_fold: int = parameter(8, "Where all are tried: largest n of Cn and Dn.", ge=2, le=60)
    impose: bool = parameter(False, "Average the aligned map over the group.")
    from_setting: str = parameter("", "Icosahedral setting that the map has.")
    to_setting: str = parameter("", "Icosahedral setting that it is to have; also where the group is searched.")
    pixel_size: float = parameter(0.0, "Voxel size; 0: from the header.", options=["--angpix"], unit="Å", ge=0)
    resolution: float = parameter(20.0, "Resolution to which the map is looked at.", unit="Å", tab="Search", gt=0)
    diameter: float = parameter(
        0.0, "Diameter of the particle; 0: as large as the box allows.", unit="Å", tab="Search", ge=0
    )
    json_file: Path | None = parameter(None, "Write all figures to this JSON file.", options=["--json"])


def run(parameters: SymmetryParameters, context: Context) -> None:
    """Search, tell, write.

    Raises
    ------
    InputError
        If the map cannot be read, or options contradict each other.
    JobError
        If a map is to be written and no symmetry was found.
    """
    _check(parameters)
    density = read_cubic_map(parameters.input, parameters.pixel_size, context.recorder)
    if parameters.from_setting:
        _change_setting(parameters, density, context)
        return
    extent = density.voxels.shape[0] * density.voxel_size
    if parameters.diameter > extent:
        raise InputError(
            f"--diameter {parameters.diameter:g} Å is larger than the box of {parameters.input} ({extent:.4g} Å)"
        )
    found, chosen = _search(parameters, density, context)
    figures = _figures(found, chosen, density.voxel_size)
    for line in _lines(parameters, found, chosen, figures):
        context.recorder.event("text", text=line)
    if parameters.json_file is not None:
        from vitrea.formats.streams import text_output

        make_folder(parameters.json_file)
        with text_output(parameters.json_file) as file:
            file.write(json.dumps(figures, indent=1) + "\n")
    if parameters.output is not None:
        if chosen is None:
            raise JobError(f"{parameters.input} has none of these symmetries, so {parameters.output} is not written")
        _write_aligned(parameters, parameters.output, density, chosen)


def _check(parameters: SymmetryParameters) -> None:
    from vitrea.geometry.symmetry import canonical_name, change_of_setting

    if parameters.output is not None:
        check_map_name(parameters.output)
    for name in parameters.symmetry:
        canonical_name(name)
    if parameters.to_setting:
        change_of_setting(parameters.from_setting or "I2", parameters.to_setting)
    if parameters.from_setting and not (parameters.to_setting and parameters.output):
        raise InputError("--from_setting needs --to_setting and the map to write, --o")
    if parameters.from_setting and parameters.symmetry:
        raise InputError("--from_setting says what symmetry the map has; leave out --sym")
    if parameters.from_setting:
        unused = ("largest_fold", "resolution", "diameter", "json_file")
        refuse_unused(parameters, unused, "is for a search, which --from_setting leaves out")
    if parameters.symmetry:
        refuse_unused(parameters, ("largest_fold",), "is for all groups: leave out --sym")
    if parameters.impose and parameters.output is None:
        raise InputError("--impose needs the map to write, --o")


def _search(
    parameters: SymmetryParameters, density: Map, context: Context
) -> tuple[list[SymmetryAxes], SymmetryAxes | None]:
    from vitrea.maps.point_group import choose_symmetry, rank_symmetries, search_symmetry

    context.recorder.stage("Searching axes")
    limits = {"resolution": parameters.resolution, "diameter": parameters.diameter}
    if parameters.symmetry:
        found = rank_symmetries(density.voxels, density.voxel_size, parameters.symmetry, **limits)
    else:
        found = search_symmetry(density.voxels, density.voxel_size, parameters.largest_fold, **limits)
    chosen = choose_symmetry(found)
    if chosen is not None and chosen.group[0] == "I" and parameters.to_setting:
        wanted = rank_symmetries(density.voxels, density.voxel_size, [parameters.to_setting], **limits)
        found = [wanted[0] if axes is chosen else axes for axes in found]
        chosen = wanted[0]
    return found, chosen


def _figures(found: list[SymmetryAxes], chosen: SymmetryAxes | None, voxel_size: float) -> dict[str, Any]:
    """Return what was found: groups with correlations; of the one chosen the axes and the centre in the map."""
    from vitrea.geometry.euler import matrix_to_euler
    from vitrea.geometry.symmetry import symmetry_axes

    figures: dict[str, Any] = {
        "point_group": chosen.group if chosen else "C1",
        "correlations": {axes.group: round(axes.correlation, 4) for axes in found},
    }
    if chosen is not None:
        rotation, shift = chosen.placement.rotation, chosen.placement.shift
        # The placement sends x to R x + t, so axes and centre lie at R^T u and -R^T t before it.
        figures["axes"] = [[fold, *_rounded(rotation.T @ axis, 5)] for fold, axis in symmetry_axes(chosen.group)]
        figures["centre_angstrom"] = _rounded(-rotation.T @ shift * voxel_size, 3)
        figures["rotation"] = [_rounded(row, 6) for row in rotation]
        figures["euler_angles"] = _rounded(matrix_to_euler(rotation), 3)
    return figures


def _rounded(values: NDArray[np.float64], digits: int) -> list[float]:
    rounded: list[float] = (np.ravel(values).round(digits) + 0.0).tolist()  # + 0 makes -0 a 0
    return rounded


def _lines(
    parameters: SymmetryParameters, found: list[SymmetryAxes], chosen: SymmetryAxes | None, figures: dict[str, Any]
) -> list[str]:
    ranked = sorted(found, key=lambda axes: -axes.correlation)
    lines = ["correlation with itself turned: " + ", ".join(f"{axes.group} {axes.correlation:.2f}" for axes in ranked)]
    if chosen is None:
        return [*lines, f"{parameters.input}: no symmetry (C1)"]
    lines.append(f"{parameters.input}: {chosen.group}, correlation {chosen.correlation:.3f}")
    x, y, z = figures["centre_angstrom"]
    lines.append(f"centre {x:.2f} {y:.2f} {z:.2f} Å from that of the box; axes (fold, x, y, z):")
    shown = figures["axes"][:_MOST_AXES]
    lines += [f"  {fold:2d}  {x:8.5f} {y:8.5f} {z:8.5f}" for fold, x, y, z in shown]
    more = len(figures["axes"]) - len(shown)
    return [*lines, f"  and {more} more"] if more > 0 else lines


def _write_aligned(parameters: SymmetryParameters, path: Path, density: Map, chosen: SymmetryAxes) -> None:
    from vitrea.formats.mrc import write_map
    from vitrea.geometry.symmetry import symmetry_matrices
    from vitrea.maps.transform import place_map, symmetrise

    voxels: NDArray[np.float32] = place_map(density.voxels, chosen.placement)
    if parameters.impose:
        voxels = symmetrise(voxels, symmetry_matrices(chosen.group))
    make_folder(path)
    write_map(path, Map(voxels, density.voxel_size))


def _change_setting(parameters: SymmetryParameters, density: Map, context: Context) -> None:
    from vitrea.formats.mrc import write_map
    from vitrea.geometry.symmetry import canonical_name, change_of_setting, symmetry_matrices
    from vitrea.maps.transform import Placement, place_map, symmetrise

    assert parameters.output is not None  # checked
    first, second = canonical_name(parameters.from_setting), canonical_name(parameters.to_setting)
    agreement = _agreement(density.voxels, first)
    if agreement < _TOO_LITTLE:
        context.recorder.warn(
            f"{parameters.input} without its mean at each radius correlates by {agreement:.2f} only with its average "
            f"over {first}: is that its setting?"
        )
    rotation = change_of_setting(first, second)
    voxels = place_map(density.voxels, Placement(rotation, np.zeros(3)))
    if parameters.impose:
        voxels = symmetrise(voxels, symmetry_matrices(second))
    make_folder(parameters.output)
    write_map(parameters.output, Map(voxels, density.voxel_size))
    context.recorder.event("text", text=f"{parameters.output}: {first} turned to {second}")


def _agreement(voxels: NDArray[np.float32], group: str) -> float:
    """Correlate a map with its average over a group, both without what is the same in all directions."""
    import torch

    from vitrea.fourier.shells import radial_real_profile
    from vitrea.geometry.symmetry import symmetry_matrices
    from vitrea.maps.transform import symmetrise

    uneven = voxels - radial_real_profile(torch.from_numpy(voxels)).numpy()
    return float(np.corrcoef(symmetrise(uneven, symmetry_matrices(group)).ravel(), uneven.ravel())[0, 1])


JOB = Job(
    name="symmetry",
    summary="Find the point group and the axes of a map, align it to them, or change its setting.",
    parameters=SymmetryParameters,
    run=run,
    examples=(
        "vitrea symmetry tetramer.mrc aligned.mrc --sym C2,D2 --impose --json axes.json",
        "vitrea symmetry capsid.mrc capsid_I3.mrc --from_setting I1 --to_setting I3",
    ),
)
