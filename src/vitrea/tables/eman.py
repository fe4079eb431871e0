"""Between EMAN2's lists of images and RELION's particles.

``xform.projection`` is a matrix of three rows and four columns: RELION's rotation matrix, and the place of the particle
in pixels, minus RELION's origin (as ``e2convertrelion.py`` has it). ``class`` is the half set, from 0.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vitrea.formats.image_names import join_image_name
from vitrea.formats.optics_groups import PIXEL_SIZE
from vitrea.formats.star_values import text_column
from vitrea.geometry.euler import euler_to_matrix, matrix_to_euler
from vitrea.records.particles import EULER_LABELS, SHIFT_LABELS, Particles
from vitrea.records.table import Column, Table
from vitrea.tables.conversion import (
    IMAGE_NAME,
    Converted,
    GivenImages,
    Lost,
    find_lost,
    optics_columns,
    split_names,
)

Entry = tuple[int, str, dict[str, Any]]

_PROJECTION, _CLASS, _SUBSET = "xform.projection", "class", "rlnRandomSubset"
_MATRIX_FORM = "[" + ",".join(["%.10g"] * 12) + "]"
_OWN = "eman"  # begins the labels of what RELION has no label for: emanscore


def rows_of_eman(entries: Sequence[Entry], given: GivenImages) -> Converted:
    """Turn a list of images into rows under RELION's labels.

    Raises
    ------
    ValueError
        If an entry's projection is not understood, or shifts are in pixels whose size nobody tells.
    """
    names = [join_image_name(file, number) for number, file, _ in entries]
    columns: dict[str, Column] = {IMAGE_NAME: text_column(names)}
    dictionaries = [more for _, _, more in entries]
    keys = list(dict.fromkeys(key for more in dictionaries for key in more))
    lost = []
    for key in keys:
        values = [more.get(key) for more in dictionaries]
        if key == _PROJECTION:
            _add_poses(columns, values, given.pixel_size)
        elif key == _CLASS and all(isinstance(value, int) for value in values):
            columns[_SUBSET] = np.array(values, dtype=np.int64) + 1
        elif all(isinstance(value, (int, float)) for value in values):
            columns[_OWN + key] = np.array(values, dtype=np.float64)
        elif all(isinstance(value, str) for value in values):
            columns[_OWN + key] = text_column([str(value) for value in values])
        else:
            lost.append(Lost(key, "not all images have it, or it is neither number nor text"))
    return Converted(given.fill(Table(columns)), tuple(lost))


def _add_poses(columns: dict[str, Column], values: Sequence[Any], pixel_size: float) -> None:
    if not pixel_size > 0:
        raise ValueError("its shifts are in pixels; give --pixel_size")
    matrices = np.stack([_matrix(value) for value in values])
    columns |= dict(zip(EULER_LABELS, matrix_to_euler(matrices[:, :, :3]).T, strict=True))
    columns |= {label: 0.0 - matrices[:, axis, 3] * pixel_size for axis, label in enumerate(SHIFT_LABELS)}


def _matrix(value: Any) -> NDArray[np.float64]:
    """Read one ``xform.projection``: a dictionary with a matrix of twelve numbers."""
    try:
        numbers = value["matrix"]
        matrix = np.array(json.loads(numbers) if isinstance(numbers, str) else numbers, dtype=np.float64)
        return matrix.reshape(3, 4)
    except (TypeError, KeyError, ValueError):
        raise ValueError(f"{_PROJECTION} is {str(value)[:60]}, not a matrix of twelve numbers") from None


def eman_of_particles(particles: Particles) -> tuple[list[Entry], tuple[Lost, ...]]:
    """Turn particles into a list of images; also return what could not be carried.

    Raises
    ------
    ValueError
        If a particle has no image.
    """
    table = particles.table
    if IMAGE_NAME not in table:
        raise ValueError("there are no image names, which a list of images needs")
    files, indices = split_names(table[IMAGE_NAME])
    dictionaries: list[dict[str, Any]] = [{} for _ in files]
    own = {label: label.removeprefix(_OWN) for label in table if label.startswith(_OWN)}
    for label, key in own.items():
        for more, value in zip(dictionaries, table[label].tolist(), strict=True):
            more[key] = value
    if _SUBSET in table:
        for more, value in zip(dictionaries, table[_SUBSET].tolist(), strict=True):
            more[_CLASS] = int(value) - 1
    posed = {*EULER_LABELS, *SHIFT_LABELS} & set(table)
    if posed:
        for more, row in zip(dictionaries, _matrices(particles).tolist(), strict=True):
            more[_PROJECTION] = {"__class__": "Transform", "matrix": _MATRIX_FORM % tuple(row)}
    lost = find_lost(particles, {*posed, *own, _SUBSET, IMAGE_NAME}, "an EMAN2 list")
    return list(zip(indices.tolist(), files, dictionaries, strict=True)), lost


def _matrices(particles: Particles) -> NDArray[np.float64]:
    """Return twelve numbers for each particle: the rotation matrix with the shift as its fourth column."""
    shifts = -particles.shifts / optics_columns(particles)[PIXEL_SIZE][:, None]
    last = np.concatenate([shifts, np.zeros((len(shifts), 1))], axis=1) + 0.0
    return np.concatenate([euler_to_matrix(particles.eulers), last[:, :, None]], axis=2).reshape(-1, 12)
