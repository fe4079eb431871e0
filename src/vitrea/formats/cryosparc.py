"""cryoSPARC's data sets (``.cs``): a numpy structured array, one row a particle, fields such as ``ctf/df1_A``.

The compressed form is read, too (`cryosparc_stream`); what is written is the plain one, which every version reads.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vitrea.formats.cryosparc_stream import MAGIC, decode_stream
from vitrea.formats.float32 import widen
from vitrea.formats.star_values import text_column
from vitrea.formats.streams import binary_output, display_name, read_bytes
from vitrea.records.errors import InputError
from vitrea.records.table import Column, Table

# The types of fields that are not float32; in a table a vector has a column an element, ``blob/shape/0``.
_DTYPES: Mapping[str, str] = {
    "uid": "<u8", "blob/idx": "<u4", "blob/shape": "<u4", "blob/import_sig": "<u8", "ctf/exp_group_id": "<u4",
    "alignments3D/split": "<u4", "alignments3D/class": "<u4", "alignments2D/split": "<u4",
    "alignments2D/class": "<u4", "location/micrograph_uid": "<u8", "location/exp_group_id": "<u4",
    "location/micrograph_shape": "<u4", "pick_stats/template_idx": "<u4", "filament/filament_uid": "<u8",
    "sym_expand/src_uid": "<u8", "sym_expand/idx": "<u4", "sym_expand/helix_idx": "<u4",
}  # fmt: skip
_LARGEST = 2**63


def read_cs(path: str | Path) -> Table:
    """Read a data set.

    Parameters
    ----------
    path : str or Path
        ``-`` is standard input.

    Returns
    -------
    Table
        A column for each field, for each element of a vector (``alignments3D/pose/0``). Integers of 64 bits without
        sign that do not fit int64 (uid) are text.

    Raises
    ------
    InputError
        If the file is missing, or is not such a file.
    """
    columns: dict[str, Column] = {}
    for field, values in _read_fields(path).items():
        if values.ndim == 1:
            columns[field] = _column(values)
        else:
            flat = values.reshape(len(values), -1)
            columns |= {f"{field}/{number}": _column(flat[:, number]) for number in range(flat.shape[1])}
    return Table(columns)


def _read_fields(path: str | Path) -> dict[str, NDArray[Any]]:
    """Return the values of each field of a data set, compressed or not."""
    name = display_name(path)
    content = read_bytes(path)
    try:
        if content.startswith(MAGIC):
            return decode_stream(content)
        array = np.load(io.BytesIO(content), allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise InputError(f"{name} is not a cryoSPARC data set ({str(error).splitlines()[0][:80]})") from None
    if not isinstance(array, np.ndarray) or array.dtype.names is None:
        raise InputError(f"{name} is not a cryoSPARC data set: it has no fields")
    return {field: array[field] for field in array.dtype.names}


def _column(values: NDArray[np.generic]) -> Column:
    if values.dtype.kind in "SUO":
        texts = values.tolist()
        return text_column([text.decode("utf-8", "replace") if isinstance(text, bytes) else text for text in texts])
    if values.dtype.kind == "u" and values.dtype.itemsize == 8 and len(values) and int(values.max()) >= _LARGEST:
        return text_column([str(value) for value in values.tolist()])
    if values.dtype == np.float32:
        return widen(values.astype(np.float32, copy=False))
    return values.astype(np.float64 if values.dtype.kind == "f" else np.int64)


def write_cs(path: str | Path, table: Table) -> None:
    """Write a data set, whole or not at all.

    Parameters
    ----------
    path : str or Path
        ``-`` is standard output.
    table : Table
        As `read_cs` returns it; columns ``name/0``, ``name/1`` ... become one field.

    Raises
    ------
    InputError
        If the file cannot be written.
    ValueError
        If a column holds what its field cannot (text where a number belongs).
    """
    fields = _fields(table)
    array = np.empty(len(table), [(name, *_type(name, columns)) for name, columns in fields.items()])
    for name, columns in fields.items():
        if len(columns) == 1 and not array.dtype[name].shape:
            array[name] = _values(name, columns[0], array.dtype[name])
        else:
            array[name] = np.stack([_values(name, column, array.dtype[name].base) for column in columns], axis=1)
    with binary_output(path) as file:
        np.save(file, array, allow_pickle=False)


def _fields(table: Table) -> dict[str, list[Column]]:
    """Gather the columns of each field, elements of a vector in their order."""
    fields: dict[str, list[Column]] = {}
    for label in table:
        base, _, last = label.rpartition("/")
        if last == "0" and base:
            count = next(n for n in range(1, len(table.columns) + 1) if f"{base}/{n}" not in table)
            fields[base] = [table[f"{base}/{number}"] for number in range(count)]
        elif not (last.isdigit() and f"{base}/0" in table):
            fields[label] = [table[label]]
    return fields


def _type(name: str, columns: list[Column]) -> tuple[object, ...]:
    if name in _DTYPES:
        kind: object = _DTYPES[name]
    elif columns[0].dtype == object:
        return (f"S{max([1, *(len(str(text).encode()) for text in columns[0].tolist())])}",)
    else:
        kind = "<f4"
    is_vector = len(columns) > 1 or name.endswith("/shape")
    return (kind, (len(columns),)) if is_vector else (kind,)


def _values(name: str, column: Column, kind: np.dtype[np.generic]) -> NDArray[np.generic]:
    if kind.kind == "S":
        return np.array([str(text).encode() for text in column.tolist()], dtype=kind)
    try:
        if column.dtype == object and kind.kind in "iu":
            return np.array([int(text) for text in column.tolist()], dtype=kind)
        return column.astype(kind)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{name} of a cryoSPARC data set: {error}") from None
