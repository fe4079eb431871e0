"""STAR files, every dialect that programs for cryo-EM write.

The format: Hall (1991) doi:10.1021/ci00002a020, as RELION uses it: one value a column and one row a line. Read are flat
files (RELION 1.x to 3.0), optics groups (3.1 and later), any number of blocks, quoted values, comments, rows ended
by any kind of line break.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import numpy as np

from vitrea.formats.star_text import StarText
from vitrea.formats.star_values import (
    NUMBER_WIDTH,
    Column,
    Value,
    format_rows,
    format_value,
    parse_column,
    parse_value,
    split_words,
)
from vitrea.formats.streams import text_output
from vitrea.records.errors import InputError
from vitrea.records.table import Table

Block = Table | dict[str, Value]

RELION_VERSION = 30001  # of the metadata: optics groups, shifts in Å

_ROWS_PER_WRITE = 5_000
_VERSION = re.compile(r"#\s*version\s+(\d+)\s*$")


@dataclass(frozen=True)
class StarContent:
    """All that a STAR file says.

    Attributes
    ----------
    blocks : dict of str to Table or dict
        As `read_star` returns them.
    version : int or None
        What its first ``# version`` line says: RELION takes a file without it for one from before optics groups.
    """

    blocks: dict[str, Block]
    version: int | None


def read_star(
    path: str | Path, blocks: Collection[str] | None = None, columns: Collection[str] | None = None
) -> dict[str, Block]:
    """Read a STAR file.

    The file is read piece by piece, so that what it takes is the tables alone; words that come again and again
    (names of micrographs) are kept once.

    Parameters
    ----------
    path : str or Path
        The file; ``-`` is standard input.
    blocks : collection of str, optional
        Names of the blocks wanted; others are skipped. All by default.
    columns : collection of str, optional
        Labels of the columns wanted of loops; others are skipped. All by default.

    Returns
    -------
    dict of str to Table or dict
        By block name without ``data_``, in the file's order: a Table for a loop (of one row, too), a dict of
        values for a block without a loop. A name that returns, or a second loop in a block, gets ``_2``, ``_3`` ...
        Known labels have the type of the label registry (text stays text: ``001``), others are inferred.

    Raises
    ------
    InputError
        If the file is missing, is not STAR, or a row has too few or too many values (names the line).
    """
    return read_star_content(path, blocks, columns).blocks


def read_star_content(
    path: str | Path, blocks: Collection[str] | None = None, columns: Collection[str] | None = None
) -> StarContent:
    """Read a STAR file with the version that its writer noted; arguments and errors are those of `read_star`."""
    with StarText(Path(path)) as text:
        reader = _Reader(text, blocks, columns)
        found = reader.read()
    if not reader.saw_block:
        raise InputError(f"{text.path} is not a STAR file: it has no line that begins with data_")
    return StarContent(found, reader.version)


@dataclass
class _Reader:
    """Walks through the text of one file, line by line outside loops and piece by piece inside."""

    text: StarText
    wanted: Collection[str] | None
    columns: Collection[str] | None
    saw_block: bool = False
    version: int | None = None

    def read(self) -> dict[str, Block]:
        found: dict[str, Block] = {}
        name = ""
        pairs: dict[str, Value] = {}

        def keep(block: Block) -> None:
            if self.wanted is None or name in self.wanted:
                found[_free_name(name, found)] = block

        is_open = False  # a block has begun that has no entry in `found` yet
        while (line := self.text.next_line()) is not None:
            words = split_words(line)
            if not words and self.version is None and (noted := _VERSION.match(line)):
                self.version = int(noted.group(1))
            head = words[0].lower() if words else ""
            if head.startswith("data_") and len(words) == 1:
                if is_open:
                    keep(pairs)
                name, pairs, is_open, self.saw_block = words[0][5:], {}, True, True
            elif head == "loop_":
                if pairs:
                    keep(pairs)
                pairs, is_open = {}, False
                keep(self._read_loop(skip=self.wanted is not None and name not in self.wanted))
            elif head.startswith("_"):
                pairs[words[0][1:]] = parse_value(words[0][1:], " ".join(words[1:]))
                is_open = True
            elif words and self.saw_block:
                raise InputError(f"{self._here()}: {line.strip()[:60]!r} belongs to no label")
        if is_open and self.saw_block:
            keep(pairs)
        return found

    def _here(self) -> str:
        return f"{self.text.path} line {self.text.line_number()}"

    def _read_labels(self) -> list[str]:
        labels: list[str] = []
        while True:
            line = self.text.next_line()
            words = split_words(line) if line is not None else ["end"]
            if words and words[0].startswith("_") and len(words) == 1:
                labels.append(words[0][1:])
            elif words:
                if line is not None:
                    self.text.step_back()
                return labels

    def _read_loop(self, skip: bool) -> Table:
        labels = self._read_labels()
        if len(set(labels)) < len(labels):
            twice = next(label for label in labels if labels.count(label) > 1)
            raise InputError(f"{self.text.path}: a loop has the column _{twice} twice; remove one")
        if not labels:
            raise InputError(f"{self._here()}: a loop_ without labels")
        start = self.text.mark()
        as_text: set[str] = set()
        while True:
            self.text.go_back(start)
            parts: dict[str, list[Column]] = {
                label: [] for label in labels if self.columns is None or label in self.columns
            }
            for rows in self._row_chunks(len(labels)):
                if skip:
                    continue
                for label, words in zip(labels, zip(*rows, strict=True), strict=True):
                    if label in parts:
                        parts[label].append(parse_column(label, words, label in as_text))
            # A column that turns to text late in the file is text from its first row: read once more.
            mixed = {label for label, part in parts.items() if {piece.dtype.kind for piece in part} > {"O"}}
            if not mixed:
                # The pieces of a column go as soon as it is whole.
                return Table({label: _join(label, parts.pop(label)) for label in list(parts)})
            as_text |= mixed

    def _row_chunks(self, columns: int) -> Iterator[list[list[str]]]:
        """Yield rows of words from the present position to the end of the loop."""
        while chunk := self.text.rest_of_piece():
            block = chunk.find("\ndata_")
            chunk = chunk if block < 0 else chunk[: block + 1]
            rows, used = _plain_rows(chunk), len(chunk)
            if rows is None:
                rows, used = _careful_rows(chunk, columns)
            if set(map(len, rows)) - {columns}:
                raise self._bad_row(chunk, columns)
            self.text.skip(used)
            if rows:
                yield rows
            if used < len(chunk):
                return

    def _bad_row(self, chunk: str, columns: int) -> InputError:
        before = self.text.line_number()
        for number, line in enumerate(chunk.split("\n"), start=before + 1):
            count = len(split_words(line))
            if count not in (0, columns):
                return InputError(
                    f"{self.text.path} line {number}: {count} values where the loop has {columns} columns; "
                    "values with spaces need quotes"
                )
        raise AssertionError("no bad row")  # pragma: no cover


def _plain_rows(chunk: str) -> list[list[str]] | None:
    """Split rows quickly; None where quotes, comments or what looks like the end of the loop need more care."""
    if '"' in chunk or "'" in chunk or "#" in chunk:
        return None
    rows = list(filter(None, map(str.split, chunk.split("\n"))))
    firsts = " " + " ".join([row[0] for row in rows]).lower()
    return None if any(mark in firsts for mark in (" _", " data_", " loop_")) else rows


def _careful_rows(chunk: str, columns: int) -> tuple[list[list[str]], int]:
    """Split rows line by line; also return how many characters belong to the loop."""
    rows: list[list[str]] = []
    used = 0
    for line in chunk.split("\n"):
        words = split_words(line)
        if words and _ends_loop(words, line, columns):
            return rows, used
        if words:
            rows.append(words)
        used += len(line) + 1
    return rows, len(chunk)


def _ends_loop(words: Sequence[str], line: str, columns: int) -> bool:
    first = words[0]
    if first[:5].lower() in ("data_", "loop_"):
        return len(words) == 1 and line.lstrip()[0] not in "\"'"
    # A row may begin with a file name that begins with an underscore; a label has one value at most.
    return first.startswith("_") and line.lstrip()[0] == "_" and (len(words) != columns or columns <= 2)


def _join(label: str, parts: list[Column]) -> Column:
    return np.concatenate(parts) if parts else parse_column(label, [])


def _free_name(name: str, taken: Collection[str]) -> str:
    if name not in taken:
        return name
    number = 2
    while f"{name}_{number}" in taken:
        number += 1
    return f"{name}_{number}"


def write_star(
    path: str | Path,
    blocks: Mapping[str, Table | Mapping[str, object]],
    comment: str = "",
    version: int | None = RELION_VERSION,
    *,
    exact: bool = False,
    numbered: bool = True,
) -> None:
    """Write a STAR file in RELION's look, whole or not at all.

    Parameters
    ----------
    path : str or Path
        The file; replaced if it exists. ``-`` is standard output.
    blocks : mapping of str to Table or mapping
        By block name without ``data_``: tables become loops, mappings become one line a value.
    comment : str
        Lines to put first, each behind ``#``.
    version : int or None
        Of the metadata, noted before each block: RELION takes a file without it for one from before optics groups.
    exact : bool
        Write floats with all digits they need. Otherwise they are kept to 5e-10 of their value.
    numbered : bool
        Write the number of each column behind its label, as RELION does.

    Raises
    ------
    InputError
        If the file cannot be written, or a text holds what STAR cannot (a line break).
    """
    with text_output(path) as file:
        file.writelines(f"# {line}\n" for line in comment.splitlines())
        for name, block in blocks.items():
            note = "" if version is None else f"\n# version {version}\n"
            file.write(f"{note}\ndata_{name}\n\n")
            try:
                if isinstance(block, Table):
                    _write_loop(file, block, exact, numbered)
                else:
                    _write_pairs(file, block, exact)
            except ValueError as error:
                raise InputError(f"cannot write {path}, block data_{name}: {error}") from error
            file.write("\n")


def _write_pairs(file: TextIO, values: Mapping[str, object], exact: bool) -> None:
    width = max((len(label) for label in values), default=0) + 1
    file.writelines(
        f"_{label:<{width}} {format_value(value, exact):>{NUMBER_WIDTH}}\n" for label, value in values.items()
    )


def _write_loop(file: TextIO, table: Table, exact: bool, numbered: bool) -> None:
    if not table.columns:
        raise ValueError("a table without columns")
    file.write("loop_\n")
    file.writelines(
        f"_{label} #{number}\n" if numbered else f" _{label}\n" for number, label in enumerate(table, start=1)
    )
    widths = [_width(column) for column in table.columns.values()]
    for start in range(0, len(table), _ROWS_PER_WRITE):
        file.write(format_rows([column[start : start + _ROWS_PER_WRITE] for column in table.columns.values()], widths,
                               exact))  # fmt: skip


def _width(column: Column) -> int:
    if column.dtype.kind in "fiub":
        return NUMBER_WIDTH
    return max(map(len, map(str, column.tolist())), default=0)
