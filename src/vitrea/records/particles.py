"""A particle set: a table with one row a particle, and the optics groups it refers to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vitrea.records.optics import Optics
from vitrea.records.table import Table

DEFOCUS_LABELS = ("rlnDefocusU", "rlnDefocusV", "rlnDefocusAngle")
EULER_LABELS = ("rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi")
SHIFT_LABELS = ("rlnOriginXAngst", "rlnOriginYAngst")


@dataclass(frozen=True)
class Particles:
    """Particles in RELION's terms, RELION >= 3.1 form (shifts in Å, optics groups) whatever the file's dialect.

    Attributes
    ----------
    table : Table
        One row a particle, RELION labels without the underscore; unknown columns are kept. ``rlnOpticsGroup`` holds
        the group's number.
    optics : tuple of Optics
        The optics groups.
    source : Path or None
        The STAR file these came from.
    optics_table : Table
        The optics block as read, so that columns Vitrea does not know survive.
    image_root : Path or None
        Folder that relative image names start from.
    """

    table: Table
    optics: tuple[Optics, ...]
    source: Path | None = None
    optics_table: Table | None = None
    image_root: Path | None = None

    def __len__(self) -> int:
        """Return the number of particles."""
        return len(self.table)

    @property
    def optics_index(self) -> NDArray[np.int64]:
        """Index into ``optics`` for each particle, shape [particles]."""
        order = {group.group: i for i, group in enumerate(self.optics)}
        numbers = np.asarray(self.table["rlnOpticsGroup"], dtype=np.int64)
        return np.array([order[int(number)] for number in numbers], dtype=np.int64)

    @property
    def defocus(self) -> NDArray[np.float64]:
        """Defocus U and V in Å and astigmatism angle in degrees, shape [particles, 3]."""
        return np.stack([self.table.numbers(label) for label in DEFOCUS_LABELS], axis=1)

    @property
    def eulers(self) -> NDArray[np.float64]:
        """Angles rot, tilt, psi in degrees, shape [particles, 3]; zeros where absent."""
        return np.stack([self.table.numbers(label, 0.0) for label in EULER_LABELS], axis=1)

    @property
    def shifts(self) -> NDArray[np.float64]:
        """Shifts x, y in Å that bring each particle to the centre, shape [particles, 2]; zeros where absent."""
        return np.stack([self.table.numbers(label, 0.0) for label in SHIFT_LABELS], axis=1)

    def rows(self, index: Any) -> Particles:
        """Return the particles that an index array, slice or boolean mask selects."""
        return replace(self, table=self.table.rows(index))

    def with_columns(self, new: Mapping[str, Any]) -> Particles:
        """Return a copy with columns replaced or added."""
        return replace(self, table=self.table.with_columns(new))
