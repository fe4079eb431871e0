"""Standard input and output under the name ``-``, so that commands can be chained by pipes."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TextIO

from vitrea.formats.atomic import atomic_path
from vitrea.records.errors import InputError

STREAM = "-"


def is_stream(path: str | Path) -> bool:
    """Tell whether a name stands for standard input or output."""
    return str(path) == STREAM


def read_bytes(path: str | Path) -> bytes:
    """Return the content of a file, or of standard input for ``-``.

    Raises
    ------
    InputError
        If the file does not exist or cannot be read.
    """
    if is_stream(path):
        return sys.stdin.buffer.read()
    try:
        return Path(path).read_bytes()
    except FileNotFoundError:
        raise InputError(f"{path} does not exist; check its name") from None
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error


def display_name(path: str | Path, output: bool = False) -> str:
    """Return what messages call a file: its name, or "standard input", "standard output"."""
    return f"standard {'output' if output else 'input'}" if is_stream(path) else str(path)


@contextmanager
def text_output(path: str | Path) -> Iterator[TextIO]:
    """Yield a file to write text to: one that appears whole or not at all, or standard output for ``-``.

    Raises
    ------
    InputError
        If the file cannot be written.
    """
    if is_stream(path):
        yield sys.stdout
        sys.stdout.flush()
        return
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as file:
        yield file


@contextmanager
def binary_output(path: str | Path) -> Iterator[IO[bytes]]:
    """Yield a file to write bytes to, as `text_output` does for text.

    Raises
    ------
    InputError
        If the file cannot be written.
    """
    if is_stream(path):
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        yield file
