"""`vitrea extract`: RELION's images and labels, re-extraction, movies, bad input, going on."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from vitrea.formats.mrc import open_stack, write_stack
from vitrea.formats.particle_files import read_particles, write_particles
from vitrea.formats.star import read_star, write_star
from vitrea.formats.star_values import text_column
from vitrea.geometry.euler import euler_to_matrix
from vitrea.jobs.base import Context
from vitrea.jobs.extract import run
from vitrea.jobs.extract_parameters import ExtractParameters
from vitrea.records.errors import InputError, JobError
from vitrea.records.particles import Particles
from vitrea.records.recorder import SilentRecorder
from vitrea.records.table import Table

NORM = {"normalise": True, "background_radius": 24}
OPTIONS: dict[str, dict[str, Any]] = {
    "raw": {},
    "norm": NORM,
    "norm_invert": {**NORM, "invert_contrast": True},
    "norm_noramp": {**NORM, "ramp": False},
    "scaled": {"scale": 32, "normalise": True, "background_radius": 12, "invert_contrast": True},
}


@pytest.fixture
def folder(in_tmp: Path, data_dir: Path) -> Path:
    """One micrograph with seven picks and a CTF, as relion_preprocess got them."""
    shutil.copytree(data_dir / "extraction" / "Micrographs", "Micrographs")
    for name in ("coords.star", "micrographs_ctf.star"):
        shutil.copy(data_dir / "extraction" / name, name)
    return in_tmp


def extract(recorder: SilentRecorder | None = None, **changes: Any) -> Particles:
    values = {"input": ["micrographs_ctf.star"], "output": "Out", "box_size": 64, "coordinate_list": "coords.star"}
    parameters = ExtractParameters(**{**values, **changes})
    run(parameters, Context(recorder or SilentRecorder(), "vitrea extract"))
    return read_particles(parameters.star or parameters.output / "particles.star", require_ctf=False)


def images_of(particles: Particles) -> NDArray[np.float32]:
    file = str(particles.table["rlnImageName"][0]).partition("@")[2]
    return np.asarray(open_stack(file))


def problems(folder: str = "Out") -> dict[tuple[str, str], int]:
    table = read_star(f"{folder}/set_aside.star")["set_aside"]
    assert isinstance(table, Table)
    keys = zip(table["rlnMicrographName"].tolist(), table["vitreaReason"].tolist(), strict=True)
    return dict(zip(keys, table["vitreaParticlesSetAside"].tolist(), strict=True))


@pytest.mark.parametrize("name", list(OPTIONS))
def test_files_are_those_of_relion(name: str, folder: Path, data_dir: Path) -> None:
    """Images to float precision; in the table all that RELION wrote, but three columns of constants of the CTF."""
    found, expected = (
        extract(**OPTIONS[name]),
        read_particles(data_dir / "extraction" / f"{name}.star", require_images=False),
    )
    theirs = np.asarray(open_stack(data_dir / "extraction" / name / "mic1.mrcs"))
    assert np.abs(images_of(found) - theirs).max() <= 1e-5
    for label in expected.table:
        if label in ("rlnCtfBfactor", "rlnCtfScalefactor", "rlnPhaseShift"):
            continue
        if label == "rlnImageName":
            assert [text.replace(f"{name}/", "Out/")[2:] for text in expected.table[label]] == found.table[
                label
            ].tolist()
        else:
            assert found.table[label].tolist() == expected.table[label].tolist()
    ours, relions = found.optics[0], expected.optics[0]
    assert (ours.pixel_size, ours.image_size) == (relions.pixel_size, relions.image_size)
    assert (ours.voltage, ours.spherical_aberration, ours.amplitude_contrast) == (300, 2.7, 0.1)
    assert ours.original_pixel_size == 2


@pytest.mark.parametrize("size", [63, 64])
@pytest.mark.parametrize("scale", [31, 32, 80])
def test_the_particle_stays_in_the_middle(size: int, scale: int, in_tmp: Path) -> None:
    """A Gaussian around a pick is found around the centre pixel, whatever boxes are odd or even."""
    y, x = np.mgrid[:200, :180]
    micrograph = np.exp(-((x - 77) ** 2 + (y - 91) ** 2) / (2 * 4.0**2)).astype(np.float32)
    write_stack("mic.mrc", micrograph, 1.5)
    write_star("mic_manual.star", {"": Table({"rlnCoordinateX": np.array([77.9]), "rlnCoordinateY": np.array([91.2])})})
    options = {"input": ["mic.mrc"], "coordinate_list": None, "coordinate_suffix": "_manual.star", "pixel_size": 1.5}
    image = images_of(extract(box_size=size, scale=scale, **options))[0].astype(float)
    v, u = np.mgrid[:scale, :scale] - scale // 2
    centre = (image * u).sum() / image.sum(), (image * v).sum() / image.sum()
    assert np.abs(centre).max() < 0.01
    assert image.max() == pytest.approx(1, abs=0.03)


def test_recentring_brings_particles_to_the_middle(in_tmp: Path) -> None:
    """Balls beside their picks: the refined origins say where, and a point of the map moves with each pose."""
    rng = np.random.default_rng(3)
    eulers = rng.uniform([-180, 0, -180], [180, 180, 180], (4, 3))
    picks = np.array([[50.4, 60.7], [140.2, 55.1], [60.9, 150.3], [150.5, 148.8]])
    shifts = rng.uniform(-6, 6, (4, 2))  # pixels of the micrograph, of 1.5 Å
    point = np.array([4.0, -3.0, 5.0])  # pixels of the refined images, of 3 Å
    seen = (euler_to_matrix(eulers) @ point)[:, :2] * 2
    balls = np.trunc(picks) - shifts + seen
    y, x = np.mgrid[:210, :200]
    micrograph = sum(np.exp(-((x - a) ** 2 + (y - b) ** 2) / (2 * 3.0**2)) for a, b in balls)
    write_stack("mic.mrc", np.asarray(micrograph, dtype=np.float32), 1.5)
    write_star("mic.star", {"": Table(dict(zip(("rlnCoordinateX", "rlnCoordinateY"), picks.T, strict=True)))})
    given = {"input": ["mic.mrc"], "coordinate_list": None, "box_size": 48, "pixel_size": 1.5}
    first = extract(coordinate_suffix=".star", scale=24, **given)
    columns = dict(zip(("rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi"), eulers.T, strict=True))
    columns |= dict(zip(("rlnOriginXAngst", "rlnOriginYAngst"), 1.5 * shifts.T, strict=True))
    write_particles("refined.star", first.with_columns(columns))
    options = {"recenter_x": 4, "recenter_y": -3, "recenter_z": 5, "recenter": True, "reextract": "refined.star"}
    again = extract(output="Again", **options, **given)
    centres = []
    for image in images_of(again).astype(float):
        v, u = np.mgrid[:48, :48] - 24
        near = image * (u**2 + v**2 < 14**2)
        centres.append([(near * u).sum() / near.sum(), (near * v).sum() / near.sum()])
    left = again.shifts / 1.5
    assert np.abs(left).max() <= 0.5
    assert np.abs(np.array(centres) + left).max() < 0.02  # the shift brings the particle to the centre
    assert again.table["rlnImageOriginalName"].tolist() == first.table["rlnImageName"].tolist()
    assert np.allclose(again.eulers, eulers)
    in_angstroms = {**options, "recenter_x": 12, "recenter_y": -9, "recenter_z": 15, "recenter_unit": "angstrom"}
    same = extract(output="Other", **in_angstroms, **given)
    assert np.allclose(same.shifts, again.shifts, atol=1e-6)
    assert np.array_equal(images_of(same), images_of(again))


def test_extraction_anew_keeps_what_refinement_found(folder: Path) -> None:
    """Micrographs under the name of another job; finer images; own optics groups; shifts in Å as they were."""
    first = extract(scale=32)
    columns = {"rlnOriginXAngst": np.linspace(-9, 9, 7), "rlnOriginYAngst": np.linspace(5, -5, 7)}
    columns |= {"rlnDefocusU": np.linspace(1e4, 2e4, 7), "rlnRandomSubset": np.array([1, 2, 1, 2, 1, 2, 1])}
    columns["rlnMicrographName"] = text_column(["MotionCorr/job007/Micrographs/mic1.mrc"] * 7)
    optics = replace(first.optics[0], beam_tilt_x=0.5, group=3, name="refined")
    refined = replace(first, optics=(optics,)).with_columns({**columns, "rlnOpticsGroup": np.full(7, 3)})
    write_particles("run_data.star", refined.rows([4, 2, 6]))
    found = extract(coordinate_list=None, reextract="run_data.star", output="Fine", **NORM)
    for label in ("rlnOriginXAngst", "rlnDefocusU", "rlnRandomSubset", "rlnCoordinateX"):
        assert found.table[label].tolist() == pytest.approx(refined.table[label][[4, 2, 6]].tolist())
    assert found.table["rlnMicrographName"].tolist() == ["Micrographs/mic1.mrc"] * 3
    group = found.optics[0]
    assert (group.beam_tilt_x, group.name, group.pixel_size, group.image_size) == (0.5, "refined", 2.0, 64)
    assert np.array_equal(images_of(found), images_of(extract(**NORM))[[4, 2, 6]])
    other = replace(
        refined, optics_table=Table({"rlnOpticsGroup": np.array([3]), "rlnMicrographPixelSize": np.array([1.3])})
    )
    write_particles("other.star", other)
    with pytest.raises(InputError, match=r"pixels of 1\.3 Å.*micrographs have 2 Å"):
        extract(coordinate_list=None, reextract="other.star")
    write_particles("alien.star", refined.with_columns({"rlnMicrographName": text_column(["x.mrc"] * 7)}))
    with pytest.raises(InputError, match=r"none of the micrographs .* it names x\.mrc"):
        extract(coordinate_list=None, reextract="alien.star")


def test_every_way_to_give_coordinates_gives_the_same_images(folder: Path) -> None:
    """A list of files, a suffix, one table of all micrographs, and cisTEM's list in Å."""
    expected = np.array(images_of(extract()))
    picks = read_star("Micrographs/mic1_manual.star")[""]
    assert isinstance(picks, Table)
    names = text_column(["mic1.mrc"] * len(picks))
    write_star("all.star", {"coordinates": picks.with_columns({"rlnMicrographName": names})})
    pairs = zip(picks["rlnCoordinateX"].tolist(), picks["rlnCoordinateY"].tolist(), strict=True)
    Path("cistem.plt").write_text("".join(f"mic1.mrc {2 * x} {2 * y}\n" for x, y in pairs))
    for changes in ({"coordinate_list": "all.star"}, {"coordinate_list": None, "coordinate_suffix": "_manual.star"},
                    {"coordinate_list": None, "positions": "cistem.plt"}):  # fmt: skip
        assert np.array_equal(images_of(extract(**changes)), expected)


