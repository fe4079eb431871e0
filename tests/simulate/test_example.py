"""examples/mixed_set.py judges results against the truth of a set."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from vitrea.formats.particle_files import write_particles
from vitrea.records.optics import Optics
from vitrea.records.particles import Particles
from vitrea.records.table import Table

OPTICS = Optics(2.0, 24, voltage=300.0, spherical_aberration=2.7, amplitude_contrast=0.1)
KINDS = np.array(["particle"] * 8 + ["pair", "noise"], dtype=object)
CLASSES = np.array([1, 1, 1, 2, 2, 3, 3, 3, 0, 0])


@pytest.fixture
def example(load_example: Callable[[str], ModuleType]) -> ModuleType:
    return load_example("mixed_set")


def write(path: str, stack: str, numbers: np.ndarray, **columns: np.ndarray) -> None:
    names = np.array([f"{number + 1:06d}@{stack}" for number in numbers], dtype=object)
    optics = {"rlnOpticsGroup": np.ones(len(numbers), dtype=np.int64)}
    defocus = {label: np.full(len(numbers), 1e4) for label in ("rlnDefocusU", "rlnDefocusV", "rlnDefocusAngle")}
    write_particles(path, Particles(Table({"rlnImageName": names, **optics, **defocus, **columns}), (OPTICS,)))


@pytest.fixture
def truth(in_tmp: Path) -> Path:
    write("truth.star", "p.mrcs", np.arange(10), rlnClassNumber=CLASSES, vitreaSimulatedKind=KINDS)
    return Path("truth.star")


def test_selection(example: ModuleType, truth: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write("kept.star", "elsewhere/p.mrcs", np.array([8, 7, 2, 1, 0, 5]))
    example.judge_selection(argparse.Namespace(truth=truth, result=Path("kept.star")))
    lines = capsys.readouterr().out.splitlines()
    assert "real particles kept: 62.50%" in lines
    assert "junk dropped: 50.00%" in lines
    assert "  pair: 1 of 1 kept" in lines
    assert "  molecule 2: 0 of 2 kept" in lines


def test_classes_in_another_order_and_in_groups(
    example: ModuleType, truth: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    order = np.array([9, 5, 6, 7, 0, 1, 2, 3, 4])
    found = np.array([1, 3, 3, 2, 2, 2, 2, 1, 1])
    write("data.star", "p.mrcs", order, rlnClassNumber=found)
    for groups, accuracy, molecules in (
        ("", "87.50%", "1, 2, 3"),
        ("1+2,3", "62.50%", "1, 3"),
        ("1,2", "100.00%", "1, 2"),
    ):
        example.judge_classes(argparse.Namespace(truth=truth, result=Path("data.star"), groups=groups))
        out = capsys.readouterr().out
        assert f"one class a molecule: {accuracy}" in out
        assert f"class: particles of molecule {molecules}\n" in out


def test_ranking(example: ModuleType, truth: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scores = np.array([1.0, 2, 3, 4, 5, 6, 7, 8, 9, 4.5])
    write("sorted.star", "p.mrcs", np.arange(10), rlnParticleSelectZScore=scores)
    arguments = argparse.Namespace(truth=truth, result=Path("sorted.star"), column="rlnParticleSelectZScore")
    example.judge_ranking(arguments)
    out = capsys.readouterr().out
    assert "junk against particles: 0.7500" in out
    assert "pair: 1.0000" in out
    assert "noise: 0.5000" in out


def test_results_of_other_sets_are_refused(example: ModuleType, truth: Path) -> None:
    write("other.star", "p.mrcs", np.array([3, 12]))
    with pytest.raises(SystemExit, match="image 13 is not in"):
        example.judge_selection(argparse.Namespace(truth=truth, result=Path("other.star")))
