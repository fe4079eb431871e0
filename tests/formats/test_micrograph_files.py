"""Micrographs and movies read alike from every dialect, and from images alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vitrea.formats.micrograph_files import (
    expand_names,
    locate_images,
    micrographs_from_images,
    movies_from_images,
    open_micrographs,
    open_movies,
    read_micrographs,
    read_movies,
    write_micrographs,
)
from vitrea.records.errors import InputError
from vitrea.records.micrographs import GivenOptics, Micrographs, Movies

GIVEN = GivenOptics(1.5, 300.0, 2.7, 0.1)

MODERN = """
data_optics

loop_
_rlnOpticsGroupName #1
_rlnOpticsGroup #2
_rlnMtfFileName #3
_rlnMicrographOriginalPixelSize #4
_rlnVoltage #5
_rlnSphericalAberration #6
_rlnAmplitudeContrast #7
_rlnMicrographPixelSize #8
_rlnSomethingNew #9
first 1 mtf_k2.star 0.885 200.0 1.4 0.1 1.77 x
second 2 mtf_k2.star 0.700 300.0 2.7 0.07 1.40 y

data_micrographs

loop_
_rlnMicrographName #1
_rlnOpticsGroup #2
_rlnDefocusU #3
_rlnDefocusV #4
_rlnDefocusAngle #5
_rlnCtfMaxResolution #6
MotionCorr/job002/a.mrc 1 10000 9800 12.5 4.1
MotionCorr/job002/b.mrc 2 20000 19500 -30.0 5.2
"""

FLAT = """
data_

