"""``vitrea symmetry``: group and axes are found, and maps brought into place."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from vitrea.cli.main import main
from vitrea.formats.mrc import read_map, write_map
from vitrea.fourier.filters import lowpass
from vitrea.fourier.shells import radial_real_profile
from vitrea.geometry.symmetry import symmetry_axes, symmetry_matrices
from vitrea.maps.transform import symmetrise
from vitrea.records.map import Map

Doubles = NDArray[np.float64]


@pytest.fixture
def run(in_tmp: Path) -> Callable[..., int]:
    """Call ``vitrea symmetry`` in a temporary folder; returns its exit code."""
    return lambda *words: main(["symmetry", *map(str, words)])


def assembly(group: str, size: int, units: int, width: float, turn: Doubles, shift: Doubles, seed: int) -> Doubles:
    """Draw balls at random, repeat them by a group, turn and shift all."""
    random = np.random.default_rng(seed)
    unit = random.normal(size=(units, 3))
    unit *= (random.uniform(0.1, 1, units) ** (1 / 3) * 0.33 * size / np.linalg.norm(unit, axis=1))[:, None]
    points = (unit @ symmetry_matrices(group).swapaxes(-1, -2)).reshape(-1, 3) @ turn.T + shift
    axis = np.arange(size) - size // 2
    lines = np.exp(-((axis - points[:, :, None]) ** 2) / (2 * width**2))
    density: Doubles = np.einsum("bz,by,bx->zyx", lines[:, 2], lines[:, 1], lines[:, 0])
    return density


def largest_angle(found: list[list[float]], group: str, turn: Doubles) -> float:
    """Return by how many degrees the worst axis lies beside the true one of the same fold."""
    expected = [(fold, turn @ axis) for fold, axis in symmetry_axes(group)]
    assert sorted(int(fold) for fold, *_ in found) == sorted(fold for fold, _ in expected)
    worst = 0.0
    for fold, *axis in found:
        # By the sine: near 1 the cosine of axes written to five digits tells nothing below 0.2 degrees.
        sines = [np.linalg.norm(np.cross(axis, other)) for number, other in expected if number == fold]
        worst = max(worst, float(np.degrees(np.arcsin(min(1.0, min(sines))))))
    return worst


def test_group_axes_and_centre_are_told_and_the_map_is_put_in_place(
    run: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    turn, shift = Rotation.random(random_state=5).as_matrix(), np.array([1.5, -0.5, 1.0])
    voxels = assembly("D3", 32, 8, 1.5, turn, shift, seed=5).astype(np.float32)
    write_map("in.mrc", Map(voxels, 5.0))
    assert run("in.mrc", "out.mrc", "--sym", "C2,C3,D3", "--json", "found.json") == 0
    assert "in.mrc: D3" in capsys.readouterr().out
    figures = json.loads(Path("found.json").read_text())
    assert figures["point_group"] == "D3"
    assert largest_angle(figures["axes"], "D3", turn) < 0.5
    assert np.allclose(figures["centre_angstrom"], 5.0 * shift, atol=0.5)
    placed = read_map("out.mrc").voxels
    average = symmetrise(placed, symmetry_matrices("D3"))
    assert np.corrcoef(placed.ravel(), average.ravel())[0, 1] > 0.98


def test_without_symmetry_nothing_is_written(run: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    write_map("in.mrc", Map(assembly("C1", 32, 30, 1.5, np.eye(3), np.zeros(3), 1).astype(np.float32), 5.0))
    assert run("in.mrc", "out.mrc", "--sym", "C2", "--resolution", 12) == 1
    output = capsys.readouterr()
    assert "no symmetry (C1)" in output.out
    assert "none of these symmetries" in output.err
    assert not Path("out.mrc").exists()


def test_the_setting_of_an_icosahedral_map_is_changed(
    run: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    voxels = assembly("I1", 32, 1, 1.3, np.eye(3), np.zeros(3), seed=2)
    write_map("in.mrc", Map(voxels.astype(np.float32), 5.0))
    assert run("in.mrc", "out.mrc", "--from_setting", "I1", "--to_setting", "I4") == 0
    assert "only" not in capsys.readouterr().err
    placed = read_map("out.mrc").voxels
    uneven = placed - radial_real_profile(torch.from_numpy(placed)).numpy()
    agreements = [
        float(np.corrcoef(uneven.ravel(), symmetrise(uneven, symmetry_matrices(group)).ravel())[0, 1])
        for group in ("I4", "I1")
    ]
    assert agreements[0] > 0.8  # linear interpolation of small balls takes the rest
    assert agreements[1] < 0.5
    assert run("out.mrc", "again.mrc", "--from_setting", "I1", "--to_setting", "I4") == 0
    assert "is that its setting?" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("group", ["D2", "C4", "O", "I2"])
def test_group_and_axes_of_a_map_at_8_angstrom_in_any_orientation(group: str, run: Callable[..., int]) -> None:
    turn, shift = Rotation.random(random_state=11).as_matrix(), np.array([1.2, -0.7, 0.4])
    voxels = assembly(group, 80, max(4, 240 // len(symmetry_matrices(group))), 0.9, turn, shift, seed=11)
    voxels += np.random.default_rng(1).normal(0, 0.2 * voxels.std(), voxels.shape)
    write_map("in.mrc", Map(lowpass(torch.from_numpy(voxels.astype(np.float32)), 8.0, 3.0).numpy(), 3.0))
    assert run("in.mrc", "--json", "found.json") == 0
    figures = json.loads(Path("found.json").read_text())
    assert figures["point_group"] == group
    assert largest_angle(figures["axes"], group, turn) < 0.1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("in.mrc --sym X3", "'X3' is not known"),
        ("in.mrc --impose", "--impose needs"),
        ("in.mrc --from_setting I1", "--to_setting"),
        ("in.mrc out.mrc --from_setting O --to_setting I1", "only icosahedral"),
        ("in.mrc --sym C1", "C1 has no axes"),
        ("in.mrc --sym C2 --largest_fold 9", "--largest_fold is for all groups"),
        ("in.mrc out.mrc --from_setting I1 --to_setting I2 --json a.json", "--json is for a search"),
        ("in.mrc out.spi --sym C2", "out.spi: maps are written as MRC, with the ending .mrc, .map or .ccp4"),
        ("in.mrc --diameter 9999", "--diameter 9999 Å is larger than the box"),
    ],
)
def test_mistakes_are_told(
    words: str, message: str, run: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    write_map("in.mrc", Map(np.random.default_rng(0).normal(size=(12, 12, 12)).astype(np.float32), 5.0))
    assert run(*words.split()) == 2
    assert message in capsys.readouterr().err
