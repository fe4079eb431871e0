"""``vitrea convert``: values, sizes and what is a map survive."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import tifffile

from vitrea.cli.main import main
from vitrea.formats.image_files import open_image_file
from vitrea.formats.mrc import open_stack, read_header, read_map, write_map, write_stack
from vitrea.records.map import Map


@pytest.fixture
def run(in_tmp: Path) -> Callable[..., int]:
    """Call ``vitrea convert`` in a temporary folder; returns its exit code."""
    return lambda *words: main(["convert", *map(str, words)])


def test_images_survive_a_round_through_all_formats(run: Callable[..., int]) -> None:
    images = np.random.default_rng(1).normal(size=(3, 6, 8)).astype(np.float32)
    write_stack("0.mrcs", images, 1.25)
    names = ["0.mrcs", "1.spi", "2.tif", "3.st", "4.hed", "5.mrcs"]
    for before, after in pairwise(names):
        assert run(before, after) == 0
        assert np.array_equal(open_image_file(after).load(range(3)), images), after
    assert open_image_file("3.st").pixel_size == pytest.approx(1.25, rel=1e-5)
    assert read_header("5.mrcs").pixel_size == 0.0  # IMAGIC does not hold it
    assert run("4.hed", "6.mrcs", "--angpix", 1.25) == 0
    assert read_header("6.mrcs").pixel_size == pytest.approx(1.25)


def test_a_tiff_has_the_last_row_first_as_relion_reads_it(run: Callable[..., int]) -> None:
    images = np.arange(12, dtype=np.float32).reshape(1, 3, 4)
    write_stack("a.mrcs", images, 1.0)
    assert run("a.mrcs", "a.tif") == 0
    assert np.array_equal(tifffile.imread("a.tif"), images[0, ::-1])


def test_a_map_stays_a_map(run: Callable[..., int]) -> None:
    voxels = np.random.default_rng(1).normal(size=(6, 6, 6)).astype(np.float32)
    write_map("a.mrc", Map(voxels, 2.5, (1.0, 2.0, 3.0)))
    assert run("a.mrc", "a.vol") == 0
    assert run("a.vol", "b.mrc") == 0
    assert np.array_equal(read_map("b.mrc").voxels, voxels)
    assert read_map("b.mrc").voxel_size == pytest.approx(2.5)
    assert not read_header("b.mrc").is_stack
    assert run("a.mrc", "a.hed") == 0
    assert run("a.hed", "c.mrc", "--kind", "map", "--angpix", 2.5) == 0
    assert not read_header("c.mrc").is_stack
    assert np.array_equal(read_map("c.mrc").voxels, voxels)
    assert run("a.mrc", "d.map") == 0
    assert read_map("d.map").origin == pytest.approx((1.0, 2.0, 3.0))
    assert run("a.mrc", "e.mrcs", "--kind", "stack") == 0
    assert read_header("e.mrcs").is_stack


@pytest.mark.parametrize("order", ["<", ">"])
def test_raw_numbers_are_read_as_they_are_said_to_lie(order: str, run: Callable[..., int]) -> None:
    numbers = np.arange(-12, 12).reshape(2, 3, 4)
    Path("a.raw").write_bytes(b"head" + numbers.astype(f"{order}i2").tobytes())
    words = ["--raw_shape", "4,3,2", "--raw_type", "int16", "--raw_offset", 4, "--angpix", 1.5]
    assert run("a.raw", "a.mrcs", *words, *(["--raw_big_endian"] if order == ">" else [])) == 0
    assert np.array_equal(open_stack("a.mrcs"), numbers)
    assert run("a.mrcs", "b.raw") == 0
    assert np.array_equal(np.fromfile("b.raw", "<f4"), numbers.ravel())


def test_half_precision(run: Callable[..., int]) -> None:
    write_stack("a.mrcs", np.full((2, 4, 4), 0.5), 1.5)
    assert run("a.mrcs", "b.mrcs", "--float16") == 0
    assert read_header("b.mrcs").mode == 12


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("a.mrcs a.xyz", "'.xyz' is no ending"),
        ("a.mrcs a.eer", "'.eer' is no ending"),
        ("a.mrcs a.mrcs", "is the file that is read"),
        ("a.raw b.mrcs", "--raw_shape"),
        ("a.raw b.mrcs --raw_shape 4,4,9", "too short"),
        ("a.raw b.mrcs --raw_shape 4", "columns, rows"),
        ("none.mrcs b.mrcs", "does not exist"),
        ("a.mrcs b.spi --float16", "MRC files only"),
    ],
)
def test_mistakes_are_told_and_nothing_is_written(
    words: str, message: str, run: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    write_stack("a.mrcs", np.zeros((2, 4, 4)), 1.5)
    Path("a.raw").write_bytes(bytes(100))
    before = set(Path().iterdir())
    assert run(*words.split()) == 2
    assert message in capsys.readouterr().err
    assert set(Path().iterdir()) == before
