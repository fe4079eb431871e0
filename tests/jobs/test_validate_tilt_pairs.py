"""`vitrea validate tilt-pairs` on files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from vitrea.cli.main import main
from vitrea.formats.particle_files import write_particles
from vitrea.formats.star import read_star
from vitrea.formats.star_values import text_column
from vitrea.geometry.euler import matrix_to_euler
from vitrea.geometry.symmetry import symmetry_matrices
from vitrea.jobs.base import Context
from vitrea.jobs.validate_tilt_pairs import ValidateTiltPairsParameters, run
from vitrea.records.errors import InputError
from vitrea.records.optics import Optics
from vitrea.records.particles import Particles
from vitrea.records.recorder import SilentRecorder
from vitrea.records.table import Table

COUNT, TILT, AXIS = 120, 25.0, 80.0


def write_poses(name: str, matrices: NDArray[np.float64], order: NDArray[np.int64]) -> None:
    eulers = matrix_to_euler(matrices)
    columns = {
        "rlnImageName": text_column([f"{i + 1:06d}@{Path(name).stem}.mrcs" for i in order]),
        "rlnAngleRot": eulers[order, 0],
        "rlnAngleTilt": eulers[order, 1],
        "rlnAnglePsi": eulers[order, 2],
        "rlnHelicalTubeID": order + 1,
        "rlnOpticsGroup": np.ones(len(order), dtype=np.int64),
    }
    write_particles(name, Particles(Table(columns), (Optics(1.0, 64, 300.0, 2.7, 0.1),)))


@pytest.fixture
def folder(in_tmp: Path) -> Path:
    """Pairs with errors of 1.5 degrees, a fifth lost, in D2; the same shuffled, and those of the inverted map."""
    generator = np.random.default_rng(7)
    first = Rotation.random(COUNT, random_state=generator).as_matrix()
    about = np.radians(TILT) * np.array([np.cos(np.radians(AXIS)), np.sin(np.radians(AXIS)), 0.0])
    operators = symmetry_matrices("D2")[generator.integers(4, size=COUNT)]
    second = Rotation.from_rotvec(about).as_matrix() @ first @ operators
    second = Rotation.from_rotvec(np.radians(1.5) * generator.normal(size=(COUNT, 3))).as_matrix() @ second
    second[::5] = Rotation.random(COUNT // 5, random_state=generator).as_matrix()
    order = np.arange(COUNT)
    half_turn = np.diag([-1.0, -1.0, 1.0])
    write_poses("untilted.star", first, order)
    write_poses("tilted.star", second, order)
    write_poses("shuffled.star", second, generator.permutation(COUNT)[:-10])
    write_poses("wrong.star", second, np.roll(order, 7))
    write_poses("untilted_other.star", half_turn @ first, order)
    write_poses("tilted_other.star", half_turn @ second, order)
    return in_tmp


def validate(**parameters: object) -> SilentRecorder:
    recorder = SilentRecorder()
    given = {"untilted": "untilted.star", "tilted": "tilted.star", "tilt": TILT, "symmetry": "D2", **parameters}
    run(ValidateTiltPairsParameters(**given), Context(recorder))
    return recorder


def test_cluster_and_hand_are_found(folder: Path) -> None:
    recorder = validate(axis=AXIS, output="out")
    blocks = read_star("out/tilt_pairs.star")
    general, pairs = blocks["general"], blocks["pairs"]
    assert general["vitreaClusterTilt"] == pytest.approx(TILT, abs=0.7)
    assert general["vitreaClusterAxis"] == pytest.approx(AXIS, abs=1.5)
    assert 0.8 <= general["vitreaClusterFraction"] < 0.9 and general["vitreaHand"] == "right"
    assert general["vitreaChanceFractionMax"] < 0.35
    # Errors in one of the images: 1.5 degrees in each of two directions.
    assert general["vitreaClusterScatter"] == pytest.approx(1.5 * np.sqrt(2), rel=0.5)
    assert len(pairs) == COUNT and pairs["vitreaInCluster"].mean() == pytest.approx(general["vitreaClusterFraction"])
    kept = pairs["vitreaInCluster"] == 1
    assert np.abs(pairs["vitreaTilt"][kept] - TILT).max() < 16 and kept[1::5].all()
    assert pairs["vitreaTiltedImageName"][3] == "000004@tilted.mrcs"
    assert not recorder.warnings and "right" in recorder.events[-1][1]["text"]
    assert Path("out/tilt_pairs.png").read_bytes()[1:4] == b"PNG"
    assert "The hand of the map is right." in Path("out/report.html").read_text()


def test_the_other_hand_is_told(folder: Path) -> None:
    recorder = validate(untilted="untilted_other.star", tilted="tilted_other.star", axis=AXIS)
    assert "wrong hand" in recorder.warnings[0] and dict(recorder.events)["tilt_pairs"]["hand"] == "wrong"
    assert dict(validate().events)["tilt_pairs"]["hand"] == ""
    assert "not known" in validate(axis=AXIS + 90).events[-1][1]["text"]


def test_pairs_are_found_by_a_column(folder: Path) -> None:
    assert "no more" in validate(tilted="wrong.star").warnings[0]
    with pytest.raises(InputError, match=r"holds 120 particles, but shuffled.star 110"):
        validate(tilted="shuffled.star")
    matched = dict(validate(tilted="shuffled.star", match="rlnHelicalTubeID").events)["tilt_pairs"]
    assert matched["fraction"] > 0.75 and matched["tilt_deg"] == pytest.approx(TILT, abs=0.7)


@pytest.mark.slow
def test_options_change_the_result(folder: Path) -> None:
    plain = dict(validate().events)["tilt_pairs"]
    other_tilt = {"tilt": 60.0, "tolerance": 5.0}
    for options in ({"symmetry": "C1"}, {"radius": 3.0}, other_tilt, {"random_seed": 3}, {"shuffles": 3}):
        assert dict(validate(**options).events)["tilt_pairs"] != plain, options
    assert dict(validate().events)["tilt_pairs"] == plain


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--i untilted.star --i2 gone.star --tilt 20", "gone.star"),
        ("--i untilted.star --i2 tilted.star --tilt 0", "--tilt 0 is no tilt"),
        ("--i untilted.star --i2 tilted.star --tilt 20 --match rlnNone", "lacks the column rlnNone"),
        ("--i untilted.star --i2 tilted.star --tilt 20 --match rlnOpticsGroup", "several particles have the same"),
        ("--i untilted.star --i2 tilted.star --tilt 20 --match rlnImageName", "share no value"),
        ("--i untilted.star --i2 tilted.star", "tilt"),
    ],
)
def test_bad_input_is_one_sentence(folder: Path, line: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", "tilt-pairs", *line.split(), "--o", "bad"]) == 2
    told = capsys.readouterr().err.strip()
    assert message in told and "\n" not in told
    assert not Path("bad").exists()
