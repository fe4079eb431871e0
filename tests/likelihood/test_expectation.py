"""The posterior of poses on particles whose poses are known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from vitrea.geometry.euler import euler_to_matrix
from vitrea.geometry.sampling import orientation_grid
from vitrea.geometry.shifts import oversample_shifts, shift_grid
from vitrea.geometry.symmetry import symmetry_distance
from vitrea.likelihood.data import ImagePreparer
from vitrea.likelihood.expectation import Expectation
from vitrea.likelihood.search import Search, coarse_radius
from vitrea.likelihood.settings import Settings
from vitrea.likelihood.state import Model, ParticleState, Sampling, new_class
from vitrea.likelihood.sums import Sums
from vitrea.matching.poses import PoseGrid
from vitrea.matching.reference import ReferenceSet, reference_from_map
from vitrea.records.recorder import SilentRecorder

SIZE, PIXEL = 24, 4.0
SHELLS = SIZE // 2 + 1
SETTINGS = Settings(particle_diameter=80.0, perturbation=0.0, healpix_order=1)
STEP = 4.0  # coarse translational step, Å: one pixel


def _poses(sampling: Sampling, settings: Settings) -> PoseGrid:
    coarse = shift_grid(sampling.offset_range / PIXEL, sampling.offset_step / PIXEL)
    step = sampling.offset_step / PIXEL
    grid = orientation_grid(sampling.healpix_order, settings.symmetry, perturbation=sampling.perturbation)
    fine = oversample_shifts(coarse, step, settings.oversampling, sampling.perturbation)
    return PoseGrid(grid, oversample_shifts(coarse, step, 0, sampling.perturbation), fine, settings.oversampling)


def _expect(
    simulation: Any,
    settings: Settings = SETTINGS,
    sampling: Sampling | None = None,
    particles: ParticleState | None = None,
    first: bool = False,
    memory: int = 64 << 20,
    radius: int = 10,
    voxels: NDArray[np.float32] | None = None,
    **model_changes: Any,
) -> Sums:
    """One expectation step with the true map and the true noise."""
    sampling = sampling or Sampling(1, 8.0, STEP)
    data = simulation.data
    poses = _poses(sampling, settings)
    directions = len(poses.orientations.directions)
    noise = np.full((len(data.group_names), SHELLS), simulation.sigma**2 / 2)
    group = replace(new_class(simulation.map if voxels is None else voxels, directions), ssnr=np.full(SHELLS, 100.0))
    of_class = {name: model_changes.pop(name) for name in ("ssnr", "direction_prior") if name in model_changes}
    model = Model((replace(group, **of_class),), noise, np.ones(len(data.group_names)), 100.0)
    model = replace(model, **model_changes)
    preparer = ImagePreparer(data, settings, radius, (0.0, np.inf), torch.device("cpu"))
    references = ReferenceSet((reference_from_map(torch.from_numpy(model.classes[0].voxels), radius),))
    local_sigma = settings.local_sigma_factor * poses.orientations.step / 2**settings.oversampling
    search = Search(poses, local_sigma if sampling.local else 0.0, correlation=first)
    step = Expectation(
        data, settings, model, references, search, preparer, memory=memory, seed=1, recorder=SilentRecorder()
    )
    return step.run(np.arange(len(data)), particles or simulation.particles())


# One pass over one grid: 15 degrees and 2 Å.
ONE_PASS, FINE_GRID = replace(SETTINGS, oversampling=0), Sampling(2, 4.0, 2.0)


def _on_grid(simulate: Callable[..., Any], count: int, snr: float, **choices: Any) -> Any:
    """Particles at poses of the grid of `ONE_PASS`, chosen by chance."""
    rng = np.random.default_rng(7)
    poses = _poses(FINE_GRID, ONE_PASS)
    matrices = poses.coarse_matrices(rng.integers(poses.orientation_count, size=count)).double().numpy()
    origins = poses.shifts[rng.integers(len(poses.shifts), size=count)]
    return simulate(count, SIZE, snr=snr, matrices=matrices, origins=origins, **choices)


@pytest.fixture(scope="module")
def on_grid(simulate: Callable[..., Any]) -> Any:
    return _on_grid(simulate, 16, 2.0)


def _angles(sums: Sums, simulation: Any) -> NDArray[np.float64]:
    return symmetry_distance(euler_to_matrix(sums.eulers), euler_to_matrix(simulation.eulers), "C1")


def test_poses_on_the_grid_are_found(on_grid: Any) -> None:
    """The best pose is the true one itself, in every particle; angles went through float32 matrices."""
    sums = _expect(on_grid, ONE_PASS, FINE_GRID)
    assert _angles(sums, on_grid).max() < 0.05
    np.testing.assert_allclose(sums.shifts * PIXEL, on_grid.origins, atol=1e-5)
    assert (sums.pmax > 0.5).all()


@pytest.mark.parametrize("first", [False, True])
def test_any_poses_are_found_to_the_step(first: bool, simulate: Callable[..., Any]) -> None:
    """Two passes: children of 7.5 degrees. On average nearly the nearest of all of them, never beyond a coarse step."""
    simulation = simulate(16, SIZE, snr=1.0, seed=3)
    sampling = Sampling(2, 8.0, STEP)
    sums = _expect(simulation, sampling=sampling, first=first)
    poses = _poses(sampling, SETTINGS)
    grid = poses.fine_matrices(np.arange(poses.orientation_count * poses.children)).reshape(-1, 9)
    cosine = (euler_to_matrix(simulation.eulers).reshape(-1, 9) @ grid.T).max(axis=1) / 2 - 0.5
    nearest = np.degrees(np.arccos(cosine))
    found = _angles(sums, simulation)
    assert 2.0 < np.median(nearest) < 5.0
    # Correlation follows up one coarse pose alone, which may not be the parent of the nearest fine one.
    assert np.median(found) < (2.0 if first else 1.5) * np.median(nearest)
    assert found.max() < 15.0
    # Half of the fine step of 2 Å, and the error that comes with a wrong angle.
    assert np.median(np.abs(sums.shifts * PIXEL - simulation.origins)) < 1.0
    assert np.abs(sums.shifts * PIXEL - simulation.origins).max() <= 3.0


def test_correlation_does_not_need_the_greyscale(on_grid: Any) -> None:
    plain, bright = (
        _expect(on_grid, ONE_PASS, FINE_GRID, first=True, voxels=factor * on_grid.map) for factor in (1.0, 64.0)
    )
    assert _angles(plain, on_grid).max() < 0.05
    np.testing.assert_array_equal(plain.eulers, bright.eulers)
    np.testing.assert_array_equal(plain.pmax, 1.0)
    wrong = _expect(on_grid, ONE_PASS, FINE_GRID, voxels=64.0 * on_grid.map)
    assert _angles(wrong, on_grid).max() > 15.0  # the likelihood does


def test_local_search_finds_the_pose_nearby(on_grid: Any) -> None:
    """From poses turned by up to half a step of 15 degrees, within the prior's reach."""
    rng = np.random.default_rng(8)
    near = on_grid.particles(known=True)
    near = replace(near, eulers=near.eulers + rng.uniform(-5, 5, near.eulers.shape), shifts=near.shifts * 0)
    sums = _expect(on_grid, ONE_PASS, replace(FINE_GRID, local=True), near)
    assert _angles(sums, on_grid).max() < 0.05
    np.testing.assert_allclose(sums.shifts * PIXEL, on_grid.origins, atol=1e-5)
    sharp = replace(ONE_PASS, local_sigma_factor=0.3)
    far = replace(near, eulers=near.eulers + np.array([0.0, 60.0, 0.0]))
    assert _angles(_expect(on_grid, sharp, replace(FINE_GRID, local=True), far), on_grid).min() > 15.0
    fewer = _expect(on_grid, sharp, replace(FINE_GRID, local=True), near)
    assert not np.array_equal(fewer.log_likelihood, sums.log_likelihood)


