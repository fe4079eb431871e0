"""Build the typer command of a job from its parameter model, and run it."""

from __future__ import annotations

import inspect
import json
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from vitrea.cli.options import OptionSpec, command_words, normalize_option, option_specs
from vitrea.cli.running import run_job
from vitrea.jobs.base import Job, JobParameters
from vitrea.records.errors import InputError

_RUN_PANEL = "This command"
_SUFFIX = "__argument"


def build_command(job: Job, arguments: Sequence[str]) -> Callable[..., None]:
    """Return a function that typer can register as the command of a job.

    Values arrive as text and are checked by the job's pydantic model alone, so that the command line, a JSON file and
    a Python call are held to the same rules and refused in the same words.

    Parameters
    ----------
    job : Job
    arguments : sequence of str
        The words after ``vitrea``, as typed: errors speak of options by the name the user gave them.
    """
    specs = option_specs(job.parameters)

    def command(**values: Any) -> None:
        _note_ignored(job, values)
        given = _given_values(specs, values)
        parameters = _validate(job, specs, given, values["params"], arguments)
        if values["print_command"]:
            sys.stdout.write(shlex.join(command_words(job.name, parameters)) + "\n")
            return
        run_job(job, parameters, shlex.join(["vitrea", *arguments]), quiet=values["quiet"])

    entries = [*_positional_entries(specs), *_option_entries(specs), *_own_entries(), *_ignored_entries(job)]
    signature = inspect.Signature(
        [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
            for name, annotation, default in entries
        ]
    )
    command.__signature__ = signature  # type: ignore[attr-defined]
    command.__annotations__ = {name: annotation for name, annotation, _ in entries}
    command.__doc__ = escape_markup(_reflow(inspect.cleandoc(job.parameters.__doc__ or job.summary)))
    return command


def escape_markup(text: str) -> str:
    """Protect square brackets, as in ``[z, y, x]``, from being read as rich markup."""
    return text.replace("[", "\\[")


def _reflow(text: str) -> str:
    """Join the lines of each paragraph, which the help page breaks to the width of the terminal; drop code marks."""
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in text.replace("``", "").split("\n\n"))


Entry = tuple[str, Any, Any]


def _positional_entries(specs: Sequence[OptionSpec]) -> list[Entry]:
    entries: list[Entry] = []
    for spec in specs:
        if spec.positional:
            kind = list[str] | None if spec.kind == "list" else str | None
            argument = typer.Argument(
                metavar=spec.field.upper(),
                help=escape_markup(_help_text(spec)),
                show_default=False,
                rich_help_panel="Arguments",
            )
            entries.append((spec.field + _SUFFIX, Annotated[kind, argument], None))
    return entries


def _option_entries(specs: Sequence[OptionSpec]) -> list[Entry]:
    """Return typer's declarations of all parameters; expert options come last, in a section of their own."""
    entries: list[Entry] = []
    for spec in sorted(specs, key=lambda spec: spec.expert):
        panel = "Expert options" if spec.expert else spec.tab
        text = escape_markup(_help_text(spec))
        if spec.kind == "flag":
            names = [f"{spec.names[0]}/{spec.off_name}", *spec.names[1:]]
            option = typer.Option(*names, help=text, metavar=" ", show_default=False, rich_help_panel=panel)
            entries.append((spec.field, Annotated[bool | None, option], None))
            continue
        metavar = f"{spec.type_name} {spec.unit}".strip()
        option = typer.Option(
            *spec.names,
            help=text,
            metavar=metavar,
            show_default=False,
            rich_help_panel=panel,
            hidden=spec.positional,  # its argument is listed
        )
        kind = list[str] | None if spec.kind == "list" else str | None
        entries.append((spec.field, Annotated[kind, option], None))
    return entries


def _help_text(spec: OptionSpec) -> str:
    """Write the help of one option; RELION's name is added where underscores hide it among the names."""
    limits = f" ({spec.limits})" if spec.limits else ""
    default = f" [default: {spec.default}]" if spec.default else ""
    required = " [required]" if spec.required else ""
    hidden = [name for name in spec.relion if name not in spec.names]
    relion = f" [RELION: {' '.join(hidden)}]" if hidden else ""
    return f"{spec.help}{limits}{default}{required}{relion}"


