"""cisTEM's parameter files, one row a particle: binary (``.cistem``) and STAR (Grant et al. 2018).

A binary file is two int32, the numbers of columns and rows; for each column an int64 that names it (a bit of its own)
and a byte for its type; then the rows, packed. Texts are an int32, their length, and so many bytes. All is
little-endian. cisTEM: doi:10.7554/eLife.35383.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vitrea.formats.float32 import widen
from vitrea.formats.star import write_star
from vitrea.formats.star_values import text_column
from vitrea.formats.streams import binary_output, display_name, read_bytes
from vitrea.records.errors import InputError
from vitrea.records.table import Column, Table

_INTEGER, _FLOAT, _BOOL, _LONG, _DOUBLE, _CHAR, _TEXT, _UNSIGNED = 2, 3, 4, 5, 6, 7, 8, 9
_DTYPES = {_INTEGER: "<i4", _FLOAT: "<f4", _BOOL: "<i1", _LONG: "<i8", _DOUBLE: "<f8", _CHAR: "<i1", _UNSIGNED: "<u4"}


@dataclass(frozen=True)
class _Kind:
    """A column cisTEM knows: its label in STAR files, its bit and type in binary files."""

    label: str
    bit: int
    type: int


# In the order in which cisTEM writes them.
_KINDS: tuple[_Kind, ...] = tuple(
    _Kind(f"cisTEM{name}", 1 << bit, kind)
    for name, bit, kind in (
        ("PositionInStack", 0, _UNSIGNED), ("AnglePsi", 2, _FLOAT), ("AngleTheta", 22, _FLOAT),
        ("AnglePhi", 23, _FLOAT), ("XShift", 3, _FLOAT), ("YShift", 4, _FLOAT), ("Defocus1", 5, _FLOAT),
        ("Defocus2", 6, _FLOAT), ("DefocusAngle", 7, _FLOAT), ("PhaseShift", 8, _FLOAT),
        ("ImageActivity", 1, _INTEGER), ("Occupancy", 9, _FLOAT), ("LogP", 10, _FLOAT), ("Sigma", 11, _FLOAT),
        ("Score", 12, _FLOAT), ("ScoreChange", 13, _FLOAT), ("PixelSize", 14, _FLOAT),
        ("MicroscopeVoltagekV", 15, _FLOAT), ("MicroscopeCsMM", 16, _FLOAT), ("AmplitudeContrast", 17, _FLOAT),
        ("BeamTiltX", 18, _FLOAT), ("BeamTiltY", 19, _FLOAT), ("ImageShiftX", 20, _FLOAT),
        ("ImageShiftY", 21, _FLOAT), ("Best2DClass", 27, _INTEGER), ("BeamTiltGroup", 28, _INTEGER),
        ("StackFilename", 24, _TEXT), ("OriginalImageFilename", 25, _TEXT), ("Reference3DFilename", 26, _TEXT),
        ("ParticleGroup", 29, _INTEGER), ("AssignedSubset", 32, _INTEGER), ("PreExposure", 30, _FLOAT),
        ("TotalExposure", 31, _FLOAT), ("OriginalXPosition", 33, _FLOAT), ("OriginalYPosition", 34, _FLOAT),
    )
)  # fmt: skip
_BY_BIT = {kind.bit: kind for kind in _KINDS}
CISTEM_LABELS: tuple[str, ...] = tuple(kind.label for kind in _KINDS)


def read_cistem_binary(path: str | Path) -> Table:
    """Read a binary parameter file.

    Parameters
    ----------
    path : str or Path
        ``-`` is standard input.

    Returns
    -------
    Table
        Columns under cisTEM's STAR labels (``cisTEMAnglePsi``); one it does not know is ``cisTEMColumn<bit>``. The
        phase shift is in radians, as cisTEM keeps it.

    Raises
    ------
    InputError
        If the file is missing, is not such a file, or is truncated.
    """
    content, name = read_bytes(path), display_name(path)
    try:
        count, rows = struct.unpack_from("<ii", content)
        heads = [struct.unpack_from("<qB", content, 8 + 9 * number) for number in range(count)]
    except struct.error:
        raise InputError(f"{name} is not a cisTEM parameter file: it is too short for its header") from None
    if count < 1 or rows < 0 or any(kind not in _DTYPES and kind != _TEXT for _, kind in heads):
        raise InputError(f"{name} is not a cisTEM parameter file: its header makes no sense")
    labels = [_BY_BIT[bit].label if bit in _BY_BIT else f"cisTEMColumn{bit}" for bit, _ in heads]
    if len(set(labels)) < len(labels):
        raise InputError(f"{name} has the column {next(label for label in labels if labels.count(label) > 1)} twice")
    body = memoryview(content)[8 + 9 * count :]
    columns = _read_rows(body, [kind for _, kind in heads], rows, name)
    return Table(dict(zip(labels, columns, strict=True)))


def _read_rows(body: memoryview, types: Sequence[int], rows: int, name: str) -> list[Column]:
    """Return the columns of packed rows."""
    missing = InputError(f"{name} is truncated: it should hold {rows} rows")
    if _TEXT not in types:
        packed = np.dtype([(str(number), _DTYPES[kind]) for number, kind in enumerate(types)])
        if len(body) < rows * packed.itemsize:
            raise missing
        values = np.frombuffer(body, packed, rows)
        return [_widened(values[str(number)]) for number in range(len(types))]
    columns: list[list[object]] = [[] for _ in types]
    readers = [None if kind == _TEXT else struct.Struct(_struct_code(kind)) for kind in types]
    place = 0
    try:
        for _ in range(rows):
            for column, reader in zip(columns, readers, strict=True):
                if reader is not None:
                    column.append(reader.unpack_from(body, place)[0])
                    place += reader.size
                    continue
                (length,) = struct.unpack_from("<i", body, place)
                place += 4 + length
                if length < 0 or place > len(body):
                    raise missing
                column.append(bytes(body[place - length : place]).decode("utf-8", "replace"))
    except struct.error:
        raise missing from None
    return [
        text_column([str(text) for text in column]) if kind == _TEXT else _widened(np.array(column, _DTYPES[kind]))
        for column, kind in zip(columns, types, strict=True)
    ]


def _struct_code(kind: int) -> str:
    return "<" + {"i4": "i", "f4": "f", "i1": "b", "i8": "q", "f8": "d", "u4": "I"}[_DTYPES[kind][1:]]


def _widened(column: Column) -> Column:
    if column.dtype == np.float32:
        return widen(column)
    return column.astype(np.float64 if column.dtype.kind == "f" else np.int64)


def write_cistem_binary(path: str | Path, table: Table) -> None:
    """Write a binary parameter file, whole or not at all.

    Parameters
    ----------
    path : str or Path
        ``-`` is standard output.
    table : Table
        Columns out of `CISTEM_LABELS`; they are written in cisTEM's order.

    Raises
    ------
    InputError
        If the file cannot be written.
    ValueError
        If cisTEM has no such column.
    """
    kinds = _known(table)
    head = struct.pack("<ii", len(kinds), len(table))
    head += b"".join(struct.pack("<qB", kind.bit, kind.type) for kind in kinds)
    with binary_output(path) as file:
        file.write(head)
        if all(kind.type != _TEXT for kind in kinds):
            packed = np.empty(len(table), [(kind.label, _DTYPES[kind.type]) for kind in kinds])
            for kind in kinds:
                packed[kind.label] = table[kind.label]
            file.write(packed.tobytes())
            return
        parts = [_encoded(table[kind.label], kind) for kind in kinds]
        file.write(b"".join(map(b"".join, zip(*parts, strict=True))))


def _known(table: Table) -> list[_Kind]:
    unknown = [label for label in table if label not in CISTEM_LABELS]
    if unknown:
        raise ValueError(f"cisTEM has no column {unknown[0]}")
    return [kind for kind in _KINDS if kind.label in table]


def _encoded(column: Column, kind: _Kind) -> list[bytes]:
    if kind.type == _TEXT:
        texts = [str(text).encode("utf-8") for text in column.tolist()]
        return [struct.pack("<i", len(text)) + text for text in texts]
    size = np.dtype(_DTYPES[kind.type]).itemsize
    content = column.astype(_DTYPES[kind.type]).tobytes()
    return [content[start : start + size] for start in range(0, len(content), size)]


def write_cistem_star(path: str | Path, table: Table, comment: str = "") -> None:
    """Write a parameter file as STAR, as cisTEM reads it: texts always in single quotes; whole or not at all.

    Parameters
    ----------
    path : str or Path
        ``-`` is standard output.
    table : Table
        Columns out of `CISTEM_LABELS`; they are written in cisTEM's order.
    comment : str
        Lines to put first.

    Raises
    ------
    InputError
        If the file cannot be written, or a text holds a blank or a single quote, which cisTEM cannot read.
    ValueError
        If cisTEM has no such column.
    """
    columns: dict[str, Column] = {}
    for kind in _known(table):
        column = table[kind.label]
        if kind.type == _TEXT:
            texts = [str(text) for text in column.tolist()]
            odd = next((text for text in texts if "'" in text or len(text.split()) > 1 or text != text.strip()), None)
            if odd is not None:
                raise InputError(f"cannot write {path}: cisTEM does not read names with blanks or quotes, as {odd!r}")
            column = np.array([f"'{text}'" for text in texts], dtype=str)
        columns[kind.label] = column
    write_star(path, {"": Table(columns)}, comment, version=None)
