"""Choices of a classification: each does what it says, and one pass is as good as two."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
import torch

from vitrea.geometry.euler import euler_to_matrix
from vitrea.kernels import posterior, project, rows
from vitrea.likelihood import collection, expectation
from vitrea.likelihood.classification import Classification
from vitrea.likelihood.expectation import Expectation
from vitrea.likelihood.focus import FocusSphere
from vitrea.likelihood.scheme import Scheme
from vitrea.likelihood.search import Search
from vitrea.likelihood.settings import Settings
from vitrea.likelihood.state import RunState
from vitrea.likelihood.sums import Sums
from vitrea.matching import candidates, dense, reference
from vitrea.matching.reference import ReferenceSet, reference_from_map
from vitrea.reconstruction import accumulator
from vitrea.reconstruction.accumulator import FourierAccumulator
from vitrea.records.recorder import SilentRecorder

SETTINGS = Settings(
    particle_diameter=80.0,
    offset_range=8.0,
    offset_step=4.0,
    healpix_order=1,
    maximum_iterations=4,
    tau2_fudge=2.0,
    initial_resolution=20.0,
    accuracy_particles=2,
)


@pytest.fixture(scope="module")
def noisy(simulate: Callable[..., Any]) -> Any:
    return simulate(20, 24, snr=0.2, scales=np.ones(2))


def _references(simulation: Any, planar: bool, count: int = 2) -> list[Any]:
    """Views along z, or maps: the particle as it is, and turned by a quarter and more."""
    voxels = simulation.map.sum(axis=0) if planar else simulation.map
    return [np.ascontiguousarray(np.rot90(voxels, number, axes=(-2, -1))) for number in range(count)]


def _expect(run: Classification, state: RunState, search: Search, adaptive_fraction: float = 1.0) -> Sums:
    radius = state.progress.current_size // 2
    model = state.models[0]
    step = Expectation(
        run.data,
        replace(run.settings, adaptive_fraction=adaptive_fraction),
        model,
        run.references(model, radius),
        search,
        run.preparer(radius),
        memory=run.memory,
        seed=1,
        recorder=SilentRecorder(),
    )
    return step.run(np.arange(len(run.data)), state.particles)


@pytest.mark.parametrize("seeded", [False, True])
@pytest.mark.parametrize("planar", [True, False])
def test_one_pass_of_matrix_products_is_as_good_as_rows(
    planar: bool, seeded: bool, noisy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a grid without finer poses, both ways through the expectation step give the same sums, to float32."""
    run = noisy.classification(SETTINGS, Scheme(2, planar, psi_step=15.0 * planar))
    state = run.start(_references(noisy, planar), noisy.particles())
    poses = run.poses(state.sampling, 2, oversampling=0)
    ssnr = np.full(13, 10.0)  # clear enough for scales
    model = state.models[0]
    model = model.with_classes(
        replace(group, share=share, ssnr=ssnr) for group, share in zip(model.classes, (0.4, 0.6), strict=True)
    )
    seeds = np.random.default_rng(1).integers(2, size=20) if seeded else None
    if seeded:  # references are the same as long as classes are given
        model = model.with_classes((model.classes[0],) * 2)
    state = replace(state, models=(replace(model, sigma2_noise=3 * model.sigma2_noise),))
    search = Search(poses, occupancy=True, seeds=seeds, smoothing=0.8)
    direct = _expect(run, state, search)
    monkeypatch.setattr(Expectation, "direct", property(lambda self: False))
    # The coarse pass must not leave anything out: its samples are all, its margin is wide.
    monkeypatch.setattr("vitrea.likelihood.expectation.coarse_radius", lambda *_: 12)
    rows = _expect(run, state, search)
    for name in ("eulers", "shifts", "class_index"):
        np.testing.assert_array_equal(getattr(direct, name), getattr(rows, name))
    assert 0.001 < direct.pmax.mean() < 0.9
    if seeded:
        np.testing.assert_array_equal(direct.class_index, seeds)
        np.testing.assert_allclose(direct.occupancy[np.arange(20), seeds], 1.0, atol=1e-4)
    for name in ("pmax", "log_likelihood", "norm", "residual", "strength", "agreement", "offset_square", "mass"):
        np.testing.assert_allclose(getattr(direct, name), getattr(rows, name), rtol=2e-3, err_msg=name)
    for name in ("directions", "occupancy"):
        np.testing.assert_allclose(getattr(direct, name), getattr(rows, name), atol=2e-3, err_msg=name)
    for one, other in zip(direct.accumulators, rows.accumulators, strict=True):
        for part in (one, other):  # which of two Friedel mates in a plane holds a sum does not matter
            part.finish(torch.eye(3)[None])
        for grid in ("data", "weight"):
            largest = float(getattr(one, grid).abs().max())
            assert largest > 0
            torch.testing.assert_close(getattr(one, grid), getattr(other, grid), rtol=0, atol=2e-3 * largest)