@pytest.fixture(scope="module")
def noisy(simulate: Callable[..., Any]) -> Any:
    return simulate(12, SIZE, snr=0.1, scales=np.ones(2))


def test_posterior_sums_to_one(noisy: Any) -> None:
    """What is dropped beyond the adaptive fraction is at most 0.1%."""
    sums = _expect(noisy)
    assert 0.999 * 12 <= sums.mass <= 12 * (1 + 1e-5)
    assert sums.directions.sum() == pytest.approx(sums.mass, rel=1e-5)
    assert ((sums.pmax > 0) & (sums.pmax < 1)).all()
    np.testing.assert_array_equal(sums.counts, [6, 6])
    less = _expect(noisy, replace(SETTINGS, adaptive_fraction=0.6))
    assert 0.6 * 12 <= less.mass < 0.95 * 12
    assert less.significant.sum() < sums.significant.sum()


def test_result_does_not_depend_on_memory(noisy: Any) -> None:
    """Blocks of one particle and of all: same poses and, to float32, same sums."""
    plenty, scarce = _expect(noisy), _expect(noisy, memory=1)
    np.testing.assert_array_equal(plenty.eulers, scarce.eulers)
    np.testing.assert_array_equal(plenty.shifts, scarce.shifts)
    np.testing.assert_allclose(plenty.pmax, scarce.pmax, rtol=2e-3)
    np.testing.assert_allclose(plenty.residual, scarce.residual, rtol=1e-3)
    size = float(plenty.accumulators[0].data.abs().max())
    np.testing.assert_allclose(plenty.accumulators[0].data, scarce.accumulators[0].data, atol=2e-3 * size)


