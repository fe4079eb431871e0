"""Local resolution of a simulated map: seconds of each step beside the floor of its Fourier transforms.

    python benchmarks/localres.py [--size 256] [--voxel 1.06] [--sampling 25] [--minres 2.4] [--diameter 0.6]

Processor time of one thread. The floor is the transforms each step cannot do without (5/2 N log2 N operations for a
real one), at the speed a transform of the whole box reaches in the same run. RELION transforms whole boxes, five for
each window. The peak of memory is the process's, the maps of the benchmark included (64 MiB each at 256³).
"""

from __future__ import annotations

import argparse
import math
import resource
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from scipy.fft import next_fast_len

from vitrea.fourier.transforms import to_fourier
from vitrea.maps.local_filter import filter_by_map, filter_in_windows, sharpened_transform, window_filters
from vitrea.maps.local_fsc import local_fsc
from vitrea.maps.local_ratio_test import ratio_test_resolution
from vitrea.maps.local_windows import window_lattice
from vitrea.maps.masking import sphere_mask


def timed(action: Callable[[], Any]) -> tuple[Any, float]:
    start = time.process_time()
    result = action()
    return result, time.process_time() - start


def operations(size: int) -> float:
    return 2.5 * size**3 * 3 * math.log2(size)


def report(name: str, seconds: float, transforms: float, rate: float) -> None:
    floor = transforms / rate
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{name:36s} {seconds:8.1f} s   floor {floor:7.1f} s   {seconds / floor:5.1f} x   peak so far {peak:.0f} MiB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--voxel", type=float, default=1.06)
    parser.add_argument("--sampling", type=float, default=25.0)
    parser.add_argument("--minres", type=float, default=2.4)
    parser.add_argument("--diameter", type=float, default=0.6, help="of the particle, in boxes")
    options = parser.parse_args()
    torch.set_num_threads(1)
    size, voxel = options.size, options.voxel
    rng = np.random.default_rng(0)
    mask = sphere_mask(size, 0.5 * options.diameter * size, 5.0)
    signal = rng.standard_normal((size,) * 3, dtype=np.float32) * mask
    halves = [signal + 0.5 * rng.standard_normal(signal.shape, dtype=np.float32) for _ in range(2)]
    to_fourier(torch.from_numpy(signal), 3)
    _, once = timed(lambda: to_fourier(torch.from_numpy(signal), 3))
    rate = operations(size) / once
    print(f"{size}^3 voxels of {voxel} Å; a transform takes {once:.2f} s: {rate / 1e9:.1f} GFLOP/s; one thread")
    for name, kept in (("all windows", None), ("windows in the mask", mask)):
        lattice = window_lattice(size, voxel, options.sampling, mask=kept)
        box = min(size, int(next_fast_len(int(1.5 * lattice.width), real=True)))
        count = len(lattice.centres)
        local, seconds = timed(lambda lattice=lattice: local_fsc(*halves, voxel, lattice))
        print(f"{name}: {count} windows of {lattice.width}^3 in boxes of {box}^3")
        report("  FSC in windows", seconds, 4 * count * operations(box) + 12 * operations(size), rate)
        print(f"  RELION's transforms of whole boxes would take {5 * count * operations(size) / rate:.0f} s")
    transform, _ = timed(lambda: sharpened_transform(*halves, voxel, -50.0))
    _, seconds = timed(lambda: filter_in_windows(transform, local, window_filters(local)))
    report("filtered in windows", seconds, operations(size), rate)
    _, seconds = timed(lambda: filter_by_map(transform, voxel, local.resolution_map()))
    report("filtered by a map of resolutions", seconds, operations(size), rate)
    levels = [options.minres * 1.05**step for step in range(36)]
    # Of noise alone: no voxel passes, so that every wavelength is tested.
    noise = [rng.standard_normal(signal.shape, dtype=np.float32) for _ in range(2)]
    _, seconds = timed(lambda: ratio_test_resolution(*noise, voxel, mask > 0.5, levels))
    boxes = [min(size, math.ceil(5 * size * voxel / level)) for level in levels]
    transforms = sum(18 * operations(box) + operations(size) for box in boxes)
    report(f"likelihood ratios, {len(levels)} wavelengths", seconds, transforms, rate)


if __name__ == "__main__":
    main()
