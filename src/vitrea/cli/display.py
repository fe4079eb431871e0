"""Draw a job's progress: a bar in a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from vitrea.cli.joblog import display_line, event_line

# Figures of the last iteration shown beside the bar: key, and how to write the value.
_HEADLINE = (
    ("resolution_angstrom", "{:.3g} Å"),
    ("accuracy_rotation_deg", "±{:.3g}°"),
    ("accuracy_translation_angstrom", "±{:.2g} Å"),
)
# RELION's way to say that an accuracy is not known yet.
_UNKNOWN = 999.0
# A stage shorter than this is not worth a line of its own where there is no terminal.
_SECONDS_WORTH_A_LINE = 5.0


class CountColumn(ProgressColumn):
    """Units of work done, of how many, and how many per second; nothing for a stage that is not counted."""

    def render(self, task: Task) -> Text:
        """Write ``130/500 particles 33/s``."""
        if task.total is None:
            return Text("")
        speed = task.finished_speed or task.speed
        rate = f" {speed:.3g}/s" if speed else ""
        return Text(f"{task.completed:.0f}/{task.total:.0f} {task.fields['unit']}{rate}", style="cyan")


class RichRecorder:
    """A progress bar with the stage, its rate and the time left, and the latest figures of the refinement.

    Parameters
    ----------
    console : rich.console.Console
        Where to draw.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._headline: dict[str, object] = {}
        self._progress = Progress(
            TextColumn("{task.fields[headline]}", style="bold"),
            TextColumn("{task.description}"),
            BarColumn(bar_width=16),
            CountColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
        )
        self._task = self._progress.add_task("", total=None, headline="", unit="")
        self._progress.start()

    def stage(self, name: str, total: int = 0, unit: str = "") -> None:
        """Begin a stage: the bar starts anew."""
        self._progress.remove_task(self._task)
        self._task = self._progress.add_task(name, total=total or None, headline=self._headline_text(), unit=unit)

    def advance(self, count: int = 1) -> None:
        """Move the bar."""
        self._progress.advance(self._task, count)

    def event(self, name: str, **values: object) -> None:
        """Show the figures: above the bar as a line, and an iteration's also beside it."""
        if name == "iteration":
            self._headline.update(values)
            self._progress.update(self._task, headline=self._headline_text())
        self._console.print(display_line(name, values), markup=False, highlight=False, soft_wrap=True)

    def warn(self, message: str) -> None:
        """Show a warning above the bar."""
        self._console.print(f"Warning: {message}", style="yellow", markup=False, highlight=False, soft_wrap=True)

    def close(self) -> None:
        """Remove the bar."""
        self._progress.stop()

    def _headline_text(self) -> str:
        return headline_text(self._headline)


def headline_text(figures: dict[str, object]) -> str:
    """Write the figures of an iteration that stand beside the bar; missing ones are left out."""
    texts = []
    for key, form in _HEADLINE:
        value = figures.get(key)
        if isinstance(value, (int, float)) and value < _UNKNOWN:
            texts.append(form.format(value))
    return "  ".join(texts)


class PlainRecorder:
    """Lines of text for a file or a pipe: every event, every warning, and each stage that took some time.

    Parameters
    ----------
    to_stderr : bool
        Write to standard error what otherwise goes to standard output.
    """

    def __init__(self, to_stderr: bool = False) -> None:
        self._to_stderr = to_stderr
        self._name = ""
        self._unit = ""
        self._done = 0
        self._start = time.monotonic()

    def stage(self, name: str, total: int = 0, unit: str = "") -> None:
        """Close the stage before, and begin one."""
        self._end_stage()
        self._name, self._unit, self._done, self._start = name, unit, 0, time.monotonic()

    def advance(self, count: int = 1) -> None:
        """Count work done."""
        self._done += count

    def event(self, name: str, **values: object) -> None:
        """Write the figures as one line."""
        self._print(display_line(name, values))

    def warn(self, message: str) -> None:
        """Write a warning to stderr."""
        sys.stderr.write(f"Warning: {message}\n")
        sys.stderr.flush()

    def close(self) -> None:
        """Close the last stage."""
        self._end_stage()

    def _end_stage(self) -> None:
        seconds = time.monotonic() - self._start
        if self._name and seconds >= _SECONDS_WORTH_A_LINE:
            values: dict[str, object] = {"stage": self._name, "seconds": round(seconds, 1)}
            if self._done:
                values |= {self._unit or "units": self._done, "per_second": self._done / seconds}
            self._print(event_line("stage", values))
        self._name = ""

    def _print(self, line: str) -> None:
        stream = sys.stderr if self._to_stderr else sys.stdout
        stream.write(line + "\n")
        stream.flush()


def terminal_recorder(to_stderr: bool = False) -> RichRecorder | PlainRecorder:
    """Return a bar where stdout (or, with `to_stderr`, stderr) is a terminal, plain lines elsewhere."""
    console = Console(stderr=to_stderr)
    return RichRecorder(console) if console.is_terminal else PlainRecorder(to_stderr)
