"""``vitrea compare``: how alike are two maps, or the poses of two particle sets?"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vitrea.jobs.base import Context, Job, JobParameters, parameter
from vitrea.jobs.map_inputs import check_same_grid, make_folder, read_cubic_map, read_mask
from vitrea.records.errors import InputError
from vitrea.records.particles import EULER_LABELS

if TYPE_CHECKING:
    from vitrea.maps.comparison import MapComparison
    from vitrea.maps.poses import PoseComparison
    from vitrea.records.particles import Particles

_IMAGE = "rlnImageName"
_TABLE_ROWS = 24
_PERCENTILES = (50, 75, 90, 95, 99)


class CompareParameters(JobParameters):
    """Compare two maps, or two particle sets.

    Maps: the Fourier shell correlation, as they are or (--align) after the first was brought onto the second by the
    best rotation, shift and hand. Particle sets (.star): differences of angles modulo symmetry and of shifts, particle
    by particle (matched by rlnImageName), after one turn, shift and hand of the whole frame was taken out: refinements
    settle in different frames.
    """

    first: Path = parameter(..., "Map or particle set to compare.", positional=True)
    second: Path = parameter(..., "Map or particle set to compare it with: the reference.", positional=True)
    output: Path | None = parameter(None, "Write the first map as placed onto the second.", options=["--o"], tab="I/O")
    json_file: Path | None = parameter(None, "Write all figures to this JSON file.", options=["--json"])
    symmetry: str = parameter("C1", "Point group of the particle.", options=["--sym"], tab="Compare")
    pixel_size: float = parameter(
        0.0, "Voxel size of both maps; 0: from their headers.", unit="Å", options=["--angpix"], tab="Compare", ge=0
    )
    both_hands: bool = parameter(True, "Try the other hand too.", tab="Compare")
    align: bool = parameter(False, "Maps: find the best rotation, shift and hand first.", tab="Maps")
    mask: Path | None = parameter(None, "Maps: mask in the frame of the second map.", tab="Maps")
    resolution: float = parameter(
        0.0,
        "Maps: resolution used in the search; 0: three voxels, no finer than 6 Å.",
        unit="Å",
        tab="Maps",
        expert=True,
        ge=0,
    )
    fit_frame: bool = parameter(
        True, "Particles: take out a turn, shift and hand of the whole frame first.", tab="Particles"
    )


def run(parameters: CompareParameters, context: Context) -> None:
    """Compare, print, write.

    Raises
    ------
    InputError
        If inputs are missing, of different kinds, or do not fit each other.
    """
    from vitrea.geometry.symmetry import canonical_name

    symmetry = canonical_name(parameters.symmetry)
    stars = [path.suffix.lower() == ".star" for path in (parameters.first, parameters.second)]
    if stars[0] != stars[1]:
        raise InputError(
            f"{parameters.first} and {parameters.second}: give two maps or two STAR files, not one of each"
        )
    figures = (_compare_sets if stars[0] else _compare_maps)(parameters, symmetry, context)
    if parameters.json_file is not None:
        _write_json(parameters.json_file, figures)


def _compare_maps(parameters: CompareParameters, symmetry: str, context: Context) -> dict[str, Any]:
    from vitrea.formats.mrc import write_map
    from vitrea.maps.comparison import compare_maps

    first = read_cubic_map(parameters.first, parameters.pixel_size, context.recorder)
    second = read_cubic_map(parameters.second, parameters.pixel_size, context.recorder)
    check_same_grid(second, parameters.second, first, parameters.first)
    mask = None
    if parameters.mask is not None:
        mask = read_mask(parameters.mask, second, parameters.second, parameters.pixel_size)
    result = compare_maps(
        first.voxels,
        second.voxels,
        second.voxel_size,
        mask=mask,
        align=parameters.align,
        symmetry=symmetry,
        resolution=parameters.resolution,
        try_both_hands=parameters.both_hands,
        recorder=context.recorder,
    )
    if parameters.output is not None:
        make_folder(parameters.output)
        write_map(parameters.output, second.with_voxels(result.placed))
    figures = map_figures(result)
    for line in _map_lines(parameters, result, figures):
        context.recorder.event("text", text=line)
    return figures


def map_figures(result: MapComparison) -> dict[str, Any]:
    """Return the figures of a comparison of maps under the names the JSON file gives them."""
    from vitrea.geometry.euler import matrix_to_euler

    placement = result.placement
    shells = range(len(result.fsc))
    extent = result.size * result.voxel_size
    return {
        "kind": "maps",
        "voxel_size": result.voxel_size,
        "box_size": result.size,
        "correlation": result.correlation,
        "resolution_fsc_0.5": result.resolution_at(0.5),
        "resolution_fsc_0.143": result.resolution_at(0.143),
        "fsc_area": float(result.fsc[1:].mean()),
        "fsc": result.fsc.tolist(),
        "shell_resolution": [extent / shell if shell else math.inf for shell in shells],
        "aligned": result.aligned,
        "mirrored": placement.mirrored,
        "rotation_angle": placement.angle,
        "rotation_matrix": placement.rotation.tolist(),
        "rotation_euler": matrix_to_euler(placement.rotation).tolist(),
        "shift_angstrom": (placement.shift * result.voxel_size).tolist(),
    }


def _map_lines(parameters: CompareParameters, result: MapComparison, figures: dict[str, Any]) -> list[str]:
    step = max(1, math.ceil(len(result.fsc) / _TABLE_ROWS))
    rows = [
        (str(shell), f"{result.size * result.voxel_size / shell:.2f}", f"{result.fsc[shell]:.3f}")
        for shell in range(step, len(result.fsc), step)
    ]
    lines = [f"{parameters.first} against {parameters.second}"]
    if result.aligned:
        shift = ", ".join(f"{value:.2f}" for value in figures["shift_angstrom"])
        euler = ", ".join(f"{value:.2f}" for value in figures["rotation_euler"])
        hand = "other hand, " if figures["mirrored"] else "same hand, "
        turn = f"turn of {figures['rotation_angle']:.2f}° (Euler angles {euler})"
        lines.append(f"best placement: {hand}{turn}, shift ({shift}) Å")
    lines += _table(("shell", "resolution (Å)", "FSC"), rows)
    crossings = ", ".join(_crossing(result, threshold) for threshold in (0.5, 0.143))
    lines.append(f"correlation {result.correlation:.4f}; FSC {crossings} (Nyquist {2 * result.voxel_size:.2f} Å)")
    return lines


def _crossing(result: MapComparison, threshold: float) -> str:
    """Say where the FSC falls below a threshold, if it does."""
    if (result.fsc[1:] >= threshold).all():
        return f"stays above {threshold:g} up to Nyquist"
    return f"falls below {threshold:g} at {result.resolution_at(threshold):.2f} Å"


def _compare_sets(parameters: CompareParameters, symmetry: str, context: Context) -> dict[str, Any]:
    from vitrea.geometry.euler import euler_to_matrix
    from vitrea.maps.poses import compare_poses

    for name, given in (("--mask", parameters.mask), ("--align", parameters.align), ("--o", parameters.output)):
        if given:
            raise InputError(f"{name} is for maps; {parameters.first} and {parameters.second} are particle sets")
    first, second = _read_set(parameters.first), _read_set(parameters.second)
    matched = match_particles(first, second, parameters.first, parameters.second)
    a, b = first.rows(matched.first), second.rows(matched.second)
    result = compare_poses(
        euler_to_matrix(a.eulers),
        euler_to_matrix(b.eulers),
        a.shifts,
        b.shifts,
        symmetry,
        fit_frame=parameters.fit_frame,
        try_both_hands=parameters.both_hands,
    )
    figures = pose_figures(result, matched, symmetry)
    for line in _pose_lines(parameters, figures):
        context.recorder.event("text", text=line)
    return figures


def _read_set(path: Path) -> Particles:
    from vitrea.formats.particle_files import read_particles

    particles = read_particles(path, require_ctf=False, require_images=False)
    missing = [label for label in (_IMAGE, *EULER_LABELS) if label not in particles.table]
    if missing:
        raise InputError(f"{path} lacks the column {missing[0]}, so its poses cannot be compared")
    return particles


@dataclass(frozen=True)
class Matched:
    """Rows of two particle sets that are the same particle, and how many have no partner."""

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    only_first: int
    only_second: int


def match_particles(first: Particles, second: Particles, first_path: Path, second_path: Path) -> Matched:
    """Match particles by rlnImageName: number in the stack and the stack's name, whatever folder it is named from.

    Where stacks of the same name lie in different folders, whole names are compared.

    Raises
    ------
    InputError
        If an image occurs twice, or the sets have none in common.
    """
    keys = [[_short_name(name) for name in particles.table[_IMAGE]] for particles in (first, second)]
    if any(len(set(names)) < len(names) for names in keys):
        keys = [[str(name) for name in particles.table[_IMAGE]] for particles in (first, second)]
        for names, path in zip(keys, (first_path, second_path), strict=True):
            if len(set(names)) < len(names):
                double = next(name for name in names if names.count(name) > 1)
                raise InputError(f"{path}: {_IMAGE} {double} occurs more than once, so particles cannot be matched")
    places = {name: row for row, name in enumerate(keys[1])}
    rows = np.array([(row, places[name]) for row, name in enumerate(keys[0]) if name in places], dtype=np.int64)
    if not len(rows):
        raise InputError(
            f"{first_path} and {second_path} have no image in common: {_IMAGE} begins {keys[0][0]} in one, "
            f"{keys[1][0]} in the other"
        )
    return Matched(rows[:, 0], rows[:, 1], len(keys[0]) - len(rows), len(keys[1]) - len(rows))


def _short_name(name: str) -> str:
    number, at, stack = str(name).rpartition("@")
    return f"{int(number)}@{Path(stack).name}" if at and number.isdigit() else str(name)


def pose_figures(result: PoseComparison, matched: Matched, symmetry: str) -> dict[str, Any]:
    """Return the figures of a comparison of particle sets under the names the JSON file gives them."""
    from vitrea.geometry.euler import angular_distance, matrix_to_euler

    return {
        "kind": "particles",
        "symmetry": symmetry,
        "particles": len(matched.first),
        "only_in_first": matched.only_first,
        "only_in_second": matched.only_second,
        "angular_error_deg": _summary(result.angles),
        "shift_error_angstrom": _summary(result.shifts),
        "frame_angle": float(angular_distance(np.eye(3), result.frame)),
        "frame_euler": matrix_to_euler(result.frame).tolist(),
        "frame_shift_angstrom": result.frame_shift.tolist(),
        "mirrored": result.mirrored,
    }


def _summary(values: NDArray[np.float64]) -> dict[str, float]:
    summary = {"mean": float(values.mean()), "median": float(np.median(values))}
    summary.update({f"p{percent}": float(np.percentile(values, percent)) for percent in _PERCENTILES[1:]})
    summary["max"] = float(values.max())
    return summary


def _pose_lines(parameters: CompareParameters, figures: dict[str, Any]) -> list[str]:
    angles, shifts = figures["angular_error_deg"], figures["shift_error_angstrom"]
    lines = [
        f"{parameters.first} against {parameters.second}: {figures['particles']} particles in both, "
        f"{figures['only_in_first']} only in the first, {figures['only_in_second']} only in the second"
    ]
    if parameters.fit_frame:
        euler = ", ".join(f"{value:.2f}" for value in figures["frame_euler"])
        shift = ", ".join(f"{value:.2f}" for value in figures["frame_shift_angstrom"])
        hand = "other hand, " if figures["mirrored"] else ""
        turn = f"turn of {figures['frame_angle']:.2f}° (Euler angles {euler})"
        lines.append(f"the frames differ by: {hand}{turn}, shift ({shift}) Å; taken out")
    rows = [(name, f"{angles[name]:.2f}", f"{shifts[name]:.2f}") for name in angles]
    return lines + _table((f"modulo {figures['symmetry']}", "angle (degrees)", "shift (Å)"), rows)


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Draw a table as lines of text."""
    from io import StringIO

    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD)
    for heading in headings:
        table.add_column(heading, justify="right")
    for row in rows:
        table.add_row(*row)
    text = StringIO()
    Console(file=text, width=100, no_color=True).print(table)
    return [line.rstrip() for line in text.getvalue().splitlines() if line.strip()]


def _write_json(path: Path, figures: dict[str, Any]) -> None:
    from vitrea.formats.atomic import atomic_path

    make_folder(path)
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(_finite(figures), indent=2, allow_nan=False) + "\n", encoding="utf-8")


def _finite(value: Any) -> Any:
    """Replace infinities and NaN, which JSON does not have, by null."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


JOB = Job(
    name="compare",
    summary="Compare two maps (placement, FSC) or the poses of two particle sets.",
    parameters=CompareParameters,
    run=run,
    examples=("vitrea compare molecule_half1.mrc molecule_half2.mrc --mask ball_mask.mrc --json agreement.json",),
)
