"""A table of named columns: what a STAR loop holds, without the weight of a data-frame library."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Column = NDArray[Any]


def distinct(column: Column) -> tuple[list[str], NDArray[np.int64]]:
    """Return the different texts of a column, sorted, and for each row the place of its text among them.

    Numbers are taken as they are printed. What it holds at once is one text of a kind, where ``numpy.unique`` makes an
    array of fixed width of all.
    """
    texts = [value if isinstance(value, str) else str(value) for value in column.tolist()]
    names = sorted(set(texts))
    place = {name: number for number, name in enumerate(names)}
    return names, np.fromiter(map(place.__getitem__, texts), np.int64, len(texts))


@dataclass(frozen=True)
class Table:
    """Columns of equal length, in order.

    Parameters
    ----------
    columns : mapping of str to ndarray, shape [rows]
        Names carry no leading underscore (``rlnDefocusU``). Text columns have dtype ``object`` and hold ``str``;
        numbers are ``float64`` or ``int64``.

    Raises
    ------
    ValueError
        If the columns differ in length.
    """

    columns: Mapping[str, Column] = field(default_factory=dict)

    def __post_init__(self) -> None:
        lengths = {len(column) for column in self.columns.values()}
        if len(lengths) > 1:
            raise ValueError(f"columns of a table differ in length: { {k: len(v) for k, v in self.columns.items()} }")

    def __len__(self) -> int:
        """Return the number of rows."""
        return next((len(column) for column in self.columns.values()), 0)

    def __contains__(self, name: object) -> bool:
        """Tell whether a column of this name is present."""
        return name in self.columns

    def __iter__(self) -> Iterator[str]:
        """Iterate over the column names."""
        return iter(self.columns)

    def __getitem__(self, name: str) -> Column:
        """Return one column."""
        return self.columns[name]

    def numbers(self, name: str, default: float | None = None) -> NDArray[np.float64]:
        """Return a column as float64, or a constant column where it is absent and a default is given."""
        if name not in self.columns and default is not None:
            return np.full(len(self), default, dtype=np.float64)
        return np.asarray(self.columns[name], dtype=np.float64)

    def rows(self, index: Any) -> Table:
        """Return the rows that an index array, slice or boolean mask selects."""
        return Table({name: column[index] for name, column in self.columns.items()})

    def with_columns(self, new: Mapping[str, Any]) -> Table:
        """Return a copy in which the given columns replace those of the same name, or are added at the end."""
        return Table({**self.columns, **{name: np.asarray(column) for name, column in new.items()}})

    def without(self, *names: str) -> Table:
        """Return a copy lacking the given columns."""
        return Table({name: column for name, column in self.columns.items() if name not in names})


def concatenate_columns(parts: Sequence[Column]) -> Column:
    """Join pieces of one column; where one of them holds text, all become text."""
    if len({part.dtype == object for part in parts}) > 1:
        parts = [np.array([str(value) for value in part.tolist()], dtype=object) for part in parts]
    return np.concatenate(parts)
