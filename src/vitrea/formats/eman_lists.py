"""EMAN2's lists of images (``.lst``), one line an image: its number in a file, the file, and a dictionary in JSON.

``#LSX`` lists, which EMAN2 writes, have lines of equal length behind three lines of header; ``#LST`` lists do not.
EMAN2: Tang et al. (2007) doi:10.1016/j.jsb.2006.05.009.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from vitrea.formats.streams import display_name, read_bytes, text_output
from vitrea.records.errors import InputError

_COMMENT = (
    "# This file is in fast LST format. All lines after the next line have exactly the number of characters shown "
    "on the next line. This MUST be preserved if editing."
)

Entry = tuple[int, str, dict[str, Any]]


def read_lst(path: str | Path) -> list[Entry]:
    """Read a list.

    Parameters
    ----------
    path : str or Path
        ``-`` is standard input.

    Returns
    -------
    list of (int, str, dict)
        For each image its number in its file, from 0, the file, and what else is said of it.

    Raises
    ------
    InputError
        If the file is missing or not such a list (names the line).
    """
    name = display_name(path)
    lines = read_bytes(path).decode("utf-8", "replace").splitlines()
    if not lines or not lines[0].startswith(("#LSX", "#LST")):
        raise InputError(f"{name} is not an EMAN2 list: its first line is not #LSX or #LST")
    entries = []
    for number, line in enumerate(lines, start=1):
        if line.startswith("#") or not line.strip():
            continue
        words = line.rstrip().split("\t")
        if len(words) == 1:
            words = line.split(maxsplit=2)
        try:
            entries.append((int(words[0]), words[1].strip(), _dictionary(words[2] if len(words) > 2 else "")))
        except (ValueError, IndexError):
            raise InputError(
                f"{name} line {number}: {line.strip()[:60]!r} is not a number, a file and a dictionary"
            ) from None
    if not entries:
        raise InputError(f"{name} lists no images")
    return entries


def _dictionary(text: str) -> dict[str, Any]:
    """Read what stands behind the file: a dictionary, or a comment of an old list."""
    text = text.strip()
    if not text.startswith("{"):
        return {"comment": text} if text else {}
    found: dict[str, Any] = json.loads(text)
    return found


def write_lst(path: str | Path, entries: list[Entry]) -> None:
    """Write a ``#LSX`` list, whole or not at all.

    Parameters
    ----------
    path : str or Path
        ``-`` is standard output.
    entries : list of (int, str, dict)
        As `read_lst` returns them.

    Raises
    ------
    InputError
        If the file cannot be written.
    """
    encode = json.JSONEncoder(separators=(",", ":")).encode  # of ASCII alone
    lines = [f"{number}\t{file}\t{encode(more)}" if more else f"{number}\t{file}" for number, file, more in entries]
    sizes = [len(line) if line.isascii() else len(line.encode("utf-8")) for line in lines]
    length = max(sizes, default=0) + 1  # bytes, the line break included
    with text_output(path) as output:
        output.write(f"#LSX\n{_COMMENT}\n# {length}\n")
        pairs = zip(lines, sizes, strict=True)
        output.writelines(f"{line}{' ' * (length - 1 - size)}\n" for line, size in pairs)
