"""Scores of poses against the likelihood written out in float64."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import vitrea.matching.dense as dense_module
from vitrea.fourier.packed import packed_samples
from vitrea.geometry.sampling import orientation_grid
from vitrea.geometry.shifts import oversample_shifts, shift_grid
from vitrea.matching.candidates import Candidates, Rows, RowScorer, expand
from vitrea.matching.dense import DenseSearch
from vitrea.matching.images import PreparedImages
from vitrea.matching.poses import GivenPoses, PoseGrid
from vitrea.matching.reference import Reference, ReferenceSet, reference_from_map

SIZE, RADIUS, PARTICLES = 24, 8, 5
SAMPLES = packed_samples(SIZE, RADIUS)


@pytest.fixture(scope="module")
def poses() -> PoseGrid:
    shifts = shift_grid(2.0, 1.5)
    grid = orientation_grid(0, "C1", perturbation=0.3)
    return PoseGrid(grid, oversample_shifts(shifts, 1.5, 0, 0.3), oversample_shifts(shifts, 1.5, 1, 0.3), 1)


@pytest.fixture(scope="module")
def reference(lopsided: Any) -> Reference:
    return reference_from_map(torch.from_numpy(lopsided.map(SIZE)), RADIUS)


@pytest.fixture(scope="module")
def images(reference: Reference, poses: PoseGrid) -> PreparedImages:
    """Noisy views with a random transfer function, near poses of the grid."""
    rng = np.random.default_rng(3)
    chosen = poses.coarse_matrices(rng.integers(poses.orientation_count, size=PARTICLES))
    views = reference.project(chosen, SAMPLES).numpy()
    ctf = rng.uniform(-1, 1, (PARTICLES, len(SAMPLES)))
    sigma2 = rng.uniform(0.5, 2.0, (PARTICLES, len(SAMPLES))) * 3e-3
    noise = (rng.standard_normal(views.shape) + 1j * rng.standard_normal(views.shape)) * np.sqrt(sigma2)
    packed = ctf * views + noise
    packed = packed * SAMPLES.phase_ramps(rng.uniform(-1, 1, (PARTICLES, 2))).numpy()
    precision = 1 / sigma2
    precision[:, 0] = 0.0
    zeros = torch.zeros(PARTICLES, dtype=torch.float64)
    masked = torch.from_numpy(packed.astype(np.complex64))
    return PreparedImages(
        masked,
        masked,
        torch.from_numpy(ctf.astype(np.float32)),
        torch.from_numpy(precision.astype(np.float32)),
        zeros[:, None],
        zeros,
    )


def _log_likelihood(
    images: PreparedImages, projections: NDArray[np.complex128], shifts: NDArray[np.float64]
) -> NDArray[np.float64]:
    """``-sum |X_t - CTF P|² / (2 sigma²)`` less that of a pose without any signal; [particles, poses, shifts]."""
    phase = -2 * np.pi / SIZE * shifts @ SAMPLES.coordinates[:, :2].T.astype(np.float64)
    moved = images.masked.numpy().astype(complex)[:, None, :] * np.exp(1j * phase)  # [particles, shifts, samples]
    model = images.ctf.numpy().astype(float)[:, None, :] * projections  # [particles, poses, samples]
    weight = 0.5 * images.precision.numpy().astype(float)[:, None, None, :]
    misfit = (np.abs(moved[:, None] - model[:, :, None]) ** 2 * weight).sum(axis=-1)
    empty = (np.abs(moved[:, None]) ** 2 * weight).sum(axis=-1)
    return np.asarray(empty - misfit)


@pytest.fixture(scope="module")
def coarse_truth(images: PreparedImages, reference: Reference, poses: PoseGrid) -> NDArray[np.float64]:
    everything = np.arange(poses.orientation_count)
    projections = reference.project(poses.coarse_matrices(everything), SAMPLES).numpy().astype(complex)
    return _log_likelihood(images, projections, poses.shifts)


@pytest.mark.parametrize(("level", "chunk"), [("coarse", 2048), ("fine", 2048), ("fine", 7)])
def test_row_scores_are_log_likelihoods(
    level: str, chunk: int, images: PreparedImages, reference: Reference, poses: PoseGrid
) -> None:
    rng = np.random.default_rng(4)
    count = poses.orientation_count * (poses.children if level == "fine" else 1)
    orientation = np.sort(rng.choice(count, 40))
    particle = rng.integers(PARTICLES, size=40)
    rows = Rows(particle, orientation, np.zeros(40, dtype=np.float32))
    scorer = RowScorer(ReferenceSet((reference,)), SAMPLES, poses, level, chunk)
    scores = scorer.score(images, rows).numpy()
    if level == "fine":
        matrices, shifts = torch.from_numpy(poses.fine_matrices(orientation)).float(), poses.fine_shifts
    else:
        matrices, shifts = poses.coarse_matrices(orientation), poses.shifts
    projections = reference.project(matrices, SAMPLES).numpy().astype(complex)
    truth = _log_likelihood(images, projections, shifts)[particle, np.arange(40)]
    assert scores.shape == truth.shape
    # Float32 sums of a hundred terms: differences between poses hold to 1e-3 of their spread, by a wide margin.
    np.testing.assert_allclose(scores, truth, atol=1e-3 * truth.std())
    correlation = scorer.score(images, rows, correlation=True).numpy()
    ctf, precision = images.ctf.numpy()[particle], images.precision.numpy()[particle]
    power = (np.abs(projections) ** 2 * ctf**2 * precision).sum(axis=1)[:, None]
    expected = (truth + 0.5 * power) / np.sqrt(power)
    np.testing.assert_allclose(correlation, expected, atol=1e-3 * expected.std())


def _candidate_sets(found: Candidates) -> list[set[int]]:
    return [set(found.orientation[found.particle == i].tolist()) for i in range(PARTICLES)]


def _exact_sets(log_weights: NDArray[np.float64], fraction: float, extra: float) -> list[set[int]]:
    """Orientations of the smallest sets of poses that hold a fraction of the probability, and `extra` nats beyond."""
    sets = []
    for one in log_weights:
        ranked = np.sort(one.ravel())[::-1]
        mass = np.exp(ranked - ranked[0]).cumsum()
        cut = ranked[np.searchsorted(mass, fraction * mass[-1])] - extra
        sets.append(set(np.flatnonzero((one >= cut).any(axis=1)).tolist()))
    return sets


@pytest.mark.parametrize("exact", [True, False])
def test_dense_search_keeps_what_is_significant(
    exact: bool,
    images: PreparedImages,
    reference: Reference,
    poses: PoseGrid,
    coarse_truth: NDArray[np.float64],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In float32 the set is the exact one, up to a histogram bin and the margin; faster formats may add to it."""
    if exact:
        monkeypatch.setattr(dense_module, "fast_products", nullcontext)
    rng = np.random.default_rng(5)
    log_direction = np.log(rng.dirichlet(np.ones(poses.direction_count))).astype(np.float32)
    log_orientation = np.repeat(log_direction, poses.psi_count)
    log_shift = -rng.uniform(0, 2, (PARTICLES, len(poses.shifts))).astype(np.float32)
    search = DenseSearch(ReferenceSet((reference,)), SAMPLES, poses, log_direction)
    found = search.significant(images, torch.from_numpy(log_shift), 0.99)
    weights = coarse_truth + log_orientation[:, None] + log_shift[:, None, :]
    rounding = 0.01 if exact else 0.5
    smallest = _exact_sets(weights, 0.99, 0.0)
    largest = _exact_sets(weights, 0.99, dense_module.PRODUCT_MARGIN + 0.125 + rounding)
    for kept, inner, outer in zip(_candidate_sets(found), smallest, largest, strict=True):
        assert inner <= kept <= outer
    np.testing.assert_array_equal(found.log_prior, log_orientation[found.orientation])
    assert (found.counts >= [len(kept) for kept in smallest]).all()


