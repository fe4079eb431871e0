"""Time the extraction of particles against the floor: reading the micrographs and writing the boxes, and nothing else.

Usage: python benchmarks/extraction.py [MICROGRAPHS]

Both are done on the same files in the same run, one after the other, several times; the best of each counts. Every
file is flushed to the disk, as extraction does. Processor seconds are given as well: they depend less on what else the
machine does.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from vitrea.formats.mrc import open_stack, write_stack
from vitrea.formats.star import write_star
from vitrea.formats.star_values import text_column
from vitrea.jobs.base import Context
from vitrea.jobs.extract import run
from vitrea.jobs.extract_parameters import ExtractParameters
from vitrea.records.table import Table

SIZE, BOX, PICKS, REPEATS = 4096, 256, 300, 3
CASES = {
    "raw": {},
    "normalised": {"normalise": True},
    "normalised, 256 -> 64": {"normalise": True, "scale": 64},
}


def make_input(folder: Path, count: int) -> None:
    rng = np.random.default_rng(1)
    names = [f"mic{number}.mrc" for number in range(count)]
    for number, name in enumerate(names):
        write_stack(folder / name, rng.normal(10, 3, (SIZE, SIZE)).astype(np.float32), 1.0)
        places = rng.uniform(BOX / 2, SIZE - BOX / 2, (2, PICKS))
        columns = dict(zip(("rlnCoordinateX", "rlnCoordinateY"), places, strict=True))
        write_star(folder / f"mic{number}_pick.star", {"": Table(columns)})
    write_star(folder / "mics.star", {"": Table({"rlnMicrographName": text_column(names)})})


def floor(folder: Path, count: int, side: int) -> None:
    """Read every micrograph and write as many bytes as its boxes have."""
    boxes = np.zeros((PICKS, side, side), dtype=np.float32)
    for number in range(count):
        np.array(open_stack(folder / f"mic{number}.mrc")[0])
        with (folder / f"floor{number}.bin").open("wb") as file:
            file.write(boxes.data)
            file.flush()
            os.fsync(file.fileno())


def best(action: Callable[[], None]) -> tuple[float, float]:
    """Return the least wall-clock and processor seconds of several runs."""
    times = []
    for _ in range(REPEATS):
        start, cpu = time.perf_counter(), time.process_time()
        action()
        times.append((time.perf_counter() - start, time.process_time() - cpu))
    return min(wall for wall, _ in times), min(cpu for _, cpu in times)


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 4
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_input(folder, count)
        print(f"{count} micrographs of {SIZE} x {SIZE}, {PICKS} boxes of {BOX} each, one thread")
        for case, options in CASES.items():
            side = int(options.get("scale", BOX))
            megabytes = count * (SIZE**2 + PICKS * side**2) * 4 / 1e6
            given = {"input": [folder / "mics.star"], "coordinate_suffix": "_pick.star", "output": folder / "Out"}
            parameters = ExtractParameters(**given, box_size=BOX, pixel_size=1.0, threads=1, **options)
            wall, cpu = best(lambda parameters=parameters: run(parameters, Context()))  # type: ignore[misc]
            floor_wall, floor_cpu = best(lambda side=side: floor(folder, count, side))  # type: ignore[misc]
            print(
                f"{case:<22} {wall:6.2f} s ({cpu:.2f} s processor)   {megabytes:5.0f} MB, floor {floor_wall:.2f} s "
                f"({floor_cpu:.2f})   ratio {wall / floor_wall:.1f}, processor {cpu / floor_cpu:.1f}   "
                f"{count * PICKS / cpu:.0f} particles a processor second"
            )


if __name__ == "__main__":
    main()
