"""``vitrea refine3d`` as users run it: on files, killed and continued, with input that cannot be used."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mrcfile
import numpy as np
import pytest
import starfile

from vitrea.cli.main import main
from vitrea.formats.mrc import open_stack, read_map, write_map, write_stack
from vitrea.formats.particle_files import read_particles
from vitrea.formats.star import read_star, write_star
from vitrea.jobs.run_history import read_history
from vitrea.records.map import Map
from vitrea.records.table import Table


@pytest.fixture(scope="module")
def finished(particle_folder: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished refinement; returns the start of its files' names."""
    root = tmp_path_factory.mktemp("refine") / "run"
    assert main(["refine3d", *particle_folder.options(root)]) == 0
    return root


def test_poses_and_map_are_right(finished: Path, particle_folder: Any, tmp_path: Path) -> None:
    """Angles are as accurate as the run itself estimates.

    The estimate is the turn about one axis that makes an image 100 times less probable: 3.03 standard deviations of a
    Gaussian error. The angle of a rotation with such errors about three axes has a median of 1.54 standard deviations,
    half the estimate; the other half is left for the error of the map that 200 particles make. The frame of the map,
    which may have turned as a whole, is taken out.
    """
    found = read_particles(f"{finished}_data.star")
    truth = read_particles(particle_folder.folder / "truth.star")
    report = tmp_path / "poses.json"
    files = [f"{finished}_data.star", str(particle_folder.folder / "truth.star")]
    assert main(["compare", *files, "--sym", "C2", "--json", str(report)]) == 0
    general = read_star(f"{finished}_optimiser.star")["optimiser_general"]
    assert isinstance(general, dict)
    accuracy = float(general["rlnOverallAccuracyRotations"])
    assert accuracy < 5.0
    assert json.loads(report.read_text())["angular_error_deg"]["median"] < accuracy
    assert np.median(np.abs(found.shifts - truth.shifts)) < 0.25 * 5.0
    model = read_star(f"{finished}_model.star")["model_general"]
    assert isinstance(model, dict)
    assert float(model["rlnCurrentResolution"]) < 16.0


def test_other_programs_read_the_files(finished: Path) -> None:
    for path in finished.parent.glob("*.mrc"):
        assert mrcfile.validate(path), path
    for path in finished.parent.glob("*.star"):
        blocks = starfile.read(path, always_dict=True)
        assert blocks, path
    data = starfile.read(f"{finished}_data.star")
    assert set(data) == {"optics", "particles"}
    assert set(data["particles"]["rlnRandomSubset"]) == {1, 2}
    assert np.isfinite(data["particles"]["rlnAngleRot"]).all()


def test_what_was_run_is_recorded(finished: Path) -> None:
    record = json.loads(Path(f"{finished}_job.json").read_text())
    assert record["parameters"]["symmetry"] == "C2"
    assert f"{finished}_class001.mrc" in record["outputs"]
    lines = [line for line in Path(f"{finished}.log").read_text().splitlines() if "iteration=" in line]
    assert len(lines) == int(record_iterations(finished))
    history = read_history(str(finished), len(lines))
    assert [record.iteration for record in history] == list(range(1, len(lines) + 1))
    for record, line in zip(history, lines, strict=True):
        told = dict(word.split("=", 1) for word in line.split() if "=" in word)
        assert record.resolution == pytest.approx(float(told["resolution_angstrom"]), abs=1e-3)
        assert record.change_offset == pytest.approx(float(told["change_offset_angstrom"]), abs=1e-3)
    for picture in ("views", "convergence"):
        assert Path(f"{finished}_{picture}.png").read_bytes()[1:4] == b"PNG"
    assert "<img" in Path(f"{finished}_report.html").read_text()


def record_iterations(root: Path) -> int:
    general = read_star(f"{root}_optimiser.star")["optimiser_general"]
    assert isinstance(general, dict)
    return int(general["rlnCurrentIteration"])


@pytest.mark.slow
@pytest.mark.parametrize("seen", ["it001_optimiser.star", "it003_half1_class001.mrc", "it004_data.star"])
def test_killed_and_continued_is_as_never_stopped(
    seen: str, finished: Path, particle_folder: Any, run_until: Callable[[list[str], Path], None], tmp_path: Path
) -> None:
    """Kill between iterations and in the middle of writing; the final maps must be the same to the last bit."""
    root = tmp_path / "run"
    run_until(["refine3d", *particle_folder.options(root)], Path(f"{root}_{seen}"))
    assert not Path(f"{root}_class001.mrc").exists()
    last = max(tmp_path.glob("run_it*_optimiser.star"))
    assert main(["refine3d", "--continue", str(last)]) == 0
    for name in ("class001", "half1_class001_unfil", "half2_class001_unfil"):
        expected, got = read_map(f"{finished}_{name}.mrc"), read_map(f"{root}_{name}.mrc")
        np.testing.assert_array_equal(got.voxels, expected.voxels)


