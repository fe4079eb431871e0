"""Micrographs and movies: STAR files, flat (RELION 1.3 to 3.0) or with optics groups (3.1 and later), or images."""

from __future__ import annotations

import glob
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np

from vitrea.formats.image_names import locate_file
from vitrea.formats.movies import EXPOSURE_SUFFIXES
from vitrea.formats.optics_groups import (
    GROUP,
    group_flat_rows,
    optics_from_table,
    optics_to_table,
    spread_over_rows,
)
from vitrea.formats.particle_files import block_as_table, with_group_column
from vitrea.formats.star import Block, read_star, write_star
from vitrea.formats.star_values import text_column
from vitrea.records.errors import InputError
from vitrea.records.micrographs import GivenOptics, Micrographs, Movies
from vitrea.records.optics import Optics
from vitrea.records.table import Table

Exposures = TypeVar("Exposures", Micrographs, Movies)

_PIXEL_SIZE = "rlnMicrographPixelSize"
_MOVIE_PIXEL_SIZE = "rlnMicrographOriginalPixelSize"


@dataclass(frozen=True)
class _Kind:
    """How RELION writes a set of micrographs or of movies."""

    block: str  # name of the block without data_
    noun: str  # of one of them
    pixel_labels: tuple[str, ...]  # of the optics groups, what the images in the files have; the first is written


_KINDS: dict[type, _Kind] = {
    Micrographs: _Kind("micrographs", "micrograph", (_PIXEL_SIZE, _MOVIE_PIXEL_SIZE)),
    Movies: _Kind("movies", "movie", (_MOVIE_PIXEL_SIZE, _PIXEL_SIZE)),
}
_GIVEN = {
    "rlnVoltage": "voltage",
    "rlnSphericalAberration": "spherical_aberration",
    "rlnAmplitudeContrast": "amplitude_contrast",
}
_ROUNDING = 0.01  # pixel sizes closer than this are the same number, rounded
_FINITE = ("rlnDefocusU", "rlnDefocusV", "rlnDefocusAngle", "rlnPhaseShift", GROUP)


def read_micrographs(
    path: str | Path, given: GivenOptics | None = None, *, require_optics: bool = True, require_ctf: bool = False
) -> Micrographs:
    """Read a micrograph STAR file of any dialect.

    Parameters
    ----------
    path : str or Path
        The STAR file.
    given : GivenOptics, optional
        Pixel size, voltage, Cs, amplitude contrast for where the file gives none (RELION 1.3's import writes names
        alone). Where both give a value they must agree.
    require_optics : bool
        Whether voltage, Cs and amplitude contrast must be known; else absent ones are 0. The pixel size always must.
    require_ctf : bool
        Whether every micrograph must have a defocus.

    Raises
    ------
    InputError
        One sentence naming file and field: missing or unreadable file, no micrographs, a name twice, an optics group
        that is not defined, missing columns, values that are not numbers.
    """
    micrographs = _read(Micrographs, Path(path), given or GivenOptics(), require_optics)
    if require_ctf and not micrographs.has_ctf:
        raise InputError(f"{path} has no rlnDefocusU, rlnDefocusV and rlnDefocusAngle; estimate the CTF first")
    return micrographs


def read_movies(path: str | Path, given: GivenOptics | None = None, *, require_optics: bool = True) -> Movies:
    """Read a movie STAR file; parameters and errors as in `read_micrographs`."""
    return _read(Movies, Path(path), given or GivenOptics(), require_optics)


def micrographs_from_images(images: Iterable[str | Path], given: GivenOptics) -> Micrographs:
    """Return the micrographs that these image files are, all in one optics group. No file is opened.

    Raises
    ------
    InputError
        If there is no image, or one is named twice, or no pixel size is given.
    """
    return _from_images(Micrographs, images, given)


def movies_from_images(images: Iterable[str | Path], given: GivenOptics) -> Movies:
    """Return the movies that these files are, as `micrographs_from_images` does."""
    return _from_images(Movies, images, given)


def open_micrographs(
    inputs: Sequence[str | Path],
    given: GivenOptics | None = None,
    *,
    require_optics: bool = True,
    require_ctf: bool = False,
) -> Micrographs:
    """Return the micrographs that the user named: one STAR file, or images, globs and folders of them.

    Parameters and errors are those of `read_micrographs` and `micrographs_from_images`.
    """
    if star := _only_star(inputs):
        return read_micrographs(star, given, require_optics=require_optics, require_ctf=require_ctf)
    if require_ctf:
        raise InputError("images carry no defocus; give the STAR file of a CTF estimation instead")
    return micrographs_from_images(expand_names(inputs), _checked(given or GivenOptics(), require_optics))


