"""Coordinate sets: the places of particles in micrographs, in every format that picking programs write.

One micrograph a file: STAR (RELION), ``.box`` (EMAN), Ximdisp, XMIPP; all micrographs in one file: cisTEM's lists.

In memory coordinates are a `Table` with RELION's labels: ``rlnCoordinateX`` and ``rlnCoordinateY`` are the centre of
the particle in pixels of the micrograph, from the centre of its first pixel (0, 0); other columns as the file has them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from vitrea.formats.atomic import atomic_path
from vitrea.formats.image_names import search_folders
from vitrea.formats.star import Block, read_star, write_star
from vitrea.formats.star_values import text_column
from vitrea.records.errors import InputError
from vitrea.records.table import Table

X, Y = COORDINATE_LABELS = ("rlnCoordinateX", "rlnCoordinateY")
PSI, CLASS, MERIT = "rlnAnglePsi", "rlnClassNumber", "rlnAutopickFigureOfMerit"
MICROGRAPH, COORDINATE_FILE = "rlnMicrographName", "rlnMicrographCoordinates"
FILES_BLOCK = "coordinate_files"

CoordinateFormat = Literal["star", "box", "ximdisp", "xmipp"]
COORDINATE_FORMATS: tuple[CoordinateFormat, ...] = get_args(CoordinateFormat)

_SUFFIXES: dict[str, CoordinateFormat] = {
    ".star": "star",
    ".box": "box",
    ".coords": "ximdisp",
    ".pos": "xmipp",
    ".xmd": "xmipp",
}
_SUFFIX_OF: dict[str, str] = {"star": ".star", "box": ".box", "ximdisp": ".coords", "xmipp": ".pos"}
_XIMDISP_HEADER = "        x         y      density"
_XMIPP_HEADER = "# <X position> <Y position>"
_XMIPP_LABELS = {"xcoor": X, "ycoor": Y, "cost": MERIT}
_HELIX_MARKS = (-1.0, -2.0)  # EMAN 1 marks the start and the end of a filament so; -3 is a plain particle


def suffix_of(form: CoordinateFormat) -> str:
    """Return the usual suffix of a format: ``.star``, ``.box``, ``.coords``, ``.pos``."""
    return _SUFFIX_OF[form]


def no_coordinates() -> Table:
    """Return a coordinate set without particles."""
    return Table({label: np.empty(0) for label in COORDINATE_LABELS})


def read_coordinates(path: str | Path, form: CoordinateFormat | None = None) -> Table:
    """Read the coordinates of one micrograph.

    Parameters
    ----------
    path : str or Path
        A file of any of `COORDINATE_FORMATS`. XMIPP: version 2 (two columns) or 3 (a STAR file with ``_xcoor``).
    form : str, optional
        The format; by default the suffix tells, and the first line where the suffix is none of theirs.

    Returns
    -------
    Table
        At least `COORDINATE_LABELS`; no rows where the file lists no particle. A STAR file keeps its other columns.

    Raises
    ------
    InputError
        If the file is missing, or a line is not what the format has there (names the line).
    """
    path = Path(path)
    form = form or _SUFFIXES.get(path.suffix.lower()) or _guess_format(path)
    if form == "star" or (form == "xmipp" and _looks_like_star(path)):
        return _read_star_coordinates(path)
    if form == "box":
        return _read_box(path)
    return _read_columns(path)


def write_coordinates(
    path: str | Path, coordinates: Table, form: CoordinateFormat | None = None, *, box: int = 0, comment: str = ""
) -> None:
    """Write the coordinates of one micrograph, whole or not at all.

    Parameters
    ----------
    path : str or Path
        The file; its folder must exist.
    coordinates : Table
        At least `COORDINATE_LABELS`.
    form : str, optional
        By default what the suffix says. STAR keeps all columns and fractions of pixels; ``.box`` and Ximdisp hold
        whole pixels: centres are rounded. Ximdisp's third column is the figure of merit, XMIPP's file has two columns.
    box : int
        Edge of the boxes in pixels, which ``.box`` files need: they hold corners.
    comment : str
        For STAR files, lines to put first.

    Raises
    ------
    InputError
        If the file cannot be written, or ``.box`` is asked for without a box size.
    """
    path = Path(path)
    form = form or _SUFFIXES.get(path.suffix.lower())
    if form is None:
        names = ", ".join(_SUFFIXES)
        raise InputError(f"{path}: what format is {path.suffix!r}? give the format, or a name that ends in {names}")
    if form == "star":
        write_star(path, {"": coordinates}, comment)
        return
    if form == "box" and box < 1:
        raise InputError(f"{path}: .box files hold the corners of boxes; give the box size in pixels (--box_size)")
    x, y = coordinates.numbers(X), coordinates.numbers(Y)
    with atomic_path(path) as temporary, temporary.open("w", encoding="ascii", newline="\n") as file:
        if form == "box":
            corners = np.round(np.stack([x, y], axis=1)).astype(int) - box // 2
            file.writelines(f"{left}\t{low}\t{box}\t{box}\n" for left, low in corners)
        elif form == "ximdisp":
            merits = coordinates.numbers(MERIT, 0.0)
            file.write(_XIMDISP_HEADER + "\n")
            file.writelines(f"{round(a):10d}{round(b):10d} {m:11.4g}\n" for a, b, m in zip(x, y, merits, strict=True))
        else:
            file.write(_XMIPP_HEADER + "\n")
            file.writelines(f"{a:.6g} {b:.6g}\n" for a, b in zip(x, y, strict=True))


def read_coordinate_files(path: str | Path) -> dict[str, Path]:
    """Read the list of coordinate files that a picking job leaves (``autopick.star`` of RELION >= 4).

    Parameters
    ----------
    path : str or Path
        STAR file with the columns ``rlnMicrographName`` and ``rlnMicrographCoordinates``.

    Returns
    -------
    dict of str to Path
        Coordinate file by micrograph name, looked for as image names are. One that is nowhere is named as it stands:
        reading it says that it is missing.

    Raises
    ------
    InputError
        If the columns are missing.
    """
    path = Path(path)
    for block in read_star(path).values():
        if isinstance(block, Table) and MICROGRAPH in block and COORDINATE_FILE in block:
            pairs = zip(block[MICROGRAPH].astype(str), block[COORDINATE_FILE].astype(str), strict=True)
            return {name: _find(file, path.parent) for name, file in pairs}
    raise InputError(f"{path} is no list of coordinate files: it lacks {MICROGRAPH} or {COORDINATE_FILE}")


def _find(file: str, root: Path) -> Path:
    places = (folder / file for folder in search_folders(root))
    return next((place for place in places if place.is_file()), Path(file))


def write_coordinate_files(path: str | Path, files: Mapping[str, str], comment: str = "") -> None:
    """Write the list of coordinate files, by micrograph name, in the form of RELION >= 4.

    Raises
    ------
    InputError
        If the file cannot be written.
    """
    columns = {MICROGRAPH: text_column(list(files)), COORDINATE_FILE: text_column(list(files.values()))}
    write_star(path, {FILES_BLOCK: Table(columns)}, comment)


def read_cistem_positions(path: str | Path, names: Sequence[str], pixel_sizes: NDArray[np.float64]) -> list[Table]:
    """Read a list of particle positions as cisTEM imports and exports them: parent image, x and y in Å.

    Parameters
    ----------
    path : str or Path
        Text with three columns or more; lines that begin with ``#`` or ``C`` and a blank are comments. The parent image
        is given by name (with or without folder or suffix) or by ID: its number among `names`, from 1.
    names : sequence of str
        The micrographs, in the order of their IDs.
    pixel_sizes : ndarray, shape [micrographs]
        Å per pixel of each.

    Returns
    -------
    list of Table
        Coordinates in pixels, one table a micrograph.

    Raises
    ------
    InputError
        If a line has too few values or its parent image is not among the micrographs (names the line).
    """
    path = Path(path)
    places = _parent_lookup(names)
    found: list[list[tuple[float, float]]] = [[] for _ in names]
    for number, words in _data_lines(path):
        values = [_number(word) for word in words[1:3]]
        if len(values) < 2 or None in values:
            raise InputError(f"{path} line {number}: expected a parent image and two positions in Å")
        row = places(words[0])
        if row is None:
            raise InputError(
                f"{path} line {number}: the parent image {words[0]!r} is none of the {len(names)} micrographs, by name "
                "or by ID"
            )
        found[row].append((values[0] or 0.0, values[1] or 0.0))
    return [
        Table(dict(zip(COORDINATE_LABELS, np.reshape(pairs, (-1, 2)).T / pixel, strict=True)))
        for pairs, pixel in zip(found, pixel_sizes, strict=True)
    ]


def write_cistem_positions(
    path: str | Path,
    names: Sequence[str],
    coordinates: Sequence[Table],
    pixel_sizes: NDArray[np.float64],
    *,
    by_id: bool = False,
) -> None:
    """Write one list of the particle positions of all micrographs, in Å, as cisTEM imports it.

    Parameters
    ----------
    path : str or Path
        The file.
    names : sequence of str
        The micrographs, in the order of their IDs in cisTEM.
    coordinates : sequence of Table
        One a micrograph, in pixels.
    pixel_sizes : ndarray, shape [micrographs]
        Å.
    by_id : bool
        Name the parent image by ID, from 1, instead of the name of its file.

    Raises
    ------
    InputError
        If the file cannot be written, or a name contains a blank (cisTEM would read two columns).
    """
    parents = [str(row + 1) if by_id else Path(name).name for row, name in enumerate(names)]
    spaced = next((parent for parent in parents if re.search(r"\s", parent)), None)
    if spaced is not None:
        raise InputError(f"cannot write {path}: the name {spaced!r} contains a blank; name parent images by ID")
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as file:
        for parent, table, pixel in zip(parents, coordinates, pixel_sizes, strict=True):
            pairs = np.stack([table.numbers(X), table.numbers(Y)], axis=1) * pixel
            file.writelines(f"{parent} {x:.3f} {y:.3f}\n" for x, y in pairs)


def _parent_lookup(names: Sequence[str]) -> Callable[[str], int | None]:
    """Return a function from what a list calls a parent image to its row."""
    keys: dict[str, int | None] = {}
    for row, name in enumerate(names):
        # A short name that two micrographs share tells neither.
        for key in {Path(name).stem, Path(name).name}:
            keys[key] = None if key in keys else row
    keys.update({name: row for row, name in enumerate(names)})

    def find(parent: str) -> int | None:
        for key in (parent, Path(parent).name, Path(parent).stem):
            if key in keys:
                return keys[key]
        is_id = parent.isdecimal() and 1 <= int(parent) <= len(names)
        return int(parent) - 1 if is_id else None

    return find


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        raise InputError(f"{path} does not exist; check its name") from None
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error


def _looks_like_star(path: Path) -> bool:
    return re.search(r"^data_", _read_text(path), re.MULTILINE) is not None


def _guess_format(path: Path) -> CoordinateFormat:
    text = _read_text(path)
    if re.search(r"^data_", text, re.MULTILINE):
        return "star"
    head = text.split("\n", 1)[0].split()
    if head[:3] == ["x", "y", "density"]:
        return "ximdisp"
    if head[:2] == ["#", "<X"]:
        return "xmipp"
    raise InputError(f"{path}: neither its name nor its first line tells its format; give the format")


def _read_star_coordinates(path: Path) -> Table:
    blocks = read_star(path)
    for block in blocks.values():
        table = _coordinate_block(block)
        if table is not None:
            return checked_coordinates(table, path)
    raise InputError(f"{path} lacks the columns {X} and {Y}")


def _coordinate_block(block: Block) -> Table | None:
    """Return a block as coordinates, XMIPP's labels renamed; None where it has none."""
    if not isinstance(block, Table):
        if not (X in block and Y in block):
            return None
        block = Table({k: text_column([v]) if isinstance(v, str) else np.array([v]) for k, v in block.items()})
    renamed = Table({_XMIPP_LABELS.get(label, label): column for label, column in block.columns.items()})
    return renamed if X in renamed and Y in renamed else None


