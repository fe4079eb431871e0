"""What particles, micrographs and movies have in common: a table with a row an image, and optics groups."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from vitrea.records.optics import Optics
from vitrea.records.table import Table


@dataclass(frozen=True)
class ImageSet:
    """Images under RELION's labels, in the form of RELION >= 3.1 (optics groups, Å) whatever the file's dialect.

    Attributes
    ----------
    table : Table
        One row an image, RELION labels without the underscore; unknown columns are kept. ``rlnOpticsGroup`` holds
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
        """Return the number of images."""
        return len(self.table)

    @property
    def optics_index(self) -> NDArray[np.int64]:
        """Index into ``optics`` for each image, shape [images]."""
        order = {group.group: i for i, group in enumerate(self.optics)}
        numbers = np.asarray(self.table["rlnOpticsGroup"], dtype=np.int64)
        return np.array([order[int(number)] for number in numbers], dtype=np.int64)

    def rows(self, index: Any) -> Self:
        """Return the images that an index array, slice or boolean mask selects."""
        return replace(self, table=self.table.rows(index))

    def with_columns(self, new: Mapping[str, Any]) -> Self:
        """Return a copy with columns replaced or added."""
        return replace(self, table=self.table.with_columns(new))
