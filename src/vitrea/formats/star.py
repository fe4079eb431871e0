"""STAR files, every dialect that programs for cryo-EM write.

The format: Hall (1991) doi:10.1021/ci00002a020, as RELION uses it: one value a column and one row a line. Read are flat
files (RELION 1.x to 3.0), optics groups (3.1 and later), any number of blocks, quoted values, comments, rows ended
by any kind of line break.
"""

from __future__ import annotations

import codecs
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import numpy as np

from vitrea.formats.atomic import atomic_path
from vitrea.formats.star_values import (
    Column,
    Value,
    format_column,
    format_value,
    parse_column,
    parse_value,
    split_words,
)
from vitrea.records.errors import InputError
from vitrea.records.table import Table

Block = Table | dict[str, Value]

RELION_VERSION = 30001  # of the metadata: optics groups, shifts in Å

_CHUNK = 1 << 18  # characters split at a time: bounds the memory that short-lived words take
_ROWS_PER_WRITE = 50_000
_NUMBER_WIDTH = 12  # RELION's


def read_star(path: str | Path, blocks: Collection[str] | None = None) -> dict[str, Block]:
    """Read a STAR file.

    Parameters
    ----------
    path : str or Path
        The file.
    blocks : collection of str, optional
        Names of the blocks wanted; others are skipped. All by default.

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
    reader = _Reader(Path(path), _read_text(Path(path)), blocks)
    found = reader.read()
    if not reader.saw_block:
        raise InputError(f"{path} is not a STAR file: it has no line that begins with data_")
    return found


def _read_text(path: Path) -> str:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise InputError(f"{path} does not exist; check its name") from None
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    if b"\0" in content[: 1 << 16]:
        raise InputError(f"{path} is not a STAR file: it holds binary data")
    try:
        text = content.removeprefix(codecs.BOM_UTF8).decode("utf-8")
    except UnicodeDecodeError:
        text = content.decode("latin-1")
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text


@dataclass
class _Reader:
    """Walks through the text of one file, line by line outside loops and chunk by chunk inside."""

    path: Path
    text: str
    wanted: Collection[str] | None
    position: int = 0
    saw_block: bool = False

    def read(self) -> dict[str, Block]:
        found: dict[str, Block] = {}
        name = ""
        pairs: dict[str, Value] = {}

        def keep(block: Block) -> None:
            if self.wanted is None or name in self.wanted:
                found[_free_name(name, found)] = block

        is_open = False  # a block has begun that has no entry in `found` yet
        while (line := self._next_line()) is not None:
            words = split_words(line)
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
                raise InputError(f"{self.path} line {self._line_number()}: {line.strip()[:60]!r} belongs to no label")
        if is_open and self.saw_block:
            keep(pairs)
        return found

    def _next_line(self) -> str | None:
        if self.position >= len(self.text):
            return None
        end = self.text.find("\n", self.position)
        end = len(self.text) if end < 0 else end
        line = self.text[self.position : end]
        self.position = end + 1
        return line

    def _line_number(self) -> int:
        """Return the number of the line last returned."""
        return self.text.count("\n", 0, self.position - 1) + 1

    def _read_labels(self) -> list[str]:
        labels: list[str] = []
        while True:
            start = self.position
            line = self._next_line()
            words = split_words(line) if line is not None else ["end"]
            if words and words[0].startswith("_") and len(words) == 1:
                labels.append(words[0][1:])
            elif words:
                self.position = start
                return labels

    def _read_loop(self, skip: bool) -> Table:
        labels = self._read_labels()
        if len(set(labels)) < len(labels):
            twice = next(label for label in labels if labels.count(label) > 1)
            raise InputError(f"{self.path}: a loop has the column _{twice} twice; remove one")
        if not labels:
            raise InputError(f"{self.path} line {self._line_number()}: a loop_ without labels")
        start = self.position
        as_text: set[str] = set()
        while True:
            self.position = start
            parts: list[list[Column]] = [[] for _ in labels]
            for rows in self._row_chunks(len(labels)):
                if skip:
                    continue
                for label, part, words in zip(labels, parts, zip(*rows, strict=True), strict=True):
                    part.append(parse_column(label, words, label in as_text))
            # A column that turns to text late in the file is text from its first row: read once more.
            mixed = {
                label for label, part in zip(labels, parts, strict=True) if {piece.dtype.kind for piece in part} > {"O"}
            }
            if not mixed:
                return Table({label: _join(label, part) for label, part in zip(labels, parts, strict=True)})
            as_text |= mixed

    def _row_chunks(self, columns: int) -> Iterator[list[list[str]]]:
        """Yield rows of words from the present position to the end of the loop."""
        text = self.text
        while self.position < len(text):
            start = self.position
            end = text.find("\n", min(start + _CHUNK, len(text)))
            end = len(text) if end < 0 else end + 1
            block = text.find("\ndata_", start, end)
            end = end if block < 0 else block + 1
            chunk = text[start:end]
            rows, used = _plain_rows(chunk), len(chunk)
            if rows is None:
                rows, used = _careful_rows(chunk, columns)
            if set(map(len, rows)) - {columns}:
                raise self._bad_row(chunk, columns)
            self.position = start + used
            if rows:
                yield rows
            if used < len(chunk):
                return

    def _bad_row(self, chunk: str, columns: int) -> InputError:
        before = self.text.count("\n", 0, self.position)
        for number, line in enumerate(chunk.split("\n"), start=before + 1):
            count = len(split_words(line))
            if count not in (0, columns):
                return InputError(
                    f"{self.path} line {number}: {count} values where the loop has {columns} columns; "
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
) -> None:
    """Write a STAR file in RELION's look, whole or not at all.

    Parameters
    ----------
    path : str or Path
        The file; replaced if it exists.
    blocks : mapping of str to Table or mapping
        By block name without ``data_``: tables become loops, mappings become one line a value. Floats are kept to
        5e-10 of their value.
    comment : str
        Lines to put first, each behind ``#``.
    version : int or None
        Of the metadata, noted before each block: RELION takes a file without it for one from before optics groups.

    Raises
    ------
    InputError
        If the file cannot be written, or a text holds what STAR cannot (a line break).
    """
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(f"# {line}\n" for line in comment.splitlines())
        for name, block in blocks.items():
            note = "" if version is None else f"\n# version {version}\n"
            file.write(f"{note}\ndata_{name}\n\n")
            try:
                if isinstance(block, Table):
                    _write_loop(file, block)
                else:
                    _write_pairs(file, block)
            except ValueError as error:
                raise InputError(f"cannot write {path}, block data_{name}: {error}") from error
            file.write("\n")


def _write_pairs(file: TextIO, values: Mapping[str, object]) -> None:
    width = max((len(label) for label in values), default=0) + 1
    file.writelines(f"_{label:<{width}} {format_value(value):>{_NUMBER_WIDTH}}\n" for label, value in values.items())


def _write_loop(file: TextIO, table: Table) -> None:
    if not table.columns:
        raise ValueError("a table without columns")
    file.write("loop_\n")
    file.writelines(f"_{label} #{number}\n" for number, label in enumerate(table, start=1))
    widths = [_width(column) for column in table.columns.values()]
    for start in range(0, len(table), _ROWS_PER_WRITE):
        pieces = [format_column(column[start : start + _ROWS_PER_WRITE]) for column in table.columns.values()]
        aligned = [[word.rjust(width) for word in piece] for piece, width in zip(pieces, widths, strict=True)]
        file.write("\n".join(map(" ".join, zip(*aligned, strict=True))) + "\n")


def _width(column: Column) -> int:
    if column.dtype.kind in "fiub":
        return _NUMBER_WIDTH
    return max((len(str(text)) for text in column.tolist()), default=0)
