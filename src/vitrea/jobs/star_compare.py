"""``vitrea star compare``: what two STAR files share, and how they differ."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from vitrea.jobs.base import Context, Job, parameter
from vitrea.jobs.star_files import StarParameters, StarTable, read_table
from vitrea.records.errors import InputError

if TYPE_CHECKING:
    from vitrea.records.recorder import Recorder
    from vitrea.tables.joining import Match

_DEFAULT_KEYS = ("rlnImageName", "rlnMicrographName", "rlnTomoName")


class StarCompareParameters(StarParameters):
    """Tell which rows are in both of two files and in one only, and how the values of the shared rows differ.

    Rows belong together where --label1 has the same value (by default rlnImageName or rlnMicrographName; row by row
    where neither is there and the files are equally long), or, with --max_dist, where the numbers --label1, --label2
    and --label3 lie at most that far apart. With --o the rows are written to files as RELION's: <o>_both.star, of the
    first file, <o>_only1.star and <o>_only2.star.
    """

    other: Path = parameter(..., "STAR file to compare with.", options=["--compare"], positional=True)
    other_block: str = parameter("", "Its table; the main one by default.")
    label1: str = parameter("", "Column that tells which rows belong together.")
    label2: str = parameter("", "A second one; with --max_dist the second coordinate.")
    label3: str = parameter("", "A third one.")
    max_dist: float = parameter(0.0, "Largest distance of rows that belong together; 0: the same value.", ge=0)
    tolerance: float = parameter(0.0, "Numbers closer than this count as equal.", ge=0)
    output: Path | None = parameter(None, "Name that the names of the files to write are made of.", options=["--o"])


def run(parameters: StarCompareParameters, context: Context) -> None:
    """Compare."""
    first = read_table(parameters.input, parameters.block)
    second = read_table(parameters.other, parameters.other_block)
    match = _match(first, second, parameters)
    say = context.recorder.event
    say("text", text=f"{len(match.first)} rows are in both files")
    say("text", text=f"{len(match.only_first)} rows are only in {first.name}")
    say("text", text=f"{len(match.only_second)} rows are only in {second.name}")
    _report_columns(first, second, match, parameters.tolerance, context.recorder)
    if parameters.output is None:
        return
    output = parameters.output if parameters.output.suffix else parameters.output.with_suffix(".star")
    parts = (("both", first, match.first), ("only1", first, match.only_first), ("only2", second, match.only_second))
    for name, source, rows in parts:
        path = output.with_name(f"{output.stem}_{name}{output.suffix}")
        source.write(path, source.table.rows(rows), context.command)
        say("text", text=f"{path}: {len(rows)} rows")


def _match(first: StarTable, second: StarTable, parameters: StarCompareParameters) -> Match:
    import numpy as np

    from vitrea.tables.joining import match_keys, match_near

    typed = [name for name in (parameters.label1, parameters.label2, parameters.label3) if name]
    if parameters.max_dist > 0:
        if not typed:
            raise InputError("--max_dist needs --label1, the column whose values are compared")
        columns = [[source.numbers(name, "--label1")[1] for name in typed] for source in (first, second)]
        return match_near(columns[0], columns[1], parameters.max_dist)
    typed = typed or [key for key in _DEFAULT_KEYS if key in first.table and key in second.table][:1]
    if typed:
        columns = [[source.table[source.column(name, "--label1")] for name in typed] for source in (first, second)]
        return first.checked(match_keys, columns[0], columns[1], option="--label1")
    if len(first.table) != len(second.table):
        raise InputError(
            f"{first.name} and {second.name} share no column that names rows, and differ in length "
            f"({len(first.table)} and {len(second.table)}); give --label1"
        )
    rows = [np.arange(len(first.table))]
    return match_keys(rows, rows)


def _report_columns(first: StarTable, second: StarTable, match: Match, tolerance: float, recorder: Recorder) -> None:
    from vitrea.tables.comparing import column_differences

    for source, other in ((first, second), (second, first)):
        alone = [label for label in source.table if label not in other.table]
        if alone:
            recorder.event("text", text=f"columns only in {source.name}: {', '.join(alone)}")
    differences = column_differences(first.table, second.table, match, tolerance)
    same = [one.column for one in differences if not one.rows]
    for one in differences:
        if one.rows:
            largest = "" if one.largest is None else f", by up to {one.largest:.6g}"
            recorder.event("text", text=f"{one.column}: {one.rows} of {len(match.first)} rows differ{largest}")
    if same and len(match.first):
        recorder.event("text", text=f"the same in all rows: {', '.join(same)}")


JOB = Job(
    name="star compare",
    summary="Tell which rows two STAR files share, and how their columns differ.",
    parameters=StarCompareParameters,
    run=run,
    examples=(
        "vitrea star compare particles.star refined.star",
        "vitrea star compare --i particles.star --compare refined.star --label1 rlnImageName --o compared.star",
        "vitrea star compare picks.star other_picks.star --label1 rlnCoordinateX --label2 rlnCoordinateY --max_dist 10",
    ),
)
