"""``vitrea postprocess``: resolution from two half maps, and the sharpened map."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vitrea.jobs.base import Context, Job, JobParameters, parameter
from vitrea.jobs.half_map_inputs import read_half_maps
from vitrea.jobs.map_inputs import make_folder, read_mask
from vitrea.records.errors import InputError
from vitrea.records.map import Map
from vitrea.records.table import Table

if TYPE_CHECKING:
    from vitrea.maps.postprocess import Postprocessed
    from vitrea.maps.sharpening import ModulationTransfer, SharpeningSettings


class PostprocessParameters(JobParameters):
    """Measure the resolution of a refinement and sharpen its map, as relion_postprocess does.

    Takes the two unfiltered half maps. Writes the sharpened map (.mrc) and its masked version (_masked.mrc), all FSC
    curves and the Guinier plot (.star), the FSC for EMDB (_fsc.xml), and plots (_fsc.png, _guinier.png). The resolution
    is where the FSC, corrected for the effect of the mask by phase randomisation, falls below 0.143.
    """

    half1: Path = parameter(..., "First unfiltered half map, e.g. run_half1_class001_unfil.mrc.", options=["--i"])
    half2: Path | None = parameter(
        None, "Second half map; by default the first one's name with half1 replaced by half2.", options=["--i2"]
    )
    output: Path = parameter(Path("postprocess"), "Start of the names of the output files.", options=["--o"])
    pixel_size: float = parameter(
        0.0, "Voxel size; 0: from the half maps' header.", unit="Å", options=["--angpix"], ge=0
    )
    mask: Path | None = parameter(None, "Solvent mask with values 0 to 1.", tab="Mask")
    auto_mask: bool = parameter(False, "Make a mask from the half maps (written as _automask.mrc).", tab="Mask")
    force_mask: bool = parameter(
        False, "Use the mask even where it makes the resolution worse.", tab="Mask", expert=True
    )
    mtf: Path | None = parameter(
        None, "STAR file with the detector's modulation transfer function.", tab="Sharpen", cistem="MTF"
    )
    mtf_pixel_size: float = parameter(
        0.0, "Pixel size of the original movies; 0: the map's.", unit="Å", options=["--mtf_angpix"], tab="Sharpen", ge=0
    )
    auto_bfactor: bool = parameter(
        False, "Fit the B-factor to the Guinier plot.", options=["--auto_bfac"], tab="Sharpen"
    )
    fit_lowest: float = parameter(
        10.0, "Lowest resolution of that fit.", unit="Å", options=["--autob_lowres"], tab="Sharpen", gt=0
    )
    fit_highest: float = parameter(
        0.0,
        "Highest resolution of that fit; 0: the final resolution.",
        unit="Å",
        options=["--autob_highres"],
        tab="Sharpen",
        ge=0,
    )
    bfactor: float = parameter(
        0.0,
        "B-factor to apply instead of a fitted one; negative sharpens.",
        unit="Å²",
        options=["--adhoc_bfac"],
        tab="Sharpen",
    )
    skip_fsc_weighting: bool = parameter(False, "Do not weight shells by the FSC.", tab="Filter", expert=True)
    low_pass: float = parameter(
        0.0, "Low-pass filter the final map; 0: none, negative: at the final resolution.", unit="Å", tab="Filter"
    )
    filter_edge_width: float = parameter(
        2.0, "Width of that filter's edge.", unit="shells", tab="Filter", expert=True, ge=0
    )
    randomise_at_fsc: float = parameter(
        0.8,
        "Randomise phases from where the unmasked FSC falls below this.",
        options=["--randomize_at_fsc"],
        tab="Filter",
        expert=True,
        gt=0,
        lt=1,
    )
    random_seed: int = parameter(0, "Seed of the random phases.", tab="Filter", expert=True, ge=0)


def run(parameters: PostprocessParameters, context: Context) -> None:
    """Measure, sharpen, write.

    Raises
    ------
    InputError
        If inputs are missing or do not fit each other, or options contradict each other.
    """
    from vitrea.maps.postprocess import postprocess

    recorder = context.recorder
    half1, half2, second_path = read_half_maps(parameters.half1, parameters.half2, parameters.pixel_size, recorder)
    settings = _settings(parameters, half1.voxel_size, context)
    mask, mask_name = _mask(parameters, half1, half2)
    make_folder(parameters.output)
    recorder.stage("post-processing")
    result = postprocess(
        half1.voxels,
        half2.voxels,
        half1.voxel_size,
        mask,
        settings,
        randomise_below=parameters.randomise_at_fsc,
        force_mask=parameters.force_mask,
        seed=parameters.random_seed,
    )
    _warn(result, settings, mask is not None, context)
    names = {"rlnUnfilteredMapHalf1": str(parameters.half1), "rlnUnfilteredMapHalf2": str(second_path)}
    if mask is not None and not result.mask_set_aside:
        names["rlnMaskName"] = mask_name
    _write(parameters.output, half1, mask if parameters.auto_mask else None, result, names, context)
    recorder.event(
        "postprocess",
        resolution_angstrom=result.fsc.resolution,
        bfactor_angstrom2=result.bfactor,
        unmasked_resolution_angstrom=result.fsc.without_mask().resolution,
    )
    recorder.event(
        "text",
        text=f"Final resolution {result.fsc.resolution:.2f} Å (FSC = 0.143), B-factor {result.bfactor:.0f} Å²; "
        f"sharpened map in {_with(parameters.output, '.mrc')}",
    )


def _settings(parameters: PostprocessParameters, voxel_size: float, context: Context) -> SharpeningSettings:
    from vitrea.maps.sharpening import SharpeningSettings

    if parameters.auto_bfactor and parameters.bfactor != 0:
        raise InputError("give --auto_bfac or --adhoc_bfac, not both")
    if parameters.fit_highest and parameters.fit_highest >= parameters.fit_lowest:
        raise InputError(
            f"--autob_highres ({parameters.fit_highest:g} Å) must be finer than --autob_lowres "
            f"({parameters.fit_lowest:g} Å)"
        )
    mtf = None
    if parameters.mtf is not None:
        pixel = parameters.mtf_pixel_size
        if not pixel:
            pixel = voxel_size
            context.recorder.warn(
                f"--mtf_angpix is not given: the MTF is taken to be that of {voxel_size:g} Å pixels; "
                "give the pixel size of the original movies if they were binned"
            )
        mtf = read_mtf(parameters.mtf, pixel)
    return SharpeningSettings(
        mtf=mtf,
        automatic=parameters.auto_bfactor,
        bfactor=parameters.bfactor,
        fit_lowest=parameters.fit_lowest,
        fit_highest=parameters.fit_highest,
        fsc_weighting=not parameters.skip_fsc_weighting,
        lowpass=parameters.low_pass,
        filter_edge=parameters.filter_edge_width,
    )


def read_mtf(path: Path, pixel_size: float) -> ModulationTransfer:
    """Read a detector's modulation transfer function from a STAR file.

    Parameters
    ----------
    path : Path
        With columns ``rlnResolutionInversePixel`` and ``rlnMtfValue``.
    pixel_size : float
        Å per detector pixel.

    Raises
    ------
    InputError
        If the columns are missing, or values are not positive.
    """
    from vitrea.formats.star import read_star
    from vitrea.maps.sharpening import ModulationTransfer

    labels = ("rlnResolutionInversePixel", "rlnMtfValue")
    for block in read_star(path).values():
        if isinstance(block, Table) and all(label in block for label in labels):
            frequency, value = (block.numbers(label) for label in labels)
            order = np.argsort(frequency)
            if not (value > 0).all():
                raise InputError(f"{path}: all values of rlnMtfValue must be above 0")
            return ModulationTransfer(frequency[order], value[order], pixel_size)
    raise InputError(f"{path} is no MTF: it lacks the columns {' and '.join(labels)}")


def _mask(parameters: PostprocessParameters, half1: Map, half2: Map) -> tuple[NDArray[np.float32] | None, str]:
    from vitrea.maps.masking import auto_mask

    if parameters.mask is not None and parameters.auto_mask:
        raise InputError("give --mask or --auto_mask, not both")
    if parameters.mask is not None:
        return read_mask(parameters.mask, half1, parameters.half1, parameters.pixel_size), str(parameters.mask)
    if not parameters.auto_mask:
        return None, ""
    try:
        mask = auto_mask(half1.voxels, half2.voxels, half1.voxel_size)
    except ValueError as error:
        raise InputError(f"--auto_mask: {error} with --mask") from error
    return mask, str(_with(parameters.output, "_automask.mrc"))


def _warn(result: Postprocessed, settings: SharpeningSettings, masked: bool, context: Context) -> None:
    fsc = result.fsc
    if result.mask_set_aside:
        context.recorder.warn(
            "the unmasked FSC reaches further than the corrected one, so the mask was not used; "
            "make it wider or softer, or insist with --force_mask"
        )
    elif masked and fsc.randomised_from is None:
        context.recorder.warn("the unmasked FSC never falls low enough to randomise phases; the FSC is not corrected")
    elif fsc.randomised is not None and fsc.randomised[fsc.final_shell] > 0.1:
        context.recorder.warn(
            f"with random phases the masked FSC is still {fsc.randomised[fsc.final_shell]:.2f} at the final "
            "resolution: the mask is too tight or its edge too sharp"
        )
    if settings.automatic and result.guinier.fit is None:
        context.recorder.warn(
            f"fewer than three shells lie between --autob_lowres ({settings.fit_lowest:g} Å) and the final "
            f"resolution ({fsc.resolution:.1f} Å): no B-factor was fitted or applied"
        )


def _write(
    output: Path,
    like: Map,
    new_mask: NDArray[np.float32] | None,
    result: Postprocessed,
    names: dict[str, str],
    context: Context,
) -> None:
    from vitrea.formats.mrc import write_map
    from vitrea.formats.star import write_star
    from vitrea.jobs.postprocess_plots import draw_fsc, draw_guinier

    write_map(_with(output, ".mrc"), like.with_voxels(result.density))
    if result.masked is not None:
        write_map(_with(output, "_masked.mrc"), like.with_voxels(result.masked))
        names = {**names, "rlnPostprocessedMapMasked": str(_with(output, "_masked.mrc"))}
    if new_mask is not None:
        write_map(_with(output, "_automask.mrc"), like.with_voxels(new_mask))
    names = {**names, "rlnPostprocessedMap": str(_with(output, ".mrc"))}
    write_star(
        _with(output, ".star"),
        {"general": general_block(result, names), "fsc": fsc_table(result), "guinier": guinier_table(result)},
        comment=context.command,
    )
    write_fsc_xml(_with(output, "_fsc.xml"), result)
    draw_fsc(_with(output, "_fsc.png"), result.fsc)
    draw_guinier(_with(output, "_guinier.png"), result.guinier, result.bfactor)


def _with(output: Path, ending: str) -> Path:
    return output.with_name(output.name + ending)


def general_block(result: Postprocessed, names: dict[str, str]) -> dict[str, object]:
    """Return the block ``general`` of RELION's post.star; `names` holds the labels of files."""
    fsc, fit = result.fsc, result.guinier.fit
    block: dict[str, object] = {
        "rlnFinalResolution": fsc.resolution,
        "rlnBfactorUsedForSharpening": result.bfactor,
        **names,
    }
    if fsc.particle_fraction is not None:
        block["rlnParticleBoxFractionSolventMask"] = fsc.particle_fraction
    if fsc.randomised_from is not None:
        block["rlnRandomiseFrom"] = fsc.size * fsc.voxel_size / fsc.randomised_from
    if fit is not None:
        block["rlnFittedSlopeGuinierPlot"] = fit.slope
        block["rlnFittedInterceptGuinierPlot"] = fit.intercept
        block["rlnCorrelationFitGuinierPlot"] = fit.correlation
    return block