def test_what_picks_and_micrographs_know_is_kept(folder: Path) -> None:
    picks = {
        "rlnCoordinateX": np.array([60.0, 150.0, 250.0]),
        "rlnCoordinateY": np.array([70.0, 160.0, 100.0]),
        "rlnAutopickFigureOfMerit": np.array([0.5, 0.1, 0.9]),
        "rlnClassNumber": np.array([2, 1, 2]),
        "rlnAnglePsi": np.array([10.0, 20.0, 30.0]),
    }
    write_star("Micrographs/mic1_manual.star", {"": Table(picks)})
    blocks = read_star("micrographs_ctf.star")
    table = blocks["micrographs"]
    assert isinstance(table, Table)
    extra = {"rlnGroupName": text_column(["thick ice"]), "rlnPhaseShift": np.array([42.0]), "myNumber": np.array([7])}
    extra["rlnCtfImage"] = text_column(["ctf.mrc"])
    write_star("micrographs_ctf.star", {**blocks, "micrographs": table.with_columns(extra)})
    found = extract(minimum_merit=0.2, bias_x=3, bias_y=-2, float16=True)
    assert found.table["rlnAutopickFigureOfMerit"].tolist() == [0.5, 0.9]
    assert found.table["rlnClassNumber"].tolist() == [2, 2]
    assert found.table["rlnAnglePsi"].tolist() == [10, 30]
    assert found.table["rlnCoordinateX"].tolist() == [63, 253]
    assert found.table["rlnCoordinateY"].tolist() == [68, 98]
    assert found.table["rlnGroupName"].tolist() == ["thick ice"] * 2
    assert found.table["rlnPhaseShift"].tolist() == [42, 42]
    assert found.table["myNumber"].tolist() == [7, 7]
    assert "rlnCtfImage" not in found.table
    assert images_of(found).dtype == np.float16