def open_movies(
    inputs: Sequence[str | Path], given: GivenOptics | None = None, *, require_optics: bool = True
) -> Movies:
    """Return the movies that the user named: one STAR file, or files, globs and folders of them."""
    if star := _only_star(inputs):
        return read_movies(star, given, require_optics=require_optics)
    return movies_from_images(expand_names(inputs), _checked(given or GivenOptics(), require_optics))


def write_micrographs(
    path: str | Path, exposures: Micrographs | Movies, *, dialect: Literal["3.1", "1.3"] = "3.1", comment: str = ""
) -> None:
    """Write micrographs or movies, whole or not at all.

    Parameters
    ----------
    path : str or Path
        The STAR file.
    exposures : Micrographs or Movies
        The records in ``optics`` decide the optics block; other columns of ``optics_table`` are kept.
    dialect : "3.1" or "1.3"
        With optics groups, or one flat table with the optics in every row.
    comment : str
        Lines to put first.

    Raises
    ------
    InputError
        If the file cannot be written.
    """
    kind = _KINDS[type(exposures)]
    optics = optics_to_table(exposures.optics, exposures.optics_table, kind.pixel_labels[0])
    if dialect == "3.1":
        write_star(path, {"optics": optics, kind.block: exposures.table}, comment)
        return
    flat = spread_over_rows(optics, exposures.optics_index, kind.pixel_labels[0])
    write_star(path, {"": exposures.table.without(GROUP).with_columns(flat)}, comment, version=None)


def locate_images(exposures: Micrographs | Movies) -> list[Path]:
    """Return where the file of each micrograph or movie lies.

    Raises
    ------
    InputError
        For the first that does not exist; `locate_image` finds one at a time.
    """
    return [locate_image(exposures, row) for row in range(len(exposures))]


def locate_image(exposures: Micrographs | Movies, row: int) -> Path:
    """Return where the file of one micrograph or movie lies; InputError if it does not exist."""
    noun = _KINDS[type(exposures)].noun
    return locate_file(str(exposures.names[row]), exposures.image_root, noun, exposures.name_label)


def expand_names(inputs: Iterable[str | Path], suffixes: Sequence[str] = EXPOSURE_SUFFIXES) -> list[Path]:
    """Return the files that names, globs (``Movies/*.tif``, ``**`` for all folders below) and folders stand for.

    Parameters
    ----------
    inputs : iterable of str or Path
        Names are kept as they are, in order; what a glob or a folder stands for is sorted.
    suffixes : sequence of str
        Endings that are taken out of folders.

    Raises
    ------
    InputError
        If a glob or a folder stands for nothing.
    """
    found: list[Path] = []
    for name in inputs:
        text = str(name)
        if Path(text).is_dir():
            some = sorted(path for path in Path(text).iterdir() if path.suffix.lower() in suffixes)
            if not some:
                raise InputError(f"the folder {text} holds no files that end in {', '.join(suffixes)}")
        elif glob.has_magic(text) and not Path(text).exists():
            some = _matches(text)
            if not some:
                raise InputError(f"no file matches {text}")
        else:
            some = [Path(text)]
        found += some
    return found


def _matches(pattern: str) -> list[Path]:
    names = map(Path, glob.iglob(pattern, recursive=True))  # noqa: PTH207 - Path.glob takes no absolute pattern
    return sorted(path for path in names if path.is_file())


def _only_star(inputs: Sequence[str | Path]) -> Path | None:
    stars = [Path(name) for name in inputs if Path(name).suffix.lower() == ".star"]
    if stars and len(inputs) > 1:
        raise InputError(f"give either one STAR file or images, not {stars[0]} together with {len(inputs) - 1} others")
    return stars[0] if stars else None


def _checked(given: GivenOptics, require_optics: bool) -> GivenOptics:
    absent = [field for field in _GIVEN.values() if getattr(given, field) is None]
    if require_optics and absent:
        option = f"--{absent[0]}"
        raise InputError(f"give the {absent[0].replace('_', ' ')} with {option}: images alone do not tell it")
    return given


