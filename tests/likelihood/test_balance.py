"""Handicaps that keep classes equally large."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from vitrea.likelihood.balance import handicaps
from vitrea.likelihood.scheme import Scheme
from vitrea.likelihood.settings import Settings


def _posterior(evidence: np.ndarray) -> np.ndarray:
    weight = np.exp(evidence - evidence.max(axis=1, keepdims=True))
    share: np.ndarray = weight / weight.sum(axis=1, keepdims=True)
    return share


def test_handicaps_take_away_what_acts_on_all_particles_alike() -> None:
    """Particles of three classes in equal parts, told apart by 4 ± 2 nats; one class is 5 nats too attractive."""
    rng = np.random.default_rng(1)
    truth = np.repeat([0, 1, 2], 400)
    evidence = rng.normal(0.0, 2.0, (1200, 3))
    evidence[np.arange(1200), truth] += 4.0
    fair = _posterior(evidence).argmax(axis=1)
    unfair = evidence + np.array([0.0, 5.0, -1.0]) + rng.normal(0.0, 1000.0, (1200, 1))
    found = handicaps(unfair)
    assert (unfair.argmax(axis=1) == truth).mean() < 0.6
    even = _posterior(unfair + found)
    np.testing.assert_allclose(even.mean(axis=0), 1 / 3, atol=1e-3)
    assert (even.argmax(axis=1) == truth).mean() > (fair == truth).mean() - 0.01
    # Up to a constant they undo what was added; the classes are not equally large by chance alone, hence the tolerance.
    np.testing.assert_allclose(found - found[0], [0.0, -5.0, 1.0], atol=0.4)


@pytest.mark.parametrize("behind", [20.0, 300.0, 5000.0])
def test_a_class_that_nobody_likes_gets_its_share(behind: float) -> None:
    """However far it is behind: those particles that like it best, relative to what others do."""
    rng = np.random.default_rng(3)
    evidence = rng.normal(0.0, 5.0, (300, 3)) - np.array([0.0, 0.0, behind])
    found = handicaps(evidence)
    assert np.isfinite(found).all()
    np.testing.assert_allclose(_posterior(evidence + found).mean(axis=0), 1 / 3, atol=2e-3)


def test_particles_that_all_weigh_the_same_share_themselves_out() -> None:
    evidence = np.tile([0.0, -40.0], (50, 1))
    np.testing.assert_allclose(handicaps(evidence), [-20.0, 20.0], atol=1e-3)


def test_classes_that_take_no_part_have_no_handicap() -> None:
    rng = np.random.default_rng(2)
    evidence = np.log(rng.dirichlet([3.0, 1.0, 1.0], 200))
    evidence[:, 1] = -np.inf
    found = handicaps(evidence)
    assert found[1] == 0
    np.testing.assert_allclose(found[0], -found[2], atol=1e-6)
    even = _posterior(evidence[:, [0, 2]] + found[[0, 2]])
    np.testing.assert_allclose(even.mean(axis=0), 0.5, atol=1e-3)


@pytest.mark.parametrize("planar", [True, False])
def test_a_balanced_run_has_even_classes(planar: bool, simulate: Callable[..., Any]) -> None:
    """The other reference is hardly there; without handicaps few particles like it."""
    simulation = simulate(200, 24, snr=0.1, scales=np.ones(1))
    settings = Settings(
        particle_diameter=80.0, healpix_order=1, offset_range=4.0, offset_step=4.0, oversampling=0, maximum_iterations=2
    )
    whole = simulation.map.sum(axis=0) if planar else simulation.map
    shares = {}
    for balanced in (0.0, 1.0):
        run = simulation.classification(settings, Scheme(2, planar, psi_step=15.0, occupancy=True, balanced=balanced))
        state = run.step(run.start([whole, 0.1 * whole], simulation.particles()))
        shares[balanced] = state.particles.occupancy.mean(axis=0)
    assert shares[0.0][0] > 0.65
    # All particles are among those that the balance is found from; posteriors leave out what is hardly probable.
    np.testing.assert_allclose(shares[1.0], 0.5, atol=0.005)


def test_classes_are_free_where_poses_are_known(simulate: Callable[..., Any]) -> None:
    """A rare state must not be filled up with others: the balance changes nothing there."""
    simulation = simulate(60, 24, snr=0.1, scales=np.ones(1))
    settings = Settings(particle_diameter=80.0, healpix_order=1, oversampling=0, maximum_iterations=2)
    found = []
    for balanced in (0.0, 1.0):
        run = simulation.classification(settings, Scheme(2, False, search="none", occupancy=True, balanced=balanced))
        particles = simulation.particles(known=True)
        found.append(run.step(run.start([simulation.map, 0.1 * simulation.map], particles)).particles.occupancy)
    np.testing.assert_array_equal(found[0], found[1])
    assert found[0].mean(axis=0)[0] > 0.6