def test_bad_input_is_set_aside_by_name_and_the_rest_goes_on(folder: Path, data_dir: Path) -> None:
    x, y = np.array([60.0, 60, -40, 500, 310, 100]), np.array([70.0, 70, 50, 50, 100, 100])
    write_star("Micrographs/mic1_manual.star", {"": Table({"rlnCoordinateX": x, "rlnCoordinateY": y})})
    names = [f"Micrographs/mic{number}.mrc" for number in range(1, 8)]
    micrograph = np.array(open_stack(names[0])[0])
    for number in (2, 3, 6, 7):
        shutil.copy("Micrographs/mic1_manual.star", f"Micrographs/mic{number}_manual.star")
    Path(names[2]).write_bytes(Path(names[0]).read_bytes()[:5000])
    write_stack(names[3], micrograph, 2.0)
    write_stack(names[4], micrograph, 2.0)
    Path("Micrographs/mic5_manual.star").write_text("data_\n\nloop_\n_rlnCoordinateX\n_rlnCoordinateY\n")
    write_stack(names[5], micrograph, 3.1)
    micrograph[90:110, 90:110] = np.nan
    micrograph[20:120, 20:100] = 5  # the box around (60, 70) is flat: nothing to normalise by
    write_stack(names[6], micrograph, 2.0)
    blocks = read_star("micrographs_ctf.star")
    table = blocks["micrographs"]
    assert isinstance(table, Table)
    write_star("micrographs_ctf.star", {**blocks, "micrographs": table.rows(np.zeros(7, int)).with_columns(
        {"rlnMicrographName": text_column(names)})})  # fmt: skip
    recorder = SilentRecorder()
    found = extract(recorder, coordinate_list=None, coordinate_folder="Micrographs", coordinate_suffix="_manual.star",
                    drop_edge=True, normalise=True)  # fmt: skip
    assert found.table["rlnMicrographName"].tolist() == [names[0]] * 2
    listed = problems()
    twice = "coordinates given twice: the first was kept"
    for name in (names[0], names[6]):
        assert listed[name, twice] == 1
        assert listed[name, "outside the micrograph"] == 2
        assert listed[name, "over the edge, left out"] == 1
    assert listed[names[6], "no numbers, or nothing but one value"] == 2
    reasons = {name: reason for name, reason in listed if reason != twice}
    assert "does not exist" in reasons[names[1]]
    assert "truncated" in reasons[names[2]]
    assert reasons[names[3]] == reasons[names[4]] == "no picks"
    assert "3.1 Å" in reasons[names[5]] and "2 Å" in reasons[names[5]]
    assert any("outside the micrograph" in warning and names[0] in warning for warning in recorder.warnings)


