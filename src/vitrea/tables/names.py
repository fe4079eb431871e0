"""Column names as users type them."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

_PREFIXES = ("", "rln", "cisTEM")


def find_column(name: str, columns: Iterable[str]) -> str:
    """Return the column that a name means.

    A leading underscore does not count, and ``rln`` or ``cisTEM`` may be left out: ``_rlnDefocusU``, ``rlnDefocusU``
    and ``DefocusU`` are one column.

    Parameters
    ----------
    name : str
        As typed.
    columns : iterable of str
        The columns there are.

    Raises
    ------
    ValueError
        If there is no such column; names those that look like it.
    """
    known = list(columns)
    bare = name.strip().removeprefix("_")
    for prefix in _PREFIXES:
        if prefix + bare in known:
            return prefix + bare
    folded = {column.lower(): column for column in known}
    near = [folded[match] for match in get_close_matches(bare.lower(), folded, 2, 0.7)]
    near += [folded[match] for match in get_close_matches("rln" + bare.lower(), folded, 2, 0.7)]
    hint = f"; is it {' or '.join(list(dict.fromkeys(near))[:2])}?" if near else ""
    raise ValueError(f"there is no column {bare}{hint}")


def new_column(name: str) -> str:
    """Return the name of a column to be made, as typed but without its leading underscore.

    Raises
    ------
    ValueError
        If it is empty or has blanks, which a label must not.
    """
    bare = name.strip().removeprefix("_")
    if not bare or len(bare.split()) != 1 or bare[0] in "#'\"":
        raise ValueError(f"{name!r} cannot be the name of a column")
    return bare
