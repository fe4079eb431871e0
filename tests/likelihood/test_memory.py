"""The memory plan against what a refinement comes to hold.

Linux tells the most that a process has held since it was last asked (VmHWM, reset by clear_refs). Sizes are such that
every stage takes many megabytes; what a stage loads or compiles when it runs for the first time is not counted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vitrea.compute.memory import return_freed_memory, return_large_blocks
from vitrea.likelihood.expectation import Expectation
from vitrea.likelihood.maximisation import Maximiser
from vitrea.likelihood.memory import (
    LARGEST_WORKING_MEMORY,
    SMALLEST_WORKING_MEMORY,
    refinement_memory,
    working_memory,
)
from vitrea.likelihood.refinement import Refinement, matching_prior
from vitrea.likelihood.search import Search
from vitrea.likelihood.settings import Settings
from vitrea.likelihood.state import RunState

_CLEAR, _STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")
SIZE, COUNT, WORKING = 48, 60, 12 << 20
SETTINGS = Settings(particle_diameter=150.0, healpix_order=2, auto_local_healpix_order=3, initial_resolution=30.0)


def _held(field: str) -> int:
    lines = dict(line.split(":", 1) for line in _STATUS.read_text().splitlines())
    return int(lines[field].split()[0]) << 10


def _most_held(stage: Callable[[], Any]) -> tuple[int, Any]:
    """Bytes that a stage comes to hold beyond what there was, and its result."""
    try:
        _CLEAR.write_text("5")
    except OSError:  # not Linux, or a container that forbids it
        pytest.skip("the peak of this process's memory cannot be measured here")
    result = stage()
    return _held("VmHWM"), result


def _sums(run: Refinement, state: RunState, sigma: float, count: int) -> Any:
    """The expectation step of both halves, as `Refinement.step` goes about it."""
    sampling = replace(state.sampling, healpix_order=3 if sigma else 2)
    poses, preparer, sums = run.poses(sampling), run.preparer(SIZE // 2), []
    for half, model in enumerate(state.models):
        expectation = Expectation(
            run.data, run.settings, matching_prior(model, poses.direction_count), run.references(model, SIZE // 2),
            Search(poses, sigma), preparer, memory=WORKING, seed=1, recorder=run.recorder,
        )  # fmt: skip
        sums.append(expectation.run(np.flatnonzero(state.particles.half == half + 1)[:count], state.particles))
        del expectation
        return_freed_memory()
    return sums


def _models(run: Refinement, state: RunState, sums: Any) -> Any:
    models = tuple(matching_prior(model, sums[0].directions.shape[1]) for model in state.models)
    halves = Maximiser(run.data, run.settings, run.solvent_mask).halves(tuple(sums), models, run.join_radius)
    run.evidence(halves)
    return halves


@pytest.mark.parametrize(("stage", "sigma"), [pytest.param("global", 0.0, marks=pytest.mark.slow), ("local", 7.0)])
def test_the_plan_is_what_a_refinement_takes(stage: str, sigma: float, simulate: Callable[..., Any]) -> None:
    """Within a quarter, though posteriors so broad that scores fill their share are the most that can happen."""
    return_large_blocks()
    simulation = simulate(COUNT, SIZE, snr=0.3)
    run = simulation.refinement(SETTINGS, WORKING)
    state = run.start(simulation.map, simulation.particles(known=True))
    plan = dict(refinement_memory(run.data, SETTINGS, WORKING))
    _models(run, state, _sums(run, state, sigma, 10))
    return_freed_memory()
    before = _held("VmRSS")
    held, sums = _most_held(lambda: _sums(run, state, sigma, COUNT))
    expectation = next(size for name, size in plan.items() if stage in name)
    assert held - before == pytest.approx(expectation, rel=0.25)
    held, _ = _most_held(lambda: _models(run, state, sums))
    assert held - before == pytest.approx(plan["reconstruction"], rel=0.25)
    assert plan["reconstruction"] > 20 << 20


def test_working_memory_follows_the_box_and_what_is_free() -> None:
    plenty = 1 << 40
    assert working_memory(32, plenty) == SMALLEST_WORKING_MEMORY
    assert working_memory(128, plenty) == 2 * 8 * 256**2 * 129
    assert working_memory(128, 1 << 30) == 1 << 27
    assert working_memory(1024, plenty) == LARGEST_WORKING_MEMORY
    assert working_memory(512, 0) == SMALLEST_WORKING_MEMORY