def test_one_class_is_a_refinement_at_fixed_sampling(noisy: Any) -> None:
    """The last iteration of a refinement puts both half sets together: the same poses, noise and plain map."""
    settings = replace(SETTINGS, maximum_iterations=1)
    refinement = noisy.refinement(settings)
    particles = noisy.particles()
    start = refinement.start(noisy.map, particles)
    model = replace(start.models[0], sigma2_noise=2.0 * start.models[0].sigma2_noise)
    start = replace(start, models=(model, model), progress=replace(start.progress, current_size=24))
    refined = refinement.step(start)
    assert refined.joined is not None
    run = noisy.classification(settings, Scheme(1, planar=False, always_oversample=True))
    classified = run.step(replace(start, models=(model,)))
    for name in ("eulers", "shifts", "significant"):
        np.testing.assert_array_equal(getattr(classified.particles, name), getattr(refined.particles, name))
    for name in ("pmax", "norm", "log_likelihood"):
        one, other = getattr(classified.particles, name), getattr(refined.particles, name)
        np.testing.assert_allclose(one, other, rtol=1e-5)
    found, expected = classified.models[0], refined.joined
    assert found.classes[0].share == 1.0
    # Both halves are of one size, and their groups too: the mean of their noise is that of all particles.
    np.testing.assert_allclose(found.sigma2_noise.mean(axis=0), expected.sigma2_noise.mean(axis=0), rtol=1e-5)
    plain = expected.classes[0].unfiltered
    np.testing.assert_allclose(found.classes[0].unfiltered, plain, atol=1e-4 * np.abs(plain).max())
    np.testing.assert_allclose(found.classes[0].sigma2_map, expected.classes[0].sigma2_map, rtol=1e-5)
    np.testing.assert_allclose(found.classes[0].direction_prior, expected.classes[0].direction_prior, atol=1e-5)


def test_smoothing_broadens_posteriors(noisy: Any) -> None:
    pmax, likeliest = [], []
    for smoothing in (1.0, 0.5, 0.1):
        run = noisy.classification(SETTINGS, Scheme(2, True, psi_step=15.0, smoothing=smoothing))
        state = run.step(run.start(_references(noisy, True), noisy.particles()))
        pmax.append(state.models[0].average_pmax)
        likeliest.append(state.particles.eulers)
    assert pmax[0] > 1.5 * pmax[1] > 1.5 * pmax[2]
    # The images say the same, less loudly: most of the best poses stay. The priors have more of a say.
    assert (np.abs(likeliest[0] - likeliest[1]).max(axis=1) < 1e-6).mean() > 0.5


@pytest.mark.parametrize("search", ["global", "shifts"])
def test_even_shares_give_small_classes_their_particles(search: Any, noisy: Any) -> None:
    """With uninformative images the occupancies are the shares, or even; a class without any share stays empty."""
    settings = replace(SETTINGS, particle_diameter=8.0, mask_edge=1.0)
    found = {}
    for even in (False, True):
        scheme = Scheme(3, True, psi_step=15.0, search=search, even_shares=even, occupancy=True, smoothing=1e-6)
        run = noisy.classification(settings, scheme)
        state = run.start(_references(noisy, True, 3), noisy.particles())
        shares = (0.2, 0.8, 0.0)
        model = state.models[0]
        groups = [replace(group, share=share) for group, share in zip(model.classes, shares, strict=True)]
        found[even] = run.step(replace(state, models=(model.with_classes(groups),))).particles.occupancy.mean(axis=0)
    np.testing.assert_allclose(found[False], [0.2, 0.8, 0.0], atol=2e-3)
    np.testing.assert_allclose(found[True], [0.5, 0.5, 0.0], atol=2e-3)


def test_blurred_references_are_placed_on_a_coarse_grid(noisy: Any) -> None:
    """Of 80 Å, in a box of 96 Å: steps of 30° place detail up to shell 5, steps of 15° up to shell 11."""
    run = noisy.classification(replace(SETTINGS, healpix_order=3, maximum_iterations=20), Scheme(2, False))
    start = run.start(_references(noisy, False), noisy.particles())

    def order(run: Classification, shell: int, iteration: int = 4) -> int:
        state = replace(start, iteration=iteration, progress=run.progress_at(start.progress, shell))
        found: int = run.prepared(state)[4].healpix_order
        return found

    assert [order(run, shell) for shell in (3, 5, 7, 11, 12)] == [1, 1, 2, 2, 3]
    assert order(run, 3, iteration=15) == 3  # the last quarter
    assert order(replace(run, scheme=replace(run.scheme, always_oversample=True)), 3) == 3
    assert order(replace(run, settings=replace(run.settings, symmetry="C4")), 3) == 2  # few orientations are left
    assert order(replace(run, scheme=replace(run.scheme, search="local", local_sigma=5.0)), 3) == 3


