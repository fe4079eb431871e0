"""Reading and writing the tables of every program that ``vitrea star convert`` knows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vitrea.formats.cistem_parameters import read_cistem_binary, write_cistem_binary, write_cistem_star
from vitrea.formats.coordinates import COORDINATE_LABELS, MICROGRAPH, write_coordinates
from vitrea.formats.cryosparc import read_cs, write_cs
from vitrea.formats.eman_lists import read_lst, write_lst
from vitrea.formats.frealign_par import par_of_particles, particles_of_par, read_par, write_par
from vitrea.formats.particle_files import block_as_table, read_particles, write_particles
from vitrea.formats.star import write_star
from vitrea.formats.streams import display_name, is_stream
from vitrea.formats.table_kinds import TableKind, labels_of_head, read_head
from vitrea.jobs.star_files import choose_block
from vitrea.records.errors import InputError
from vitrea.records.optics import Optics
from vitrea.records.particles import Particles
from vitrea.records.table import Table, distinct
from vitrea.tables import cistem, cryosparc, eman, frealign, relion, xmipp
from vitrea.tables.conversion import Converted, GivenImages, Lost, find_lost, particles_of_rows

if TYPE_CHECKING:
    from vitrea.records.recorder import Recorder

_FLAT_PIXEL = ("rlnMagnification", "rlnDetectorPixelSize")


@dataclass(frozen=True)
class ConversionInput:
    """What is to be converted.

    Attributes
    ----------
    path : Path
    kind : str
        Which program's table it is.
    given : GivenImages
        What the user says of the images.
    passthrough : Path or None
        cryoSPARC's second file.
    flip_y, flip_poses : bool
        Whether cryoSPARC's micrographs are upside down, and whether particles are extracted anew from the others.
    """

    path: Path
    kind: TableKind
    given: GivenImages
    passthrough: Path | None = None
    flip_y: bool = False
    flip_poses: bool = False


def read_any(source: ConversionInput, recorder: Recorder) -> tuple[Particles, tuple[Lost, ...]]:
    """Read a table of particles; also return what could not be carried.

    Raises
    ------
    InputError
        If the file is missing, not what it is said to be, or does not tell what the user must then give.
    """
    path, given = source.path, source.given
    if source.kind.startswith("relion"):
        return _read_relion(path, given)
    if source.kind.startswith("frealign"):
        return _read_frealign(path, given), ()
    if source.kind == "box":
        raise InputError(f"{path} holds places, not particles; it is converted to STAR only")
    try:
        converted = _rows(source)
    except ValueError as error:
        raise InputError(f"{display_name(path)}: {error}") from None
    for note in converted.notes:
        recorder.warn(f"{display_name(path)}: {note}")
    return particles_of_rows(converted.table, path), converted.lost


def _rows(source: ConversionInput) -> Converted:
    path, given = source.path, source.given
    if source.kind == "cistem-binary":
        return cistem.rows_of_cistem(read_cistem_binary(path), given, binary=True)
    if source.kind == "cistem":
        return cistem.rows_of_cistem(_only_table(path), given, binary=False)
    if source.kind == "xmipp":
        return xmipp.rows_of_xmipp(_only_table(path), given)
    if source.kind == "eman":
        return eman.rows_of_eman(read_lst(path), given)
    dataset = read_cs(path)
    if source.passthrough is not None:
        dataset = cryosparc.with_passthrough(dataset, read_cs(source.passthrough))
    if source.flip_y:
        dataset = cryosparc.upside_down(dataset, poses=source.flip_poses)
    return cryosparc.rows_of_cryosparc(dataset, given)


def convert_micrographs(
    path: Path, output: Path, kind: TableKind, given: GivenImages, comment: str
) -> tuple[int, tuple[Lost, ...]]:
    """Convert micrographs or movies between RELION's dialects; return how many, and what could not be carried.

    Raises
    ------
    InputError
        If the file cannot be read or written.
    """
    from vitrea.formats.micrograph_files import read_micrographs, read_movies, write_micrographs
    from vitrea.records.micrographs import GivenOptics

    optics = GivenOptics(given.pixel_size or None, given.voltage or None, given.spherical_aberration or None,
                         given.amplitude_contrast or None)  # fmt: skip
    labels = labels_of_head(read_head(path))
    read = read_movies if "rlnMicrographMovieName" in labels else read_micrographs
    images = read(path, optics, require_optics=False)
    if kind == "relion3.1":
        write_micrographs(output, images, comment=comment)
        return len(images), ()
    write_micrographs(output, images, dialect="1.3", comment=comment)
    return len(images), relion.lost_in_flat_file(images, kind.removeprefix("relion"))


def holds_micrographs(path: Path) -> bool:
    """Tell whether a STAR file lists micrographs or movies rather than particles."""
    labels = set() if is_stream(path) else set(labels_of_head(read_head(path)))
    return bool(labels & {"rlnMicrographName", "rlnMicrographMovieName"}) and not labels & {
        "rlnImageName", "rlnCoordinateX", "rlnAnglePsi"}  # fmt: skip


def _only_table(path: Path) -> Table:
    from vitrea.formats.star import read_star

    blocks = read_star(path)
    return block_as_table(blocks[choose_block(blocks, "", display_name(path))])


def _read_relion(path: Path, given: GivenImages) -> tuple[Particles, tuple[Lost, ...]]:
    size = given.pixel_size or None
    particles = read_particles(path, require_ctf=False, require_images=False, pixel_size=size)
    labels = set() if is_stream(path) else set(labels_of_head(read_head(path)))
    lost = tuple(Lost(label, "of these two the pixel size is made, which is kept") for label in _FLAT_PIXEL
                 if label in labels and set(_FLAT_PIXEL) <= labels)  # fmt: skip
    return particles, lost


def _read_frealign(path: Path, given: GivenImages) -> Particles:
    if not given.pixel_size or not given.stack:
        raise InputError(f"{path} names neither the images nor their pixel size; give --stack and --pixel_size")
    optics = Optics(given.pixel_size, given.image_size, given.voltage, given.spherical_aberration,
                    given.amplitude_contrast)  # fmt: skip
    return particles_of_par(read_par(path), given.stack, optics, path)


def write_any(
    path: Path, kind: TableKind, particles: Particles, *, box: int, flips: tuple[bool, bool], comment: str
) -> tuple[Lost, ...]:
    """Write particles as a program's table; return what could not be carried.

    `flips` are flip_y and flip_poses of `ConversionInput`, for cryoSPARC.

    Raises
    ------
    InputError
        If the file cannot be written, or the particles lack what the program needs.
    """
    try:
        return _write(path, kind, particles, box=box, flips=flips, comment=comment)
    except ValueError as error:
        raise InputError(f"{path}: {error}") from None


def _write(
    path: Path, kind: TableKind, particles: Particles, *, box: int, flips: tuple[bool, bool], comment: str
) -> tuple[Lost, ...]:
    if kind == "relion3.1":
        write_particles(path, particles, comment=comment)
        return ()
    if kind in ("relion3.0", "relion1.3"):
        write_particles(path, particles, dialect="1.3", comment=comment)
        return relion.lost_in_flat_file(particles, kind.removeprefix("relion"))
    if kind.startswith("frealign"):
        table, labels = par_of_particles(particles, kind.removeprefix("frealign"))
        write_par(path, table, comment)
        return frealign.lost_in_par(particles, labels)
    if kind == "eman":
        entries, lost_columns = eman.eman_of_particles(particles)
        write_lst(path, entries)
        return lost_columns
    if kind == "box":
        return _write_boxes(path, particles, box)
    if kind == "cryosparc":
        converted = cryosparc.cryosparc_of_particles(particles)
        flip_y, flip_poses = flips
        write_cs(path, cryosparc.upside_down(converted.table, poses=flip_poses) if flip_y else converted.table)
    elif kind == "xmipp":
        converted = xmipp.xmipp_of_particles(particles)
        write_star(path, {"noname": converted.table}, xmipp.COMMENT, version=None, numbered=False)
    elif kind == "cistem":
        converted = cistem.cistem_of_particles(particles, binary=False)
        write_cistem_star(path, converted.table, comment)
    else:
        converted = cistem.cistem_of_particles(particles, binary=True)
        write_cistem_binary(path, converted.table)
    return converted.lost


def _write_boxes(path: Path, particles: Particles, box: int) -> tuple[Lost, ...]:
    """Write the places of particles: one file, or where they lie in several micrographs a folder of files."""
    missing = [label for label in COORDINATE_LABELS if label not in particles.table]
    if missing:
        raise ValueError(f"a .box file needs the column {missing[0]}")
    size = box or max((group.image_size for group in particles.optics), default=0)
    table = particles.table
    names, codes = distinct(table[MICROGRAPH]) if MICROGRAPH in table else ([""], None)
    if codes is None or len(names) == 1:
        write_coordinates(path, table, "box", box=size)
    else:
        path.mkdir(parents=True, exist_ok=True)
        for code, name in enumerate(names):
            write_coordinates(path / f"{Path(name).stem}.box", table.rows(codes == code), "box", box=size)
    rounded = Lost("fractions of pixels", "a .box file holds whole pixels")
    return (rounded, *find_lost(particles, {*COORDINATE_LABELS, MICROGRAPH}, "a .box file"))
