"""Whole refinements of simulated particles: truth is found, noise stays noise, runs repeat themselves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
import torch

from vitrea.fourier.fsc import fourier_shell_correlation
from vitrea.geometry.euler import euler_to_matrix, matrix_to_euler
from vitrea.geometry.symmetry import symmetry_distance
from vitrea.likelihood.data import ImagePreparer
from vitrea.likelihood.refinement import SIGNIFICANT
from vitrea.likelihood.schedule import RESOLVED_FSC
from vitrea.likelihood.settings import Settings
from vitrea.likelihood.state import RunState

SIZE, PIXEL = 24, 4.0
BOX = SIZE * PIXEL
SETTINGS = Settings(
    particle_diameter=80.0,
    initial_resolution=24.0,
    join_resolution=32.0,
    healpix_order=1,
    auto_local_healpix_order=3,
    offset_range=8.0,
    offset_step=4.0,
    maximum_iterations=6,
    accuracy_particles=10,
)


def _equal(one: Any, other: Any) -> bool:
    """Compare records field by field, arrays bit by bit; times do not count."""
    if hasattr(one, "__dataclass_fields__"):
        names = [item.name for item in fields(one) if item.name != "seconds"]
        return all(_equal(getattr(one, name), getattr(other, name)) for name in names)
    if isinstance(one, tuple):
        return len(one) == len(other) and all(_equal(a, b) for a, b in zip(one, other, strict=True))
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and np.array_equal(one, other)
    return bool(one == other)


def _angles(state: RunState, simulation: Any, symmetry: str) -> np.ndarray:
    return symmetry_distance(euler_to_matrix(state.particles.eulers), euler_to_matrix(simulation.eulers), symmetry)


@pytest.mark.parametrize("symmetry", ["C1", pytest.param("D2", marks=pytest.mark.slow)])
def test_refinement_finds_the_truth(symmetry: str, simulate: Callable[..., Any]) -> None:
    """150 clear particles (SNR 2), poses unknown, from the truth blurred to 24 Å (shell 4), in nine iterations.

    What these data can tell is estimated apart from the search: `estimate_accuracy` gives about 2 degrees and 0.6 Å.
    Errors of that size lower amplitudes at high frequency, by which the limits beyond shell 6 are explained: at the
    particle's edge (32 Å) 2 degrees are 1.1 Å.
    """
    simulation = simulate(150, SIZE, snr=2.0, symmetry=symmetry, width=0.9)
    settings = replace(SETTINGS, symmetry=symmetry, healpix_order=2, maximum_iterations=9)
    refinement = simulation.refinement(settings)
    states = list(refinement.iterate(refinement.start(simulation.map, simulation.particles())))
    final = states[-1]
    assert final.progress.finished
    assert final.joined is not None
    first, last = (float(np.median(_angles(state, simulation, symmetry))) for state in (states[0], final))
    assert last < 3.0 < first < 10.0
    assert last < 1.5 * final.models[0].classes[0].accuracy_rotation
    # Å; a sixteenth of a pixel. Images are centred by whole pixels, so that the search must reach half a pixel.
    assert np.median(np.abs(final.particles.shifts - simulation.origins)) < 0.25
    truth = torch.from_numpy(simulation.map)
    fsc = fourier_shell_correlation(torch.from_numpy(final.joined.classes[0].voxels), truth).numpy()
    assert fsc[1:7].min() > 0.95
    assert fsc[8] > 0.8
    halves = [
        fourier_shell_correlation(torch.from_numpy(half.classes[0].unfiltered), truth).numpy() for half in final.models
    ]
    assert min(half[1:7].min() for half in halves) > 0.93
    assert final.progress.resolution < 12.0
    # The map is on the greyscale of the images; errors of poses take a little away.
    assert 0.85 < float((final.joined.classes[0].voxels * simulation.map).sum() / (simulation.map**2).sum()) < 1.02
    # Beyond the signal the noise spectrum is the noise that the mask lets through.
    preparer = ImagePreparer(simulation.data, settings, SIZE // 2, (0.0, np.inf), torch.device("cpu"))
    noise = final.joined.sigma2_noise[0, 9:12].mean() / (simulation.sigma**2 / 2)
    assert noise == pytest.approx(float((preparer.mask**2).mean()), rel=0.1)


@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_noise_gives_no_structure(seed: int, simulate: Callable[..., Any]) -> None:
    """Two half sets of noise, aligned to one start map, must not be found resolved beyond what they were told.

    Below the initial low-pass (shell 4) and the join (shell 3) they agree. Single shells beyond scatter far more than
    1 / sqrt(voxels): noise has broad posteriors, its maps are nearly radial, and a shell of such a map
    holds few independent values. So the claim is tested; each shell that holds enough of them to tell (440, whose FSC
    has a standard deviation of 0.048); and the others together: in standard deviations of as many values as each holds
    they scatter by about two (numbers estimated from single maps are too high), around zero unless something is shared.
    """
    simulation = simulate(80, SIZE, snr=1e-9, seed=seed)
    noise = simulation.with_images((simulation.images / simulation.sigma).astype(np.float32))
    refinement = noise.refinement(replace(SETTINGS, maximum_iterations=4, offset_range=4.0))
    states = list(refinement.iterate(refinement.start(simulation.map, noise.particles())))
    # In the first iteration both halves are aligned to one and the same map and agree through it.
    assert [state.progress.resolution >= BOX / 5 for state in states[1:]] == [True] * 3
    assert all(state.models[0].average_pmax < 0.01 for state in states)
    tellable = []
    for state in states[1:]:
        evidence, fsc = refinement.evidence(state.models), state.models[0].classes[0].fsc
        threshold, beyond = evidence.threshold[evidence.inherited + 1 :], fsc[evidence.inherited + 1 :]
        tellable += beyond[threshold <= RESOLVED_FSC].tolist()
    assert tellable
    assert max(tellable) <= RESOLVED_FSC
    deviations = beyond * SIGNIFICANT / threshold
    assert abs(deviations.mean()) < 3.0 * 2.0 / np.sqrt(len(deviations))
    assert states[-2].models[0].classes[0].fsc[2] == 1.0  # joined
    assert states[-1].models[0].classes[0].fsc[2] < 1.0  # nothing follows that would need a common frame


@pytest.mark.parametrize("known", [True, False])
def test_first_iteration_is_local_where_poses_are_known(known: bool, simulate: Callable[..., Any]) -> None:
    """Poses given 40 degrees off the truth: a local search stays near them, a global one would find the truth.

    At order 1 (30 degrees, halved by oversampling) and a sigma factor of 0.5 the search reaches 22.5 degrees in
    direction and in the plane, and the grid's own steps beyond.
    """
    simulation = simulate(12, SIZE, snr=2.0)
    off = euler_to_matrix(np.array([0.0, 40.0, 0.0]))
    wrong = matrix_to_euler(euler_to_matrix(simulation.eulers) @ off) if known else np.zeros((12, 3))
    particles = replace(simulation.particles(), eulers=wrong)
    settings = replace(SETTINGS, auto_local_healpix_order=1, local_sigma_factor=0.5)
    refinement = simulation.refinement(settings)
    state = refinement.step(refinement.start(simulation.map, particles))
    assert state.sampling.local
    from_truth = _angles(state, simulation, "C1")
    if known:
        moved = symmetry_distance(euler_to_matrix(state.particles.eulers), euler_to_matrix(wrong), "C1")
        assert moved.max() < 45.0
        assert np.median(from_truth) > 15.0
    else:
        assert np.median(from_truth) < 12.0


@pytest.fixture(scope="module")
def small(simulate: Callable[..., Any]) -> Any:
    return simulate(24, SIZE, snr=0.3, scales=np.array([0.8, 1.2]))


def _state(simulation: Any, settings: Settings, steps: int) -> RunState:
    refinement = simulation.refinement(settings)
    state = refinement.start(simulation.map, simulation.particles())
    for _ in range(steps):
        state = refinement.step(state)
    return state


def test_runs_repeat_themselves_and_go_on(small: Any) -> None:
    """Bit by bit: two runs, and a run that goes on from a state that was set aside."""
    first, again = (_state(small, SETTINGS, 2) for _ in range(2))
    assert _equal(first, again)
    unbroken = _state(small, SETTINGS, 3)
    assert not _equal(first, unbroken)
    assert _equal(small.refinement(SETTINGS).step(first), unbroken)


def test_start(small: Any) -> None:
    state = _state(small, SETTINGS, 0)
    assert state.iteration == 0
    assert state.progress.resolution == pytest.approx(24.0)
    assert state.progress.current_size == 24  # shell 4 and 10 more are beyond Nyquist
    noise = [half.sigma2_noise for half in state.models]
    one, two = (half.classes[0] for half in state.models)
    np.testing.assert_array_equal(one.voxels, two.voxels)
    assert one.direction_prior.sum() == pytest.approx(1.0)
    assert not np.array_equal(*noise)
    power = fourier_shell_correlation(torch.from_numpy(one.voxels), torch.from_numpy(small.map))
    assert power[1:4].min() > 0.99
    spectrum = np.abs(np.fft.rfftn(one.voxels))[8, 0, 0] / np.abs(np.fft.rfftn(small.map))[8, 0, 0]
    assert spectrum < 0.01  # nothing beyond the low-pass filter


def test_last_iteration(small: Any) -> None:
    states = list(small.refinement(replace(SETTINGS, maximum_iterations=2)).iterate(_state(small, SETTINGS, 0)))
    assert [state.iteration for state in states] == [1, 2]
    assert [state.progress.finished for state in states] == [False, True]
    assert states[0].joined is None
    joined = states[1].joined
    assert joined is not None
    np.testing.assert_allclose(
        joined.sigma2_noise, 0.5 * (states[1].models[0].sigma2_noise + states[1].models[1].sigma2_noise)
    )


def test_halves_share_nothing_but_low_resolution(small: Any) -> None:
    """Other images in half 2 leave poses, noise and high frequencies of half 1 as they are."""
    first = small.particles().half == 1
    images = small.images.copy()
    images[~first] = np.random.default_rng(1).standard_normal(images[~first].shape) * small.images.std()
    settings = replace(SETTINGS, join_resolution=BOX)  # the first shell only
    one, other = _state(small, settings, 1), _state(small.with_images(images), settings, 1)
    np.testing.assert_array_equal(one.particles.eulers[first], other.particles.eulers[first])
    np.testing.assert_array_equal(one.models[0].sigma2_noise, other.models[0].sigma2_noise)
    assert not np.array_equal(one.particles.eulers[~first], other.particles.eulers[~first])
    maps = [torch.from_numpy(state.models[0].classes[0].unfiltered) for state in (one, other)]
    # Masking in real space mixes neighbouring shells a little.
    assert fourier_shell_correlation(*maps)[3:9].min() > 0.99
    maps = [torch.from_numpy(state.models[1].classes[0].unfiltered) for state in (one, other)]
    assert fourier_shell_correlation(*maps)[3:9].max() < 0.9


# Choices that show after one iteration from the start, each with a value other than that of SETTINGS.
FROM_START: dict[str, Any] = {
    "particle_diameter": 60.0,
    "symmetry": "C2",
    "mask_edge": 2.0,
    "zero_mask": False,
    "gather_signal": True,
    "whole_noise": True,
    "flatten_solvent": False,
    "ctf": False,
    "ctf_intact_first_peak": True,
    "ctf_phase_flipped": True,
    "only_flip_phases": True,
    "first_iteration_correlation": True,
    "initial_resolution": 40.0,
    "solvent_correct_fsc": True,
    "tau2_fudge": 4.0,
    "padding": 1,
    "oversampling": 0,
    "adaptive_fraction": 0.5,
    "healpix_order": 2,
    "offset_range": 12.0,
    "offset_step": 3.0,
    "sigma_offset": 2.0,
    "perturbation": 0.2,
    "join_resolution": 16.0,
    "highest_resolution": 16.0,
    "lowest_resolution": 60.0,
    "scale_correction": False,
    "seed": 2,
}


def _clear(state: RunState) -> RunState:
    """The state with shells that are clear enough for scales to be estimated."""
    clear = np.full(SIZE // 2 + 1, 10.0)
    models = tuple(half.with_classes([replace(half.classes[0], ssnr=clear)]) for half in state.models)
    return replace(state, models=models)


@pytest.fixture(scope="module")
def after_one(small: Any) -> RunState:
    refinement = small.refinement(SETTINGS)
    return refinement.step(_clear(_state(small, SETTINGS, 0)))


@pytest.mark.parametrize("name", list(FROM_START))
def test_every_choice_changes_the_result(name: str, small: Any, after_one: RunState) -> None:
    settings = replace(SETTINGS, **{name: FROM_START[name]})
    refinement = small.refinement(settings)
    state = refinement.step(_clear(refinement.start(small.map, small.particles())))
    assert not _equal(state.models, after_one.models)
    assert np.isfinite(state.models[0].classes[0].voxels).all()


@pytest.mark.parametrize(
    "name", ["norm_correction", "auto_local_healpix_order", "local_sigma_factor", "maximum_iterations"]
)
def test_choices_that_show_later(name: str, small: Any, after_one: RunState) -> None:
    """From a state about to sample more finely, in which poses are searched near the last ones."""
    ready = replace(after_one, progress=replace(after_one.progress, stalled_resolution=1, stalled_poses=1))
    settings = replace(SETTINGS, auto_local_healpix_order=2)
    plain = small.refinement(settings).step(ready)
    assert plain.sampling.local
    value = {
        "norm_correction": False,
        "auto_local_healpix_order": 4,
        "local_sigma_factor": 0.5,
        "maximum_iterations": 2,
    }[name]
    changed = small.refinement(replace(settings, **{name: value})).step(ready)
    assert not _equal(changed, plain)


def test_accuracy_comes_from_some_particles(small: Any, after_one: RunState) -> None:
    few, many = (
        small.refinement(replace(SETTINGS, accuracy_particles=count)).step(after_one).models[0].classes[0]
        for count in (2, 12)
    )
    assert few.accuracy_rotation != many.accuracy_rotation
    assert 0 < many.accuracy_translation < 20.0


def test_all_settings_are_tested() -> None:
    later = {"norm_correction", "auto_local_healpix_order", "local_sigma_factor", "maximum_iterations"}
    tested = set(FROM_START) | later | {"accuracy_particles"}
    assert {item.name for item in fields(Settings)} == tested


@pytest.mark.parametrize(("factor", "optics", "told"), [(True, True, {}), (False, False, {"ctf_phase_flipped": True})])
def test_images_multiplied_or_flipped_beforehand(
    factor: bool, optics: bool, told: dict[str, bool], simulate: Callable[..., Any], transfer: Callable[..., Any]
) -> None:
    """Images times their CTF, or its sign, give the poses of the plain images, if the program is told so."""
    simulation = simulate(16, SIZE, snr=1.0)
    settings = replace(SETTINGS, particle_diameter=1000.0, initial_resolution=0.0)
    plain = _state(simulation, settings, 1)
    ctf = transfer(simulation)
    transforms = np.fft.rfft2(np.fft.ifftshift(simulation.images, axes=(1, 2)))
    changed = np.fft.irfft2(transforms * (ctf if factor else np.sign(ctf)), s=(SIZE, SIZE))
    images = np.fft.fftshift(changed, axes=(1, 2)).astype(np.float32)
    given = simulation.with_images(images, ctf_premultiplied=optics)
    found = _state(given, replace(settings, **told), 1)
    same = symmetry_distance(euler_to_matrix(found.particles.eulers), euler_to_matrix(plain.particles.eulers), "C1")
    assert np.mean(same < 1e-3) >= 0.9  # one in ten may lie between two poses that are as good
    untold = _state(simulation.with_images(images), settings, 1)
    wrong = symmetry_distance(euler_to_matrix(untold.particles.eulers), euler_to_matrix(simulation.eulers), "C1")
    assert np.median(wrong) > np.median(_angles(found, simulation, "C1"))