def _own_entries() -> list[Entry]:
    """Return the options that every job has."""
    params = typer.Option(
        "--params", metavar="FILE", help="Take parameters from a JSON file.", rich_help_panel=_RUN_PANEL
    )
    printing = typer.Option(
        "--print-command",
        metavar=" ",
        help="Print the command with all changed parameters and stop.",
        rich_help_panel=_RUN_PANEL,
    )
    quiet = typer.Option(
        "--quiet", metavar=" ", help="No progress; warnings and errors only.", rich_help_panel=_RUN_PANEL
    )
    return [
        ("params", Annotated[str | None, params], None),
        ("print_command", Annotated[bool, printing], False),
        ("quiet", Annotated[bool, quiet], False),
    ]


def _ignored_entries(job: Job) -> list[Entry]:
    entries: list[Entry] = []
    for index, name in enumerate(job.ignored_options):
        kind = str | None if name.endswith("=") else bool
        option = typer.Option(name.rstrip("="), hidden=True)
        entries.append((f"ignored_{index}", Annotated[kind, option], None if name.endswith("=") else False))
    return entries


def _note_ignored(job: Job, values: dict[str, Any]) -> None:
    """Say in one line which of RELION's options were accepted without effect, and why."""
    notes = [
        f"{name.rstrip('=')} ({note})"
        for index, (name, note) in enumerate(job.ignored_options.items())
        if values[f"ignored_{index}"] not in (None, False)
    ]
    if notes:
        sys.stderr.write(f"Note: accepted for RELION's sake, without effect: {'; '.join(notes)}\n")


def _given_values(specs: Sequence[OptionSpec], values: dict[str, Any]) -> dict[str, Any]:
    """Return what the user gave, by field; lists of numbers given with commas are taken apart."""
    given: dict[str, Any] = {}
    for spec in specs:
        value, argument = values[spec.field], values.get(spec.field + _SUFFIX)
        if value not in (None, []) and argument not in (None, []):
            raise InputError(f"{spec.names[0]} is given twice: {value} as an option and {argument} as an argument.")
        value = argument if value in (None, []) else value
        if value in (None, []):
            continue
        if spec.kind == "list" and spec.type_name in ("INTEGER", "NUMBER"):
            value = [part for item in value for part in item.split(",")]
        given[spec.field] = value
    return given


def _validate(
    job: Job, specs: Sequence[OptionSpec], given: dict[str, Any], params_file: str | None, arguments: Sequence[str]
) -> JobParameters:
    """Return the checked parameters.

    Raises
    ------
    InputError
        Naming the option as the user typed it, or the JSON file and its field.
    """
    from_file = _read_params(Path(params_file)) if params_file else {}
    try:
        return job.parameters.model_validate({**from_file, **given})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise InputError(_sentence(first, specs, from_file, given, params_file, arguments)) from None


def _read_params(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"--params: cannot read {path}: {error.strerror}.") from None
    except json.JSONDecodeError as error:
        raise InputError(f"--params: {path} is not JSON: {error}.") from None
    if not isinstance(values, dict):
        raise InputError(f"--params: {path} must hold one JSON object with a field for each parameter.")
    return values


def _sentence(
    error: Any,
    specs: Sequence[OptionSpec],
    from_file: dict[str, Any],
    given: dict[str, Any],
    params_file: str | None,
    arguments: Sequence[str],
) -> str:
    """Turn pydantic's first finding into one sentence."""
    message = str(error["msg"]).removeprefix("Value error, ").rstrip(".")
    if not error["loc"]:
        return f"{message}."
    field = str(error["loc"][0])
    spec = next((spec for spec in specs if spec.field == field), None)
    if spec is None or (field in from_file and field not in given):
        where = f"{params_file}, field {field}" if params_file else field
    else:
        where = _typed_name(spec, arguments)
    if error["type"] == "missing" and spec is not None:
        return f"{where} is required: {spec.help}"
    value = f" (given: {error['input']})" if field in given or field in from_file else ""
    return f"{where}: {message[:1].lower()}{message[1:]}{value}."


def _typed_name(spec: OptionSpec, arguments: Sequence[str]) -> str:
    """Return the name under which the user gave an option, or the name he knows best where he did not."""
    if spec.positional and spec.kind != "flag":
        return spec.field.upper()
    names = {normalize_option(name) for name in (*spec.names, spec.off_name)}
    typed = (word.split("=", 1)[0] for word in arguments if word.startswith("-"))
    return next((word for word in typed if normalize_option(word) in names), spec.names[0])
