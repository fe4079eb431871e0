"""What is wrong with the tables of a STAR file, or looks so."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from vitrea.formats.labels import label_types
from vitrea.formats.optics_groups import GROUP
from vitrea.records.table import Table

_NAMES = ("rlnImageName",)  # that should name one row
_SHOWN = 5


def find_faults(tables: Mapping[str, Table]) -> tuple[list[str], list[str]]:
    """Look for what programs that read these tables will stumble over.

    Parameters
    ----------
    tables : mapping of str to Table
        By block name.

    Returns
    -------
    faults : list of str
        Sentences on what is wrong: text where a number belongs, an optics group that is not defined.
    notes : list of str
        Sentences on what may be meant so: labels RELION does not know, NaN, images that come twice.
    """
    faults: list[str] = []
    notes: list[str] = []
    optics = tables.get("optics")
    for name, table in tables.items():
        for label, column in table.columns.items():
            kind = label_types().get(label)
            if kind in ("double", "int", "bool") and column.dtype == object and len(column):
                row, word = next((i, word) for i, word in enumerate(column.tolist()) if not _is_number(word))
                faults.append(f"data_{name}: {label} of row {row + 1} is {word!r}, not a number")
            elif kind in ("int", "bool") and column.dtype.kind == "f":
                faults.append(
                    f"data_{name}: {label} holds {column[column != np.round(column)][0]:g}, not whole numbers"
                )
            elif column.dtype.kind == "f" and not np.isfinite(column).all():
                notes.append(f"data_{name}: {label} holds {int((~np.isfinite(column)).sum())} NaN or infinite values")
            if label in _NAMES and len(set(column.tolist())) < len(column):
                notes.append(f"data_{name}: {len(column) - len(set(column.tolist()))} rows repeat a {label}")
        unknown = [label for label in table if label not in label_types()]
        if unknown:
            more = f" and {len(unknown) - _SHOWN} more" if len(unknown) > _SHOWN else ""
            notes.append(f"data_{name}: labels RELION 5 does not know: {', '.join(unknown[:_SHOWN])}{more}")
        if name != "optics" and GROUP in table:
            faults += _group_faults(name, table, optics)
    return faults, notes


def _group_faults(name: str, table: Table, optics: Table | None) -> list[str]:
    if optics is None:
        return [f"data_{name} has the column {GROUP}, but there is no data_optics"]
    if GROUP not in optics:
        return [f"data_optics lacks the column {GROUP}"]
    missing = np.setdiff1d(table[GROUP], optics[GROUP])
    return [f"data_{name} has rows of {GROUP} {missing[0]}, which data_optics does not define"] if len(missing) else []


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return "_" not in word
