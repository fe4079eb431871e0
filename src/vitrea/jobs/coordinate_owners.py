"""Which micrographs coordinates belong to: by the name of their file, by a list, or by a column of names."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vitrea.formats.coordinates import (
    COORDINATE_FILE,
    COORDINATE_LABELS,
    MICROGRAPH,
    CoordinateFormat,
    checked_coordinates,
    read_coordinate_files,
    read_coordinates,
)
from vitrea.formats.image_names import without_job_folder
from vitrea.formats.micrograph_files import expand_names
from vitrea.formats.particle_files import block_as_table
from vitrea.formats.star import read_star
from vitrea.jobs.import_checks import over_files
from vitrea.jobs.set_aside import SetAside
from vitrea.records.errors import InputError
from vitrea.records.recorder import Recorder
from vitrea.records.table import Table

ENDINGS = (".star", ".box", ".coords", ".pos", ".xmd", ".txt", ".plt")  # of files that are taken out of folders
_IMAGE = "rlnImageName"


@dataclass(frozen=True)
class CoordinateSet:
    """Coordinates of one micrograph from one file.

    Attributes
    ----------
    path : Path
    row : int
        Of the micrograph.
    table : Table
    """

    path: Path
    row: int
    table: Table


def read_coordinate_sets(
    inputs: Iterable[str | Path], names: Sequence[str], recorder: Recorder, form: CoordinateFormat | None = None
) -> tuple[list[CoordinateSet], list[SetAside], int]:
    """Read coordinate files, lists of them (autopick.star), and tables of the particles of many micrographs.

    Parameters
    ----------
    inputs : iterable of str or Path
        Files, globs and folders. A file that stands in a list, too, is read once.
    names : sequence of str
        Of the micrographs.
    recorder : Recorder
    form : str, optional
        Format of the files; by default their endings and first lines tell.

    Returns
    -------
    list of CoordinateSet
        In the order of the inputs.
    list of SetAside
        Files that cannot be read, or belong to no micrograph.
    int
        How many files there were.

    Raises
    ------
    InputError
        If a glob or a folder stands for nothing, or a file does not exist.
    """
    owners, whole = _owners(inputs, names)
    lost = [path for path, row in owners.items() if row is None and not whole.get(path)]
    aside = [SetAside(str(path), f"{path} belongs to no micrograph of the {len(names)} by its name") for path in lost]
    single = [path for path, row in owners.items() if row is not None]
    good, bad = over_files(single, lambda path: read_coordinates(path, form), recorder, "Reading coordinates")
    sets = []
    for path, row in owners.items():
        if row is not None and path in good:
            sets.append(CoordinateSet(path, row, good[path]))
        sets += [CoordinateSet(path, one, table) for one, table in whole.get(path, {}).items()]
    return sets, aside + bad, len(owners)


def _owners(
    inputs: Iterable[str | Path], names: Sequence[str]
) -> tuple[dict[Path, int | None], dict[Path, dict[int, Table]]]:
    """Return all coordinate files with the row of their micrograph, or None; and the tables of those that have many."""
    owner_of = micrograph_finder(names)
    owners: list[tuple[Path, int | None, bool]] = []  # the last: whether a list says so
    whole: dict[Path, dict[int, Table]] = {}
    for path in expand_names(inputs, ENDINGS):
        if not path.is_file():
            raise InputError(f"{path} does not exist; check its name")
        blocks = _blocks(path)
        if any(COORDINATE_FILE in block for block in blocks):
            files = read_coordinate_files(path)
            rows = {name: row for row, name in match_names(names, files).items()}
            owners += [(file, rows.get(name), True) for name, file in files.items()]
        elif any(all(label in block for label in (MICROGRAPH, *COORDINATE_LABELS)) for block in blocks):
            whole[path] = coordinates_of_all(blocks, path, names)
            owners.append((path, None, False))
        else:
            owners.append((path, owner_of(path), False))
    listed = {path.resolve() for path, _, by_list in owners if by_list}
    return {path: row for path, row, by_list in owners if by_list or path.resolve() not in listed}, whole


def _blocks(path: Path) -> list[Table]:
    """Return the tables of a STAR file; none of what is no STAR file."""
    if path.suffix.lower() != ".star":
        return []
    try:
        return [block_as_table(block) for block in read_star(path).values()]
    except InputError:
        return []


def coordinates_of_all(blocks: Iterable[Table], path: Path, names: Sequence[str]) -> dict[int, Table]:
    """Return the coordinates of each micrograph, by its row, from a table that names them, as particle files do.

    Raises
    ------
    InputError
        If no block has the columns, or a coordinate is not a finite number.
    """
    wanted = (MICROGRAPH, *COORDINATE_LABELS)
    table = next((block for block in blocks if all(label in block for label in wanted)), None)
    if table is None:
        raise InputError(f"{path} lacks {COORDINATE_FILE}, and the columns {', '.join(wanted)}: it has no coordinates")
    rows = rows_by_name(table[MICROGRAPH])
    bare = checked_coordinates(table.without(MICROGRAPH, _IMAGE), path)
    return {row: bare.rows(rows[name]) for row, name in match_names(names, rows).items()}


def rows_by_name(names: NDArray[np.object_]) -> dict[str, NDArray[np.int64]]:
    """Return the rows of each micrograph; frames ``000001@movie.mrcs`` count as their movie."""
    bare = np.array([str(name).rpartition("@")[2] for name in names], dtype=object)
    unique, number = np.unique(bare.astype(str), return_inverse=True)
    order = np.argsort(number, kind="stable")
    edges = np.searchsorted(number[order], np.arange(len(unique) + 1))
    return {str(name): order[edges[i] : edges[i + 1]] for i, name in enumerate(unique)}


def match_names(names: Iterable[str], others: Mapping[str, object]) -> dict[int, str]:
    """Find micrographs that another file names in its own way.

    Parameters
    ----------
    names : iterable of str
        The micrographs.
    others : mapping
        Its keys are the other file's names.

    Returns
    -------
    dict of int to str
        The other name by position in `names`: the same name, else the one that is the same without the job's folder,
        else without any folder, else without the ending, where that is no one else's.
    """
    forms: tuple[Callable[[str], str], ...] = (
        lambda name: name,
        without_job_folder,
        lambda name: Path(name).name,
        lambda name: Path(name).stem,
    )
    tables = []
    for form in forms:
        table: dict[str, str | None] = {}
        for other in others:
            key = form(other)
            table[key] = None if key in table else other
        tables.append(table)
    found = {}
    for position, name in enumerate(names):
        for form, table in zip(forms, tables, strict=True):
            match = table.get(form(name))
            if match is not None:
                found[position] = match
                break
    return found


def micrograph_finder(names: Sequence[str]) -> Callable[[Path], int | None]:
    """Return a function that tells the row of the micrograph to which a coordinate file belongs by its name.

    It is the one with whose name, without ending, the file's begins: mic1.mrc has mic1.box and mic1_manual.star, but
    not mic10.box. Failing that, the last word of the micrograph's name may differ, too: mic1_avg.mrc has mic1_gt.star;
    but numbers never differ, and mic_1.mrc does not have mic_2.box. Of micrographs in several folders with one name it
    is the one in a folder that is called as the file's; None where that does not decide.
    """
    whole: dict[str, list[int]] = {}
    shorter: dict[str, list[int]] = {}
    for row, name in enumerate(names):
        stem = Path(name).stem
        whole.setdefault(stem, []).append(row)
        start, _, last = stem.rpartition("_")
        if not last.isdigit():
            shorter.setdefault(start, []).append(row)

    def find(path: Path) -> int | None:
        stem = path.stem
        ends = [end for end in range(len(stem), 0, -1) if not stem[end : end + 1].isalnum()]
        rows = next((whole[stem[:end]] for end in ends if stem[:end] in whole), [])
        if not rows:
            words = [end for end in ends if not stem[end + 1 :].split("_")[0].isdigit()]
            rows = next((shorter[stem[:end]] for end in words if stem[:end] in shorter), [])
        if len(rows) > 1:
            rows = [row for row in rows if Path(names[row]).parent.name == path.parent.name]
        return rows[0] if len(rows) == 1 else None

    return find
