"""Whole classifications of particles whose classes are known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import ndimage

from vitrea.fourier.packed import packed_samples
from vitrea.fourier.transforms import to_real
from vitrea.geometry.euler import angular_distance, euler_to_matrix
from vitrea.likelihood.scheme import Scheme
from vitrea.likelihood.settings import Settings
from vitrea.likelihood.state import RunState
from vitrea.matching.reference import reference_from_map
from vitrea.reconstruction.accumulator import FourierAccumulator
from vitrea.simulate.scoring import score_assignment

PLANAR = Settings(particle_diameter=90.0, offset_range=10.0, offset_step=5.0, maximum_iterations=12, tau2_fudge=2.0)
SPATIAL = replace(PLANAR, healpix_order=1, offset_range=5.0, maximum_iterations=10, initial_resolution=40.0)
VIEWS = Scheme(3, planar=True, psi_step=15.0)


def _views(maps: tuple[NDArray[np.float32], ...], eulers: NDArray[np.float64]) -> NDArray[np.float32]:
    """Images of the first map as it is seen, without CTF."""
    size = maps[0].shape[0]
    samples = packed_samples(size, size // 2)
    reference = reference_from_map(torch.from_numpy(maps[0]), size // 2)
    packed = reference.project(torch.from_numpy(euler_to_matrix(eulers).astype(np.float32)), samples)
    found: NDArray[np.float32] = to_real(samples.scatter(packed), size).numpy()
    return found


def _best_correlation(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Of two images over all turns in steps of 5 degrees and all moves by whole pixels."""
    still = np.fft.rfft2(other - other.mean())
    best = 0.0
    for angle in range(0, 360, 5):
        turned = ndimage.rotate(one - one.mean(), angle, reshape=False, order=1)
        product = np.fft.irfft2(np.fft.rfft2(turned) * still.conj(), s=one.shape)
        best = max(best, float(product.max() / np.sqrt((turned**2).sum() * ((other - other.mean()) ** 2).sum())))
    return best


def _equal(one: Any, other: Any) -> bool:
    """Compare records field by field, arrays bit by bit."""
    if isinstance(one, FourierAccumulator):
        return torch.equal(one.data, other.data) and torch.equal(one.weight, other.weight)
    if hasattr(one, "__dataclass_fields__"):
        return all(_equal(getattr(one, item.name), getattr(other, item.name)) for item in fields(one))
    if isinstance(one, tuple):
        return len(one) == len(other) and all(_equal(a, b) for a, b in zip(one, other, strict=True))
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and np.array_equal(one, other)
    return bool(one == other)


@pytest.fixture(scope="module")
def few_views(mixed: Callable[..., Any]) -> tuple[Any, Any]:
    return mixed("lopsided", views=3, number=150, snr=1.0)


@pytest.mark.parametrize(("seed", "schedule"), [(1, "em"), (2, "auto")])
def test_views_are_told_apart_from_nothing(seed: int, schedule: Any, few_views: tuple[Any, Any]) -> None:
    """Three views of one molecule in the plane, no reference given."""
    simulation, truth = few_views
    scheme = replace(VIEWS, schedule=schedule, particles_per_class=25, finish_resolution=15.0)
    run = simulation.classification(replace(PLANAR, seed=seed), scheme)
    *_, state = run.iterate(run.start((), simulation.particles()))
    found = state.particles.class_index
    score = score_assignment(truth.views, found)
    assert score.purity > 0.9
    expected = _views(truth.maps, np.array([truth.particles.eulers[truth.views == view][0] for view in range(3)]))
    for number, group in enumerate(state.models[0].classes):
        members = truth.views[found == number]
        view = np.bincount(members).argmax()
        assert _best_correlation(group.voxels, expected[view] * run.solvent_mask) > 0.9
    assert sum(group.share for group in state.models[0].classes) == pytest.approx(1.0, abs=1e-6)
    assert state.progress.resolution < 24.0


