"""``vitrea star loopheader``: the head of a STAR table, for rows that a script appends."""

from __future__ import annotations

from pathlib import Path

from vitrea.jobs.base import Context, Job, JobParameters, parameter
from vitrea.jobs.star_files import writes_to_stdout
from vitrea.records.errors import InputError


class StarLoopheaderParameters(JobParameters):
    """Write the head of a STAR table with the columns given, as RELION's star_loopheader does.

    Rows are then appended to it, by vitrea star datablock, awk or any script.
    """

    labels: list[str] = parameter(..., "Columns: rlnImageName rlnDefocusU ...", positional=True)
    output: Path = parameter(Path("-"), "STAR file to begin; - is standard output.", options=["--o"])


def run(parameters: StarLoopheaderParameters, context: Context) -> None:
    """Write.

    Raises
    ------
    InputError
        If a label is given twice or holds a blank.
    """
    from vitrea.formats.streams import text_output

    labels = [label.removeprefix("_") for label in parameters.labels]
    twice = next((label for label in labels if labels.count(label) > 1), None)
    if twice is not None:
        raise InputError(f"the column {twice} is given twice")
    bad = next((label for label in labels if not label or any(char.isspace() for char in label)), None)
    if bad is not None:
        raise InputError(f"{bad!r} is no name of a column: it is empty or holds a blank")
    with text_output(parameters.output) as file:
        file.write("data_\nloop_\n")
        file.writelines(f"_{label}\n" for label in labels)


JOB = Job(
    name="star loopheader",
    summary="Write the head of a STAR table, for rows that a script appends.",
    parameters=StarLoopheaderParameters,
    run=run,
    writes_to_stdout=writes_to_stdout,
    examples=("vitrea star loopheader rlnImageName rlnDefocusU rlnDefocusV rlnDefocusAngle",),
)
