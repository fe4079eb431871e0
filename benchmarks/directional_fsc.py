"""What the FSC by direction takes, beside its floor.

Usage: python benchmarks/directional_fsc.py [SIZE]

Times are CPU seconds of one processor. The floor is what cannot be left out: two Fourier transforms, and the sums over
all cones as one matrix product, at the speeds of a plain transform of the box and of a plain product on this machine.
"""

from __future__ import annotations

import os
import resource
import sys
import time
from collections.abc import Callable

os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"

import numpy as np
import torch

from vitrea.fourier.transforms import to_fourier
from vitrea.geometry.hemisphere import Hemisphere
from vitrea.maps.directional_filter import filter_by_direction, fsc_volume
from vitrea.maps.directional_fsc import DirectedSamples, cone_sums, directional_fsc, sphericity
from vitrea.maps.masking import sphere_mask


def seconds(name: str, action: Callable[[], object], floor: float = 0.0) -> float:
    start = time.process_time()
    action()
    taken = time.process_time() - start
    print(f"{name:38s} {taken:7.2f} s" + (f"   {taken / floor:5.1f} x the floor" if floor else ""))
    return taken


def main(size: int) -> None:
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    shared = rng.standard_normal((size,) * 3, dtype=np.float32)
    halves = [shared + rng.standard_normal((size,) * 3, dtype=np.float32) for _ in range(2)]
    directions = Hemisphere(32).vectors.astype(np.float32)
    values = rng.standard_normal((3 * (size // 2 + 1), len(directions)), dtype=np.float32)
    square = rng.standard_normal((2048, 2048), dtype=np.float32)
    square @ square
    begin = time.process_time()
    for _ in range(3):
        square @ square
    speed = 3 * 2 * 2048**3 / (time.process_time() - begin)
    work = 2.0 * values.shape[0] * len(directions) ** 2
    print(f"box of {size}; product {speed / 1e9:.0f} GFLOP/s; sums over cones {work / 1e9:.1f} GFLOP")
    transform = seconds("one Fourier transform", lambda: to_fourier(torch.from_numpy(shared), 3))
    floor = 2 * transform + work / speed
    print(f"{'floor: two transforms and the product':38s} {floor:7.2f} s")
    seconds("directions of all samples", lambda: DirectedSamples(size))
    seconds("sums over cones", lambda: cone_sums(values, directions, 20.0), work / speed)
    seconds("sphericity", lambda: sphericity(directions.astype(np.float64), np.ones(len(directions))))
    whole = seconds("FSC by direction", lambda: directional_fsc(*halves, 1.0), floor)
    mask = sphere_mask(size, size / 3, 5.0)
    seconds("the same with a mask, two draws", lambda: directional_fsc(*halves, 1.0, mask), 3 * floor)
    fsc = directional_fsc(*halves, 1.0)
    seconds("3D FSC as a map", lambda: fsc_volume(fsc))
    seconds("filtered map", lambda: filter_by_direction(shared, fsc, fsc.at(0.143)))
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"peak memory {memory:.2f} GB; {whole:.1f} s, a minute being what was asked for")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 256)
