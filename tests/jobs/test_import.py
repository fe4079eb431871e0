"""Imports check everything first, name what they set aside, and write what RELION and later jobs take."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from vitrea.formats.coordinates import read_coordinate_files, read_coordinates, write_coordinate_files
from vitrea.formats.gain import ORIENTATIONS, FrameCorrection, GainOrientation, read_defects, read_gain
from vitrea.formats.micrograph_files import read_micrographs, read_movies
from vitrea.formats.movies import open_movie
from vitrea.formats.mrc import read_map, write_map, write_stack
from vitrea.formats.particle_files import read_particles
from vitrea.formats.star import read_star, write_star
from vitrea.formats.star_values import text_column
from vitrea.jobs import load_job
from vitrea.jobs.base import Context
from vitrea.jobs.coordinate_owners import micrograph_finder
from vitrea.records.errors import InputError
from vitrea.records.map import Map
from vitrea.records.recorder import SilentRecorder
from vitrea.records.table import Table

SHAPE = (72, 96)
FRAMES = 12


@pytest.fixture
def gain() -> NDArray[np.float32]:
    gain = np.random.default_rng(1).normal(1.0, 0.08, size=SHAPE).astype(np.float32)
    gain[30] = 0
    return gain


def count_frames(gain: NDArray[np.float32], seed: int, frames: int = FRAMES) -> NDArray[np.uint8]:
    efficiency = np.divide(1, gain, out=np.zeros_like(gain), where=gain > 0)
    return np.random.default_rng(seed).poisson(2 * efficiency, size=(frames, *SHAPE)).astype(np.uint8)


def write_tiff(path: Path, frames: NDArray[np.uint8]) -> None:
    """Write a movie as SerialEM does, whose first row RELION takes for the last."""
    path.parent.mkdir(exist_ok=True)
    tifffile.imwrite(path, frames[:, ::-1], compression="lzw", metadata=None, photometric="minisblack",
                     resolution=(1e8 / 0.885,) * 2, resolutionunit=3)  # fmt: skip


@pytest.fixture
def movies(in_tmp: Path, gain: NDArray[np.float32]) -> Path:
    """A folder of eight movies, five of them bad."""
    folder = in_tmp / "Movies"
    for number in range(8):
        write_tiff(folder / f"m{number}_X{number % 2}Y1-0.tif", count_frames(gain, number))
    whole = (folder / "m1_X1Y1-0.tif").read_bytes()
    (folder / "m1_X1Y1-0.tif").write_bytes(whole[: len(whole) // 2])
    (folder / "m2_X0Y1-0.tif").write_bytes(b"II*\0" + bytes(3000))
    write_tiff(folder / "m3_X1Y1-0.tif", count_frames(gain, 3, frames=11))
    write_tiff(folder / "m4_X0Y1-0.tif", count_frames(gain, 4)[:, :64])
    frames = count_frames(gain, 5)
    frames[6] = 0
    write_tiff(folder / "m5_X1Y1-0.tif", frames)
    return folder


def run(job: str, **parameters: Any) -> SilentRecorder:
    recorder = SilentRecorder()
    entry = load_job(f"import {job}")
    entry.run(entry.parameters(**parameters), Context(recorder))
    return recorder


def reasons(path: Path) -> dict[str, str]:
    table = read_star(path)["set_aside"]
    return dict(zip(table["vitreaFileName"], table["vitreaReason"], strict=True))  # type: ignore[arg-type]


def test_bad_movies_are_set_aside_by_name_and_the_rest_goes_on(movies: Path) -> None:
    recorder = run("movies", input=("Movies/*.tif",), voltage=200, spherical_aberration=1.4, check_pixels="all")
    found = read_movies("Import/movies.star")
    assert list(found.names) == [f"Movies/m{n}_X{n % 2}Y1-0.tif" for n in (0, 6, 7)]
    group = found.optics[0]
    assert (group.voltage, group.spherical_aberration, group.amplitude_contrast) == (200, 1.4, 0.1)
    assert group.pixel_size == pytest.approx(0.885, abs=1e-4)  # from the headers
    aside = reasons(Path("Import/movies_set_aside.star"))
    expected = {
        "m1_X1Y1-0": "is truncated or corrupt: page",
        "m2_X0Y1-0": "is a TIFF file without a page",
        "m3_X1Y1-0": "has 11 frames, but 4 of 6 movies have 12 frames",
        "m4_X0Y1-0": "has 96 x 64 pixels, but 5 of 6 movies have 96 x 72 pixels",
        "m5_X1Y1-0": "is empty: all its pixels are 0",
    }
    assert {Path(name).stem for name in aside} == set(expected)
    for name, reason in aside.items():
        assert expected[Path(name).stem] in reason
        assert name in reason
    assert "frame 7 of Movies/m5" in aside["Movies/m5_X1Y1-0.tif"]
    assert recorder.warnings[-1].startswith("set aside 5 of 8 movies; Import/movies_set_aside.star lists them")


def test_without_pixels_empty_frames_pass_and_odd_sizes_on_request(movies: Path) -> None:
    run("movies", input=("Movies",), accept_any_size=True)
    assert [name[7:9] for name in read_movies("Import/movies.star").names] == ["m0", "m3", "m4", "m5", "m6", "m7"]
    # A later import without anything to set aside leaves no stale list.
    run("movies", input=("Movies/m0_X0Y1-0.tif", "Movies/m6_X0Y1-0.tif"))
    assert not Path("Import/movies_set_aside.star").exists()


@pytest.mark.parametrize("orientation", [ORIENTATIONS[0], ORIENTATIONS[2], ORIENTATIONS[5], ORIENTATIONS[7]], ids=str)
def test_gain_is_turned_as_the_counts_have_it(
    movies: Path, gain: NDArray[np.float32], orientation: GainOrientation
) -> None:
    inverse = next(one for one in ORIENTATIONS if np.array_equal(one.turn(orientation.turn(gain)), gain))
    write_stack("gain_file.mrc", orientation.turn(gain), 1.0)
    Path("defects.txt").write_text("10 20 3 4\n")
    recorder = run("movies", input=("Movies/*.tif",), gain="gain_file.mrc", defects="defects.txt", check_pixels="ends")
    found = read_movies("Import/movies.star")
    assert set(found.gains) == {"gain_file.mrc" if orientation == GainOrientation() else "Import/gain.mrc"}
    assert set(found.defects) == {"defects.txt"}
    scores = {
        (event["rotation"], event["flip"]): event["score"]
        for name, event in recorder.events
        if name == "gain_orientation"
    }
    assert max(scores, key=lambda key: float(str(scores[key]))) == (inverse.rotation, inverse.flip)
    assert len(scores) == 4  # of an oblong gain no more fit
    # What is written makes the frames flat: the noise left is that of counting.
    np.testing.assert_allclose(read_gain(found.gains[0]), gain)
    with open_movie(str(found.names[0])) as movie:
        correction = FrameCorrection(SHAPE, read_gain(found.gains[0]), read_defects(found.defects[0], SHAPE))
        assert correction.dead.sum() == 96 + 12
        total = sum(correction.apply(frame, number) for number, frame in enumerate(movie))
    assert np.asarray(total).mean() == pytest.approx(24, rel=0.01)


def test_gain_that_cannot_be_is_refused_and_a_doubtful_one_warned_of(movies: Path, gain: NDArray[np.float32]) -> None:
    write_stack("wrong.mrc", np.ones((72, 97)), 1.0)
    with pytest.raises(InputError, match=r"wrong\.mrc has 97 x 72 pixels, the movies 96 x 72"):
        run("movies", input=("Movies/*.tif",), gain="wrong.mrc")
    assert not Path("Import").exists()  # nothing half-written
    alive = np.where(gain > 0, gain, 1)
    write_stack("divides.mrc", 1 / alive, 1.0)
    with pytest.raises(
        InputError, match=r"follow the inverse of the gain reference divides\.mrc, turned by --gain_rot 0"
    ):
        run("movies", input=("Movies/*.tif",), gain="divides.mrc")
    run("movies", input=("Movies/*.tif",), gain="divides.mrc", invert_gain=True)
    np.testing.assert_allclose(read_gain("Import/gain.mrc"), alive, rtol=1e-6)
    other = np.random.default_rng(99).normal(1.0, 0.08, size=SHAPE).astype(np.float32)
    write_stack("other.mrc", other, 1.0)
    recorder = run("movies", input=("Movies/*.tif",), gain="other.mrc", gain_flip=1)
    assert any("no orientation of the gain reference other.mrc explains the counts" in one for one in recorder.warnings)
    np.testing.assert_array_equal(read_gain("Import/gain.mrc"), other[::-1])  # as given
    write_stack("flipped.mrc", gain[::-1], 1.0)
    recorder = run("movies", input=("Movies/*.tif",), gain="flipped.mrc", gain_rotation=2)
    assert any("--gain_rot 0 --gain_flip 1 fits the counts better" in one for one in recorder.warnings)


def test_optics_groups_by_name_and_added_later(movies: Path) -> None:
    first = ("Movies/m0_X0Y1-0.tif", "Movies/m5_X1Y1-0.tif")
    run("movies", input=first, group_by=r"_X(\d)Y", dose_per_frame=1.2)
    found = read_movies("Import/movies.star")
    assert [group.name for group in found.optics] == ["opticsGroup1_0", "opticsGroup1_1"]
    np.testing.assert_array_equal(found.table["rlnOpticsGroup"], [1, 2])
    np.testing.assert_array_equal(found.table["rlnMicrographDoseRate"], [1.2, 1.2])
    # Later, more of the same session, and some at another voltage.
    same = {"input": ("Movies/*.tif",), "group_by": r"_X(\d)Y", "add_to": Path("Import/movies.star")}
    run("movies", **same, dose_per_frame=1.2, output=Path("Second"))
    second = read_movies("Second/movies.star")
    assert [name[7:9] for name in second.names] == ["m0", "m5", "m6", "m7"]  # the first stay first, and come once
    np.testing.assert_array_equal(second.table["rlnOpticsGroup"], [1, 2, 1, 2])
    assert reasons(Path("Second/movies_set_aside.star"))["Movies/m3_X1Y1-0.tif"].endswith(
        "has 11 frames, but Movies/m0_X0Y1-0.tif, imported earlier, has 12 frames"
    )
    # Run again when nothing is new, the list stays as it is.
    recorder = run("movies", input=first, add_to=Path("Second/movies.star"), output=Path("Second"))
    assert [str(event["text"]) for _, event in recorder.events] == ["no movies that Second/movies.star does not have"]
    assert list(read_movies("Second/movies.star").names) == list(second.names)
    with pytest.raises(InputError, match="has an optics group opticsGroup1_0 with other settings"):
        run("movies", **same, dose_per_frame=1.2, voltage=200)
    run("movies", **same, dose_per_frame=1.2, voltage=200, optics_group_name="Tuesday", output=Path("Third"))
    third = read_movies("Third/movies.star")
    assert [(group.group, group.name, group.voltage) for group in third.optics] == [
        (1, "opticsGroup1_0", 300),
        (2, "opticsGroup1_1", 300),
        (3, "Tuesday_0", 200),
        (4, "Tuesday_1", 200),
    ]
    with pytest.raises(
        InputError, match=r"rlnMicrographDoseRate is known of Import/movies\.star, but not of the new files"
    ):
        run("movies", **same)
    with pytest.raises(InputError, match="does not match the name of Movies/m0"):
        run("movies", input=first, group_by="_Z(.)")
    with pytest.raises(InputError, match="needs one part in brackets"):
        run("movies", input=first, group_by="_Z")


def test_micrographs_are_no_movies_and_the_other_way_round(movies: Path) -> None:
    for number in range(3):
        write_stack(f"mic{number}.mrc", np.random.default_rng(number).normal(size=SHAPE), 1.77)
    write_stack("nan.mrc", np.full(SHAPE, np.nan), 1.77)
    Path("cut.mrc").write_bytes(Path("mic0.mrc").read_bytes()[:5000])
    recorder = run("micrographs", input=("*.mrc", "Movies/m0_X0Y1-0.tif"), check_pixels="all")
    found = read_micrographs("Import/micrographs.star")
    assert list(found.names) == ["mic0.mrc", "mic1.mrc", "mic2.mrc"]
    np.testing.assert_array_equal(found.pixel_sizes, [1.77] * 3)
    aside = reasons(Path("Import/micrographs_set_aside.star"))
    assert aside["Movies/m0_X0Y1-0.tif"] == "Movies/m0_X0Y1-0.tif holds 12 images; is it a movie?"
    assert aside["nan.mrc"] == "nan.mrc holds NaN or infinite values"
    assert "cut.mrc is truncated" in aside["cut.mrc"]
    assert len(recorder.warnings) == 4
    with pytest.raises(InputError, match=r"mic0\.mrc holds one image only; is it a micrograph\? \(2 more movies"):
        run("movies", input=("mic*.mrc",), output=Path("Nothing"))
    assert not Path("Nothing").exists()


def test_pixel_size_must_be_known_and_one(in_tmp: Path) -> None:
    write_stack("a.mrc", np.eye(8), 1.5)
    write_stack("b.mrc", np.eye(8), 1.52)
    write_stack("c.mrc", np.eye(8), 1.0)
    with pytest.raises(InputError, match=r"have pixel sizes from 1\.5 to 1\.52 Å"):
        run("micrographs", input=("a.mrc", "b.mrc"))
    with pytest.raises(InputError, match="give no pixel size; give it with --angpix"):
        run("micrographs", input=("c.mrc",))
    recorder = run("micrographs", input=("a.mrc", "b.mrc"), pixel_size=1.52)
    assert recorder.warnings == [
        "the header of a.mrc has a pixel size of 1.5 Å (1 of 2 files differ), 1.52 Å is used as given"
    ]
    with pytest.raises(InputError, match=r"the MTF file mtf\.star does not exist"):
        run("micrographs", input=("a.mrc",), mtf="mtf.star")
    with pytest.raises(InputError, match="give the micrographs"):
        run("micrographs")


def test_coordinates_find_their_micrographs_and_must_lie_inside(in_tmp: Path) -> None:
    for name in ("mic1", "mic10", "mic2", "mic3"):
        write_stack(f"{name}.mrc", np.eye(100)[:80], 1.5)
    run("micrographs", input=("*.mrc",))
    Path("Picks").mkdir()
    Path("Picks/mic1_manualpick.star").write_text(
        "data_\nloop_\n_rlnCoordinateX\n_rlnCoordinateY\n_rlnAutopickFigureOfMerit\n10 20 0.5\n99 79 0.7\n100 5 0.9\n"
    )
    Path("Picks/mic10.box").write_text("30 40 20 20\n")
    Path("Picks/mic2.coords").write_text("   x         y      density\n 500 900 1\n")
    Path("Picks/mic2.box").write_text("garbage\n")
    Path("Picks/other.box").write_text("30 40 20 20\n")
    recorder = run("coordinates", input=("Picks",), micrographs="Import/micrographs.star")
    files = read_coordinate_files("Import/coordinates.star")
    assert {name: path.name for name, path in files.items()} == {
        "mic1.mrc": "mic1_import.star",
        "mic10.mrc": "mic10_import.star",
        "mic2.mrc": "mic2_import.star",
    }
    first = read_coordinates(files["mic1.mrc"])
    np.testing.assert_array_equal(first["rlnCoordinateX"], [10, 99])
    np.testing.assert_array_equal(first["rlnAutopickFigureOfMerit"], [0.5, 0.7])
    np.testing.assert_array_equal(read_coordinates(files["mic10.mrc"])["rlnCoordinateX"], [40])  # corner to centre
    assert len(read_coordinates(files["mic2.mrc"])) == 0
    text = "\n".join(recorder.warnings)
    assert "left out, outside mic1.mrc (100 x 80 pixels): 1 of 3 coordinates" in text
    assert "left out, outside mic2.mrc (100 x 80 pixels): 1 of 1 coordinate; are they of a binned" in text
    assert "2 micrographs without coordinates: " in text
    aside = reasons(Path("Import/coordinates_set_aside.star"))
    assert set(aside) == {"Picks/mic2.box", "Picks/other.box"}
    assert "belongs to no micrograph of the 4" in aside["Picks/other.box"]
    with pytest.raises(InputError, match=r"no micrograph of 4 has coordinates: Picks/other\.box belongs"):
        run("coordinates", input=("Picks/other.box",), micrographs="Import/micrographs.star")


def test_coordinates_of_cistem_and_of_binned_micrographs(in_tmp: Path) -> None:
    for name in ("mic1", "mic2"):
        write_stack(f"{name}.mrc", np.eye(100), 1.5)
    run("micrographs", input=("*.mrc",))
    Path("list.txt").write_text("mic1.mrc 15 30\n2 60 75\n")
    run("coordinates", input=("list.txt",), micrographs="Import/micrographs.star", format="cistem")
    files = read_coordinate_files("Import/coordinates.star")
    np.testing.assert_allclose(read_coordinates(files["mic1.mrc"])["rlnCoordinateX"], [10])
    np.testing.assert_allclose(read_coordinates(files["mic2.mrc"])["rlnCoordinateY"], [50])
    Path("mic1.coords").write_text("   x         y      density\n 20 30 1\n")
    run("coordinates", input=("mic1.coords",), micrographs="Import/micrographs.star", scale=2)
    np.testing.assert_allclose(read_coordinates("Import/mic1_import.star")["rlnCoordinateY"], [60])


def test_longest_name_owns_a_coordinate_file() -> None:
    names = ["Mics/mic1.mrc", "Mics/mic10.mrc", "Mics/mic1_b.mrc"]
    owners = {
        "mic1.box": 0,
        "mic10.box": 1,
        "mic1_b.box": 2,
        "mic1_b_pick.star": 2,
        "mic1_pick.star": 0,
        "mic11.box": None,
    }
    owner_of = micrograph_finder(names)
    assert {name: owner_of(Path("Picks") / name) for name in owners} == owners


def test_the_last_word_of_a_name_may_differ_but_no_number() -> None:
    owner_of = micrograph_finder(["A/mic1_avg.mrc", "A/mic_2.mrc", "A/twin_b.mrc", "A/twin_c.mrc"])
    assert owner_of(Path("mic1_gt.star")) == 0
    assert owner_of(Path("mic1_2.star")) is None
    assert owner_of(Path("mic_3.star")) is None
    assert owner_of(Path("twin_a.star")) is None


def test_folders_tell_micrographs_of_one_name_apart() -> None:
    owner_of = micrograph_finder(["grid1/mic1.mrc", "grid2/mic1.mrc"])
    assert owner_of(Path("Picks/grid2/mic1_pick.star")) == 1
    assert owner_of(Path("Picks/mic1_pick.star")) is None


def test_lists_and_tables_of_coordinates_are_read_and_count_once(in_tmp: Path) -> None:
    write_stack("mic1.mrc", np.eye(100), 1.5)
    run("micrographs", input=("mic1.mrc",))
    Path("Picks").mkdir()
    Path("Picks/own_name.coords").write_text("   x         y      density\n 20 30 1\n")
    write_coordinate_files("Picks/autopick.star", {"mic1.mrc": "Picks/own_name.coords"})
    recorder = run("coordinates", input=("Picks",), micrographs="Import/micrographs.star")
    np.testing.assert_allclose(read_coordinates("Import/mic1_import.star")["rlnCoordinateY"], [30])
    assert not recorder.warnings
    places = {"rlnCoordinateX": np.arange(1.0, 4), "rlnCoordinateY": np.arange(4.0, 7)}
    truth = {"rlnMicrographName": text_column(["else/mic1.tif"] * 2 + ["mic9.mrc"]), **places}
    write_star("truth.star", {"particles": Table(truth)})
    run("coordinates", input=("truth.star",), micrographs="Import/micrographs.star")
    np.testing.assert_allclose(read_coordinates("Import/mic1_import.star")["rlnCoordinateY"], [4, 5])
    with pytest.raises(InputError, match=r"nix\.star does not exist"):
        run("coordinates", input=("nix.star",), micrographs="Import/micrographs.star")


def test_particles_whose_stacks_are_bad_are_set_aside(in_tmp: Path) -> None:
    rng = np.random.default_rng(0)
    good = rng.normal(size=(4, 16, 16))
    good[2] = 7
    write_stack("good.mrcs", good, 3.0)
    write_stack("small.mrcs", rng.normal(size=(2, 12, 12)), 3.0)
    Path("cut.mrcs").write_bytes(Path("good.mrcs").read_bytes()[:2000])
    names = [*(f"{n}@good.mrcs" for n in (1, 2, 3, 4, 5)), "1@small.mrcs", "2@cut.mrcs", "1@gone.mrcs"]
    rows = "\n".join(f"{name} 1" for name in names)
    optics = "data_optics\n\nloop_\n_rlnOpticsGroup #1\n_rlnImagePixelSize #2\n_rlnImageSize #3\n1 3.0 16\n\n"
    Path("in.star").write_text(f"{optics}data_particles\n\nloop_\n_rlnImageName #1\n_rlnOpticsGroup #2\n{rows}\n")
    run("particles", input=("in.star",), check_pixels=True, optics_group_name="session")
    particles = read_particles("Import/particles.star", require_ctf=False)
    assert list(particles.table["rlnImageName"]) == ["1@good.mrcs", "2@good.mrcs", "4@good.mrcs"]
    assert particles.optics[0].name == "session"
    aside = reasons(Path("Import/particles_set_aside.star"))
    assert aside["3@good.mrcs"] == "3@good.mrcs: all pixels are equal"
    assert aside["5@good.mrcs"] == "5@good.mrcs: the stack holds 4 images"
    assert aside["1@small.mrcs"] == "small.mrcs holds images of 12 x 12 pixels, not of 16"
    assert "truncated" in aside["2@cut.mrcs"]
    assert "gone.mrcs does not exist" in aside["1@gone.mrcs"]


def test_stacks_alone_become_particles(in_tmp: Path) -> None:
    write_stack("a.mrcs", np.random.default_rng(0).normal(size=(3, 16, 16)), 3.0)
    run("particles", input=("a.mrcs",), voltage=200)
    particles = read_particles("Import/particles.star", require_ctf=False)
    assert list(particles.table["rlnImageName"]) == [f"{n:06d}@a.mrcs" for n in (1, 2, 3)]
    assert (particles.optics[0].pixel_size, particles.optics[0].image_size, particles.optics[0].voltage) == (3, 16, 200)


def test_maps_of_any_header_become_plain_ones(in_tmp: Path) -> None:
    voxels = np.random.default_rng(0).normal(size=(6, 7, 8)).astype(np.float32)
    write_map("good.mrc", Map(voxels, 1.25))
    write_map("flat.mrc", Map(np.zeros((4, 4, 4), np.float32), 1.0))
    Path("cut.mrc").write_bytes(Path("good.mrc").read_bytes()[:1500])
    recorder = run("maps", input=("good.mrc", "flat.mrc", "cut.mrc"), voxel_size=1.31)
    written = read_map("Import/good.mrc")
    np.testing.assert_array_equal(written.voxels, voxels)
    assert written.voxel_size == pytest.approx(1.31, rel=1e-6)
    assert sorted(path.name for path in Path("Import").iterdir()) == ["good.mrc", "maps_set_aside.star"]
    aside = reasons(Path("Import/maps_set_aside.star"))
    assert aside["flat.mrc"] == "flat.mrc is empty: all its voxels are 0"
    assert "truncated" in aside["cut.mrc"]
    assert any("8 x 7 x 6 voxels of 1.31 Å" in str(event) for _, event in recorder.events)
    with pytest.raises(InputError, match=r"good\.mrc would be written over itself"):
        run("maps", input=("good.mrc",), output=Path())
