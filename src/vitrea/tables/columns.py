"""Columns added, changed, renamed, removed; rows sorted."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vitrea.formats.labels import label_types
from vitrea.formats.star_values import parse_column
from vitrea.records.table import Column, Table
from vitrea.tables.expression import evaluate
from vitrea.tables.names import find_column, new_column


def rename_column(table: Table, old: str, new: str) -> Table:
    """Rename a column in its place.

    Raises
    ------
    ValueError
        If there is no such column, or one of the new name.
    """
    old, new = find_column(old, table), new_column(new)
    if new in table and new != old:
        raise ValueError(f"there is a column {new} already; remove it first")
    return Table({new if label == old else label: column for label, column in table.columns.items()})


def assign(table: Table, assignment: str) -> Table:
    """Set a column to an expression, written ``rlnDefocusU = rlnDefocusU + 100``; a new one comes last.

    Parameters
    ----------
    table : Table
    assignment : str

    Raises
    ------
    ValueError
        If it is not of this form, or as `evaluate`.
    """
    name, equals, text = assignment.partition("=")
    if not equals or text.startswith("=") or not text.strip():
        raise ValueError(f"'{assignment}' is not of the form column = expression")
    try:
        label = find_column(name, table)
    except ValueError:
        label = new_column(name)
    return set_column(table, label, evaluate(text, table))


def set_column(table: Table, label: str, values: Column) -> Table:
    """Set a column, in the type that its label has where that loses nothing: whole numbers, texts.

    Raises
    ------
    ValueError
        If it is text and the label is one of RELION's that hold numbers.
    """
    kind = label_types().get(label)
    if kind not in (None, "string") and values.dtype == object and len(values):
        raise ValueError(f"{label} holds numbers, and {values[0]!r} is none")
    if kind == "string" and values.dtype != object:
        words = [f"{value:g}" if isinstance(value, float) else str(value) for value in values.tolist()]
        values = parse_column(label, words)
    elif kind in ("int", "bool") and values.dtype.kind in "fb":
        numbers = values.astype(np.float64)
        if np.isfinite(numbers).all() and np.array_equal(numbers, np.round(numbers)):
            values = numbers.astype(np.int64)
    elif values.dtype.kind == "b":
        values = values.astype(np.int64)
    elif kind == "double" and values.dtype.kind in "iu":
        values = values.astype(np.float64)
    return table.with_columns({label: values})


def constant_column(table: Table, label: str, word: str) -> Table:
    """Set a column to one value in all rows, read as a STAR file would be.

    Raises
    ------
    ValueError
        If it is text and the label is one of RELION's that hold numbers.
    """
    return set_column(table, label, parse_column(label, [word] * len(table)))


def scale_columns(table: Table, labels: Sequence[str], factor: float, offset: float) -> Table:
    """Replace columns by factor * value + offset.

    Raises
    ------
    ValueError
        If a column holds text.
    """
    for label in labels:
        if table[label].dtype == object:
            raise ValueError(f"{label} holds text, which cannot be multiplied or added to")
        table = set_column(table, label, table.numbers(label) * factor + offset)
    return table


def sort_rows(table: Table, labels: Sequence[str], descending: bool = False) -> Table:
    """Sort rows by columns, the first of which counts most; rows that tie keep their order."""
    order = np.arange(len(table))
    for label in reversed(labels):
        column = table[label][order]
        keys = np.unique(column.astype(str) if column.dtype == object else column, return_inverse=True)[1]
        order = order[np.argsort(-keys if descending else keys, kind="stable")]
    return table.rows(order)
