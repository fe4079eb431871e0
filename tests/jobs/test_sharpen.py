"""``vitrea sharpen``: its files, options that matter, the automatic choice, mistakes that are named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import starfile
from numpy.typing import NDArray

from vitrea.cli.main import main
from vitrea.formats.mrc import read_map, write_map
from vitrea.jobs.base import Context
from vitrea.jobs.sharpen import JOB
from vitrea.records.errors import InputError
from vitrea.records.map import Map
from vitrea.records.recorder import SilentRecorder

VOXEL, SIZE = 2.0, 36


@pytest.fixture
def folder(tmp_path: Path, write_halves: Callable[..., Any]) -> Path:
    """Write half maps of a noisy textured ball, their mean, a mask, and an FSC."""
    halves = write_halves(tmp_path, VOXEL, 0.25, size=SIZE, radius=10.0, level=0.5, limit=5.0, mask=(11.0, 4.0))
    write_map(tmp_path / "map.mrc", Map((halves[0] + halves[1]) / 2, VOXEL, (4.0, 5.0, 6.0)))
    rows = [(i + 1, SIZE * VOXEL / i, i / SIZE, 0.9, max(0.0, 1 - i / 17), 1, 1) for i in range(1, SIZE // 2 + 1)]
    text = "C SHELL RESOLUTION RING_RADIUS FSC Part_FSC Part_SSNR^0.5 Rec_SSNR^0.5\n"
    (tmp_path / "statistics.txt").write_text(text + "".join(" ".join(f"{x:.4f}" for x in row) + "\n" for row in rows))
    return tmp_path


@pytest.fixture
def without_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out what takes longest, where only numbers are looked at."""
    monkeypatch.setattr("vitrea.jobs.sharpen_files.save_png", lambda *_: None)
    monkeypatch.setattr("vitrea.jobs.sharpen_files.write_page", lambda *_: None)


def run(folder: Path, **values: Any) -> SilentRecorder:
    recorder = SilentRecorder()
    given = {"input": folder / "map.mrc", "output": folder / "out/s", "cutoff": 5.0, **values}
    given = {name: value for name, value in given.items() if value is not None}
    JOB.run(JOB.parameters(**given), Context(recorder, "vitrea sharpen"))
    return recorder


def density(folder: Path, name: str = "s.mrc") -> NDArray[np.float32]:
    return read_map(folder / "out" / name).voxels


def test_all_files_are_written(folder: Path) -> None:
    recorder = run(folder, fsc=folder / "statistics.txt", mask=folder / "mask.mrc", output=folder / "out/s.mrc")
    written = {path.name for path in (folder / "out").iterdir()}
    assert written == {
        "s.mrc", "s_masked.mrc", "s.star", "s_amplitudes.png", "s_slices.png", "s_projections.png", "s_report.html",
    }  # fmt: skip
    blocks = starfile.read(folder / "out/s.star", always_dict=True)
    general, shells = blocks["general"], blocks["shells"]
    assert general["rlnBfactorUsedForSharpening"] == -90
    assert general["vitreaCutoff"] == 5.0
    assert len(shells) == SIZE // 2 + 1
    fsc = shells["rlnFourierShellCorrelation"]
    assert np.allclose(shells["vitreaFigureOfMerit"], 2 * fsc / (1 + fsc), atol=1e-4)
    assert fsc[3] == pytest.approx(1 - 3 / 17, abs=1e-3)
    assert np.allclose(density(folder, "s_masked.mrc"), density(folder) * read_map(folder / "mask.mrc").voxels)
    assert read_map(folder / "out/s.mrc").origin == (4.0, 5.0, 6.0)
    assert "Part_FSC" in (folder / "out/s_report.html").read_text()
    assert dict(recorder.events)["sharpen"]["cutoff_angstrom"] == 5.0


OPTIONS: list[dict[str, Any]] = [
    {"bfactor": -40.0},
    {"bfactor_high": 20.0},
    {"limit": 14.0},
    {"limit": 0.0},
    {"flatten": False},
    {"cutoff": 6.0},
    {"filter_edge": 40.0},
    {"fsc": "statistics.txt"},
    {"fsc": "statistics.txt", "fsc_column": "FSC"},
    {"fsc": "statistics.txt", "ssnr_scale": 3.0},
    {"fsc": "statistics.txt", "flatten_signal": True},
    {"protein": True},
    {"fsc": "statistics.txt", "cutoff": None},
    {"half1": "run_half1.mrc"},
    {"half1": "run_half1.mrc", "half2": "run_half2.mrc", "mask": "mask.mrc"},
    {"half1": "run_half1.mrc", "auto": True},
    {"mask": "mask.mrc"},
    {"auto_mask": True},
    {"outer_radius": 24.0},
    {"outer_radius": 24.0, "inner_radius": 10.0},
    {"invert_hand": True},
    {"correct_gridding": True},
    {"correct_gridding": True, "gridding_padding": 2.0},
    {"correct_gridding": True, "outer_radius": 20.0},
    {"normalise": 0.03},
    {"pixel_size": 2.01},
]


@pytest.mark.usefixtures("without_pictures")
def test_every_option_changes_the_map(folder: Path) -> None:
    run(folder)
    seen = {"no option": density(folder)}
    for values in OPTIONS:
        files = {key: folder / value for key, value in values.items() if key in ("fsc", "mask", "half1", "half2")}
        run(folder, **{**values, **files})
        found = density(folder)
        same = [other for other, earlier in seen.items() if np.array_equal(found, earlier)]
        assert not same, f"{values} gives the same map as {same}"
        seen[str(values)] = found


