"""``vitrea motion`` on files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vitrea.formats.micrograph_files import read_micrographs
from vitrea.formats.motion_files import read_motion
from vitrea.formats.movies import read_image
from vitrea.formats.mrc import read_header, write_stack
from vitrea.formats.star import read_star, write_star
from vitrea.jobs.base import Context
from vitrea.jobs.motion import MotionParameters, run
from vitrea.jobs.motion_inputs import MovieTask, output_name
from vitrea.jobs.motion_run import _settings
from vitrea.motion.alignment import AlignmentSettings
from vitrea.motion.correction import CorrectionSettings
from vitrea.motion.distortion import Distortion
from vitrea.motion.sums import Exposure
from vitrea.records.errors import InputError, JobError
from vitrea.records.optics import Optics
from vitrea.records.recorder import SilentRecorder
from vitrea.records.table import Table

from ..motion.synthetic_movies import error_per_frame, make_movie

SHAPE, FRAMES, PIXEL = (144, 160), 6, 2.0


@pytest.fixture
def folder(in_tmp: Path) -> Path:
    """A project with two good movies."""
    (in_tmp / "Movies").mkdir()
    for number in (1, 2):
        movie = make_movie(shape=SHAPE, frames=FRAMES, pixel_size=PIXEL, distance=4.0 * number, seed=number)
        write_stack(in_tmp / f"Movies/m{number}.mrcs", movie.frames, PIXEL)
    return in_tmp


@pytest.fixture(autouse=True)
def _few_pictures(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw in one test only: pictures take longer than the movies here."""
    if request.node.name != "test_movies_become_micrographs":
        monkeypatch.setattr("vitrea.report.png.save_png", lambda *arguments, **options: None)
        monkeypatch.setattr("vitrea.report.page.write_page", lambda *arguments, **options: None)


def correct(**options: object) -> SilentRecorder:
    recorder = SilentRecorder()
    given = {"input": ("Movies/*.mrcs",), "output": "Motion", "pixel_size": PIXEL, "voltage": 300.0} | options
    parameters = MotionParameters.model_validate({"patch_x": 1, "patch_y": 1, "device": "cpu"} | given)
    run(parameters, Context(recorder, "vitrea motion"))
    return recorder


def test_movies_become_micrographs(folder: Path) -> None:
    recorder = correct(
        dose_weighting=True, dose_per_frame=1.5, save_no_dw=True, grouping_for_ps=2, ps_size=64, patch_x=3, patch_y=3
    )
    micrographs = read_micrographs("Motion/corrected_micrographs.star")
    assert list(micrographs.names) == ["Motion/Movies/m1.mrc", "Motion/Movies/m2.mrc"]
    assert micrographs.table["rlnMicrographMovieName"].tolist() == ["Movies/m1.mrcs", "Movies/m2.mrcs"]
    optics = micrographs.optics[0]
    assert (optics.pixel_size, optics.original_pixel_size, optics.voltage) == (PIXEL, PIXEL, 300)
    for label in ("rlnMicrographName", "rlnMicrographNameNoDW", "rlnCtfPowerSpectrum", "rlnMicrographMetadata"):
        assert all(Path(name).is_file() for name in micrographs.table[label])
    total, early, late = (micrographs.table.numbers(f"rlnAccumMotion{part}") for part in ("Total", "Early", "Late"))
    np.testing.assert_allclose(total, early + late)
    assert 3 * PIXEL < total[0] < total[1]
    for number in (1, 2):
        movie = make_movie(shape=SHAPE, frames=FRAMES, pixel_size=PIXEL, distance=4.0 * number, seed=number)
        motion = read_motion(f"Motion/Movies/m{number}.star")
        assert np.sqrt(np.mean(error_per_frame(motion.shifts, movie.motion) ** 2)) < 0.4
        assert read_image(f"Motion/Movies/m{number}.mrc").shape == SHAPE
        assert read_header(Path(f"Motion/Movies/m{number}_PS.mrc")).shape == (1, 64, 64)
        assert Path(f"Motion/Movies/m{number}.png").is_file()
    assert Path("Motion/report.html").is_file()
    assert not Path("Motion/set_aside.star").exists()
    assert [name for name, _ in recorder.events].count("movie") == 2


