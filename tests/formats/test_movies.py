"""Movies of every format come back frame by frame as they were; what is broken is named."""

from __future__ import annotations

import gzip
import struct
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tifffile
from mrcfile.dtypes import HEADER_DTYPE
from numpy.typing import NDArray

from vitrea.formats.movies import EerRendering, open_movie, read_image, read_movie_header
from vitrea.formats.mrc import open_stack, write_stack
from vitrea.records.errors import InputError

FRAMES = np.random.default_rng(3).poisson(1.5, size=(4, 37, 51))


def write_mrc(path: Path, frames: NDArray[np.generic], mode: int, **fields: object) -> None:
    """Write an MRC movie by hand, in any mode."""
    header = np.zeros((), dtype=HEADER_DTYPE)
    header["nz"], header["ny"], header["nx"] = frames.shape
    header["mz"], header["my"], header["mx"] = frames.shape
    header["mode"] = mode
    header["cella"] = tuple(1.25 * n for n in frames.shape[::-1])
    header["map"], header["machst"] = b"MAP ", (0x44, 0x44, 0, 0)
    for name, value in fields.items():
        header[name] = value
    content = frames
    if mode == 101:
        even = np.pad(frames, ((0, 0), (0, 0), (0, frames.shape[2] % 2))).astype(np.uint8)
        content = even[..., ::2] | even[..., 1::2] << 4
    path.write_bytes(header.tobytes() + content.tobytes())


@pytest.mark.parametrize(
    ("mode", "dtype"), [(0, "i1"), (1, "i2"), (2, "f4"), (6, "u2"), (12, "f2"), (101, "u1")], ids=str
)
def test_mrc_movies_of_every_mode(tmp_path: Path, mode: int, dtype: str) -> None:
    path = tmp_path / "movie.mrc"
    write_mrc(path, FRAMES.astype(dtype), mode)
    with open_movie(path) as movie:
        assert movie.header.shape == FRAMES.shape
        assert movie.header.dtype == dtype
        assert movie.header.pixel_size == 1.25
        for frame, truth in zip(movie, FRAMES, strict=True):
            assert frame.dtype == dtype
            np.testing.assert_array_equal(frame, truth)
    np.testing.assert_array_equal(open_stack(path), FRAMES)
    np.testing.assert_array_equal(read_image(path), FRAMES[0].astype(np.float32))


def test_bytes_of_imod_are_unsigned_where_it_says_so(tmp_path: Path) -> None:
    frames = np.array([[[0, 100, 127, 128, 255]]], dtype=np.uint8)
    for flags, dtype in ((0, "u1"), (1, "i1")):
        extra = np.frombuffer(bytes(40) + struct.pack("<ii", 1146047817, flags) + bytes(36), "V84")[0]
        write_mrc(tmp_path / "movie.mrc", frames, 0, extra2=extra)
        with open_movie(tmp_path / "movie.mrc") as movie:
            np.testing.assert_array_equal(movie.read(0), frames[0].view(dtype))


@pytest.mark.parametrize("compression", [None, "lzw", "zlib", "zstd", "packbits"])
@pytest.mark.parametrize("dtype", ["u1", "i2", "u2", "f2", "f4"])
@pytest.mark.parametrize("bigtiff", [False, True])
def test_tiff_movies_are_turned_upside_down_as_in_relion(
    tmp_path: Path, compression: str | None, dtype: str, bigtiff: bool
) -> None:
    path = tmp_path / "movie.tif"
    tifffile.imwrite(path, FRAMES.astype(dtype), compression=compression, rowsperstrip=8, photometric="minisblack",
                     bigtiff=bigtiff, metadata=None, resolution=(1e8 / 0.83, 1e8 / 0.83), resolutionunit=3)  # fmt: skip
    with open_movie(path) as movie:
        assert movie.header.shape == FRAMES.shape
        assert movie.header.pixel_size == pytest.approx(0.83, abs=1e-4)
        for number in (2, 0, 3, 1):
            np.testing.assert_array_equal(movie.read(number), FRAMES[number, ::-1].astype(dtype))
            assert movie.read(number).dtype == dtype


def test_tiff_of_big_endian_and_with_predictor(tmp_path: Path) -> None:
    path = tmp_path / "movie.tif"
    tifffile.imwrite(path, FRAMES.astype(">u2"), byteorder=">", compression="zlib", predictor=True, metadata=None,
                     photometric="minisblack")  # fmt: skip
    with open_movie(path) as movie:
        np.testing.assert_array_equal(movie.read(3), FRAMES[3, ::-1])


