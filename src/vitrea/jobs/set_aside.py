"""What a job over many files leaves out: a table of names and reasons, and a sentence for each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REASON = "vitreaReason"


@dataclass(frozen=True)
class SetAside:
    """A file that is left out, and why.

    Attributes
    ----------
    name : str
    reason : str
        What is wrong with it.
    """

    name: str
    reason: str

    @property
    def sentence(self) -> str:
        """The reason; the name stands before it where it does not name the file itself."""
        return self.reason if self.name in self.reason else f"{self.name}: {self.reason}"


def write_set_aside(
    path: Path, label: str, entries: Sequence[SetAside], comment: str = "", more: Mapping[str, Any] | None = None
) -> None:
    """Write which files are set aside and why; a list of an earlier run goes where there are none.

    Parameters
    ----------
    path : Path
        STAR file; its table is ``set_aside``.
    label : str
        Of the column of names.
    entries : sequence of SetAside
    comment : str
    more : mapping of str to array, optional
        Further columns, between names and reasons.
    """
    from vitrea.formats.star import write_star
    from vitrea.formats.star_values import text_column
    from vitrea.records.table import Table

    if not entries:
        path.unlink(missing_ok=True)
        return
    columns = {
        label: text_column([one.name for one in entries]),
        **(more or {}),
        REASON: text_column([" ".join(one.reason.split()) for one in entries]),
    }
    write_star(path, {"set_aside": Table(columns)}, comment)
