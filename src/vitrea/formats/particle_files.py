"""Particle sets in STAR files, flat (RELION 1.3 to 3.0) or with optics groups (3.1 and later)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from vitrea.formats.image_names import find_file, join_image_name, project_name, split_image_name
from vitrea.formats.image_stacks import read_stack_header
from vitrea.formats.optics_groups import (
    GROUP,
    IMAGE_SIZE,
    group_flat_rows,
    optics_from_table,
    optics_to_table,
    spread_over_rows,
)
from vitrea.formats.star import Block, read_star, write_star
from vitrea.formats.star_values import text_column
from vitrea.records.errors import InputError
from vitrea.records.particles import DEFOCUS_LABELS, EULER_LABELS, SHIFT_LABELS, Particles
from vitrea.records.table import Table

IMAGE_NAME = "rlnImageName"
# Flat files give shifts in pixels, files with optics groups in Å.
_IN_PIXELS = {
    "rlnOriginX": "rlnOriginXAngst",
    "rlnOriginY": "rlnOriginYAngst",
    "rlnOriginZ": "rlnOriginZAngst",
    "rlnOriginXPrior": "rlnOriginXPriorAngst",
    "rlnOriginYPrior": "rlnOriginYPriorAngst",
    "rlnOriginZPrior": "rlnOriginZPriorAngst",
}
_MUST_BE_FINITE = (*DEFOCUS_LABELS, *EULER_LABELS, *SHIFT_LABELS, *_IN_PIXELS, "rlnPhaseShift", "rlnCtfBfactor",
                   "rlnCtfScalefactor", "rlnRandomSubset", "rlnClassNumber", "rlnGroupNumber", GROUP)  # fmt: skip


def read_particles(
    path: str | Path, *, require_ctf: bool = True, require_images: bool = True, pixel_size: float | None = None
) -> Particles:
    """Read a particle set of any dialect.

    Flat files become what RELION >= 3.1 would have written: optics groups are formed from the rows, shifts become Å.
    Columns Vitrea does not know are kept.

    Parameters
    ----------
    path : str or Path
        The STAR file.
    require_ctf : bool
        Whether defocus, voltage, Cs and amplitude contrast must be there. Where they are not required and absent, the
        fields of the optics record are 0.
    require_images : bool
        Whether every row must name an image. If so and the file gives no image size, it is taken from the first
        stack of each group.
    pixel_size : float, optional
        Å per pixel, used only where the file gives none.

    Returns
    -------
    Particles
        ``image_root`` is the STAR file's folder.

    Raises
    ------
    InputError
        One sentence naming file and field: missing or unreadable file, no particles, optics block missing,
        an optics group that is not defined, missing columns, values that are not numbers.
    """
    path = Path(path)
    blocks = read_star(path)
    table = _particle_block(blocks, path, require_images)
    for label in DEFOCUS_LABELS if require_ctf else ():
        if label not in table:
            raise InputError(f"{path} lacks the column {label}, which CTF correction needs")
    check_numbers(table, path)
    if "optics" in blocks:
        optics_table = block_as_table(blocks["optics"])
    else:
        table, optics_table = group_flat_rows(table, path, require_ctf=require_ctf, pixel_size=pixel_size)
    if not len(optics_table):
        raise InputError(f"{path}: data_optics is empty")
    table = with_group_column(table, optics_table, path)
    sizes = _image_sizes(table, path) if require_images and IMAGE_SIZE not in optics_table else {}
    optics = optics_from_table(optics_table, path, sizes, require_ctf=require_ctf, pixel_size=pixel_size)
    particles = Particles(table, optics, source=path, optics_table=optics_table, image_root=path.parent)
    pixel_sizes = np.array([group.pixel_size for group in optics])[particles.optics_index]
    return replace(particles, table=_rename_shifts(table, _IN_PIXELS, pixel_sizes))


def write_particles(
    path: str | Path, particles: Particles, *, dialect: Literal["3.1", "1.3"] = "3.1", comment: str = ""
) -> None:
    """Write a particle set, whole or not at all.

    Image names are written as they are; `relink_images` makes them fit another folder.

    Parameters
    ----------
    path : str or Path
        The STAR file.
    particles : Particles
        The records in ``optics`` decide the optics block; other columns of ``optics_table`` are kept.
    dialect : "3.1" or "1.3"
        With optics groups and shifts in Å, or flat: one table, shifts in pixels, optics in every row, the pixel size
        as detector pixel size and magnification.
    comment : str
        Lines to put first.

    Raises
    ------
    InputError
        If the file cannot be written.
    """
    optics = optics_to_table(particles.optics, particles.optics_table)
    if dialect == "3.1":
        write_star(path, {"optics": optics, "particles": particles.table}, comment)
    elif dialect == "1.3":
        index = particles.optics_index
        pixel_sizes = np.array([group.pixel_size for group in particles.optics])[index]
        to_pixels = {angstroms: pixels for pixels, angstroms in _IN_PIXELS.items()}
        flat = _rename_shifts(particles.table.without(GROUP), to_pixels, 1.0 / pixel_sizes)
        write_star(path, {"": flat.with_columns(spread_over_rows(optics, index))}, comment, version=None)
    else:
        raise ValueError(f"the dialect is 3.1 or 1.3, not {dialect}")


def relink_images(particles: Particles, folder: str | Path) -> Particles:
    """Return particles whose image names are found from a STAR file in another folder.

    Names become relative to the current (project) folder where the images lie below it, as RELION has it, else
    absolute. Names without a file stay as they are.

    Raises
    ------
    InputError
        If a stack does not exist.
    """
    if IMAGE_NAME not in particles.table:
        return replace(particles, image_root=Path(folder))
    new_names: dict[str, str] = {}
    names = particles.table[IMAGE_NAME].astype(object)
    for row, name in enumerate(names):
        file, index = split_image_name(name)
        if file not in new_names:
            new_names[file] = project_name(find_file(file, particles.image_root))
        if new_names[file] != file:  # else the same text is kept, not one more of it
            names[row] = join_image_name(new_names[file], index) if "@" in name else new_names[file]
    return replace(particles.with_columns({IMAGE_NAME: names}), image_root=Path(folder))


def block_as_table(block: Block) -> Table:
    """Return a block of a STAR file as a table; one without a loop has one row."""
    if isinstance(block, Table):
        return block
    return Table({label: text_column([v]) if isinstance(v, str) else np.array([v]) for label, v in block.items()})


def _particle_block(blocks: dict[str, Block], path: Path, require_images: bool) -> Table:
    tables = {name: block_as_table(block) for name, block in blocks.items() if name != "optics"}
    named = [table for table in tables.values() if IMAGE_NAME in table]
    posed = [table for table in tables.values() if any(label in table for label in (*EULER_LABELS, *DEFOCUS_LABELS))]
    if "particles" in tables:
        table = tables["particles"]
    elif named:
        table = named[0]
    elif posed and not require_images:
        table = posed[0]
    else:
        found = ", ".join(f"data_{name}" for name in blocks)
        raise InputError(f"{path} is not a particle file: no block has the column {IMAGE_NAME} (it has {found})")
    if require_images and IMAGE_NAME not in table:
        raise InputError(f"{path} lacks the column {IMAGE_NAME}")
    if not len(table):
        raise InputError(f"{path} holds no particles")
    return table


def check_numbers(table: Table, path: Path) -> None:
    """Check that columns which runs compute with hold finite numbers.

    Raises
    ------
    InputError
        Naming the first particle without one.
    """
    for label in _MUST_BE_FINITE:
        if label not in table:
            continue
        column = table[label]
        if column.dtype == object:
            row, value = next((i, word) for i, word in enumerate(column) if not _is_number(word))
            raise InputError(f"{path}: {label} of particle {row + 1} is {value!r}, not a number")
        bad = np.flatnonzero(~np.isfinite(column))
        if len(bad):
            raise InputError(f"{path}: {label} of particle {bad[0] + 1} is {column[bad[0]]}, not a finite number")


def _is_number(word: Any) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return "_" not in str(word)


def with_group_column(table: Table, optics: Table, path: Path, noun: str = "particle") -> Table:
    """Return the rows with ``rlnOpticsGroup``, all of whose numbers ``data_optics`` defines once.

    Raises
    ------
    InputError
        If a group is not defined or defined twice, or the column is missing and there is more than one group.
    """
    if GROUP not in optics:
        raise InputError(f"{path}: data_optics lacks the column {GROUP}")
    defined = optics[GROUP]
    numbers, counts = np.unique(defined, return_counts=True)
    if len(numbers) < len(defined):
        raise InputError(f"{path}: data_optics defines {GROUP} {numbers[counts > 1][0]} twice")
    if GROUP not in table:
        if len(defined) > 1:
            raise InputError(f"{path}: the {noun}s lack the column {GROUP}, and data_optics defines {len(defined)}")
        return table.with_columns({GROUP: np.full(len(table), defined[0])})
    dangling = np.flatnonzero(~np.isin(table[GROUP], defined))
    if len(dangling):
        known = ", ".join(str(number) for number in defined)
        raise InputError(
            f"{path}: {noun} {dangling[0] + 1} belongs to {GROUP} {table[GROUP][dangling[0]]}, which data_optics "
            f"does not define (it defines {known})"
        )
    return table


def _image_sizes(table: Table, path: Path) -> dict[int, int]:
    """Return the box of each optics group as the header of its first image's stack has it."""
    numbers, first = np.unique(table[GROUP], return_index=True)
    sizes = {}
    for number, row in zip(numbers, first, strict=True):
        file, _ = split_image_name(table[IMAGE_NAME][row])
        sizes[int(number)] = read_stack_header(find_file(file, path.parent)).shape[2]
    return sizes


def _rename_shifts(table: Table, names: dict[str, str], factors: NDArray[np.float64]) -> Table:
    """Scale the columns that `names` maps by a factor a row, under their new names, in their old places.

    A file that has both units is believed in the new one.
    """
    columns: dict[str, Any] = {}
    for label, column in table.columns.items():
        if label not in names:
            columns[label] = column
        elif names[label] not in table:
            columns[names[label]] = np.asarray(column, dtype=np.float64) * factors
    return Table(columns)
