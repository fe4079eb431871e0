"""Several particle sets as one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vitrea.formats.optics_groups import optics_to_table
from vitrea.formats.optics_joining import join_optics_blocks
from vitrea.records.optics import Optics
from vitrea.records.particles import Particles
from vitrea.records.table import Table, concatenate_columns

_GROUP, _GROUP_NAME = "rlnOpticsGroup", "rlnOpticsGroupName"
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
    columns: dict[str, Any] = {label: concatenate_columns([one.table[label] for one in sets]) for label in shared}
    columns[_GROUP] = np.concatenate([new[one.optics_index] for one, new in zip(sets, numbers, strict=True)])
    lost = dict.fromkeys(
        label for one in sets for label in one.table if label not in columns and label not in _PER_FILE
    )
    joined = replace(sets[0], table=Table(columns), optics=optics, optics_table=optics_table)
    return Joined(joined, tuple(lost))


def _join_optics(sets: Sequence[Particles]) -> tuple[tuple[Optics, ...], Table, list[NDArray[np.int64]]]:
    """Merge the optics groups; also return the new numbers of each set's groups."""
    block, renumbered = join_optics_blocks([optics_to_table(one.optics, one.optics_table) for one in sets])
    names = dict(zip(block[_GROUP].tolist(), block[_GROUP_NAME].tolist(), strict=True))
    optics: dict[int, Optics] = {}
    numbers = []
    for one, new in zip(sets, renumbered, strict=True):
        for group in one.optics:
            number = new[group.group]
            optics.setdefault(number, replace(group, group=number, name=names[number]))
        numbers.append(np.array([new[group.group] for group in one.optics], dtype=np.int64))
    return tuple(optics[number] for number in block[_GROUP].tolist()), block, numbers
