"""The files of a sharpening: maps, amplitudes of each shell, pictures, a report."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vitrea.formats.fsc_tables import shell_columns
from vitrea.formats.mrc import write_map
from vitrea.formats.star import write_star
from vitrea.jobs.base import Context
from vitrea.records.table import Table
from vitrea.report.figures import map_projections, map_slices
from vitrea.report.figures.spectra import sharpening_curves
from vitrea.report.page import Section, write_page
from vitrea.report.png import save_png

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from vitrea.jobs.sharpen import SharpenInputs
    from vitrea.jobs.sharpen_parameters import SharpenParameters
    from vitrea.maps.sharpening_choice import SharpeningChoice
    from vitrea.maps.spectral_sharpening import SpectralSettings, SpectralSharpening

_NO_AMPLITUDE = -99.0

_READING = (
    "Left, how strong the map's shells are, before and after, both scaled to their first shell: what has been damped "
    "falls in a straight line, and a protein's spectrum without damping is nearly level beyond 10 Å. Right, what each "
    "shell was multiplied by. A factor that still rises steeply where the figure of merit is low amplifies noise: "
    "choose a coarser cut-off, or a weaker B-factor."
)


def output_root(output: Path) -> Path:
    """Return the start of the output's names: the name given, without .mrc."""
    return output.with_suffix("") if output.suffix.lower() in (".mrc", ".map") else output


def write_results(
    parameters: SharpenParameters,
    inputs: SharpenInputs,
    settings: SpectralSettings,
    choice: SharpeningChoice | None,
    result: SpectralSharpening,
    context: Context,
) -> None:
    """Write all files and say what was done."""
    root, density = output_root(parameters.output), inputs.density.with_voxels(result.density)
    names = {ending: root.with_name(root.name + ending) for ending in (".mrc", "_masked.mrc", ".star")}
    write_map(names[".mrc"], density)
    if inputs.given_mask:
        write_map(names["_masked.mrc"], density.with_voxels(result.density * inputs.mask))
    figures = _figures(inputs, settings, result)
    for name, figure in (("_amplitudes", figures[0]), ("_slices", figures[2]), ("_projections", figures[3])):
        save_png(figure, root.with_name(f"{root.name}{name}.png"))
    blocks: dict[str, Table | dict[str, object]] = {
        "general": _general(inputs, settings, choice, names),
        "shells": _shells(inputs, result),
    }
    write_star(names[".star"], blocks, comment=context.command)
    lead = _lead(settings)
    facts = _facts(parameters, inputs, settings)
    sections = [Section("Amplitudes", _READING, facts, [(figures[0], "Amplitudes of the shells, and their factors")])]
    if choice is not None:
        sections.append(Section("Why these settings", _reasons(choice, settings)))
    sections.append(
        Section(
            "The map",
            "Central slices before and after on a grey scale each, and the sharpened map seen along its axes. Side "
            "chains and helices should stand out; a speckled background means that noise was amplified.",
            figures=[(figures[1], "Before"), (figures[2], "After"), (figures[3], "After, seen along the axes")],
        )
    )
    write_page(root.with_name(root.name + "_report.html"), f"Sharpening of {inputs.name}", lead, sections)
    context.recorder.event("text", text=f"{lead} Map in {names['.mrc']}")


def _figures(inputs: SharpenInputs, settings: SpectralSettings, result: SpectralSharpening) -> list[Figure]:
    marks = {"cut-off": settings.cutoff}
    if settings.limit:
        marks["limit"] = settings.limit
    merit = result.merit if inputs.fsc is not None else None
    curves = {"before": result.before, "after": result.after}
    voxel_size = inputs.density.voxel_size
    return [
        sharpening_curves(result.frequency, curves, result.gain, merit, marks),
        map_slices(inputs.density.voxels, voxel_size),
        map_slices(result.density, voxel_size),
        map_projections(result.density, voxel_size),
    ]


