"""Tables as plain text: columns for awk, or comma-separated values."""

from __future__ import annotations

import csv
from typing import TextIO

from vitrea.formats.star_values import NUMBER_WIDTH, format_rows
from vitrea.records.table import Table

_ROWS_PER_WRITE = 5_000


def write_table_text(file: TextIO, table: Table, separator: str = " ", *, header: bool = False) -> None:
    """Write a table, one row a line.

    Parameters
    ----------
    file : text file
    table : Table
    separator : str
        A blank: right-aligned columns of STAR words, texts with blanks quoted. Else fields, quoted as CSV has it.
    header : bool
        Write the names of the columns first.
    """
    columns = list(table.columns.values())
    if separator == " ":
        widths = [1 if column.dtype == object else NUMBER_WIDTH for column in columns]
        if header:
            names = zip(table, widths, strict=True)
            file.write(" ".join(f"{name:>{width}}" for name, width in names).replace("\n", " ") + "\n")
        for start in range(0, len(table), _ROWS_PER_WRITE):
            file.write(format_rows([column[start : start + _ROWS_PER_WRITE] for column in columns], widths, True))
        return
    writer = csv.writer(file, delimiter=separator, lineterminator="\n")
    if header:
        writer.writerow(list(table))
    writer.writerows(zip(*(column.tolist() for column in columns), strict=True))