@pytest.mark.parametrize("planar", [True, False])
def test_centred_references_and_their_particles_agree(planar: bool, noisy: Any, lopsided: Any) -> None:
    """An off-centre reference moves to the centre by whole pixels, and its particles' shifts by its view of that.

    Moved by minus its shift, a view of the reference is what it was.
    """
    small = type(lopsided)(lopsided.points * 0.4, lopsided.heights, lopsided.width).map(24)
    still = small.sum(axis=0) if planar else small
    axes, move = tuple(range(still.ndim)), np.array([3, -2, 1])[: still.ndim]
    run = noisy.classification(SETTINGS, Scheme(2, planar, psi_step=15.0, centre_classes=True))
    state = run.start([np.roll(still, move[::-1], axes), still], noisy.particles(known=True))
    model = state.models[0]
    rng = np.random.default_rng(1)
    particles = replace(state.particles, pmax=np.ones(20), class_index=rng.integers(2, size=20))
    centred, after = run._centred(model, particles, ())
    moved = np.roll(model.classes[0].voxels, -move[::-1], axes)
    # What has left the box on the way is gone: ripples of the low-pass filter.
    np.testing.assert_allclose(centred.classes[0].voxels, moved, atol=0.01 * moved.max())
    np.testing.assert_array_equal(centred.classes[1].voxels, model.classes[1].voxels)
    members = particles.class_index == 0
    np.testing.assert_array_equal(after.shifts[~members], particles.shifts[~members])
    samples = run.preparer(10).samples
    for number in np.flatnonzero(members):
        matrix = torch.from_numpy(euler_to_matrix(particles.eulers[number : number + 1]).astype(np.float32))
        shown = []
        for voxels, known in ((model.classes[0].voxels, particles), (centred.classes[0].voxels, after)):
            view = reference_from_map(torch.from_numpy(voxels), 10).project(matrix, samples)
            # image = translate(projection, -shift)
            shown.append(view * samples.phase_ramps(-known.shifts[number : number + 1] / run.data.pixel_size))
        # Interpolation has errors of a few percent, which grow with the distance from the centre (fourier.gridding).
        assert float((shown[0] - shown[1]).norm() / shown[0].norm()) < 0.05
    untouched, same = replace(run, scheme=replace(run.scheme, centre_classes=False))._tidy(model, particles, (), 1)
    assert untouched.classes[0] is model.classes[0]
    assert same is particles


def test_particles_not_yet_seen_do_not_follow_a_centred_reference(noisy: Any) -> None:
    run = noisy.classification(SETTINGS, Scheme(1, True, psi_step=15.0, centre_classes=True))
    state = run.start([np.roll(noisy.map.sum(axis=0), 4, axis=1)], noisy.particles())
    pmax = np.where(np.arange(20) < 10, 0.5, 0.0)
    _, after = run._centred(state.models[0], replace(state.particles, pmax=pmax), ())
    assert (np.abs(after.shifts[:10]).max(axis=1) > 8.0).all()
    np.testing.assert_array_equal(after.shifts[10:], 0.0)


def test_kept_sums_follow_a_centred_reference(noisy: Any, lopsided: Any) -> None:
    voxels = type(lopsided)(lopsided.points * 0.4, lopsided.heights, lopsided.width).map(24).sum(axis=0)
    away = np.roll(voxels, 4, axis=1)
    run = noisy.classification(SETTINGS, Scheme(1, True, "batches", psi_step=15.0, centre_classes=True))
    state = run.start([away], noisy.particles())
    sums = FourierAccumulator(24, 10, 2, dims=2)
    sums.data += reference_from_map(torch.from_numpy(away), 10).grid
    sums.weight += 1.0
    before = sums.reconstruct().numpy()
    model, _ = run._centred(state.models[0], state.particles, (sums,))
    after = sums.reconstruct().numpy()
    expected = np.roll(before, -4, axis=1)
    assert np.corrcoef(after.ravel(), expected.ravel())[0, 1] > 0.99
    assert np.corrcoef(after.ravel(), before.ravel())[0, 1] < 0.5
    assert np.corrcoef(after.ravel(), model.classes[0].voxels.ravel())[0, 1] > 0.9  # which was low-pass filtered


def test_occupancies_can_be_asked_for_later(noisy: Any) -> None:
    run = noisy.classification(SETTINGS, Scheme(2, True, psi_step=15.0))
    state = run.step(run.start(_references(noisy, True), noisy.particles()))
    assert state.particles.occupancy.shape == (20, 0)
    later = replace(run, scheme=replace(run.scheme, occupancy=True)).step(state).particles.occupancy
    np.testing.assert_allclose(later.sum(axis=1), 1.0, atol=2e-3)