def test_molecules_are_told_apart_from_one_blurred_map(mixed: Callable[..., Any]) -> None:
    """Two molecules seen from everywhere; both classes start from the first one at 40 Å."""
    simulation, truth = mixed("lopsided", "other", number=200, snr=1.0)
    run = simulation.classification(SPATIAL, Scheme(2, planar=False, occupancy=True))
    *_, state = run.iterate(run.start([truth.maps[0]], simulation.particles()))
    classes = truth.particles.table.numbers("rlnClassNumber").astype(int)
    assert score_assignment(classes, state.particles.class_index).accuracy > 0.95
    np.testing.assert_allclose(state.particles.occupancy.sum(axis=1), 1.0, atol=2e-3)  # the adaptive fraction
    np.testing.assert_array_equal(state.particles.occupancy.argmax(axis=1), state.particles.class_index)


# Small runs for what needs no good result.
SMALL = replace(PLANAR, maximum_iterations=4)
BATCHES = replace(VIEWS, schedule="batches", particles_per_class=5, centre_classes=True)


@pytest.fixture(scope="module")
def small(mixed: Callable[..., Any]) -> tuple[Any, Any]:
    return mixed("lopsided", views=2, number=40, snr=0.5)


def test_references_given_twice_are_told_apart(small: tuple[Any, Any]) -> None:
    """Two of three references are the same: their classes do not stay twins. Where all are, chance tells them apart."""
    simulation, _ = small
    one, other = (np.ascontiguousarray(np.rot90(simulation.map.sum(axis=0), turns)) for turns in range(2))
    run = simulation.classification(SMALL, VIEWS)
    start = run.start([one, other, one], simulation.particles())
    first, second, third = (group.voxels for group in start.models[0].classes)
    assert not np.array_equal(first, third)
    assert np.corrcoef(first.ravel(), third.ravel())[0, 1] > 0.98
    assert "copies" in str(run.recorder.warnings)  # type: ignore[attr-defined]
    np.testing.assert_array_equal(
        second, run.start([one, other, other], simulation.particles()).models[0].classes[1].voxels
    )
    state = run.step(run.step(start))
    shares = [group.share for group in state.models[0].classes]
    assert abs(shares[0] - shares[2]) > 0.01
    alike = run.start([one] * 3, simulation.particles()).models[0].classes
    np.testing.assert_array_equal(alike[0].voxels, alike[2].voxels)


def _after(simulation: Any, settings: Settings, scheme: Scheme, steps: int, references: Any = ()) -> RunState:
    run = simulation.classification(settings, scheme)
    state = run.start(references, simulation.particles())
    for _ in range(steps):
        state = run.step(state)
    return state


@pytest.mark.parametrize(
    "schedule", ["batches", *(pytest.param(schedule, marks=pytest.mark.slow) for schedule in ("em", "auto"))]
)
def test_runs_repeat_themselves_and_go_on(schedule: Any, small: tuple[Any, Any]) -> None:
    """Bit by bit: two runs, and one that goes on from a state that was set aside."""
    simulation, _ = small
    scheme = replace(BATCHES, schedule=schedule, classes=2)
    first, again = (_after(simulation, SMALL, scheme, 2) for _ in range(2))
    assert _equal(first, again)
    assert len(first.carried) == (2 if schedule == "batches" else 0)
    unbroken = _after(simulation, SMALL, scheme, 4)
    assert unbroken.progress.finished
    gone_on = list(simulation.classification(SMALL, scheme).iterate(first))
    assert [state.iteration for state in gone_on] == [3, 4]
    assert _equal(gone_on[-1], unbroken)
    assert not _equal(_after(simulation, replace(SMALL, seed=2), scheme, 2), first)


