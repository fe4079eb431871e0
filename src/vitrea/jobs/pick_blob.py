"""``vitrea pick blob``: particles without a reference."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from vitrea.jobs.base import Context, Job, parameter
from vitrea.jobs.pick_parameters import PickParameters
from vitrea.records.errors import InputError

if TYPE_CHECKING:
    from vitrea.jobs.pick_run import Task
    from vitrea.records.micrographs import Micrographs

_BLOB, _LOG = "Blob", "Laplacian of Gaussian"
_LOG_CURVE = 1.0  # standard deviations below the threshold of LoG, from which on the curve of picks begins
_RADIUS_RATIO = 1.25  # of the largest to the characteristic radius, where only one is given


class PickBlobParameters(PickParameters):
    """Pick particles without a reference, by their size alone.

    By default the micrograph is searched for a disc of the characteristic radius, as its CTF shows it, with a matched
    filter for noise of the spectrum that boxes without particles have (Sigworth 2004), as cisTEM's ab-initio picking
    does. With --LoG it is searched for blobs of a range of diameters by Laplacian-of-Gaussian filters, without
    whitening, as RELION does: what a smaller or a larger blob fits best is no particle, and scores are in standard
    deviations above the mean of the rest of that micrograph. The default finds hollow or crowded particles better.

    A coordinate file is written for each micrograph, <micrograph>_autopick.star, and beside them autopick.star, which
    lists them (what an extraction reads), a summary of all micrographs, the number of picks at every threshold, and
    pictures. Scores, in rlnAutopickFigureOfMerit, are in standard deviations of the background. Without --threshold
    the job looks at up to 16 micrographs first, and divides the heights of peaks into those of particles and of noise.
    Micrographs that cannot be searched are set aside by name, and the rest goes on.
    """

    characteristic_radius: float = parameter(
        0.0, "Radius of the disc: where most of the particle's density lies.", unit="Å", tab=_BLOB,
        options=["--characteristic_radius"], cistem="characteristic particle radius", ge=0,
    )  # fmt: skip
    maximum_radius: float = parameter(
        0.0, "Largest radius of a particle; 0: 1.25 times the characteristic one.", unit="Å", tab=_BLOB,
        options=["--maximum_radius"], cistem="maximum particle radius", ge=0,
    )  # fmt: skip
    highest_resolution: float = parameter(
        30.0, "Finer detail is left out.", unit="Å", tab="Filters", options=["--lowpass"],
        cistem="highest resolution used in picking", gt=0,
    )  # fmt: skip
    lowest_resolution: float = parameter(
        0.0, "Coarser detail is left out; 0: twice the maximum radius.", unit="Å", tab="Filters", ge=0,
        options=["--highpass"], expert=True,
    )  # fmt: skip
    threshold: float = parameter(
        0.0, "Lowest score of a pick; 0: where particles become likelier than noise.", unit="standard deviations",
        tab=_BLOB, cistem="threshold peak height", ge=0,
    )  # fmt: skip
    log: bool = parameter(False, "Search with Laplacian-of-Gaussian filters.", options=["--LoG"], tab=_LOG)
    log_diameter_min: float = parameter(
        0.0, "Smallest diameter of a blob; 0: twice the characteristic radius.", unit="Å", options=["--LoG_diam_min"],
        tab=_LOG, ge=0,
    )  # fmt: skip
    log_diameter_max: float = parameter(
        0.0, "Largest diameter of a blob; 0: twice the maximum radius.", unit="Å", options=["--LoG_diam_max"],
        tab=_LOG, ge=0,
    )  # fmt: skip
    log_adjust_threshold: float = parameter(
        0.0, "Lowest score of a pick, with --LoG: -0.5 for more picks, 0.5 for fewer.", unit="standard deviations",
        options=["--LoG_adjust_threshold"], tab=_LOG,
    )  # fmt: skip
    log_use_ctf: bool = parameter(
        False, "With --LoG: search for what the CTF makes of a blob.", options=["--LoG_use_ctf"], tab=_LOG, expert=True
    )
    log_invert: bool = parameter(
        False, "With --LoG: particles are white; the same as --no-invert.", options=["--Log_invert"], tab=_LOG,
        expert=True,
    )  # fmt: skip
    upper_threshold: float = parameter(
        0.0, "Peaks with a score above this are no particles; 0: no such limit.", unit="standard deviations",
        options=["--LoG_upper_threshold"], tab=_BLOB, ge=0,
    )  # fmt: skip


def run(parameters: PickBlobParameters, context: Context) -> None:
    """Pick and write.

    Raises
    ------
    InputError
        If inputs are missing or sizes make no sense.
    JobError
        If no micrograph could be searched.
    """
    from vitrea.jobs.pick_run import read_inputs, run_picking

    radii = _radii(parameters)
    if parameters.log:
        inverted = parameters.invert and not parameters.log_invert
        parameters = parameters.model_copy(update={"ctf": parameters.log_use_ctf, "invert": inverted})
    run_picking(_task(parameters, radii, read_inputs(parameters)), context)


def _radii(parameters: PickBlobParameters) -> tuple[float, float]:
    """Return the characteristic and the maximum radius in Å."""
    typical, largest = parameters.characteristic_radius, parameters.maximum_radius
    if parameters.log:
        smallest = parameters.log_diameter_min or 2 * typical
        largest = parameters.log_diameter_max / 2 or largest or smallest / 2
        typical = smallest / 2
    if not typical:
        raise InputError("give --characteristic_radius, or with --LoG --LoG_diam_min and --LoG_diam_max, in Å")
    largest = largest or _RADIUS_RATIO * typical
    if largest < typical:
        raise InputError(f"the largest radius ({largest:g} Å) is smaller than the typical or smallest ({typical:g} Å)")
    return typical, largest


def _task(parameters: PickBlobParameters, radii: tuple[float, float], micrographs: Micrographs) -> Task:
    from vitrea.jobs.pick_run import Task, make_limits
    from vitrea.jobs.pick_threshold import Threshold
    from vitrea.picking.laplacian import diameters_between, laplacian_templates
    from vitrea.picking.picker import Filters, Searcher
    from vitrea.picking.templates import disc_template

    typical, largest = radii
    pixel_size = float(micrographs.pixel_sizes.max())
    boxes, choice = parameters.background_boxes, parameters.box_choice
    if parameters.log:
        resolution = min(parameters.highest_resolution, typical)
        filters = Filters(resolution, parameters.lowest_resolution or 8 * largest, largest, 0.0, "none", boxes, choice)
        diameters = diameters_between(2 * typical, 2 * largest)
        searcher = Searcher(filters, lambda sizes: laplacian_templates(diameters, sizes))
        floor = parameters.threshold + parameters.log_adjust_threshold
        threshold = Threshold(floor, False, parameters.upper_threshold, start=floor - _LOG_CURVE)
        limits = replace(make_limits(parameters, typical + largest, pixel_size), lowest_score=0.0)
        return Task(parameters, micrographs, searcher, limits, threshold, typical + largest)
    filters = Filters(parameters.highest_resolution, parameters.lowest_resolution or 2 * largest, largest, 0.0,
                      parameters.whiten_by, boxes, choice)  # fmt: skip
    edge = max(parameters.highest_resolution / 2, 0.15 * typical)
    searcher = Searcher(filters, lambda sizes: disc_template(typical, edge, sizes))
    limits = make_limits(parameters, 2 * typical, pixel_size)
    threshold = Threshold(parameters.threshold or None, False, parameters.upper_threshold)
    return Task(parameters, micrographs, searcher, limits, threshold, 2 * typical)


JOB = Job(
    name="pick blob",
    summary="Find particles in micrographs without a reference, by their size.",
    parameters=PickBlobParameters,
    run=run,
    ignored_options={
        "--gpu=": "picking runs on the processors",
        "--shrink=": "the micrograph is always cut down to the resolution used",
        "--LoG_neighbour=": "give --min_distance",
    },
)
