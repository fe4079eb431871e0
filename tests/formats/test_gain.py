"""Gain references and defects mean what they mean in RELION."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile

from vitrea.formats.gain import (
    ORIENTATIONS,
    FrameCorrection,
    GainOrientation,
    fit_gain,
    read_defects,
    read_frame_correction,
    read_gain,
    write_gain,
)
from vitrea.formats.movies import open_movie
from vitrea.formats.mrc import write_stack
from vitrea.records.errors import InputError

GAIN = np.random.default_rng(7).uniform(0.7, 1.4, size=(6, 9)).astype(np.float32)


def test_the_eight_orientations_are_all_there_and_turn_as_relion_does() -> None:
    image = np.array([[1, 2, 3], [4, 5, 6]])
    # One quarter turn is clockwise with the first row on top: the first column, upwards, becomes the first row.
    np.testing.assert_array_equal(GainOrientation(1).turn(image), [[4, 1], [5, 2], [6, 3]])
    np.testing.assert_array_equal(GainOrientation(0, 1).turn(image), [[4, 5, 6], [1, 2, 3]])
    np.testing.assert_array_equal(GainOrientation(0, 2).turn(image), [[3, 2, 1], [6, 5, 4]])
    # Rotated first, flipped then.
    np.testing.assert_array_equal(GainOrientation(1, 1).turn(image), [[6, 3], [5, 2], [4, 1]])
    square = np.arange(9).reshape(3, 3)
    assert len({one.turn(square).tobytes() for one in ORIENTATIONS}) == 8
    assert str(GainOrientation(3, 1)) == "--gain_rot 3 --gain_flip 1"


def test_gain_files_multiply_and_divide_as_in_relion(tmp_path: Path) -> None:
    gain = GAIN.copy()
    gain[2, 3] = 0
    write_stack(tmp_path / "gain.mrc", gain, 1.0)
    np.testing.assert_array_equal(read_gain(tmp_path / "gain.mrc"), gain)
    # For EER an MRC divides: mean over gain, the zero still being a dead pixel.
    inverse = read_gain(tmp_path / "gain.mrc", for_eer=True)
    assert inverse[2, 3] == 0
    np.testing.assert_allclose((inverse * gain)[gain > 0], gain.mean(), rtol=1e-6)
    # TIFF is turned upside down as movies are; .gain of a Falcon is not, and multiplies whatever the movies are.
    tifffile.imwrite(tmp_path / "gain.tif", gain, photometric="minisblack")
    np.testing.assert_array_equal(read_gain(tmp_path / "gain.tif"), gain[::-1])
    with tifffile.TiffWriter(tmp_path / "falcon.gain", bigtiff=True) as writer:
        writer.write(gain, photometric="minisblack", metadata=None)
        writer.write(np.zeros((4, 4), np.uint8), photometric="minisblack", metadata=None)
    for for_eer in (False, True):
        np.testing.assert_array_equal(read_gain(tmp_path / "falcon.gain", for_eer=for_eer), gain)


@pytest.mark.parametrize("for_eer", [False, True])
def test_written_gain_is_read_back_as_it_was(tmp_path: Path, for_eer: bool) -> None:
    gain = GAIN * np.mean(1 / GAIN)  # gains for EER are relative: reading scales to a mean of 1 / gain of one
    write_gain(tmp_path / "gain.mrc", gain, 1.5, for_eer=for_eer)
    np.testing.assert_allclose(read_gain(tmp_path / "gain.mrc", for_eer=for_eer), gain, rtol=1e-6)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (np.zeros((1, 4, 4)), "is no gain reference: .* zeros only"),
        (np.full((1, 4, 4), -1.0), "negative"),
        (np.full((1, 4, 4), np.nan), "infinite"),
        (np.ones((2, 4, 4)), "holds 2 images; a gain reference is one"),
    ],
)
def test_what_is_no_gain_is_refused(tmp_path: Path, content: np.ndarray, message: str) -> None:
    write_stack(tmp_path / "gain.mrc", content, 1.0)
    with pytest.raises(InputError, match=message):
        read_gain(tmp_path / "gain.mrc")
    with pytest.raises(InputError, match="dm2mrc"):
        read_gain(tmp_path / "gain.dm4")


def test_gain_of_another_sampling_is_fitted() -> None:
    fine = np.repeat(np.repeat(GAIN, 2, axis=0), 2, axis=1)
    np.testing.assert_array_equal(fit_gain(GAIN, (12, 18)), fine)
    fine[5, 7] = 0
    coarse = fit_gain(fine, (6, 9))
    assert coarse is not None
    assert coarse[2, 3] == 0  # dead in part is dead
    coarse[2, 3] = GAIN[2, 3]
    np.testing.assert_allclose(coarse, GAIN, rtol=1e-6)
    assert fit_gain(GAIN, (6, 8)) is None
    assert fit_gain(GAIN, (9, 6)) is None


def test_defects_as_text_and_as_a_map(tmp_path: Path) -> None:
    text = tmp_path / "defects.txt"
    text.write_text("# x y w h\n3 1 2 4\n\n8 0 5 1\n-1 5 2 1\n")
    truth = np.zeros((6, 9), dtype=bool)
    truth[1:5, 3:5] = truth[0, 8] = truth[5, 0] = True
    np.testing.assert_array_equal(read_defects(text, (6, 9)), truth)
    write_stack(tmp_path / "map.mrc", truth.astype(np.float32), 1.0)
    np.testing.assert_array_equal(read_defects(tmp_path / "map.mrc", (6, 9)), truth)
    tifffile.imwrite(tmp_path / "map.tif", truth[::-1].astype(np.uint8), photometric="minisblack")
    np.testing.assert_array_equal(read_defects(tmp_path / "map.tif", (6, 9)), truth)
    with pytest.raises(InputError, match=r"the defect map .*map\.mrc has 9 x 6 pixels, the frames 9 x 7"):
        read_defects(tmp_path / "map.mrc", (7, 9))
    text.write_text("3 1 2\n")
    with pytest.raises(InputError, match="line 1: '3 1 2' is not x y width height"):
        read_defects(text, (6, 9))
    text.write_text("CameraSizeX 5760\nBadColumns 3 4\n")
    with pytest.raises(InputError, match="SerialEM's list of defects"):
        read_defects(text, (6, 9))


def test_frames_are_multiplied_and_dead_pixels_filled_from_living_neighbours() -> None:
    rng = np.random.default_rng(0)
    shape = (40, 60)
    gain = rng.uniform(0.5, 2.0, size=shape).astype(np.float32)
    gain[10, 10] = 0
    defects = np.zeros(shape, dtype=bool)
    defects[:, 30:33] = True  # a wide dead column
    defects[20:35, 0:15] = True  # a dead corner, far from the living
    frame = rng.poisson(50, size=shape).astype(np.uint8)
    correction = FrameCorrection(shape, gain, defects)
    corrected = correction.apply(frame, 3)
    alive = ~correction.dead
    assert correction.dead.sum() == 1 + 40 * 3 + 15 * 15
    assert corrected.dtype == np.float32
    np.testing.assert_allclose(corrected[alive], (frame * gain)[alive], rtol=1e-6)
    # What fills is the corrected value of a living pixel at most two columns and rows away.
    near = corrected[8:13, 8:13][alive[8:13, 8:13]]
    assert corrected[10, 10] in near
    for row in range(2, 18):
        around = (slice(row - 2, row + 3), slice(28, 35))
        assert corrected[row, 30] in corrected[around][alive[around]]
    assert np.isin(corrected[correction.dead], corrected[alive]).all()
    # The same frame is always filled alike; another frame is not.
    np.testing.assert_array_equal(correction.apply(frame, 3), corrected)
    assert (correction.apply(frame, 4) != corrected).any()
    # Noise of the filled pixels is that of their surroundings.
    flat = FrameCorrection(shape, None, defects)
    filled = np.stack([flat.apply(rng.normal(7, 2, size=shape), n) for n in range(60)])[:, defects]
    assert filled.mean() == pytest.approx(7, abs=0.1)
    assert filled.std() == pytest.approx(2, abs=0.1)


def test_hot_pixels_are_added_and_misfits_refused() -> None:
    hot = np.zeros((8, 8), dtype=bool)
    hot[3, 3] = True
    correction = FrameCorrection((8, 8), np.ones((8, 8), np.float32)).with_dead_pixels(hot)
    frame = np.ones((8, 8), np.float32)
    frame[3, 3] = 1000
    assert correction.apply(frame, 0).max() == 1
    with pytest.raises(ValueError, match="do not fit frames of shape"):
        FrameCorrection((8, 9), np.ones((8, 8), np.float32))
    with pytest.raises(ValueError, match="all pixels are dead"):
        FrameCorrection((2, 2), None, np.ones((2, 2), bool))


def test_movie_and_gain_of_one_camera_agree(tmp_path: Path) -> None:
    """A TIFF movie and a TIFF gain written alike cancel each other, whatever way up both are."""
    counts = (600 / GAIN).round().astype(np.uint16)
    tifffile.imwrite(
        tmp_path / "movie.tif", np.stack([counts] * 2), compression="lzw", metadata=None, photometric="minisblack"
    )
    tifffile.imwrite(tmp_path / "gain.tif", GAIN, photometric="minisblack")
    with open_movie(tmp_path / "movie.tif") as movie:
        correction = FrameCorrection(movie.header.shape[1:], read_gain(tmp_path / "gain.tif"))
        np.testing.assert_allclose(correction.apply(movie.read(1), 1), 600, atol=0.71)


def test_corrections_are_read_from_files_and_must_fit(tmp_path: Path) -> None:
    gain = GAIN.copy()
    gain[0, 0] = 0
    write_stack(tmp_path / "gain.mrc", gain, 1.0)
    (tmp_path / "defects.txt").write_text("3 4 1 2\n")
    correction = read_frame_correction(tmp_path / "gain.mrc", tmp_path / "defects.txt", (6, 9))
    assert sorted(zip(*np.nonzero(correction.dead), strict=True)) == [(0, 0), (4, 3), (5, 3)]
    finer = read_frame_correction(tmp_path / "gain.mrc", "", (12, 18), for_eer=True)
    assert finer.dead.sum() == 4
    assert finer.gain is not None
    np.testing.assert_allclose(finer.gain[2, 2] / finer.gain[4, 4], gain[2, 2] / gain[1, 1], rtol=1e-5)
    with pytest.raises(InputError, match=r"gain\.mrc has 9 x 6 pixels, the frames 9 x 7"):
        read_frame_correction(tmp_path / "gain.mrc", "", (7, 9))
    assert read_frame_correction("", "", (7, 9)).gain is None