def test_going_on_from_an_iteration_repeats_the_rest(finished: Path, tmp_path: Path) -> None:
    """The same without processes: a copy of the run goes on from the iteration before its last one."""
    optimiser = Path(f"{finished}_it{record_iterations(finished) - 1:03d}_optimiser.star")
    assert main(["refine3d", "--continue", str(optimiser), "--o", str(tmp_path / "again")]) == 0
    expected, got = read_map(f"{finished}_class001.mrc"), read_map(tmp_path / "again_class001.mrc")
    np.testing.assert_array_equal(got.voxels, expected.voxels)


Spoil = Callable[[Path], list[str]]


def _star(folder: Path, change: Callable[[dict[str, object]], None]) -> list[str]:
    """Rewrite the particle file with its blocks changed."""
    blocks: dict[str, object] = dict(read_star(folder / "particles.star"))
    change(blocks)
    write_star(folder / "particles.star", blocks)  # type: ignore[arg-type]
    return []


def _without(label: str) -> Spoil:
    def change(blocks: dict[str, object]) -> None:
        table = blocks["particles"]
        assert isinstance(table, Table)
        blocks["particles"] = table.without(label)

    return lambda folder: _star(folder, change)


def _dangling(blocks: dict[str, object]) -> None:
    table = blocks["particles"]
    assert isinstance(table, Table)
    groups = np.ones(len(table), dtype=np.int64)
    groups[3] = 7
    blocks["particles"] = table.with_columns({"rlnOpticsGroup": groups})


def _images(change: Callable[[np.ndarray], np.ndarray]) -> Spoil:
    def spoil(folder: Path) -> list[str]:
        stack = np.array(open_stack(folder / "particles.mrcs"))
        write_stack(folder / "particles.mrcs", change(stack), 5.0)
        return []

    return spoil


def _many(value: float) -> Callable[[np.ndarray], np.ndarray]:
    def change(stack: np.ndarray) -> np.ndarray:
        stack[:50] = value
        return stack

    return change


def _truncate(folder: Path) -> list[str]:
    stack = folder / "particles.mrcs"
    with stack.open("r+b") as file:
        file.truncate(stack.stat().st_size - 1000)
    return []


def _reference(size: int, voxel_size: float) -> Spoil:
    def spoil(folder: Path) -> list[str]:
        values = np.random.default_rng(0).standard_normal((size,) * 3).astype(np.float32)
        write_map(folder / "start.mrc", Map(values, voxel_size))
        return []

    return spoil


def _bad_mask(folder: Path) -> list[str]:
    write_map(folder / "mask.mrc", Map(np.full((32, 32, 32), 2.0, dtype=np.float32), 5.0))
    return ["--solvent_mask", str(folder / "mask.mrc")]


def _missing(name: str) -> Spoil:
    def spoil(folder: Path) -> list[str]:
        (folder / name).unlink()
        return []

    return spoil


def _one_half(folder: Path) -> list[str]:
    def change(blocks: dict[str, object]) -> None:
        table = blocks["particles"]
        assert isinstance(table, Table)
        blocks["particles"] = table.with_columns({"rlnRandomSubset": np.ones(len(table), dtype=np.int64)})

    return _star(folder, change)


