"""``vitrea refine3d``: gold-standard 3D refinement, from particles and a start map to two independent half maps."""

from __future__ import annotations

from pathlib import Path

from vitrea.jobs.base import Context, Job
from vitrea.jobs.likelihood_parameters import RELION_OPTIONS, likelihood_log
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
    return likelihood_log(parameters)


JOB = Job(
    name="refine3d",
    summary="Refine a 3D map from particles: gold-standard half maps, resolution, poses.",
    parameters=Refine3dParameters,
    run=run,
    log_file=log_file,
    ignored_options={
        "--auto_refine": "refine3d always refines automatically",
        "--split_random_halves": "refine3d always splits the particles into random halves",
        "--K=": "refine3d has one class",
        **RELION_OPTIONS,
    },
)