def test_impossible_directions_are_not_searched(
    images: PreparedImages, reference: Reference, poses: PoseGrid, coarse_truth: NDArray[np.float64]
) -> None:
    best = coarse_truth.max(axis=2).argmax(axis=1)
    log_direction = np.zeros(poses.direction_count, dtype=np.float32)
    log_direction[poses.directions_of(best)] = -np.inf
    prior = np.repeat(log_direction, poses.psi_count)
    search = DenseSearch(ReferenceSet((reference,)), SAMPLES, poses, log_direction)
    found = search.significant(images, torch.zeros(PARTICLES, len(poses.shifts)), 0.99)
    assert not np.isin(found.orientation, best).any()
    second = np.where(np.isfinite(prior), coarse_truth.max(axis=2), -np.inf).argmax(axis=1)
    for kept, expected in zip(_candidate_sets(found), second, strict=True):
        assert int(expected) in kept


def test_best_correlation_ignores_the_greyscale(
    images: PreparedImages, lopsided: Any, reference: Reference, poses: PoseGrid, coarse_truth: NDArray[np.float64]
) -> None:
    everything = np.arange(poses.orientation_count)
    projections = reference.project(poses.coarse_matrices(everything), SAMPLES).numpy().astype(complex)
    power = np.abs(projections) ** 2 @ (images.ctf.numpy() ** 2 * images.precision.numpy()).T  # [poses, particles]
    correlation = (coarse_truth + 0.5 * power.T[:, :, None]) / np.sqrt(power.T[:, :, None])
    ranked = correlation.max(axis=2)
    flat = np.zeros(poses.direction_count, dtype=np.float32)
    bright = reference_from_map(torch.from_numpy(1000 * lopsided.map(SIZE)), RADIUS)
    for one in (reference, bright):
        found = DenseSearch(ReferenceSet((one,)), SAMPLES, poses, flat).best(images)
        np.testing.assert_array_equal(found.particle, np.arange(PARTICLES))
        # A product in bfloat16 is good to 1%: the choice is the best one, or one that is as good.
        assert (ranked[np.arange(PARTICLES), found.orientation] >= 0.99 * ranked.max(axis=1)).all()