def test_bad_movies_are_set_aside_and_named(folder: Path) -> None:
    good = (folder / "Movies/m1.mrcs").read_bytes()
    (folder / "Movies/cut.mrcs").write_bytes(good[: len(good) // 2])
    frames = make_movie(shape=SHAPE, frames=FRAMES, pixel_size=PIXEL, distance=4.0, seed=1).frames.copy()
    frames[3] = 0
    write_stack(folder / "Movies/dark.mrcs", frames, PIXEL)
    write_stack(folder / "Movies/large.mrcs", np.ones((4, 40, 50), dtype=np.float32), PIXEL)
    write_stack(folder / "gain.mrc", np.ones(SHAPE, dtype=np.float32), PIXEL)
    recorder = correct(gainref="gain.mrc")
    table = read_star("Motion/set_aside.star")["set_aside"]
    assert isinstance(table, Table)
    reasons = dict(zip(table["rlnMicrographMovieName"], table["vitreaReason"], strict=True))
    assert set(reasons) == {"Movies/cut.mrcs", "Movies/dark.mrcs", "Movies/large.mrcs"}
    assert "truncated" in reasons["Movies/cut.mrcs"]
    assert "frame 4 is empty" in reasons["Movies/dark.mrcs"]
    assert "160 x 144 pixels" in reasons["Movies/large.mrcs"]
    assert len(read_micrographs("Motion/corrected_micrographs.star")) == 2
    assert any("set aside 3 of 5 movies" in warning for warning in recorder.warnings)


def test_only_unfinished_movies_are_done(folder: Path) -> None:
    correct()
    whole = Path("Motion/corrected_micrographs.star").read_text()
    before = Path("Motion/Movies/m1.mrc").stat().st_mtime_ns
    Path("Motion/Movies/m2.mrc").unlink()
    recorder = correct(only_do_unfinished=True)
    assert [values["movie"] for name, values in recorder.events if name == "movie"] == ["Movies/m2.mrcs"]
    assert Path("Motion/Movies/m1.mrc").stat().st_mtime_ns == before
    assert Path("Motion/corrected_micrographs.star").read_text() == whole


def test_at_most_so_many_movies(folder: Path) -> None:
    correct(do_at_most=1)
    assert len(read_micrographs("Motion/corrected_micrographs.star")) == 1
    correct(do_at_most=1, only_do_unfinished=True)
    assert len(read_micrographs("Motion/corrected_micrographs.star")) == 2


def test_gain_is_turned_and_left_for_polishing(folder: Path) -> None:
    gain = np.random.default_rng(5).uniform(0.7, 1.3, SHAPE).astype(np.float32)
    frames = make_movie(shape=SHAPE, frames=FRAMES, pixel_size=PIXEL, distance=4.0, seed=1).frames
    write_stack(folder / "Movies/m1.mrcs", frames / gain, PIXEL)
    write_stack(folder / "gain.mrc", np.rot90(gain), PIXEL)  # lies a quarter turn anticlockwise
    correct(input=("Movies/m1.mrcs",), gainref="gain.mrc", gain_rot=1, skip_defect=True)
    np.testing.assert_allclose(read_image("Motion/gain.mrc"), gain, rtol=1e-5)
    assert read_motion("Motion/Movies/m1.star").gain == "Motion/gain.mrc"
    turned = read_image("Motion/Movies/m1.mrc")
    correct(input=("Movies/m2.mrcs",), output="Other")
    assert turned.mean() == pytest.approx(frames.sum(axis=0).mean(), rel=1e-3)


def test_star_file_brings_optics_and_exposure(folder: Path) -> None:
    optics = Table(
        {
            "rlnOpticsGroup": np.array([1, 2]),
            "rlnOpticsGroupName": np.array(["near", "far"], dtype=object),
            "rlnVoltage": np.array([300.0, 200.0]),
            "rlnSphericalAberration": np.array([2.7, 1.4]),
            "rlnAmplitudeContrast": np.array([0.1, 0.07]),
            "rlnMicrographOriginalPixelSize": np.array([2.0, 2.0]),
        }
    )
    movies = Table(
        {
            "rlnMicrographMovieName": np.array(["Movies/m1.mrcs", "Movies/m2.mrcs"], dtype=object),
            "rlnOpticsGroup": np.array([1, 2]),
            "rlnMicrographDoseRate": np.array([1.5, 2.5]),
        }
    )
    write_star("movies.star", {"optics": optics, "movies": movies})
    correct(input=("movies.star",), pixel_size=0.0, voltage=0.0, dose_weighting=True, bin_factor=2.0, preexposure=1.0)
    micrographs = read_micrographs("Motion/corrected_micrographs.star")
    assert micrographs.table["rlnOpticsGroup"].tolist() == [1, 2]
    assert [group.pixel_size for group in micrographs.optics] == [4, 4]
    assert [group.original_pixel_size for group in micrographs.optics] == [2, 2]
    motion = read_motion("Motion/Movies/m2.star")
    assert (motion.exposure_per_frame, motion.pre_exposure, motion.voltage, motion.binning) == (2.5, 1, 200, 2)
    assert read_header(Path("Motion/Movies/m2.mrc")).pixel_size == pytest.approx(4.0)


def test_frames_outside_the_range_are_marked(folder: Path) -> None:
    correct(first_frame_sum=2, last_frame_sum=5)
    motion = read_motion("Motion/Movies/m1.star")
    assert np.isnan(motion.shifts[[0, 5]]).all()
    assert np.isfinite(motion.shifts[1:5]).all()
    assert motion.first_frame == 2


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"voltage": 0.0}, "--voltage"),
        ({"pixel_size": 0.0}, "pixel size"),
        ({"dose_weighting": True}, "--dose_per_frame"),
        ({"dose_weighting": True, "dose_per_frame": 1.0, "voltage": 120.0}, "not at 120 kV"),
        ({"gain_rot": 1}, "--gainref"),
        ({"input": ("Nothing/*.mrcs",)}, "no file matches"),
    ],
)
def test_wrong_options_are_refused_before_anything_is_written(
    folder: Path, options: dict[str, object], says: str
) -> None:
    with pytest.raises(InputError, match=says):
        correct(**options)
    assert not list(Path("Motion").glob("**/*.mrc"))


