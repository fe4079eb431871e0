"""Coordinate sets of many micrographs: found by name, sieved, compared, written."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vitrea.formats.coordinates import (
    COORDINATE_LABELS,
    MERIT,
    X,
    Y,
    suffix_of,
    write_cistem_positions,
    write_coordinate_files,
    write_coordinates,
)
from vitrea.formats.micrograph_files import locate_image
from vitrea.formats.movies import read_movie_header
from vitrea.jobs.coordinate_owners import read_coordinate_sets
from vitrea.jobs.map_inputs import make_folder
from vitrea.jobs.pick_files import Names, check_names
from vitrea.picking.comparison import Agreement, compare_picks
from vitrea.records.errors import InputError
from vitrea.records.table import Table
from vitrea.records.wording import number_of
from vitrea.selection.neighbours import keep_best_neighbours

if TYPE_CHECKING:
    from vitrea.jobs.pick_manual import PickManualParameters
    from vitrea.records.micrographs import Micrographs
    from vitrea.records.recorder import Recorder

_DISTANCE = 25.0  # pixels between a pick and the particle it is


def read_sets(inputs: Iterable[Path], micrographs: Micrographs, recorder: Recorder) -> dict[int, Table]:
    """Read coordinate files, lists of them, and particle files; what belongs to one micrograph is joined.

    Returns
    -------
    dict of int to Table
        Coordinates by row of the micrograph; columns that not all sets have are left out.

    Raises
    ------
    InputError
        If a file does not exist, or none belongs to any of the micrographs.
    """
    names = [str(name) for name in micrographs.names]
    sets, aside, count = read_coordinate_sets(inputs, names, recorder)
    for lost in aside:
        recorder.warn(f"set aside: {lost.sentence}")
    found: dict[int, Table] = {}
    for one in sets:
        found[one.row] = _joined(found[one.row], one.table) if one.row in found else one.table
    if not found:
        raise InputError(f"no coordinate file of {count} belongs to a micrograph of the {len(names)}")
    return found


def _joined(first: Table, second: Table) -> Table:
    shared = [label for label in first if label in second]
    return Table({label: np.concatenate([first[label], second[label]]) for label in shared})


def sieve_set(
    table: Table, micrographs: Micrographs, row: int, parameters: PickManualParameters, recorder: Recorder
) -> Table:
    """Leave out picks outside the image or near its edge, of too low merit, or too near to better ones."""
    pixel_size = float(micrographs.pixel_sizes[row])
    table = _inside(table, micrographs, row, parameters.edge_distance / pixel_size, recorder)
    if parameters.threshold is not None:
        if MERIT not in table:
            raise InputError(f"the coordinates of {micrographs.names[row]} lack {MERIT}, which --threshold needs")
        table = table.rows(table.numbers(MERIT) >= parameters.threshold)
    if parameters.min_distance > 0 and len(table):
        merit = table.numbers(MERIT, 0.0)
        one = np.zeros(len(table), dtype=np.int64)
        table = table.rows(keep_best_neighbours(_places(table) * pixel_size, one, merit, parameters.min_distance))
    return table


def _inside(table: Table, micrographs: Micrographs, row: int, edge: float, recorder: Recorder) -> Table:
    name = micrographs.names[row]
    try:
        _, height, width = read_movie_header(locate_image(micrographs, row)).shape
    except InputError as error:
        recorder.warn(f"the coordinates of {name} are taken unchecked: {error}")
        return table
    x, y = table.numbers(X), table.numbers(Y)
    inside = (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
    if not inside.all():
        recorder.warn(f"left out, outside {name}: {(~inside).sum()} of {number_of(len(inside), 'coordinate')}")
    inner = (np.minimum(x, width - 1 - x) >= edge) & (np.minimum(y, height - 1 - y) >= edge)
    return table.rows(inside & inner)


def _places(table: Table) -> NDArray[np.float64]:
    return np.stack([table.numbers(label) for label in COORDINATE_LABELS], axis=1)


def write_sets(
    parameters: PickManualParameters, micrographs: Micrographs, sets: dict[int, Table], comment: str
) -> Path:
    """Write the sets in the format asked for; return the list of all."""
    names = Names(parameters.output, parameters.pick_name)
    micrograph_names = [str(name) for name in micrographs.names]
    check_names(names, micrograph_names)
    if parameters.format == "cistem":
        path = names.of_job(".txt")
        make_folder(path)
        empty = Table({label: np.empty(0) for label in COORDINATE_LABELS})
        tables = [sets.get(row, empty) for row in range(len(micrographs))]
        write_cistem_positions(path, micrograph_names, tables, micrographs.pixel_sizes, by_id=parameters.by_id)
        return path
    written = {}
    for row, table in sets.items():
        root = names.root(micrograph_names[row])
        path = root.with_name(root.name + suffix_of(parameters.format))
        make_folder(path)
        write_coordinates(path, table, parameters.format, box=parameters.box_size, comment=comment)
        written[micrograph_names[row]] = str(path)
    write_coordinate_files(names.of_job(".star"), written, comment)
    return names.of_job(".star")


def compare_sets(
    sets: dict[int, Table], truth: dict[int, Table], micrographs: Micrographs, distance: float, recorder: Recorder
) -> None:
    """Tell recall and precision, micrograph by micrograph and of all that the truth has."""
    total = Agreement(0, 0, 0)
    for row, right in sorted(truth.items()):
        picks = _places(sets[row]) if row in sets else np.empty((0, 2))
        limit = distance / float(micrographs.pixel_sizes[row]) if distance else _DISTANCE
        found = compare_picks(picks, _places(right), limit)
        total = total + found
        recorder.event("comparison", micrograph=str(micrographs.names[row]), picked=found.picked, true=found.true,
                       recall=found.recall, precision=found.precision)  # fmt: skip
    found_of = f"{total.found} of {number_of(total.true, 'particle')} found"
    text = f"recall {total.recall:.3f}, precision {total.precision:.3f}: {found_of}"
    recorder.event("text", text=f"{text} by {number_of(total.picked, 'pick')} in {number_of(len(truth), 'micrograph')}")
