"""Words of messages that several jobs write."""

from __future__ import annotations

from collections.abc import Sequence


def number_of(count: int, noun: str) -> str:
    """Return a number with its noun, which takes an s unless there is one: "1 movie", "2 movies".

    Examples
    --------
    >>> number_of(1, "movie"), number_of(0, "movie")
    ('1 movie', '0 movies')
    """
    return f"{count} {noun}{'' if count == 1 else 's'}"


def some_of(names: Sequence[str], shown: int = 5) -> str:
    """Return the first of many names, parted by commas, with dots for those that are left out."""
    return ", ".join(names[:shown]) + (" ..." if len(names) > shown else "")
