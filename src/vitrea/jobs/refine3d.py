"""``vitrea refine3d``: gold-standard 3D refinement, from particles and a start map to two independent half maps."""

from __future__ import annotations

from pathlib import Path

from vitrea.jobs.base import Context, Job
from vitrea.jobs.refinement_parameters import Refine3dParameters


def run(parameters: Refine3dParameters, context: Context) -> None:
    """Refine.

    Raises
    ------
    InputError
        If inputs are missing or do not fit each other, before anything is computed or written.
    """
    from vitrea.jobs.refinement_run import refine

    refine(parameters, context)


def log_file(parameters: Refine3dParameters) -> Path | None:
    """Name the log: beside the other output files."""
    if parameters.output is not None:
        return Path(f"{parameters.output}.log")
    if parameters.continue_from is not None:
        return Path(str(parameters.continue_from).rsplit("_it", 1)[0] + ".log")
    return None


JOB = Job(
    name="refine3d",
    summary="Refine a 3D map from particles: gold-standard half maps, resolution, poses.",
    parameters=Refine3dParameters,
    run=run,
    log_file=log_file,
    ignored_options={
        "--auto_refine": "refine3d always refines automatically",
        "--split_random_halves": "refine3d always splits the particles into random halves",
        "--dont_combine_weights_via_disc": "sums are never exchanged through files",
        "--j=": "all processors are used, as MPI ranks and threads together were; limit them with --threads",
        "--pool=": "particles are pooled to fit the memory",
        "--preread_images": "images are memory-mapped",
        "--no_parallel_disc_io": "reading is not done in parallel",
        "--scratch_dir=": "images are read where they are",
        "--gpu=": "choose the device with --device",
        "--K=": "refine3d has one class",
        "--cpu": "choose the device with --device",
    },
)
