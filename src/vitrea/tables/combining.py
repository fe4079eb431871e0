"""Tables one behind the other, and rows that repeat."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from vitrea.formats.optics_groups import GROUP
from vitrea.formats.optics_joining import join_optics_blocks
from vitrea.records.table import Column, Table, concatenate_columns

Missing = Literal["drop", "fill", "refuse"]


@dataclass(frozen=True)
class Combined:
    """Tables combined.

    Attributes
    ----------
    table : Table
    incomplete : tuple of str
        Columns that not all tables had.
    """

    table: Table
    incomplete: tuple[str, ...]


def combine_tables(tables: Sequence[Table], missing: Missing = "drop") -> Combined:
    """Put tables one behind the other.

    Parameters
    ----------
    tables : sequence of Table
        At least one.
    missing : "drop", "fill" or "refuse"
        What becomes of columns that not all tables have: left out, as in ``relion_star_handler --combine``; kept, with
        0 or empty text where there is no value; or an error.

    Returns
    -------
    Combined
        Columns in the order of the first table that has them.

    Raises
    ------
    ValueError
        If columns are missing that must not be, or the tables have no column in common.
    """
    labels = list(dict.fromkeys(label for table in tables for label in table))
    incomplete = tuple(label for label in labels if not all(label in table for table in tables))
    if incomplete and missing == "refuse":
        raise ValueError(f"not all tables have the columns {', '.join(incomplete)}")
    kept = [label for label in labels if missing == "fill" or label not in incomplete]
    if not kept:
        raise ValueError("the tables have no column in common")
    parts = {label: [_column_or_blank(table, label, tables) for table in tables] for label in kept}
    return Combined(Table({label: concatenate_columns(part) for label, part in parts.items()}), incomplete)


def _column_or_blank(table: Table, label: str, tables: Sequence[Table]) -> Column:
    if label in table:
        return table[label]
    kind = next(other[label].dtype for other in tables if label in other)
    return np.full(len(table), "" if kind.kind == "O" else 0, dtype=kind)


def join_optics(tables: Sequence[Table], blocks: Sequence[Table]) -> tuple[list[Table], Table]:
    """Give several tables one set of optics groups.

    Parameters
    ----------
    tables : sequence of Table
        Each with the column ``rlnOpticsGroup``.
    blocks : sequence of Table
        The ``data_optics`` block of each.

    Returns
    -------
    list of Table
        The tables, their groups numbered anew.
    Table
        The joined block.

    Raises
    ------
    ValueError
        If a row belongs to a group that its block does not define.
    """
    block, numbers = join_optics_blocks(blocks)
    renumbered = []
    for table, new in zip(tables, numbers, strict=True):
        old, index = np.unique(table[GROUP], return_inverse=True)
        unknown = [number for number in old.tolist() if number not in new]
        if unknown:
            raise ValueError(f"rows belong to optics group {unknown[0]}, which data_optics does not define")
        groups = np.array([new[number] for number in old.tolist()], dtype=np.int64)[index]
        renumbered.append(table.with_columns({GROUP: groups}))
    return renumbered, block
