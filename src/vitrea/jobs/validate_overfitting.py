"""``vitrea validate overfitting``: how much of an FSC is over-fitting."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vitrea.jobs.base import Context, Job, JobParameters, parameter
from vitrea.jobs.half_map_inputs import read_half_maps, resolution_text
from vitrea.jobs.map_inputs import check_same_grid, make_folder, read_mask
from vitrea.records.errors import InputError
from vitrea.records.table import Table

if TYPE_CHECKING:
    from vitrea.formats.star import Block
    from vitrea.maps.noise_substitution import Overfitting

_THRESHOLDS = (0.5, 0.143)
_FEIGNED = 0.1  # mean FSC of noise from which on users should know
_LOST = 1.05  # ratio of true to apparent resolution likewise

_READING = (
    "The blue curve is that of the refinement, the orange one of the same refinement of particles whose phases are "
    "random beyond the dashed line: what it shows there is not signal, but noise that both half sets were aligned to, "
    "and what the mask correlates by itself. Without over-fitting it falls to 0 there. The green curve is what is left "
    "of the first: (t - n) / (1 - n), the FSC to quote."
)


class ValidateOverfittingParameters(JobParameters):
    """Measure over-fitting by high-resolution noise substitution (Chen et al. 2013).

    Takes the unfiltered half maps of a refinement and of the same refinement of substituted particles (vitrea validate
    substitution): same reference, options, half sets. Gives the FSC without over-fitting, FSC true, and its resolution.

    Writes into a folder: overfitting.star (the curves), overfitting.png and report.html.
    """

    half1: Path = parameter(..., "First half map of the original particles.", options=["--i"])
    half2: Path | None = parameter(
        None, "The second; by default the first one's name with half1 replaced by half2.", options=["--i2"]
    )
    substituted_half1: Path = parameter(..., "First half map of the substituted particles.")
    substituted_half2: Path | None = parameter(
        None, "The second; by default the first one's name with half1 replaced by half2."
    )
    resolution: float = parameter(
        ..., "Resolution beyond which phases were random, as given to validate substitution.", unit="Å", gt=0
    )
    output: Path = parameter(Path("Validate/overfitting"), "Folder to write to.", options=["--o"])
    mask: Path | None = parameter(None, "Soft solvent mask with values 0 to 1, used for all maps.")
    pixel_size: float = parameter(
        0.0, "Voxel size; 0: from the half maps' header.", unit="Å", options=["--angpix"], ge=0
    )


def run(parameters: ValidateOverfittingParameters, context: Context) -> None:
    """Compare and write.

    Raises
    ------
    InputError
        If maps are missing or do not fit each other, or the resolution is not one they hold.
    """
    from vitrea.formats.star import write_star
    from vitrea.maps.noise_substitution import measure_overfitting

    size = parameters.pixel_size
    first, second, _ = read_half_maps(parameters.half1, parameters.half2, size, context.recorder)
    third, fourth, _ = read_half_maps(parameters.substituted_half1, parameters.substituted_half2, size)
    check_same_grid(first, parameters.half1, third, parameters.substituted_half1)
    if np.array_equal(first.voxels, third.voxels):
        raise InputError(f"{parameters.substituted_half1} is the same map as {parameters.half1}")
    mask = None
    if parameters.mask is not None:
        mask = read_mask(parameters.mask, first, parameters.half1, size)
    extent = first.voxel_size * len(first.voxels)
    if not 2 * first.voxel_size < parameters.resolution < extent:
        raise InputError(
            f"--resolution {parameters.resolution:g}: {parameters.half1} holds what lies between "
            f"{2 * first.voxel_size:g} Å (two voxels) and {extent:g} Å (its box)"
        )
    make_folder(parameters.output / "overfitting.star")
    found = measure_overfitting(
        (first.voxels, second.voxels), (third.voxels, fourth.voxels), first.voxel_size, parameters.resolution, mask
    )
    blocks: dict[str, Block] = {"general": _general(found, parameters), "fsc": _table(found)}
    write_star(parameters.output / "overfitting.star", blocks, comment=context.command)
    _report(found, parameters, context)
    _tell(found, context)


def _general(found: Overfitting, parameters: ValidateOverfittingParameters) -> dict[str, int | float | str]:
    from vitrea.formats.fsc_tables import NO_RESOLUTION

    general: dict[str, int | float | str] = {
        "rlnRandomiseFrom": parameters.resolution,
        "rlnFinalResolution": min(found.resolution(found.true, 0.143), NO_RESOLUTION),
        "vitreaFeignedFsc": found.feigned,
    }
    for threshold in _THRESHOLDS:
        for name, curve in (("Original", found.original), ("True", found.true)):
            at = found.resolution(curve, threshold)
            general[f"vitrea{name}ResolutionAtFsc{threshold:g}"] = min(at, NO_RESOLUTION)
    return general


def _table(found: Overfitting) -> Table:
    from vitrea.formats.fsc_tables import shell_columns

    columns: dict[str, Any] = {
        **shell_columns(found.size, found.voxel_size),
        "rlnFourierShellCorrelationCorrected": found.true,
        "vitreaFscOriginal": found.original,
        "vitreaFscSubstituted": found.substituted,
    }
    return Table(columns)


def _report(found: Overfitting, parameters: ValidateOverfittingParameters, context: Context) -> None:
    from vitrea.report.figures import fsc_curves
    from vitrea.report.page import Section, write_page
    from vitrea.report.png import save_png

    curves = {
        "original particles (FSC t)": found.original,
        "phases substituted (FSC n)": found.substituted,
        "without over-fitting (FSC true)": found.true,
    }
    figure = fsc_curves(curves, found.voxel_size, found.size, (0.5, 0.143), resolution=parameters.resolution)
    save_png(figure, parameters.output / "overfitting.png")
    facts = {"phases random beyond": f"{parameters.resolution:g} Å", "mean FSC n there": f"{found.feigned:.3f}"}
    for threshold in reversed(_THRESHOLDS):
        apparent, true = (found.resolution(curve, threshold) for curve in (found.original, found.true))
        facts[f"resolution at FSC {threshold:g}"] = (
            f"{resolution_text(apparent)} apparent, {resolution_text(true)} true"
        )
    sections = [
        Section("Curves", _READING, facts, [(figure, "Dashed: the resolution beyond which phases were random.")]),
        Section("Command", code=context.command),
    ]
    write_page(parameters.output / "report.html", "Over-fitting", _verdict(found), sections)


def _verdict(found: Overfitting) -> str:
    apparent, true = (found.resolution(curve, 0.143) for curve in (found.original, found.true))
    with_it, without = resolution_text(apparent), resolution_text(true)
    text = f"Resolution {without} without over-fitting (FSC true = 0.143), {with_it} with it"
    noise = f"where only noise is left the FSC is {found.feigned:.2f} on average"
    return f"{text}; {noise}."


def _tell(found: Overfitting, context: Context) -> None:
    apparent, true = (found.resolution(curve, 0.143) for curve in (found.original, found.true))
    if found.feigned > _FEIGNED or true > _LOST * apparent:
        context.recorder.warn(
            "the refinement over-fits, or its mask is too tight: half maps agree where there is nothing but noise; "
            "refine with a wider, softer mask or to a lower resolution"
        )
    context.recorder.event(
        "overfitting", resolution_angstrom=true, apparent_resolution_angstrom=apparent, feigned_fsc=found.feigned
    )
    context.recorder.event("text", text=_verdict(found))


JOB = Job(
    name="validate overfitting",
    summary="Measure over-fitting: the FSC of a refinement without what noise-substituted particles feign.",
    parameters=ValidateOverfittingParameters,
    run=run,
    examples=[
        "vitrea validate overfitting --half1 run_half1_class001_unfil.mrc "
        "--substituted-half1 substituted_half1_class001_unfil.mrc --resolution 20 --o Validate/overfitting"
    ],
)
