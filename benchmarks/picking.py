"""Template picking: seconds a micrograph beside the floor of its arithmetic and its bytes, start-up paid once.

    python benchmarks/picking.py [--size 1240 1200] [--references 7] [--lowpass 20] [--full]

Times are of one thread. The floor is the time the FFTs (5 N log2 N operations each way), the matrix product of the
templates and the traffic of the score maps take at what this machine reaches in a matrix product and in a copy,
measured in the same run. With --full the search is as dense as `--shrink 1` makes it, a sixth of the
low-pass resolution, and is compared with RELION's at the micrograph's own sampling: the scores are the same band.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable

import numpy as np
import torch

from vitrea.picking.picker import Filters, Limits, Searcher, candidates
from vitrea.picking.templates import turned_templates

RELION = {False: 2.0, True: 25.0}  # seconds of RELION 5 on one core of such a machine, 7 references at 5 degrees


def seconds(action: Callable[[], object], rounds: int = 3) -> float:
    """Return the processor time of the fastest of several rounds."""
    best = math.inf
    for _ in range(rounds):
        start = time.process_time()
        action()
        best = min(best, time.process_time() - start)
    return best


def machine() -> tuple[float, float]:
    """Return operations a second of a matrix product, and bytes a second of a copy."""
    a, b = torch.randn(512, 128), torch.randn(128, 4096)
    block = torch.empty(1 << 25)
    product = seconds(lambda: [a @ b for _ in range(10)]) / 10
    copy = seconds(lambda: block.clone())
    return 2 * 512 * 128 * 4096 / product, 2 * 4 * (1 << 25) / copy


def fft_operations(shape: tuple[int, int]) -> float:
    size = shape[0] * shape[1]
    return 2.5 * size * math.log2(size)  # real transforms: half


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, nargs=2, default=(1240, 1200))
    parser.add_argument("--pixel", type=float, default=1.5)
    parser.add_argument("--references", type=int, default=7)
    parser.add_argument("--lowpass", type=float, default=20.0)
    parser.add_argument("--step", type=float, default=5.0)
    parser.add_argument("--diameter", type=float, default=130.0)
    parser.add_argument("--full", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    micrograph = rng.standard_normal(options.size, dtype=np.float32)
    references = torch.nn.functional.avg_pool2d(
        torch.from_numpy(rng.standard_normal((options.references, 120, 120), dtype=np.float32)), 9, 1, 4
    ).numpy()
    filters = Filters(
        options.lowpass,
        2 * options.diameter,
        options.diameter / 2,
        pixel_size=options.lowpass / 6 if options.full else 0.0,
    )

    def make(sizes: tuple[float, float]) -> object:
        return turned_templates(references, options.pixel, sizes, options.diameter, options.lowpass, options.step)

    searcher = Searcher(filters, make)  # type: ignore[arg-type]
    first = seconds(lambda: searcher.search(micrograph, options.pixel), 1)
    found = searcher.search(micrograph, options.pixel)
    each = seconds(lambda: searcher.search(micrograph, options.pixel))
    peaks = seconds(lambda: candidates(found, Limits(0.7 * options.diameter), options.pixel))
    (bank,) = searcher._banks.values()
    rank, templates = len(bank.templates.basis), len(bank.templates.psi)
    pixels = found.score.size
    flops, bandwidth = machine()
    transforms = fft_operations(options.size) + rank * fft_operations(bank.shape)
    product = 2.0 * templates * rank * pixels
    traffic = 4.0 * (micrograph.size * 4 + rank * bank.shape[0] * bank.shape[1] * 4 + templates * pixels)
    floor = (transforms + product) / flops + traffic / bandwidth
    print(f"{options.size[0]} x {options.size[1]} pixels searched at {found.score.shape[1]} x {found.score.shape[0]}")
    print(f"{templates} templates from {rank} transforms (RELION: {templates} transforms)")
    print(f"machine: {flops / 1e9:.0f} GFLOP/s in products, {bandwidth / 1e9:.1f} GB/s in copies")
    print(f"search {each:.3f} s, peaks {peaks:.3f} s; the first, with its templates, {first:.2f} s")
    giga = f"FFT {transforms / 1e9:.2f} GFLOP, product {product / 1e9:.2f} GFLOP, {traffic / 1e6:.0f} MB"
    print(f"floor {floor:.3f} s: {giga}; the search takes {each / floor:.1f} times as long")
    relion = RELION[options.full]
    print(f"RELION 5, measured elsewhere on such a machine: {relion:g} s, {relion / (each + peaks):.1f} times as long")


if __name__ == "__main__":
    main()