loop_
_rlnMicrographName #1
_rlnCtfImage #2
_rlnDefocusU #3
_rlnDefocusV #4
_rlnDefocusAngle #5
_rlnVoltage #6
_rlnSphericalAberration #7
_rlnAmplitudeContrast #8
_rlnMagnification #9
_rlnDetectorPixelSize #10
_rlnCtfFigureOfMerit #11
a.mrc a.ctf:mrc 10000 9800 12.5 300.0 2.7 0.1 40000.0 14.0 0.1
b.mrc b.ctf:mrc 11000 9900 13.5 300.0 2.7 0.1 40000.0 14.0 0.2
c.mrc c.ctf:mrc 12000 9900 14.5 200.0 2.7 0.1 40000.0 14.0 0.2
"""


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_optics_groups_and_ctf_of_a_modern_file(tmp_path: Path) -> None:
    micrographs = read_micrographs(write(tmp_path / "m.star", MODERN), require_ctf=True)
    assert isinstance(micrographs, Micrographs)
    assert list(micrographs.names) == ["MotionCorr/job002/a.mrc", "MotionCorr/job002/b.mrc"]
    np.testing.assert_array_equal(micrographs.pixel_sizes, [1.77, 1.4])
    assert [group.original_pixel_size for group in micrographs.optics] == [0.885, 0.7]
    assert [group.voltage for group in micrographs.optics] == [200.0, 300.0]
    np.testing.assert_array_equal(micrographs.defocus, [[10000, 9800, 12.5], [20000, 19500, -30]])
    np.testing.assert_array_equal(micrographs.phase_shifts, [0, 0])
    # What nobody here knows survives reading and writing.
    write_micrographs(tmp_path / "again.star", micrographs)
    again = read_micrographs(tmp_path / "again.star")
    assert again.optics == micrographs.optics
    assert again.optics_table is not None
    assert list(again.optics_table["rlnSomethingNew"]) == ["x", "y"]
    assert "rlnImagePixelSize" not in again.optics_table
    assert set(again.table) == set(micrographs.table)


def test_flat_file_becomes_optics_groups_and_back(tmp_path: Path) -> None:
    micrographs = read_micrographs(write(tmp_path / "flat.star", FLAT))
    np.testing.assert_array_equal(micrographs.pixel_sizes, [3.5, 3.5, 3.5])
    np.testing.assert_array_equal(micrographs.table["rlnOpticsGroup"], [1, 1, 2])
    assert [group.voltage for group in micrographs.optics] == [300.0, 200.0]
    assert list(micrographs.table["rlnCtfImage"]) == ["a.ctf:mrc", "b.ctf:mrc", "c.ctf:mrc"]
    write_micrographs(tmp_path / "out.star", micrographs, dialect="1.3")
    again = read_micrographs(tmp_path / "out.star")
    assert again.optics == micrographs.optics
    assert "data_optics" not in (tmp_path / "out.star").read_text()


def test_flat_file_of_binned_micrographs_keeps_both_pixel_sizes(tmp_path: Path) -> None:
    micrographs = read_micrographs(write(tmp_path / "m.star", MODERN))
    write_micrographs(tmp_path / "flat.star", micrographs, dialect="1.3")
    again = read_micrographs(tmp_path / "flat.star")
    np.testing.assert_array_equal(again.pixel_sizes, [1.77, 1.4])
    assert [group.original_pixel_size for group in again.optics] == [0.885, 0.7]


def test_bare_names_need_what_the_user_gives(tmp_path: Path) -> None:
    path = write(tmp_path / "bare.star", "data_\nloop_\n_rlnMicrographName #1\na.mrc\nb.mrc\n")
    micrographs = read_micrographs(path, GIVEN)
    group = micrographs.optics[0]
    assert (group.pixel_size, group.voltage, group.spherical_aberration, group.amplitude_contrast) == (
        1.5,
        300,
        2.7,
        0.1,
    )
    assert read_micrographs(path, GivenOptics(1.5), require_optics=False).optics[0].voltage == 0
    with pytest.raises(InputError, match=r"bare\.star gives no pixel size"):
        read_micrographs(path, GivenOptics(None, 300.0, 2.7, 0.1))
    with pytest.raises(InputError, match="rlnVoltage"):
        read_micrographs(path, GivenOptics(1.5))
    with pytest.raises(InputError, match="has no rlnDefocusU"):
        read_micrographs(path, GIVEN, require_ctf=True)


def test_what_is_given_must_not_contradict_the_file(tmp_path: Path) -> None:
    path = write(tmp_path / "m.star", FLAT)
    assert len(read_micrographs(path, GivenOptics(3.51, spherical_aberration=2.7))) == 3  # rounding
    with pytest.raises(InputError, match=r"has rlnMicrographPixelSize 3\.5, but 1\.5 was given"):
        read_micrographs(path, GivenOptics(1.5))
    with pytest.raises(InputError, match="has rlnVoltage 200, but 300 was given"):
        read_micrographs(path, GIVEN)  # one of three
    with pytest.raises(InputError, match=r"has rlnSphericalAberration 2\.7, but 1\.4 was given"):
        read_micrographs(path, GivenOptics(spherical_aberration=1.4))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "data_\nloop_\n_rlnImageName\n1@a.mrcs\n",
            "is not a micrograph file: no block has the column rlnMicrographName",
        ),
        ("data_\nloop_\n_rlnMicrographName\n_rlnImageName\na.mrc 1@a.mrcs\n", "is a particle file"),
        (MODERN.replace("job002/b.mrc 2", "job002/a.mrc 2"), "names the micrograph MotionCorr/job002/a.mrc twice"),
        (MODERN.replace("b.mrc 2", "b.mrc 3"), "micrograph 2 belongs to rlnOpticsGroup 3"),
        (MODERN.replace("20000", "nan"), "rlnDefocusU of MotionCorr/job002/b.mrc is nan"),
        (MODERN.replace("20000", "far"), "rlnDefocusU holds what is not a number"),
        (MODERN.replace("1.77", "0"), "optics group 1 has rlnMicrographPixelSize 0"),
    ],
)
def test_faults_are_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_micrographs(write(tmp_path / "m.star", text))


def test_movies_with_gain_and_defects(tmp_path: Path) -> None:
    movies = movies_from_images(["Movies/a.tif", "Movies/b.tif"], GIVEN)
    assert isinstance(movies, Movies)
    assert list(movies.gains) == ["", ""]
    movies = movies.with_columns({movies.GAIN: np.array(["gain.mrc"] * 2, dtype=object)})
    write_micrographs(tmp_path / "movies.star", movies)
    text = (tmp_path / "movies.star").read_text()
    assert "data_movies" in text
    assert "_rlnMicrographMovieName" in text
    assert text.count("rlnMicrographOriginalPixelSize") == 1
    again = read_movies(tmp_path / "movies.star")
    assert again.optics == movies.optics
    assert list(again.gains) == ["gain.mrc", "gain.mrc"]
    assert list(again.defects) == ["", ""]
    assert len(open_movies([tmp_path / "movies.star"])) == 2
    with pytest.raises(InputError, match="is not a micrograph file"):
        read_micrographs(tmp_path / "movies.star")


def test_names_patterns_and_folders(in_tmp: Path) -> None:
    for name in ("b.mrc", "a.mrc", "notes.txt", "sub/c.MRC", "odd[1].mrc"):
        (in_tmp / name).parent.mkdir(exist_ok=True)
        (in_tmp / name).touch()
    assert expand_names(["*.mrc"]) == [Path("a.mrc"), Path("b.mrc"), Path("odd[1].mrc")]
    assert expand_names(["b.mrc", "a.mrc"]) == [Path("b.mrc"), Path("a.mrc")]
    assert expand_names(["odd[1].mrc"]) == [Path("odd[1].mrc")]  # a file of that name is that file
    assert expand_names(["sub"]) == [Path("sub/c.MRC")]
    assert expand_names(["**/*.MRC"]) == [Path("sub/c.MRC")]
    assert expand_names([str(in_tmp / "?.mrc")]) == [in_tmp / "a.mrc", in_tmp / "b.mrc"]
    with pytest.raises(InputError, match=r"no file matches x\*\.mrc"):
        expand_names(["x*.mrc"])
    (in_tmp / "empty").mkdir()
    with pytest.raises(InputError, match=r"the folder empty holds no files that end in \.mrc"):
        expand_names(["empty"])
    micrographs = open_micrographs(["*.mrc"], GIVEN)
    assert [path.name for path in locate_images(micrographs)] == ["a.mrc", "b.mrc", "odd[1].mrc"]
    (in_tmp / "b.mrc").unlink()
    with pytest.raises(InputError, match=r"the micrograph b\.mrc does not exist \(looked in .*check rlnMicrographName"):
        locate_images(micrographs)


def test_images_alone_need_their_settings() -> None:
    with pytest.raises(InputError, match="give the pixel size of the micrographs"):
        micrographs_from_images(["a.mrc"], GivenOptics())
    with pytest.raises(InputError, match="there are no movies"):
        movies_from_images([], GIVEN)
    with pytest.raises(InputError, match=r"names the movie a\.tif twice"):
        movies_from_images(["a.tif", "a.tif"], GIVEN)
    with pytest.raises(InputError, match="give the voltage"):
        open_micrographs(["a.mrc"], GivenOptics(1.5))
    with pytest.raises(InputError, match="images carry no defocus"):
        open_micrographs(["a.mrc"], GIVEN, require_ctf=True)
    with pytest.raises(InputError, match=r"give either one STAR file or images, not a\.star together with 1 others"):
        open_micrographs(["a.star", "b.mrc"], GIVEN)


def test_the_corpus_of_real_files(star_corpus: Path) -> None:
    """Micrograph files of RELION 3.1, 4 and 5, Scipion, Warp ... are read or refused in one sentence."""
    read = 0
    for path in sorted(star_corpus.rglob("*.star")):
        text = path.read_text(errors="replace")
        if "_rlnMicrographName" not in text or "_rlnImageName" in text or "_rlnCoordinateX" in text:
            continue
        try:
            micrographs = read_micrographs(path, require_optics=False)
        except InputError as error:
            assert str(path) in str(error)
            assert "\n" not in str(error)
            continue
        read += 1
        assert (micrographs.pixel_sizes > 0).all()
    assert read >= 5
