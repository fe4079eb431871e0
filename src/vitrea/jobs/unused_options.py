"""Options that would have no effect beside the others given: refused, never silently ignored."""

from __future__ import annotations

from collections.abc import Iterable

from vitrea.jobs.base import JobParameters
from vitrea.records.errors import InputError


def refuse_unused(parameters: JobParameters, names: Iterable[str], why: str) -> None:
    """Raise InputError if any of these parameters has another value than its default.

    Parameters
    ----------
    parameters : JobParameters
    names : iterable of str
        Parameters that nothing would look at.
    why : str
        The rest of a sentence that begins with the option: ``"shapes --denovo: give that, too"``.
    """
    fields = type(parameters).model_fields
    for name in names:
        field = fields[name]
        if getattr(parameters, name) != field.default:
            extra = field.json_schema_extra
            options = extra.get("options") if isinstance(extra, dict) else None
            option = options[0] if isinstance(options, list) and options else f"--{name}"
            raise InputError(f"{option} {why}")
