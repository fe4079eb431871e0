"""Images of particle sets: the right pixels in the right order, and headers checked before a run."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest

from vitrea.formats import images as module
from vitrea.formats.images import ParticleImages, find_bad_images
from vitrea.formats.mrc import open_stack, write_stack
from vitrea.formats.particle_files import read_particles
from vitrea.records.errors import InputError
from vitrea.records.recorder import SilentRecorder

MakeSet = Callable[..., Path]


def test_images_come_in_the_order_asked_for(make_set: MakeSet, tmp_path: Path) -> None:
    images = ParticleImages(read_particles(make_set()))
    a, b = open_stack(tmp_path / "a.mrcs"), open_stack(tmp_path / "b.mrcs")
    truth = np.stack([a[0], a[1], b[0]])
    assert (len(images), images.box_size, images.pixel_size) == (3, 8, 1.5)
    assert [path.name for path in images.paths] == ["a.mrcs", "b.mrcs"]
    for rows in ([0, 1, 2], [2, 0, 1], [1, 1, 2, 0, 2], [], [-1]):
        loaded = images.load(rows)
        assert loaded.dtype == np.float32
        np.testing.assert_array_equal(loaded, truth[np.array(rows, int)])
    np.testing.assert_array_equal(images.load(np.array([True, False, True])), truth[[0, 2]])


def test_half_precision_and_many_stacks(tmp_path: Path, make_set: MakeSet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_OPEN_STACKS", 2)
    particles = read_particles(make_set())
    truth = np.random.default_rng(1).normal(size=(6, 8, 8)).astype(np.float16)
    for i, image in enumerate(truth):
        write_stack(tmp_path / f"s{i}.mrcs", image, 1.5, mode=12)
    many = particles.rows([0] * 6).with_columns({"rlnImageName": np.array([f"1@s{i}.mrcs" for i in range(6)], object)})
    images = ParticleImages(many)
    images.check()
    order = [5, 0, 3, 1, 4, 2, 0, 5]
    np.testing.assert_array_equal(images.load(order), truth[order].astype(np.float32))
    assert len(images._open) == 2


def test_check_accepts_headers_without_pixel_size(make_set: MakeSet, tmp_path: Path) -> None:
    images = ParticleImages(read_particles(make_set()))
    for size in (0.0, 1.0):
        write_stack(tmp_path / "a.mrcs", np.ones((2, 8, 8)), size)
        recorder = SilentRecorder()
        images.check(recorder)
        assert recorder.warnings == []


def test_check_warns_of_rounding(make_set: MakeSet, tmp_path: Path) -> None:
    images = ParticleImages(read_particles(make_set()))
    write_stack(tmp_path / "a.mrcs", np.ones((2, 8, 8)), 1.51)
    recorder = SilentRecorder()
    images.check(recorder)
    assert len(recorder.warnings) == 1
    assert "1.51 Å" in recorder.warnings[0]


def damage_pixel_size(folder: Path) -> None:
    write_stack(folder / "a.mrcs", np.ones((2, 8, 8)), 1.52)


def damage_box(folder: Path) -> None:
    write_stack(folder / "a.mrcs", np.ones((2, 9, 9)), 1.5)


def damage_shape(folder: Path) -> None:
    write_stack(folder / "a.mrcs", np.ones((2, 9, 8)), 1.5)


def damage_count(folder: Path) -> None:
    write_stack(folder / "a.mrcs", np.ones((1, 8, 8)), 1.5)


def damage_length(folder: Path) -> None:
    content = (folder / "a.mrcs").read_bytes()
    (folder / "a.mrcs").write_bytes(content[:-10])


def damage_presence(folder: Path) -> None:
    (folder / "a.mrcs").unlink()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (damage_pixel_size, r"header of .*a\.mrcs is 1\.52 Å, but rlnImagePixelSize of .*particles\.star is 1\.5 Å"),
        (damage_box, r"a\.mrcs are 9 x 9 pixels, but rlnImageSize of .*particles\.star is 8"),
        (damage_shape, r"a\.mrcs are 8 x 9 pixels; particle images must be square"),
        (damage_count, r"000002@a\.mrcs of .*particles\.star asks for image 2, but .*a\.mrcs holds 1"),
        (damage_length, r"a\.mrcs is truncated .* need 1536 bytes, the file has 1526"),
        (damage_presence, r"a\.mrcs does not exist"),
    ],
)
def test_check_finds_what_is_wrong(
    make_set: MakeSet, tmp_path: Path, damage: Callable[[Path], None], message: str
) -> None:
    images = ParticleImages(read_particles(make_set()))
    images.check()
    damage(tmp_path)
    with pytest.raises(InputError, match=message):
        images.check()
    if damage is not damage_pixel_size:
        with pytest.raises(InputError, match=message):
            images.load([0, 1, 2])


def test_check_counts_the_damaged(make_set: MakeSet, tmp_path: Path) -> None:
    images = ParticleImages(read_particles(make_set()))
    write_stack(tmp_path / "a.mrcs", np.ones((2, 9, 9)), 1.5)
    write_stack(tmp_path / "b.mrcs", np.ones((1, 9, 9)), 1.5)
    with pytest.raises(InputError, match=r"1 more of 2 stacks"):
        images.check()


def test_missing_stack_is_named_with_the_folder(make_set: MakeSet) -> None:
    particles = read_particles(make_set(("@b.mrcs", "@c.mrcs")))
    with pytest.raises(InputError, match=r"c\.mrcs does not exist \(looked in"):
        ParticleImages(particles)


def test_optics_groups_must_agree(make_set: MakeSet) -> None:
    particles = read_particles(make_set())
    first, second = particles.optics
    with pytest.raises(InputError, match=r"differ in rlnImageSize \(8, 10\)"):
        ParticleImages(replace(particles, optics=(first, replace(second, image_size=10))))
    with pytest.raises(InputError, match=r"differ in rlnImagePixelSize by more than 1% \(1\.5 and 1\.6\)"):
        ParticleImages(replace(particles, optics=(first, replace(second, pixel_size=1.6))))
    with pytest.raises(InputError, match="rlnImageSize is not known"):
        ParticleImages(replace(particles, optics=tuple(replace(g, image_size=0) for g in particles.optics)))
    with pytest.raises(InputError, match="the particle set lacks the column rlnImageName"):
        ParticleImages(replace(particles, table=particles.table.without("rlnImageName"), source=None))
    # A group no particle belongs to does not matter.
    alone = replace(particles.rows([0, 2]), optics=(first, replace(second, image_size=10)))
    assert ParticleImages(alone).box_size == 8
    assert ParticleImages(replace(particles, optics=(first, replace(second, pixel_size=1.51)))).pixel_size == 1.5


def test_bad_images_are_listed_by_name(make_set: MakeSet, tmp_path: Path) -> None:
    particles = read_particles(make_set())
    pixels = np.random.default_rng(0).normal(size=(5, 8, 8)).astype(np.float32)
    pixels[1, 3, 3] = np.nan
    pixels[2] = 7.0
    pixels[4, 0, 0] = -np.inf
    write_stack(tmp_path / "a.mrcs", pixels, 1.5)
    names = np.array([f"{i + 1:06d}@a.mrcs" for i in range(5)], object)
    images = ParticleImages(particles.rows([0] * 5).with_columns({"rlnImageName": names}))
    for chunk in (1, 2, 100):
        found = find_bad_images(images, chunk)
        assert [(bad.index, bad.name) for bad in found] == [(1, names[1]), (2, names[2]), (4, names[4])]
        assert [bad.reason for bad in found] == [
            "NaN or infinite pixels",
            "all pixels are equal",
            "NaN or infinite pixels",
        ]


def test_real_particles(shared_data: Path) -> None:
    images = ParticleImages(read_particles(shared_data / "betagal_real" / "particles.star"))
    images.check()
    assert (len(images), images.box_size) == (2374, 64)
    assert find_bad_images(images) == []
    # Normalised as RELION does: unit deviation outside the particle, so a little more over the whole image.
    assert 0.9 < images.load(np.arange(0, 2374, 100)).std() < 1.5


@pytest.mark.skipif(not hasattr(psutil.Process, "memory_maps"), reason="the system does not tell")
def test_what_was_read_does_not_stay_in_memory(make_set: MakeSet, tmp_path: Path) -> None:
    """Reading all of a stack does not make it part of the process; its images can be read again."""
    stack = np.random.default_rng(1).normal(size=(16384, 8, 8)).astype(np.float32)  # 4 MiB
    particles = read_particles(make_set())
    write_stack(tmp_path / "a.mrcs", stack, 1.5)
    names = np.array([f"{i + 1}@a.mrcs" for i in range(len(stack))], object)
    images = ParticleImages(particles.rows([0] * len(stack)).with_columns({"rlnImageName": names}))
    for _ in range(2):
        np.testing.assert_array_equal(images.load(np.arange(len(stack))), stack)
        held = [item.rss for item in psutil.Process().memory_maps() if item.path == str(tmp_path / "a.mrcs")]
        assert held and sum(held) < stack.nbytes / 16