@pytest.mark.usefixtures("without_pictures")
def test_weights_can_be_left_out(folder: Path) -> None:
    run(folder)
    plain = density(folder)
    run(folder, fsc=folder / "statistics.txt", fom_weighting=False)
    assert np.array_equal(density(folder), plain)


def test_the_automatic_choice_is_shown_and_yields_to_what_is_given(folder: Path) -> None:
    run(folder, input=None, cutoff=None, half1=folder / "run_half1.mrc", auto=True, mask=folder / "mask.mrc")
    general = starfile.read(folder / "out/s.star", always_dict=True)["general"]
    slope = general["rlnFittedSlopeGuinierPlot"]
    assert general["rlnBfactorUsedForSharpening"] == pytest.approx(min(0.0, 4 * slope))
    assert general["vitreaSharpeningLimit"] == 10
    assert general["vitreaIsSignalFlattened"] == 1
    assert general["vitreaIsBroughtToProtein"] == 1
    assert general["vitreaCutoff"] == pytest.approx(general["rlnFinalResolution"])
    assert "The FSC falls below 0.143 at" in (folder / "out/s_report.html").read_text()
    run(folder, cutoff=None, half1=folder / "run_half1.mrc", auto=True, mask=folder / "mask.mrc", bfactor=-33.0)
    changed = starfile.read(folder / "out/s.star", always_dict=True)["general"]
    assert changed["rlnBfactorUsedForSharpening"] == -33
    assert changed["vitreaCutoff"] == pytest.approx(general["vitreaCutoff"])


@pytest.mark.usefixtures("without_pictures")
def test_a_hand_inverted_twice_is_the_same(folder: Path) -> None:
    plain: dict[str, Any] = {"bfactor": 0.0, "limit": 0.0}
    run(folder, **plain)
    once = density(folder)
    run(folder, invert_hand=True, **plain)
    # The plane x = -n/2 of an even box has no mate and stays.
    assert np.allclose(density(folder)[:, :, 1:], once[:, :, :0:-1], atol=1e-6)


@pytest.mark.usefixtures("without_pictures")
def test_the_user_is_warned(folder: Path) -> None:
    assert any("noise up to Nyquist" in line for line in run(folder, cutoff=None).warnings)
    assert any("nothing is flattened" in line for line in run(folder, limit=8.0, cutoff=9.0).warnings)
    assert any("detail that these voxels hold" in line for line in run(folder, limit=1.0, cutoff=2.0).warnings)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"input": None}, "give a map with --i"),
        ({"input": "none.mrc"}, "none.mrc does not exist"),
        ({"auto": True}, "--auto needs the FSC"),
        ({"flatten_signal": True}, "--flatten_signal needs the FSC"),
        ({"fsc": "statistics.txt", "half1": "run_half1.mrc"}, "not both"),
        ({"half2": "run_half2.mrc"}, "--half2 needs --half1"),
        ({"fsc_column": "FSC"}, "names a column of --fsc"),
        ({"fsc": "mask.mrc"}, "neither STAR nor XML"),
        ({"mask": "small.mrc"}, "small.mrc has a box of 8"),
        ({"mask": "mask.mrc", "auto_mask": True}, "--mask or --auto_mask, not both"),
        ({"half1": "small.mrc", "half2": "run_half1.mrc"}, "has a box of"),
        ({"inner_radius": 90.0}, "must be smaller than the outer one"),
        ({"cutoff": 900.0}, "--cutoff 900 Å leaves nothing of a map"),
        ({"ssnr_scale": 2.0}, "--ssnr_scale needs the FSC"),
        ({"fsc": "statistics.txt", "fom_weighting": False, "ssnr_scale": 2.0}, "--no-fom-weighting leaves out"),
        ({"protein": True, "flatten": False}, "--protein says how to flatten"),
        ({"bfactor_high": 20.0, "limit": 0.0}, "--bfactor_high acts beyond --limit"),
        ({"mask": "mask.mrc", "outer_radius": 20.0}, "--outer_mask_radius is that of a spherical mask"),
        ({"gridding_padding": 2.0}, "--gridding_padding is for --correct_gridding"),
        ({"fsc": "zero.txt", "cutoff": None}, "from the first shell on"),
        ({"fsc": "zero.txt", "auto": True}, "there is no signal"),
    ],
)
def test_mistakes_are_named_and_nothing_is_written(folder: Path, values: dict[str, Any], sentence: str) -> None:
    write_map(folder / "small.mrc", Map(np.random.default_rng(1).random((8, 8, 8)).astype(np.float32), VOXEL))
    lines = (folder / "statistics.txt").read_text().splitlines()
    zeros = [" ".join([*line.split()[:4], "0.0", "0", "0"]) for line in lines[1:]]
    (folder / "zero.txt").write_text("\n".join([lines[0], *zeros]) + "\n")
    filled = {key: folder / value if isinstance(value, str) and key != "fsc_column" else value
              for key, value in values.items()}  # fmt: skip
    with pytest.raises(InputError, match=sentence):
        run(folder, **filled)
    assert not (folder / "out").exists()


def test_cistems_words_are_understood_on_the_command_line(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    line = (
        "map.mrc --o out/c.mrc --statistics statistics.txt --bfactor_low -60 --bfactor_high 10 --flatten_from 12"
        " --resolution_limit 5 --filter_edge 20 --inner_mask_radius 0 --outer_mask_radius 30 --ssnr_scale 1.5"
        " --invert_hand"
    )
    assert main(["sharpen", *line.split()]) == 0
    general = starfile.read("out/c.star", always_dict=True)["general"]
    assert general["vitreaBfactorBeyondLimit"] == 10
    assert general["vitreaSharpeningLimit"] == 12
