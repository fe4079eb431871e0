"""Several particle sets as one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vitrea.formats.optics_groups import optics_to_table
from vitrea.records.optics import Optics
from vitrea.records.particles import Particles
from vitrea.records.table import Table

_GROUP, _GROUP_NAME = "rlnOpticsGroup", "rlnOpticsGroupName"
# A field that is not given and one that is 0 say the same.
_BLANK = (0, "", "[]")
# Numbers that mean something within one file only.
_PER_FILE = ("rlnGroupNumber",)


@dataclass(frozen=True)
class Joined:
    """Particle sets joined.

    Attributes
    ----------
    particles : Particles
    dropped_columns : tuple of str
        Columns that not all sets had, and that are therefore lost.
    """

    particles: Particles
    dropped_columns: tuple[str, ...]


def join_particles(sets: Sequence[Particles]) -> Joined:
    """Put particle sets one behind the other.

    Optics groups that agree in everything, name included, become one; others stay apart, are numbered anew and, where
    two bear the same name, the later one's gets a number. Only columns that all sets have are kept: a value made up for
    the others would be taken for a measurement. ``rlnGroupNumber`` goes, since each file counts for itself.

    Parameters
    ----------
    sets : sequence of Particles
        At least one; image names must be valid from the same folder.
    """
    if len(sets) == 1:
        return Joined(sets[0], ())
    optics, optics_table, numbers = _join_optics(sets)
    shared = [label for label in sets[0].table if all(label in one.table for one in sets) and label not in _PER_FILE]
    columns: dict[str, Any] = {label: _concatenate([one.table[label] for one in sets]) for label in shared}
    columns[_GROUP] = np.concatenate([new[one.optics_index] for one, new in zip(sets, numbers, strict=True)])
    lost = dict.fromkeys(
        label for one in sets for label in one.table if label not in columns and label not in _PER_FILE
    )
    joined = replace(sets[0], table=Table(columns), optics=optics, optics_table=optics_table)
    return Joined(joined, tuple(lost))


def _concatenate(parts: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """Join columns; where one of them holds text, all become text."""
    if len({part.dtype == object for part in parts}) > 1:
        parts = [np.array([str(value) for value in part.tolist()], dtype=object) for part in parts]
    return np.concatenate(parts)


def _join_optics(sets: Sequence[Particles]) -> tuple[tuple[Optics, ...], Table, list[NDArray[np.int64]]]:
    """Merge the optics groups; also return the new numbers of each set's groups."""
    known: dict[object, int] = {}
    optics: list[Optics] = []
    rows: list[dict[str, Any]] = []
    numbers = []
    for one in sets:
        new = np.empty(len(one.optics), dtype=np.int64)
        for place, group in enumerate(one.optics):
            row = _optics_row(one, group)
            key = frozenset((label, value) for label, value in row.items() if value not in _BLANK)
            if key not in known:
                known[key] = len(optics) + 1
                name = _free_name(group.name, {other.name for other in optics})
                optics.append(replace(group, group=known[key], name=name))
                rows.append({**row, _GROUP: known[key], _GROUP_NAME: name})
            new[place] = known[key]
        numbers.append(new)
    return tuple(optics), _table(rows), numbers


def _optics_row(particles: Particles, group: Optics) -> dict[str, Any]:
    """Return all that is known of a group, its number left out, in one form whatever the file's dialect."""
    row = optics_to_table((group,), particles.optics_table)
    return {label: column.tolist()[0] for label, column in row.columns.items() if label != _GROUP}


def _free_name(name: str, taken: set[str]) -> str:
    number, free = 1, name
    while free in taken:
        number += 1
        free = f"{name}_{number}"
    return free


def _table(rows: Sequence[dict[str, Any]]) -> Table:
    """Lay out rows as columns; what a row lacks is 0 or empty text."""
    columns = {}
    for label in dict.fromkeys(label for row in rows for label in row):
        values = [row[label] for row in rows if label in row]
        is_text = any(isinstance(value, str) for value in values)
        filled = [row.get(label, "" if is_text else 0) for row in rows]
        columns[label] = np.array([str(v) for v in filled], dtype=object) if is_text else np.array(filled)
    return Table(columns)
