"""How long motion correction takes on one core, beside what its transforms and its bytes need at least.

    python benchmarks/motion.py                      # 1024 x 1024, 8 frames, as the peers below were measured
    python benchmarks/motion.py --size 4096 --frames 40

CPU seconds of this process, not wall time, so that other work on the machine counts little. The floor is one
transform of each frame forwards and one of each sum backwards, timed in the same run; and one reading of the frames
and one writing of the sums at the machine's speed of copying. Peers, one core of a server CPU, 1024 x 1024 x 8, whole
frames: Unblur 2.0 0.48 s, RELION's own 0.47 s.
"""

from __future__ import annotations

import argparse
import math
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("NUMBA_NUM_THREADS", "1")

import numpy as np
import torch

from vitrea.formats.gain import FrameCorrection
from vitrea.formats.mrc import write_stack
from vitrea.jobs.base import Context
from vitrea.jobs.motion import MotionParameters
from vitrea.jobs.motion import run as run_motion
from vitrea.motion.correction import CorrectionSettings, correct_movie
from vitrea.motion.sums import Exposure
from vitrea.records.recorder import SilentRecorder

PIXEL = 1.05  # Å
PEERS = {"Unblur 2.0": 0.48, "RELION": 0.47}


def seconds(action: Callable[[], object], repeats: int) -> float:
    """Return the least CPU time of several runs, after one that warms caches."""
    action()
    taken = []
    for _ in range(repeats):
        began = time.process_time()
        action()
        taken.append(time.process_time() - began)
    return min(taken)


def make_frames(size: int, frames: int) -> np.ndarray:
    """Return counts of a texture that drifts: 1.5 electrons a pixel, 8 bits."""
    rng = np.random.default_rng(1)
    ky, kx = np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)
    transform = np.fft.rfft2(rng.normal(size=(size, size))) / (1 + (20 * np.hypot(ky, kx)) ** 2)
    transform[0, 0] = 0
    spread = np.fft.irfft2(transform, s=(size, size)).std()
    movie = np.empty((frames, size, size), dtype=np.uint8)
    for frame in range(frames):
        moved = np.fft.irfft2(transform * np.exp(-2j * np.pi * (kx * 0.7 - ky * 0.4) * frame), s=(size, size))
        movie[frame] = rng.poisson(np.maximum(0, 1.5 * (1 + 0.1 * moved / spread)))
    return movie


def floor(movie: np.ndarray, sums: int) -> tuple[float, float, float]:
    """Return GFLOP of the transforms, their seconds at this machine's speed, and seconds to copy what must move."""
    frames, size, _ = movie.shape
    image = torch.from_numpy(movie[0].astype(np.float32))
    half = torch.fft.rfft2(image)
    forwards = seconds(lambda: torch.fft.rfft2(image), 5)
    backwards = seconds(lambda: torch.fft.irfft2(half, s=image.shape), 5)
    copy = seconds(lambda: image.clone(), 5)
    operations = 2.5 * size**2 * math.log2(size**2)
    moved = frames * movie[0].nbytes + sums * image.nbytes
    return (frames + sums) * operations / 1e9, frames * forwards + sums * backwards, copy * moved / image.nbytes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    movie = make_frames(options.size, options.frames)
    correction = FrameCorrection((options.size, options.size))
    exposure = Exposure(1.5)
    kinds = {
        "whole frames, one sum": (CorrectionSettings(), 1),
        "whole frames, weighted sum": (CorrectionSettings(exposure=exposure, plain=False), 1),
        "5 x 5 patches, weighted sum": (CorrectionSettings(exposure=exposure, plain=False, patches=(5, 5)), 1),
        "5 x 5 patches, both, spectrum": (
            CorrectionSettings(exposure=exposure, patches=(5, 5), spectrum_group=4), 2,
        ),
    }  # fmt: skip
    print(f"{options.size} x {options.size} pixels, {options.frames} frames; CPU seconds of one core")
    print(f"{'':32s}{'seconds':>9s}{'FFT floor':>11s}{'GFLOP':>8s}{'bytes floor':>13s}{'x floor':>9s}")
    for name, (settings, sums) in kinds.items():
        taken = seconds(
            lambda s=settings: correct_movie(  # type: ignore[misc]
                movie.__getitem__, len(movie), correction, PIXEL, s, torch.device("cpu")
            ),
            options.repeats,
        )
        operations, transforms, copies = floor(movie, sums)
        ratio = taken / (transforms + copies)
        print(f"{name:32s}{taken:9.3f}{transforms:11.3f}{operations:8.2f}{copies:13.4f}{ratio:9.1f}")
    print(f"{'whole job, per movie':32s}{job_seconds(movie):9.3f}   reading, sums, motion file, picture; of 4 movies")
    if (options.size, options.frames) == (1024, 8):
        for peer, published in PEERS.items():
            print(f"{peer + ', whole frames':32s}{published:9.3f}   as measured on another machine")


def job_seconds(movie: np.ndarray) -> float:
    """Return CPU seconds a movie of the job as users run it, without the interpreter's start."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        count = 4
        for number in range(count):
            write_stack(folder / f"movie{number}.mrcs", movie, PIXEL)
        parameters = MotionParameters(
            input=(str(folder / "*.mrcs"),), output=folder / "out", pixel_size=PIXEL, voltage=300.0, patch_x=1,
            patch_y=1, threads=1, device="cpu",
        )  # fmt: skip
        return seconds(lambda: run_motion(parameters, Context(SilentRecorder())), 1) / count


if __name__ == "__main__":
    main()
