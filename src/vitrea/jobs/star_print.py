"""``vitrea star print``: columns of a STAR file as plain text."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from vitrea.jobs.base import Context, Job, parameter
from vitrea.jobs.star_files import StarParameters, read_table, writes_to_stdout
from vitrea.records.errors import InputError

_SEPARATORS = {"blank": " ", "tab": "\t", "comma": ","}


class StarPrintParameters(StarParameters):
    """Print columns of a STAR file, one row a line, for awk, sort, a spreadsheet or the eye.

    A column is given by name (rlnDefocusU, or DefocusU) or as an expression: (DefocusU + DefocusV) / 20000. All columns
    are printed where none is given. As relion_star_printtable does, a first word data_particles names the table.
    """

    columns: list[str] = parameter([], "Columns, or expressions of them; all by default.", positional=True)
    output: Path = parameter(Path("-"), "Text file to write; - is standard output.", options=["--o"])
    where: str = parameter("", "Only rows that meet this condition: ClassNumber == 1.")
    head: int = parameter(0, "Only this many rows from the first on; 0: all.", ge=0)
    header: bool = parameter(False, "Print the names of the columns first.")
    separator: Literal["blank", "tab", "comma"] = parameter(
        "blank", "What stands between columns; with comma, texts are quoted as spreadsheets expect."
    )


def run(parameters: StarPrintParameters, context: Context) -> None:
    """Print."""
    from vitrea.formats.streams import text_output
    from vitrea.formats.table_text import write_table_text
    from vitrea.jobs.map_inputs import make_folder
    from vitrea.records.table import Table
    from vitrea.tables.expression import evaluate, evaluate_mask

    columns, block = list(parameters.columns), parameters.block
    if columns and columns[0].startswith("data_"):
        if block:
            raise InputError(f"the table is given twice: --block {block} and {columns[0]}")
        block = columns.pop(0)
    source = read_table(parameters.input, block)
    table = source.table
    if parameters.where:
        table = table.rows(source.checked(evaluate_mask, parameters.where, table, option="--where"))
    if parameters.head:
        table = table.rows(slice(parameters.head))
    if columns:
        table = Table({name.removeprefix("_"): source.checked(evaluate, name, table) for name in columns})
    make_folder(parameters.output)
    with text_output(parameters.output) as file:
        write_table_text(file, table, _SEPARATORS[parameters.separator], header=parameters.header)


JOB = Job(
    name="star print",
    summary="Print columns of a STAR file, or expressions of them, as plain text.",
    parameters=StarPrintParameters,
    run=run,
    examples=(
        "vitrea star print particles.star rlnMicrographName rlnDefocusU",
        'vitrea star print particles.star MicrographName "(DefocusU + DefocusV) / 20000" --where "ClassNumber == 1"',
        "vitrea star print particles.star data_optics --header",
        "vitrea star print particles.star --separator comma --header --o particles.csv",
    ),
    writes_to_stdout=writes_to_stdout,
)