def _shell_frequencies(result: Postprocessed) -> NDArray[np.float64]:
    """1/d per shell in 1/Å; shell 0 stands at 999 Å, as in RELION's files."""
    frequency = np.arange(len(result.fsc.unmasked)) / (result.fsc.size * result.fsc.voxel_size)
    frequency[0] = 1.0 / 999.0
    return frequency


def fsc_table(result: Postprocessed) -> Table:
    """Return the block ``fsc`` of RELION's post.star: one row a shell."""
    fsc = result.fsc
    frequency = _shell_frequencies(result)
    columns: dict[str, Any] = {
        "rlnSpectralIndex": np.arange(len(frequency)),
        "rlnResolution": frequency,
        "rlnAngstromResolution": 1.0 / frequency,
        "rlnFourierShellCorrelationCorrected": fsc.corrected,
        "rlnFourierShellCorrelationParticleMaskFraction": fsc.particle,
        "rlnFourierShellCorrelationUnmaskedMaps": fsc.unmasked,
        "rlnFourierShellCorrelationMaskedMaps": fsc.masked,
        "rlnCorrectedFourierShellCorrelationPhaseRandomizedMaskedMaps": fsc.randomised,
    }
    return Table({name: column for name, column in columns.items() if column is not None})


def guinier_table(result: Postprocessed) -> Table:
    """Return the block ``guinier`` of RELION's post.star: one row a shell."""
    plot = result.guinier
    intercept = None if plot.fit is None else np.full(len(plot.original), plot.fit.intercept)
    columns: dict[str, Any] = {
        "rlnResolutionSquared": plot.resolution_squared,
        "rlnLogAmplitudesOriginal": plot.original,
        "rlnLogAmplitudesMTFCorrected": plot.mtf_corrected,
        "rlnLogAmplitudesWeighted": plot.weighted,
        "rlnLogAmplitudesSharpened": plot.sharpened,
        "rlnLogAmplitudesIntercept": intercept,
    }
    return Table({name: column for name, column in columns.items() if column is not None})


def write_fsc_xml(path: Path, result: Postprocessed) -> None:
    """Write the corrected FSC in the form EMDB takes at deposition."""
    from vitrea.formats.atomic import atomic_path

    kind = "masked-corrected FSC" if result.fsc.masked is not None else "unmasked FSC"
    lines = [f'<fsc title="Vitrea {kind}" xaxis="Resolution (A-1)" yaxis="Correlation Coefficient">']
    for x, y in zip(_shell_frequencies(result), result.fsc.corrected, strict=True):
        lines += ["  <coordinate>", f"    <x>{x:.6g}</x>", f"    <y>{y:.6g}</y>", "  </coordinate>"]
    with atomic_path(path) as temporary:
        temporary.write_text("\n".join([*lines, "</fsc>", ""]), encoding="utf-8")


JOB = Job(
    name="postprocess",
    summary="Measure the resolution of two half maps and sharpen their sum.",
    parameters=PostprocessParameters,
    run=run,
    ignored_options={"--verb=": "progress is always shown"},
)
