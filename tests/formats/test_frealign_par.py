"""FREALIGN's parameter files: every version, conversion both ways, what is wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vitrea.formats.frealign_par import VERSIONS, par_of_particles, particles_of_par, read_par, write_par
from vitrea.records.errors import InputError
from vitrea.records.optics import Optics
from vitrea.records.particles import Particles
from vitrea.records.table import Table

OPTICS = Optics(1.5, 64, voltage=300.0, spherical_aberration=2.7, amplitude_contrast=0.07)
# Lines as the programs themselves write them.
VERSION_9 = """\
C     PSI   THETA     PHI     SHX     SHY   MAG  FILM      DF1      DF2  ANGAST     OCC  LogP  SIGMA   SCORE  CHANGE
1  256.66   92.44  210.49    1.51   -3.00 20000     1  19847.3  19019.6  -57.48  100.00  -723 1.2345   21.34    0.10
3    0.00    0.00    0.00    0.00    0.00 20000    12  20847.3  20019.6   12.00    0.00  -823 1.0000   11.34   -0.10
4    1.00    2.00    3.00    0.00    0.00 20000   -12  20847.3  20019.6   12.00    0.00  -823 1.0000   11.34   -0.10
C  some comment at the end
"""
START = "      1   10.00   20.00   30.00      1.50     -3.00   20000     1  19847.3  19019.6  -57.48"
VERSION_X = START + "    1.5708  100.00      -723     1.2345   21.34    0.10\n"
VERSION_8 = "      1  10.000  20.000  30.000   1.000  -2.000  20000.     1  19847.3  19019.6  -57.48  65.21   0.10\n"


def converted(text: str, folder: Path) -> Particles:
    (folder / "a.par").write_text(text)
    return particles_of_par(read_par(folder / "a.par"), "stack.mrcs", OPTICS)


def test_version_9(tmp_path: Path) -> None:
    particles = converted(VERSION_9, tmp_path)
    table = particles.table
    assert table["rlnImageName"].tolist() == ["000001@stack.mrcs", "000003@stack.mrcs"]
    assert table["rlnMicrographName"].tolist() == ["1", "12"]  # the image of film -12 was switched off
    assert particles.eulers[0].tolist() == [210.49, 92.44, 256.66]
    assert particles.shifts[0].tolist() == [-1.51, 3.0]
    assert particles.defocus[0].tolist() == [19847.3, 19019.6, -57.48]
    assert table["cisTEMScore"].tolist() == [21.34, 11.34]
    assert table["cisTEMOccupancy"].tolist() == [100, 0]
    assert "rlnPhaseShift" not in table


def test_phase_shifts_are_in_radians(tmp_path: Path) -> None:
    particles = converted(VERSION_X, tmp_path)
    assert particles.table["rlnPhaseShift"][0] == pytest.approx(90, abs=1e-3)
    assert particles.shifts[0].tolist() == [-1.5, 3.0]


def test_shifts_of_version_8_are_in_pixels(tmp_path: Path) -> None:
    particles = converted(VERSION_8, tmp_path)
    assert particles.shifts[0].tolist() == [-1.5, 3.0]
    assert particles.eulers[0].tolist() == [30, 20, 10]
    assert particles.table["frealignPhaseResidual"].tolist() == [65.21]


@pytest.mark.parametrize("version", list(VERSIONS))
def test_there_and_back_again(version: str, tmp_path: Path) -> None:
    """To the decimals that the format has."""
    rng = np.random.default_rng(4)
    count = 20
    columns = {
        "rlnImageName": np.array([f"{n:06d}@stack.mrcs" for n in rng.permutation(50)[:count] + 1], dtype=object),
        "rlnMicrographName": np.sort(rng.integers(1, 5, count)).astype(str).astype(object),
        "rlnOpticsGroup": np.ones(count, dtype=np.int64),
        **{label: rng.uniform(-180, 180, count) for label in ("rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi")},
        **{label: rng.normal(0, 300, count) for label in ("rlnOriginXAngst", "rlnOriginYAngst")},
        **{label: rng.uniform(5e3, 5e4, count) for label in ("rlnDefocusU", "rlnDefocusV", "rlnDefocusAngle")},
        "rlnPhaseShift": rng.uniform(0, 180, count),
        "rlnClassNumber": np.ones(count, dtype=np.int64),
    }
    table, lost = par_of_particles(Particles(Table(columns), (OPTICS,)), version)
    assert lost == (("rlnClassNumber",) if version == "x" else ("rlnPhaseShift", "rlnClassNumber"))
    write_par(tmp_path / "b.par", table, comment="made by a test")
    back = particles_of_par(read_par(tmp_path / "b.par"), "stack.mrcs", OPTICS).table
    decimals = {"rlnDefocusU": 0.05, "rlnDefocusV": 0.05, "rlnPhaseShift": 0.003}
    for label in columns:
        if label in lost:
            continue
        if columns[label].dtype == object:
            expected = columns[label].tolist()
            assert back[label].tolist() == expected or label == "rlnMicrographName"
        else:
            limit = 0.0076 if version == "8" and "Origin" in label else decimals.get(label, 0.0051)
            assert np.abs(back[label] - columns[label]).max() < limit
    films = [list(dict.fromkeys(names.tolist())) for names in (back["rlnMicrographName"], columns["rlnMicrographName"])]
    assert len(films[0]) == len(films[1])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("C only comments\n", "holds no particles"),
        ("1 2 3\n", "lines of 3 numbers"),
        (VERSION_8 + VERSION_X, "line 2: 17 numbers, where the first line has 13"),
        (VERSION_8.replace("10.000", "ten"), "line 1: .* are not all numbers"),
    ],
)
def test_what_is_wrong_is_named(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "a.par").write_text(text)
    with pytest.raises(InputError, match=message):
        read_par(tmp_path / "a.par")
    with pytest.raises(InputError, match="does not exist"):
        read_par(tmp_path / "b.par")
    with pytest.raises(ValueError, match="no version"):
        write_par(tmp_path / "c.par", Table({"C": np.ones(1)}))
