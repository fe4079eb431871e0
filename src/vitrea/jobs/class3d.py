"""``vitrea class3d``: unsupervised classification into several maps."""

from __future__ import annotations

from pathlib import Path

from vitrea.jobs.base import Context, Job
from vitrea.jobs.class_parameters import Class3dParameters
from vitrea.jobs.likelihood_parameters import RELION_OPTIONS, likelihood_log


def run(parameters: Class3dParameters, context: Context) -> None:
    """Classify in three dimensions.

    Raises
    ------
    InputError
        If inputs are missing or do not fit each other, before anything is computed or written.
    """
    from vitrea.jobs.class_run import classify

    classify(parameters, context, "class3d")


def log_file(parameters: Class3dParameters) -> Path | None:
    """Name the log: beside the other output files."""
    return likelihood_log(parameters)


JOB = Job(
    name="class3d",
    summary="Sort particles into several 3D maps, from one low-pass filtered reference or several.",
    parameters=Class3dParameters,
    run=run,
    log_file=log_file,
    ignored_options=RELION_OPTIONS,
)
