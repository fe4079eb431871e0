"""SPIDER and IMAGIC: bytes by the formats' own descriptions, real files of other programs, round trips, damage."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from vitrea.formats.image_stacks import open_images, read_stack_header
from vitrea.formats.images import ParticleImages
from vitrea.formats.imagic import open_imagic, write_imagic
from vitrea.formats.mrc import open_stack
from vitrea.formats.particle_files import read_particles
from vitrea.formats.spider import open_spider, read_spider_header, write_spider
from vitrea.records.errors import InputError

# The same images in the formats of four programs.
REAL = {"smallStack.stk": "smallStack.mrcs", "smallStack.img": "smallStack.mrcs", "smallStack.hed": "smallStack.mrcs",
        "smallVolume.vol": "smallStack.mrcs", "singleImage.spi": "singleImage.mrc",
        "singleImage.hed": "singleImage.mrc"}  # fmt: skip


def some_images(*shape: int) -> NDArray[np.float32]:
    return np.random.default_rng(1).normal(size=shape).astype(np.float32)


def spider_header(columns: int, rows: int, order: Literal["<", ">"], **words: float) -> bytes:
    """A header as SPIDER's manual describes it: records of a row each, at least 256 words."""
    records = -(-256 // columns)
    values = [0.0] * (records * columns)
    standard = {"w1": 1, "w2": rows, "w5": 1, "w12": columns, "w13": records, "w22": records * columns * 4,
                "w23": columns * 4}  # fmt: skip
    for name, value in {**standard, **words}.items():
        values[int(name[1:]) - 1] = value
    return struct.pack(f"{order}{len(values)}f", *values)


@pytest.mark.parametrize("name", list(REAL))
def test_files_of_other_programs_hold_the_same_images_as_mrc(name: str, shared_data: Path) -> None:
    folder = shared_data / "formats"
    assert np.array_equal(open_images(folder / name), open_stack(folder / REAL[name]))


@pytest.mark.parametrize("order", ["<", ">"])
def test_spider_image_and_stack_by_the_manual(order: Literal["<", ">"], tmp_path: Path) -> None:
    images = some_images(3, 5, 7)
    image, stack = tmp_path / "a.spi", tmp_path / "b.stk"
    data = images.astype(f"{order}f4")
    image.write_bytes(spider_header(7, 5, order, w38=1.25) + data[0].tobytes())
    single = spider_header(7, 5, order)
    body = b"".join(single + one.tobytes() for one in data)
    stack.write_bytes(spider_header(7, 5, order, w24=2, w26=3) + body)
    assert np.array_equal(open_spider(image), images[:1])
    assert np.array_equal(open_spider(stack), images)
    assert read_spider_header(image).pixel_size == 1.25
    assert read_stack_header(stack).pixel_size == 0
    volume = tmp_path / "c.vol"
    volume.write_bytes(spider_header(7, 5, order, w1=3, w5=3) + data.tobytes())
    assert read_spider_header(volume).is_volume
    assert np.array_equal(open_spider(volume), images)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(count=st.integers(1, 4), rows=st.integers(1, 70), columns=st.integers(1, 70), volume=st.booleans())
def test_what_is_written_reads_the_same(count: int, rows: int, columns: int, volume: bool, tmp_path: Path) -> None:
    images = some_images(count, rows, columns)
    write_spider(tmp_path / "a.spi", images, 1.5, volume=volume)
    write_imagic(tmp_path / "a.hed", images, volume=volume)
    assert np.array_equal(open_images(tmp_path / "a.spi"), images)
    assert np.array_equal(open_images(tmp_path / "a.img"), images)
    header = read_spider_header(tmp_path / "a.spi")
    assert (header.pixel_size, header.is_volume) == (1.5, volume)
    assert (tmp_path / "a.spi").stat().st_size == header.file_bytes


def test_imagic_integers_of_a_big_endian_machine(tmp_path: Path) -> None:
    images = np.arange(-12, 12, dtype=">i2").reshape(2, 3, 4)
    words = np.zeros((2, 256), dtype=">i4")
    words[:, 0], words[0, 1], words[:, 3] = [1, 2], 1, 1
    words[:, 12], words[:, 13] = 3, 4
    words[:, 14] = int.from_bytes(b"INTG", "big")
    (tmp_path / "a.hed").write_bytes(words.tobytes())
    (tmp_path / "a.img").write_bytes(images.tobytes())
    assert np.array_equal(open_imagic(tmp_path / "a.img"), images)


def test_damage_is_named(tmp_path: Path) -> None:
    write_spider(tmp_path / "a.stk", some_images(3, 8, 8))
    (tmp_path / "cut.stk").write_bytes((tmp_path / "a.stk").read_bytes()[:-4])
    with pytest.raises(InputError, match=r"cut\.stk is truncated.*3 images of 8 x 8"):
        open_images(tmp_path / "cut.stk")
    (tmp_path / "text.spi").write_text("not an image")
    with pytest.raises(InputError, match=r"text\.spi is not a SPIDER image"):
        open_images(tmp_path / "text.spi")
    write_imagic(tmp_path / "a.hed", some_images(3, 8, 8))
    (tmp_path / "a.img").write_bytes((tmp_path / "a.img").read_bytes()[:-4])
    with pytest.raises(InputError, match=r"a\.img is truncated"):
        open_images(tmp_path / "a.hed")
    with pytest.raises(InputError, match=r"b\.hed does not exist"):
        open_images(tmp_path / "b.img")
    raw = bytearray((tmp_path / "a.hed").read_bytes())
    raw[56:60] = b"COMP"
    (tmp_path / "a.hed").write_bytes(bytes(raw))
    with pytest.raises(InputError, match="COMP"):
        open_images(tmp_path / "a.hed")


def test_particles_in_spider_and_imagic_stacks_load(tmp_path: Path) -> None:
    images = some_images(4, 8, 8)
    write_spider(tmp_path / "a.stk", images)
    write_imagic(tmp_path / "b.hed", images)
    names = ("2@a.stk", "4@b.hed", "1@b.img")
    text = "data_\nloop_\n_rlnImageName\n_rlnPixelSize\n" + "".join(f"{name} 2.0\n" for name in names)
    (tmp_path / "p.star").write_text(text)
    particles = ParticleImages(read_particles(tmp_path / "p.star", require_ctf=False))
    particles.check()
    assert np.array_equal(particles.load([0, 1, 2]), images[[1, 3, 0]])