def checked_coordinates(table: Table, path: Path) -> Table:
    """Return the table with coordinates as float64.

    Raises
    ------
    InputError
        If one is not a finite number.
    """
    columns = {}
    for label in COORDINATE_LABELS:
        try:
            values = table.numbers(label)
        except ValueError:
            raise InputError(f"{path}: {label} holds text where numbers are expected") from None
        bad = np.flatnonzero(~np.isfinite(values))
        if len(bad):
            raise InputError(f"{path}: {label} of particle {bad[0] + 1} is {values[bad[0]]}, not a finite number")
        columns[label] = values
    return table.with_columns(columns)


def _data_lines(path: Path) -> list[tuple[int, list[str]]]:
    """Return line numbers and words of all lines that are neither empty nor comments."""
    lines = enumerate(_read_text(path).splitlines(), start=1)
    split = [(number, line.replace(",", " ").split()) for number, line in lines]
    return [(number, words) for number, words in split if words and not words[0].startswith("#") and words[0] != "C"]


def _number(word: str) -> float | None:
    try:
        value = float(word)
    except ValueError:
        return None
    return value if np.isfinite(value) else None


def _read_box(path: Path) -> Table:
    """Read EMAN's boxes: corner x, corner y, width, height; whole pixels, so that the middle is pixel ``n // 2``."""
    centres = []
    for line, words in _data_lines(path):
        values = [value for word in words[:5] if (value := _number(word)) is not None]
        if len(values) < 4 or len(values) < len(words[:5]) or min(values[2:4]) < 1:
            raise InputError(f"{path} line {line}: expected the corner (x, y), width and height of a box")
        if len(values) == 5 and values[4] in _HELIX_MARKS:
            raise InputError(f"{path} line {line} marks an end of a filament; helices are not read from .box files")
        centres.append((values[0] + values[2] // 2, values[1] + values[3] // 2))
    return _table(centres)


def _read_columns(path: Path) -> Table:
    """Read x and y from the first two columns, as Ximdisp and XMIPP 2 have them; a heading is passed over.

    A third column is not read: Ximdisp keeps a grey value there that other programs fill with zeros.
    """
    centres = []
    for position, (line, words) in enumerate(_data_lines(path)):
        values = [_number(word) for word in words[:2]]
        if len(values) == 2 and values[0] is not None and values[1] is not None:
            centres.append((values[0], values[1]))
        elif position > 0:
            raise InputError(f"{path} line {line}: expected x and y, found {' '.join(words)[:40]!r}")
    return _table(centres)


def _table(centres: list[tuple[float, float]]) -> Table:
    return Table(dict(zip(COORDINATE_LABELS, np.reshape(centres, (-1, 2)).astype(np.float64).T, strict=True)))