def test_nothing_to_extract_is_an_error(folder: Path) -> None:
    with pytest.raises(JobError, match="set_aside"):
        extract(bias_x=5000)
    with pytest.raises(InputError, match="no picks"):
        extract(coordinate_list=None, coordinate_suffix="_other.star")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"coordinate_list": None}, "where do the coordinates come from"),
        ({"coordinate_suffix": "_manual.star"}, "give one of"),
        ({"recenter": True}, "--reextract_data_star"),
        ({"white_dust": 5}, "need --norm"),
        ({"normalise": True, "background_radius": 40}, "more than half the box"),
        ({"scale": 1}, "--scale 1 is no size"),
        ({"coordinate_list": None, "coordinate_suffix": "_manual.star", "coordinate_folder": "nix"}, "no folder nix"),
        ({"output": "."}, None),
        ({"coordinate_list": "micrographs_ctf.star"}, "has no coordinates"),
    ],
)  # fmt: skip
def test_options_are_checked(changes: dict[str, Any], message: str | None, folder: Path) -> None:
    if message is None:
        assert len(extract(**changes)) == 7
        return
    with pytest.raises(InputError, match=message):
        extract(**changes)
    assert not Path("Out").exists()


def test_an_input_is_never_overwritten(folder: Path) -> None:
    shutil.copy("Micrographs/mic1.mrc", "Micrographs/mic1.mrcs")
    with pytest.raises(InputError, match="would overwrite"):
        extract(input=["Micrographs/mic1.mrcs"], output=".", pixel_size=2.0)


