"""`vitrea validate orientations` on files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vitrea.cli.main import main
from vitrea.formats.particle_files import write_particles
from vitrea.formats.star import read_star
from vitrea.jobs.base import Context
from vitrea.jobs.validate_orientations import ValidateOrientationsParameters, run
from vitrea.records.optics import Optics
from vitrea.records.particles import Particles
from vitrea.records.recorder import SilentRecorder
from vitrea.records.table import Table


def write_views(name: str, tilts: tuple[float, float], count: int = 2000) -> None:
    generator = np.random.default_rng(3)
    heights = generator.uniform(*np.cos(np.radians(tilts[::-1])), count)
    angles = {
        "rlnAngleRot": generator.uniform(-180, 180, count),
        "rlnAngleTilt": np.degrees(np.arccos(heights)),
        "rlnAnglePsi": generator.uniform(-180, 180, count),
        "rlnOpticsGroup": np.ones(count, dtype=np.int64),
    }
    write_particles(name, Particles(Table(angles), (Optics(1.0, 64, 300.0, 2.7, 0.1),)))


@pytest.fixture
def folder(in_tmp: Path) -> Path:
    """Particle sets with even views and with views from the top."""
    write_views("even.star", (0, 180))
    write_views("top.star", (0, 40))
    return in_tmp


def validate(**parameters: object) -> SilentRecorder:
    recorder = SilentRecorder()
    run(ValidateOrientationsParameters(**{"input": "even.star", **parameters}), Context(recorder))
    return recorder


def test_preferred_views_are_told_and_a_tilt_suggested(folder: Path) -> None:
    good = validate(output="good")
    assert not good.warnings
    poor = validate(input="top.star", output="poor")
    assert "preferred orientations" in poor.warnings[0]
    even, top = (read_star(f"{name}/orientations.star") for name in ("good", "poor"))
    # 2,000 views: 20 in each direction, and 1 / 20 off the SCF by their scatter.
    assert even["general"]["vitreaScf"] == pytest.approx(0.95, abs=0.02)
    assert even["general"]["vitreaSuggestedTilt"] == 0 and top["general"]["vitreaSuggestedTilt"] >= 40
    assert top["general"]["vitreaScf"] == 0 and top["general"]["vitreaScfStar"] < 0.2
    assert top["general"]["vitreaEmptyFraction"] == pytest.approx(1 - np.cos(np.radians(50)), abs=0.03)
    directions = top["directions"]
    assert directions["vitreaRelativeSampling"][directions["rlnAngleTilt"] < 45].max() == 0
    assert directions["vitreaRelativeSampling"].mean() == pytest.approx(1)
    assert top["tilts"]["vitreaScfStar"][-1] > 5 * top["tilts"]["vitreaScfStar"][0]
    assert dict(poor.events)["orientations"]["empty"] == pytest.approx(top["general"]["vitreaEmptyFraction"])
    for name in ("views", "sampling", "tilts"):
        assert Path(f"poor/{name}.png").read_bytes()[1:4] == b"PNG"
    page = Path("poor/report.html").read_text()
    assert "Tilting the stage" in page and "never sampled" in page


@pytest.mark.slow
def test_options_change_the_result(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vitrea.jobs.validate_orientations._report", lambda *_: None)
    write_views("top.star", (0, 40), 200)
    figures = dict(validate(input="top.star").events)["orientations"]
    for options in (
        {"symmetry": "O"}, {"views": 100}, {"views": 100, "random_seed": 1}, {"fourier_radius": 20.0},
        {"resolution": 8.0}, {"bfactor": 20.0}, {"particle_diameter": 50.0},
    ):  # fmt: skip
        other = dict(validate(input="top.star", **options).events)["orientations"]
        assert other != figures, options
    assert dict(validate(input="top.star").events)["orientations"] == figures


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--i nothing.star", "nothing.star"),
        ("--i even.star --sym X", "Symmetry 'X' is not known"),
        ("--i flat.star", "rlnAngleRot"),
    ],
)
def test_bad_input_is_one_sentence(folder: Path, line: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("flat.star").write_text("data_\n\nloop_\n_rlnImageName #1\n1@a.mrcs\n")
    assert main(["validate", "orientations", *line.split(), "--o", "bad", "--angpix", "1"]) == 2
    told = capsys.readouterr().err.strip()
    assert message in told and "\n" not in told
    assert not Path("bad").exists()
