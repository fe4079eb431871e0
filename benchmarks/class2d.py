"""Class averages of many particles on disk: time an iteration, and show what memory it takes for each number.

Every set is made of the same few noisy discs and bars in small boxes, so that what grows is the number of particles
alone; micrographs hold 500 particles each. Each run is a process of its own, whose peak memory is read from the system.

Usage: python benchmarks/class2d.py [NUMBER ...]
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from vitrea.formats.mrc import StackWriter
from vitrea.formats.star import write_star
from vitrea.records.table import Table

BOX, PIXEL_SIZE, PER_MICROGRAPH, CHUNK = 16, 8.0, 500, 20_000
RUN = """
import resource, sys
from vitrea.cli.main import main
code = 0
try:
    code = main()
except SystemExit as done:
    code = done.code
print("PEAK", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
sys.exit(code)
"""


def shapes() -> np.ndarray:
    """A disc and two bars, each in many orientations, of unit power."""
    axis = np.arange(BOX) - BOX // 2
    y, x = np.meshgrid(axis, axis, indexing="ij")
    found = []
    for angle in np.radians(np.arange(0, 180, 15)):
        along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
        found += [np.exp(-((along / 4) ** 2) - (across / 1.5) ** 2), np.exp(-((along / 2.5) ** 2) - (across / 2) ** 2)]
    found.append(np.exp(-(x**2 + y**2) / 8.0))
    stack = np.stack(found)
    return stack / stack.std(axis=(1, 2), keepdims=True)


def write_set(folder: Path, number: int) -> Path:
    random, signal = np.random.default_rng(1), shapes()
    stack = folder / "particles.mrcs"
    with StackWriter(stack, PIXEL_SIZE, mode=12) as writer:
        for start in range(0, number, CHUNK):
            count = min(CHUNK, number - start)
            chosen = signal[random.integers(len(signal), size=count)]
            images = 0.5 * chosen + random.standard_normal((count, BOX, BOX), dtype=np.float32)
            writer.append(images.astype(np.float32))
    rows = np.arange(number)
    particles = Table(
        {
            "rlnImageName": np.array([f"{i + 1}@{stack}" for i in rows], object),
            "rlnMicrographName": np.array([f"micrograph{i // PER_MICROGRAPH:05d}.mrc" for i in rows], object),
            "rlnOpticsGroup": np.ones(number, np.int64),
        }
    )
    optics = Table(
        {
            "rlnOpticsGroup": np.array([1]),
            "rlnVoltage": np.array([300.0]),
            "rlnSphericalAberration": np.array([2.7]),
            "rlnAmplitudeContrast": np.array([0.1]),
            "rlnImagePixelSize": np.array([PIXEL_SIZE]),
            "rlnImageSize": np.array([BOX]),
            "rlnImageDimensionality": np.array([2]),
        }
    )
    path = folder / "particles.star"
    write_star(path, {"optics": optics, "particles": particles})
    return path


def main() -> None:
    numbers = [int(word) for word in sys.argv[1:]] or [10_000, 100_000, 1_000_000]
    print(f"{'particles':>10} {'images MB':>10} {'wall s':>8} {'peak MiB':>9}")
    for number in numbers:
        with tempfile.TemporaryDirectory() as name:
            star = write_set(Path(name), number)
            command = [
                sys.executable, "-c", RUN, "class2d", "--i", str(star), "--o", f"{name}/run", "--K", "5", "--iter", "3",
                "--schedule", "batches", "--particles_per_class", "2000", "--psi_step", "15", "--no-ctf",
                "--offset_range", "2", "--offset_step", "1", "--start_resolution", "60", "--finish_resolution", "20",
                "--quiet",
            ]  # fmt: skip
            began = time.perf_counter()
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                sys.exit(done.stderr)
            peak = int(done.stdout.rsplit("PEAK", 1)[1]) / 1024
            wall = time.perf_counter() - began
            print(f"{number:>10} {number * BOX * BOX * 2 / 1e6:>10.0f} {wall:>8.1f} {peak:>9.0f}", flush=True)


if __name__ == "__main__":
    main()
