"""Simulating a micrograph and a movie, beside what random numbers, transforms and compression alone take.

Run: ``python benchmarks/simulate_images.py``. Processor times of one thread; the floor is measured in the same run: for
each frame two fields of normal numbers, a field of Poisson numbers, an inverse transform on the 1.5 times finer grid of
the interpolation, and deflate; for each particle two transforms of its box.
"""

from __future__ import annotations

import tempfile
import time
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from vitrea.formats.movie_writing import write_movie
from vitrea.records.optics import Optics
from vitrea.simulate.imaging import Imaging, Session
from vitrea.simulate.motion import draw_motion
from vitrea.simulate.projections import Projector
from vitrea.simulate.shots import Shooting

PIXEL_SIZE, BOX, PARTICLES, FRAMES, MICROGRAPH, MOVIE = 1.5, 128, 80, 16, (1200, 1240), (1024, 1024)


def seconds(action: Callable[[], object], repeats: int = 3) -> float:
    """Return the least processor time of some runs."""
    times = []
    for _ in range(repeats):
        start = time.process_time()
        action()
        times.append(time.process_time() - start)
    return min(times)


def shooting(size: tuple[int, int]) -> Shooting:
    """Return a session on a shell of 120 Å that weighs about as much as apoferritin."""
    axis = (torch.arange(BOX) - BOX // 2) * PIXEL_SIZE
    radius = (axis[:, None, None].square() + axis[:, None].square() + axis.square()).sqrt()
    shell = 3.5 * torch.sigmoid((60 - radius) / 3) * torch.sigmoid((radius - 40) / 3)
    imaging = Imaging(Optics(PIXEL_SIZE, BOX, 300.0, 2.7, 0.1), exposure=24.0)
    session = Session(PARTICLES, 130.0, 65.0, 300.0, defocus=(15_000.0, 15_000.0))
    return Shooting(imaging, session, [Projector(shell, PIXEL_SIZE)], size)


def floor_of_particles() -> float:
    """Return the time of the transforms of all particles' boxes."""
    box = torch.zeros(16, 270, 270)  # 128 pixels and what 1.5 µm of defocus spreads at 3 Å
    return seconds(lambda: torch.fft.irfft2(torch.fft.rfft2(box))) / 16 * PARTICLES


def floor_of_a_frame(size: tuple[int, int], mean: float, finer: float) -> float:
    """Return the time of a frame's random numbers and of its transform."""
    random = np.random.default_rng(1)
    rows, columns = round(finer * size[0]), round(finer * size[1])
    field = torch.zeros(rows, columns // 2 + 1, dtype=torch.complex64)
    normal = seconds(lambda: random.standard_normal(size, dtype=np.float32))
    poisson = seconds(lambda: random.poisson(mean, size))
    transform = seconds(lambda: torch.fft.irfft2(field, s=(rows, columns)))
    return 2 * normal + poisson + transform


def main() -> None:
    """Print times and ratios."""
    torch.set_num_threads(1)
    still = shooting(MICROGRAPH)
    arranged = seconds(lambda: still.shot(0))
    shot = still.shot(0)
    taken = seconds(lambda: list(shot.frames(1)))
    floor = floor_of_particles() + floor_of_a_frame(MICROGRAPH, still.imaging.counts, 1.0)
    total = arranged + taken
    print(f"micrograph {MICROGRAPH[1]} x {MICROGRAPH[0]}, {len(shot.particles)} particles: {total:.2f} s ({taken:.2f} "
          f"for the counts), {total / floor:.1f} x the floor of {floor:.2f} s")  # fmt: skip
    moving = replace(still, size=MOVIE)
    movie = moving.shot(0, draw_motion((1, 0), FRAMES, 24.0, 20.0, 5.0, PIXEL_SIZE))
    list(movie.frames(2))  # compiles the interpolation
    taken = seconds(lambda: list(movie.frames(FRAMES)), 2)
    floor = FRAMES * floor_of_a_frame(MOVIE, still.imaging.counts / FRAMES, 1.5)
    print(f"movie {MOVIE[1]} x {MOVIE[0]} x {FRAMES}: {taken:.2f} s for the counts, {taken / floor:.1f} x the floor of "
          f"{floor:.2f} s")  # fmt: skip
    frames = [frame.astype(np.uint8) for frame in movie.frames(4)]
    with tempfile.TemporaryDirectory() as folder:
        written = seconds(lambda: write_movie(Path(folder) / "movie.tif", frames, PIXEL_SIZE)) / 4
    deflated = seconds(lambda: zlib.compress(frames[0].tobytes(), 6))
    print(f"writing a frame: {written:.3f} s, {written / deflated:.2f} x zlib alone")


if __name__ == "__main__":
    main()
