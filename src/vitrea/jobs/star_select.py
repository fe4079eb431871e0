"""``vitrea star select``: rows of a STAR file that meet conditions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitrea.jobs.base import Context, Job, parameter
from vitrea.jobs.star_files import StarParameters, StarTable, output_parameter, read_table, writes_to_stdout, written
from vitrea.records.errors import InputError

if TYPE_CHECKING:
    from vitrea.records.recorder import Recorder
    from vitrea.records.table import Table


class StarSelectParameters(StarParameters):
    """Keep the rows of a table that meet all conditions; every other block, and the order, stay as they are.

    It works on every STAR file: particles, micrographs, classes, coordinates. vitrea select does more for particles:
    classes judged by their averages, grey values, neighbours. In a condition columns stand by name, rln may be left
    out; there are numbers, texts in quotes, + - * / // % **, comparisons (also 1 < x < 2, and x in (1, 3)), and or not,
    functions such as abs, sqrt, mean, isnan, and for texts contains, startswith, endswith, matches (a regular
    expression), file, folder. How many rows each condition drops is reported. A selection that leaves nothing is an
    error, and nothing is written then.
    """

    output: Path = output_parameter()
    where: list[str] = parameter(
        [], "Condition, such as: DefocusU > 10000 and MicrographName.contains('_007'); may be repeated."
    )
    ranges: list[str] = parameter(
        [], "Column and bounds, both included: rlnDefocusU:8000:20000; a bound may be blank; may be repeated."
    )
    select: str = parameter("", "Column that --minval and --maxval bound.")
    minval: float | None = parameter(None, "Lowest value of --select.")
    maxval: float | None = parameter(None, "Highest value of --select.")
    select_by_str: str = parameter("", "Column of texts that --select_include and --select_exclude are about.")
    select_include: str = parameter("", "Text that must be in --select_by_str.")
    select_exclude: str = parameter("", "Text that must not be in --select_by_str.")
    unique: str = parameter("", "Keep the first of the rows that share a value of this column.")
    random: int = parameter(0, "Keep this many rows, drawn at random, in their old order; 0: all.", ge=0)
    random_seed: int = parameter(1, "Seed of --random.", expert=True)


def run(parameters: StarSelectParameters, context: Context) -> None:
    """Select."""
    source = read_table(parameters.input, parameters.block)
    sieve = _Rows(source, context.recorder)
    _check(parameters)
    _apply(sieve, parameters)
    source.write(parameters.output, sieve.table, context.command)
    context.recorder.event("text", text=written(parameters.output, f"{len(sieve.table)} of {len(source.table)} rows"))


def _check(parameters: StarSelectParameters) -> None:
    wants_text = bool(parameters.select_include or parameters.select_exclude)
    if wants_text != bool(parameters.select_by_str):
        raise InputError("--select_by_str, a column, goes with --select_include or --select_exclude, a text")
    if not parameters.select and (parameters.minval is not None or parameters.maxval is not None):
        raise InputError("--minval and --maxval need --select, the column they are bounds of")
    given = (parameters.where, parameters.ranges, parameters.select, wants_text, parameters.unique, parameters.random)
    if not any(given):
        raise InputError(
            "nothing to select by: give --where, --ranges, --select, --select_by_str, --unique or --random"
        )


class _Rows:
    """Rows that pass condition after condition."""

    def __init__(self, source: StarTable, recorder: Recorder) -> None:
        self.source, self.recorder = source, recorder
        self.table: Table = source.table

    def keep(self, what: str, mask: Any) -> None:
        """Drop the rows a condition does not want, and report; InputError if none would be left."""
        kept = int(mask.sum())
        self.recorder.event("text", text=f"{what}: {kept} kept, {len(mask) - kept} dropped")
        if not kept:
            raise InputError(
                f"{self.source.name}: no row is left after '{what}' ({len(mask)} before it); nothing was written"
            )
        self.table = self.table.rows(mask)


def _apply(rows: _Rows, parameters: StarSelectParameters) -> None:
    import numpy as np

    from vitrea.jobs.select_criteria import checked_range, parse_range
    from vitrea.selection.criteria import contains_text, first_of_each, in_range
    from vitrea.selection.subsets import random_rows
    from vitrea.tables.expression import evaluate_mask

    source = rows.source
    for condition in parameters.where:
        rows.keep(condition, source.checked(evaluate_mask, condition, rows.table, option="--where"))
    ranges = [parse_range(text) for text in parameters.ranges]
    if parameters.select:
        ranges.append(checked_range("--select", parameters.select, parameters.minval, parameters.maxval))
    for wanted in ranges:
        label, _ = source.numbers(wanted.label, f"the range {wanted}")
        rows.keep(str(wanted), in_range(rows.table.numbers(label), wanted.minimum, wanted.maximum))
    if parameters.select_by_str:
        label = source.column(parameters.select_by_str, "--select_by_str")
        include, exclude = parameters.select_include, parameters.select_exclude
        words = [f"with '{include}'"] if include else []
        words += [f"without '{exclude}'"] if exclude else []
        column = np.asarray(rows.table[label], dtype=object)
        rows.keep(f"{label} {' and '.join(words)}", contains_text(column, include, exclude))
    if parameters.unique:
        label = source.column(parameters.unique, "--unique")
        rows.keep(f"each {label} once", first_of_each(rows.table[label]))
    if parameters.random:
        mask = np.zeros(len(rows.table), dtype=bool)
        mask[random_rows(len(mask), parameters.random, parameters.random_seed)] = True
        rows.keep(f"random {parameters.random}", mask)


JOB = Job(
    name="star select",
    summary="Keep the rows of a STAR file that meet conditions on their columns.",
    parameters=StarSelectParameters,
    run=run,
    examples=(
        "vitrea star select particles.star good.star --where \"DefocusU < 20000 and MicrographName.contains('mic1')\"",
        "vitrea star select particles.star --select rlnClassNumber --minval 1 --maxval 2 --o classes12.star",
        'vitrea star select particles.star --where "ClassNumber in (1, 3)" | vitrea star print - ImageName ClassNumber',
    ),
    writes_to_stdout=writes_to_stdout,
)
