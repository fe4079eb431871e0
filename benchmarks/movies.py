"""Reading movies against what decompression and the disk ask for: headers of thousands of files, frames, gain.

Run: ``python benchmarks/movies.py``. Times are processor times of one thread; floors are measured in the same run.
"""

from __future__ import annotations

import argparse
import struct
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import imagecodecs
import numpy as np
import tifffile

from vitrea.formats.gain import FrameCorrection
from vitrea.formats.movies import EerRendering, open_movie, read_movie_header
from vitrea.formats.mrc import write_stack
from vitrea.formats.tiff import read_tiff_pages

DECODERS = {
    "lzw": imagecodecs.lzw_decode,
    "zlib": imagecodecs.deflate_decode,
    "zstd": imagecodecs.zstd_decode,
}


def seconds(action: Callable[[], object], repeats: int = 7) -> float:
    """Return the least processor time of some runs."""
    times = []
    for _ in range(repeats):
        start = time.process_time()
        action()
        times.append(time.process_time() - start)
    return min(times)


def headers(folder: Path, count: int) -> None:
    rng = np.random.default_rng(0)
    frames = rng.poisson(1, size=(40, 64, 64)).astype(np.uint8)
    kinds = {"tif": 40, "mrc": 40}
    for number in range(count):
        if number < count // 2:
            tifffile.imwrite(
                folder / f"{number}.tif", frames, compression="lzw", metadata=None, photometric="minisblack"
            )
        else:
            write_stack(folder / f"{number}.mrc", frames.astype(np.float32), 1.0)
    for ending, pages in kinds.items():
        paths = sorted(folder.glob(f"*.{ending}"))
        ours = seconds(lambda paths=paths: [read_movie_header(path) for path in paths]) / len(paths)
        floor = seconds(lambda paths=paths: [path.open("rb").read(1024) for path in paths]) / len(paths)
        print(f"headers of {pages}-frame {ending} movies: {ours * 1e3:.2f} ms a file, {1 / ours:,.0f} files/s; "
              f"opening and reading 1 kB: {floor * 1e3:.3f} ms")  # fmt: skip
        if ending == "tif":
            whole = seconds(lambda paths=paths: [_with_tifffile(path) for path in paths[:100]], 1) / min(
                100, len(paths)
            )
            print(f"  the same with tifffile, all pages: {whole * 1e3:.2f} ms, {whole / ours:.1f} times as long")


def _with_tifffile(path: Path) -> int:
    with tifffile.TiffFile(path) as file:
        return sum(page.dataoffsets[-1] + page.databytecounts[-1] for page in file.pages)


def frames_of_tiff(folder: Path, size: int) -> None:
    rng = np.random.default_rng(0)
    counts = rng.poisson(0.8, size=(6, size, size)).astype(np.uint8)
    gain = rng.normal(1, 0.05, size=(size, size)).astype(np.float32)
    correction = FrameCorrection((size, size), gain)
    for name, decode in DECODERS.items():
        path = folder / f"{name}.tif"
        tifffile.imwrite(path, counts, compression=name, rowsperstrip=64, metadata=None, photometric="minisblack")
        pages = read_tiff_pages(path)
        content = path.read_bytes()
        strips = [content[o : o + n] for o, n in zip(pages[1].offsets, pages[1].counts, strict=True)]
        floor = seconds(lambda strips=strips, decode=decode: [decode(strip, out=64 * size) for strip in strips])
        with open_movie(path) as movie:
            ours = seconds(lambda movie=movie: movie.read(1))
        print(f"TIFF {name}: {ours * 1e3:.1f} ms a frame of {size}² bytes, bare decoder {floor * 1e3:.1f} ms: "
              f"{ours / floor:.2f} of the floor")  # fmt: skip
    frame = counts[0]
    ours = seconds(lambda: correction.apply(frame, 0))
    source, target = np.empty((size, size), np.float64), np.empty((size, size), np.float64)
    copying = seconds(lambda: np.copyto(target, source)) / (2 * source.nbytes)
    moved = frame.nbytes + gain.nbytes + 4 * frame.size
    print(f"gain: {ours * 1e3:.1f} ms a frame, {moved / ours / 1e9:.1f} GB/s of 9 bytes a pixel; "
          f"copying moves {1 / copying / 1e9:.1f} GB/s")  # fmt: skip


def eer(folder: Path, size: int) -> None:
    """Render frames of an EER movie of 0.03 electrons a pixel and raw frame."""
    rng = np.random.default_rng(0)
    raw, bits = 8, 11
    content = bytearray(struct.pack("<2sHHHQ", b"II", 43, 8, 0, 0))
    link, streams = 8, []
    for _ in range(raw):
        skips = np.minimum(rng.geometric(0.03, size=int(0.0295 * size * size)) - 1, 126).astype(np.int64)
        words = skips | rng.integers(16, size=len(skips)) << 7
        stream = (words[:, None] >> np.arange(bits) & 1).astype(np.uint8)
        data = np.packbits(stream.reshape(-1), bitorder="little").tobytes()
        streams.append(data + b"\0" * (len(data) % 2))
        offset = len(content)
        content += data
        tags = [(256, 4, 1, size), (257, 4, 1, size), (259, 3, 1, 65001), (273, 16, 1, offset), (279, 16, 1, len(data))]
        struct.pack_into("<Q", content, link, len(content))
        content += struct.pack("<Q", len(tags)) + b"".join(struct.pack("<HHQQ", *tag) for tag in tags)
        link = len(content)
        content += struct.pack("<Q", 0)
    path = folder / "movie.eer"
    path.write_bytes(content)
    counts = np.zeros((size, size), np.uint16)
    floor = seconds(lambda: [imagecodecs.eer_decode(data, counts.shape, 7, 2, 2, out=counts) for data in streams])
    with open_movie(path, EerRendering(raw)) as movie:
        ours = seconds(lambda: movie.read(0))
    print(f"EER: {ours / raw * 1e3:.1f} ms a raw frame of {size}², bare decoder {floor / raw * 1e3:.1f} ms: "
          f"{ours / floor:.2f} of the floor")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=2000)
    parser.add_argument("--size", type=int, default=2048)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        headers(Path(folder), arguments.files)
        frames_of_tiff(Path(folder), arguments.size)
        eer(Path(folder), arguments.size)


if __name__ == "__main__":
    main()
