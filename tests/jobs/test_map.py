"""``vitrea map``: RELION's results through files, the order of operations, stacks and lists, measurements, mistakes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from matplotlib.image import imread
from numpy.typing import NDArray

from vitrea.cli.main import main
from vitrea.formats.image_files import open_image_file
from vitrea.formats.micrograph_files import (
    micrographs_from_images,
    movies_from_images,
    read_micrographs,
    read_movies,
    write_micrographs,
)
from vitrea.formats.mrc import open_stack, read_header, read_map, write_map, write_stack
from vitrea.formats.particle_files import read_particles, write_particles
from vitrea.formats.star import read_star
from vitrea.formats.star_values import text_column
from vitrea.records.map import Map
from vitrea.records.micrographs import GivenOptics
from vitrea.records.optics import Optics
from vitrea.records.particles import Particles
from vitrea.records.table import Table

ROUNDING = 1e-7  # RELION computes in double precision and writes float32

Array = NDArray[np.float32]


@pytest.fixture
def run(in_tmp: Path) -> Callable[..., int]:
    """Call ``vitrea map`` in a temporary folder; returns its exit code."""
    return lambda *words: main(["map", *map(str, words)])


def largest_error(found: Array, expected: Array) -> float:
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def noise(*shape: int, seed: int = 1) -> Array:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize(
    ("reference", "options"),
    [
        ("lowpass25", "--lowpass 25"),
        ("bfac-200", "--bfactor -200"),
        ("inverthand", "--invert_hand"),
        ("symC3", "--sym C3"),
        ("shift", "--shift_x 1.5 --shift_y -2.25 --shift_z 3 --linear_shift"),
    ],
)
def test_a_command_line_of_relion_gives_what_relion_wrote(
    reference: str, options: str, data_dir: Path, run: Callable[..., int]
) -> None:
    folder = data_dir / "image_handler"
    assert run("--i", folder / "newbox40.mrc", "--o", "out.mrc", "--angpix", 7.08, *options.split()) == 0
    found = read_map("out.mrc")
    assert found.voxel_size == pytest.approx(7.08)
    assert largest_error(found.voxels, read_map(folder / f"newbox40_{reference}.mrc").voxels) < ROUNDING


def test_rescaling_and_boxing_are_relions(
    shared_reference: Path, shared_data: Path, run: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    """The planes at the new Nyquist frequency, too, where RELION keeps one of two mates (docs/maps.md)."""
    assert run(shared_data / "bgal_map/betaGal.mrc", "out.mrc", "--rescale_angpix", 7.08) == 0
    found = read_map("out.mrc")
    expected = read_map(shared_reference / "image_handler/rescaled_7.08A_box50.mrc").voxels
    assert found.voxels.shape == (50, 50, 50)
    assert found.voxel_size == pytest.approx(7.08, abs=0.005)
    assert largest_error(found.voxels, expected) < ROUNDING
    assert run(shared_reference / "image_handler/rescaled_7.08A_box50.mrc", "box.mrc", "--new_box", 40) == 0
    window = read_map(shared_reference / "image_handler/newbox40.mrc").voxels
    assert np.array_equal(read_map("box.mrc").voxels, window)


def test_all_that_is_asked_for_is_done_in_the_documented_order(run: Callable[..., int]) -> None:
    voxels = np.abs(noise(12, 12, 12))
    voxels[3, 4, 5] = np.nan
    other = noise(12, 12, 12, seed=2)
    write_map("in.mrc", Map(voxels, 2.0))
    write_map("other.mrc", Map(other, 2.0))
    words = (
        "--new_box 13 --threshold_above 4 --add other.mrc --remove_nan --replace_nan 1 --flipX --multiply_constant 3"
    )
    assert run("in.mrc", "out.mrc", *words.split()) == 0
    expected = np.pad((np.nan_to_num(voxels, nan=1.0) * 3 + other)[..., ::-1], (0, 1)).clip(None, 4.0)
    assert np.allclose(read_map("out.mrc").voxels, expected, atol=1e-6)


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        ("--multiply", lambda a, b: a * b),
        ("--subtract", lambda a, b: a - b),
        ("--divide", lambda a, b: np.where(np.abs(b) < 1e-10, 0, a / np.where(b == 0, 1, b))),
    ],
)
def test_stacks_are_combined_image_by_image_or_with_one_image(
    option: str, expected: Callable[..., Any], run: Callable[..., int]
) -> None:
    first, second = noise(4, 6, 8), noise(4, 6, 8, seed=2)
    second[0, :2] = 0.0
    write_stack("first.mrcs", first, 1.5)
    write_stack("second.mrcs", second, 1.5)
    assert run("first.mrcs", "out.mrcs", option, "second.mrcs") == 0
    assert np.allclose(open_stack("out.mrcs"), expected(first, second), rtol=1e-6, atol=1e-6)
    write_stack("one.mrc", second[2], 1.5)
    assert run("first.mrcs", "out.mrcs", option, "one.mrc") == 0
    assert np.allclose(open_stack("out.mrcs"), expected(first, second[2]), rtol=1e-6, atol=1e-6)


def test_what_is_subtracted_may_be_scaled_to_fit(run: Callable[..., int]) -> None:
    voxels = noise(10, 10, 10)
    write_map("in.mrc", Map(voxels, 2.0))
    write_map("weak.mrc", Map(0.1 * voxels, 2.0))
    assert run("in.mrc", "out.mrc", "--subtract", "weak.mrc", "--optimise_scale_subtract") == 0
    assert np.abs(read_map("out.mrc").voxels).max() < 1e-5


def test_the_centre_of_mass_is_told_and_brought_to_the_centre(
    run: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    axis = np.arange(32) - 16
    lines = [np.exp(-((axis - place) ** 2) / 8.0) for place in (3.3, -2.0, 1.25)]  # z, y, x
    write_map("in.mrc", Map(np.einsum("z,y,x->zyx", *lines).astype(np.float32), 2.0))
    assert run("in.mrc", "--com") == 0
    assert "x= 1.2500 y= -2.0000 z= 3.3" in capsys.readouterr().out
    assert run("in.mrc", "out.mrc", "--shift_com") == 0
    assert run("out.mrc", "--com") == 0
    words = capsys.readouterr().out.split()
    assert max(abs(float(words[words.index(f"{name}=") + 1])) for name in "xyz") < 0.01


def test_micrographs_that_are_not_square_are_filtered_and_rescaled(run: Callable[..., int]) -> None:
    y, x = np.mgrid[:48, :64]
    fine, coarse = np.cos(np.pi * x / 1.6), np.cos(2 * np.pi * y / 16)
    write_stack("mic.mrc", (fine + coarse).astype(np.float32), 2.0)
    assert run("mic.mrc", "low.mrc", "--lowpass", 12) == 0
    inside = (slice(16, 32), slice(16, 48))
    assert np.allclose(open_stack("low.mrc")[0][inside], coarse[inside], atol=0.05)
    assert run("mic.mrc", "binned.mrc", "--rescale_angpix", 4) == 0
    header = read_header("binned.mrc")
    assert header.shape == (1, 24, 32)
    assert header.pixel_size == pytest.approx(4.0)
    assert np.allclose(open_stack("binned.mrc")[0][8:16, 8:24], coarse[::2, ::2][8:16, 8:24], atol=0.05)


def test_a_pixel_size_that_cannot_be_had_is_told(run: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    write_map("in.mrc", Map(noise(20, 20, 20), 2.0))
    assert run("in.mrc", "out.mrc", "--rescale_angpix", 3.1) == 0
    assert read_header("out.mrc").pixel_size == pytest.approx(20 * 2.0 / 12)
    assert "3.33333" in capsys.readouterr().err
    assert run("in.mrc", "out.mrc", "--rescale_angpix", 3.1, "--force_header_angpix", 3.1) == 0
    assert read_header("out.mrc").pixel_size == pytest.approx(3.1)


def particle_list(folder: Path) -> tuple[Array, Array]:
    first, second = noise(3, 16, 16), noise(2, 16, 16, seed=2)
    (folder / "stacks").mkdir()
    write_stack(folder / "stacks/a.mrcs", first, 2.0)
    write_stack(folder / "stacks/b.mrcs", second, 2.0)
    names = ["000003@stacks/a.mrcs", "000002@stacks/b.mrcs", "000001@stacks/a.mrcs"]
    table = Table(
        {"rlnImageName": text_column(names), "rlnOpticsGroup": np.ones(3, np.int64), "rlnAngleRot": np.arange(3.0)}
    )
    write_particles("parts.star", Particles(table, (Optics(2.0, 16, 300.0, 2.7, 0.1),)))
    return first, second


def test_the_images_of_a_particle_list_go_to_one_stack(run: Callable[..., int]) -> None:
    first, second = particle_list(Path())
    assert run("parts.star", "new.star", "--add_constant", 1, "--new_box", 12) == 0
    particles = read_particles("new.star", require_ctf=False)
    images = open_stack("new.mrcs")
    for row, original in enumerate((first[2], second[1], first[0])):
        index = int(str(particles.table["rlnImageName"][row]).split("@")[0]) - 1
        assert np.allclose(images[index], original[2:-2, 2:-2] + 1, atol=1e-6)
    assert particles.optics[0].image_size == 12
    assert particles.table["rlnAngleRot"].tolist() == [0.0, 1.0, 2.0]


def test_a_word_is_put_into_names_as_relion_does(run: Callable[..., int]) -> None:
    first, _ = particle_list(Path())
    assert run("--i", "parts.star", "--o", "neg", "--multiply_constant", -1) == 0
    names = read_particles("parts_neg.star", require_ctf=False).table["rlnImageName"].tolist()
    assert names == ["000002@stacks/a_neg.mrcs", "000001@stacks/b_neg.mrcs", "000001@stacks/a_neg.mrcs"]
    assert np.array_equal(open_stack("stacks/a_neg.mrcs")[1], -first[2])


def test_a_bad_micrograph_of_a_list_is_set_aside(run: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    Path("Micrographs").mkdir()
    for number in (1, 2, 3):
        image = noise(12, 20, seed=number)
        image[0, 0] = np.nan if number == 2 else 0.0
        write_stack(f"Micrographs/m{number}.mrc", image, 1.5)
    mics = micrographs_from_images([f"Micrographs/m{n}.mrc" for n in (1, 2, 3)], GivenOptics(1.5, 300, 2.7, 0.1))
    write_micrographs("mics.star", mics)
    assert run("mics.star", "binned.star", "--rescale_angpix", 3) == 0
    new = read_micrographs("binned.star")
    assert new.names.tolist() == ["binned/Micrographs/m1.mrc", "binned/Micrographs/m3.mrc"]
    assert new.optics[0].pixel_size == pytest.approx(3.0)
    assert read_header("binned/Micrographs/m3.mrc").shape == (1, 6, 10)
    assert "Micrographs/m2.mrc: 1 values are NaN" in capsys.readouterr().err
    assert not Path("binned/Micrographs/m2.mrc").exists()


def test_frames_are_summed_and_images_averaged(run: Callable[..., int]) -> None:
    frames = noise(5, 8, 10)
    write_stack("movie.mrcs", frames, 1.0)
    assert run("movie.mrcs", "two.mrcs", "--avg_bin", 2) == 0
    assert np.allclose(open_stack("two.mrcs"), [frames[:2].sum(0), frames[2:4].sum(0)], atol=1e-6)
    assert run("movie.mrcs", "sum.mrc", "--avg_first", 2, "--avg_last", 4) == 0
    assert np.allclose(open_stack("sum.mrc")[0], frames[1:4].sum(0), atol=1e-6)
    assert run("movie.mrcs", "mean.mrc", "--average") == 0
    assert np.allclose(open_stack("mean.mrc")[0], frames.mean(0), atol=1e-6)


def test_a_pixel_size_that_nobody_tells_is_warned_of(
    run: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    tifffile.imwrite("movie.tif", noise(3, 8, 10), photometric="minisblack", metadata=None)
    assert run("movie.tif", "mean.mrc", "--average") == 0
    assert "movie.tif does not tell its pixel size: it is taken for 1 Å; give --angpix" in capsys.readouterr().err
    for given in (("--angpix", 1.2), ("--force_header_angpix", 1.2)):
        assert run("movie.tif", "mean.mrc", "--average", *given) == 0
        assert "pixel size" not in capsys.readouterr().err
        assert read_header("mean.mrc").pixel_size == pytest.approx(1.2)


def test_frames_of_all_movies_of_a_list_are_summed(run: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    Path("Movies").mkdir()
    frames = [noise(count, 8, 12, seed=count) for count in (5, 4, 1)]
    for number, movie in enumerate(frames):
        write_stack(f"Movies/m{number}.mrcs", movie, 1.5)
    movies = movies_from_images([f"Movies/m{n}.mrcs" for n in range(3)], GivenOptics(1.5, 300, 2.7, 0.1))
    write_micrographs("movies.star", movies)
    assert run("movies.star", "sums.star", "--avg_first", 2, "--avg_last", 4, "--rescale_angpix", 3) == 0
    sums = read_micrographs("sums.star")
    assert sums.names.tolist() == ["sums/Movies/m0.mrc", "sums/Movies/m1.mrc"]
    assert (sums.optics[0].pixel_size, sums.optics[0].original_pixel_size) == pytest.approx((3.0, 1.5))
    assert open_stack("sums/Movies/m0.mrc").shape == (1, 4, 6)
    assert "set aside: --avg_first 2 --avg_last 4: Movies/m2.mrcs has frames 1 to 1" in capsys.readouterr().err
    assert run("movies.star", "pairs.star", "--avg_bin", 2) == 0
    pairs = read_movies("pairs.star")
    assert pairs.names.tolist() == ["pairs/Movies/m0.mrcs", "pairs/Movies/m1.mrcs"]
    expected = [frames[1][:2].sum(0), frames[1][2:].sum(0)]
    assert np.allclose(open_stack("pairs/Movies/m1.mrcs"), expected, atol=1e-6)
    assert run("movies.star", "none.star", "--avg_first", 9) == 1
    assert run("pairs.star", "again.star", "--avg_bin", 3) == 1


def test_images_of_a_list_are_drawn_in_its_order(run: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    write_stack("a.mrcs", np.stack([np.full((8, 8), value, np.float32) for value in (0, 1)]), 2.0)
    write_stack("b.mrcs", np.full((1, 8, 8), 0.5, np.float32), 2.0)
    names = {"rlnImageName": text_column(["1@b.mrcs", "2@a.mrcs", "1@a.mrcs"]), "rlnOpticsGroup": np.ones(3, int)}
    write_particles("p.star", Particles(Table(names), (Optics(2.0, 8, 300.0, 2.7, 0.1),)))
    scale = ("--black", 0, "--white", 1, "--columns", 3)
    assert run("p.star", "p.png", *scale) == 0
    assert "p.png: 3 of 3 images" in capsys.readouterr().out
    picture = imread("p.png")
    picture = picture if picture.ndim == 2 else picture[..., 0]
    tile = picture.shape[1] // 3
    assert [picture[4, 4 + tile * place] for place in range(3)] == pytest.approx([0.5, 1.0, 0.0], abs=0.01)
    assert run("p.star", "two.png", "--most", 2, *scale) == 0
    write_stack("b.mrcs", np.full((1, 6, 6), 0.5, np.float32), 2.0)
    assert run("p.star", "p.png", *scale) == 2
    assert "differ in size" in capsys.readouterr().err


def test_statistics_are_those_of_each_image(run: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    write_stack("s.mrcs", np.array([[[1.0, 2.0], [3.0, 6.0]], [[0, 0], [0, 1]]], dtype=np.float32), 1.5)
    assert run("s.mrcs", "--stats") == 0
    first, second = capsys.readouterr().out.splitlines()
    deviation = np.std([1, 2, 3, 6], ddof=1)
    assert first == (
        f"000001@s.mrcs : (x,y,z,n)= 2 x 2 x 1 x 1 ; avg= 3 stddev= {deviation:.6g} minval= 1 maxval= 6 ; angpix = 1.5"
    )
    assert second.startswith("000002@s.mrcs")


def test_fsc_and_spectra_are_written(run: Callable[..., int]) -> None:
    voxels = noise(16, 16, 16)
    write_map("a.mrc", Map(voxels, 2.0))
    assert run("a.mrc", "low.mrc", "--lowpass", 8) == 0
    assert run("low.mrc", "fsc.star", "--fsc", "a.mrc") == 0
    table = read_star("fsc.star")["fsc"]
    assert table["rlnFourierShellCorrelation"][:3] == pytest.approx(1.0)
    assert table["rlnAngstromResolution"][1:] == pytest.approx(32.0 / np.arange(1, 9))
    assert run("a.mrc", "spectrum.star", "--spectrum") == 0
    table = read_star("spectrum.star")["spectrum"]
    # White noise of unit variance, on RELION's scale; ln of the mean of |F| is what the Guinier plot shows.
    assert float(np.mean(table["vitreaPower"][3:])) == pytest.approx(1 / 16**3, rel=0.1)
    assert np.allclose(table["rlnLogAmplitudesOriginal"], np.log(table["vitreaAmplitude"]), atol=1e-6)


def test_ring_correlations_of_stacks_are_averaged_and_told_image_by_image(
    run: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    size, pixel, cutoffs = 32, 2.0, (16.0, 8.0)
    images = noise(2, size, size)
    write_stack("a.mrcs", images, pixel)
    for place, cutoff in enumerate(cutoffs):
        assert run(f"{place + 1}@a.mrcs", f"low{place}.mrc", "--lowpass", cutoff) == 0
    low = np.stack([open_image_file(Path(f"low{place}.mrc")).load(np.zeros(1, int))[0] for place in (0, 1)])
    write_stack("low.mrcs", low + 1e-3 * noise(2, size, size, seed=5), pixel)
    assert run("low.mrcs", "fsc.star", "--fsc", "a.mrcs") == 0
    blocks = read_star("fsc.star")
    mean, each = blocks["fsc"], blocks["images"]
    assert isinstance(mean, Table) and isinstance(each, Table)
    alone = []
    for place in (0, 1):
        assert run(f"{place + 1}@low.mrcs", "one.star", "--fsc", f"{place + 1}@a.mrcs") == 0
        one = read_star("one.star")
        assert set(one) == {"fsc"}
        alone.append(one["fsc"]["rlnFourierShellCorrelation"])  # type: ignore[index]
    assert mean["rlnFourierShellCorrelation"] == pytest.approx(np.mean(alone, axis=0), abs=1e-9)
    # A raised-cosine edge of two shells: the correlation ends within a shell of the cut-off.
    shells = size * pixel / each["vitreaResolutionFsc05"]
    assert shells == pytest.approx([size * pixel / cutoff for cutoff in cutoffs], abs=1.5)
    assert list(each["rlnImageName"]) == ["000001@low.mrcs", "000002@low.mrcs"]
    assert run("low.mrcs", "mean.png", "--fsc", "a.mrcs") == 0
    assert imread("mean.png").std() > 0
    # Against one image, and every image of a list.
    assert run("a.mrcs", "one.star", "--fsc", "1@a.mrcs") == 0
    assert read_star("one.star")["images"]["vitreaResolutionFsc05"][0] == pytest.approx(2 * pixel)  # type: ignore[index]
    names = text_column(["000002@low.mrcs", "000001@low.mrcs"])
    table = Table({"rlnImageName": names, "rlnOpticsGroup": np.ones(2, np.int64)})
    write_particles("list.star", Particles(table, (Optics(pixel, size, 300.0, 2.7, 0.1),)))
    write_stack("turned.mrcs", images[::-1], pixel)
    assert run("list.star", "fsc_list.star", "--fsc", "turned.mrcs") == 0
    again = read_star("fsc_list.star")
    assert again["fsc"]["rlnFourierShellCorrelation"] == pytest.approx(mean["rlnFourierShellCorrelation"])  # type: ignore[index]
    assert "FSC = 0.5: " in capsys.readouterr().out


def test_slices_of_a_map_show_all_its_grey_values_unless_told_otherwise(run: Callable[..., int]) -> None:
    voxels = 0.01 * noise(8, 8, 8)
    voxels[3:5, 3:5, 3:5] = np.linspace(0.5, 1, 8).reshape(2, 2, 2)
    write_map("a.mrc", Map(voxels, 2.0))
    assert run("a.mrc", "all.png") == 0
    assert run("a.mrc", "few.png", "--sigma_contrast", 3) == 0
    whites = [int((imread(name) >= 1).sum()) for name in ("all.png", "few.png")]
    assert whites[0] < whites[1]


def test_power_is_adjusted_shell_by_shell(run: Callable[..., int]) -> None:
    write_map("a.mrc", Map(noise(16, 16, 16), 2.0))
    write_map("b.mrc", Map(5 * noise(16, 16, 16, seed=2), 2.0))
    assert run("a.mrc", "out.mrc", "--adjust_power", "b.mrc") == 0
    spectra = []
    for name in ("out", "b"):
        assert run(f"{name}.mrc", f"{name}.star", "--spectrum") == 0
        spectra.append(read_star(f"{name}.star")["spectrum"]["vitreaAmplitude"])
    assert np.allclose(spectra[0], spectra[1], rtol=1e-5)


def test_a_montage_shows_each_image_with_y_upwards(run: Callable[..., int]) -> None:
    images = np.zeros((4, 5, 7), dtype=np.float32)
    images[1, 0, 6] = 1.0  # right bottom of the second image
    write_stack("s.mrcs", images, 1.0)
    assert run("s.mrcs", "m.png", "--columns", 3, "--sigma_contrast", 0) == 0
    picture = imread("m.png")[..., 0]
    assert picture.shape == (2 * 5 + 1, 3 * 7 + 2)
    assert picture[4, 8 + 6] == 1.0
    assert picture[:5, 8:15].sum() == 1.0


@pytest.mark.parametrize("ending", [".spi", ".hed", ".tif", ".mrcs"])
def test_the_ending_tells_the_format(ending: str, run: Callable[..., int]) -> None:
    images = noise(3, 8, 8)
    write_stack("s.mrcs", images, 1.5)
    assert run("s.mrcs", f"out{ending}", "--multiply_constant", 2) == 0
    back = open_image_file(f"out{ending}")
    assert np.allclose(back.load(range(3)), 2 * images, atol=1e-6)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("map.mrc", "where to"),
        ("map.mrc out.mrc --flipXY", "for images, this is a map"),
        ("stack.mrcs out.mrcs --sym C2", "for maps, these are images"),
        ("map.mrc out.mrc --add stack.mrcs", "does not fit"),
        ("nan.mrc out.mrc --lowpass 8", "--remove_nan"),
        ("map.mrc out.xyz --lowpass 8", "'.xyz' is no ending"),
        ("map.mrc --stats --com", "one of --stats, --com"),
        ("stack.mrcs --fsc map.mrc", "differ in box"),
        ("stack.mrcs --fsc two.mrcs", "two.mrcs has 2 images, stack.mrcs goes on to image 3"),
        ("two.mrcs --fsc stack.mrcs", "stack.mrcs has 3 images, two.mrcs 2"),
        ("nan.mrc --fsc map.mrc", "--remove_nan"),
        ("map.mrc --stats --lowpass 9", "--lowpass changes images, --stats measures them as they are"),
        ("map.mrc out.mrc --columns 3", "--columns is for pictures"),
        ("map.mrc out.mrc --lowpass 9 --highpass 8", "leave nothing"),
        ("map.mrc out.mrc --threshold_above 0 --threshold_below 1", "one grey value only"),
        ("map.mrc out.mrc --replace_nan 2", "is for --remove_nan"),
        ("map.mrc out.mrc --optimise_scale_subtract", "is for --subtract"),
        ("map.mrc out.mrc --shift_x nan", "finite number"),
        ("stack.mrcs out.mrcs --avg_first 2 --avg_last 9", "frames 1 to 3"),
        ("4@stack.mrcs out.mrc", "no 4@stack.mrcs"),
        ("map.mrc out.mrc --divide_constant 0", "must not be 0"),
        ("map.mrc out.mrc --rescale_angpix 900", "leave nothing"),
    ],
)
def test_mistakes_are_told_and_nothing_is_written(
    words: str, message: str, run: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    write_map("map.mrc", Map(noise(8, 8, 8), 2.0))
    write_stack("stack.mrcs", noise(3, 8, 8), 2.0)
    write_stack("two.mrcs", noise(2, 8, 8), 2.0)
    voxels = noise(8, 8, 8)
    voxels[0, 0, 0] = np.nan
    write_map("nan.mrc", Map(voxels, 2.0))
    before = set(Path().iterdir())
    assert run(*words.split()) == 2
    assert message in capsys.readouterr().err
    assert set(Path().iterdir()) == before
