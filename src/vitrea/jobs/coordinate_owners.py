"""Which micrograph a coordinate file belongs to, by its name or by a list such as autopick.star."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from vitrea.formats.coordinates import COORDINATE_FILE, read_coordinate_files
from vitrea.formats.micrograph_files import expand_names
from vitrea.formats.star import read_star
from vitrea.records.errors import InputError
from vitrea.records.table import Table

ENDINGS = (".star", ".box", ".coords", ".pos", ".xmd", ".txt", ".plt")  # of files that are taken out of folders


def coordinate_files(inputs: Iterable[str | Path], names: Sequence[str]) -> dict[Path, int | None]:
    """Return the coordinate files that the user named, and the row of the micrograph that each belongs to.

    Parameters
    ----------
    inputs : iterable of str or Path
        Coordinate files, lists of them, globs and folders. A file that stands in a list, too, is there once.
    names : sequence of str
        Of the micrographs.

    Returns
    -------
    dict of Path to int or None
        None for files that belong to none of the micrographs.

    Raises
    ------
    InputError
        If a glob or a folder stands for nothing, or a file does not exist.
    """
    rows = {name: row for row, name in enumerate(names)}
    by_stem = {Path(name).stem: row for row, name in enumerate(names)}
    owner_of = micrograph_finder(names)
    listed: dict[Path, int | None] = {}
    plain: list[Path] = []
    for path in expand_names(inputs, ENDINGS):
        if not path.is_file():
            raise InputError(f"{path} does not exist; check its name")
        if _is_list(path):
            for name, file in read_coordinate_files(path).items():
                listed[file] = rows.get(name, by_stem.get(Path(name).stem))
        else:
            plain.append(path)
    known = {path.resolve() for path in listed}
    return listed | {path: owner_of(path) for path in plain if path.resolve() not in known}


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


def _is_list(path: Path) -> bool:
    if path.suffix.lower() != ".star":
        return False
    try:
        blocks = read_star(path).values()
    except InputError:
        return False
    return any(isinstance(block, Table) and COORDINATE_FILE in block for block in blocks)
