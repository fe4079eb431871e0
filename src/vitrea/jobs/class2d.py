"""``vitrea class2d``: reference-free 2D class averages."""

from __future__ import annotations

from pathlib import Path

from vitrea.jobs.base import Context, Job
from vitrea.jobs.class_parameters import Class2dParameters
from vitrea.jobs.likelihood_parameters import RELION_OPTIONS, likelihood_log


def run(parameters: Class2dParameters, context: Context) -> None:
    """Classify in two dimensions.

    Raises
    ------
    InputError
        If inputs are missing or do not fit each other, before anything is computed or written.
    """
    from vitrea.jobs.class_run import classify

    classify(parameters, context, "class2d")


def log_file(parameters: Class2dParameters) -> Path | None:
    """Name the log: beside the other output files."""
    return likelihood_log(parameters)


JOB = Job(
    name="class2d",
    summary="Sort particles into 2D classes and average them, without a reference.",
    parameters=Class2dParameters,
    run=run,
    log_file=log_file,
    ignored_options=RELION_OPTIONS,
)
