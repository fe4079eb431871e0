"""``vitrea star check``: is a STAR file sound?"""

from __future__ import annotations

from pathlib import Path

from vitrea.jobs.base import Context, Job, JobParameters, parameter
from vitrea.records.errors import JobError


class StarCheckParameters(JobParameters):
    """Read STAR files and tell what other programs will stumble over.

    Found are files that are not STAR, rows too long or too short, text where RELION expects a number, optics groups
    that are not defined; noted are labels RELION does not know, NaN, and images that come twice. The exit code is 1
    where there is a fault.
    """

    input: tuple[Path, ...] = parameter(..., "STAR files; - is standard input.", options=["--i"], positional=True)


def run(parameters: StarCheckParameters, context: Context) -> None:
    """Check."""
    from vitrea.formats.particle_files import block_as_table
    from vitrea.formats.star import read_star
    from vitrea.records.errors import InputError
    from vitrea.tables.checking import find_faults

    bad = 0
    for path in parameters.input:
        try:
            tables = {name: block_as_table(block) for name, block in read_star(path).items()}
        except InputError as error:
            context.recorder.event("text", text=f"fault: {error}")
            bad += 1
            continue
        faults, notes = find_faults(tables)
        context.recorder.event("text", text=f"{path}: {', '.join(f'data_{n} {len(t)}' for n, t in tables.items())}")
        for fault in faults:
            context.recorder.event("text", text=f"fault: {path}, {fault}")
        for note in notes:
            context.recorder.event("text", text=f"note: {path}, {note}")
        bad += bool(faults)
    if bad:
        raise JobError(f"{bad} of {len(parameters.input)} files have faults")


JOB = Job(
    name="star check",
    summary="Tell what other programs will stumble over in STAR files.",
    parameters=StarCheckParameters,
    run=run,
    examples=("vitrea star check particles.star micrographs_ctf.star",),
)
