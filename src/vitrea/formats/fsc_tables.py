"""FSC curves in the files of post-processing and refinement programs.

Read are STAR files of RELION and Vitrea (post-processing, ``_model.star``), the statistics of cisTEM and FREALIGN (text
with the columns FSC and Part_FSC; Grigorieff 2016, doi:10.1016/bs.mie.2016.04.013), and the XML that EMDB takes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from vitrea.formats.mrc_header import reading
from vitrea.formats.star import read_star
from vitrea.records.errors import InputError
from vitrea.records.fsc_curve import FscCurve
from vitrea.records.table import Table

# By preference: the curve one quotes first.
_STAR_CURVES = (
    "rlnFourierShellCorrelationCorrected",
    "rlnFourierShellCorrelation",
    "rlnGoldStandardFsc",
    "rlnFourierShellCorrelationMaskedMaps",
    "rlnFourierShellCorrelationUnmaskedMaps",
)
_TEXT_CURVES = ("Part_FSC", "FSC")
# Of FREALIGN's headings of two words the one that stands before the columns wanted.
_TWO_WORDS = "RING RAD"
_RESOLUTIONS = ("RESOL", "RESOLUTION")
# cisTEM's columns, for files whose first line was cut off.
_PLAIN = ("SHELL", "RESOLUTION", "RING_RADIUS", "FSC", "Part_FSC", "Part_SSNR^0.5", "Rec_SSNR^0.5")
_FEWEST = 3
NO_RESOLUTION = 999.0
"""Å that RELION writes for shell 0, and before it has found a resolution: worse than any."""


def shell_columns(size: int, voxel_size: float) -> dict[str, NDArray[np.int64] | NDArray[np.float64]]:
    """Return the columns with which RELION's tables of curves begin, one row a shell.

    Parameters
    ----------
    size : int
        Box size n.
    voxel_size : float
        Å.

    Returns
    -------
    dict of str to ndarray, shape [n // 2 + 1]
        ``rlnSpectralIndex``, ``rlnResolution`` (1/Å) and ``rlnAngstromResolution``. Shell 0 stands at 999 Å, or at
        twice the box if that is more, so that resolutions fall from row to row.
    """
    index = np.arange(size // 2 + 1)
    frequency = index / (size * voxel_size)
    frequency[0] = min(1.0 / NO_RESOLUTION, 0.5 / (size * voxel_size))
    return {"rlnSpectralIndex": index, "rlnResolution": frequency, "rlnAngstromResolution": 1.0 / frequency}


def read_fsc_curve(path: str | Path, column: str = "") -> FscCurve:
    """Read the FSC of two half maps.

    Parameters
    ----------
    path : str or Path
        ``.star``, ``.xml``, or a table of statistics as cisTEM and FREALIGN write it (FREALIGN's may follow the
        particles of a ``.par`` file, in lines that begin with C).
    column : str
        Which of its curves; by default the one corrected for the mask (RELION), or that of the particle (cisTEM,
        FREALIGN: Part_FSC), where there is one.

    Raises
    ------
    InputError
        If the file is missing, is none of these, or lacks the column.
    """
    path = Path(path)
    if path.suffix.lower() == ".star":
        return _from_star(path, column)
    with reading(path):
        text = path.read_text(encoding="utf-8", errors="replace")
    if text.lstrip()[:1] == "<":
        return _from_xml(path, text)
    return _from_statistics(path, text, column)


def _from_star(path: Path, column: str) -> FscCurve:
    wanted = (column,) if column else _STAR_CURVES
    tables = [block for block in read_star(path).values() if isinstance(block, Table)]
    for name in wanted:
        for table in tables:
            if name in table and "rlnResolution" in table:
                return _curve(path, table.numbers("rlnResolution"), table.numbers(name), name)
    raise InputError(f"{path} holds no FSC: none of its tables has rlnResolution and {' or '.join(wanted)}")


def _from_xml(path: Path, text: str) -> FscCurve:
    try:
        points = list(ElementTree.fromstring(text).iter("coordinate"))
        pairs = [(float(point.findtext("x", "")), float(point.findtext("y", ""))) for point in points]
    except (ElementTree.ParseError, ValueError) as error:
        raise InputError(f"{path} is not the XML of an FSC as EMDB takes it: {error}") from error
    x, y = np.array(pairs, dtype=np.float64).reshape(-1, 2).T
    return _curve(path, x, y, "FSC")


def _from_statistics(path: Path, text: str, column: str) -> FscCurve:
    lines = text.splitlines()
    headings = [_headings(line) for line in lines]
    # The last one: FREALIGN lists the halves' FSC behind the particles of a .par file.
    start = max((place for place, words in enumerate(headings) if _is_heading(words)), default=-1)
    names = headings[start] if start >= 0 else list(_PLAIN)
    name = column or next((one for one in _TEXT_CURVES if one in names), "")
    if name not in names:
        raise InputError(f"{path} lacks the column {name} (it has: {', '.join(names)})")
    places = [names.index(next(one for one in names if one in _RESOLUTIONS)), names.index(name)]
    rows = [_numbers(line, max(places) + 1) for line in lines[start + 1 :]]
    table = np.array([row for row in rows if row], dtype=np.float64).reshape(-1, max(places) + 1)
    if not len(table):
        raise InputError(
            f"{path} holds no FSC that can be read: it is neither STAR nor XML, and has no table of cisTEM or FREALIGN "
            "with the columns RESOLUTION or RESOL, FSC and Part_FSC"
        )
    # The frequency from the ring's radius would need the pixel size; resolutions are in Å.
    return _curve(path, 1.0 / np.maximum(table[:, places[0]], 1e-6), table[:, places[1]], name)


def _is_heading(words: Sequence[str]) -> bool:
    return "FSC" in words and any(name in words for name in _RESOLUTIONS)


def _headings(line: str) -> list[str]:
    words = line.replace(_TWO_WORDS, "RING_RAD").split()
    return words[1:] if words[:1] == ["C"] else words


def _numbers(line: str, count: int) -> list[float]:
    """Return the first numbers of a line, after FREALIGN's C; none where they are not all numbers."""
    words = re.sub(r"^\s*C", "", line).split()[:count]
    try:
        values = [float(word) for word in words]
    except ValueError:
        return []
    return values if len(values) == count else []


def _curve(path: Path, frequency: NDArray[np.float64], value: NDArray[np.float64], name: str) -> FscCurve:
    if len(frequency) < _FEWEST:
        raise InputError(f"{path}: its FSC has {len(frequency)} points, too few for a curve")
    if not (np.isfinite(frequency).all() and np.isfinite(value).all() and (np.abs(value) <= 1.0 + 1e-3).all()):
        raise InputError(f"{path}: the values of {name} are not all numbers between -1 and 1")
    order = np.argsort(frequency)
    return FscCurve(frequency[order], value[order], name)