def test_packed_super_resolution_frames_of_serialem_are_told_by_their_size(tmp_path: Path) -> None:
    path = tmp_path / "movie.tif"
    frame = np.zeros((7420, 3838), np.uint8)
    frame[0, :2] = (0x21, 0x43)
    tifffile.imwrite(path, frame, compression="zlib", metadata=None, photometric="minisblack")
    with open_movie(path) as movie:
        assert movie.header.shape == (1, 7420, 7676)
        counts = movie.read(0)
    assert counts.shape == (7420, 7676)
    np.testing.assert_array_equal(counts[-1, :5], [1, 2, 3, 4, 0])
    assert counts.sum() == 10


def test_compressed_mrc_movies(tmp_path: Path) -> None:
    write_mrc(tmp_path / "movie.mrc", FRAMES.astype("u2"), 6)
    path = tmp_path / "movie.mrc.gz"
    path.write_bytes(gzip.compress((tmp_path / "movie.mrc").read_bytes()))
    with open_movie(path) as movie:
        np.testing.assert_array_equal(np.stack(list(movie)), FRAMES)


def encode_eer(events: list[tuple[int, int, int]], pixels: int, bits: tuple[int, int, int]) -> bytes:
    """Encode electrons (pixel, horizontal and vertical sub-pixel) of one raw frame.

    Each is the number of pixels skipped since the last one, then the sub-pixels; the largest skip stands for itself
    alone, without an electron. The sub-pixel's upper bit is stored inverted. The last skip ends the frame.
    """
    skip_bits, horizontal, vertical = bits
    largest = (1 << skip_bits) - 1
    stream: list[int] = []

    def put(value: int, length: int) -> None:
        stream.extend(value >> bit & 1 for bit in range(length))

    def skip(gap: int) -> None:
        while gap >= largest:
            put(largest, skip_bits)
            gap -= largest
        put(gap, skip_bits)

    position = 0
    for pixel, x, y in sorted(events):
        skip(pixel - position)
        put(x ^ 1 << horizontal - 1, horizontal)
        put(y ^ 1 << vertical - 1, vertical)
        position = pixel + 1
    skip(pixels - position)
    put(0, horizontal + vertical)
    return np.packbits(np.array(stream, dtype=np.uint8), bitorder="little").tobytes()


def write_eer(
    path: Path, frames: list[list[tuple[int, int, int]]], size: int, compression: int = 65001, pixel: str = "0.8e-10"
) -> None:
    """Write an EER movie: a BigTIFF with one directory a raw frame, XML in the first."""
    bits = {65000: (8, 2, 2), 65001: (7, 2, 2), 65002: (6, 2, 2)}[compression]
    xml = f'<metadata><item name="sensorPixelSize.width" unit="m">{pixel}</item></metadata>'.encode()
    content = bytearray(struct.pack("<2sHHHQ", b"II", 43, 8, 0, 0))
    link = 8
    for number, events in enumerate(frames):
        data = encode_eer(events, size * size, bits)
        offset = len(content)
        content += data + xml
        tags = [(256, 4, 1, size), (257, 4, 1, size), (259, 3, 1, compression), (273, 16, 1, offset),
                (278, 4, 1, size), (279, 16, 1, len(data))]  # fmt: skip
        if number == 0:
            tags.append((65001, 7, len(xml), offset + len(data)))
        if compression == 65002:
            tags += [(65007, 3, 1, bits[0]), (65008, 3, 1, bits[1]), (65009, 3, 1, bits[2])]
        struct.pack_into("<Q", content, link, len(content))
        content += struct.pack("<Q", len(tags))
        for tag in tags:
            content += struct.pack("<HHQQ", *tag)
        link = len(content)
        content += struct.pack("<Q", 0)
    path.write_bytes(content)


