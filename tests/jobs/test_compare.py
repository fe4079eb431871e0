"""``vitrea compare``: maps and particle sets, as text and as JSON."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from vitrea.cli.main import main
from vitrea.formats.mrc import read_map, write_map
from vitrea.formats.star import write_star
from vitrea.geometry.euler import euler_to_matrix, matrix_to_euler
from vitrea.jobs.base import Context
from vitrea.jobs.compare import JOB
from vitrea.maps.masking import sphere_mask
from vitrea.maps.transform import Placement, place_map
from vitrea.records.errors import InputError
from vitrea.records.map import Map
from vitrea.records.recorder import SilentRecorder
from vitrea.records.table import Table

SIZE, VOXEL = 20, 4.0


def compare(first: Path, second: Path, **values: Any) -> tuple[dict[str, Any], str]:
    """Run the job; return its figures and its text."""
    recorder = SilentRecorder()
    json_file = first.parent / "figures/result.json"
    JOB.run(JOB.parameters(first=first, second=second, json_file=json_file, **values), Context(recorder))
    text = "\n".join(str(event["text"]) for name, event in recorder.events if name == "text")
    return json.loads(json_file.read_text()), text


@pytest.fixture
def maps(tmp_path: Path) -> tuple[Path, Path]:
    """Write a map of a few blobs, and the same turned by 25 degrees about z and shifted by 2 voxels along x."""
    axis = np.arange(SIZE) - SIZE // 2
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
    places = np.random.default_rng(2).uniform(-4.5, 4.5, (9, 3))
    density = sum(np.exp(-((x - p[0]) ** 2 + (y - p[1]) ** 2 + (z - p[2]) ** 2) / 2.5) for p in places)
    turn = Rotation.from_euler("z", 25, degrees=True).as_matrix()
    paths = tmp_path / "a.mrc", tmp_path / "b.mrc"
    write_map(paths[0], Map(np.asarray(density, dtype=np.float32), VOXEL))
    write_map(paths[1], Map(place_map(np.asarray(density), Placement(turn, np.array([2.0, 0, 0]))), VOXEL))
    return paths


def test_maps_as_they_are(maps: tuple[Path, Path]) -> None:
    same, text = compare(maps[0], maps[0])
    assert same["resolution_fsc_0.5"] == pytest.approx(2 * VOXEL)
    assert same["resolution_fsc_0.143"] == pytest.approx(2 * VOXEL)
    assert same["correlation"] == pytest.approx(1.0)
    assert np.allclose(same["fsc"], 1.0)
    assert same["shell_resolution"][0] is None  # infinite: JSON has no such number
    assert same["shell_resolution"][4] == pytest.approx(SIZE * VOXEL / 4)
    assert "FSC stays above 0.5 up to Nyquist, stays above 0.143 up to Nyquist (Nyquist 8.00 Å)" in text
    different, text = compare(*maps)
    assert different["correlation"] < 0.8
    assert different["resolution_fsc_0.5"] > 12.0
    assert f"FSC falls below 0.5 at {different['resolution_fsc_0.5']:.2f} Å" in text
    assert not different["aligned"]


def test_aligned_maps(maps: tuple[Path, Path], tmp_path: Path) -> None:
    figures, text = compare(*maps, align=True, both_hands=False, output=tmp_path / "placed/a.mrc")
    assert figures["correlation"] > 0.99
    assert figures["rotation_angle"] == pytest.approx(25.0, abs=0.5)
    assert np.allclose(figures["shift_angstrom"], [2 * VOXEL, 0.0, 0.0], atol=0.1 * VOXEL)
    assert np.allclose(euler_to_matrix(figures["rotation_euler"]), figures["rotation_matrix"])
    assert not figures["mirrored"]
    assert "best placement: same hand, turn of 2" in text
    placed = read_map(tmp_path / "placed/a.mrc").voxels
    assert np.corrcoef(placed.ravel(), read_map(maps[1]).voxels.ravel())[0, 1] == pytest.approx(figures["correlation"])
    coarse, _ = compare(*maps, align=True, both_hands=False, resolution=40.0)
    assert coarse["rotation_matrix"] != figures["rotation_matrix"]


def test_mask_voxel_size_and_symmetry_matter(maps: tuple[Path, Path], tmp_path: Path) -> None:
    write_map(tmp_path / "mask.mrc", Map(sphere_mask(SIZE, 4.0, 2.0), VOXEL))
    plain, _ = compare(*maps)
    assert compare(*maps, mask=tmp_path / "mask.mrc")[0]["correlation"] != plain["correlation"]
    assert compare(*maps, pixel_size=2.0)[0]["voxel_size"] == 2.0
    half_turn = Placement(np.diag([-1.0, -1.0, 1.0]), np.zeros(3))
    write_map(tmp_path / "turned.mrc", Map(place_map(read_map(maps[0]).voxels, half_turn), VOXEL))
    turned = (maps[0], tmp_path / "turned.mrc")
    assert compare(*turned, align=True, both_hands=False)[0]["rotation_angle"] == pytest.approx(180, abs=1)
    assert compare(*turned, align=True, both_hands=False, symmetry="C2")[0]["rotation_angle"] < 1


COUNT = 120


def write_set(path: Path, matrices: np.ndarray, shifts: np.ndarray, names: list[str]) -> Path:
    eulers = matrix_to_euler(matrices)
    columns = {"rlnImageName": np.array(names, dtype=object), "rlnOpticsGroup": np.ones(len(names), dtype=np.int64)}
    for label, column in zip(("Rot", "Tilt", "Psi"), eulers.T, strict=True):
        columns[f"rlnAngle{label}"] = column
    for label, column in zip("XY", shifts.T, strict=True):
        columns[f"rlnOrigin{label}Angst"] = column
    optics = Table(
        {
            "rlnOpticsGroup": np.array([1]),
            "rlnOpticsGroupName": np.array(["one"], dtype=object),
            "rlnImagePixelSize": np.array([2.0]),
            "rlnImageSize": np.array([64]),
        }
    )
    write_star(path, {"optics": optics, "particles": Table(columns)})
    return path


@pytest.fixture
def sets(tmp_path: Path) -> tuple[Path, Path]:
    """Write a D2 set, and the same in other order, another folder and a frame turned by 10 degrees, 3 degrees off."""
    generator = np.random.default_rng(0)
    matrices = Rotation.random(COUNT, random_state=generator).as_matrix()
    shifts = generator.normal(0, 3, (COUNT, 2))
    names = [f"{i + 1:06d}@stack.mrcs" for i in range(COUNT)]
    axes = generator.normal(size=(COUNT, 3))
    error = Rotation.from_rotvec(np.radians(3.0) * axes / np.linalg.norm(axes, axis=1, keepdims=True)).as_matrix()
    frame = Rotation.from_euler("x", 10, degrees=True).as_matrix()
    order = generator.permutation(COUNT)[:-5]
    others = [f"{i + 1:06d}@../data/stack.mrcs" for i in order]
    first = write_set(tmp_path / "first.star", matrices, shifts, names)
    second = write_set(
        tmp_path / "second.star", (error @ matrices @ frame.T)[order], shifts[order] + [0.6, 0.8], others
    )
    return first, second


def test_particle_sets(sets: tuple[Path, Path]) -> None:
    figures, text = compare(*sets, symmetry="d2")
    assert figures["particles"] == COUNT - 5
    assert (figures["only_in_first"], figures["only_in_second"]) == (5, 0)
    # All errors are 3 degrees; the frame of 115 particles is known to a quarter of a degree.
    assert figures["angular_error_deg"]["median"] == pytest.approx(3.0, abs=0.3)
    assert figures["shift_error_angstrom"]["mean"] == pytest.approx(1.0)
    assert figures["frame_angle"] == pytest.approx(10.0, abs=0.5)
    assert "modulo D2" in text
    raw, _ = compare(*sets, symmetry="D2", fit_frame=False)
    assert raw["angular_error_deg"]["median"] == pytest.approx(10.0, abs=1.5)
    assert raw["frame_angle"] == pytest.approx(0.0, abs=1e-6)


def test_a_set_of_the_other_hand(sets: tuple[Path, Path], tmp_path: Path) -> None:
    generator = np.random.default_rng(1)
    matrices = Rotation.random(COUNT, random_state=generator).as_matrix()
    names = [f"{i + 1}@s.mrcs" for i in range(COUNT)]
    nothing = np.zeros((COUNT, 2))
    first = write_set(tmp_path / "one.star", matrices, nothing, names)
    second = write_set(tmp_path / "other.star", np.diag([-1.0, -1.0, 1.0]) @ matrices, nothing, names)
    both, text = compare(first, second)
    assert both["mirrored"]
    assert both["angular_error_deg"]["max"] < 1e-3
    assert "other hand" in text
    assert compare(first, second, both_hands=False)[0]["angular_error_deg"]["median"] > 20


def test_stacks_of_one_name_in_several_folders_are_told_apart(tmp_path: Path) -> None:
    matrices = Rotation.random(4, random_state=1).as_matrix()
    names = ["1@a/s.mrcs", "1@b/s.mrcs", "2@a/s.mrcs", "2@b/s.mrcs"]
    first = write_set(tmp_path / "one.star", matrices, np.zeros((4, 2)), names)
    second = write_set(tmp_path / "two.star", matrices[::-1], np.zeros((4, 2)), names[::-1])
    assert compare(first, second, fit_frame=False)[0]["angular_error_deg"]["max"] < 1e-3


@pytest.mark.parametrize(
    ("first", "second", "values", "sentence"),
    [
        ("a.mrc", "first.star", {}, "not one of each"),
        ("a.mrc", "missing.mrc", {}, "missing.mrc does not exist"),
        ("a.mrc", "small.mrc", {}, "small.mrc one of 8"),
        ("a.mrc", "coarse.mrc", {}, "differ by more than 1%"),
        ("a.mrc", "b.mrc", {"mask": "a2.mrc"}, r"must lie in \[0, 1\]"),
        ("a.mrc", "b.mrc", {"symmetry": "Q5"}, "Q5"),
        ("first.star", "second.star", {"align": True}, "--align is for maps"),
        ("first.star", "other.star", {}, "have no image in common"),
        ("first.star", "double.star", {}, "occurs more than once"),
        ("first.star", "blind.star", {}, "lacks the column rlnAngleRot"),
    ],
)
def test_mistakes_are_named(
    maps: tuple[Path, Path],
    sets: tuple[Path, Path],
    tmp_path: Path,
    first: str,
    second: str,
    values: dict[str, Any],
    sentence: str,
) -> None:
    density = read_map(maps[0]).voxels
    write_map(tmp_path / "a2.mrc", Map(3 * density, VOXEL))
    write_map(tmp_path / "small.mrc", Map(density[:8, :8, :8], VOXEL))
    write_map(tmp_path / "coarse.mrc", Map(density, 1.02 * VOXEL))
    matrices = np.stack([np.eye(3)] * 2)
    write_set(tmp_path / "other.star", matrices, np.zeros((2, 2)), ["1@q.mrcs", "2@q.mrcs"])
    write_set(tmp_path / "double.star", matrices, np.zeros((2, 2)), ["1@stack.mrcs", "1@stack.mrcs"])
    blind = (tmp_path / "other.star").read_text().replace("_rlnAngleRot", "_rlnSomething")
    (tmp_path / "blind.star").write_text(blind)
    filled = {key: tmp_path / value if key == "mask" else value for key, value in values.items()}
    with pytest.raises(InputError, match=sentence):
        compare(tmp_path / first, tmp_path / second, **filled)
    assert not (tmp_path / "figures").exists()


def test_the_command_line_takes_both_names_without_options(
    maps: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", str(maps[0]), str(maps[1]), "--json", str(maps[0].parent / "f.json")]) == 0
    output = capsys.readouterr()
    assert "resolution (Å)" in output.out + output.err
    assert json.loads((maps[0].parent / "f.json").read_text())["kind"] == "maps"


@pytest.mark.parametrize("job", ["mask", "postprocess", "compare"])
def test_listing_the_job_needs_neither_torch_nor_scipy(job: str) -> None:
    """The command line must answer at once."""
    code = f"import sys, vitrea.jobs.{job}; sys.exit(any(name in sys.modules for name in ('torch', 'scipy', 'numba')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