def test_children_replace_their_parents() -> None:
    found = Candidates(
        np.array([0, 0, 2]), np.array([5, 1, 3]), np.array([-1, -2, -3], np.float32), np.array([2, 0, 1])
    )
    rows = expand(found, 2)
    np.testing.assert_array_equal(rows.orientation, [2, 3, 6, 7, 10, 11])
    np.testing.assert_array_equal(rows.particle, [0, 0, 2, 2, 0, 0])
    np.testing.assert_array_equal(rows.log_prior, [-2, -2, -3, -3, -1, -1])
    order, first = rows.by_particle(3)
    assert first.tolist() == [0, 4, 4, 6]
    np.testing.assert_array_equal(rows.particle[order.numpy()], [0, 0, 0, 0, 2, 2])
    later = found.of_particles(1, 3)
    np.testing.assert_array_equal(later.particle, [1])
    np.testing.assert_array_equal(later.orientation, [3])
    np.testing.assert_array_equal(later.counts, [0, 1])


@pytest.mark.parametrize("size", [1, 3, 4, 100])
def test_chunks_cover_all_rows_and_split_no_orientation(size: int) -> None:
    orientation = np.array([0, 0, 0, 0, 0, 2, 3, 3, 7, 9, 9])
    rows = Rows(np.zeros(11, dtype=np.int64), orientation, np.zeros(11, dtype=np.float32))
    seen = []
    for where, distinct, first in rows.chunks(size):
        np.testing.assert_array_equal(np.repeat(distinct, np.diff(first)), orientation[where])
        assert where.stop - where.start <= max(size, 5)
        seen.append(np.arange(11)[where])
    np.testing.assert_array_equal(np.concatenate(seen), np.arange(11))


@pytest.fixture(scope="module")
def two(lopsided: Any, reference: Reference) -> ReferenceSet:
    """The particle, and one without some of its balls."""
    part = type(lopsided)(lopsided.points[4:], lopsided.heights[4:], lopsided.width)
    return ReferenceSet((reference, reference_from_map(torch.from_numpy(part.map(SIZE)), RADIUS)))


def _two_truths(images: PreparedImages, two: ReferenceSet, poses: PoseGrid) -> NDArray[np.float64]:
    """Log-likelihoods of all poses of both classes, shape [particles, orientations of both, shifts]."""
    matrices = poses.coarse_matrices(np.arange(poses.orientations.size))
    projections = [one.project(matrices, SAMPLES).numpy().astype(complex) for one in two.members]
    return _log_likelihood(images, np.concatenate(projections), poses.shifts)


