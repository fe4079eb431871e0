"""``vitrea import coordinates``: picks of any program as RELION's coordinate files, checked against the micrographs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from vitrea.jobs.base import Context, Job, parameter
from vitrea.jobs.import_parameters import IGNORED_OPTIONS, ImportParameters
from vitrea.records.wording import number_of, some_of

if TYPE_CHECKING:
    from vitrea.jobs.set_aside import SetAside
    from vitrea.records.micrographs import Micrographs
    from vitrea.records.recorder import Recorder
    from vitrea.records.table import Table

Format = Literal["auto", "star", "box", "ximdisp", "xmipp", "cistem"]


class CoordinateImportParameters(ImportParameters):
    """Import coordinates of particles: STAR, EMAN's .box, Ximdisp, XMIPP, one file a micrograph; cisTEM's list for all.

    A file belongs to the micrograph whose name, without ending, its own name begins with: mic1_manualpick.star and
    mic1.box to mic1.mrc; the last word may differ: mic1_manual.star to mic1_avg.mrc. Lists of such files, as
    autopick.star, and particle files, which name the micrograph of each particle, are read, too. Coordinates outside
    the image are left out and counted. Written are one STAR file a micrograph and their list, coordinates.star, which
    vitrea extract and RELION take. Files that cannot be read or belong to no micrograph are listed in
    coordinates_set_aside.star.
    """

    micrographs: Path = parameter(..., "STAR file with the micrographs.", options=["--mics"])
    format: Format = parameter("auto", "Format of the files; auto: their endings and first lines tell.")
    scale: float = parameter(
        1.0, "Factor for coordinates in pixels of micrographs that were binned: 2 where by 2.", gt=0, expert=True
    )
    pick_name: str = parameter("import", "What the names of the coordinate files end in.", expert=True)


def run(parameters: CoordinateImportParameters, context: Context) -> None:
    """Read, check, write.

    Raises
    ------
    InputError
        If there are no coordinates for any micrograph, or cisTEM's list names others.
    """
    from vitrea.formats.coordinates import write_coordinate_files, write_coordinates
    from vitrea.formats.micrograph_files import read_micrographs
    from vitrea.jobs.import_checks import report_set_aside
    from vitrea.jobs.map_inputs import make_folder
    from vitrea.records.errors import InputError

    recorder = context.recorder
    micrographs = read_micrographs(parameters.micrographs, require_optics=False)
    places = _places(parameters, micrographs)
    tables, aside, total = _read(parameters, micrographs, recorder)
    if not any(map(len, tables.values())):
        first = f": {aside[0].reason}" if aside else ""
        raise InputError(f"no micrograph of {len(micrographs)} has coordinates{first}")
    kept = _inside(tables, micrographs, recorder)
    files = {}
    for row, table in kept.items():
        make_folder(places[row])
        write_coordinates(places[row], table, "star", comment=context.command)
        files[str(micrographs.names[row])] = str(places[row])
    path = parameters.output / "coordinates.star"
    write_coordinate_files(path, files)
    count = sum(map(len, kept.values()))
    where = f"{len(files)} of {number_of(len(micrographs), 'micrograph')}"
    recorder.event("text", text=f"{path}: {number_of(count, 'particle')} in {where}")
    without = [str(name) for row, name in enumerate(micrographs.names) if not len(kept.get(row, ()))]
    if without:
        recorder.warn(f"{number_of(len(without), 'micrograph')} without coordinates: {some_of(without)}")
    report_set_aside(aside, total, "file", parameters.output / "coordinates_set_aside.star", recorder)


def _places(parameters: CoordinateImportParameters, micrographs: Micrographs) -> list[Path]:
    """Return the coordinate file of each micrograph; InputError where two would share one."""
    from vitrea.formats.image_names import place_in_job
    from vitrea.records.errors import InputError

    owners: dict[Path, str] = {}
    for name in map(str, micrographs.names):
        place = parameters.output / place_in_job(name)
        place = place.with_name(f"{place.stem}_{parameters.pick_name}.star")
        if place in owners:
            raise InputError(f"the coordinates of {owners[place]} and {name} would both be {place}; rename one")
        owners[place] = name
    return list(owners)


def _read(
    parameters: CoordinateImportParameters, micrographs: Micrographs, recorder: Recorder
) -> tuple[dict[int, Table], list[SetAside], int]:
    """Return coordinates in pixels by row of the micrograph, the files set aside, and how many files there were."""
    from vitrea.formats.coordinates import read_cistem_positions
    from vitrea.formats.micrograph_files import expand_names
    from vitrea.jobs.coordinate_owners import ENDINGS, read_coordinate_sets
    from vitrea.jobs.set_aside import SetAside
    from vitrea.records.errors import InputError

    if not parameters.input:
        raise InputError('give the coordinate files: names, folders, or patterns in quotes ("Picks/*.box")')
    names = [str(name) for name in micrographs.names]
    if parameters.format == "cistem":
        paths = expand_names(parameters.input, ENDINGS)
        if len(paths) != 1:
            raise InputError(f"--format cistem takes one list of all micrographs, not {len(paths)} files")
        listed = read_cistem_positions(paths[0], names, micrographs.pixel_sizes)
        return {row: table for row, table in enumerate(listed) if len(table)}, [], 1
    form = None if parameters.format == "auto" else parameters.format
    sets, aside, count = read_coordinate_sets(parameters.input, names, recorder, form)
    tables: dict[int, Table] = {}
    owner: dict[int, Path] = {}
    for one in sets:
        if one.row in tables:
            reason = f"{one.path} and {owner[one.row]} both belong to {names[one.row]}"
            aside.append(SetAside(str(one.path), reason))
        else:
            tables[one.row], owner[one.row] = _scaled(one.table, parameters.scale), one.path
    return tables, aside, count


def _scaled(table: Table, scale: float) -> Table:
    from vitrea.formats.coordinates import COORDINATE_LABELS

    return table.with_columns({label: table.numbers(label) * scale for label in COORDINATE_LABELS})


def _inside(tables: dict[int, Table], micrographs: Micrographs, recorder: Recorder) -> dict[int, Table]:
    """Leave out coordinates outside the images; say of how many, and warn of images that cannot be looked at."""
    from vitrea.formats.coordinates import X, Y
    from vitrea.formats.micrograph_files import locate_image
    from vitrea.formats.movies import read_movie_header
    from vitrea.records.errors import InputError

    kept = {}
    for row, table in tables.items():
        try:
            _, height, width = read_movie_header(locate_image(micrographs, row)).shape
        except InputError as error:
            recorder.warn(f"the coordinates of {micrographs.names[row]} are taken unchecked: {error}")
            kept[row] = table
            continue
        x, y = table.numbers(X), table.numbers(Y)
        inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
        if not inside.all():
            hint = "; are they of a binned micrograph, or in Å?" if 2 * inside.sum() < len(inside) else ""
            recorder.warn(
                f"left out, outside {micrographs.names[row]} ({width} x {height} pixels): {(~inside).sum()} of "
                f"{number_of(len(inside), 'coordinate')}{hint}"
            )
        kept[row] = table.rows(inside)
    return kept


JOB = Job(
    name="import coordinates",
    summary="Check particle coordinates of other programs, and write them for the micrographs.",
    parameters=CoordinateImportParameters,
    run=run,
    ignored_options=IGNORED_OPTIONS,
    examples=('vitrea import coordinates "Picks/*.box" --micrographs micrographs.star',),
)
