"""The optics blocks of several files as one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from vitrea.formats.optics_groups import GROUP
from vitrea.formats.star_values import text_column
from vitrea.records.table import Table

_NAME = "rlnOpticsGroupName"
# A field that is not given and one that is 0 say the same.
_BLANK = (0, "", "[]")


def join_optics_blocks(blocks: Sequence[Table]) -> tuple[Table, list[dict[int, int]]]:
    """Put ``data_optics`` blocks into one.

    Groups that agree in everything but their number, name included, become one; others stay apart, are numbered anew
    and, where two bear the same name, the later one's gets a number.

    Parameters
    ----------
    blocks : sequence of Table
        Each with the column ``rlnOpticsGroup``.

    Returns
    -------
    Table
        The joined block. What a group's own block does not say is 0 or empty text.
    list of dict of int to int
        For each of `blocks` the new number of each old one.
    """
    known: dict[object, int] = {}
    rows: list[dict[str, Any]] = []
    numbers = []
    for block in blocks:
        new: dict[int, int] = {}
        for place, old in enumerate(block[GROUP].tolist()):
            row = {label: column[place : place + 1].tolist()[0] for label, column in block.columns.items()}
            del row[GROUP]
            key = frozenset((label, value) for label, value in row.items() if value not in _BLANK)
            if key not in known:
                known[key] = len(rows) + 1
                if _NAME in row:
                    row[_NAME] = _free_name(row[_NAME], {other.get(_NAME) for other in rows})
                rows.append({**row, GROUP: known[key]})
            new[int(old)] = known[key]
        numbers.append(new)
    return _table(rows), numbers


def _free_name(name: str, taken: set[str | None]) -> str:
    number, free = 1, name
    while free in taken:
        number += 1
        free = f"{name}_{number}"
    return free


def _table(rows: Sequence[dict[str, Any]]) -> Table:
    """Lay out rows as columns; what a row lacks is 0 or empty text."""
    columns = {}
    for label in dict.fromkeys(label for row in rows for label in row):
        is_text = any(isinstance(row[label], str) for row in rows if label in row)
        filled = [row.get(label, "" if is_text else 0) for row in rows]
        columns[label] = text_column([str(value) for value in filled]) if is_text else np.array(filled)
    return Table(columns)
