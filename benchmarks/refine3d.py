"""Where the time of a refinement goes, stage by stage, beside the speed of this machine measured in the same run.

    python benchmarks/refine3d.py                                             # 500 simulated particles
    python benchmarks/refine3d.py particles.star map.mrc --sym D2 --diameter 200

For each stage: seconds (its own, without the stages inside it), share, particles per second, GFLOP/s, the fraction of
the measured float32 matrix peak, and GB/s of the bytes that must be moved at least. Wall and CPU time of the whole and
the peak memory close the table. Absolute times depend on the machine; the shares and fractions are what to compare.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vitrea.compute.devices import choose_device
from vitrea.compute.precision import fast_products, measure_gemm
from vitrea.formats.mrc import write_map
from vitrea.fourier.filters import lowpass
from vitrea.jobs.base import Context
from vitrea.jobs.refine3d import run as run_refine3d
from vitrea.jobs.refinement_parameters import Refine3dParameters
from vitrea.jobs.simulate_particles import SimulateParameters
from vitrea.jobs.simulate_particles import run as simulate
from vitrea.likelihood import collection, data, expectation, maximisation, run
from vitrea.matching import candidates, dense, reference
from vitrea.reconstruction import accumulator
from vitrea.records.map import Map
from vitrea.records.recorder import SilentRecorder

Cost = Callable[..., tuple[float, float]]


@dataclass
class Stage:
    """What one stage has taken so far."""

    seconds: float = 0.0
    flops: float = 0.0
    bytes: float = 0.0
    calls: int = 0


@dataclass
class Profiler:
    """Times functions by wrapping them; time inside a wrapped function called from another counts once."""

    stages: dict[str, Stage] = field(default_factory=dict)
    stack: list[float] = field(default_factory=list)

    def wrap(self, owner: Any, name: str, label: str, cost: Cost | None = None) -> None:
        """Replace ``owner.name`` by a timed version; `cost` gives FLOPs and bytes from the call and its result."""
        inner = getattr(owner, name)
        stage = self.stages.setdefault(label, Stage())

        def timed(*args: Any, **kwargs: Any) -> Any:
            self.stack.append(0.0)
            began = time.perf_counter()
            result = inner(*args, **kwargs)
            spent = time.perf_counter() - began
            within = self.stack.pop()
            if self.stack:
                self.stack[-1] += spent
            stage.seconds += spent - within
            stage.calls += 1
            if cost is not None:
                flops, moved = cost(result, *args, **kwargs)
                stage.flops += flops
                stage.bytes += moved
            return result

        setattr(owner, name, timed)


def _dense_cost(_result: Any, search: Any, images: Any, **_: Any) -> tuple[float, float]:
    views, samples, particles = len(search.views), len(search.samples), len(images)
    flops = particles * samples * views * (4.0 * len(search.ramps) + 2.0)
    return flops, 8.0 * views * samples + 4.0 * particles * len(search.allowed) * len(search.ramps)


def _select_cost(_result: Any, scores: Any, *_: Any) -> tuple[float, float]:
    return 4.0 * scores.numel(), 16.0 * scores.numel()


def _score_cost(result: Any, scorer: Any, *_: Any, **__: Any) -> tuple[float, float]:
    rows, shifts = result.shape
    return 4.0 * rows * shifts * len(scorer.samples), 8.0 * rows * len(scorer.samples)


def _correlate_cost(result: Any, *_: Any) -> tuple[float, float]:
    samples = result[0].numel()
    return 10.0 * samples, 24.0 * samples


def _project_cost(result: Any, *_: Any) -> tuple[float, float]:
    return 55.0 * result.numel(), (64.0 + 8.0) * result.numel()


def _accumulate_cost(_result: Any, ramps: Any, *_: Any) -> tuple[float, float]:
    return 36.0 * ramps.numel(), 44.0 * ramps.numel()


def _maximise_cost(
    _result: Any, _collector: Any, _images: Any, _rows: Any, weights: Any, scorer: Any, _sums: Any
) -> tuple[float, float]:
    # Rows without weight are left out of the product with the phase ramps.
    kept = int((weights.sum(dim=1) > 0).sum())
    return 4.0 * kept * weights.shape[1] * len(scorer.samples), 8.0 * kept * len(scorer.samples)


def _backproject_cost(_result: Any, _accumulator: Any, sums: Any, *_: Any) -> tuple[float, float]:
    return 90.0 * sums.numel(), 2 * 8 * 12.0 * sums.numel()


def instrument(profiler: Profiler) -> None:
    """Wrap the stages of a refinement."""
    profiler.wrap(data.ImagePreparer, "prepare", "read, mask, transform images; CTF")
    profiler.wrap(dense.DenseSearch, "_agreements", "coarse products (all orientations)", _dense_cost)
    profiler.wrap(dense, "significant_orientations", "coarse softmax and selection", _select_cost)
    profiler.wrap(reference.Reference, "project", "project the reference", _project_cost)
    profiler.wrap(candidates, "correlate_rows", "fine pass: conj(P) X", _correlate_cost)
    profiler.wrap(candidates.RowScorer, "score", "fine pass: products with phase ramps", _score_cost)
    profiler.wrap(expectation, "normalise_rows", "fine softmax")
    profiler.wrap(collection.Collector, "_maximise", "sum over translations (products)", _maximise_cost)
    profiler.wrap(collection, "accumulate_rows", "sum per orientation, noise, scale", _accumulate_cost)
    profiler.wrap(accumulator.FourierAccumulator, "add", "backproject", _backproject_cost)
    profiler.wrap(expectation, "local_candidates", "neighbours for local searches")
    profiler.wrap(maximisation.Maximiser, "halves", "symmetrise, reconstruct, FSC")
    profiler.wrap(maximisation.Maximiser, "joined", "symmetrise, reconstruct, FSC")
    profiler.wrap(run, "reference_from_map", "map to Fourier grid")
    profiler.wrap(run, "estimate_accuracy", "estimate accuracy of poses")
    profiler.wrap(expectation.Expectation, "_block", "everything else in the expectation step")


def report(profiler: Profiler, particle_passes: int, peak: float, wall: float, cpu: float) -> None:
    """Print the table."""
    print(f"{'stage':42s} {'s':>8s} {'share':>6s} {'part./s':>9s} {'GFLOP/s':>8s} {'of peak':>8s} {'GB/s':>7s}")
    for label, stage in sorted(profiler.stages.items(), key=lambda item: -item[1].seconds):
        seconds = max(stage.seconds, 1e-9)
        speed = stage.flops / seconds / 1e9
        rate = f"{speed:8.1f} {speed / peak:8.2f}" if speed else " " * 17
        moved = f"{stage.bytes / seconds / 1e9:7.1f}" if stage.bytes else ""
        print(f"{label:42s} {seconds:8.2f} {seconds / wall:6.1%} {particle_passes / seconds:9.0f} {rate} {moved}")
    rest = wall - sum(stage.seconds for stage in profiler.stages.values())
    print(f"{'files, start-up of the job, the rest':42s} {rest:8.2f} {rest / wall:6.1%}")
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"wall {wall:.1f} s, CPU {cpu:.1f} s, peak memory {memory:.0f} MiB, {particle_passes} particle passes")


class CountingRecorder(SilentRecorder):
    """Counts iterations and says how they go."""

    def event(self, name: str, **values: object) -> None:
        """Print the course of the run."""
        super().event(name, **values)
        if name == "iteration":
            keys = ("iteration", "resolution_angstrom", "healpix_order", "current_size", "seconds")
            print("  ".join(f"{key}={values[key]}" for key in keys), flush=True)


def simulated_inputs(folder: Path, particles: int = 500) -> tuple[Path, Path]:
    """Simulate particles of a D2-symmetric map of blobs; return the STAR file and a start map at 50 Å."""
    size, pixel_size = 64, 3.54
    z, y, x = (np.indices((size,) * 3) - size // 2) * pixel_size
    density = np.zeros((size,) * 3)
    for centre in np.random.default_rng(1).uniform(5, 50, size=(40, 3)):
        for signs in ((1, 1, 1), (-1, -1, 1), (-1, 1, -1), (1, -1, -1)):
            cx, cy, cz = centre * signs
            density += np.exp(-((x - cx) ** 2 + (y - cy) ** 2 + (z - cz) ** 2) / (2 * 3.5**2))
    truth = Map(density.astype(np.float32), pixel_size)
    write_map(folder / "map.mrc", truth)
    start = lowpass(torch.from_numpy(truth.voxels), 50.0, pixel_size).numpy()
    write_map(folder / "start.mrc", truth.with_voxels(start))
    simulate(SimulateParameters(map=folder / "map.mrc", output=folder, number=particles, snr=0.1), Context())
    return folder / "particles.star", folder / "start.mrc"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("particles", type=Path, nargs="?")
    parser.add_argument("reference", type=Path, nargs="?")
    parser.add_argument("--sym", default="D2")
    parser.add_argument("--diameter", type=float, default=200.0)
    parser.add_argument("--ini-high", type=float, default=50.0)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=0)
    arguments = parser.parse_args()
    device = choose_device(arguments.device)
    peak32 = measure_gemm(device, torch.float32, size=2048, seconds=1.0)
    with fast_products():
        fast = measure_gemm(device, torch.float32, size=2048, seconds=1.0)
    peak16 = measure_gemm(device, torch.bfloat16, size=2048, seconds=1.0)
    peak = max(peak32, fast)
    print(f"matrix products, GFLOP/s: float32 {peak32:.0f}, in the coarse pass {fast:.0f}, bfloat16 {peak16:.0f}")
    profiler, recorder = Profiler(), CountingRecorder()
    instrument(profiler)
    with tempfile.TemporaryDirectory() as folder:
        star, start = arguments.particles, arguments.reference
        if star is None or start is None:
            star, start = simulated_inputs(Path(folder))
        parameters = Refine3dParameters(
            particles=star,
            reference=start,
            output=Path(folder) / "run",
            symmetry=arguments.sym,
            particle_diameter=arguments.diameter,
            initial_low_pass=arguments.ini_high,
            device=arguments.device,
            threads=arguments.threads,
        )
        began, cpu = time.perf_counter(), time.process_time()
        run_refine3d(parameters, Context(recorder=recorder))
        wall, cpu = time.perf_counter() - began, time.process_time() - cpu
    iterations = [values for name, values in recorder.events if name == "iteration"]
    particles = round(float(str(iterations[0]["particles_per_second"])) * float(str(iterations[0]["seconds"])))
    report(profiler, particles * len(iterations), peak, wall, cpu)


if __name__ == "__main__":
    main()
