"""Where the time of a CTF fit goes, beside its floor, and what `vitrea ctf` takes for each micrograph of twenty.

Usage: python benchmarks/ctf.py [SIZE] [MICROGRAPHS]

Times are of one processor (CPU seconds, so that other work on the machine counts little). The floor of the spectrum is
its Fourier transforms: 2.5 N log2 N operations for N real samples, at the speed of a plain transform of the same size.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = os.environ["NUMBA_NUM_THREADS"] = "1"

import numpy as np
from scipy import fft

from vitrea.formats.mrc import write_stack
from vitrea.records.optics import Optics
from vitrea.report.figures.thon_rings import FitCurves, FitPage
from vitrea.thon_rings.background import filter_width, ring_pattern
from vitrea.thon_rings.diagnostic import diagnostic_image
from vitrea.thon_rings.fit import fit_ctf
from vitrea.thon_rings.quality import normalised
from vitrea.thon_rings.samples import ctf_constants, half_plane
from vitrea.thon_rings.search import radial_range, search, sector_sums
from vitrea.thon_rings.settings import FitSettings
from vitrea.thon_rings.spectrum import amplitude_spectrum

PIXEL = 1.4
OPTICS = Optics(PIXEL, 0, 300.0, 2.7, 0.1)
SETTINGS = FitSettings()
# CTFFIND 5.0.2, one core, 1024²: seconds of the spectrum, the search, pictures and statistics, and altogether.
PEER = {"spectrum": 0.12, "fit": 0.08, "pictures": 0.3, "all": 0.5}


def thon_image(size: int, seed: int) -> np.ndarray:
    """Noise and a white specimen of defocus 1.8 / 1.7 µm."""
    rng = np.random.default_rng(seed)
    y, x = np.meshgrid(fft.fftfreq(size, PIXEL), fft.rfftfreq(size, PIXEL), indexing="ij")
    squared = y**2 + x**2
    chi = ctf_constants(OPTICS).phase(squared, 17500.0 + 500 * np.cos(2 * np.arctan2(y, x)), 0.0)
    seen = fft.rfft2(rng.standard_normal((size, size))) * np.sin(chi) * np.exp(-10 * squared)
    return (fft.irfft2(seen, s=(size, size)) + rng.standard_normal((size, size))).astype(np.float32)


def seconds(action: Callable[[], object], times: int = 9) -> float:
    action()
    taken = []
    for _ in range(times):
        start = time.process_time()
        action()
        taken.append(time.process_time() - start)
    return float(np.median(taken))


def stages(size: int) -> None:
    image = thon_image(size, 0)
    spectrum = amplitude_spectrum([image], PIXEL, 512, 1.4)
    width, radii = filter_width(spectrum, 30.0), radial_range(spectrum.box, spectrum.step, SETTINGS)
    pattern = ring_pattern(spectrum, width)
    sums = sector_sums(pattern.values, *radii)
    fit = fit_ctf(spectrum, OPTICS, SETTINGS)
    page, curves = FitPage(), fit.curves
    shown = FitCurves(curves.frequency, normalised(curves.equiphase, curves), curves.fit, curves.quality)
    picture = diagnostic_image(fit, OPTICS, spectrum.step)
    taken = {
        "spectrum": seconds(lambda: amplitude_spectrum([image], PIXEL, 512, 1.4)),
        "fit": seconds(lambda: fit_ctf(spectrum, OPTICS, SETTINGS)),
        "  background": seconds(lambda: ring_pattern(spectrum, width)),
        "  search": seconds(lambda: search(sums, OPTICS, SETTINGS, spectrum.step, radii, width, 3)),
        "pictures": seconds(lambda: diagnostic_image(fit, OPTICS, spectrum.step))
        + seconds(lambda: page.draw(picture, shown, fit.resolution, (30.0, 5.0), "name", "title")),
    }
    transform = seconds(lambda: fft.rfft2(image))
    operations = 2.5 * size**2 * np.log2(size**2)
    samples = int(half_plane(512).within(*radii).sum())
    print(f"one micrograph of {size}² pixels, one core\n\n| stage | ms | CTFFIND 5.0.2, ms (1024²) |\n|---|---|---|")
    for name, value in taken.items():
        print(f"| {name} | {1e3 * value:.1f} | {1e3 * PEER[name.strip()]:.0f} |" if name in PEER
              else f"| {name} | {1e3 * value:.1f} | |")  # fmt: skip
    speed = operations / transform / 1e9
    print(f"\nfloor of the spectrum: two transforms, {2e3 * transform:.1f} ms at {speed:.1f} GFLOP/s; "
          f"{taken['spectrum'] / (2 * transform):.1f} times that is taken")  # fmt: skip
    print(f"floor of one evaluation in the refinement: {samples} samples, a sine and a cosine each")


def command(size: int, number: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for n in range(number):
            write_stack(Path(folder) / f"mic{n:02d}.mrc", thon_image(size, n), PIXEL)
        line = ["vitrea", "ctf", "--i", f"{folder}/*.mrc", "--angpix", str(PIXEL), "--voltage", "300", "--cs", "2.7",
                "--amplitude_contrast", "0.1", "--j", "1", "--o"]  # fmt: skip
        subprocess.run([*line, f"{folder}/first.star"], check=True, capture_output=True)  # numba's cache
        used = []
        for part in (1, number):
            line[3] = f"{folder}/mic00.mrc" if part == 1 else f"{folder}/*.mrc"
            before = os.times()
            subprocess.run([*line, f"{folder}/{part}.star"], check=True, capture_output=True)
            after = os.times()
            used.append(after.children_user + after.children_system - before.children_user - before.children_system)
    each = (used[1] - used[0]) / (number - 1)
    print(f"\nvitrea ctf: {used[0]:.2f} s of CPU time for one micrograph, {used[1]:.2f} s for {number}: "
          f"{each:.3f} s for each more; CTFFIND 5.0.2 takes {PEER['all']:.1f} s for each of 1024²")  # fmt: skip


if __name__ == "__main__":
    size = int(sys.argv[1]) if len(sys.argv) > 1 else 1024
    stages(size)
    command(size, int(sys.argv[2]) if len(sys.argv) > 2 else 20)
