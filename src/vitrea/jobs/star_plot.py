"""``vitrea star plot``: columns of a STAR file against each other."""

from __future__ import annotations

from pathlib import Path

from vitrea.jobs.base import Context, Job, parameter
from vitrea.jobs.star_files import StarParameters, StarTable, read_table, writes_to_stdout
from vitrea.jobs.star_plot_files import write_plot
from vitrea.records.errors import InputError


class StarPlotParameters(StarParameters):
    """Plot columns of a STAR file, as text in the terminal or as a picture.

    The first column is the horizontal axis, the others are drawn against it; one column alone is drawn against the
    number of the row. A column is given by name or as an expression, as in vitrea star print. As
    relion_star_plottable does, a first word data_model_class_1 names the table; that command, however, gives the
    vertical axis first.
    """

    columns: list[str] = parameter([], "Columns, or expressions of them.", positional=True)
    output: Path = parameter(
        Path("-"), "Picture (.png or .html) or text file to write; - is the terminal.", options=["--o"]
    )
    where: str = parameter("", "Only rows that meet this condition: ClassNumber == 1.")
    lines: bool = parameter(False, "Join the points, in the order of the rows.")
    width: int = parameter(72, "Characters across, for text.", ge=10, expert=True)
    height: int = parameter(20, "Lines, for text.", ge=4, expert=True)


def run(parameters: StarPlotParameters, context: Context) -> None:
    """Plot."""
    import numpy as np

    from vitrea.tables.expression import evaluate_mask

    names, block = list(parameters.columns), parameters.block
    if names and names[0].startswith("data_"):
        block = names.pop(0)
    if not names:
        raise InputError("which columns? give one, or that of the horizontal axis and then others")
    source = read_table(parameters.input, block)
    table = source.table
    if parameters.where:
        table = table.rows(source.checked(evaluate_mask, parameters.where, table, option="--where"))
    if not len(table):
        raise InputError(f"{source.name}: there are no rows to plot")
    columns = [_numbers(source, table, name) for name in names]
    if len(columns) == 1:
        names, columns = ["row", *names], [np.arange(1.0, len(table) + 1), *columns]
    names = [name.removeprefix("_") for name in names]

    def text() -> str:
        from vitrea.report.terminal import text_scatter

        return text_scatter(columns[0], columns[1:], names[1:], names[0], parameters.width, parameters.height)

    def figure():  # type: ignore[no-untyped-def]  # matplotlib stays unloaded until it is needed
        from vitrea.report.figures import column_plot

        return column_plot(columns[0], columns[1:], names[1:], names[0], lines=parameters.lines)

    title = f"{', '.join(names[1:])} against {names[0]}: {source.name}"
    write_plot(parameters.output, text, figure, title, context.command)
    if parameters.output != Path("-"):
        context.recorder.event("text", text=f"{parameters.output}: {len(table)} rows")


def _numbers(source: StarTable, table, expression: str):  # type: ignore[no-untyped-def]
    """Return the values of a column or expression; InputError where it holds text."""
    import numpy as np

    from vitrea.tables.expression import evaluate

    values = source.checked(evaluate, expression, table)
    if values.dtype == object:
        raise InputError(f"{expression} of {source.name} holds text, which cannot be plotted")
    return np.asarray(values, dtype=np.float64)


JOB = Job(
    name="star plot",
    summary="Plot columns of a STAR file in the terminal, or as PNG or HTML.",
    parameters=StarPlotParameters,
    run=run,
    examples=(
        "vitrea star plot particles.star DefocusU",
        "vitrea star plot particles.star CoordinateX CoordinateY --where \"MicrographName.contains('mic1')\"",
        "vitrea star plot refined.star AngleRot AngleTilt --o angles.png",
        'vitrea star plot particles.star DefocusU DefocusV "DefocusU - DefocusV" --o defocus.html',
    ),
    writes_to_stdout=writes_to_stdout,
)