def test_auto_changes_only_the_particles_that_take_part(small: tuple[Any, Any]) -> None:
    simulation, _ = small
    scheme = replace(VIEWS, schedule="auto", particles_per_class=5, start_resolution=40.0, finish_resolution=10.0)
    run = simulation.classification(replace(SMALL, maximum_iterations=5), scheme)
    state = run.start((), simulation.particles())
    radii = []
    for share in (15 / 40, 15 / 40, 15 / 40, 1.0, 1.0):
        radii.append(run._radius(state, run.plan(state.iteration + 1)))
        before, state = state, run.step(state)
        chosen = run.chosen(state.iteration)
        # A batch in which the shuffled list begins anew may name a particle twice.
        assert 0.8 * 40 * share <= len(chosen) <= round(40 * share)
        others = np.setdiff1d(np.arange(40), chosen)
        for name in ("eulers", "shifts", "pmax", "class_index", "log_likelihood"):
            one, other = (getattr(part.particles, name) for part in (before, state))
            np.testing.assert_array_equal(one[others], other[others])
        assert (state.particles.pmax[chosen] > 0).all()
    assert (state.particles.pmax > 0).all()
    # The box is 120 Å: 40 Å is shell 3 (at least 5 are compared), 10 Å is beyond Nyquist; detail only grows.
    assert radii[0] == 5
    assert radii[-1] > 8
    assert radii == sorted(radii)


def test_batches_add_to_the_sums_that_are_kept(small: tuple[Any, Any]) -> None:
    """Sums after a batch are its own and what is kept of earlier ones; all particles come before any comes again."""
    simulation, _ = small
    scheme = replace(BATCHES, centre_classes=False, particles_per_class=4)
    run = simulation.classification(replace(SMALL, maximum_iterations=5), scheme)
    state = run.step(run.start((), simulation.particles()))
    alone = run.step(replace(state, carried=()))
    after = run.step(state)
    kept = run.plan(2).kept
    assert 0.5 <= kept < 0.9
    assert len(after.carried) == 3
    for one, own, earlier in zip(after.carried, alone.carried, state.carried, strict=True):
        expected = FourierAccumulator(24, one.radius, 2, dims=2)
        expected.add_scaled(own, 1.0)
        expected.add_scaled(earlier, kept)
        torch.testing.assert_close(one.data, expected.data, rtol=1e-5, atol=1e-4)
        torch.testing.assert_close(one.weight, expected.weight, rtol=1e-5, atol=1e-4)
    first_round = np.concatenate([run.chosen(iteration) for iteration in (1, 2, 3)])
    assert len(np.unique(first_round)) == len(first_round) == 36
    np.testing.assert_array_equal(run.chosen(5), np.arange(40))


def _known(simulation: Any, planar: bool) -> Any:
    """The true poses, turned by a little so that no grid holds them."""
    particles = simulation.particles(known=True)
    tilts = [0.0, 0.0, 1.0] if planar else [1.0, 1.0, 1.0]
    return replace(particles, eulers=particles.eulers * tilts + [0.0, 0.0, 0.37])


@pytest.mark.parametrize("planar", [True, False])
@pytest.mark.parametrize("search", ["none", "shifts", "local"])
def test_searches_that_start_from_given_poses(search: Any, planar: bool, mixed: Callable[..., Any]) -> None:
    """Nothing moves, only translations do, or angles stay near; classes are assigned all the same."""
    names = ("lopsided",) if planar else ("lopsided", "other")
    simulation, truth = mixed(*names, number=60, snr=1.0, views=2 if planar else 0)
    # 40 Å are two coarse in-plane steps.
    scheme = Scheme(2, planar, psi_step=20.0 * planar, search=search, local_sigma=10.0)
    run = simulation.classification(replace(SPATIAL, healpix_order=2, maximum_iterations=4), scheme)
    if planar:
        directions = np.array([truth.particles.eulers[truth.views == view][0] for view in range(2)])
        references, labels = list(_views(truth.maps, directions * [1, 1, 0])), truth.views
    else:
        references, labels = list(truth.maps), truth.particles.table.numbers("rlnClassNumber").astype(int)
    particles = _known(simulation, planar)
    state = run.step(run.step(run.start(references, particles)))
    found = state.particles
    flat = state.models[0].classes[0].direction_prior
    # Where directions are not looked for, nothing is learnt of them.
    assert (search != "local" and not planar) <= bool(np.allclose(flat, 1 / len(flat)))
    assert score_assignment(labels, found.class_index).accuracy > 0.9
    turned = angular_distance(euler_to_matrix(found.eulers), euler_to_matrix(particles.eulers))
    moved = np.linalg.norm(found.shifts - particles.shifts, axis=1)
    if search == "local":
        assert 0.1 < np.median(turned) < 10.0
        # Three sigmas each time, of the direction and in the plane, and half a step of the grid.
        assert turned.max() < 2 * (np.hypot(30.0, 30.0) + 15.0)
        return
    assert turned.max() < 1e-6
    if search == "none":
        np.testing.assert_allclose(found.shifts, particles.shifts, atol=1e-9)
    else:
        assert 0.1 < np.median(moved) < 5.0  # less than a pixel, but searched on a grid


