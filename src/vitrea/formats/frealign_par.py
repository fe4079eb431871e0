"""FREALIGN's parameter files (``.par``), versions 8, 9 and that of frealignX and cisTEM.

One line an image: its number in the stack, angles (psi, theta, phi), shifts, magnification, film, defocus, and scores;
lines that begin with C are comments (Grigorieff 2007, doi:10.1016/j.jsb.2006.05.004). What the columns mean beside
RELION's labels is in `particles_of_par` and `par_of_particles`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from vitrea.formats.atomic import atomic_path
from vitrea.formats.image_names import join_image_name, split_image_name
from vitrea.formats.star_values import text_column
from vitrea.records.errors import InputError
from vitrea.records.optics import Optics
from vitrea.records.particles import DEFOCUS_LABELS, EULER_LABELS, SHIFT_LABELS, Particles
from vitrea.records.table import Column, Table

_COMMON = ("C", "PSI", "THETA", "PHI", "SHX", "SHY", "MAG", "FILM", "DF1", "DF2", "ANGAST")
_SCORES = ("OCC", "LOGP", "SIGMA", "SCORE", "CHANGE")
VERSIONS: Mapping[str, tuple[str, ...]] = {
    "8": (*_COMMON, "PRESA", "DPRES"),
    "9": (*_COMMON, *_SCORES),
    "x": (*_COMMON, "PSHIFT", *_SCORES),
}
# Width and decimals of what is written; others have 8 and 2.
_FORMATS = {"C": (7, 0), "MAG": (8, 0), "FILM": (6, 0), "SHX": (10, 2), "SHY": (10, 2), "DF1": (9, 1), "DF2": (9, 1),
            "PSHIFT": (8, 4), "LOGP": (10, 0), "SIGMA": (11, 4)}  # fmt: skip
_WHOLE = ("C", "FILM")

# Columns of a particle file by FREALIGN's name. What RELION has no label for keeps cisTEM's.
_LABELS = {
    "PHI": "rlnAngleRot", "THETA": "rlnAngleTilt", "PSI": "rlnAnglePsi", "DF1": "rlnDefocusU", "DF2": "rlnDefocusV",
    "ANGAST": "rlnDefocusAngle", "OCC": "cisTEMOccupancy", "LOGP": "cisTEMLogP", "SIGMA": "cisTEMSigma",
    "SCORE": "cisTEMScore", "CHANGE": "cisTEMScoreChange", "PRESA": "frealignPhaseResidual",
    "DPRES": "frealignPhaseResidualChange",
}  # fmt: skip
_PHASE_SHIFT, _IMAGE, _MICROGRAPH = "rlnPhaseShift", "rlnImageName", "rlnMicrographName"
_GROUP = "rlnOpticsGroup"


def read_par(path: str | Path) -> Table:
    """Read a parameter file.

    Returns
    -------
    Table
        One row an image, under FREALIGN's names (`VERSIONS`); C and FILM are whole numbers.

    Raises
    ------
    InputError
        If the file is missing, a line is not all numbers, or has not as many as the first, or as no version has.
    """
    path = Path(path)
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        raise InputError(f"{path} does not exist; check its name") from None
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    rows = []
    for number, line in enumerate(lines, start=1):
        words = line.split()
        if not words or words[0].startswith("C"):
            continue
        try:
            rows.append([float(word) for word in words])
        except ValueError:
            raise InputError(f"{path} line {number}: {line.strip()[:60]!r} are not all numbers") from None
        if len(rows[-1]) != len(rows[0]):
            raise InputError(f"{path} line {number}: {len(rows[-1])} numbers, where the first line has {len(rows[0])}")
    if not rows:
        raise InputError(f"{path} holds no particles")
    names = _names_of(len(rows[0]))
    if names is None:
        raise InputError(f"{path}: lines of {len(rows[0])} numbers; a FREALIGN file has 11 to 13, 16 or 17")
    values = np.array(rows)
    columns: dict[str, Column] = dict(zip(names, values.T, strict=True))
    return Table({name: _whole(column) if name in _WHOLE else column for name, column in columns.items()})


def _names_of(count: int) -> tuple[str, ...] | None:
    """Return the columns of a file with so many; version 8 may lack its last one or two."""
    if len(_COMMON) <= count <= len(VERSIONS["8"]):
        return VERSIONS["8"][:count]
    return next((names for names in VERSIONS.values() if len(names) == count), None)


def _whole(column: Column) -> Column:
    return np.round(column).astype(np.int64)


def write_par(path: str | Path, table: Table, comment: str = "") -> None:
    """Write a parameter file in FREALIGN's fixed columns, whole or not at all.

    Parameters
    ----------
    path : str or Path
    table : Table
        The columns of one of `VERSIONS`.
    comment : str
        Lines to put first, each behind ``C``.

    Raises
    ------
    InputError
        If the file cannot be written.
    ValueError
        If the columns are those of no version.
    """
    names = next((names for names in VERSIONS.values() if set(names) == set(table)), None)
    if names is None:
        raise ValueError(f"no version of FREALIGN's files has the columns {', '.join(table)}")
    formats = [_FORMATS.get(name, (8, 2)) for name in names]
    heading = "".join(f"{name:>{width}}" for name, (width, _) in zip(names[1:], formats[1:], strict=True))
    columns = [table.numbers(name).tolist() for name in names]
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(f"C {line}\n" for line in comment.splitlines())
        file.write(f"{'C':<{formats[0][0]}}{heading}\n")
        for row in zip(*columns, strict=True):
            # A blank between numbers stays even where one outgrows its column.
            words = (f" {value:{width - 1}.{places}f}" for value, (width, places) in zip(row, formats, strict=True))
            file.write("".join(words) + "\n")


def particles_of_par(table: Table, stack: str, optics: Optics, source: Path | None = None) -> Particles:
    """Turn parameters into particles.

    Angles are RELION's (rot, tilt, psi = PHI, THETA, PSI). FREALIGN's shifts say where the particle lies, RELION's
    origins how it comes to the centre: the sign changes. They are in pixels up to version 8, in Å from then on. Phase
    shifts are in radians there, in degrees here.

    Parameters
    ----------
    table : Table
        As `read_par` returns it.
    stack : str
        Name of the stack that the images' numbers count.
    optics : Optics
        Pixel size, box and microscope, which the file does not hold.
    source : Path, optional
        The file, for messages.

    Returns
    -------
    Particles
        Films become micrographs, named by their numbers. Images whose film is negative were switched off: they are
        left out.
    """
    used = table.rows(table["FILM"] >= 0)
    scale = optics.pixel_size if "OCC" not in table else 1.0
    columns: dict[str, Column] = {
        _IMAGE: text_column([join_image_name(stack, int(number) - 1) for number in used["C"]]),
        _MICROGRAPH: text_column([str(film) for film in used["FILM"].tolist()]),
        _GROUP: np.full(len(used), optics.group),
    }
    columns |= {label: used[name] for name, label in _LABELS.items() if name in used}
    columns |= {label: -scale * used[name] for name, label in zip(("SHX", "SHY"), SHIFT_LABELS, strict=True)}
    if "PSHIFT" in used:
        columns[_PHASE_SHIFT] = np.degrees(used["PSHIFT"])
    return Particles(Table(columns), (optics,), source=source)


def par_of_particles(particles: Particles, version: str = "9") -> tuple[Table, tuple[str, ...]]:
    """Turn particles into parameters, as `particles_of_par` reads them.

    Parameters
    ----------
    particles : Particles
        Defocus is needed; angles and shifts that are absent are 0, occupancies 100.
    version : "8", "9" or "x"
        Of the file; only "x" (frealignX, cisTEM) holds phase shifts.

    Returns
    -------
    table : Table
        For `write_par`. Numbers of images are those in their stack, where that is one; else rows are counted. The
        magnification is that at which a detector with pixels of 10 µm has these.
    lost : tuple of str
        Columns that such a file cannot hold.
    """
    table, names = particles.table, VERSIONS[version]
    pixel_sizes = np.array([group.pixel_size for group in particles.optics])[particles.optics_index]
    scale = pixel_sizes if version == "8" else 1.0
    films = np.unique(table[_MICROGRAPH].astype(str), return_inverse=True)[1] if _MICROGRAPH in table else np.zeros(
        len(table), dtype=np.int64
    )  # fmt: skip
    known = {
        "C": _numbers_in_stack(table), "FILM": films + 1, "MAG": 1e5 / pixel_sizes,
        "SHX": -particles.shifts[:, 0] / scale, "SHY": -particles.shifts[:, 1] / scale,
        "PSHIFT": np.radians(table.numbers(_PHASE_SHIFT, 0.0)), "OCC": table.numbers(_LABELS["OCC"], 100.0),
    }  # fmt: skip
    columns = {name: known[name] if name in known else table.numbers(_LABELS[name], 0.0) for name in names}
    held = {*DEFOCUS_LABELS, *EULER_LABELS, *SHIFT_LABELS, _IMAGE, _MICROGRAPH, _GROUP}
    held |= {_LABELS[name] for name in names if name in _LABELS} | ({_PHASE_SHIFT} if "PSHIFT" in names else set())
    return Table(columns), tuple(label for label in table if label not in held)


def _numbers_in_stack(table: Table) -> Column:
    places = [split_image_name(str(name)) for name in table[_IMAGE]] if _IMAGE in table else []
    if places and len({file for file, _ in places}) == 1:
        return np.array([index + 1 for _, index in places], dtype=np.int64)
    return np.arange(1, len(table) + 1)
