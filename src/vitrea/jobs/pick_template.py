"""``vitrea pick template``: particles that look like references."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from vitrea.jobs.base import Context, Job, parameter
from vitrea.jobs.pick_parameters import PickParameters
from vitrea.records.errors import InputError

if TYPE_CHECKING:
    from vitrea.jobs.pick_references import PickReferences
    from vitrea.jobs.pick_run import Task
    from vitrea.records.micrographs import Micrographs
    from vitrea.records.recorder import Recorder

_REFERENCES = "References"
_FINEST = 6  # pixels of the search in a period of --lowpass at most


class PickTemplateParameters(PickParameters):
    """Pick the particles of micrographs that look like references, in any orientation in the plane.

    References are class averages (a stack, or a STAR file of class averages) or a map, which is projected from all
    sides. Each is turned in steps of --ang, filtered, multiplied by the micrograph's CTF, and correlated with the
    micrograph after the noise was made white. The figure of merit (rlnAutopickFigureOfMerit) is the score of the best
    reference, 1 for what particles usually have, which the job learns from up to 16 micrographs; so thresholds mean
    the same with references on any grey scale. Without --threshold the job divides the peaks into particles and noise
    by their heights.

    With --write_fom_maps scores are kept, and a run with --read_fom_maps and another threshold, distance or noise limit
    takes seconds. Micrographs that cannot be searched are set aside by name, and the rest goes on.
    """

    references: Path = parameter(
        ..., "2D references (stack or STAR file), or a map.", options=["--ref"], tab=_REFERENCES
    )
    reference_pixel_size: float = parameter(
        0.0, "Pixel size of the references; 0: from their header, else that of the micrographs.", unit="Å",
        options=["--angpix_ref"], tab=_REFERENCES, ge=0,
    )  # fmt: skip
    particle_diameter: float = parameter(
        0.0, "Diameter to which references are masked; 0: 75% of their box.", unit="Å",
        options=["--particle_diameter"], tab=_REFERENCES, ge=0,
    )  # fmt: skip
    angular_step: float = parameter(
        5.0, "Step of the references' turns in the plane.", unit="degrees", options=["--ang"], tab=_REFERENCES, gt=0,
        le=360,
    )  # fmt: skip
    lowpass: float = parameter(
        20.0, "Finer detail of references and micrographs is left out.", unit="Å", options=["--lowpass"],
        tab="Filters", gt=0,
    )  # fmt: skip
    highpass: float = parameter(
        0.0, "Coarser detail is left out; 0: twice the particle's diameter.", unit="Å", options=["--highpass"],
        tab="Filters", ge=0,
    )  # fmt: skip
    shrink: float = parameter(
        0.0, "Part of the micrograph's sampling to search at, a sixth of --lowpass at most; 0: as coarse as it gets.",
        options=["--shrink"], tab="Filters", ge=0, le=1,
    )  # fmt: skip
    healpix_order: int = parameter(
        1, "Directions from which a map is projected: 0 (60 degrees apart), 1 (30), 2 (15).",
        options=["--ref3d_healpix_order", "--healpix_order"], tab=_REFERENCES, ge=0, le=3,
    )  # fmt: skip
    symmetry: str = parameter("C1", "Point group of the map.", options=["--sym", "--ref3d_symmetry"], tab=_REFERENCES)
    threshold: float = parameter(
        0.0, "Lowest figure of merit of a pick; 0: where particles become likelier than noise.",
        options=["--threshold"], ge=0,
    )  # fmt: skip


def run(parameters: PickTemplateParameters, context: Context) -> None:
    """Pick and write.

    Raises
    ------
    InputError
        If inputs are missing or do not fit each other.
    JobError
        If no micrograph could be searched.
    """
    from vitrea.jobs.pick_references import choose_diameter
    from vitrea.jobs.pick_run import read_inputs, run_picking

    micrographs = read_inputs(parameters)
    pixel = float(micrographs.pixel_sizes.max())
    if parameters.lowpass < 2 * pixel:
        raise InputError(f"--lowpass {parameters.lowpass:g} Å is beyond what pixels of {pixel:g} Å hold")
    references = _read(parameters, pixel, context.recorder)
    diameter = choose_diameter(parameters.particle_diameter, references, parameters.references, context.recorder)
    run_picking(_task(parameters, micrographs, references, diameter), context)


def _read(parameters: PickTemplateParameters, pixel: float, recorder: Recorder) -> PickReferences:
    from vitrea.jobs.pick_references import is_map, project_map, read_references

    path, size = parameters.references, parameters.reference_pixel_size
    if not path.is_file():
        raise InputError(f"{path} does not exist; check --ref")
    if is_map(path):
        found = project_map(path, size, parameters.healpix_order, parameters.symmetry)
        recorder.event("text", text=f"{path}: {len(found.images)} projections")
        return found
    return read_references(path, size, pixel, recorder)


def _task(
    parameters: PickTemplateParameters, micrographs: Micrographs, references: PickReferences, diameter: float
) -> Task:
    from vitrea.jobs.pick_run import Task, make_limits
    from vitrea.jobs.pick_threshold import Threshold
    from vitrea.picking.picker import Filters, Searcher
    from vitrea.picking.templates import turned_templates

    pixel = float(micrographs.pixel_sizes.max())
    # Scores hold nothing finer than --lowpass: sampled more densely than this they only take longer.
    coarsest, finest = parameters.lowpass / 2, parameters.lowpass / _FINEST
    wanted = min(max(pixel / parameters.shrink, finest), coarsest) if parameters.shrink else 0.0
    filters = Filters(
        parameters.lowpass,
        parameters.highpass or 2 * diameter,
        diameter / 2,
        pixel_size=wanted,
        whiten_by=parameters.whiten_by,
        boxes=parameters.background_boxes,
        box_choice=parameters.box_choice,
    )
    searcher = Searcher(
        filters,
        lambda sizes: turned_templates(
            references.images, references.pixel_size, sizes, diameter, parameters.lowpass, parameters.angular_step
        ),
    )
    limits = make_limits(parameters, diameter, pixel)
    threshold = Threshold(parameters.threshold or None, True)
    return Task(parameters, micrographs, searcher, limits, threshold, diameter, references.numbers)


JOB = Job(
    name="pick template",
    summary="Find particles in micrographs that look like given references.",
    parameters=PickTemplateParameters,
    run=run,
    ignored_options={
        "--gpu=": "picking runs on the processors",
        "--skip_optimise_scale": "the sampling follows from --lowpass and --shrink",
        "--angpix_mic=": "give --angpix",
    },
)
