"""``examples/two_molecules.py``: commands are ones that vitrea takes; the clearest class and the rest go their ways."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from vitrea.cli.main import main
from vitrea.formats.star import read_star, write_star
from vitrea.records.table import Table


@pytest.fixture
def program(load_example: Callable[[str], ModuleType]) -> ModuleType:
    return load_example("two_molecules")


@pytest.fixture
def commands(
    program: ModuleType, in_tmp: Path, monkeypatch: pytest.MonkeyPatch, noted_commands: list[str]
) -> list[str]:
    """What the program would run on 2,700 particles whose second of three first models is the clearest."""
    (in_tmp / "First").mkdir()
    resolutions = np.array([53.8, 26.9, 44.8])
    write_star(in_tmp / "First/run_model.star", {"model_classes": Table({"rlnEstimatedResolution": resolutions})})
    monkeypatch.setattr(program, "read_particles", lambda path: range(2700))
    Path("particles.star").touch()
    assert program.main(["particles.star", "--output", ".", "--diameter", "220", "--symmetry", "D2"]) == 0
    return noted_commands


def test_the_steps_in_order(commands: list[str]) -> None:
    jobs = [command.split(" --")[0] for command in commands]
    assert jobs == ["class2d", "select", "initial-model", "select", "initial-model", "class3d"]


def test_every_command_is_understood(commands: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    for command in commands:
        assert main([*shlex.split(command), "--print-command"]) == 0, capsys.readouterr().err


def test_the_clearest_class_is_a_reference_and_the_others_get_a_model(commands: list[str]) -> None:
    assert "--classes 1,3 " in commands[3]
    assert "--i rest.star" in commands[4] and "--sym D2" in commands[4]
    references = read_star(Path("references.star"))["references"]
    assert isinstance(references, Table)
    assert list(references["rlnReferenceImage"]) == ["First/run_class002.mrc", "Second/run_class001.mrc"]


def test_particles_that_are_not_there_are_refused(
    program: ModuleType, in_tmp: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        program.main(["particles.star", "--diameter", "220"])
    assert stop.value.code == 2
    assert "no such file" in capsys.readouterr().err
