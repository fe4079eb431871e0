"""Memory of a run over many particles on disk: does it stay flat in their number?

Every set is made of the same few noisy discs and bars in small boxes, so that what grows is the number of particles
alone; micrographs hold 500 particles each. Each run is a process of its own, whose peak memory the system tells.
Printed beside it is the floor: the images, none of which need stay in memory.

    python benchmarks/memory.py [NUMBER ...]
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
usage = resource.getrusage(resource.RUSAGE_SELF)
print("PEAK", usage.ru_maxrss / 1024, usage.ru_utime + usage.ru_stime)
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
            "rlnCoordinateX": random.uniform(0, 4000, number),
            "rlnCoordinateY": random.uniform(0, 4000, number),
            "rlnDefocusU": random.uniform(1e4, 2e4, number),
            "rlnDefocusV": random.uniform(1e4, 2e4, number),
            "rlnDefocusAngle": random.uniform(0, 180, number),
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
    print(
        f"{'particles':>10} {'images MiB':>11} {'STAR MiB':>9} {'wall s':>8} {'CPU s':>7} {'peak MiB':>9} {'B each':>7}"
    )
    smallest: tuple[int, float] | None = None
    for number in numbers:
        with tempfile.TemporaryDirectory() as name:
            star = write_set(Path(name), number)
            command = [
                sys.executable, "-c", RUN, "class2d", "--i", str(star), "--o", f"{name}/run", "--K", "2", "--iter", "3",
                "--schedule", "auto", "--psi_step", "30", "--offset_range", "1", "--offset_step", "1",
                "--start_resolution", "60", "--finish_resolution", "30", "--quiet",
            ]  # fmt: skip
            began = time.perf_counter()
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            wall = time.perf_counter() - began
            if done.returncode:
                sys.exit(done.stderr)
            peak, cpu = (float(word) for word in done.stdout.rsplit("PEAK", 1)[1].split())
            smallest = smallest or (number, peak)
            each = (peak - smallest[1]) * 2**20 / (number - smallest[0]) if number > smallest[0] else float("nan")
            images, table = (path.stat().st_size / 2**20 for path in (star.with_suffix(".mrcs"), star))
            print(f"{number:>10} {images:>11.0f} {table:>9.0f} {wall:>8.1f} {cpu:>7.1f} ", end="")
            print(f"{peak:>9.0f} {each:>7.0f}", flush=True)


if __name__ == "__main__":
    main()