def _general(
    inputs: SharpenInputs, settings: SpectralSettings, choice: SharpeningChoice | None, names: Mapping[str, Path]
) -> dict[str, object]:
    block: dict[str, object] = {
        "rlnPostprocessedMap": str(names[".mrc"]),
        "rlnBfactorUsedForSharpening": settings.bfactor_low,
        "vitreaBfactorBeyondLimit": settings.bfactor_high,
        "vitreaSharpeningLimit": settings.limit,
        "vitreaIsFlattened": int(settings.flatten and settings.limit > 0),
        "vitreaIsSignalFlattened": int(settings.flatten_signal),
        "vitreaIsBroughtToProtein": int(settings.protein),
        "vitreaCutoff": settings.cutoff,
        "vitreaFilterEdge": settings.filter_edge,
        "vitreaFscSource": inputs.fsc_name,
        "vitreaMaskSource": inputs.mask_name,
    }
    if inputs.given_mask:
        block["rlnPostprocessedMapMasked"] = str(names["_masked.mrc"])
    if choice is not None:
        block["rlnFinalResolution"] = choice.resolution
        if choice.fit is not None:
            block["rlnFittedSlopeGuinierPlot"] = choice.fit.slope
            block["rlnFittedInterceptGuinierPlot"] = choice.fit.intercept
            block["rlnCorrelationFitGuinierPlot"] = choice.fit.correlation
    return block


def _shells(inputs: SharpenInputs, result: SpectralSharpening) -> Table:
    columns = {
        **shell_columns(inputs.density.voxels.shape[0], inputs.density.voxel_size),
        "rlnResolutionSquared": result.frequency**2,
        "rlnLogAmplitudesOriginal": _logarithm(result.before),
        "rlnLogAmplitudesSharpened": _logarithm(result.after),
        "vitreaFigureOfMerit": result.merit,
        "vitreaSharpeningFactor": result.gain,
    }
    if inputs.fsc is not None:
        columns["rlnFourierShellCorrelation"] = inputs.fsc
    return Table(columns)


def _logarithm(amplitude: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(amplitude > 0, np.log(np.maximum(amplitude, np.finfo(np.float64).tiny)), _NO_AMPLITUDE)


def _lead(settings: SpectralSettings) -> str:
    if not settings.limit:
        done = f"B-factor {settings.bfactor_low:.0f} Å²"
    elif settings.flatten:
        what = "as in proteins" if settings.protein else "flattened"
        done = f"B-factor {settings.bfactor_low:.0f} Å² up to {settings.limit:g} Å, {what} beyond"
        done += f" with {settings.bfactor_high:.0f} Å²" if settings.bfactor_high else ""
    else:
        done = (
            f"B-factor {settings.bfactor_low:.0f} Å² up to {settings.limit:g} Å, {settings.bfactor_high:.0f} Å² beyond"
        )
    return f"{done}; " + (f"cut-off {settings.cutoff:.2f} Å." if settings.cutoff else "no cut-off.")


def _facts(parameters: SharpenParameters, inputs: SharpenInputs, settings: SpectralSettings) -> dict[str, str]:
    weighted = inputs.fsc is not None and parameters.fom_weighting
    weight = f"SSNR times {parameters.ssnr_scale:g}" if weighted else "none"
    done = [
        text
        for text, is_done in (
            ("hand inverted", parameters.invert_hand),
            ("corrected for gridding", parameters.correct_gridding),
            (f"normalised to {parameters.normalise:g}", parameters.normalise > 0),
        )
        if is_done
    ]
    return {
        "map": inputs.name,
        "amplitudes measured in": f"{inputs.mask_name} mask" if inputs.given_mask else inputs.mask_name,
        "FSC": inputs.fsc_name,
        "weight by figure of merit": weight,
        "brought to the spectrum of proteins" if settings.protein else "flattened": (
            "the signal" if settings.flatten_signal else "signal and noise"
        )
        if settings.flatten and settings.limit
        else "no",
        "edge of the cut-off": f"{settings.filter_edge:g} Å",
        "besides": ", ".join(done) or "nothing",
    }


def _reasons(choice: SharpeningChoice, settings: SpectralSettings) -> str:
    lines = [f"The FSC falls below 0.143 at {choice.resolution:.2f} Å: nothing finer is kept."]
    if choice.fit is None:
        lines.append(f"Only {choice.shells} shells lie between 10 Å and there, too few to tell a B-factor.")
    else:
        lines.append(
            "Compared with those of proteins at rest, the amplitudes of the signal fall along a line of B = "
            f"{-4 * choice.fit.slope:.0f} Å² there (squared correlation {choice.fit.correlation:.2f}, {choice.shells} "
            "shells), which the B-factor takes back."
        )
        lines.append(
            "Beyond 10 Å the signal's amplitudes are brought to those of proteins, whatever the shape of their decay, "
            "and weighted by the figure of merit."
            if choice.settings.limit
            else "That is too few shells to flatten them one by one: the B-factor acts throughout."
        )
    if settings != choice.settings:
        lines.append("What was given on the command line replaced part of this choice.")
    return "\n\n".join(lines)