def test_rows_of_two_classes(images: PreparedImages, two: ReferenceSet, poses: PoseGrid) -> None:
    both = replace(poses, classes=2)
    truth = _two_truths(images, two, poses)
    orientation = np.sort(np.random.default_rng(6).choice(both.orientation_count, 60, replace=False))
    particle = np.arange(60) % PARTICLES
    rows = Rows(particle, orientation, np.zeros(60, dtype=np.float32))
    scores = RowScorer(two, SAMPLES, both, "coarse", chunk=9).score(images, rows).numpy()
    expected = truth[particle, orientation]
    assert len(set(orientation // poses.orientations.size)) == 2
    np.testing.assert_allclose(scores, expected, atol=1e-3 * expected.std())


def test_rows_of_given_poses(images: PreparedImages, two: ReferenceSet, poses: PoseGrid) -> None:
    """One orientation a particle, in each class; priors of orientations and translations are added."""
    own = poses.coarse_matrices(np.array([5, 60, 200, 301, 7])).double().numpy()
    given = GivenPoses(own, poses.fine_shifts, classes=2)
    rows = Rows(np.tile(np.arange(PARTICLES), 2), np.arange(2 * PARTICLES), -np.arange(10, dtype=np.float32))
    log_shift = -torch.rand(PARTICLES, len(poses.fine_shifts), generator=torch.Generator().manual_seed(1))
    scores = RowScorer(two, SAMPLES, given, "fine", chunk=3).score(images, rows, log_shift).numpy()
    for number, one in enumerate(two.members):
        projections = one.project(torch.from_numpy(own.astype(np.float32)), SAMPLES).numpy().astype(complex)
        truth = _log_likelihood(images, projections, poses.fine_shifts)[np.arange(PARTICLES), np.arange(PARTICLES)]
        where = slice(number * PARTICLES, (number + 1) * PARTICLES)
        expected = truth + rows.log_prior[where, None] + log_shift.numpy()
        np.testing.assert_allclose(scores[where], expected, atol=1e-3 * truth.std())


@pytest.mark.parametrize("angles", [6, 5])
def test_dense_posterior_and_its_sums(angles: int, images: PreparedImages, two: ReferenceSet, poses: PoseGrid) -> None:
    """Weights of all poses of two classes, the slices they make and what they explain, against loops in float64.

    With an even number of in-plane angles, pairs half a turn apart share a view; with an odd one there are no pairs.
    """
    poses = replace(poses, orientations=orientation_grid(0, "C1", psi_step=360.0 / angles, perturbation=0.3))
    assert poses.psi_count == angles
    both = replace(poses, classes=2)
    rng = np.random.default_rng(7)
    log_direction = np.log(rng.dirichlet(np.ones(2 * both.direction_count))).astype(np.float32)
    log_direction[::7] = -np.inf
    log_orientation = np.repeat(log_direction, angles)
    log_shift = -rng.uniform(0, 2, (PARTICLES, len(poses.shifts))).astype(np.float32)
    # Milder noise models spread the posterior over many poses.
    images = images.with_precision(images.precision * 0.05)
    search = DenseSearch(two, SAMPLES, both, log_direction)
    assert len(search.allowed) == len(search.views) * (2 if angles == 6 else 1)
    weights, best = search.posterior(images, torch.from_numpy(log_shift), 1.0)
    assert np.isfinite(log_orientation[search.allowed]).all()
    exact = _two_truths(images, two, poses) + log_orientation[:, None] + log_shift[:, None, :]
    exact = exact[:, search.allowed].transpose(0, 2, 1)  # [particles, shifts, orientations]
    posterior = np.exp(exact - exact.max(axis=(1, 2), keepdims=True))
    evidence = np.log(posterior.sum(axis=(1, 2))) + exact.max(axis=(1, 2))
    posterior /= posterior.sum(axis=(1, 2), keepdims=True)
    assert 0.01 < posterior.max() < 0.9
    # Log-likelihoods of up to some hundreds in float32.
    np.testing.assert_allclose(weights.numpy(), posterior, atol=2e-3 * posterior.max())
    np.testing.assert_allclose(best["evidence"].numpy(), evidence, atol=1e-2)

    ramps = np.exp(-2j * np.pi / SIZE * poses.shifts @ SAMPLES.coordinates[:, :2].T.astype(np.float64))
    masked, ctf, precision = (part.numpy().astype(complex) for part in (images.masked, images.ctf, images.precision))
    # What is put into the map is the other image.
    unmasked = masked * np.exp(1j)
    images = replace(images, unmasked=torch.from_numpy(unmasked.astype(np.complex64)))
    given = weights.double().numpy()
    folded = search.fold(weights)
    sums, slice_weights = search.slices(images, folded)
    cross, power = search.explained(images, folded)
    expected_sums = np.einsum("its,ik,tk->sk", given, unmasked * ctf * precision, ramps)
    expected_weights = np.einsum("its,ik->sk", given, ctf**2 * precision).real
    if angles == 6:  # turned by half a turn, an image is its complex conjugate
        first = np.searchsorted(search.allowed, search.views)
        expected_sums = expected_sums[first] + expected_sums[first + 3].conj()
        expected_weights = expected_weights[first] + expected_weights[first + 3]
    np.testing.assert_allclose(sums.numpy(), expected_sums, atol=1e-4 * np.abs(expected_sums).max())
    np.testing.assert_allclose(slice_weights.numpy(), expected_weights, atol=1e-4 * expected_weights.max())
    matrices = poses.coarse_matrices(np.arange(poses.orientations.size))
    views = np.concatenate([one.project(matrices, SAMPLES).numpy() for one in two.members]).astype(complex)
    views = views[search.allowed]
    for i in range(PARTICLES):
        model = ctf[i] * np.einsum("ts,sk,tk->k", given[i], views, ramps.conj())
        expected = (model.conj() * masked[i]).real
        np.testing.assert_allclose(cross[i].numpy(), expected, atol=1e-4 * np.abs(expected).max())
        strength = ctf[i].real ** 2 * (given[i].sum(axis=0) @ np.abs(views) ** 2)
        np.testing.assert_allclose(power[i].numpy(), strength, atol=1e-4 * strength.max())
