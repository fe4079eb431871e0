"""Time a particle STAR file of a million rows: reading, writing, conversions; starfile (if installed) in the same run.

Processor seconds of this one process are shown, which other programs on the machine disturb less than the clock. The
floor is what reading the bytes and splitting them into words takes, with nothing made of the words.

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

from vitrea.formats.particle_files import read_particles, write_particles
from vitrea.formats.star import read_star, write_star
from vitrea.jobs.base import Context
from vitrea.jobs.star_convert import StarConvertParameters
from vitrea.jobs.star_convert import run as convert
from vitrea.jobs.star_select import StarSelectParameters
from vitrea.jobs.star_select import run as select
from vitrea.records.optics import Optics
from vitrea.records.particles import Particles
from vitrea.records.table import Table


def make_table(rows: int) -> Table:
    random = np.random.default_rng(1)
    image_names = np.array([f"{i % 200 + 1:06d}@Extract/job012/mic{i // 200:05d}.mrcs" for i in range(rows)], object)
    micrographs = np.array([f"MotionCorr/job002/mic{i // 200:05d}.mrc" for i in range(rows)], object)
    labels = ("rlnOriginXAngst", "rlnOriginYAngst", "rlnAngleRot", "rlnAnglePsi", "rlnDefocusAngle")
    return Table(
        {
            "rlnImageName": image_names,
            "rlnMicrographName": micrographs,
            "rlnOpticsGroup": np.ones(rows, np.int64),
            "rlnRandomSubset": random.integers(1, 3, rows),
            **{label: np.round(random.normal(0, 100, rows), 6) for label in labels},
            "rlnAngleTilt": np.round(random.uniform(0, 180, rows), 6),
            **{label: np.round(random.uniform(5e3, 5e4, rows), 6) for label in ("rlnDefocusU", "rlnDefocusV")},
        }
    )


def seconds(action: Callable[[], object]) -> float:
    start = time.process_time()
    action()
    return time.process_time() - start


def main() -> None:
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    table = make_table(rows)
    optics = (Optics(1.5, 128, 300.0, 2.7, 0.1),)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = folder / "particles.star"
        write_particles(path, Particles(table, optics))
        print(f"{rows} rows x {len(table.columns)} columns, {path.stat().st_size / 1e6:.0f} MB; processor seconds")
        print(f"floor     read and split {seconds(lambda: list(map(str.split, path.open()))):6.2f}")
        read = seconds(lambda: read_star(path))
        print(f"vitrea    read {read:6.2f}   write {seconds(lambda: write_star(folder / 'w.star', {'': table})):6.2f}")
        print(f"particles read {seconds(lambda: read_particles(path, require_images=False)):6.2f}")
        if importlib.util.find_spec("starfile"):
            import starfile

            peer = seconds(lambda: starfile.read(path))
            print(f"starfile  read {peer:6.2f}   ratio vitrea/starfile {read / peer:.2f}")
        where = ["DefocusU < 20000 and MicrographName.contains('1.mrc')"]
        chosen = StarSelectParameters(input=path, output=folder / "s.star", where=where)
        print(f"select    {seconds(lambda: select(chosen, Context())):6.2f}")
        for output, kind in (("flat.star", "relion1.3"), ("x.cistem", None), ("x.cs", None), ("x.par", None),
                             ("x.xmd", None), ("x.lst", None)):  # fmt: skip
            parameters = StarConvertParameters(input=path, output=folder / output, to_kind=kind)
            print(f"convert   to {output:10} {seconds(lambda p=parameters: convert(p, Context())):6.2f}")
        for source in ("flat.star", "x.cistem", "x.cs", "x.xmd"):
            parameters = StarConvertParameters(input=folder / source, output=folder / "back.star")
            print(f"convert from {source:10} {seconds(lambda p=parameters: convert(p, Context())):6.2f}")


if __name__ == "__main__":
    main()
