"""``vitrea postprocess``: resolution from two half maps, and the sharpened map."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from vitrea.jobs.base import Context, Job, JobParameters, parameter
from vitrea.jobs.half_map_inputs import first_half_map, read_half_maps
from vitrea.jobs.map_inputs import make_folder, read_mask
from vitrea.jobs.unused_options import refuse_unused
from vitrea.records.errors import InputError
from vitrea.records.map import Map

if TYPE_CHECKING:
    from vitrea.jobs.postprocess_files import MaskUsed
    from vitrea.maps.fsc_checks import Finding
    from vitrea.maps.half_maps import FscSettings
    from vitrea.maps.postprocess import Postprocessed
    from vitrea.maps.sharpening import ModulationTransfer, SharpeningSettings


class PostprocessParameters(JobParameters):
    """Measure the resolution of a refinement and sharpen its map, as relion_postprocess does.

    Takes the two unfiltered half maps. Writes the sharpened map (.mrc) and its masked version (_masked.mrc), all FSC
    curves and the Guinier plot (.star), the FSC for EMDB (_fsc.xml), plots (_fsc.png, _guinier.png), and a page with
    all of it (_report.html). The resolution is where the FSC, corrected for the effect of the mask by phase
    randomisation, falls below 0.143. What looks wrong with half maps, mask or curves is said, with what to do about it.
    """

    half1: Path = parameter(
        ...,
        "First unfiltered half map, e.g. run_half1_class001_unfil.mrc, or the start of such names: run.",
        options=["--i"],
    )
    half2: Path | None = parameter(
        None, "Second half map; by default the first one's name with half1 replaced by half2.", options=["--i2"]
    )
    output: Path = parameter(Path("postprocess"), "Start of the names of the output files.", options=["--o"])
    pixel_size: float = parameter(
        0.0, "Voxel size; 0: from the half maps' header.", unit="Å", options=["--angpix"], ge=0
    )
    write_half_maps: bool = parameter(
        False,
        "Write both half maps, treated as the map was, for validation (_half1.mrc, _half2.mrc).",
        options=["--half_maps"],
    )
    molecular_weight: float = parameter(
        0.0,
        "Mass of what is ordered, for an FSC of the particle without a mask (cisTEM's part FSC); 0: not known.",
        unit="kDa",
        options=["--molweight"],
        cistem="Molecular mass",
        ge=0,
    )
    mask: Path | None = parameter(None, "Solvent mask with values 0 to 1.", tab="Mask")
    auto_mask: bool = parameter(False, "Make a mask from the half maps (written as _automask.mrc).", tab="Mask")
    mask_threshold: float | None = parameter(
        None,
        "Grey value of the filtered average above which that mask starts; by default it is chosen.",
        options=["--inimask_threshold"],
        tab="Mask",
    )
    mask_extend: float | None = parameter(
        None,
        "Extend that mask by this distance; by default 7.5 Å.",
        unit="voxels",
        options=["--extend_inimask"],
        tab="Mask",
        ge=0,
    )
    mask_edge: float | None = parameter(
        None,
        "Width of its soft edge; by default 15 Å, at least 5 voxels.",
        unit="voxels",
        options=["--width_mask_edge"],
        tab="Mask",
        ge=0,
    )
    mask_lowpass: float = parameter(
        15.0,
        "Low-pass filter the average before that; 0: none, as RELION-1.4.",
        unit="Å",
        tab="Mask",
        expert=True,
        ge=0,
    )
    force_mask: bool = parameter(
        False, "Use the mask even where it makes the resolution worse.", tab="Mask", expert=True
    )
    mtf: Path | None = parameter(
        None, "STAR file with the detector's modulation transfer function.", tab="Sharpen", cistem="MTF"
    )
    mtf_pixel_size: float = parameter(
        0.0,
        "Pixel size of the original movies; 0: from the run's data file, else the map's.",
        unit="Å",
        options=["--mtf_angpix"],
        tab="Sharpen",
        ge=0,
    )
    voltage: float = parameter(
        0.0,
        "Acceleration voltage that the MTF must be for; 0: from the run's data file.",
        unit="kV",
        tab="Sharpen",
        ge=0,
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
    randomise_at: float = parameter(
        0.0,
        "Randomise phases from this resolution on instead; 0 or less: as above.",
        unit="Å",
        options=["--randomize_at_A"],
        tab="Filter",
        expert=True,
    )
    random_draws: int | None = parameter(
        None,
        "Draw random phases so often and average: 1 as RELION, 0 for the mean of all draws, which needs none; by "
        "default 1, or 0 where the mask is so small that noise could then pass for signal.",
        tab="Filter",
        expert=True,
        ge=0,
    )
    random_seed: int = parameter(
        0,
        "Seed of the random phases, which are RELION's for the same seed.",
        tab="Filter",
        expert=True,
        ge=0,
        lt=2**31 - 1,
    )
    locres: bool = parameter(
        False,
        "Measure local resolution instead, as vitrea localres does with the options below.",
        tab="Local resolution",
    )
    locres_sampling: float = parameter(25.0, "From one window to the next.", unit="Å", tab="Local resolution", gt=0)
    locres_maskrad: float = parameter(
        -1.0, "Radius of a window; negative: half of the sampling.", unit="Å", tab="Local resolution"
    )
    locres_edgwidth: float = parameter(
        -1.0, "Soft edge of a window; negative: the sampling.", unit="Å", tab="Local resolution"
    )
    locres_randomize_at: float = parameter(
        25.0, "Phases are randomised from here.", unit="Å", tab="Local resolution", gt=0
    )
    locres_minres: float = parameter(
        50.0, "No voxel gets a worse resolution than this.", unit="Å", tab="Local resolution", gt=0
    )


def run(parameters: PostprocessParameters, context: Context) -> None:
    """Measure, sharpen, write.

    Raises
    ------
    InputError
        If inputs are missing or do not fit each other, or options contradict each other.
    """
    if parameters.locres:
        _local_resolution(parameters, context)
        return
    refuse_unused(parameters, _LOCAL, "says how --locres measures local resolution: give that, too")
    if parameters.mask is None and not parameters.auto_mask:
        refuse_unused(parameters, _MASKED, "is about the mask: give --mask or --auto_mask, too")
    from vitrea.jobs.postprocess_files import tell, write_all
    from vitrea.maps.postprocess import postprocess

    first_path = first_half_map(parameters.half1)
    half1, half2, second_path = read_half_maps(first_path, parameters.half2, parameters.pixel_size, context.recorder)
    settings, measure = _sharpening(parameters, first_path, half1.voxel_size, context), _measure(parameters, half1)
    mask = _mask(parameters, half1, half2, first_path)
    make_folder(parameters.output)
    context.recorder.stage("post-processing")
    result = postprocess(
        half1.voxels,
        half2.voxels,
        half1.voxel_size,
        None if mask is None else mask.voxels,
        settings,
        measure,
        force_mask=parameters.force_mask,
    )
    findings = _findings(half1, half2, mask, result, settings, measure)
    for finding in findings:
        context.recorder.warn(finding.text)
    halves = (half1, half2) if parameters.write_half_maps else ()
    paths = (first_path, second_path)
    write_all(parameters.output, half1, result, settings, mask, paths, halves, findings, context.command)
    tell(parameters.output, result, mask, context.recorder)


_LOCAL = ("locres_sampling", "locres_maskrad", "locres_edgwidth", "locres_randomize_at", "locres_minres")
_MASKED = ("force_mask", "randomise_at_fsc", "randomise_at", "random_draws", "random_seed")
_SHARED = ("half1", "half2", "output", "pixel_size", "mask", "bfactor", "mtf", "mtf_pixel_size", "filter_edge_width")


def _local_resolution(parameters: PostprocessParameters, context: Context) -> None:
    """Do what ``relion_postprocess --locres`` does, in which it is the same program.

    Raises
    ------
    InputError
        If options are given that only post-processing has.
    """
    from vitrea.jobs import localres

    given = parameters.model_fields_set - {"locres"}
    if other := sorted(given - {*_SHARED, *_LOCAL}):
        raise InputError(f"--locres measures local resolution only: leave out --{other[0]}, or --locres")
    names = given | {"output"}
    chosen = {name: getattr(parameters, name) for name in names}
    localres.JOB.run(localres.JOB.parameters(**chosen), context)


def _measure(parameters: PostprocessParameters, half1: Map) -> FscSettings:
    from vitrea.maps.half_maps import FscSettings

    extent = half1.voxels.shape[0] * half1.voxel_size
    if 0 < parameters.randomise_at < 2 * half1.voxel_size or parameters.randomise_at > extent:
        raise InputError(
            f"--randomize_at_A {parameters.randomise_at:g} must lie between Nyquist ({2 * half1.voxel_size:.3g} Å) "
            f"and the box ({extent:.4g} Å)"
        )
    return FscSettings(
        randomise_below=parameters.randomise_at_fsc,
        randomise_at=max(0.0, parameters.randomise_at),
        seed=parameters.random_seed,
        draws=parameters.random_draws,
        molecular_weight=parameters.molecular_weight,
    )


def _sharpening(
    parameters: PostprocessParameters, half_path: Path, voxel_size: float, context: Context
) -> SharpeningSettings:
    from vitrea.maps.sharpening import SharpeningSettings

    if parameters.auto_bfactor and parameters.bfactor != 0:
        raise InputError("give --auto_bfac or --adhoc_bfac, not both")
    if parameters.fit_highest and parameters.fit_highest >= parameters.fit_lowest:
        raise InputError(
            f"--autob_highres ({parameters.fit_highest:g} Å) must be finer than --autob_lowres "
            f"({parameters.fit_lowest:g} Å)"
        )
    if parameters.mtf is None and (parameters.voltage or parameters.mtf_pixel_size):
        raise InputError(
            f"--{'voltage' if parameters.voltage else 'mtf_angpix'} says something about --mtf: give that, too"
        )
    mtf = None if parameters.mtf is None else _mtf(parameters, parameters.mtf, half_path, voxel_size, context)
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


def _mtf(
    parameters: PostprocessParameters, path: Path, half_path: Path, voxel_size: float, context: Context
) -> ModulationTransfer:
    from vitrea.jobs.mtf_files import check_voltage, detector_pixel, read_mtf, recognise_mtf, run_particles

    recorder, pixel, source = context.recorder, parameters.mtf_pixel_size, "--mtf_angpix"
    if not pixel and (told := detector_pixel(half_path, recorder)):
        pixel, source = told, str(run_particles(half_path))
    if not pixel:
        pixel = voxel_size
        recorder.warn(
            f"--mtf_angpix is not given: the MTF is taken to be that of {voxel_size:g} Å pixels; "
            "give the pixel size of the original movies if they were binned"
        )
        source = "the map"
    if pixel > voxel_size * 1.01:
        recorder.warn(
            f"the detector's pixels ({pixel:g} Å, from {source}) are larger than the map's ({voxel_size:g} Å): give "
            "those of the original movies with --mtf_angpix"
        )
    mtf = read_mtf(path, pixel)
    detector = recognise_mtf(path, mtf, recorder)
    check_voltage(path, detector, parameters.voltage, half_path, recorder)
    recorder.event("text", text=f"{path}: MTF of {detector}, pixels of {pixel:g} Å (from {source})")
    return mtf


def _mask(parameters: PostprocessParameters, half1: Map, half2: Map, half_path: Path) -> MaskUsed | None:
    from vitrea.jobs.postprocess_files import MaskUsed, with_ending
    from vitrea.maps.automatic_mask import auto_mask

    if parameters.mask is not None and parameters.auto_mask:
        raise InputError("give --mask or --auto_mask, not both")
    if not parameters.auto_mask:
        asked = {
            "inimask_threshold": parameters.mask_threshold,
            "extend_inimask": parameters.mask_extend,
            "width_mask_edge": parameters.mask_edge,
        }
        for name, value in asked.items():
            if value is not None:
                raise InputError(f"--{name} says how --auto_mask makes a mask: give that, too")
    if parameters.mask is not None:
        return MaskUsed(read_mask(parameters.mask, half1, half_path, parameters.pixel_size), str(parameters.mask))
    if not parameters.auto_mask:
        return None
    try:
        made = auto_mask(
            half1.voxels,
            half2.voxels,
            half1.voxel_size,
            parameters.mask_threshold,
            parameters.mask_lowpass,
            parameters.mask_extend,
            parameters.mask_edge,
        )
    except ValueError as error:
        ending = "" if parameters.mask_threshold is not None else " with --mask or --inimask_threshold"
        raise InputError(f"--auto_mask: {error}{ending}") from error
    return MaskUsed(made.voxels, str(with_ending(parameters.output, "_automask.mrc")), made)


def _findings(
    half1: Map,
    half2: Map,
    mask: MaskUsed | None,
    result: Postprocessed,
    settings: SharpeningSettings,
    measure: FscSettings,
) -> list[Finding]:
    from vitrea.maps.fsc_checks import check_fsc, check_half_maps, check_mask, check_sharpening

    pair = (half1.voxels, half2.voxels)
    return [
        *check_half_maps(*pair, result.fsc),
        *([] if mask is None else check_mask(mask.voxels, *pair, half1.voxel_size)),
        *check_fsc(result.fsc, measure, result.mask_set_aside),
        *check_sharpening(result.guinier, settings, result.fsc.resolution),
    ]


JOB = Job(
    name="postprocess",
    summary="Measure the resolution of two half maps and sharpen their sum.",
    parameters=PostprocessParameters,
    run=run,
    log_file=lambda parameters: parameters.output.with_name(f"{parameters.output.name}.log"),
    ignored_options={
        "--verb=": "progress is always shown",
        "--interpolate": "resolutions interpolated between shells are always told",
        "--ampl_corr": "amplitude correlation is not measured; the FSC tells what it would",
    },
    examples=(
        "vitrea postprocess --i run_half1_class001_unfil.mrc --auto_mask --adhoc_bfac -80 --half_maps",
        "vitrea postprocess --i run --o post/ball --mask ball_mask.mrc --molweight 90",
        "vitrea postprocess --i molecule_half1.mrc --o local --locres --locres_sampling 16 --adhoc_bfac -50",
    ),
)
