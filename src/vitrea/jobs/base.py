"""What a job-type is: a parameter model, a `run`, and the context it runs in.

Modules of this room import neither torch nor numba at the top: the command line lists and explains jobs without them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from vitrea.records.recorder import Recorder, SilentRecorder


def parameter(
    default: Any,
    help: str,
    *,
    unit: str = "",
    options: Sequence[str] = (),
    cistem: str = "",
    tab: str = "I/O",
    expert: bool = False,
    positional: bool = False,
    **limits: Any,
) -> Any:
    """Declare one job parameter.

    Parameters
    ----------
    default
        Value used when the user gives none; ``...`` makes the parameter required.
    help : str
        One sentence for the user.
    unit : str
        Unit of the value ("Å", "degrees"), shown by every face.
    options : sequence of str
        Further option names accepted on the command line: RELION's short names ("--i", "--tau2_fudge").
    cistem : str
        The name cisTEM gives to this parameter, for the documentation.
    tab : str
        Tab of the web form and section of the documentation page.
    expert : bool
        Whether faces hide it at first.
    positional : bool
        Whether the command line also takes the value without an option name, in the order of declaration.
    **limits
        Pydantic's constraints: ge, le, gt, lt.
    """
    extra: dict[str, Any] = {
        "unit": unit,
        "options": list(options),
        "cistem": cistem,
        "tab": tab,
        "expert": expert,
        "positional": positional,
    }
    return Field(default, description=help, json_schema_extra=extra, **limits)


class JobParameters(BaseModel):
    """Base of all parameter models: unknown names, NaN and infinity are refused, defaults are checked."""

    model_config = ConfigDict(extra="forbid", validate_default=True, frozen=True, allow_inf_nan=False)


@dataclass(frozen=True)
class Context:
    """What a running job knows besides its parameters: who listens, and the command that started it."""

    recorder: Recorder = field(default_factory=SilentRecorder)
    command: str = ""


@dataclass(frozen=True)
class Job:
    """A job-type.

    Attributes
    ----------
    name : str
        The command: ``refine3d``.
    summary : str
        One line for lists.
    parameters : type of JobParameters
        The parameter model; its docstring is the job's long description.
    run : callable
        ``run(parameters, context)`` reads files, calls algorithms, writes files.
        Raises InputError for a user's mistake before anything is computed or written.
    ignored_options : mapping of str to str
        Options of RELION accepted for compatibility, each with a note saying what becomes of it. A name that ends in
        ``=`` takes a value (``--j=``).
    log_file : callable or None
        ``log_file(parameters)`` names the file the job's events are written to, one line each; None: no log.
    examples : sequence of str
        Command lines that show what the job is for; help and documentation show them, and a test runs each, those
        joined by ``|``, too, in a folder of small files (``tests/cli/example_files.py``).
    writes_to_stdout : callable or None
        ``writes_to_stdout(parameters)`` tells whether the result itself goes to standard output; what the job reports
        is then written to standard error.
    """

    name: str
    summary: str
    parameters: type[JobParameters]
    run: Callable[[Any, Context], None]
    ignored_options: dict[str, str] = field(default_factory=dict)
    log_file: Callable[[Any], Path | None] | None = None
    examples: Sequence[str] = ()
    writes_to_stdout: Callable[[Any], bool] | None = None
