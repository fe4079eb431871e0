"""``vitrea localres``: the resolution of half maps from place to place, and the map filtered accordingly."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from vitrea.jobs.base import Context, Job, JobParameters, parameter
from vitrea.jobs.half_map_inputs import first_half_map, read_half_maps
from vitrea.jobs.map_inputs import make_folder, read_mask
from vitrea.jobs.unused_options import refuse_unused
from vitrea.records.errors import InputError
from vitrea.records.map import Map

if TYPE_CHECKING:
    from vitrea.jobs.localres_files import LocalResolution
    from vitrea.maps.sharpening import ModulationTransfer

RESMAP_VARIABLE = "RELION_RESMAP_EXECUTABLE"
_WINDOWS = ("locres_sampling", "locres_maskrad", "locres_edgwidth", "locres_randomize_at", "write_fscs")
_RATIOS = ("p_value", "highest_resolution", "lowest_resolution", "step")


class LocalresParameters(JobParameters):
    """Measure the resolution of half maps from place to place, and filter and sharpen their mean accordingly.

    Two methods. ``--method fsc``, as relion_postprocess --locres: the FSC of the half maps in soft spherical windows,
    freed by phase randomisation from what the windows add, and read at 0.143. ``--method lrt``, as ResMap: the shortest
    local waves that a likelihood-ratio test tells from noise, at a given false-discovery rate. With --resmap_exe, or
    --use_resmap, ResMap itself is run.

    Writes, after --o: _locres.mrc (Å; 0 where nothing was measured), _locres_filtered.mrc, _locres.star (histogram),
    _locres_histogram.png, _locres_slices.png, _locres_report.html, and _locres.cxc for ChimeraX: the filtered map,
    coloured by resolution. With the FSC also, on request, _locres_fscs.star: the curves.
    """

    half1: Path = parameter(..., "First unfiltered half map, e.g. run_half1_class001_unfil.mrc.", options=["--i"])
    half2: Path | None = parameter(
        None, "Second half map; by default the first one's name with half1 replaced by half2.", options=["--i2"]
    )
    output: Path = parameter(Path("relion"), "Start of the names of the output files.", options=["--o"])
    pixel_size: float = parameter(
        0.0, "Voxel size; 0: from the half maps' header.", unit="Å", options=["--angpix"], ge=0
    )
    mask: Path | None = parameter(
        None,
        "Solvent mask: where resolutions are measured and reported. Without one, an automatic mask is taken, but for "
        "the maps of fsc, which then cover the box.",
        options=["--maskVol"],
    )
    method: Literal["fsc", "lrt"] = parameter("fsc", "FSC in windows, or likelihood-ratio test.", tab="Method")
    locres_sampling: float = parameter(25.0, "fsc: from one window to the next.", unit="Å", tab="FSC", gt=0)
    locres_maskrad: float = parameter(
        -1.0, "fsc: radius of a window; negative: half of the sampling.", unit="Å", tab="FSC"
    )
    locres_edgwidth: float = parameter(-1.0, "fsc: soft edge of a window; negative: the sampling.", unit="Å", tab="FSC")
    locres_randomize_at: float = parameter(
        25.0, "fsc: phases are randomised from here.", unit="Å", options=["--locres_randomise_at"], tab="FSC", gt=0
    )
    locres_minres: float = parameter(50.0, "No voxel gets a worse resolution than this.", unit="Å", tab="Method", gt=0)
    write_fscs: bool = parameter(False, "fsc: write the curves of all windows (_locres_fscs.star).", tab="FSC")
    p_value: float = parameter(
        0.05, "lrt: false-discovery rate.", options=["--pval", "--pVal"], tab="Likelihood ratio", gt=0, lt=1
    )
    highest_resolution: float = parameter(
        0.0, "lrt: finest resolution tested; 0: 2.2 voxels.", unit="Å", options=["--minres", "--minRes"],
        tab="Likelihood ratio", ge=0,
    )  # fmt: skip
    lowest_resolution: float = parameter(
        0.0, "lrt: coarsest resolution tested; 0: six times the finest, up to 30 Å.", unit="Å",
        options=["--maxres", "--maxRes"], tab="Likelihood ratio", ge=0,
    )  # fmt: skip
    step: float = parameter(
        0.0, "lrt: from one resolution to the next; 0: 5% of each.", unit="Å", options=["--stepres", "--stepRes"],
        tab="Likelihood ratio", ge=0,
    )  # fmt: skip
    bfactor: float = parameter(
        0.0, "B-factor applied to the filtered map; negative sharpens.", unit="Å²", options=["--adhoc_bfac"],
        tab="Sharpen",
    )  # fmt: skip
    mtf: Path | None = parameter(
        None, "STAR file with the detector's modulation transfer function.", tab="Sharpen", cistem="MTF"
    )
    mtf_pixel_size: float = parameter(
        0.0, "Pixel size of the original movies; 0: the map's.", unit="Å", options=["--mtf_angpix"], tab="Sharpen", ge=0
    )
    filter_edge_width: float = parameter(
        2.0, "Width of the filters' edge.", unit="shells", tab="Sharpen", expert=True, ge=0
    )
    resmap_exe: Path | None = parameter(
        None, f"Run this ResMap instead; by default, with --use_resmap, that of {RESMAP_VARIABLE}.", tab="ResMap"
    )
    use_resmap: bool = parameter(
        False, f"Run the ResMap that the environment variable {RESMAP_VARIABLE} names.", tab="ResMap"
    )


def run(parameters: LocalresParameters, context: Context) -> None:
    """Measure, filter, write.

    Raises
    ------
    InputError
        If inputs are missing or do not fit each other, or options contradict each other.
    """
    from vitrea.jobs.localres_external import choose_resmap, run_resmap
    from vitrea.jobs.localres_files import LocalResolution, write_all
    from vitrea.maps.local_filter import filter_by_map, sharpened_transform

    _check(parameters)
    program = choose_resmap(parameters)
    first = first_half_map(parameters.half1)
    half1, half2, second = read_half_maps(first, parameters.half2, parameters.pixel_size, context.recorder)
    mask = _mask(parameters, half1, half2, first)
    mtf = _mtf(parameters, half1.voxel_size, context)
    _check_range(parameters, half1)
    make_folder(parameters.output)
    halves, voxel_size = (half1.voxels, half2.voxels), half1.voxel_size
    transform = sharpened_transform(*halves, voxel_size, parameters.bfactor, mtf)
    if program is None and parameters.method == "fsc":
        result = _in_windows(parameters, half1, half2, mask, context)
        density = result.filtered(transform, parameters.filter_edge_width)
    else:
        if program is not None:
            resolution = run_resmap(program, parameters, (first, second), half1, context)
            result = LocalResolution("ResMap", resolution, mask)
        else:
            result = _by_ratios(parameters, half1, half2, mask, context)
        density = filter_by_map(transform, voxel_size, result.resolution, parameters.filter_edge_width)
    write_all(parameters, half1, result, half1.with_voxels(density), context)


def _check(parameters: LocalresParameters) -> None:
    high, low = parameters.highest_resolution, parameters.lowest_resolution
    if high and low and high >= low:
        raise InputError(f"--minres ({high:g} Å, the finest tested) must be below --maxres ({low:g} Å, the coarsest)")
    if parameters.mtf is None:
        refuse_unused(parameters, ("mtf_pixel_size",), "says something about --mtf: give that, too")
    if parameters.resmap_exe is not None or parameters.use_resmap:
        refuse_unused(parameters, _WINDOWS, "belongs to --method fsc, not to ResMap: leave one of them out")
    elif parameters.method == "fsc":
        refuse_unused(parameters, _RATIOS, "belongs to --method lrt: give that, too")
    else:
        refuse_unused(parameters, _WINDOWS, "belongs to --method fsc: leave one of them out")


def _check_range(parameters: LocalresParameters, half1: Map) -> None:
    finest = 2 * half1.voxel_size
    if 0 < parameters.highest_resolution < finest:
        raise InputError(f"--minres {parameters.highest_resolution:g} Å is finer than two voxels ({finest:g} Å)")
    if parameters.lowest_resolution and parameters.lowest_resolution <= 1.1 * finest:
        raise InputError(f"--maxres {parameters.lowest_resolution:g} Å is not coarser than 2.2 voxels")


def _mask(parameters: LocalresParameters, half1: Map, half2: Map, path: Path) -> NDArray[np.bool_]:
    from vitrea.maps.automatic_mask import auto_mask

    if parameters.mask is not None:
        mask = read_mask(parameters.mask, half1, path, parameters.pixel_size)
        if not (mask > 0.5).any():
            raise InputError(f"{parameters.mask} is nowhere above 0.5: there is nothing to look at")
        return mask > 0.5
    try:
        return auto_mask(half1.voxels, half2.voxels, half1.voxel_size).voxels > 0.5
    except ValueError as error:
        raise InputError(f"no mask can be made from {path}: {error} with --mask") from error


def _mtf(parameters: LocalresParameters, voxel_size: float, context: Context) -> ModulationTransfer | None:
    from vitrea.jobs.mtf_files import read_mtf

    if parameters.mtf is None:
        return None
    if not parameters.mtf_pixel_size:
        context.recorder.warn(f"--mtf_angpix is not given: the MTF is taken to be that of {voxel_size:g} Å pixels")
    return read_mtf(parameters.mtf, parameters.mtf_pixel_size or voxel_size)


def _in_windows(
    parameters: LocalresParameters, half1: Map, half2: Map, mask: NDArray[np.bool_], context: Context
) -> LocalResolution:
    from vitrea.jobs.localres_files import LocalResolution
    from vitrea.maps.local_fsc import local_fsc
    from vitrea.maps.local_windows import window_lattice

    size, voxel_size = half1.voxels.shape[0], half1.voxel_size
    radius, edge = (None if value < 0 else value for value in (parameters.locres_maskrad, parameters.locres_edgwidth))
    if parameters.locres_randomize_at <= 2 * voxel_size:
        raise InputError(f"--locres_randomize_at must be coarser than two voxels ({2 * voxel_size:g} Å)")
    only = mask.astype(np.float32) if parameters.mask is not None else None
    try:
        lattice = window_lattice(size, voxel_size, parameters.locres_sampling, radius, edge, only)
    except ValueError as error:
        raise InputError(f"--locres_sampling, --locres_maskrad, --locres_edgwidth: {error}") from error
    local = local_fsc(
        half1.voxels, half2.voxels, voxel_size, lattice, parameters.locres_randomize_at, parameters.locres_minres,
        context.recorder,
    )  # fmt: skip
    return LocalResolution("FSC in windows", local.resolution_map(), mask, local=local)


def wavelengths(parameters: LocalresParameters, voxel_size: float) -> list[float]:
    """Return the resolutions (Å) tested one after the other, the finest first."""
    finest = parameters.highest_resolution or 2.2 * voxel_size
    coarsest = parameters.lowest_resolution or max(min(6 * finest, 30.0), 2 * finest)
    tested = [finest]
    while tested[-1] < coarsest * (1 - 1e-6):
        tested.append(min(coarsest, tested[-1] + (parameters.step or 0.05 * tested[-1])))
    return tested


def _by_ratios(
    parameters: LocalresParameters, half1: Map, half2: Map, mask: NDArray[np.bool_], context: Context
) -> LocalResolution:
    from vitrea.jobs.localres_files import LocalResolution
    from vitrea.maps.local_ratio_test import ratio_test_resolution

    tested = wavelengths(parameters, half1.voxel_size)
    resolution, tests = ratio_test_resolution(
        half1.voxels, half2.voxels, half1.voxel_size, mask, tested, parameters.p_value, context.recorder
    )
    failed = np.isinf(resolution)
    if failed.any():
        context.recorder.warn(
            f"{100 * failed.sum() / mask.sum():.1f}% of the mask pass the test at no resolution up to "
            f"{tested[-1]:.3g} Å; they get {parameters.locres_minres:g} Å"
        )
    resolution = np.minimum(resolution, np.float32(parameters.locres_minres))
    return LocalResolution("likelihood-ratio test", resolution, mask, tests=tests)


JOB = Job(
    name="localres",
    summary="Measure the resolution of half maps from place to place, and filter the map accordingly.",
    parameters=LocalresParameters,
    run=run,
    ignored_options={
        "--locres": "this job does nothing else",
        "--j=": "all processors are used",
        "--noguiSplit": "ResMap is always run on half maps",
        "--pipeline_control=": "there is no RELION pipeline",
    },
    examples=(
        "vitrea localres --i molecule_half1.mrc --o local --locres_sampling 16 --adhoc_bfac -50",
        "vitrea localres --i molecule_half1.mrc --o waves --method lrt --minres 10 --maxres 30 --stepres 4",
    ),
)