def _from_images(kind: type[Exposures], images: Iterable[str | Path], given: GivenOptics) -> Exposures:
    names = [str(image) for image in images]
    noun = _KINDS[kind].noun
    if not names:
        raise InputError(f"there are no {noun}s")
    table = Table({kind.name_label: text_column(names), GROUP: np.ones(len(names), dtype=np.int64)})
    _check_names(kind, table, f"the list of {noun}s")
    if given.pixel_size is None:
        raise InputError(f"give the pixel size of the {noun}s with --angpix (in Å): images alone do not tell it")
    return kind(table, (_given_group(given, given.pixel_size),))


def _given_group(given: GivenOptics, pixel_size: float) -> Optics:
    return Optics(
        pixel_size=pixel_size,
        image_size=0,
        voltage=given.voltage or 0.0,
        spherical_aberration=given.spherical_aberration or 0.0,
        amplitude_contrast=given.amplitude_contrast or 0.0,
        beam_tilt_x=given.beam_tilt_x,
        beam_tilt_y=given.beam_tilt_y,
        name=given.name,
        mtf_file=given.mtf_file,
        original_pixel_size=pixel_size,
    )


def _read(kind: type[Exposures], path: Path, given: GivenOptics, require_optics: bool) -> Exposures:
    blocks = read_star(path)
    table = _block(kind, blocks, path)
    _check_names(kind, table, str(path))
    _check_numbers(kind, table, path)
    labels = _KINDS[kind].pixel_labels
    if "optics" in blocks:
        optics_table = _filled(block_as_table(blocks["optics"]), given, path)
        table = with_group_column(table, optics_table, path, _KINDS[kind].noun)
    else:
        table, optics_table = group_flat_rows(
            _filled(table, given, path),
            path,
            require_ctf=require_optics,
            pixel_size=given.pixel_size,
            pixel_labels=labels,
        )
    optics = optics_from_table(
        optics_table, path, {}, require_ctf=require_optics, pixel_size=given.pixel_size, pixel_labels=labels
    )
    for group in optics:
        if given.pixel_size is not None and abs(group.pixel_size / given.pixel_size - 1) > _ROUNDING:
            raise _contradiction(path, labels[0], group.pixel_size, given.pixel_size)
    return kind(table, optics, source=path, optics_table=optics_table, image_root=path.parent)


def _filled(table: Table, given: GivenOptics, path: Path) -> Table:
    """Add the columns that are absent and given; refuse what is given and contradicts the file."""
    new = {}
    for label, field in _GIVEN.items():
        value = getattr(given, field)
        if value is None:
            continue
        if label not in table:
            new[label] = np.full(len(table), float(value))
        elif table[label].dtype != object:
            other = ~np.isclose(table.numbers(label), value, rtol=1e-3, atol=1e-6)
            if other.any():
                raise _contradiction(path, label, float(table.numbers(label)[other][0]), value)
    return table.with_columns(new)


def _contradiction(path: Path, label: str, in_file: float, given: float) -> InputError:
    return InputError(f"{path} has {label} {in_file:g}, but {given:g} was given; leave it out, or correct the file")


def _block(kind: type[Exposures], blocks: dict[str, Block], path: Path) -> Table:
    tables = {name: block_as_table(block) for name, block in blocks.items() if name != "optics"}
    named = [table for table in tables.values() if kind.name_label in table]
    table = tables.get(_KINDS[kind].block, named[0] if named else None)
    if table is None or kind.name_label not in table:
        found = ", ".join(f"data_{name}" for name in blocks)
        raise InputError(
            f"{path} is not a {_KINDS[kind].noun} file: no block has the column {kind.name_label} (it has {found})"
        )
    if "rlnImageName" in table:
        raise InputError(f"{path} is a particle file (it has rlnImageName), not a {_KINDS[kind].noun} file")
    if not len(table):
        raise InputError(f"{path} holds no {_KINDS[kind].noun}s")
    return table


def _check_names(kind: type[Exposures], table: Table, where: str) -> None:
    seen: set[str] = set()
    for name in table[kind.name_label]:
        if name in seen:
            raise InputError(f"{where} names the {_KINDS[kind].noun} {name} twice")
        seen.add(name)


def _check_numbers(kind: type[Exposures], table: Table, path: Path) -> None:
    for label in _FINITE:
        if label not in table:
            continue
        column = table[label]
        if column.dtype == object:
            raise InputError(f"{path}: {label} holds what is not a number")
        bad = np.flatnonzero(~np.isfinite(column))
        if len(bad):
            name = table[kind.name_label][bad[0]]
            raise InputError(f"{path}: {label} of {name} is {column[bad[0]]}, not a finite number")