@pytest.mark.parametrize("compression", [65000, 65001, 65002])
@pytest.mark.parametrize("upsampling", [1, 2, 4])
def test_eer_movies_are_grouped_and_rendered(tmp_path: Path, compression: int, upsampling: int) -> None:
    size, grouping, raw = 32, 3, 8
    rng = np.random.default_rng(compression + upsampling)
    pixels = [np.sort(rng.choice(size * size, size=40, replace=False)) for _ in range(raw)]
    pixels[1] = np.array([], dtype=int)  # a frame without an electron: all skips
    pixels[2] = np.array([0, size * size - 1])
    events = [[(int(p), int(rng.integers(4)), int(rng.integers(4))) for p in some] for some in pixels]
    path = tmp_path / "movie.eer"
    write_eer(path, events, size, compression)
    truth = np.zeros((raw // grouping, size * upsampling, size * upsampling), dtype=int)
    for number, some in enumerate(events[: raw // grouping * grouping]):
        for pixel, x, y in some:
            row, column = divmod(pixel, size)
            truth[
                number // grouping, row * upsampling + y * upsampling // 4, column * upsampling + x * upsampling // 4
            ] += 1
    with open_movie(path, EerRendering(grouping, upsampling)) as movie:  # type: ignore[arg-type]
        assert movie.header.raw_frames == raw
        assert movie.header.pixel_size == pytest.approx(0.8 / upsampling, abs=1e-6)
        np.testing.assert_array_equal(np.stack(list(movie)), truth)


def test_eer_events_are_encoded_as_in_the_specification() -> None:
    """The example of the format's specification (Thermo Fisher, "EER file format", the bytes that imagecodecs tests).

    7 bits of skips and one of each sub-pixel; electrons at 3 and 17, a full skip of 127, electrons at 233, 311.
    Its last five bits are no whole code: the line of 312 pixels is full.
    """
    published = np.unpackbits(np.frombuffer(b"\x03\x1b\xfc\xb1\x35\xfb", dtype=np.uint8), bitorder="little")
    events = [(3, 1, 0), (17, 1, 1), (233, 0, 1), (311, 0, 1)]
    written = np.unpackbits(np.frombuffer(encode_eer(events, 312, (7, 1, 1)), dtype=np.uint8), bitorder="little")
    np.testing.assert_array_equal(written[:43], published[:43])


def test_eer_needs_enough_raw_frames(tmp_path: Path) -> None:
    write_eer(tmp_path / "a.eer", [[(5, 0, 0)]] * 4, 16)
    with pytest.raises(InputError, match=r"a\.eer has 4 raw frames, fewer than the 40 that make one frame"):
        read_movie_header(tmp_path / "a.eer")


def movie_bytes(tmp_path: Path, kind: str) -> bytes:
    path = tmp_path / f"whole.{kind}"
    if kind == "eer":
        write_eer(path, [[(pixel, 1, 2) for pixel in range(0, 900, 7)]] * 6, 32)
    elif kind == "tif":
        tifffile.imwrite(path, FRAMES.astype(np.uint8), compression="lzw", metadata=None, photometric="minisblack")
    else:
        write_stack(path, FRAMES.astype(np.float32), 1.0)
    return path.read_bytes()


@pytest.mark.parametrize("kind", ["mrc", "tif", "eer"])
@pytest.mark.parametrize("part", [0.0, 0.005, 0.3, 0.7, 0.98])
def test_truncated_movies_are_named_by_their_headers(tmp_path: Path, kind: str, part: float) -> None:
    whole = movie_bytes(tmp_path, kind)
    path = tmp_path / f"cut.{kind}"
    path.write_bytes(whole[: int(len(whole) * part)])
    with pytest.raises(InputError, match=rf"cut\.{kind} is (truncated|not a TIFF)"):
        read_movie_header(path, EerRendering(2))


@pytest.mark.parametrize("kind", ["mrc", "tif", "eer"])
def test_frames_may_be_read_from_several_threads(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"movie.{kind}"
    path.write_bytes(movie_bytes(tmp_path, kind))
    with open_movie(path, EerRendering(2)) as movie:
        truth = list(movie)
        wanted = np.random.default_rng(0).integers(len(movie), size=60).tolist()
        with ThreadPoolExecutor(4) as pool:
            for number, frame in zip(wanted, pool.map(movie.read, wanted), strict=True):
                np.testing.assert_array_equal(frame, truth[number])


def test_a_frame_that_cannot_be_decoded_is_named(tmp_path: Path) -> None:
    path = tmp_path / "bad.tif"
    tifffile.imwrite(path, FRAMES.astype(np.uint8), compression="zlib", metadata=None, photometric="minisblack")
    with tifffile.TiffFile(path) as file:
        where = file.pages[2].dataoffsets[0]
    content = bytearray(path.read_bytes())
    content[where + 2 : where + 40] = b"\xff" * 38
    path.write_bytes(content)
    with open_movie(path) as movie:
        np.testing.assert_array_equal(movie.read(1), FRAMES[1, ::-1])
        with pytest.raises(InputError, match=r"frame 3 of .*bad\.tif cannot be decoded"):
            movie.read(2)
        with pytest.raises(IndexError, match=r"no frame 4 \(from 0\); it has 4"):
            movie.read(4)


def test_pages_that_differ_and_colours_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "movie.tif"
    with tifffile.TiffWriter(path) as writer:
        writer.write(np.zeros((8, 8), np.uint8), metadata=None)
        writer.write(np.zeros((8, 9), np.uint8), metadata=None)
    with pytest.raises(InputError, match=r"page 2 of .* is 9 x 8 pixels of type u1, the first 8 x 8 pixels of type u1"):
        read_movie_header(path)
    tifffile.imwrite(path, np.zeros((8, 8, 3), np.uint8), photometric="rgb")
    with pytest.raises(InputError, match="does not hold grey images"):
        read_movie_header(path)
    path.write_bytes(b"II*\0" + bytes(20))
    with pytest.raises(InputError, match="without a page"):
        read_movie_header(path)
    with pytest.raises(InputError, match=r"none\.tif does not exist"):
        read_movie_header(tmp_path / "none.tif")
