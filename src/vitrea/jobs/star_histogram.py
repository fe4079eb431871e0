"""``vitrea star histogram``: how the values of a column are distributed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from vitrea.jobs.base import Context, Job, parameter
from vitrea.jobs.star_files import StarParameters, StarTable, read_table, writes_to_stdout
from vitrea.jobs.star_plot_files import write_plot
from vitrea.records.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from vitrea.records.table import Table
    from vitrea.tables.statistics import Histogram, Summary

_MOST_TEXTS = 30


class StarHistogramParameters(StarParameters):
    """Show statistics and a histogram of a column, as text in the terminal or as a picture.

    A column of texts is counted by its values, the most frequent first. Bins are chosen by the rule of Freedman and
    Diaconis unless their number is given; columns of few whole numbers, such as classes, get a bin for each.
    """

    column: str = parameter(
        "", "Column, or an expression of columns.", options=["--hist_column", "--stat_column"], positional=True
    )
    output: Path = parameter(
        Path("-"), "Picture (.png or .html) or text file to write; - is the terminal.", options=["--o"]
    )
    where: str = parameter("", "Only rows that meet this condition: ClassNumber == 1.")
    hist_bins: int = parameter(0, "Number of bins; 0: chosen.", ge=0)
    hist_min: float | None = parameter(None, "Lowest edge.")
    hist_max: float | None = parameter(None, "Highest edge.")
    in_percent: bool = parameter(False, "Show per cent instead of numbers.")
    show_cumulative: bool = parameter(False, "Show how much there is up to each bin.")


def run(parameters: StarHistogramParameters, context: Context) -> None:
    """Draw."""
    from vitrea.tables.expression import evaluate, evaluate_mask

    if not parameters.column:
        raise InputError("which column? give its name after the file's")
    source = read_table(parameters.input, parameters.block)
    table = source.table
    if parameters.where:
        table = table.rows(source.checked(evaluate_mask, parameters.where, table, option="--where"))
    values = source.checked(evaluate, parameters.column, table)
    name = parameters.column.removeprefix("_")
    if values.dtype == object:
        _write_counts(parameters, source, table, values, context.command)
    else:
        _write_histogram(parameters, source, values, name, context.command)


def _write_histogram(
    parameters: StarHistogramParameters, source: StarTable, values: NDArray[np.float64], name: str, command: str
) -> None:
    from vitrea.tables.statistics import histogram, summarize

    bounds = (parameters.hist_bins, parameters.hist_min, parameters.hist_max)
    counted = source.checked(histogram, values, *bounds, option=name)
    summary = summarize(values)

    def figure() -> Figure:
        from vitrea.report.figures import binned_histogram

        shown, unit = _shown(counted, summary.count, parameters)
        return binned_histogram(counted.edges, shown, name, unit)

    def text() -> str:
        return "\n".join([_statistics(name, summary), *_bars(counted, summary.count, parameters)])

    write_plot(parameters.output, text, figure, f"{name}: {source.name}", command)


def _shown(counted: Histogram, total: int, parameters: StarHistogramParameters) -> tuple[NDArray[np.float64], str]:
    """Return the heights of the bars, and their unit."""
    import numpy as np

    numbers = counted.counts.astype(np.float64)
    if parameters.show_cumulative:
        numbers = counted.below + np.cumsum(numbers)
    return (100.0 * numbers / max(total, 1), "percent") if parameters.in_percent else (numbers, "number")


def _statistics(name: str, summary: Summary) -> str:
    missing = f", {summary.missing} not finite" if summary.missing else ""
    return (
        f"{name}: {summary.count} values{missing}\n"
        f"min {summary.minimum:.6g}  Q1 {summary.lower_quartile:.6g}  median {summary.median:.6g}  "
        f"Q3 {summary.upper_quartile:.6g}  max {summary.maximum:.6g}\n"
        f"mean {summary.mean:.6g}  std {summary.deviation:.6g}"
    )


def _bars(counted: Histogram, total: int, parameters: StarHistogramParameters) -> list[str]:
    from itertools import pairwise

    from vitrea.report.terminal import text_bars

    shown, unit = _shown(counted, total, parameters)
    notes = [f"{value:.2f}%" if unit == "percent" else f"{value:.0f}" for value in shown.tolist()]
    edges = [f"{edge:.6g}" for edge in counted.edges.tolist()]
    lines = [text_bars([f"{low} - {high}" for low, high in pairwise(edges)], shown.tolist(), notes)]
    outside = [(counted.below, f"below {edges[0]}"), (counted.above, f"above {edges[-1]}")]
    return lines + [f"{number} {where}" for number, where in outside if number]


def _write_counts(
    parameters: StarHistogramParameters, source: StarTable, table: Table, values: NDArray[np.object_], command: str
) -> None:
    """Count the values of a column of texts."""
    from collections import Counter

    from vitrea.report.terminal import text_bars

    if parameters.output.suffix.lower() in (".png", ".html"):
        raise InputError(f"{parameters.column} of {source.name} holds text, of which there is no picture")
    counts = Counter(values.tolist()).most_common()
    shown = counts[:_MOST_TEXTS]
    notes = [f"{100 * number / len(table):.2f}%" if parameters.in_percent else str(number) for _, number in shown]
    lines = [f"{parameters.column.removeprefix('_')}: {len(table)} texts, {len(counts)} different"]
    lines.append(text_bars([text for text, _ in shown], [number for _, number in shown], notes))
    lines += [f"and {len(counts) - len(shown)} more"] if len(counts) > len(shown) else []

    def figure() -> Figure:
        raise AssertionError("texts have no picture")  # pragma: no cover

    write_plot(parameters.output, lambda: "\n".join(lines), figure, source.name, command)


JOB = Job(
    name="star histogram",
    summary="Show statistics and a histogram of a column of a STAR file.",
    parameters=StarHistogramParameters,
    run=run,
    examples=(
        "vitrea star histogram particles.star DefocusU --hist_bins 10",
        "vitrea star histogram --i particles.star --hist_column rlnClassNumber --in_percent",
        "vitrea star histogram particles.star rlnMicrographName",
        "vitrea star histogram particles.star DefocusU --o defocus.png",
    ),
    writes_to_stdout=writes_to_stdout,
)
