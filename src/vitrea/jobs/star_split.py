"""``vitrea star split``: a STAR file in parts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from vitrea.jobs.base import Context, Job, parameter
from vitrea.jobs.star_files import StarParameters, StarTable, read_table
from vitrea.records.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class StarSplitParameters(StarParameters):
    """Divide a table into several files, each with all the other blocks.

    Parts are named as RELION names them: particles_split1.star, particles_split2.star ... With --by there is one file
    for each value of a column, named by it: particles_class1.star.
    """

    output: Path = parameter(Path("split.star"), "Name the parts' names are made of.", options=["--o"], positional=True)
    nr_split: int = parameter(-1, "Number of parts of equal size.")
    size_split: int = parameter(-1, "Rows of a part; with --nr_split, no more parts than that.")
    random_order: bool = parameter(False, "Shuffle the rows first.")
    random_seed: int = parameter(1, "Seed of --random_order.", expert=True)
    by: str = parameter("", "Column: one file for each of its values.")


def run(parameters: StarSplitParameters, context: Context) -> None:
    """Split."""
    source = read_table(parameters.input, parameters.block)
    if bool(parameters.by) == (parameters.nr_split > 0 or parameters.size_split > 0):
        raise InputError("give --nr_split, --size_split or both, or else --by: how many parts, how large, or by what?")
    parts = _by_value(source, parameters) if parameters.by else _by_size(source, parameters)
    for path, rows in parts:
        source.write(path, source.table.rows(rows), context.command)
        context.recorder.event("text", text=f"{path}: {len(rows)} of {len(source.table)} rows")


def _by_size(source: StarTable, parameters: StarSplitParameters) -> list[tuple[Path, NDArray[np.int64]]]:
    from vitrea.jobs.select_files import part_paths
    from vitrea.selection.subsets import split_rows

    seed = parameters.random_seed if parameters.random_order else None
    sizes = (max(0, parameters.nr_split), max(0, parameters.size_split))
    rows = source.checked(split_rows, len(source.table), *sizes, seed, option="--nr_split and --size_split")
    return list(zip(part_paths(parameters.output, len(rows)), rows, strict=True))


def _by_value(source: StarTable, parameters: StarSplitParameters) -> list[tuple[Path, NDArray[np.int64]]]:
    import re

    import numpy as np

    from vitrea.records.table import distinct

    label = source.column(parameters.by, "--by")
    names, codes = distinct(source.table[label])
    output = parameters.output
    paths = [
        output.with_name(f"{output.stem}_{re.sub('[^A-Za-z0-9.+-]+', '_', name)}{output.suffix}") for name in names
    ]
    if len(set(paths)) < len(paths):
        raise InputError(f"--by {label}: two of its values would give one file name, {_twice(paths)}")
    return [(path, np.flatnonzero(codes == code)) for code, path in enumerate(paths)]


def _twice(paths: list[Path]) -> Path:
    return next(path for path in paths if paths.count(path) > 1)


JOB = Job(
    name="star split",
    summary="Divide a STAR file into parts of equal size, at random, or by a column.",
    parameters=StarSplitParameters,
    run=run,
    ignored_options={"--split": "that is what this does"},
    examples=(
        "vitrea star split particles.star part.star --nr_split 2 --random_order",
        "vitrea star split --i particles.star --o part.star --size_split 4",
        "vitrea star split particles.star class.star --by rlnClassNumber",
    ),
)
