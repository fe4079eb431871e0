"""Optics groups: from a ``data_optics`` block or from the rows of a flat file, and back to either."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vitrea.records.errors import InputError
from vitrea.records.optics import Optics
from vitrea.records.table import Table, distinct

PIXEL_SIZE = "rlnImagePixelSize"
IMAGE_SIZE = "rlnImageSize"
GROUP = "rlnOpticsGroup"

_CTF_FIELDS = {
    "rlnVoltage": "voltage",
    "rlnSphericalAberration": "spherical_aberration",
    "rlnAmplitudeContrast": "amplitude_contrast",
}
_NUMBER_FIELDS = {
    "rlnBeamTiltX": "beam_tilt_x",
    "rlnBeamTiltY": "beam_tilt_y",
    "rlnMicrographOriginalPixelSize": "original_pixel_size",
}
_LIST_FIELDS = {"rlnOddZernike": "odd_zernike", "rlnEvenZernike": "even_zernike"}
_MTF = "rlnMtfFileName"
_NAME = "rlnOpticsGroupName"
_PREMULTIPLIED = "rlnCtfDataAreCtfPremultiplied"
_DIMENSIONALITY = "rlnImageDimensionality"

# What makes rows of a flat file belong to one group, besides the pixel size.
_ROW_LABELS = (*_CTF_FIELDS, *_NUMBER_FIELDS, *_LIST_FIELDS, _MTF, _PREMULTIPLIED)
_MAGNIFICATION, _DETECTOR = "rlnMagnification", "rlnDetectorPixelSize"
_FLAT_MAGNIFICATION = 10_000.0  # with a detector pixel in µm of the same number as the pixel size in Å
_PIXEL_SIZE = "rlnPixelSize"


def optics_from_table(
    table: Table,
    path: Path,
    image_sizes: Mapping[int, int],
    *,
    require_ctf: bool,
    pixel_size: float | None,
    pixel_labels: Sequence[str] = (PIXEL_SIZE,),
) -> tuple[Optics, ...]:
    """Build the optics groups of a ``data_optics`` block.

    Parameters
    ----------
    table : Table
        The block, one row a group.
    path : Path
        Its file, for messages.
    image_sizes : mapping of int to int
        Box by group number, for groups whose ``rlnImageSize`` the block does not give.
    require_ctf : bool
        Whether voltage, Cs and amplitude contrast must be there; else absent ones are 0.
    pixel_size : float or None
        Å per pixel where the block gives none.
    pixel_labels : sequence of str
        Columns that give Å per pixel of these images; the first that is there counts.

    Raises
    ------
    InputError
        If a field is missing, not a number or impossible.
    """
    return tuple(
        _optics_of_row({label: column[row] for label, column in table.columns.items()}, path, image_sizes,
                       require_ctf=require_ctf, pixel_size=pixel_size, pixel_labels=pixel_labels)
        for row in range(len(table))
    )  # fmt: skip


def _optics_of_row(
    row: Mapping[str, Any],
    path: Path,
    image_sizes: Mapping[int, int],
    *,
    require_ctf: bool,
    pixel_size: float | None,
    pixel_labels: Sequence[str],
) -> Optics:
    if GROUP not in row:
        raise InputError(f"{path}: data_optics lacks the column {GROUP}")
    number = int(_number(row, GROUP, path))
    fields: dict[str, Any] = {"group": number, "name": str(row.get(_NAME, f"opticsGroup{number}"))}
    for label, field in _CTF_FIELDS.items():
        if label not in row and require_ctf:
            raise InputError(f"{path}: data_optics lacks the column {label}, which CTF correction needs")
        fields[field] = _number(row, label, path) if label in row else 0.0
    fields.update({field: _number(row, label, path) for label, field in _NUMBER_FIELDS.items() if label in row})
    fields.update({field: _numbers(row, label, path) for label, field in _LIST_FIELDS.items() if label in row})
    fields["mtf_file"] = str(row.get(_MTF, ""))
    fields["ctf_premultiplied"] = bool(_number(row, _PREMULTIPLIED, path)) if _PREMULTIPLIED in row else False
    size_label = next((label for label in pixel_labels if label in row), None)
    size = pixel_size if size_label is None else _number(row, size_label, path)
    if size is None:
        raise InputError(f"{path}: data_optics lacks the column {pixel_labels[0]}")
    box = int(_number(row, IMAGE_SIZE, path)) if IMAGE_SIZE in row else image_sizes.get(number, 0)
    _check_ranges(path, number, (size_label or pixel_labels[0], size), box, fields, require_ctf)
    return Optics(pixel_size=size, image_size=box, **fields)


def _check_ranges(
    path: Path, number: int, pixel_size: tuple[str, float], box: int, fields: Mapping[str, Any], require_ctf: bool
) -> None:
    where = f"{path}: optics group {number}"
    label, size = pixel_size
    if not size > 0:
        raise InputError(f"{where} has {label} {size:g}; it must be above 0")
    if box < 0:
        raise InputError(f"{where} has {IMAGE_SIZE} {box}; it must be above 0")
    if require_ctf and not fields["voltage"] > 0:
        raise InputError(f"{where} has rlnVoltage {fields['voltage']:g}; it must be above 0 (in kV)")
    if not 0 <= fields["amplitude_contrast"] <= 1:
        raise InputError(f"{where} has rlnAmplitudeContrast {fields['amplitude_contrast']:g}; it must be from 0 to 1")


def _number(row: Mapping[str, Any], label: str, path: Path) -> float:
    try:
        value = float(row[label])
    except ValueError:
        raise InputError(f"{path}: {label} in data_optics is {row[label]!r}, not a number") from None
    if not np.isfinite(value):
        raise InputError(f"{path}: {label} in data_optics is {value}")
    return value


def _numbers(row: Mapping[str, Any], label: str, path: Path) -> tuple[float, ...]:
    text = str(row[label]).strip("[]")
    try:
        return tuple(float(word) for word in text.replace(",", " ").split())
    except ValueError:
        raise InputError(f"{path}: {label} in data_optics is {row[label]!r}, not a list of numbers") from None


def optics_to_table(optics: tuple[Optics, ...], base: Table | None = None, pixel_label: str = PIXEL_SIZE) -> Table:
    """Return the ``data_optics`` block of optics groups.

    Parameters
    ----------
    optics : tuple of Optics
        The groups; they decide all fields they hold.
    base : Table, optional
        A block whose other columns are kept, for the groups it has in common with `optics`. A column a group has no
        value for is filled with 0 or empty text.
    pixel_label : str
        Column for Å per pixel of these images.
    """
    columns: dict[str, Any] = {}
    base = Table() if base is None or GROUP not in base else base
    rows = {int(number): i for i, number in enumerate(base[GROUP])} if GROUP in base else {}
    for label, column in base.columns.items():
        blank = "" if column.dtype == object else column.dtype.type(0)
        values = [column[rows[group.group]] if group.group in rows else blank for group in optics]
        columns[label] = np.array(values, dtype=column.dtype)
    columns[GROUP] = np.array([group.group for group in optics], dtype=np.int64)
    columns[_NAME] = _texts([group.name for group in optics])
    for label, field in _CTF_FIELDS.items():
        values = [getattr(group, field) for group in optics]
        if label in base or any(values) or any(group.voltage for group in optics):
            columns[label] = np.array(values, dtype=np.float64)
    columns[pixel_label] = np.array([group.pixel_size for group in optics], dtype=np.float64)
    if any(group.image_size for group in optics):
        columns[IMAGE_SIZE] = np.array([group.image_size for group in optics], dtype=np.int64)
    if pixel_label == PIXEL_SIZE:
        columns.setdefault(_DIMENSIONALITY, np.full(len(optics), 2, dtype=np.int64))
    for label, field in _NUMBER_FIELDS.items():
        values = [getattr(group, field) for group in optics]
        if label != pixel_label and (label in base or any(values)):
            columns[label] = np.array(values, dtype=np.float64)
    for label, field in _LIST_FIELDS.items():
        lists = [getattr(group, field) for group in optics]
        if label in base or any(lists):
            columns[label] = _texts(["[" + ",".join(f"{value:.10g}" for value in one) + "]" for one in lists])
    if _MTF in base or any(group.mtf_file for group in optics):
        columns[_MTF] = _texts([group.mtf_file for group in optics])
    if _PREMULTIPLIED in base or any(group.ctf_premultiplied for group in optics):
        columns[_PREMULTIPLIED] = np.array([group.ctf_premultiplied for group in optics], dtype=np.int64)
    return Table(columns)


def _texts(values: list[str]) -> NDArray[Any]:
    column = np.empty(len(values), dtype=object)
    column[:] = values
    return column


def group_flat_rows(
    table: Table,
    path: Path,
    *,
    require_ctf: bool,
    pixel_size: float | None,
    pixel_labels: Sequence[str] = (PIXEL_SIZE,),
) -> tuple[Table, Table]:
    """Form optics groups from the rows of a flat file (RELION before 3.1).

    Rows with the same voltage, Cs, amplitude contrast, pixel size (and beam tilt, aberrations, MTF where given) make a
    group; groups are numbered in the order of their first rows. `pixel_labels` are the columns that may
    give the pixel size of these images; the groups have the first of them.

    Returns
    -------
    rows : Table
        The rows with ``rlnOpticsGroup`` in place of those columns.
    optics : Table
        The groups as a ``data_optics`` block.

    Raises
    ------
    InputError
        If a needed column is missing.
    """
    missing = [label for label in _CTF_FIELDS if label not in table]
    if missing and GROUP in table and len(missing) == len(_CTF_FIELDS):
        raise InputError(
            f"{path} has the column {GROUP} but no data_optics block; take the file as its program wrote it"
        )
    if missing and require_ctf:
        raise InputError(
            f"{path} has neither a data_optics block nor the column {missing[0]}, which CTF correction needs"
        )
    pixels = _row_pixel_sizes(table, path, pixel_size, pixel_labels)
    keys = {label: table[label] for label in _ROW_LABELS if label in table} | {pixel_labels[0]: pixels}
    codes = np.zeros(len(table), dtype=np.int64)
    for column in keys.values():
        code = distinct(column)[1] if column.dtype == object else np.unique(column, return_inverse=True)[1]
        _, codes = np.unique(codes * (int(code.max(initial=0)) + 1) + code, return_inverse=True)
    _, first, codes = np.unique(codes, return_index=True, return_inverse=True)
    order = np.argsort(first)  # groups in the order of their first rows
    numbers = np.empty(len(order), dtype=np.int64)
    numbers[order] = np.arange(1, len(order) + 1)
    optics = {GROUP: np.sort(numbers), _NAME: _texts([f"opticsGroup{number}" for number in np.sort(numbers)])}
    optics |= {label: column[first[order]] for label, column in keys.items()}
    gone = [label for label in (*keys, *pixel_labels, _PIXEL_SIZE, _MAGNIFICATION, _DETECTOR) if label in table]
    return table.without(*gone).with_columns({GROUP: numbers[codes]}), Table(optics)


def _row_pixel_sizes(
    table: Table, path: Path, pixel_size: float | None, pixel_labels: Sequence[str]
) -> NDArray[np.float64]:
    """Return Å per pixel of every row, rounded to 1e-6 so that division leaves no spurious groups."""
    try:
        if pixel_labels[0] in table:
            return table.numbers(pixel_labels[0])
        if _MAGNIFICATION in table and _DETECTOR in table:
            with np.errstate(divide="ignore", invalid="ignore"):
                sizes = table.numbers(_DETECTOR) * 1e4 / table.numbers(_MAGNIFICATION)  # µm to Å
            return np.round(sizes, 6)
        for label in (_PIXEL_SIZE, *pixel_labels[1:]):
            if label in table:
                return table.numbers(label)
    except ValueError as error:
        raise InputError(f"{path}: the columns for the pixel size hold what is not a number ({error})") from None
    if pixel_size is None:
        raise InputError(
            f"{path} gives no pixel size: it lacks {pixel_labels[0]}, {_PIXEL_SIZE}, and {_DETECTOR} with "
            f"{_MAGNIFICATION}"
        )
    return np.full(len(table), pixel_size, dtype=np.float64)


def spread_over_rows(optics: Table, index: NDArray[np.int64], pixel_label: str = PIXEL_SIZE) -> dict[str, Any]:
    """Return columns of a flat file that hold what the optics groups say of each particle.

    Parameters
    ----------
    optics : Table
        A ``data_optics`` block.
    index : ndarray of int64, shape [particles]
        Row of `optics` for each particle.
    pixel_label : str
        Column of `optics` for Å per pixel.
    """
    left_out = (GROUP, _NAME, pixel_label, IMAGE_SIZE, _DIMENSIONALITY)
    columns = {label: column[index] for label, column in optics.columns.items() if label not in left_out}
    columns[_MAGNIFICATION] = np.full(len(index), _FLAT_MAGNIFICATION)
    columns[_DETECTOR] = optics[pixel_label][index] * _FLAT_MAGNIFICATION / 1e4
    return columns
