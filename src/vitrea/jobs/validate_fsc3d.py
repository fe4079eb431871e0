"""``vitrea validate fsc3d``: resolution direction by direction."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vitrea.jobs.base import Context, Job, JobParameters, parameter
from vitrea.jobs.half_map_inputs import read_half_maps, resolution_text
from vitrea.jobs.map_inputs import make_folder, read_mask
from vitrea.jobs.unused_options import refuse_unused
from vitrea.records.map import Map
from vitrea.records.table import Table

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from vitrea.formats.star import Block
    from vitrea.maps.directional_fsc import DirectionalFsc, DirectionalResolution

_THRESHOLDS = (0.5, 0.143)
_ROUND = 0.9  # sphericity from which on a map counts as even in all directions
_ELONGATED = 0.8  # and below which users should look for missing views
_SHORT_TAIL, _LONG_TAIL = 1.25, 1.5  # likewise: resolution of the poorest directions over that of the median one

_READING = (
    "Each direction of the map stands for a double cone about it in Fourier space. The curve of a map with views from "
    "all sides is the same in all of them, within the noise of the fewer samples that a cone holds. Where views are "
    "missing, some directions end early: the dashed lines part, the histogram has a tail to the left, and the map is "
    "smeared along the worst axis. Sphericity is that of the surface on which the FSC crosses the threshold: 1 for "
    "equal resolution in all directions."
)


class ValidateFsc3dParameters(JobParameters):
    """Measure the FSC of two half maps direction by direction, and how isotropic the map is (3D FSC).

    The FSC is taken inside a double cone about each of 6,144 directions (Tan et al. 2017). With a mask, what the mask
    correlates by itself is taken off in each direction by phase randomisation, as postprocess does for whole shells.

    Writes into a folder: fsc3d.star (curves and the resolution of each direction), fsc3d.mrc (the 3D FSC: the origin of
    Fourier space at the centre, a voxel is 1 / box in 1/Å), filtered.mrc (the mean of the half maps, filtered in each
    direction to the resolution it has there), pictures and report.html.
    """

    half1: Path = parameter(
        ..., "First unfiltered half map, e.g. run_half1_class001_unfil.mrc.", options=["--i", "--halfmap1"]
    )
    half2: Path | None = parameter(
        None,
        "Second half map; by default the first one's name with half1 replaced by half2.",
        options=["--i2", "--halfmap2"],
    )
    output: Path = parameter(Path("Validate/fsc3d"), "Folder to write to.", options=["--o"])
    pixel_size: float = parameter(
        0.0, "Voxel size; 0: from the half maps' header.", unit="Å", options=["--angpix", "--apix"], ge=0
    )
    mask: Path | None = parameter(None, "Soft solvent mask with values 0 to 1.")
    cone: float = parameter(
        20.0, "Half angle of the cones.", unit="degrees", options=["--dthetaInDegrees"], tab="FSC", gt=0, le=90
    )
    threshold: float = parameter(
        0.143,
        "FSC at which a direction ends, for the histogram, the map of directions and the filter.",
        options=["--FSCCutoff"],
        tab="FSC",
        gt=0,
        lt=1,
    )
    randomise_at_fsc: float = parameter(
        0.8,
        "With a mask: randomise phases from where the unmasked FSC falls below this.",
        options=["--randomize_at_fsc"],
        tab="FSC",
        expert=True,
        gt=0,
        lt=1,
    )


def run(parameters: ValidateFsc3dParameters, context: Context) -> None:
    """Measure and write.

    Raises
    ------
    InputError
        If inputs are missing or do not fit each other.
    """
    from vitrea.formats.mrc import write_map
    from vitrea.formats.star import write_star
    from vitrea.maps.directional_filter import filter_by_direction, fsc_volume
    from vitrea.maps.directional_fsc import directional_fsc

    half1, half2, _ = read_half_maps(parameters.half1, parameters.half2, parameters.pixel_size, context.recorder)
    mask = None
    if parameters.mask is not None:
        mask = read_mask(parameters.mask, half1, parameters.half1, parameters.pixel_size)
    folder = parameters.output
    if parameters.mask is None:
        refuse_unused(parameters, ("randomise_at_fsc",), "is about the mask: give --mask, too")
    make_folder(folder / "fsc3d.star")
    context.recorder.stage("FSC by direction")
    fsc = directional_fsc(
        half1.voxels,
        half2.voxels,
        half1.voxel_size,
        mask,
        parameters.cone,
        parameters.randomise_at_fsc,
    )
    chosen = fsc.at(parameters.threshold)
    found = [fsc.at(threshold) for threshold in dict.fromkeys((*_THRESHOLDS, parameters.threshold))]
    mean = half1.with_voxels(np.asarray((half1.voxels + half2.voxels) / 2, dtype=np.float32))
    write_map(folder / "fsc3d.mrc", Map(fsc_volume(fsc), half1.voxel_size))
    write_map(folder / "filtered.mrc", mean.with_voxels(filter_by_direction(mean.voxels, fsc, chosen)))
    general: dict[str, int | float | str] = {"vitreaConeHalfAngle": fsc.cone, "rlnPixelSize": fsc.voxel_size}
    blocks: dict[str, Block] = {
        "general": general,
        "resolution": _summary_table(found, fsc),
        "fsc": _curve_table(fsc),
        "directions": _direction_table(found),
    }
    write_star(folder / "fsc3d.star", blocks, comment=context.command)
    _report(folder, fsc, chosen, mean, context)
    _tell(chosen, fsc, context)


def _summary_table(found: list[DirectionalResolution], fsc: DirectionalFsc) -> Table:
    """Return the figures at each threshold, one row each."""
    from vitrea.formats.fsc_tables import NO_RESOLUTION

    columns: dict[str, Any] = {
        "vitreaFscThreshold": [one.threshold for one in found],
        "rlnFinalResolution": [min(fsc.overall_resolution(one.threshold), NO_RESOLUTION) for one in found],
        "vitreaSphericity": [one.sphericity for one in found],
        "vitreaMedianResolution": [np.median(one.resolutions) for one in found],
        "vitreaBestResolution": [one.resolutions.min() for one in found],
        "vitreaWorstResolution": [one.resolutions.max() for one in found],
    }
    for place, letter in enumerate("XYZ"):
        columns[f"vitreaBestAxis{letter}"] = [one.best_axis[place] for one in found]
        columns[f"vitreaWorstAxis{letter}"] = [one.worst_axis[place] for one in found]
    return Table({label: np.asarray(values, dtype=np.float64) for label, values in columns.items()})


def _curve_table(fsc: DirectionalFsc) -> Table:
    from vitrea.formats.fsc_tables import shell_columns

    columns: dict[str, Any] = {
        **shell_columns(fsc.size, fsc.voxel_size),
        "rlnFourierShellCorrelationCorrected": fsc.overall,
        "vitreaDirectionalFscMean": fsc.curves.mean(axis=0, dtype=np.float64),
        "vitreaDirectionalFscSigma": fsc.spread,
        "vitreaDirectionalFscMin": fsc.curves.min(axis=0).astype(np.float64),
        "vitreaDirectionalFscMax": fsc.curves.max(axis=0).astype(np.float64),
    }
    return Table(columns)


def _direction_table(found: list[DirectionalResolution]) -> Table:
    """Return the resolution of each direction, in Å, at each threshold."""
    x, y, z = found[0].directions.T
    columns: dict[str, NDArray[np.float64]] = {
        "rlnAngleRot": np.degrees(np.arctan2(y, x)),
        "rlnAngleTilt": np.degrees(np.arccos(np.clip(z, -1, 1))),
    }
    for one in found:
        columns[f"vitreaResolutionAtFsc{one.threshold:g}"] = one.resolutions
    return Table(columns)


def _report(folder: Path, fsc: DirectionalFsc, chosen: DirectionalResolution, mean: Map, context: Context) -> None:
    from vitrea.report.figures import axis_map, directional_curves, map_slices
    from vitrea.report.page import Section, write_page
    from vitrea.report.png import save_png

    curves = directional_curves(fsc.overall, fsc.spread, chosen.shells, fsc.voxel_size, fsc.size, chosen.threshold)
    marks = {"best axis": chosen.best_axis, "worst axis": chosen.worst_axis}
    globe = axis_map(chosen.directions, np.minimum(chosen.resolutions, 4 * np.median(chosen.resolutions)),
                     f"resolution at FSC {chosen.threshold:g} (Å)", marks, reverse=True)  # fmt: skip
    save_png(curves, folder / "fsc3d.png")
    save_png(globe, folder / "directions.png")
    low, high = np.percentile(chosen.resolutions, [5, 95])
    facts = {
        "resolution over whole shells": resolution_text(fsc.overall_resolution(chosen.threshold)),
        "median direction": f"{np.median(chosen.resolutions):.2f} Å",
        "9 of 10 directions": f"{low:.2f} to {high:.2f} Å",
        "best and worst": f"{chosen.resolutions.min():.2f} and {chosen.resolutions.max():.2f} Å",
        "best axis (x, y, z)": _axis_text(chosen.best_axis),
        "worst axis (x, y, z)": _axis_text(chosen.worst_axis),
        **{f"sphericity at FSC {at:g}": f"{fsc.at(at).sphericity:.3f}" for at in _THRESHOLDS},
        "half angle of the cones": f"{fsc.cone:g}°",
    }
    if fsc.randomised_from is not None:
        facts["phases randomised beyond"] = f"{fsc.size * fsc.voxel_size / fsc.randomised_from:.1f} Å"
    sections = [
        Section(
            "Resolution by direction",
            _READING,
            facts,
            [
                (curves, f"FSC, and where the curves of single directions cross {chosen.threshold:g} (bars)."),
                (globe, "The same on the sphere: directions in the map, x to the middle, z up."),
            ],
        ),
        Section("The map", "The mean of the half maps, not filtered.",
                figures=[(map_slices(mean.voxels, mean.voxel_size), "Central slices.")]),
        Section("Command", code=context.command),
    ]  # fmt: skip
    lead = f"{_verdict(chosen)} Sphericity {chosen.sphericity:.3f} at FSC {chosen.threshold:g}."
    write_page(folder / "report.html", "Resolution by direction (3D FSC)", lead, sections)


def _verdict(chosen: DirectionalResolution) -> str:
    if _is_strong(chosen):
        return "The resolution depends strongly on direction."
    if chosen.sphericity >= _ROUND and _tail(chosen) < _SHORT_TAIL:
        return "The resolution is much the same in all directions."
    return "The resolution depends somewhat on direction."


def _is_strong(chosen: DirectionalResolution) -> bool:
    """Tell whether users should look for missing views: few bad directions hardly change the sphericity."""
    return chosen.sphericity < _ELONGATED or _tail(chosen) > _LONG_TAIL


def _tail(chosen: DirectionalResolution) -> float:
    """Return the resolution that one in twenty directions does not reach, over that of the median one."""
    return float(np.percentile(chosen.resolutions, 95) / np.median(chosen.resolutions))


def _axis_text(axis: NDArray[np.float64]) -> str:
    return ", ".join(f"{part:.2f}" for part in axis.round(2) + 0.0)  # + 0 makes -0 a 0


def _tell(chosen: DirectionalResolution, fsc: DirectionalFsc, context: Context) -> None:
    if _is_strong(chosen):
        context.recorder.warn(
            f"the map is anisotropic (sphericity {chosen.sphericity:.2f}, one direction in twenty reaches at most "
            f"{np.percentile(chosen.resolutions, 95):.1f} Å): it is smeared along the axis "
            f"({_axis_text(chosen.worst_axis)}); look for missing views with vitrea validate orientations"
        )
    context.recorder.event(
        "fsc3d",
        resolution_angstrom=fsc.overall_resolution(chosen.threshold),
        sphericity=chosen.sphericity,
        best_angstrom=float(chosen.resolutions.min()),
        worst_angstrom=float(chosen.resolutions.max()),
    )
    if not np.isfinite(fsc.overall_resolution(chosen.threshold)):
        text = f"No resolution: the FSC of the half maps is below {chosen.threshold:g} from the first shell on"
        context.recorder.event("text", text=text)
        return
    context.recorder.event(
        "text",
        text=f"Resolution {fsc.overall_resolution(chosen.threshold):.2f} Å at FSC {chosen.threshold:g}; by direction "
        f"{chosen.resolutions.min():.2f} to {chosen.resolutions.max():.2f} Å, worst along "
        f"({_axis_text(chosen.worst_axis)}); sphericity {chosen.sphericity:.3f}",
    )


JOB = Job(
    name="validate fsc3d",
    summary="Measure the resolution of two half maps direction by direction (3D FSC, sphericity).",
    parameters=ValidateFsc3dParameters,
    run=run,
    examples=["vitrea validate fsc3d --half1 run_half1_class001_unfil.mrc --o Validate/fsc3d"],
    ignored_options={
        "--fullmap=": "the mean of the half maps is filtered",
        "--ThresholdForSphericity=": "sphericity is given at 0.5, at 0.143 and at --threshold",
        "--gpu": "a processor takes seconds",
    },
)
