"""What the jobs of ``vitrea star`` share: reading one table of a STAR file, and writing the file with it changed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from vitrea.formats.particle_files import block_as_table
from vitrea.formats.star import Block, StarContent, read_star_content, write_star
from vitrea.formats.streams import STREAM, display_name, is_stream
from vitrea.jobs.base import JobParameters, parameter
from vitrea.jobs.map_inputs import make_folder
from vitrea.records.errors import InputError
from vitrea.records.table import Table

T = TypeVar("T")

# Blocks that describe the others, and the order in which the others are looked for.
_SUPPORTING = ("optics", "general", "job", "model_general", "pipeline_general")
_PREFERRED = ("particles", "micrographs", "movies", "images", "", "coordinate_files", "model_classes")


class StarParameters(JobParameters):
    """What all jobs on one STAR file take."""

    input: Path = parameter(..., "STAR file to read; - is standard input.", options=["--i"], positional=True)
    block: str = parameter(
        "",
        "Table to work on: particles, data_optics ... By default particles, micrographs or movies, or the only table.",
        options=["--table"],
    )


def output_parameter(what: str = "STAR file to write") -> Any:
    """Declare the output that goes to standard output unless a file is named."""
    return parameter(Path(STREAM), f"{what}; - is standard output.", options=["--o"], positional=True)


def writes_to_stdout(parameters: Any) -> bool:
    """Tell whether the result goes to standard output (`Job.writes_to_stdout`)."""
    return is_stream(parameters.output)


@dataclass(frozen=True)
class StarTable:
    """One table of a STAR file, and the file around it.

    Attributes
    ----------
    name : str
        The file, for messages.
    content : StarContent
    block : str
        Name of the table's block.
    table : Table
    """

    name: str
    content: StarContent
    block: str
    table: Table

    def checked(self, action: Callable[..., T], *arguments: Any, option: str = "") -> T:
        """Call an algorithm; its ValueError becomes an InputError that names the file and the option."""
        try:
            return action(*arguments)
        except ValueError as error:
            where = f"{option}: " if option else ""
            raise InputError(f"{where}{error} (in data_{self.block} of {self.name})") from None

    def column(self, typed: str, option: str) -> str:
        """Return the column that a name means; InputError if there is none."""
        from vitrea.tables.names import find_column

        return self.checked(find_column, typed, self.table.columns, option=option)

    def numbers(self, typed: str, option: str) -> tuple[str, Any]:
        """Return the name and the numbers of a column; InputError if it is not there or holds text."""
        label = self.column(typed, option)
        try:
            return label, self.table.numbers(label)
        except ValueError:
            raise InputError(f"{option}: {label} of {self.name} holds text, not numbers") from None

    def write(self, output: Path, table: Table, comment: str) -> None:
        """Write the file with the table changed, all else as it was."""
        self.write_blocks(output, {**self.content.blocks, self.block: self.as_before(table)}, comment)

    def write_blocks(self, output: Path, blocks: dict[str, Block], comment: str) -> None:
        """Write blocks with the note of the version that the file had."""
        make_folder(output)
        write_star(output, blocks, comment, self.content.version, exact=True)

    def as_before(self, table: Table) -> Block:
        """Return a table in the form of its block: with or without a loop."""
        if isinstance(self.content.blocks[self.block], Table) or len(table) != 1:
            return table
        return {label: column.tolist()[0] for label, column in table.columns.items()}


def read_table(path: Path, block: str = "") -> StarTable:
    """Read a STAR file and choose a table.

    Parameters
    ----------
    path : Path
        ``-`` is standard input.
    block : str
        Its name, with or without ``data_``; empty: the file's main table.

    Raises
    ------
    InputError
        If the file cannot be read, has no such table, or it is not clear which is meant.
    """
    content = read_star_content(path)
    name = choose_block(content.blocks, block, display_name(path))
    return StarTable(display_name(path), content, name, block_as_table(content.blocks[name]))


def choose_block(blocks: dict[str, Block], wanted: str, source: str) -> str:
    """Return the name of the block that is meant; InputError, naming all, where that is not clear."""
    there = _list_blocks(list(blocks))
    if wanted:
        bare = wanted.removeprefix("data_")
        if bare not in blocks:
            raise InputError(f"{source} has no block data_{bare}; it has {there}")
        return bare
    loops = [name for name, block in blocks.items() if isinstance(block, Table) and name not in _SUPPORTING]
    for name in _PREFERRED:
        if name in loops:
            return name
    choice = loops or [name for name in blocks if name not in _SUPPORTING] or list(blocks)
    if len(choice) != 1:
        raise InputError(f"{source} has several tables; name one with --block: {there}")
    return choice[0]


def _list_blocks(names: Sequence[str]) -> str:
    shown = ", ".join(f"data_{name}" for name in names[:12])
    return f"{shown} and {len(names) - 12} more" if len(names) > 12 else shown


def written(output: Path, what: str) -> str:
    """Return the line that tells what was written where."""
    return f"{display_name(output, output=True)}: {what}"
