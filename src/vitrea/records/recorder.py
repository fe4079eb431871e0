"""What algorithms tell the world while they work: one object receives progress, figures and warnings."""

from __future__ import annotations

from typing import Protocol


class Recorder(Protocol):
    """Receives what a job has to tell. Faces draw it: a progress bar, a log, a web page."""

    def stage(self, name: str, total: int = 0, unit: str = "") -> None:
        """Begin a stage that will advance to `total` units of work."""

    def advance(self, count: int = 1) -> None:
        """Report units of work done in the present stage."""

    def event(self, name: str, **values: object) -> None:
        """Report figures: ``event("iteration", iteration=3, resolution=12.5)``.

        The event ``text`` is a line to read: ``event("text", text="...")``.
        """

    def warn(self, message: str) -> None:
        """Report something the user should know that does not stop the job."""


class SilentRecorder:
    """A recorder that keeps events in memory and shows nothing; for tests and for library use."""

    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, object]]] = []
        self.warnings: list[str] = []

    def stage(self, name: str, total: int = 0, unit: str = "") -> None:
        """Begin a stage."""

    def advance(self, count: int = 1) -> None:
        """Report work done."""

    def event(self, name: str, **values: object) -> None:
        """Keep an event."""
        self.events.append((name, values))

    def warn(self, message: str) -> None:
        """Keep a warning."""
        self.warnings.append(message)
