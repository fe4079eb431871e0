"""``vitrea star join``: columns of one STAR file added to another by a key."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from vitrea.jobs.base import Context, Job, parameter
from vitrea.jobs.star_files import StarParameters, output_parameter, read_table, writes_to_stdout, written
from vitrea.records.errors import InputError

_DEFAULT_KEYS = ("rlnImageName", "rlnMicrographName", "rlnTomoName")


class StarJoinParameters(StarParameters):
    """Add columns of a second STAR file to the first, in the rows that have the same key.

    For example the CTF fits of micrographs to their particles, by rlnMicrographName, or the angles of one refinement
    to the rows of another, by rlnImageName. A key may come many times in the first file but once in the second.
    """

    other: Path = parameter(..., "STAR file to take columns from.", positional=True)
    output: Path = output_parameter()
    key: list[str] = parameter(
        [], "Column, or columns, that name a row; by default rlnImageName, rlnMicrographName or rlnTomoName."
    )
    other_key: list[str] = parameter([], "The same in the second file, where they have other names.")
    other_block: str = parameter("", "Table of the second file; the main one by default.")
    columns: list[str] = parameter([], "Columns to take; by default all that the first file does not have.")
    missing: Literal["keep", "drop", "refuse"] = parameter(
        "keep", "Rows without a partner: keep them (with 0 or empty text, or their own value), leave them out, or stop."
    )


def run(parameters: StarJoinParameters, context: Context) -> None:
    """Join."""
    from vitrea.tables.joining import join_by_key

    source, other = read_table(parameters.input, parameters.block), read_table(parameters.other, parameters.other_block)
    typed = parameters.key or [next((key for key in _DEFAULT_KEYS if key in source.table and key in other.table), "")]
    if not typed[0]:
        raise InputError(f"{source.name} and {other.name} share no usual key; name one with --key")
    if parameters.other_key and len(parameters.other_key) != len(typed):
        raise InputError("--other_key: give as many columns as --key has")
    keys = [source.column(name, "--key") for name in typed]
    other_keys = [other.column(name, "--other_key") for name in parameters.other_key or typed]
    columns = [other.column(name, "--columns") for name in parameters.columns]
    columns = columns or [name for name in other.table if name not in source.table and name not in other_keys]
    if not columns:
        raise InputError(f"{other.name} has no column that {source.name} lacks; name those to replace with --columns")
    blank = parameters.missing != "drop"
    table, lonely = other.checked(join_by_key, source.table, other.table, keys, other_keys, columns, blank)
    if lonely and parameters.missing == "refuse":
        raise InputError(f"{lonely} rows of {source.name} have no partner in {other.name} by {', '.join(keys)}")
    if lonely == len(source.table):
        raise InputError(f"no row of {source.name} has a partner in {other.name} by {', '.join(keys)}")
    source.write(parameters.output, table, context.command)
    if lonely:
        fate = "kept" if blank else "left out"
        context.recorder.warn(f"{lonely} of {len(source.table)} rows have no partner in {other.name}; {fate}")
    context.recorder.event("text", text=written(parameters.output, f"{len(table)} rows, new: {', '.join(columns)}"))


JOB = Job(
    name="star join",
    summary="Add columns of one STAR file to another, in the rows that have the same key.",
    parameters=StarJoinParameters,
    run=run,
    examples=(
        "vitrea star join particles.star micrographs_ctf.star joined.star --columns rlnCtfMaxResolution",
        "vitrea star join particles.star refined.star joined.star --key ImageName --columns AngleRot --missing drop",
    ),
    writes_to_stdout=writes_to_stdout,
)
