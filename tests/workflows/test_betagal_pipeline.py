"""``examples/betagal_pipeline.py``: the order of its steps, going on after a failure, its page. No job is run."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from vitrea.formats.mrc import write_map, write_stack
from vitrea.formats.star import write_star
from vitrea.records.map import Map
from vitrea.records.table import Table

_STEPS = ["class2d", "select", "initial-model", "refine3d", "mask", "postprocess"]
_BOX, _PIXEL, _COUNT = 16, 5.0, 12


@pytest.fixture
def program(load_example: Callable[[str], ModuleType]) -> ModuleType:
    return load_example("betagal_pipeline")


def _write_particles(path: Path, classes: np.ndarray[Any, Any]) -> None:
    count = len(classes)
    optics = Table(
        {
            "rlnOpticsGroup": np.array([1]), "rlnOpticsGroupName": np.array(["g"], dtype=object),
            "rlnVoltage": np.array([300.0]), "rlnSphericalAberration": np.array([2.7]),
            "rlnAmplitudeContrast": np.array([0.1]), "rlnImagePixelSize": np.array([_PIXEL]),
            "rlnImageSize": np.array([_BOX]), "rlnImageDimensionality": np.array([2]),
        }
    )  # fmt: skip
    names = np.array([f"{row + 1:06d}@particles.mrcs" for row in range(count)], dtype=object)
    columns = {label: np.full(count, 1e4) for label in ("rlnDefocusU", "rlnDefocusV", "rlnDefocusAngle")}
    columns |= {label: np.full(count, 30.0) for label in ("rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi")}
    table = {"rlnImageName": names, "rlnOpticsGroup": np.ones(count, dtype=int), "rlnClassNumber": classes, **columns}
    write_star(path, {"optics": optics, "particles": Table(table)})


class FakeJobs:
    """Stands in for ``subprocess.run``: writes what each job would, and notes which ran."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.ran, self.failing = folder, [], ""
        self.commands: list[str] = []

    def __call__(self, words: list[str], cwd: Path) -> SimpleNamespace:
        assert words[1:3] == ["-m", "vitrea"] and cwd == self.folder
        job = words[3]
        self.ran.append(job)
        self.commands.append(shlex.join(words[3:]))
        if job == self.failing:
            return SimpleNamespace(returncode=2)
        getattr(self, job.replace("-", "_"))()
        return SimpleNamespace(returncode=0)

    def _map(self, name: str) -> None:
        axis = np.arange(_BOX) - _BOX // 2
        radius = np.sqrt(axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2)
        (self.folder / name).parent.mkdir(exist_ok=True)
        write_map(self.folder / name, Map((radius < 4).astype(np.float32), _PIXEL))

    def class2d(self) -> None:
        (self.folder / "Class2D").mkdir(exist_ok=True)
        stack = np.random.default_rng(1).normal(size=(3, _BOX, _BOX)).astype(np.float32)
        write_stack(self.folder / "Class2D/run_classes.mrcs", stack, _PIXEL)
        classes = {
            "rlnReferenceImage": np.array([f"{k:06d}@Class2D/run_classes.mrcs" for k in (1, 2, 3)], dtype=object),
            "rlnClassDistribution": np.array([0.5, 0.25, 0.25]),
            "rlnEstimatedResolution": np.array([10.0, 12.0, 30.0]),
        }
        write_star(self.folder / "Class2D/run_model.star", {"model_classes": Table(classes)})
        _write_particles(self.folder / "Class2D/run_data.star", np.repeat([1, 2, 3], [6, 3, 3]))
        names = {"rlnModelStarFile": "model", "rlnExperimentalDataStarFile": "data"}
        general = {label: f"Class2D/run_{kind}.star" for label, kind in names.items()}
        write_star(self.folder / "Class2D/run_optimiser.star", {"optimiser_general": general})

    def select(self) -> None:
        _write_particles(self.folder / "selected.star", np.repeat([1, 2], [6, 3]))
        scores = {"rlnClassNumber": np.arange(1, 4), "vitreaKept": np.array([1, 1, 0])}
        write_star(self.folder / "selected_class_scores.star", {"class_scores": Table(scores)})

    def initial_model(self) -> None:
        self._map("InitialModel/run_class001.mrc")

    def refine3d(self) -> None:
        self._map("Refine3D/run_class001.mrc")
        _write_particles(self.folder / "Refine3D/run_data.star", np.ones(9, dtype=int))

    def mask(self) -> None:
        self._map("mask.mrc")

    def postprocess(self) -> None:
        self._map("PostProcess/map.mrc")
        curve = np.linspace(1.0, 0.0, _BOX // 2 + 1)
        labels = ("rlnFourierShellCorrelationUnmaskedMaps", "rlnFourierShellCorrelationCorrected")
        general = {"rlnFinalResolution": 11.5, "rlnBfactorUsedForSharpening": -90.0}
        write_star(
            self.folder / "PostProcess/map.star", {"general": general, "fsc": Table(dict.fromkeys(labels, curve))}
        )


@pytest.fixture
def jobs(tmp_path: Path, program: ModuleType, monkeypatch: pytest.MonkeyPatch) -> FakeJobs:
    _write_particles(tmp_path / "particles.star", np.ones(_COUNT, dtype=int))
    images = np.random.default_rng(2).normal(size=(_COUNT, _BOX, _BOX)).astype(np.float32)
    write_stack(tmp_path / "particles.mrcs", images, _PIXEL)
    fake = FakeJobs((tmp_path / "Project").resolve())
    monkeypatch.setattr(program.subprocess, "run", fake)
    return fake


def _arguments(jobs: FakeJobs, **options: object) -> list[str]:
    given = {"output": jobs.folder, "symmetry": "D2", "mask_diameter": 60, **options}
    return [str(jobs.folder.parent), *(word for name, value in given.items() for word in (f"--{name}", str(value)))]


def test_each_step_takes_what_the_one_before_made(program: ModuleType, jobs: FakeJobs) -> None:
    assert program.main(_arguments(jobs, classes=3)) == 0
    assert jobs.ran == _STEPS
    options = [dict(re.findall(r"--(\w+) ([^-]\S*)", command)) for command in jobs.commands]
    assert options[0] | {"K": "3", "particle_diameter": "60"} == options[0]
    assert options[1]["i"] == f"{options[0]['o']}_optimiser.star" and "--auto" in jobs.commands[1]
    assert options[2]["i"] == options[3]["i"] == options[1]["o"]
    assert options[3]["ref"] == f"{options[2]['o']}_class001.mrc"
    assert options[2]["sym"] == options[3]["sym"] == "D2"
    assert options[4]["i"] == f"{options[3]['o']}_class001.mrc"
    assert 0.05 < float(options[4]["ini_threshold"]) < 0.6  # of a ball of density 1
    assert options[5]["mask"] == options[4]["o"]
    assert options[5]["i"] == f"{options[3]['o']}_half1_class001_unfil.mrc"


def test_the_page_holds_the_pictures_and_the_result(program: ModuleType, jobs: FakeJobs) -> None:
    program.main(_arguments(jobs))
    page = (jobs.folder / "report.html").read_text(encoding="utf-8")
    assert "12 particles gave a map at 11.5 Å" in page
    assert "<td>9 of 12</td>" in page  # kept
    assert page.count("data:image/png;base64,") == 8
    assert all(f"vitrea {step} " in page for step in _STEPS)


def test_a_failed_step_is_told_and_the_next_run_goes_on_there(
    program: ModuleType, jobs: FakeJobs, capsys: pytest.CaptureFixture[str]
) -> None:
    jobs.failing = "initial-model"
    assert program.main(_arguments(jobs)) == 1
    assert "'First model' failed: vitrea initial-model ended with exit code 2." in capsys.readouterr().err
    assert jobs.ran == _STEPS[:3]
    jobs.failing, jobs.ran = "", []
    assert program.main(_arguments(jobs)) == 0
    assert jobs.ran == _STEPS[2:]


def test_a_step_that_leaves_no_result_has_failed(
    program: ModuleType, jobs: FakeJobs, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(jobs, "mask", lambda: None)
    assert program.main(_arguments(jobs)) == 1
    assert "mask.mrc was not written" in capsys.readouterr().err


def test_changed_options_make_what_follows_anew(program: ModuleType, jobs: FakeJobs) -> None:
    program.main(_arguments(jobs))
    jobs.ran, jobs.failing = [], "select"
    assert program.main(_arguments(jobs, classes=7)) == 1
    assert jobs.ran == ["class2d", "select"]
    # The old selection is of the old classes: it must not pass for done.
    jobs.ran, jobs.failing = [], ""
    assert program.main(_arguments(jobs, classes=7)) == 0
    assert jobs.ran == _STEPS[1:]
    assert set(json.loads((jobs.folder / "pipeline.json").read_text())) == set(jobs.commands[-5:]) | {jobs.commands[-7]}


def test_a_folder_without_particles_is_refused(
    program: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        program.main([str(tmp_path), "--mask_diameter", "60"])
    assert stop.value.code == 2
    assert "particles.star does not exist" in capsys.readouterr().err
