"""What a job tells, as lines of text: the job's log file, and the line both the log and the terminal show."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO

from vitrea.records.recorder import Recorder

# Longer sequences (FSC curves, histograms) belong in STAR files, not in a line of text.
_LONGEST_SEQUENCE = 12


def event_line(name: str, values: dict[str, object]) -> str:
    """Write an event as ``key=value`` words: ``iteration=3 resolution_angstrom=20.6``.

    An event whose values hold its own name (an iteration's number) begins with that; any other begins with
    ``event=<name>``. Texts with blanks are quoted; long sequences and arrays are left out.
    """
    words = [f"{name}={_format(values[name])}"] if name in values else [f"event={name}"]
    for key, value in values.items():
        if key != name and (text := _format(value)) is not None:
            words.append(f"{key}={text}")
    return " ".join(words)


def display_line(name: str, values: dict[str, object]) -> str:
    """Write an event for a reader: a `text` event is its text, any other is its line."""
    return str(values["text"]) if name == "text" else event_line(name, values)


def _format(value: object) -> str | None:
    """Write one value without blanks or in quotes; None where it is too long for a line."""
    if hasattr(value, "tolist"):  # numpy scalars and arrays, torch tensors
        value = value.tolist()
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.6g}" if math.isfinite(value) else str(value)
    if isinstance(value, (list, tuple)):
        return _format_sequence(value)
    text = str(value).replace("\n", " ")
    return f'"{text}"' if " " in text or not text else text


def _format_sequence(values: Sequence[object]) -> str | None:
    if len(values) > _LONGEST_SEQUENCE:
        return None
    texts = [_format(value) for value in values]
    return None if None in texts else ",".join(text for text in texts if text is not None)


class TeeRecorder:
    """Hands everything to several recorders."""

    def __init__(self, recorders: Iterable[Recorder]) -> None:
        self.recorders = tuple(recorders)

    def stage(self, name: str, total: int = 0, unit: str = "") -> None:
        """Begin a stage in all."""
        for recorder in self.recorders:
            recorder.stage(name, total, unit)

    def advance(self, count: int = 1) -> None:
        """Report work done to all."""
        for recorder in self.recorders:
            recorder.advance(count)

    def event(self, name: str, **values: object) -> None:
        """Report figures to all."""
        for recorder in self.recorders:
            recorder.event(name, **values)

    def warn(self, message: str) -> None:
        """Warn all."""
        for recorder in self.recorders:
            recorder.warn(message)


class JobLog:
    """A recorder that writes one line an event to a file, each with the seconds since the start.

    Nothing is written, and no folder made, before the job has reported an event of its own or has finished: a job
    that refuses its input leaves no trace. An existing log is continued.

    Parameters
    ----------
    path : Path
        The log file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._start = time.monotonic()
        self._held: list[str] = []
        self._file: IO[str] | None = None

    def stage(self, name: str, total: int = 0, unit: str = "") -> None:
        """Note the beginning of a stage."""
        self._write("stage", {"stage": name, **({"total": total, "unit": unit} if total else {})})

    def advance(self, count: int = 1) -> None:
        """Write nothing: progress is for those who watch."""

    def event(self, name: str, **values: object) -> None:
        """Write an event as one line."""
        if name not in ("start", "parameters"):
            self._open()
        self._write(name, values)

    def warn(self, message: str) -> None:
        """Write a warning."""
        self._write("warning", {"message": message})

    def finish(self) -> None:
        """Note that the job has ended well."""
        self._open()
        self._write("finished", {})

    def fail(self, error: BaseException) -> None:
        """Note how the job ended; nothing where it had not begun."""
        if self._file:
            self._write("failed", {"error": type(error).__name__, "message": str(error)})

    def close(self) -> None:
        """Close the file."""
        if self._file:
            self._file.close()
            self._file = None

    def _open(self) -> None:
        if self._file is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self.path.open("a", encoding="utf-8", buffering=1)
            for line in self._held:
                self._file.write(line)
            self._held.clear()

    def _write(self, name: str, values: dict[str, object]) -> None:
        elapsed = time.monotonic() - self._start
        line = f"{event_line(name, values)} elapsed_seconds={elapsed:.1f}\n"
        if self._file:
            self._file.write(line)
        else:
            self._held.append(line)
