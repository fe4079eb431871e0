"""Motion of movies in STAR files, as RELION writes and reads them."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from vitrea.formats.motion_files import read_motion, write_motion
from vitrea.formats.star import read_star
from vitrea.records.errors import InputError
from vitrea.records.movie_motion import MovieMotion
from vitrea.records.table import Table

# As RELION 3.1 writes it, shortened.
RELION = """
# version 30001

data_general

_rlnImageSizeX                                     3710
_rlnImageSizeY                                     3838
_rlnImageSizeZ                                        4
_rlnMicrographMovieName                    Movies/20170629_00021_frameImage.tiff
_rlnMicrographGainName                     Movies/gain.mrc
_rlnMicrographBinning                          1.000000
_rlnMicrographOriginalPixelSize                0.885000
_rlnMicrographDoseRate                         1.277000
_rlnMicrographPreExposure                      0.000000
_rlnVoltage                                  200.000000
_rlnMicrographStartFrame                              1
_rlnMotionModelVersion                                1


# version 30001

data_global_shift

loop_
_rlnMicrographFrameNumber #1
_rlnMicrographShiftX #2
_rlnMicrographShiftY #3
           1     0.000000     0.000000
           2     -1.50000     0.250000
           3 -9999.000000 -9999.000000
           4     -2.75000     0.500000


# version 30001

data_local_motion_model

loop_
_rlnMotionModelCoeffsIdx #1
_rlnMotionModelCoeff #2
""" + "".join(f"{index:12d} {index / 8:12.6f}\n" for index in range(36))


@pytest.fixture
def motion() -> MovieMotion:
    rng = np.random.default_rng(1)
    shifts = rng.normal(size=(5, 2))
    shifts[0] = np.nan
    return MovieMotion(
        movie="Movies/a b.tif",
        frames=5,
        rows=300,
        columns=400,
        first_frame=2,
        pixel_size=0.8,
        binning=2.0,
        shifts=shifts,
        coefficients=rng.normal(size=(2, 18)),
        hot_pixels=np.array([[3, 7], [399, 0]]),
        patch_shifts=np.column_stack([np.arange(2.0, 6), rng.uniform(0, 300, (4, 4))]),
        exposure_per_frame=1.25,
        pre_exposure=0.0,
        voltage=300.0,
        gain="gain.mrc",
        defects="defects.txt",
        eer_upsampling=2,
        eer_grouping=30,
    )


def test_what_is_written_is_read_back(motion: MovieMotion, tmp_path: Path) -> None:
    path = tmp_path / "a.star"
    write_motion(path, motion, "made by a test")
    again = read_motion(path)
    for field in fields(MovieMotion):
        np.testing.assert_allclose(
            getattr(again, field.name), getattr(motion, field.name), rtol=1e-8
        ) if not isinstance(getattr(motion, field.name), str) else None
    assert (again.movie, again.gain, again.defects) == (motion.movie, motion.gain, motion.defects)


def test_bare_motion_has_no_optional_blocks(motion: MovieMotion, tmp_path: Path) -> None:
    bare = MovieMotion("m.mrc", 5, 300, 400, 2, 0.8, 1.0, motion.shifts)
    write_motion(tmp_path / "a.star", bare)
    blocks = read_star(tmp_path / "a.star")
    assert list(blocks) == ["general", "global_shift"]
    general = blocks["general"]
    assert isinstance(general, dict)
    assert general["rlnMotionModelVersion"] == 0
    assert not {"rlnMicrographDoseRate", "rlnMicrographGainName", "rlnEERGrouping"} & set(general)
    again = read_motion(tmp_path / "a.star")
    assert again.coefficients is None
    assert len(again.hot_pixels) == len(again.patch_shifts) == 0
    assert again.exposure_per_frame == -1


def test_unused_frames_have_relions_mark(motion: MovieMotion, tmp_path: Path) -> None:
    write_motion(tmp_path / "a.star", motion)
    table = read_star(tmp_path / "a.star")["global_shift"]
    assert isinstance(table, Table)
    assert table["rlnMicrographFrameNumber"].tolist() == [1, 2, 3, 4, 5]
    assert table["rlnMicrographShiftX"][0] == -9999


def test_relions_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "relion.star"
    path.write_text(RELION)
    motion = read_motion(path)
    assert (motion.columns, motion.rows, motion.frames) == (3710, 3838, 4)
    assert motion.gain == "Movies/gain.mrc"
    assert np.isnan(motion.shifts[2]).all()
    assert motion.shifts[3].tolist() == [-2.75, 0.5]
    assert motion.coefficients is not None
    assert motion.coefficients[1, 2] == 20 / 8
    total, early, late = motion.accumulated()
    first, second = np.hypot(1.5, 0.25) * 0.885, np.hypot(1.25, 0.25) * 0.885
    # Frame 2 ends at 2.6 e-/Å², frame 4 at 5.1.
    assert (total, early, late) == pytest.approx((first + second, first, second))


def test_without_exposure_all_motion_is_late(motion: MovieMotion) -> None:
    total, early, late = replace(motion, exposure_per_frame=-1.0).accumulated()
    assert (early, late) == (0, pytest.approx(total))


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("data_general", "data_other", "no block data_general"),
        ("_rlnImageSizeZ                                        4\n", "", "lacks rlnImageSizeZ"),
        ("_rlnImageSizeZ                                        4\n", "_rlnImageSizeZ 3\n", "beyond the 3"),
        ("_rlnMicrographShiftY #3", "_rlnOther #3", "no loop data_global_shift"),
        ("          35     4.375000\n", "", "35 coefficients"),
        ("          35     4.375000\n", "          34     4.375000\n", "twice"),
    ],
)
def test_damaged_files_are_named(old: str, new: str, says: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.star"
    assert old in RELION
    path.write_text(RELION.replace(old, new))
    with pytest.raises(InputError, match=says) as error:
        read_motion(path)
    assert "bad.star" in str(error.value)
