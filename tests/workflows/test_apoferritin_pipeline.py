"""``examples/apoferritin_pipeline.py``: every command is one that vitrea takes, and finds what those before it left."""

from __future__ import annotations

import argparse
import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from vitrea.cli.main import main
from vitrea.formats.mrc import read_map, write_map
from vitrea.records.map import Map

_INPUTS = re.compile(r"--(?:i|ref|coord_list|reextract_data_star|mask|solvent_mask) (\S+)")


@pytest.fixture
def program(load_example: Callable[[str], ModuleType]) -> ModuleType:
    return load_example("apoferritin_pipeline")


class Commands:
    """Stands in for the pipeline: notes commands and the results they promise."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.commands, self.results, self.lines = folder, [], [], []

    def vitrea(self, title: str, command: str, result: str) -> None:
        assert title
        self.commands.append(command)
        self.results.append(result)


@pytest.fixture
def run(program: ModuleType, in_tmp: Path, monkeypatch: pytest.MonkeyPatch) -> Commands:
    (in_tmp / "Refine3DCoarse").mkdir()
    write_map("Refine3DCoarse/run_class001.mrc", Map(np.ones((16, 16, 16), dtype=np.float32), 4.5))
    recorded: list[Commands] = []

    def make(folder: Path) -> Commands:
        recorded.append(Commands(folder))
        return recorded[0]

    monkeypatch.setattr(program, "Pipeline", make)
    monkeypatch.setattr(program, "read_particles", lambda path: range(3314))
    monkeypatch.setattr(program, "contour", lambda path: 0.02)
    monkeypatch.setattr(program, "report", lambda pipeline, *_: pipeline.folder / "report.html")
    Path("mic_1.mrc").touch()
    assert program.main(["*.mrc", "--output", ".", "--box", "24"]) == 0
    return recorded[0]


def test_the_steps_of_the_tutorial_in_order(run: Commands) -> None:
    jobs = [command.split(" --")[0] for command in run.commands]
    first = ["ctf", "pick blob", "extract", "class2d", "select", "initial-model", "refine3d"]
    assert jobs == [*first, "extract", "mask", "refine3d", "mask", "postprocess"]


def test_every_command_is_understood(run: Commands, capsys: pytest.CaptureFixture[str]) -> None:
    for command in run.commands:
        assert main([*shlex.split(command), "--print-command"]) == 0, capsys.readouterr().err


def test_each_step_takes_what_one_before_made(run: Commands) -> None:
    made = {"reference.mrc"}
    for command, result in zip(run.commands, run.results, strict=True):
        for name in _INPUTS.findall(command)[command.startswith("ctf") :]:
            known = name in made or Path(name).parent in {Path(one).parent for one in made if "/" in one}
            assert known, f"{command} reads {name}"
        made.add(result)
        if command.startswith("extract"):
            made.add(str(Path(result).parent / "particles.star"))


def test_the_coarse_map_starts_the_fine_refinement(run: Commands) -> None:
    """Of the box and pixels of the fine images: 24 x 1.5 Å in 18 pixels of 2 Å."""
    reference = read_map("reference.mrc")
    assert (reference.voxels.shape, reference.voxel_size) == ((18, 18, 18), 2.0)
    fine: Any = next(command for command in run.commands if "ExtractFine" in command)
    assert "--extract_size 24 --scale 18" in fine


def test_micrographs_that_are_not_there_are_refused(
    program: ModuleType, in_tmp: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        program.main(["*.mrc"])
    assert stop.value.code == 2
    assert "no file matches" in capsys.readouterr().err


def test_the_better_hand_of_the_model_counts(
    program: ModuleType, in_tmp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The map is the mirror image of the model: told so, and by how far they agree beyond a zero of the FSC."""
    rng = np.random.default_rng(1)
    model = rng.standard_normal((12, 12, 12)).astype(np.float32)
    (in_tmp / "PostProcess").mkdir()
    write_map("PostProcess/map.mrc", Map(model, 2.0))
    monkeypatch.setattr(program, "read_atoms", lambda path, assembly: None)
    monkeypatch.setattr(program, "density_from_atoms", lambda atoms, size, voxel_size: model)
    pipeline = Commands(in_tmp)
    curve = [1.0, 0.1, 0.7, 0.5, 0.3]

    def compare(title: str, command: str, result: str) -> None:
        pipeline.commands.append(command)
        correlation = 0.9 if "mirrored" in command else 0.2
        Path(result).write_text(json.dumps({"correlation": correlation, "fsc": curve}))

    monkeypatch.setattr(pipeline, "vitrea", compare)
    figures = program.compare_with_model(pipeline, argparse.Namespace(model=Path("m.cif"), symmetry="O"))
    assert figures["model"] == "mirrored" and figures["correlation"] == "0.9"
    assert figures["finest shell with an FSC of 0.5"] == "8.00 Å"
    assert not any("--align" in command for command in pipeline.commands)
    voxels = read_map("model_mirrored.mrc").voxels
    # The centre, voxel 6, stays; 7 goes to 5.
    np.testing.assert_array_equal(voxels[:, :, 6], model[:, :, 6])
    np.testing.assert_array_equal(voxels[:, :, 5], model[:, :, 7])