def test_an_extraction_goes_on_where_it_stopped(folder: Path) -> None:
    """Only what is missing, or was made with other settings or picks, is made again."""
    options = {**NORM, "only_do_unfinished": True}
    first = extract(**options)
    stack = Path("Out/Micrographs/mic1.mrcs")
    made, before = stack.stat().st_mtime_ns, np.array(images_of(first))
    recorder = SilentRecorder()
    again = extract(recorder, **options)
    assert stack.stat().st_mtime_ns == made
    assert [again.table[label].tolist() for label in again.table] == [
        first.table[label].tolist() for label in first.table
    ]
    said = [str(values.get("text")) for name, values in recorder.events if name == "text"]
    assert any("extracted before" in text for text in said) and any(
        "over the edge of its micrograph: 2 particles" in text for text in said
    )
    inverted = extract(**options, invert_contrast=True)
    assert stack.stat().st_mtime_ns > made
    assert np.array_equal(images_of(inverted), -before)


def test_threads_and_order_do_not_matter(folder: Path) -> None:
    options = {**NORM, "white_dust": 2.5, "black_dust": 2.5}
    images = [np.array(images_of(extract(threads=threads, output=f"O{threads}", **options))) for threads in (1, 3)]
    assert np.array_equal(*images)
    other = images_of(extract(random_seed=2, **options))
    assert not np.array_equal(images[0], other)


def test_movie_particles_are_frames_one_after_the_other(folder: Path, data_dir: Path) -> None:
    """RELION's way: all particles of a frame, then the next; deviations such that their mean has deviation 1."""
    rng = np.random.default_rng(2)
    frames = rng.poisson(3.0, (7, 320, 320)).astype(np.float32)
    write_stack("Micrographs/mic1_movie.mrcs", frames, 2.0)
    options = {"movies": True, "first_frame": 2, "average_frames": 2, "output": "Frames"}
    raw = extract(**options)
    assert len(raw) == 21
    assert raw.table["rlnMicrographName"].tolist()[::7] == [f"00000{n}@Micrographs/mic1_movie.mrcs" for n in (3, 5, 7)]
    assert raw.table["rlnImageName"][8] == "000009@Frames/Micrographs/mic1_movie.mrcs"
    assert raw.table["rlnParticleName"][8] == "000002@Frames/Micrographs/mic1.mrcs"
    assert set(raw.table["rlnNrOfFrames"]) == {6}
    assert set(raw.table["rlnAverageNrOfFrames"]) == {2}
    assert raw.table["rlnDefocusU"].tolist() == [15000] * 21
    images = images_of(raw)
    for frame, start in enumerate((1, 3, 5)):
        total = frames[start] + frames[start + 1]
        expected = total[160 - 32 : 160 + 32, 150 - 32 : 150 + 32]
        assert np.allclose(images[7 * frame + 1], expected * np.sqrt(3))
    normal = images_of(extract(**options, **NORM)).reshape(3, 7, 64, 64)
    y, x = np.mgrid[:64, :64] - 32
    background = (x**2 + y**2) > 24**2
    assert np.allclose(normal[..., background].std(axis=-1), np.sqrt(3), rtol=1e-5)
    assert normal.mean(axis=0)[..., background].std(axis=-1)[:5] == pytest.approx([1.0] * 5, abs=0.04)
    with pytest.raises(JobError):
        extract(**{**options, "last_frame": 9})
    (reason,) = [key[1] for key in problems("Frames")]
    assert "7 frames" in reason


def test_a_box_larger_than_the_micrograph_is_no_box(folder: Path) -> None:
    with pytest.raises(JobError, match="no particle could be extracted"):
        extract(box_size=2000)
    table = read_star("Out/set_aside.star")["set_aside"]
    assert isinstance(table, Table)
    assert "is smaller than a box of 2000" in str(table["vitreaReason"][0])
    assert not list(Path("Out").rglob("*.mrcs"))
