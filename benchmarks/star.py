"""Time reading and writing a particle STAR file of a million rows, against starfile (if installed) in the same run.

Usage: python benchmarks/star.py [ROWS]
"""

from __future__ import annotations

import importlib.util
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from vitrea.formats.star import read_star, write_star
from vitrea.records.table import Table


def make_table(rows: int) -> Table:
    random = np.random.default_rng(1)
    image_names = np.array([f"{i % 200 + 1:06d}@Extract/job012/mic{i // 200:05d}.mrcs" for i in range(rows)], object)
    micrographs = np.array([f"MotionCorr/job002/mic{i // 200:05d}.mrc" for i in range(rows)], object)
    labels = ("rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi", "rlnOriginXAngst", "rlnOriginYAngst", "rlnDefocusU")
    return Table(
        {
            "rlnImageName": image_names,
            "rlnMicrographName": micrographs,
            "rlnOpticsGroup": np.ones(rows, np.int64),
            "rlnRandomSubset": random.integers(1, 3, rows),
            **{label: np.round(random.normal(0, 100, rows), 6) for label in labels},
        }
    )


def seconds(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def main() -> None:
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    table = make_table(rows)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "particles.star"
        written = seconds(lambda: write_star(path, {"particles": table}))
        size = path.stat().st_size / 1e6
        read = seconds(lambda: read_star(path))
        print(f"{rows} rows x {len(table.columns)} columns, {size:.0f} MB")
        print(f"vitrea    read {read:6.2f} s   write {written:6.2f} s")
        if importlib.util.find_spec("starfile"):
            import starfile

            peer = seconds(lambda: starfile.read(path))
            print(f"starfile  read {peer:6.2f} s   ratio vitrea/starfile {read / peer:.2f}")


if __name__ == "__main__":
    main()