BAD_INPUT: dict[str, tuple[Spoil, tuple[str, ...]]] = {
    "missing stack": (_missing("particles.mrcs"), ("particles.mrcs",)),
    "missing star": (_missing("particles.star"), ("particles.star",)),
    "missing reference": (_missing("start.mrc"), ("start.mrc",)),
    "truncated stack": (_truncate, ("particles.mrcs",)),
    "no optics": (lambda folder: _star(folder, lambda blocks: blocks.pop("optics")), ("particles.star", "optics")),
    "dangling optics group": (lambda folder: _star(folder, _dangling), ("particles.star", "rlnOpticsGroup", "7")),
    "no defocus": (_without("rlnDefocusU"), ("particles.star", "rlnDefocusU")),
    "no image names": (_without("rlnImageName"), ("particles.star", "rlnImageName")),
    "many NaN images": (_images(_many(np.nan)), ("particles.star", "000001@", "NaN")),
    "many constant images": (_images(_many(1.0)), ("particles.star", "000001@", "equal")),
    "wrong box": (_reference(48, 5.0), ("start.mrc", "48", "32")),
    "wrong pixel size": (_reference(32, 5.2), ("start.mrc", "5.2", "1%")),
    "mask beyond 1": (_bad_mask, ("mask.mrc", "[0, 1]")),
    "unknown symmetry": (lambda folder: ["--sym", "Q7"], ("Q7",)),
    "mask wider than the box": (lambda folder: ["--particle_diameter", "500"], ("--particle_diameter", "160")),
    "one half set only": (_one_half, ("particles.star", "rlnRandomSubset")),
}


@pytest.mark.parametrize("case", list(BAD_INPUT))
def test_bad_input_is_one_sentence_and_nothing_is_written(
    case: str, particle_folder: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copied = particle_folder.copy_to(tmp_path / "input")
    spoil, words = BAD_INPUT[case]
    more = spoil(copied.folder)
    output = tmp_path / "output" / "run"
    assert main(["refine3d", *copied.options(output), *more]) == 2
    message = capsys.readouterr().err.strip()
    assert len(message.splitlines()) == 1, message
    for word in words:
        assert word in message
    assert "Traceback" not in message
    assert not output.parent.exists()


def test_a_few_bad_images_are_set_aside(
    particle_folder: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copied = particle_folder.copy_to(tmp_path / "input")
    folder = copied.folder
    stack = np.array(open_stack(folder / "particles.mrcs"))
    stack[4, 3, 3] = np.nan
    stack[17] = 0.5
    write_stack(folder / "particles.mrcs", stack, 5.0)
    output = tmp_path / "run"
    assert main(["refine3d", *copied.options(output), "--iter", "1"]) == 0
    shown = capsys.readouterr()
    assert "000005@" in shown.err + shown.out and "000018@" in shown.err + shown.out
    aside = read_star(f"{output}_set_aside.star")["particles"]
    assert isinstance(aside, Table) and len(aside) == 2
    assert len(read_particles(f"{output}_data.star")) == 198


def test_full_disk_is_one_sentence(
    particle_folder: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], disk_full_after: Any
) -> None:
    """The disk fills up in the second iteration: what is there stays whole, and the run can be continued."""
    with disk_full_after(tmp_path / "run_it001_optimiser.star"):
        assert main(["refine3d", *particle_folder.options(tmp_path / "run"), "--iter", "2"]) == 2
    message = capsys.readouterr().err
    assert "no space" in message and "Traceback" not in message
    assert {path.suffix for path in tmp_path.iterdir()} <= {".mrc", ".star", ".log"}
    for path in tmp_path.glob("*.mrc"):
        assert mrcfile.validate(path)
    assert main(["refine3d", "--continue", f"{tmp_path}/run_it001_optimiser.star"]) == 0


def test_a_users_mask_takes_the_place_of_the_sphere(particle_folder: Any, tmp_path: Path) -> None:
    radius = np.sqrt(((np.indices((32,) * 3) - 16) ** 2).sum(axis=0))
    mask = (radius < 8).astype(np.float32)
    write_map(tmp_path / "mask.mrc", Map(mask, 5.0))
    options = ["--solvent_mask", str(tmp_path / "mask.mrc"), "--iter", "1"]
    assert main(["refine3d", *particle_folder.options(tmp_path / "run"), *options]) == 0
    found = read_map(tmp_path / "run_half1_class001.mrc").voxels
    assert (found[mask == 0] == 0).all() and (found[mask == 1] != 0).any()
    # The half maps for post-processing stay as they are.
    assert (read_map(tmp_path / "run_half1_class001_unfil.mrc").voxels[mask == 0] != 0).any()


def test_nothing_to_continue(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["refine3d", "--continue", f"{finished}_optimiser.star"]) == 2
    assert "finished" in capsys.readouterr().err


def test_relions_optimiser_is_refused_kindly(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_star(tmp_path / "run_it003_optimiser.star", {"optimiser_general": {"rlnCurrentIteration": 3}})
    assert main(["refine3d", "--continue", str(tmp_path / "run_it003_optimiser.star")]) == 2
    assert "vitrea_parameters" in capsys.readouterr().err
