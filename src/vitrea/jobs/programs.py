"""Other programs that can take the place of a built-in method."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from vitrea.records.errors import InputError


def find_program(title: str, given: Path | None, option: str, variable: str) -> str:
    """Return the absolute path of a program that the user asks for.

    Parameters
    ----------
    title : str
        What it is called in messages.
    given : Path, optional
        What the option names: a file, or a name on the PATH. Without it the environment variable counts.
    option, variable : str
        Names of the option and of the environment variable.

    Raises
    ------
    InputError
        If neither names a program, or it is not there or not executable.
    """
    name = str(given or os.environ.get(variable, ""))
    if not name:
        raise InputError(f"name the program with {option}, or in the environment variable {variable}")
    # A path drops the dot of ./program, which is then looked for on the PATH alone.
    found = shutil.which(name) or shutil.which(Path(name).absolute())
    if found is None:
        raise InputError(f"{title} {name} is not there, or not executable")
    return str(Path(found).absolute())