def test_tilts_do_not_reach_class_averages(small: tuple[Any, Any]) -> None:
    """Poses from a 3D refinement are given: their in-plane angles count, nothing else."""
    simulation, _ = small
    tilted = replace(simulation.particles(known=True), shifts=np.zeros((40, 2)))
    flat = replace(tilted, eulers=tilted.eulers * [0.0, 0.0, 1.0])
    states = []
    for particles in (tilted, flat):
        run = simulation.classification(SMALL, replace(VIEWS, search="none"))
        states.append(run.step(run.start((), particles)))
    assert _equal(states[0].models, states[1].models)
    np.testing.assert_array_equal(states[0].particles.eulers[:, :2], 0.0)


def test_first_averages_leave_the_prior_on_offsets_alone(small: tuple[Any, Any]) -> None:
    simulation, _ = small
    state = _after(simulation, SMALL, VIEWS, 0)
    assert state.models[0].sigma_offset == SMALL.sigma_offset
    voxels = [group.voxels for group in state.models[0].classes]
    assert not np.array_equal(voxels[0], voxels[1])
    assert [group.share for group in state.models[0].classes] == [1 / 3] * 3
    assert state.progress.resolution == pytest.approx(120.0 / 1)  # 5 Å / 0.07 is shell 1 of 120 Å
    assert all(np.abs(np.fft.rfft2(one))[6, 0] < 0.02 * np.abs(np.fft.rfft2(one))[1, 0] for one in voxels)


def test_dead_classes_start_anew(small: tuple[Any, Any]) -> None:
    """A reference that explains nothing loses all particles; it comes back as a copy of the largest, which is told."""
    simulation, truth = small
    good = _views(truth.maps, truth.particles.eulers[:1] * [1, 1, 0])[0]
    run = simulation.classification(SMALL, VIEWS)
    state = run.start([good, good * 0.9, -20 * good], simulation.particles())
    after = run.step(state)
    assert run.recorder.warnings == ["iteration 1: hardly a particle in class 3: started anew from others"]
    shares = np.array([group.share for group in after.models[0].classes])
    assert shares.sum() == pytest.approx(1.0, abs=1e-3)
    largest = int(np.argmax([np.sum(after.particles.class_index == number) for number in range(3)]))
    assert shares[2] == shares[largest] > 0
    new, source = after.models[0].classes[2], after.models[0].classes[largest]
    assert 0.5 < np.corrcoef(new.voxels.ravel(), source.voxels.ravel())[0, 1] < 0.9999
    np.testing.assert_allclose(new.voxels * (run.solvent_mask == 0), 0.0)  # within the mask
    last = replace(SMALL, maximum_iterations=1)
    run = simulation.classification(last, VIEWS)
    state = run.step(run.start([good, good * 0.9, -20 * good], simulation.particles()))
    assert run.recorder.warnings == ["hardly a particle is left in class 3"]
    assert state.models[0].classes[2].share == 0.0


def test_sums_of_dead_classes_are_forgotten(small: tuple[Any, Any]) -> None:
    simulation, truth = small
    good = _views(truth.maps, truth.particles.eulers[:1] * [1, 1, 0])[0]
    run = simulation.classification(SMALL, replace(BATCHES, particles_per_class=10))
    state = run.start([good, good * 0.9, -20 * good], simulation.particles())
    earlier = tuple(FourierAccumulator(24, 10, 2, dims=2) for _ in range(3))
    for item in earlier:
        item.weight += 1.0
    after = run.step(replace(state, carried=earlier))
    assert len(run.recorder.warnings) == 1
    assert [bool(item.weight.any()) for item in after.carried] == [True, True, False]
