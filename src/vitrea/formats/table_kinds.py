"""Which program's table a file is, told from its name and its first lines."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal, get_args

from vitrea.formats.streams import is_stream
from vitrea.records.errors import InputError

TableKind = Literal[
    "relion3.1", "relion3.0", "relion1.3", "cistem", "cistem-binary", "frealign8", "frealign9", "frealignx",
    "cryosparc", "xmipp", "eman", "box",
]  # fmt: skip
TABLE_KINDS: tuple[TableKind, ...] = get_args(TableKind)

_SUFFIXES: dict[str, TableKind] = {
    ".star": "relion3.1", ".cistem": "cistem-binary", ".par": "frealign9", ".cs": "cryosparc", ".xmd": "xmipp",
    ".sel": "xmipp", ".doc": "xmipp", ".lst": "eman", ".lsx": "eman", ".box": "box",
}  # fmt: skip
_HEAD = 1 << 16
_LABEL = re.compile(r"^\s*_(\S+)", re.MULTILINE)


def kind_of_name(path: str | Path) -> TableKind | None:
    """Return what the name of a file to be written asks for; None where it says nothing."""
    return _SUFFIXES.get(Path(path).suffix.lower())


def kind_of_file(path: str | Path) -> TableKind:
    """Tell what a file is; standard input is taken for a STAR file of RELION.

    Raises
    ------
    InputError
        If it is missing, or neither name nor content tell.
    """
    if is_stream(path):
        return "relion3.1"
    head = read_head(path)
    if head.startswith("#LS"):
        return "eman"
    if "XMIPP_STAR" in head:
        return "xmipp"
    labels = labels_of_head(head)
    if any(label.startswith("cisTEM") for label in labels) and not any(label.startswith("rln") for label in labels):
        return "cistem"
    if re.search(r"^\s*data_", head, re.MULTILINE):
        return "relion3.1" if "data_optics" in head else "relion1.3"
    kind = kind_of_name(path)
    if kind is None or kind in ("relion3.1", "xmipp"):
        raise InputError(f"{path}: what kind of table this is, neither its name nor its content tells; give --from")
    return kind


def read_head(path: str | Path) -> str:
    """Return the beginning of a file as text, whatever it holds.

    Raises
    ------
    InputError
        If the file is missing or unreadable.
    """
    try:
        with Path(path).open("rb") as file:
            return file.read(_HEAD).decode("latin-1")
    except FileNotFoundError:
        raise InputError(f"{path} does not exist; check its name") from None
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error


def labels_of_head(head: str) -> list[str]:
    """Return the labels of a STAR file that stand in its beginning."""
    return _LABEL.findall(head)
