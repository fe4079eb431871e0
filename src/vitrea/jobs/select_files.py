"""What a selection writes: one STAR file or parts of it, and the list to extract the particles from anew."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vitrea.extraction.recentring import project_point
from vitrea.formats.particle_files import write_particles
from vitrea.formats.star import write_star
from vitrea.jobs.map_inputs import make_folder
from vitrea.jobs.select_criteria import check_coordinates
from vitrea.records.errors import InputError
from vitrea.records.particles import EULER_LABELS, Particles
from vitrea.records.recorder import Recorder
from vitrea.selection.coordinates import COORDINATE_LABELS, MICROGRAPH, recentre

# What picking programs read of a coordinate file.
_PICK_LABELS = (*COORDINATE_LABELS, "rlnAutopickFigureOfMerit", "rlnClassNumber", "rlnAnglePsi")


def part_paths(output: Path, count: int) -> list[Path]:
    """Return the names of the parts of a split, as RELION has them: ``particles_split1.star`` ..."""
    return [output.with_name(f"{output.stem}_split{part + 1}{output.suffix}") for part in range(count)]


def write_parts(paths: Sequence[Path], parts: Sequence[Particles], *, flat: bool, comment: str) -> None:
    """Write particle sets in RELION's present or (flat) its old form."""
    for path, part in zip(paths, parts, strict=True):
        make_folder(path)
        write_particles(path, part, dialect="1.3" if flat else "3.1", comment=comment)


def recentred(
    particles: Particles, source: str, pixel_size: float, recorder: Recorder, point: str | None = None
) -> Particles:
    """Return the particles as the list to extract them from anew, coordinates moved to their refined centres.

    Raises
    ------
    InputError
        If they have no coordinates, or `point` ("x,y,z" in Å from the centre of the map) is none, or needs angles that
        they do not have.
    """
    sizes = check_coordinates(particles, source, pixel_size, recorder, "re-extraction")
    if point is None:
        return recentre(particles, sizes)
    try:
        x, y, z = (float(word) for word in point.split(","))
    except ValueError:
        raise InputError(f"--recenter is {point!r}: three numbers in Å are needed, X,Y,Z") from None
    missing = [label for label in EULER_LABELS if label not in particles.table]
    if missing:
        raise InputError(f"{source} lacks the column {missing[0]}, which --recenter needs")
    return recentre(particles, sizes, project_point(particles.eulers, (x, y, z)))


def write_coordinate_files(folder: Path, particles: Particles, *, comment: str) -> int:
    """Write one coordinate file a micrograph, ``<micrograph>_select.star``; return how many.

    Raises
    ------
    InputError
        If two micrographs of different folders have the same name, or a file cannot be written.
    """
    names, micrograph = np.unique(particles.table[MICROGRAPH].astype(str), return_inverse=True)
    paths = [folder / f"{Path(name).stem}_select.star" for name in names]
    if len(set(paths)) < len(paths):
        twice = next(path for path in paths if paths.count(path) > 1)
        raise InputError(f"two micrographs would share the coordinate file {twice}: select them one by one")
    labels = [label for label in _PICK_LABELS if label in particles.table]
    picks = particles.table.without(*(label for label in particles.table if label not in labels))
    make_folder(folder / "any")
    for number, path in enumerate(paths):
        write_star(path, {"": picks.rows(micrograph == number)}, comment)
    return len(paths)
