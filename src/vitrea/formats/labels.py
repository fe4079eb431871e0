"""The registry of metadata labels: which columns hold text, whole numbers, or numbers."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Literal, cast

LabelType = Literal["string", "int", "double", "bool"]


@cache
def label_types() -> Mapping[str, LabelType]:
    """Return the type of every label RELION 5 knows, by name without underscore (``rlnDefocusU``)."""
    text = files("vitrea.formats").joinpath("labels.txt").read_text(encoding="ascii")
    pairs = (line.split() for line in text.splitlines() if line.strip())
    return {label: cast(LabelType, kind) for label, kind in pairs}
