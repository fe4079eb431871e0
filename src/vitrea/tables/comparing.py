"""How the columns of two tables differ in rows that belong together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vitrea.records.table import Table
from vitrea.tables.joining import Match


@dataclass(frozen=True)
class Difference:
    """A column that two tables share.

    Attributes
    ----------
    column : str
    rows : int
        Pairs of rows in which its values differ.
    largest : float or None
        Largest absolute difference; None for texts.
    """

    column: str
    rows: int
    largest: float | None


def column_differences(first: Table, second: Table, match: Match, tolerance: float = 0.0) -> list[Difference]:
    """Compare the columns that two tables share, in the order of the first.

    Parameters
    ----------
    first, second : Table
    match : Match
        Which rows belong together.
    tolerance : float
        Numbers this close count as equal.
    """
    found = []
    for column in first:
        if column not in second:
            continue
        a, b = first[column][match.first], second[column][match.second]
        if a.dtype == object or b.dtype == object:
            found.append(Difference(column, int((a.astype(str) != b.astype(str)).sum()), None))
            continue
        a, b = a.astype(np.float64), b.astype(np.float64)
        with np.errstate(invalid="ignore"):
            apart = np.where((a == b) | (np.isnan(a) & np.isnan(b)), 0.0, np.abs(a - b))
        apart[np.isnan(apart)] = np.inf  # a number against NaN
        found.append(Difference(column, int((apart > tolerance).sum()), float(apart.max(initial=0.0))))
    return found