# What changes the result after two iterations, and in which scheme.
PLAIN = Scheme(2, True, psi_step=20.0)
AUTO = replace(PLAIN, schedule="auto", particles_per_class=4)
CHANGES: dict[str, tuple[Scheme, Any]] = {
    "classes": (PLAIN, 3),
    "planar": (Scheme(2, planar=False), True),
    "schedule": (AUTO, "batches"),
    "psi_step": (PLAIN, 30.0),
    "search": (PLAIN, "shifts"),
    "local_sigma": (replace(PLAIN, search="local", local_sigma=10.0), 30.0),
    "centre_classes": (PLAIN, True),
    "smoothing": (PLAIN, 0.5),
    "particles_per_class": (AUTO, 7),
    "share": (PLAIN, 0.5),
    "start_resolution": (replace(AUTO, finish_resolution=9.0), 12.0),
    "finish_resolution": (replace(AUTO, start_resolution=16.0), 16.0),
    "occupancy": (PLAIN, True),
    "even_shares": (PLAIN, True),
    "balanced": (PLAIN, 1.0),
    "best_pose_only": (PLAIN, True),
    "always_oversample": (PLAIN, True),
    "focus": (replace(PLAIN, search="shifts"), FocusSphere((8.0, 0.0, 0.0), 10.0)),
}


def _run(noisy: Any, scheme: Scheme) -> RunState:
    planar = scheme.planar
    if scheme.psi_step == 0:
        scheme = replace(scheme, psi_step=20.0)
    # Off the centre by two pixels.
    references = [np.roll(one, 2, axis=-1) for one in _references(noisy, planar, scheme.classes)]
    run = noisy.classification(replace(SETTINGS, maximum_iterations=3), scheme)
    particles = noisy.particles()
    return run.step(run.step(run.start(references, particles)))


@pytest.mark.parametrize("name", list(CHANGES))
def test_every_choice_changes_the_result(name: str, noisy: Any) -> None:
    scheme, value = CHANGES[name]
    assert value != getattr(scheme, name)
    plain, changed = (_run(noisy, one) for one in (scheme, replace(scheme, **{name: value})))
    if name == "occupancy":
        assert plain.particles.occupancy.shape != changed.particles.occupancy.shape
        return
    one, other = (state.models[0].classes[0].voxels for state in (plain, changed))
    assert one.shape != other.shape or not np.allclose(one, other, atol=1e-3 * np.abs(one).max())


def test_all_choices_are_tested() -> None:
    assert {item.name for item in fields(Scheme)} == set(CHANGES)


def test_references_of_several_classes_are_those_of_the_model(noisy: Any) -> None:
    run = noisy.classification(SETTINGS, PLAIN)
    state = run.start(_references(noisy, True), noisy.particles())
    found = run.references(state.models[0], 8)
    assert isinstance(found, ReferenceSet)
    for member, group in zip(found.members, state.models[0].classes, strict=True):
        assert torch.equal(member.grid, reference_from_map(torch.from_numpy(group.voxels), 8).grid)


@pytest.mark.parametrize("search", ["global", "shifts"])
@pytest.mark.parametrize("oversample", [True, False])
def test_plain_bodies_of_the_kernels_give_the_same(
    oversample: bool, search: Any, noisy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What runs on a GPU, run here: plain torch in place of the compiled loops."""
    scheme = Scheme(2, True, psi_step=20.0, search=search, always_oversample=oversample)
    run = noisy.classification(replace(SETTINGS, oversampling=int(oversample), adaptive_fraction=1.0), scheme)
    start = run.start(_references(noisy, True), noisy.particles())
    compiled = run.step(run.step(start))
    for module, names in (
        (dense, ("normalise_dense", "significant_orientations")),
        (candidates, ("correlate_rows",)),
        (expectation, ("normalise_rows",)),
        (collection, ("accumulate_rows",)),
        (reference, ("project_slices",)),
        (accumulator, ("backproject_slices",)),
    ):
        for name in names:
            home = next(kernel for kernel in (posterior, project, rows) if hasattr(kernel, name))
            monkeypatch.setattr(module, name, getattr(home, f"{name}_torch"))
    plain = run.step(run.step(start))
    np.testing.assert_array_equal(compiled.particles.eulers, plain.particles.eulers)
    np.testing.assert_array_equal(compiled.particles.class_index, plain.particles.class_index)
    np.testing.assert_allclose(compiled.particles.pmax, plain.particles.pmax, rtol=1e-3)
    for one, other in zip(compiled.models[0].classes, plain.models[0].classes, strict=True):
        np.testing.assert_allclose(one.voxels, other.voxels, atol=1e-3 * np.abs(one.voxels).max())
