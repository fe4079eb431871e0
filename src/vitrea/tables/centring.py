"""Shifts that centre particles on another point of their reference."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vitrea.formats.optics_groups import GROUP, PIXEL_SIZE
from vitrea.geometry.euler import euler_to_matrix
from vitrea.records.particles import EULER_LABELS
from vitrea.records.table import Table

_AXES = "XYZ"


def centre_on(table: Table, optics: Table | None, point: Sequence[float]) -> Table:
    """Shift particles so that a point of the reference, instead of its centre, comes to the centre of the images.

    A point c is seen at A c, A being the particle's rotation matrix; RELION's origin changes by minus that, as with
    ``relion_star_handler --center``.

    Parameters
    ----------
    table : Table
        Particles with angles and with origins, in Å (``rlnOriginXAngst``) or in pixels (``rlnOriginX``).
    optics : Table or None
        The ``data_optics`` block, which has the pixel size that origins in Å need.
    point : (float, float, float)
        x, y, z in pixels of the reference, from its centre.

    Raises
    ------
    ValueError
        If a column is missing, or holds text.
    """
    missing = [label for label in EULER_LABELS if label not in table]
    if missing:
        raise ValueError(f"there is no column {missing[0]}, without which a point of the reference has no place")
    seen = euler_to_matrix(np.stack([table.numbers(label) for label in EULER_LABELS], axis=1)) @ np.asarray(point)
    is_angstrom = "rlnOriginXAngst" in table
    labels = [f"rlnOrigin{axis}{'Angst' if is_angstrom else ''}" for axis in _AXES]
    if not set(labels[:2]) <= set(table):
        raise ValueError(f"there are no columns {labels[0]} and {labels[1]}")
    scale = _pixel_sizes(table, optics) if is_angstrom else np.ones(len(table))
    moved = {label: table.numbers(label) - scale * seen[:, axis] for axis, label in enumerate(labels) if label in table}
    return table.with_columns(moved)


def _pixel_sizes(table: Table, optics: Table | None) -> NDArray[np.float64]:
    """Return Å per pixel of each row."""
    if PIXEL_SIZE in table:
        return table.numbers(PIXEL_SIZE)
    if optics is None or PIXEL_SIZE not in optics or GROUP not in optics:
        raise ValueError(f"origins are in Å, and there is no data_optics that has {PIXEL_SIZE}")
    if len(optics) == 1:
        return np.full(len(table), optics.numbers(PIXEL_SIZE)[0])
    sizes = dict(zip(optics[GROUP].tolist(), optics.numbers(PIXEL_SIZE).tolist(), strict=True))
    try:
        return np.array([sizes[group] for group in table[GROUP].tolist()])
    except KeyError as error:
        raise ValueError(f"rows belong to optics group {error}, which data_optics does not define") from None
