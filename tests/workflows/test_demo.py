"""``examples/demo.py``: its commands are such as vitrea takes and find what those before them left. No job is run."""

from __future__ import annotations

import importlib
import re
import shlex
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from scipy.spatial import cKDTree

from vitrea.cli.main import main
from vitrea.records.movie_motion import MovieMotion

_EXAMPLES = Path(__file__).parents[2] / "examples"
_INPUTS = re.compile(r"--(?:i|ref|map|coord_list|mask) (\S+)")
_MODULES = ("demo", "demo_molecule", "demo_movies", "demo_report", "betagal_pipeline")
_LONG = ["simulate movie", "motion", "ctf", "pick blob", "extract", "class2d", "select", "initial-model", "refine3d",
         "mask", "postprocess", "compare", "compare"]  # fmt: skip


@pytest.fixture
def demo(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(_EXAMPLES))
    for name in _MODULES:
        monkeypatch.delitem(sys.modules, name, raising=False)
    return importlib.import_module("demo")


@pytest.fixture
def movies(demo: ModuleType) -> ModuleType:
    return sys.modules["demo_movies"]


@pytest.fixture
def long_way(movies: ModuleType) -> list[str]:
    commands: list[str] = []
    movies.process_movies(commands.append, lambda: 0.02)
    return commands


@pytest.fixture
def short_way(demo: ModuleType, in_tmp: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setattr(demo, "threshold", lambda path: 0.02)
    log = demo.Log(in_tmp)
    commands: list[str] = []
    log.vitrea = commands.append
    demo.process(log, 100)
    return commands


def _job(command: str) -> str:
    return command.split(" --")[0].split(" Refine3D")[0].split(" InitialModel")[0].split(" PostProcess")[0]


def test_the_steps_of_the_long_way_in_order(long_way: list[str]) -> None:
    assert [_job(command) for command in long_way] == _LONG


def test_every_command_is_understood(
    long_way: list[str], short_way: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    for command in [*long_way, *short_way]:
        assert main([*shlex.split(command), "--print-command"]) == 0, capsys.readouterr().err


def test_each_step_of_the_long_way_takes_what_one_before_made(long_way: list[str]) -> None:
    made = {"protein.mrc"}
    for command in long_way:
        read = _INPUTS.findall(command)
        if command.startswith("compare"):
            read += command.split()[1:3]
        for name in read:
            assert name in made or Path(name).parts[0] in made, f"{command} reads {name}"
        output = re.search(r"--(?:o|part_dir) (\S+)", command)
        assert output is not None
        made.add(output[1] if output[1].endswith((".mrc", ".star")) else Path(output[1]).parts[0])


def test_the_molecule_has_its_symmetry_and_fits_its_box(demo: ModuleType) -> None:
    """Its alpha carbons, turned by any two-fold axis, lie on themselves; none is beyond the diameter's half."""
    points = demo.protein()
    for signs in ((-1, -1, 1), (-1, 1, -1), (1, -1, -1)):
        assert cKDTree(points).query(points * np.array(signs))[0].max() < 1e-9
    assert np.linalg.norm(points, axis=1).max() < demo.DIAMETER / 2


def _motion() -> MovieMotion:
    shifts = np.stack([np.linspace(0, 6, 4), np.linspace(0, -3, 4)], axis=1)
    coefficients = np.zeros((2, 18))
    coefficients[0, 3] = 2.0  # x z: along x, growing over the frame and with time
    return MovieMotion(
        movie="m", frames=4, rows=64, columns=64, first_frame=1, pixel_size=2.0, binning=1.0, shifts=shifts,
        coefficients=coefficients, hot_pixels=np.empty((0, 2), dtype=np.int64),
    )  # fmt: skip


def test_error_of_a_motion(movies: ModuleType) -> None:
    """What is common to all frames is none; one pixel of 2 Å to and fro is 2 Å; a local motion missed counts."""
    true = _motion()
    assert movies.motion_error(true, true) == 0
    assert movies.motion_error(replace(true, shifts=true.shifts + 5), true) == pytest.approx(0, abs=1e-12)
    shaken = true.shifts + np.array([[1, 0], [-1, 0], [1, 0], [-1, 0]])
    assert movies.motion_error(replace(true, shifts=shaken), true) == pytest.approx(2.0)
    # 2 pixels of 2 Å times x (RMS of ten places from -0.45 to 0.45) times frame (deviation of 0 to 3)
    missed = 4.0 * np.sqrt(np.mean(np.linspace(-0.45, 0.45, 10) ** 2)) * np.std(np.arange(4))
    assert movies.motion_error(replace(true, coefficients=None), true) == pytest.approx(missed)
