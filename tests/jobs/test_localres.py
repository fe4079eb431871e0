"""``vitrea localres``: files, options that matter, another program in its place, mistakes that are named."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import starfile

from vitrea.cli.main import main
from vitrea.formats.mrc import read_map, write_map
from vitrea.jobs.base import Context
from vitrea.jobs.localres import JOB, RESMAP_VARIABLE, LocalresParameters, wavelengths
from vitrea.records.errors import InputError, JobError
from vitrea.records.map import Map
from vitrea.records.recorder import SilentRecorder

VOXEL, SIZE = 2.5, 32
_RESMAP = """#!/usr/bin/env python3
import shutil, sys
print(" ".join(sys.argv[1:]))
if "--pVal=0.5" in sys.argv:
    sys.exit(3)
if "--pVal=0.4" not in sys.argv:
    shutil.copy("{result}", "half1_ori_resmap.mrc")
"""


@pytest.fixture
def drawn(in_tmp: Path, write_halves: Callable[..., Any]) -> Path:
    """Write two half maps of a textured ball and a mask; return the first half's path."""
    write_halves(in_tmp, VOXEL, 0.15)
    return Path("run_half1.mrc")


@pytest.fixture
def half1(drawn: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same, for tests that do not look at pictures, which take most of the time."""
    monkeypatch.setattr("vitrea.jobs.localres_files._write_pictures", lambda *_: None)
    return drawn


def run(half1: Path, **values: Any) -> SilentRecorder:
    recorder = SilentRecorder()
    windows = values.get("method", "fsc") == "fsc" and not {"resmap_exe", "use_resmap"} & set(values)
    sampling = {"locres_sampling": 12.5} if windows else {}
    values = {"output": Path("out/run"), "mask": Path("mask.mrc")} | sampling | values
    JOB.run(JOB.parameters(half1=half1, **values), Context(recorder, "vitrea localres"))
    return recorder


def figures(recorder: SilentRecorder) -> dict[str, Any]:
    return next(values for name, values in recorder.events if name == "localres")


@pytest.mark.parametrize("method", ["fsc", "lrt"])
def test_all_files_are_written(drawn: Path, method: str) -> None:
    options = {"write_fscs": True} if method == "fsc" else {"step": 1.5, "lowest_resolution": 12.0}
    recorder = run(drawn, method=method, bfactor=-40.0, **options)
    endings = {".mrc", "_filtered.mrc", ".star", "_histogram.png", "_slices.png", "_report.html", ".cxc"}
    endings |= {"_fscs.star"} if method == "fsc" else set()
    assert {path.name for path in Path("out").iterdir()} == {f"run_locres{ending}" for ending in endings}
    resolution = read_map("out/run_locres.mrc")
    mask = read_map("mask.mrc").voxels > 0.5
    assert resolution.voxel_size == pytest.approx(VOXEL)
    assert np.median(resolution.voxels[mask]) == pytest.approx(figures(recorder)["median_angstrom"], rel=1e-5)
    assert 6.0 < figures(recorder)["median_angstrom"] < 11.0  # the texture ends at 8 Å
    blocks = starfile.read("out/run_locres.star", always_dict=True)
    assert blocks["histogram"]["vitreaVoxelCount"].sum() == mask.sum()
    if method == "fsc":
        curves = starfile.read("out/run_locres_fscs.star", always_dict=True)
        assert "fsc_00000_00000_00000" in {name.replace("-", "") for name in curves} or len(curves) > 5
        first = next(iter(curves.values()))
        assert len(first) == SIZE // 2 + 1
        assert "rlnFourierShellCorrelationCorrected" in first
    else:
        assert blocks["tests"]["vitreaVoxelsTested"][0] == mask.sum()
    assert "data:image/png" in Path("out/run_locres_report.html").read_text()


def test_chimerax_is_told_to_colour_the_filtered_map(half1: Path) -> None:
    run(half1)
    script = Path("out/run_locres.cxc").read_text()
    assert script.index('open "run_locres_filtered.mrc" id 1') < script.index('open "run_locres.mrc" id 2')
    palette = re.search(r"color sample #1 map #2 palette (\S+)", script)
    assert palette is not None
    values = [float(pair.split(",")[0]) for pair in palette[1].split(":")]
    assert values == sorted(values) and len(values) == 5
    level = re.search(r"level (\S+)", script)
    density = read_map("out/run_locres_filtered.mrc").voxels
    assert level is not None and 0 < float(level[1]) < density.max()


def test_sharpening_and_windows_change_what_they_should(half1: Path) -> None:
    run(half1)
    plain = read_map("out/run_locres_filtered.mrc").voxels
    resolution = read_map("out/run_locres.mrc").voxels
    run(half1, bfactor=-200.0)
    assert read_map("out/run_locres_filtered.mrc").voxels.std() > 1.05 * plain.std()
    np.testing.assert_array_equal(read_map("out/run_locres.mrc").voxels, resolution)
    for change in ({"locres_maskrad": 12.0}, {"locres_edgwidth": 20.0}, {"locres_randomize_at": 10.0},
                   {"locres_minres": 7.0}, {"locres_sampling": 10.0}, {"pixel_size": 2.6}):  # fmt: skip
        run(half1, **change)
        assert not np.array_equal(read_map("out/run_locres.mrc").voxels, resolution), change
    assert read_map("out/run_locres.mrc").voxels.shape == resolution.shape


def test_a_stricter_test_finds_less(half1: Path) -> None:
    tested = {"method": "lrt", "highest_resolution": 6.0, "lowest_resolution": 12.0, "step": 1.0}
    medians = [figures(run(half1, p_value=p, **tested))["percentile_95_angstrom"] for p in (0.2, 1e-6)]
    assert medians[0] < medians[1]


def test_wavelengths_follow_the_range_and_the_step() -> None:
    given = LocalresParameters(half1=Path("a"), highest_resolution=6.0, lowest_resolution=9.5, step=1.0)
    assert wavelengths(given, 2.0) == pytest.approx([6, 7, 8, 9, 9.5])
    default = wavelengths(LocalresParameters(half1=Path("a")), 2.0)
    assert default[0] == pytest.approx(4.4) and default[-1] == pytest.approx(26.4)
    assert default[1] / default[0] == pytest.approx(1.05)


def test_resmap_is_run_instead(half1: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = np.full((SIZE,) * 3, 100.0, dtype=np.float32)
    found[8:24, 8:24, 8:24] = 9.0
    write_map("truth.mrc", Map(found, VOXEL))
    program = Path("fake_resmap")
    program.write_text(_RESMAP.format(result=Path("truth.mrc").resolve()))
    program.chmod(0o755)
    recorder = run(half1, resmap_exe=Path("./fake_resmap"), p_value=0.1, lowest_resolution=15.0)
    assert figures(recorder)["median_angstrom"] == pytest.approx(9.0)
    log = Path("out/run_resmap.log").read_text()
    assert "--noguiSplit half1.mrc half2.mrc --vxSize=2.5 --pVal=0.1 --minRes=0 --maxRes=15" in log
    assert "--maskVol=mask.mrc" in log
    assert not [path for path in Path("out").iterdir() if path.is_dir()]
    monkeypatch.setenv(RESMAP_VARIABLE, str(program.resolve()))
    assert figures(run(half1, use_resmap=True))["median_angstrom"] == pytest.approx(9.0)
    with pytest.raises(JobError, match=r"exit code 3: see out/run_resmap\.log"):
        run(half1, use_resmap=True, p_value=0.5)
    with pytest.raises(JobError, match="wrote no half1_ori_resmap"):
        run(half1, use_resmap=True, p_value=0.4)
    monkeypatch.delenv(RESMAP_VARIABLE)
    with pytest.raises(InputError, match=RESMAP_VARIABLE):
        run(half1, use_resmap=True)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"highest_resolution": 9.0, "lowest_resolution": 8.0, "method": "lrt"}, "--minres"),
        ({"highest_resolution": 3.0, "method": "lrt"}, "finer than two voxels"),
        ({"locres_maskrad": 200.0}, "larger than the box"),
        ({"mtf_pixel_size": 1.0}, "--mtf"),
        ({"write_fscs": True, "method": "lrt"}, "--write_fscs belongs to --method fsc"),
        ({"p_value": 0.1}, "--pval belongs to --method lrt"),
        ({"locres_maskrad": 9.0, "method": "lrt"}, "--locres_maskrad belongs to --method fsc"),
        ({"locres_minres": 40.0, "locres_sampling": 20.0, "use_resmap": True}, "not to ResMap"),
        ({"half2": Path("run_half1.mrc")}, "the same map"),
        ({"mask": Path("run_half2.mrc")}, "not a mask"),
        ({"resmap_exe": Path("nowhere/resmap")}, "not there"),
        ({"locres_randomize_at": 4.0}, "--locres_randomize_at"),
    ],
)
def test_mistakes_are_named_and_nothing_is_written(half1: Path, given: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        run(half1, **given)
    assert not Path("out").exists() or not list(Path("out").iterdir())


def test_relions_command_line_runs(half1: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = "localres --locres --i run_half1.mrc --mask mask.mrc --angpix 2.5 --adhoc_bfac -30 --o relion "
    command += "--locres_sampling 12.5 --locres_maskrad 8 --locres_edgwidth 10 --locres_randomize_at 20 "
    command += "--locres_minres 40"
    assert main(command.split()) == 0
    assert Path("relion_locres.mrc").exists() and Path("relion_locres_filtered.mrc").exists()
    assert "median" in capsys.readouterr().out
    assert main(["localres", "--i", "missing_half1.mrc"]) == 2


def test_relion_postprocess_locres_is_this_job(half1: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shared = f"--i {half1} --mask mask.mrc --locres_sampling 15 --locres_minres 40 --adhoc_bfac -60"
    assert main(["postprocess", *shared.split(), "--o", "one", "--locres"]) == 0
    assert main(["localres", *shared.split(), "--o", "two"]) == 0
    for ending in ("_locres.mrc", "_locres_filtered.mrc"):
        assert np.array_equal(read_map(f"one{ending}").voxels, read_map(f"two{ending}").voxels)
    assert not Path("one.mrc").exists()
    assert main(["postprocess", "--i", str(half1), "--locres", "--auto_mask"]) == 2
    assert "--locres measures local resolution only: leave out --auto_mask" in capsys.readouterr().err
    assert main(["postprocess", "--i", str(half1), "--locres_sampling", "15"]) == 2
    assert "--locres_sampling says how --locres measures" in capsys.readouterr().err
