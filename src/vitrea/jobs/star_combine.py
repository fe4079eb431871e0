"""``vitrea star combine``: several STAR files as one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from vitrea.jobs.base import Context, Job, JobParameters, parameter
from vitrea.jobs.star_files import StarTable, read_table, writes_to_stdout, written
from vitrea.records.errors import InputError

if TYPE_CHECKING:
    from vitrea.formats.star import Block
    from vitrea.records.recorder import Recorder
    from vitrea.records.table import Table


class StarCombineParameters(JobParameters):
    """Put the tables of several STAR files one behind the other.

    Optics groups that agree in everything, name included, become one; the others are numbered anew, in the rows, too.
    Files with and without optics groups do not mix: bring them to one dialect with vitrea star convert first. Other
    blocks are those of the first file.
    """

    input: tuple[Path, ...] = parameter(
        ..., "STAR files; a name may hold wildcards, or several names in quotes.", options=["--i"], positional=True
    )
    output: Path = parameter(Path("-"), "STAR file to write; - is standard output.", options=["--o"])
    block: str = parameter("", "Table to combine; the main one by default.", options=["--table"])
    missing: Literal["drop", "fill", "refuse"] = parameter(
        "drop", "Columns that not all files have: leave out, fill with 0 or empty text, or stop."
    )
    check_duplicates: str = parameter(
        "", "Keep only the first of the rows that share a value of this column: rlnImageName."
    )


def run(parameters: StarCombineParameters, context: Context) -> None:
    """Combine."""
    from vitrea.jobs.select_inputs import expand_names
    from vitrea.selection.criteria import first_of_each
    from vitrea.tables.combining import combine_tables

    paths = [path for name in parameters.input for path in expand_names(name)]
    sources = [read_table(path, parameters.block) for path in paths]
    first = sources[0]
    tables, blocks = _with_joined_optics(sources)
    combined = first.checked(combine_tables, tables, parameters.missing, option="--missing")
    _report(combined.incomplete, parameters.missing, context.recorder)
    table = combined.table
    if parameters.check_duplicates:
        label = first.column(parameters.check_duplicates, "--check_duplicates")
        if label not in table:
            raise InputError(f"--check_duplicates: not all files have the column {label}")
        mask = first_of_each(table[label])
        context.recorder.event("text", text=f"each {label} once: {int((~mask).sum())} duplicates dropped")
        table = table.rows(mask)
    first.write_blocks(parameters.output, {**blocks, first.block: table}, context.command)
    sizes = " + ".join(str(len(source.table)) for source in sources)
    context.recorder.event("text", text=written(parameters.output, f"{len(table)} rows of {sizes}"))


def _with_joined_optics(sources: Sequence[StarTable]) -> tuple[list[Table], dict[str, Block]]:
    """Return the tables with their optics groups numbered in common, and the blocks of the file to write."""
    from vitrea.formats.optics_groups import GROUP
    from vitrea.formats.particle_files import block_as_table
    from vitrea.tables.combining import join_optics

    blocks = dict(sources[0].content.blocks)
    tables = [source.table for source in sources]
    with_groups = [source for source in sources if "optics" in source.content.blocks]
    if not with_groups or sources[0].block == "optics":
        return tables, blocks
    if len(with_groups) < len(sources):
        flat = next(source.name for source in sources if source not in with_groups)
        raise InputError(f"{flat} has no data_optics, {with_groups[0].name} has; convert one: vitrea star convert")
    for source in sources:
        if GROUP not in source.table or GROUP not in block_as_table(source.content.blocks["optics"]):
            raise InputError(f"{source.name} has a data_optics block, but lacks the column {GROUP}")
    optics = [block_as_table(source.content.blocks["optics"]) for source in sources]
    try:
        tables, blocks["optics"] = join_optics(tables, optics)
    except ValueError as error:
        raise InputError(f"{', '.join(source.name for source in sources)}: {error}") from None
    return tables, blocks


def _report(incomplete: Sequence[str], missing: str, recorder: Recorder) -> None:
    if incomplete:
        what = "left out" if missing == "drop" else "filled with 0 or empty text"
        recorder.warn(f"{what}, since not all files have them: {', '.join(incomplete)}")


JOB = Job(
    name="star combine",
    summary="Put the tables of several STAR files one behind the other, optics groups merged.",
    parameters=StarCombineParameters,
    run=run,
    ignored_options={"--combine": "that is what this does"},
    examples=(
        "vitrea star combine particles.star more.star --o all.star --check_duplicates rlnImageName",
        'vitrea star combine --i "particles.star more.star" --o all.star',
    ),
    writes_to_stdout=writes_to_stdout,
)
