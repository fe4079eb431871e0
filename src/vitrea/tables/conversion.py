"""What all conversions between programs share: one row a particle under RELION's labels, and what could not be carried.

On the way in, optics stand in every row of the table (voltage, pixel size ...), as in the files of all programs but
RELION >= 3.1; `particles_of_rows` forms the groups. What a program says that RELION has no label for keeps that
program's name (``cisTEMScore``, ``alignments3D/error``), so that it is there again on the way back.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vitrea.formats.image_names import join_image_name, split_image_name
from vitrea.formats.optics_groups import GROUP, IMAGE_SIZE, PIXEL_SIZE, group_flat_rows, optics_from_table
from vitrea.formats.star_values import text_column
from vitrea.records.errors import InputError
from vitrea.records.particles import Particles
from vitrea.records.table import Column, Table, distinct

IMAGE_NAME, MICROGRAPH = "rlnImageName", "rlnMicrographName"
VOLTAGE, CS, CONTRAST = "rlnVoltage", "rlnSphericalAberration", "rlnAmplitudeContrast"
BEAM_TILT = ("rlnBeamTiltX", "rlnBeamTiltY")
_GROUP_NAME = "rlnOpticsGroupName"
# Columns of the optics block that say nothing a particle's row needs.
_BOOKKEEPING = (GROUP, IMAGE_SIZE, PIXEL_SIZE, "rlnImageDimensionality", "rlnMicrographOriginalPixelSize")


@dataclass(frozen=True)
class Lost:
    """A column that could not be carried, and why."""

    column: str
    reason: str


@dataclass(frozen=True)
class Converted:
    """A table in another program's terms.

    Attributes
    ----------
    table : Table
    lost : tuple of Lost
    notes : tuple of str
        Sentences on what the user should know.
    """

    table: Table
    lost: tuple[Lost, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class GivenImages:
    """What the user says of images whose file does not; 0 and empty: nothing.

    Attributes
    ----------
    pixel_size : float
        Å.
    voltage : float
        kV.
    spherical_aberration : float
        mm.
    amplitude_contrast : float
    image_size : int
        Pixels.
    stack : str
        File of the images, where only their numbers are given.
    """

    pixel_size: float = 0.0
    voltage: float = 0.0
    spherical_aberration: float = 0.0
    amplitude_contrast: float = 0.0
    image_size: int = 0
    stack: str = ""

    def fill(self, table: Table) -> Table:
        """Return a table of rows with what it does not say itself."""
        new: dict[str, Column] = {}
        given = {PIXEL_SIZE: self.pixel_size, VOLTAGE: self.voltage, CS: self.spherical_aberration,
                 CONTRAST: self.amplitude_contrast}  # fmt: skip
        for label, value in given.items():
            if value and (label not in table or not table[label].any()):
                new[label] = np.full(len(table), value)
        if self.image_size and IMAGE_SIZE not in table:
            new[IMAGE_SIZE] = np.full(len(table), self.image_size)
        return table.with_columns(new)


def particles_of_rows(rows: Table, source: Path) -> Particles:
    """Form optics groups from rows that hold them.

    Parameters
    ----------
    rows : Table
        RELION's labels, shifts in Å; ``rlnImagePixelSize`` and, where known, voltage, Cs, amplitude contrast, box.
    source : Path
        The file, for messages.

    Raises
    ------
    InputError
        If there is no pixel size, or an optics field is impossible.
    """
    if PIXEL_SIZE not in rows:
        raise InputError(f"{source} does not tell the pixel size of the images; give --pixel_size")
    boxes = rows.numbers(IMAGE_SIZE, 0.0).astype(np.int64)
    table, optics_table = group_flat_rows(rows.without(IMAGE_SIZE), source, require_ctf=False, pixel_size=None)
    groups = table[GROUP]
    sizes = {int(number): int(boxes[groups == number][0]) for number in np.unique(groups)}
    optics = optics_from_table(optics_table, source, sizes, require_ctf=False, pixel_size=None)
    return Particles(table, optics, source=source, optics_table=optics_table, image_root=source.parent)


def optics_columns(particles: Particles) -> dict[str, Column]:
    """Return what the optics groups say of each particle, as columns."""
    index, groups = particles.optics_index, particles.optics
    fields = {PIXEL_SIZE: "pixel_size", VOLTAGE: "voltage", CS: "spherical_aberration", CONTRAST: "amplitude_contrast",
              BEAM_TILT[0]: "beam_tilt_x", BEAM_TILT[1]: "beam_tilt_y", IMAGE_SIZE: "image_size"}  # fmt: skip
    return {label: np.array([getattr(group, field) for group in groups])[index] for label, field in fields.items()}


def find_lost(particles: Particles, carried: Collection[str], program: str) -> tuple[Lost, ...]:
    """Return the columns that a conversion has no place for.

    Parameters
    ----------
    particles : Particles
    carried : collection of str
        Labels, of particles and optics, that it has.
    program : str
        For the reason.
    """
    reason = f"{program} has no such column"
    lost = [Lost(label, reason) for label in particles.table if label not in (*carried, GROUP)]
    lost += [] if PIXEL_SIZE in carried else [Lost(PIXEL_SIZE, reason)]
    block = particles.optics_table
    if block is None:
        return tuple(lost)
    for label, column in block.columns.items():
        if label in carried or label in _BOOKKEEPING or label in particles.table:
            continue
        if label == _GROUP_NAME and _are_usual_names(block):
            continue
        if column.dtype == object or np.any(column.astype(np.float64) != 0):
            lost.append(Lost(label, f"{program} has no optics groups" if label == _GROUP_NAME else reason))
    return tuple(lost)


def _are_usual_names(block: Table) -> bool:
    return all(
        name == f"opticsGroup{number}" for name, number in zip(block[_GROUP_NAME], block[GROUP].tolist(), strict=True)
    )


def split_names(names: Column) -> tuple[list[str], NDArray[np.int64]]:
    """Split image names into files and indices from 0."""
    pairs = [split_image_name(name) for name in names.tolist()]
    return [file for file, _ in pairs], np.array([index for _, index in pairs], dtype=np.int64)


def join_names(files: list[str], indices: NDArray[np.int64]) -> Column:
    """Join files and indices from 0 to image names."""
    return text_column([join_image_name(file, index) for file, index in zip(files, indices.tolist(), strict=True)])


def renamed(table: Table, labels: Mapping[str, str]) -> dict[str, Column]:
    """Return the columns of a table that `labels` maps, under their new names."""
    return {new: table[old] for old, new in labels.items() if old in table}


def numbered_micrographs(table: Table) -> Column:
    """Return a number from 1 for the micrograph of each row, in the order of their names; 1 where none is named."""
    if MICROGRAPH not in table:
        return np.ones(len(table), dtype=np.int64)
    return distinct(table[MICROGRAPH])[1] + 1
