"""Which particles and how much detail each iteration of a classification looks at."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from vitrea.likelihood.scheme import KEPT_AT_END, KEPT_AT_START, Plan, Scheme, choose

ITERATIONS = 25


def _plans(scheme: Scheme, particles: int) -> list[Plan]:
    return [scheme.plan(iteration, ITERATIONS, particles) for iteration in range(1, ITERATIONS + 1)]


def test_em_looks_at_everything() -> None:
    assert set(_plans(Scheme(5, True), 10_000)) == {Plan(share=1.0, resolution=0.0, kept=0.0)}


def test_auto_grows_from_a_few_to_all() -> None:
    """5 x 300 of 10,000 in the first half, 30% up to three quarters, then all; detail from 40 to 8 Å."""
    plans = _plans(Scheme(5, True, "auto"), 10_000)
    shares = [plan.share for plan in plans]
    assert shares[:12] == [0.15] * 12
    assert shares[12:18] == [0.3] * 6
    assert shares[18:] == [1.0] * 7
    resolution = np.array([plan.resolution for plan in plans])
    np.testing.assert_allclose(resolution, np.linspace(40.0, 8.0, ITERATIONS))
    assert {plan.kept for plan in plans} == {0.0}
    more = _plans(Scheme(5, True, "auto", particles_per_class=1000, start_resolution=30.0), 10_000)
    assert more[0] == Plan(0.5, 30.0)
    assert more[12].share == 0.5  # never fewer than before
    assert {plan.share for plan in _plans(Scheme(50, True, "auto"), 10_000)} == {1.0}
    assert Scheme(2, True, "auto").plan(1, 1, 10_000).share < 1.0  # a single iteration is a first one


@pytest.mark.parametrize("schedule", ["em", "auto"])
def test_a_share_takes_the_place_of_the_schedules(schedule: Any) -> None:
    plans = _plans(Scheme(5, True, schedule, share=0.4), 10_000)
    assert {plan.share for plan in plans} == {0.4}
    limits = [plan.resolution for plan in _plans(Scheme(5, True, schedule), 10_000)]
    assert [plan.resolution for plan in plans] == limits


def test_batches_carry_sums_and_end_with_all_particles() -> None:
    plans = _plans(Scheme(5, True, "batches", particles_per_class=100, finish_resolution=10.0), 10_000)
    assert {plan.share for plan in plans[:-1]} == {0.05}
    kept = np.array([plan.kept for plan in plans[:-1]])
    assert kept[0] == KEPT_AT_START
    assert (np.diff(kept) > 0).all()
    assert kept[-1] < KEPT_AT_END
    assert plans[-1] == Plan()
    assert plans[-2].resolution > 10.0
    # With few particles there are no batches, and nothing to carry.
    assert {plan.kept for plan in _plans(Scheme(5, True, "batches"), 1000)} == {0.0}


@pytest.mark.parametrize(("particles", "count"), [(100, 30), (97, 30), (97, 90), (10, 10), (50, 7)])
def test_no_particle_comes_again_before_all_have_been_seen(particles: int, count: int) -> None:
    share, seen = count / particles, np.zeros(particles, dtype=int)
    for iteration in range(1, 41):
        chosen = choose(share, particles, seed=3, iteration=iteration)
        assert len(chosen) == count
        assert (np.diff(chosen) > 0).all()
        np.add.at(seen, chosen, 1)
        # Rounds of the shuffled list that are over, and those begun.
        over, begun = iteration * count // particles, -(-iteration * count // particles)
        assert over <= seen.min() and seen.max() <= begun


def test_choice_follows_the_seed() -> None:
    one = choose(0.2, 100, 1, 1)
    np.testing.assert_array_equal(one, choose(0.2, 100, 1, 1))
    assert not np.array_equal(one, choose(0.2, 100, 2, 1))
    assert not np.array_equal(one, choose(0.2, 100, 1, 2))
    np.testing.assert_array_equal(choose(1.0, 5, 1, 1), np.arange(5))
    assert len(choose(1e-6, 100, 1, 1)) == 1
