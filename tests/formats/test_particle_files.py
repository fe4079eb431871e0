"""Particle sets of every dialect, and one clear sentence for each way a file can be wrong."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import starfile

from vitrea.formats.image_names import find_file, join_image_name, place_in_job, split_image_name
from vitrea.formats.images import ParticleImages
from vitrea.formats.mrc import write_stack
from vitrea.formats.particle_files import read_particles, relink_images, write_particles
from vitrea.formats.star import read_star
from vitrea.records.errors import InputError
from vitrea.records.optics import Optics
from vitrea.records.table import Table

MakeSet = Callable[..., Path]

FLAT = """
data_images

loop_
_rlnImageName #1
_rlnVoltage #2
_rlnSphericalAberration #3
_rlnAmplitudeContrast #4
_rlnMagnification #5
_rlnDetectorPixelSize #6
_rlnDefocusU #7
_rlnDefocusV #8
_rlnDefocusAngle #9
_rlnOriginX #10
_rlnOriginY #11
_rlnOriginXPrior #12
_myColumn #13
000002@a.mrcs 200 1.4 0.07 50000 7.5 10000 9000 30 1.0 -2.0 0.5 x1
000001@a.mrcs 300 2.7 0.10 50000 7.5 11000 9500 31 0.0  3.0 0.0 x2
000001@b.mrcs 200 1.4 0.07 50000 7.5 12000 9700 32 0.5  0.0 0.0 x3
"""


def test_optics_groups(make_set: MakeSet) -> None:
    particles = read_particles(make_set())
    first, second = particles.optics
    assert first == Optics(1.5, 8, 300.0, 2.7, 0.1, name="first", group=1)
    assert (second.voltage, second.group, second.name) == (200.0, 2, "second")
    assert particles.optics_index.tolist() == [0, 1, 0]
    assert particles.shifts.tolist() == [[1.5, -3.0], [0.0, 4.5], [0.75, 0.0]]
    assert particles.table["myColumn"].tolist() == ["x1", "x2", "x3"]
    assert particles.image_root == particles.source.parent if particles.source else False


def test_flat_rows_form_groups_and_shifts_become_angstroms(make_set: MakeSet) -> None:
    particles = read_particles(make_set(text=FLAT))
    assert [group.voltage for group in particles.optics] == [200.0, 300.0]  # in the order of their first rows
    assert [group.group for group in particles.optics] == [1, 2]
    assert particles.table["rlnOpticsGroup"].tolist() == [1, 2, 1]
    assert {group.pixel_size for group in particles.optics} == {1.5}  # 7.5 µm * 10^4 / 50000
    assert {group.image_size for group in particles.optics} == {8}  # from the stack
    assert particles.shifts.tolist() == [[1.5, -3.0], [0.0, 4.5], [0.75, 0.0]]
    assert particles.table["rlnOriginXPriorAngst"].tolist() == [0.75, 0.0, 0.0]
    assert not {"rlnOriginX", "rlnVoltage", "rlnMagnification"} & set(particles.table)


@pytest.mark.parametrize("label", ["rlnPixelSize", "rlnImagePixelSize"])
def test_flat_pixel_size_labels(make_set: MakeSet, label: str) -> None:
    text = FLAT.replace("_rlnMagnification", "_other").replace("_rlnDetectorPixelSize", f"_{label}")
    assert read_particles(make_set(text=text)).optics[0].pixel_size == 7.5


def test_pixel_size_given_where_the_file_has_none(make_set: MakeSet) -> None:
    path = make_set(("_rlnMagnification", "_other"), text=FLAT)
    with pytest.raises(InputError, match="gives no pixel size"):
        read_particles(path)
    assert read_particles(path, pixel_size=2.0).shifts[0].tolist() == [2.0, -4.0]


def test_optics_without_box_take_it_from_the_stack(make_set: MakeSet) -> None:
    assert read_particles(make_set(("_rlnImageSize", "_other"))).optics[1].image_size == 8


def test_fields_of_optics(make_set: MakeSet) -> None:
    path = make_set(
        ("_rlnImageSize #7\n", "_rlnImageSize #7\n_rlnBeamTiltX\n_rlnBeamTiltY\n_rlnOddZernike\n_rlnEvenZernike\n"
         "_rlnMtfFileName\n_rlnMicrographOriginalPixelSize\n_rlnCtfDataAreCtfPremultiplied\n"),
        ("1.5 8\n2", "1.5 8 0.1 -0.2 [0.5,1e-3] [] mtf.star 0.75 1\n2"),
        ("0.07 1.5 8", "0.07 1.5 8 0 0 [] [1] '' 0.75 0"),
    )  # fmt: skip
    first, second = read_particles(path).optics
    assert (first.beam_tilt_x, first.beam_tilt_y) == (0.1, -0.2)
    assert (first.odd_zernike, first.even_zernike, second.even_zernike) == ((0.5, 0.001), (), (1.0,))
    assert (first.mtf_file, first.original_pixel_size, second.mtf_file) == ("mtf.star", 0.75, "")
    assert (first.ctf_premultiplied, second.ctf_premultiplied) == (True, False)


@pytest.mark.parametrize("dialect", ["3.1", "1.3"])
def test_round_trip(make_set: MakeSet, tmp_path: Path, dialect: str) -> None:
    path = make_set(
        ("_rlnImageSize #7\n", "_rlnImageSize #7\n_rlnOddZernike\n_labColumn\n"),
        ("1.5 8\n2", "1.5 8 [0.5] u\n2"),
        ("0.07 1.5 8", "0.07 1.5 8 [] v"),
    )
    particles = read_particles(path)
    write_particles(tmp_path / "out.star", particles, dialect=dialect, comment="made by a test")  # type: ignore[arg-type]
    again = read_particles(tmp_path / "out.star")
    np.testing.assert_allclose(again.shifts, particles.shifts, rtol=1e-9)
    assert again.table["myColumn"].tolist() == particles.table["myColumn"].tolist()
    assert again.table["rlnOpticsGroup"].tolist() == particles.table["rlnOpticsGroup"].tolist()
    unnamed = [replace(group, name="") for group in again.optics]
    assert unnamed == [replace(group, name="") for group in particles.optics]
    kept = again.optics_table if dialect == "3.1" else again.table
    assert kept is not None
    assert set(kept["labColumn"]) == {"u", "v"}


def test_flat_files_have_relions_labels(make_set: MakeSet, tmp_path: Path) -> None:
    write_particles(tmp_path / "flat.star", read_particles(make_set()), dialect="1.3")
    flat = starfile.read(tmp_path / "flat.star")
    assert (flat["rlnDetectorPixelSize"] * 1e4 / flat["rlnMagnification"]).tolist() == [1.5] * 3
    assert flat["rlnOriginX"].tolist() == [1.0, 0.0, 0.5]
    assert flat["rlnVoltage"].tolist() == [300, 200, 300]
    assert "rlnOpticsGroup" not in flat
    # RELION takes this comment for the sign of a file with optics groups.
    assert "# version" not in (tmp_path / "flat.star").read_text()
    write_particles(tmp_path / "new.star", read_particles(make_set()))
    assert (tmp_path / "new.star").read_text().count("# version 30001\n") == 2


def test_records_decide_what_is_written(make_set: MakeSet, tmp_path: Path) -> None:
    particles = read_particles(make_set())
    scaled = replace(particles, optics=tuple(replace(g, pixel_size=3.0, image_size=4) for g in particles.optics))
    write_particles(tmp_path / "out.star", scaled)
    optics = starfile.read(tmp_path / "out.star")["optics"]
    assert optics["rlnImagePixelSize"].tolist() == [3.0, 3.0]
    assert optics["rlnImageSize"].tolist() == [4, 4]


def test_optics_without_a_table(make_set: MakeSet, tmp_path: Path) -> None:
    particles = read_particles(make_set())
    write_particles(tmp_path / "out.star", replace(particles, optics_table=None))
    assert read_particles(tmp_path / "out.star").optics == particles.optics


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("_rlnDefocusU", "_other", "lacks the column rlnDefocusU, which CTF"),
        ("_rlnDefocusV", "_other", "lacks the column rlnDefocusV, which CTF"),
        ("_rlnDefocusAngle", "_other", "lacks the column rlnDefocusAngle, which CTF"),
        ("_rlnVoltage", "_other", "data_optics lacks the column rlnVoltage"),
        ("_rlnSphericalAberration", "_other", "data_optics lacks the column rlnSphericalAberration"),
        ("_rlnAmplitudeContrast", "_other", "data_optics lacks the column rlnAmplitudeContrast"),
        ("_rlnImagePixelSize", "_other", "data_optics lacks the column rlnImagePixelSize"),
        ("_rlnImageName", "_other", "lacks the column rlnImageName"),
        ("data_optics", "data_other", "has the column rlnOpticsGroup but no data_optics block"),
        ("000001@b.mrcs 1", "000001@b.mrcs 7", r"particle 3 belongs to rlnOpticsGroup 7, .* \(it defines 1, 2\)"),
        ("_rlnOpticsGroup #2", "_other", "particles lack the column rlnOpticsGroup"),
        ("_rlnOpticsGroup #1", "_other", "data_optics lacks the column rlnOpticsGroup"),
        ("2 second", "1 second", "rlnOpticsGroup 1 twice"),
        ("1 first 300.0", "1 first -300.0", "optics group 1 has rlnVoltage -300"),
        ("1 first 300.0", "1 first high", "rlnVoltage in data_optics is 'high', not a number"),
        ("0.1 1.5", "7 1.5", "rlnAmplitudeContrast 7"),
        ("0.1 1.5", "0.1 0", "rlnImagePixelSize 0"),
        ("11000", "many", "rlnDefocusU of particle 2 is 'many', not a number"),
        ("11000", "nan", "rlnDefocusU of particle 2 is nan"),
        ("-3.0", "inf", "rlnOriginYAngst of particle 1 is inf"),
    ],
)
def test_what_is_wrong_is_said(make_set: MakeSet, old: str, new: str, message: str) -> None:
    path = make_set((old, new))
    with pytest.raises(InputError, match=message) as caught:
        read_particles(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("data_job\n_rlnJobType 3\n", "not a particle file"),
        ("data_optics\nloop_\n_rlnOpticsGroup\n\ndata_particles\nloop_\n_rlnImageName\n", "holds no particles"),
        (FLAT.replace("_rlnVoltage", "_other"), "neither a data_optics block nor the column rlnVoltage"),
        (FLAT.replace("000002@a.mrcs", "000001@none.mrcs"), "stack none.mrcs does not exist"),
        (FLAT.replace("000002@a.mrcs", "2@a.tif"), "TIFF format"),
        (FLAT.replace("000002@a.mrcs", "x@a.mrcs"), "'x@a.mrcs' is not of the form"),
        (FLAT.replace("7.5", "seven"), "pixel size hold what is not a number"),
    ],
)
def test_files_that_are_wrong_as_a_whole(make_set: MakeSet, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_particles(make_set(text=text))


def test_ctf_and_images_are_required_only_on_request(make_set: MakeSet) -> None:
    path = make_set(("_rlnDefocusU", "_other"), ("_rlnVoltage", "_another"), ("_rlnImageName", "_third"))
    particles = read_particles(path, require_ctf=False, require_images=False)
    assert particles.optics[0].voltage == 0.0
    assert len(particles) == 3


def test_missing_group_column_is_filled_where_there_is_one_group(make_set: MakeSet) -> None:
    path = make_set(("_rlnOpticsGroup #2", "_other"), ("2 second 200.0 1.4 0.07 1.5 8\n", ""))
    assert read_particles(path).table["rlnOpticsGroup"].tolist() == [1, 1, 1]


def test_a_single_particle_written_without_a_loop(make_set: MakeSet) -> None:
    text = ("data_optics\n_rlnOpticsGroup 1\n_rlnVoltage 300\n_rlnSphericalAberration 2.7\n_rlnAmplitudeContrast 0.1\n"
            "_rlnImagePixelSize 1.5\n_rlnImageSize 8\ndata_particles\n_rlnImageName 000001@a.mrcs\n_rlnOpticsGroup 1\n"
            "_rlnDefocusU 1e4\n_rlnDefocusV 1e4\n_rlnDefocusAngle 0\n")  # fmt: skip
    particles = read_particles(make_set(text=text))
    assert len(particles) == 1
    assert particles.defocus.tolist() == [[1e4, 1e4, 0]]


@pytest.mark.parametrize(
    ("name", "parts"), [("000012@a/b.mrcs", ("a/b.mrcs", 11)), ("a.mrc", ("a.mrc", 0)), ("1@x@y", ("x@y", 0))]
)
def test_image_names(name: str, parts: tuple[str, int]) -> None:
    assert split_image_name(name) == parts
    assert split_image_name(join_image_name(*parts)) == parts


@pytest.mark.parametrize("name", ["0@a.mrcs", "-1@a.mrcs", "@a.mrcs", "1@", "one@a.mrcs", "²@a"])
def test_image_names_without_sense(name: str) -> None:
    with pytest.raises(InputError, match="not of the form"):
        split_image_name(name)


def test_where_stacks_are_looked_for(in_tmp: Path) -> None:
    deep = in_tmp / "project" / "Extract" / "job012"
    deep.mkdir(parents=True)
    stack = deep / "a.mrcs"
    write_stack(stack, np.zeros((1, 4, 4)), 1.0)
    assert find_file("a.mrcs", deep) == stack  # beside the STAR file
    assert find_file("project/Extract/job012/a.mrcs", deep / "far").samefile(stack)  # from the current folder
    assert find_file("Extract/job012/a.mrcs", deep).samefile(stack)  # from a folder above the STAR file
    assert find_file(str(stack), None) == stack
    with pytest.raises(InputError, match=r"stack b\.mrcs does not exist \(looked in .*job012"):
        find_file("b.mrcs", deep)


def test_relinked_images_are_found_from_elsewhere(
    make_set: MakeSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    particles = read_particles(make_set())
    elsewhere = tmp_path.parent / (tmp_path.name + "_else")
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    moved = relink_images(particles, elsewhere)
    assert moved.table["rlnImageName"][2] == f"000001@{tmp_path / 'b.mrcs'}"
    write_particles(elsewhere / "out.star", moved)
    ParticleImages(read_particles(elsewhere / "out.star")).check()
    monkeypatch.chdir(tmp_path.parent)
    relative = relink_images(particles, elsewhere)
    assert relative.table["rlnImageName"][2] == f"000001@{tmp_path.name}/b.mrcs"


def test_files_of_other_programs(shared_data: Path) -> None:
    real = read_particles(shared_data / "betagal_real" / "particles.star")
    assert len(real) == 2374
    assert real.optics[0] == Optics(3.54, 64, 200.0, 1.4, 0.1, mtf_file="mtf_k2_200kV.star", original_pixel_size=0.885)
    flat = read_particles(shared_data / "tilt" / "sta_testing_bin8.star")
    table = read_star(shared_data / "tilt" / "sta_testing_bin8.star")[""]
    assert isinstance(table, Table)
    assert len(flat) == len(table) == 219
    assert flat.optics == (Optics(1.96, 64, 300.0, 2.7, 0.07),)
    with pytest.raises(InputError, match="no data_optics block"):
        read_particles(shared_data / "formats" / "rln_proj_64.star", require_ctf=False)


def test_a_job_puts_its_results_below_its_own_folder() -> None:
    assert place_in_job("MotionCorr/job002/Movies/a.mrc") == Path("Movies/a.mrc")
    assert place_in_job("Movies/a.mrc") == Path("Movies/a.mrc")
    assert place_in_job("Movies/job2/a.mrc") == Path("Movies/job2/a.mrc")  # no job of RELION's
    assert place_in_job("/data/Movies/a.mrc") == Path("a.mrc")
    assert place_in_job("../Movies/a.mrc") == Path("a.mrc")