def test_log_likelihood_of_noise(simulate: Callable[..., Any]) -> None:
    """Without signal, log p(X) of each sample is -1 - log(2 pi sigma²) on average, whatever the pose."""
    simulation = simulate(40, SIZE, snr=1e-12)
    settings = replace(SETTINGS, particle_diameter=1000.0)
    sums = _expect(simulation, settings, voxels=np.zeros_like(simulation.map))
    used = len(ImagePreparer(simulation.data, settings, 10, (0.0, np.inf), torch.device("cpu")).samples) - 1
    expected = -used * (1 + np.log(np.pi * simulation.sigma**2))
    # Each sample has variance one around it; poses are counted by the logarithm of sums of their priors: small.
    priors = 12.0
    assert np.abs(sums.log_likelihood.mean() - expected) < 5 * np.sqrt(used / 40) + priors


def test_noise_is_what_the_model_leaves(simulate: Callable[..., Any]) -> None:
    """With true poses and map the residual is the noise that the mask lets through: sigma² times its area."""
    simulation = _on_grid(simulate, 60, 1.0)
    settings = replace(ONE_PASS, norm_correction=False)
    sums = _expect(simulation, settings, FINE_GRID)
    assert _angles(sums, simulation).max() < 0.05
    preparer = ImagePreparer(simulation.data, settings, 10, (0.0, np.inf), torch.device("cpu"))
    expected = float((preparer.mask**2).mean()) * simulation.sigma**2 / 2
    counts = np.bincount(preparer.full.shell)[:SHELLS]
    found = sums.residual[0] / 60 / (2 * counts)
    # 60 images of 6 and more samples: 5%; and a few percent of the signal that padding 2 and the mask distort.
    np.testing.assert_allclose(found[1:10] / expected, 1.0, atol=0.25)
    assert found[1:10].mean() == pytest.approx(expected, rel=0.1)


@pytest.mark.parametrize("known", [False, True])
def test_scales_of_groups_are_recovered(known: bool, simulate: Callable[..., Any]) -> None:
    """30 particles a group: 1% each. Whether the scales are known to the comparison does not matter."""
    truth = np.array([0.7, 1.0, 1.3])
    simulation = _on_grid(simulate, 90, 1.0, scales=truth)
    sums = _expect(simulation, ONE_PASS, FINE_GRID, scale=truth if known else np.ones(3))
    scale = sums.agreement / sums.strength
    np.testing.assert_allclose(scale / scale.mean(), truth / truth.mean(), rtol=0.03)


def test_only_clear_shells_decide_the_scale(noisy: Any) -> None:
    everything, nothing = _expect(noisy), _expect(noisy, ssnr=np.full(SHELLS, 2.9))
    assert (everything.strength > 0).all()
    assert (nothing.strength == 0).all()


def test_grey_value_factors_are_recovered(simulate: Callable[..., Any]) -> None:
    gains = np.tile([0.8, 1.0, 1.25], 30)
    simulation = simulate(90, SIZE, snr=0.2, gains=gains)
    particles = simulation.particles()
    sums = _expect(simulation)
    for _ in range(2):  # the first time the factors are not yet known to the comparison
        particles = replace(particles, norm=sums.norm)
        sums = _expect(simulation, particles=particles, average_norm=float(sums.norm.mean()))
    means = sums.norm.reshape(30, 3).mean(axis=0)
    # 30 images of 300 pixels inside the mask each: 0.8%.
    np.testing.assert_allclose(means / means.mean(), [0.8, 1.0, 1.25] / np.mean([0.8, 1.0, 1.25]), rtol=0.03)


def test_widths_of_priors_steer_poses(noisy: Any) -> None:
    wide, narrow = _expect(noisy), _expect(noisy, sigma_offset=1.0)
    assert (narrow.shifts**2).sum() < (wide.shifts**2).sum()
    assert narrow.offset_square < wide.offset_square
    directions = wide.directions.shape[1]
    one = np.zeros(directions)
    one[3] = 1.0
    forced = _expect(noisy, direction_prior=one)
    assert forced.directions[0, 3] == pytest.approx(forced.mass, rel=1e-6)


def test_sharper_grids_use_finer_detail_in_the_coarse_pass() -> None:
    """Order 2 turns the edge of a 200 Å particle by 26 Å: /1.2 is 21.8 Å, shell 11 of 226.56 Å."""
    assert coarse_radius(200.0, 15.0, 226.56, 32) == 11
    assert coarse_radius(200.0, 7.5, 226.56, 32) == 21
    assert coarse_radius(200.0, 7.5, 226.56, 15) == 15
    assert coarse_radius(20.0, 60.0, 50.0, 15) == 6
