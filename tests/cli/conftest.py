"""A small job with every kind of parameter, put in the place of the real ones."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest

from vitrea.jobs import JobEntry
from vitrea.jobs.base import Context, Job, JobParameters, parameter

# `vitrea.cli.main` the module; the package's attribute of that name might be shadowed.
cli_main = importlib.import_module("vitrea.cli.main")


class ToyParameters(JobParameters):
    """Measure a toy, with voxels [z, y, x]."""

    input: Path = parameter(..., "Particles.", options=["--i"])
    second: Path | None = parameter(None, "Second file.", positional=True)
    particle_diameter: float = parameter(200.0, "Diameter.", unit="Å", gt=0, tab="Reference")
    tau2_fudge: float = parameter(1.0, "Regularisation.", options=["--tau2_fudge"], tab="Optimisation")
    zero_mask: bool = parameter(True, "Mask with zeros.", options=["--zero_mask"])
    classes: int = parameter(1, "Number of classes.", options=["--K"], ge=1)
    centre: list[float] = parameter([], "Coordinates of the centre.", unit="Å")
    names: list[str] = parameter([], "Names.")
    mode: Literal["soft", "hard"] = parameter("soft", "How.", expert=True)


class Toy:
    """A job whose run is whatever the test puts in `action`; keeps the parameters it was given."""

    def __init__(self) -> None:
        self.seen: list[ToyParameters] = []
        self.action: Callable[[Context], None] = lambda context: None

    def run(self, parameters: ToyParameters, context: Context) -> None:
        self.seen.append(parameters)
        self.action(context)


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> Toy:
    """Put a toy job into the list of jobs."""
    recorded = Toy()
    job = Job(
        "toy",
        "Measure a toy.",
        ToyParameters,
        recorded.run,
        ignored_options={"--j=": "threads are chosen by themselves", "--dont_wait": "there is nothing to wait for"},
        log_file=lambda parameters: Path("toy.log"),
    )
    monkeypatch.setattr(cli_main, "JOBS", (JobEntry("toy", "Measure a toy."),))
    monkeypatch.setattr(cli_main, "load_job", {"toy": job}.__getitem__)
    return recorded


@pytest.fixture
def vitrea(in_tmp: Path) -> Callable[..., int]:
    """Call the command line inside a temporary folder; returns its exit code."""

    def call(*words: Any) -> int:
        return int(cli_main.main([str(word) for word in words]))

    return call