def test_movies_of_another_length_are_named(folder: Path) -> None:
    for number in (3, 4):
        movie = make_movie(shape=SHAPE, frames=FRAMES - number + 3, pixel_size=PIXEL, distance=4.0, seed=1)
        write_stack(folder / f"Movies/m{number}.mrcs", movie.frames, PIXEL)
    recorder = correct(last_frame_sum=6)
    assert any(
        "1 movie without the 6 frames that the others have: Movies/m4.mrcs (5)" in one for one in recorder.warnings
    )
    assert any("m4.mrcs: it has only 5 frames; --last_frame_sum asks for 6" in one for one in recorder.warnings)


def test_relions_b_factor_is_in_square_pixels() -> None:
    """exp(-2 B k²) with k in 1/pixel is exp(-B' k²/4) with k in 1/Å for B' = 8 B pixel²."""
    optics = Optics(2.0, 0, 300.0, 2.7, 0.1)
    task = MovieTask(0, "a.mrc", Path("a"), optics, 1.0, 0.0)
    base = {"input": ("a.mrc",)}
    assert _settings(MotionParameters.model_validate(base), task).alignment.b_factor == 1500
    given = _settings(MotionParameters.model_validate(base | {"bfactor": 150.0}), task)
    assert given.alignment.b_factor == 8 * 150 * 4


def test_options_reach_the_algorithms() -> None:
    optics = Optics(2.0, 0, 200.0, 2.7, 0.1)
    task = MovieTask(0, "a.mrc", Path("a"), optics, 1.5, 4.0)
    options = {
        "input": ("a.mrc",), "b_factor": 900.0, "minimum_shift": 3.0, "maximum_shift": 40.0, "threshold": 0.2,
        "max_iterations": 7, "smoothing": "savitzky-golay", "smoothing_window": 9, "running_average": 3,
        "vertical_mask": 2, "horizontal_mask": 4, "patch_x": 6, "patch_y": 4, "group_frames": 2, "bin_factor": 1.5,
        "first_frame_sum": 2, "last_frame_sum": 20, "skip_defect": True, "dose_weighting": True,
        "restore_power": False, "grouping_for_ps": 3, "ps_size": 256, "distortion_angle": 20.0,
        "distortion_major": 1.02,
    }  # fmt: skip
    settings = _settings(MotionParameters.model_validate(options), task)
    assert settings == CorrectionSettings(
        alignment=AlignmentSettings(900.0, 3.0, 40.0, 0.2, 7, "savitzky-golay", 9, 3, 2, 4),
        patches=(6, 4), group_frames=2, bin_factor=1.5, first=2, last=20, find_hot=False, plain=False,
        exposure=Exposure(1.5, 4.0, 200.0, False), spectrum_group=3, spectrum_size=256,
        distortion=Distortion(20.0, 1.02, 1.0),
    )  # fmt: skip


def test_nothing_corrected_is_an_error(folder: Path) -> None:
    with pytest.raises(JobError, match="set_aside"):
        correct(first_frame_sum=5)


@pytest.mark.parametrize(
    ("movie", "name"),
    [
        ("Movies/a.b.tif", "Movies/a_b"),
        ("Import/job001/Movies/a.eer", "Movies/a"),
        ("/data/x/a.mrc", "a"),
        ("../raw/a.mrc", "a"),
    ],
)
def test_results_are_named_as_relion_names_them(movie: str, name: str) -> None:
    assert output_name(movie) == name


def test_two_movies_of_one_name_are_refused(folder: Path) -> None:
    (folder / "Movies/m1.mrc").write_bytes((folder / "Movies/m1.mrcs").read_bytes())
    with pytest.raises(InputError, match="would both be"):
        correct(input=("Movies/m1.mrcs", "Movies/m1.mrc"))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"first_frame_sum": 5, "last_frame_sum": 6}, "leave fewer than 3 frames"),
        ({"defect_file": "nix.txt"}, "--defect_file nix.txt does not exist"),
        ({"gainref": "nix.mrc"}, "nix.mrc does not exist"),
        ({"gain_rot": 1}, "--gain_rot and --gain_flip turn the gain of --gainref"),
    ],
)
def test_what_is_wrong_for_all_movies_is_refused_before_anything_is_made(
    folder: Path, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(InputError, match=said):
        correct(**options)
    assert not Path("Motion").exists()
