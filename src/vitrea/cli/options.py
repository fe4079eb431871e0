"""From a job's parameter model to what the command line and the documentation show of it."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Literal, Union

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

Kind = Literal["flag", "value", "list"]

_SCALAR_NAMES: dict[type, str] = {int: "INTEGER", float: "NUMBER", str: "TEXT", Path: "FILE"}
_LIMITS = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}


@dataclass(frozen=True)
class OptionSpec:
    """One parameter of a job as a face shows it.

    Attributes
    ----------
    field : str
        Name of the model's field.
    names : tuple of str
        Option names: the field's own with hyphens first, then RELION's where they differ by more than ``_`` for ``-``.
    kind : str
        ``flag`` (a boolean, with a ``--no-`` form), ``value`` (one value) or ``list`` (may be repeated; numbers may
        also be separated by commas).
    type_name : str
        What to write: INTEGER, NUMBER, FILE, TEXT, or the choices separated by ``|``.
    unit, default, limits, help, tab, cistem : str
        Texts; `default` is empty where the parameter is required or unset by default.
    relion : tuple of str
        The RELION option names as RELION spells them.
    required, expert, positional : bool
        As declared by `vitrea.jobs.base.parameter`.
    """

    field: str
    names: tuple[str, ...]
    kind: Kind
    type_name: str
    unit: str
    default: str
    limits: str
    help: str
    tab: str
    cistem: str
    relion: tuple[str, ...]
    required: bool
    expert: bool
    positional: bool

    @property
    def off_name(self) -> str:
        """The name that switches a flag off, ``--no-zero-mask``; empty for other kinds."""
        return f"--no-{self.names[0].lstrip('-')}" if self.kind == "flag" else ""


def normalize_option(name: str) -> str:
    """Return an option name with hyphens for underscores: RELION's ``--zero_mask`` is our ``--zero-mask``."""
    return name.replace("_", "-")


def option_specs(model: type[BaseModel]) -> tuple[OptionSpec, ...]:
    """Describe all fields of a parameter model, in order of declaration."""
    return tuple(_describe_field(name, info) for name, info in model.model_fields.items())


def repeat_names(words: Sequence[str], specs: Sequence[OptionSpec]) -> list[str]:
    """Put the name of a list's option before each of the values that follow it.

    Shells expand ``--i *.mrc`` to one name followed by many values. Words without a name mean something else where
    the job has positional parameters besides that list; there, nothing is changed.

    Parameters
    ----------
    words : sequence of str
        As typed.
    specs : sequence of OptionSpec
        All of the job.
    """
    lists = {
        normalize_option(name)
        for spec in specs
        if spec.kind == "list" and not any(other.positional for other in specs if other is not spec)
        for name in spec.names
    }
    out: list[str] = []
    current, values = "", 0
    for place, word in enumerate(words):
        if word == "--":
            return out + list(words[place:])
        name, _, attached = word.partition("=")
        is_value = bool(current) and (values == 0 or not word.startswith("-"))
        if is_value:
            out += [current, word] if values else [word]
            values += 1
            continue
        current = name if normalize_option(name) in lists else ""
        values = 1 if attached else 0
        out.append(word)
    return out


def _describe_field(name: str, info: FieldInfo) -> OptionSpec:
    """Describe one field; what `vitrea.jobs.base.parameter` stored in json_schema_extra is all optional."""
    extra = info.json_schema_extra if isinstance(info.json_schema_extra, dict) else {}
    relion = tuple(str(option) for option in typing.cast("Sequence[str]", extra.get("options", ())))
    kind, type_name = _describe_type(info.annotation)
    return OptionSpec(
        field=name,
        names=_option_names(name, relion),
        kind=kind,
        type_name=type_name,
        unit=str(extra.get("unit", "")),
        default="" if info.is_required() else format_value(info.get_default(call_default_factory=True)),
        limits=_describe_limits(info),
        help=info.description or "",
        tab=str(extra.get("tab", "I/O")),
        cistem=str(extra.get("cistem", "")),
        relion=relion,
        required=info.is_required(),
        expert=bool(extra.get("expert", False)),
        positional=bool(extra.get("positional", False)),
    )


def _option_names(field: str, relion: Sequence[str]) -> tuple[str, ...]:
    names: dict[str, str] = {}
    for option in (f"--{normalize_option(field)}", *relion):
        names.setdefault(normalize_option(option), option)
    return tuple(names.values())


def _strip_optional(annotation: Any) -> Any:
    """Return X for ``X | None``; other types as they are."""
    if typing.get_origin(annotation) in (Union, types.UnionType):
        rest = [member for member in typing.get_args(annotation) if member is not type(None)]
        return rest[0] if len(rest) == 1 else Union[tuple(rest)]  # noqa: UP007 - built at run time
    return annotation


def _describe_type(annotation: Any) -> tuple[Kind, str]:
    """Return how a type is given on the command line, and the word for it."""
    bare = _strip_optional(annotation)
    origin, arguments = typing.get_origin(bare), typing.get_args(bare)
    if origin is typing.Annotated:
        return _describe_type(arguments[0])
    if bare is bool:
        return "flag", ""
    if origin in (list, tuple, set, frozenset):
        item = next((member for member in arguments if member is not Ellipsis), str)
        return "list", _describe_type(item)[1]
    if origin is Literal:
        return "value", "|".join(str(choice) for choice in arguments)
    if isinstance(bare, type) and issubclass(bare, Enum):
        return "value", "|".join(str(member.value) for member in bare)
    return "value", _SCALAR_NAMES.get(bare, "TEXT")


def _describe_limits(info: FieldInfo) -> str:
    texts = [
        f"{words} {getattr(constraint, key):g}"
        for constraint in info.metadata
        for key, words in _LIMITS.items()
        if getattr(constraint, key, None) is not None
    ]
    return ", ".join(texts)


def format_value(value: Any) -> str:
    """Write a parameter's value as the command line takes it; nothing for None and for an empty list or text."""
    if value is None or value is PydanticUndefined:
        return ""
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, (list, tuple, set, frozenset)):
        return ",".join(format_value(item) for item in value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def changed_parameters(parameters: BaseModel) -> Iterator[tuple[OptionSpec, Any]]:
    """Yield the parameters that differ from their default, with their values."""
    for spec in option_specs(type(parameters)):
        info = type(parameters).model_fields[spec.field]
        value = getattr(parameters, spec.field)
        if info.is_required() or value != info.get_default(call_default_factory=True):
            yield spec, value


def command_words(job_name: str, parameters: BaseModel) -> list[str]:
    """Return the command line, as a list of words, that runs a job with these parameters."""
    words = ["vitrea", *job_name.split()]
    for spec, value in changed_parameters(parameters):
        if spec.kind == "flag":
            words.append(spec.names[0] if value else spec.off_name)
        elif spec.kind == "list":
            for item in value or ():
                words += [spec.names[0], _exact(item)]
        elif value is not None:
            words += [spec.names[0], _exact(value)]
    return words


def _exact(value: Any) -> str:
    """Write a value without loss: repr for floats, unlike `format_value`, which is for reading."""
    return repr(value) if isinstance(value, float) else format_value(value)
