"""What a selection writes: one STAR file or parts of it, and the list to extract the particles from anew."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vitrea.extraction.recentring import project_point
from vitrea.formats.particle_files import write_particles
from vitrea.formats.star import write_star
from vitrea.formats.star_values import text_column
from vitrea.jobs.map_inputs import make_folder
from vitrea.jobs.select_criteria import check_coordinates
from vitrea.jobs.select_inputs import SelectionInput, group_scales
from vitrea.records.errors import InputError
from vitrea.records.particles import EULER_LABELS, Particles
from vitrea.records.recorder import Recorder
from vitrea.selection.coordinates import COORDINATE_LABELS, MICROGRAPH, recentre
from vitrea.selection.grouping import regroup

_GROUP_NAME, _GROUP_NUMBER = "rlnGroupName", "rlnGroupNumber"
# What picking programs read of a coordinate file.
_PICK_LABELS = (*COORDINATE_LABELS, "rlnAutopickFigureOfMerit", "rlnClassNumber", "rlnAnglePsi")


def with_new_groups(particles: Particles, chosen: SelectionInput, number: int, recorder: Recorder) -> Particles:
    """Join micrographs into about `number` groups of similar scale and defocus, named ``group_1`` and so on.

    The groups of before are those of ``rlnGroupName``, else micrographs. ``rlnGroupNumber`` is left out: the next job
    counts the groups it has.

    Raises
    ------
    InputError
        If the particles name neither groups nor micrographs, or have no defocus.
    """
    table = particles.table
    label = next((label for label in (_GROUP_NAME, MICROGRAPH) if label in table), None)
    if label is None:
        raise InputError(f"{chosen.source} has neither {_GROUP_NAME} nor {MICROGRAPH}: there is nothing to regroup")
    if "rlnDefocusU" not in table:
        raise InputError(f"{chosen.source} lacks the column rlnDefocusU, which --regroup needs")
    names, unit, counts = np.unique(table[label].astype(str), return_inverse=True, return_counts=True)
    features = [(table.numbers("rlnDefocusU") + table.numbers("rlnDefocusV", 0.0)) / 2]
    scales = group_scales(particles, chosen)
    if scales is not None:
        features.insert(0, np.array([scales.get(group, 1.0) for group in table[_GROUP_NUMBER].tolist()]))
    means = [np.bincount(unit, weights=feature) / counts for feature in features]
    if number > len(names):
        recorder.warn(f"--regroup {number}: there are only {len(names)} groups to join, these are kept")
    group = regroup(np.stack(means, axis=1), counts, min(number, len(names)))
    sizes = np.bincount(group, weights=counts).astype(int)
    by = "scale and defocus" if scales is not None else "defocus (no model file tells scales)"
    text = f"{len(names)} groups joined into {len(sizes)} by {by}: {sizes.min()} to {sizes.max()} particles each"
    recorder.event("text", text=text)
    new_names = text_column([f"group_{place + 1}" for place in group[unit].tolist()])
    kept = Particles(table.without(_GROUP_NUMBER), particles.optics, particles.source, particles.optics_table,
                     particles.image_root)  # fmt: skip
    return kept.with_columns({_GROUP_NAME: new_names})


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
