"""Whether a first model is believed: by particles it was not made of, against a ball and against nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from vitrea.fourier.shells import radial_real_profile
from vitrea.fourier.transforms import to_fourier, to_real
from vitrea.likelihood.ab_initio import AbInitio
from vitrea.likelihood.maximisation import round_mask
from vitrea.likelihood.scheme import Scheme
from vitrea.likelihood.settings import Settings
from vitrea.likelihood.state import RunState
from vitrea.records.recorder import SilentRecorder

ROUND = 4.0  # amplitude of the ball that is added to a molecule, in units of its own
SETTINGS = Settings(particle_diameter=80.0, offset_range=8.0, offset_step=4.0, healpix_order=2, maximum_iterations=4)
SCHEME = Scheme(
    1, planar=False, schedule="auto", centre_classes=True, finish_resolution=16.0, particles_per_class=60
)  # fmt: skip


def ab_initio(simulation: Any, symmetry: str, seed: int = 1) -> AbInitio:
    settings = replace(SETTINGS, symmetry=symmetry, seed=seed, healpix_order=1 if symmetry == "C1" else 2)
    mask = round_mask(simulation.data.box_size, 80.0, 4.0, 5.0)
    return AbInitio(
        simulation.data, settings, mask, torch.device("cpu"), 64 << 20, SilentRecorder(), SCHEME, particles_at_end=120,
        held=np.arange(0, len(simulation.data), 2),
    )  # fmt: skip


def given(simulation: Any, voxels: NDArray[np.float32]) -> tuple[AbInitio, RunState]:
    """A run with a given map of molecules with cubic symmetry, and its state at the end."""
    run = ab_initio(simulation, "O")
    state = run.start([voxels], simulation.particles())
    model = state.models[0].with_classes([replace(state.models[0].classes[0], voxels=voxels)])
    return run, replace(state, models=(model,), progress=replace(state.progress, current_size=12))


@pytest.fixture(scope="module")
def nearly_round(simulate: Callable[..., Any], transfer: Callable[..., Any]) -> tuple[Any, NDArray[np.float32]]:
    """Molecules most of whose power is that of a ball, in noise twice as strong as the rest; their map."""
    whole = np.random.default_rng(2).integers(-1, 2, (240, 2)).astype(float)  # places that the coarse search knows
    simulation = simulate(240, snr=np.inf, symmetry="O", origins=whole)
    added = ROUND * radial_real_profile(torch.from_numpy(simulation.map))
    size = len(added)
    ky, kx = np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)
    x, y = (simulation.origins / simulation.data.pixel_size).T[:, :, None, None]
    # The same from everywhere: only its place and the CTF differ.
    moved = to_fourier(added.sum(dim=0)) * torch.from_numpy(
        transfer(simulation) * np.exp(2j * np.pi * (kx * x + ky * y))
    )
    noise = 2 * simulation.images.std() * np.random.default_rng(3).standard_normal(simulation.images.shape)
    images = simulation.images + to_real(moved, size).numpy() + noise
    return simulation.with_images(images.astype(np.float32)), simulation.map + added.numpy()


def test_a_nearly_round_molecule_is_believed(nearly_round: tuple[Any, NDArray[np.float32]]) -> None:
    """What its ball explains must not count as noise: there is 16 times more of it than of all the rest."""
    simulation, true = nearly_round
    run, state = given(simulation, true)
    verdict = run.judge(state)
    assert verdict.confident and verdict.particles == 80
    ball = radial_real_profile(torch.from_numpy(true)).numpy()
    chosen = run.judges()
    likelihoods = [
        run.log_likelihood(again.models[0], chosen, 5, again)
        for again in (state, given(simulation, ball)[1])
    ]  # fmt: skip
    assert verdict.gain > 2 * float(np.mean(likelihoods[0] - likelihoods[1]))


def test_a_ball_is_not_believed(nearly_round: tuple[Any, NDArray[np.float32]]) -> None:
    simulation, true = nearly_round
    ball = radial_real_profile(torch.from_numpy(true)).numpy()
    run, state = given(simulation, ball)
    verdict = run.judge(state)
    assert not verdict.confident and abs(verdict.gain) < 1e-3


@pytest.mark.parametrize("symmetry", ["C1", "D2", "O"])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_maps_of_noise_are_not_believed(simulate: Callable[..., Any], symmetry: str, seed: int) -> None:
    simulation = simulate(160, snr=1.0, seed=seed)
    noise = np.random.default_rng(seed).standard_normal(simulation.images.shape).astype(np.float32)
    simulation = simulation.with_images(noise)
    run = ab_initio(simulation, symmetry, seed)
    state = run.start([], simulation.particles())
    while not state.progress.finished:
        state = run.step(state)
    verdict = run.judge(state)
    assert verdict.particles == 53 and not verdict.confident
    assert verdict.gain < 0.02
