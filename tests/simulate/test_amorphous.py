"""Ice and carbon: spectra in closed form, and the process that makes a movie of ice."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from vitrea.optics.ctf import ctf
from vitrea.records.optics import Optics
from vitrea.simulate.amorphous import (
    carbon_power,
    ice_average,
    ice_memory,
    ice_power,
    ice_steps,
    ice_structure_factor,
    layer_transfer,
)
from vitrea.simulate.scattering import interaction_constant

OPTICS = Optics(1.0, 64, 300.0, 2.7, 0.1)


def test_power_of_independent_scatterers() -> None:
    """Carbon at low resolution: atoms per area times the squared phase of one atom, 120 V Å³ at 300 kV."""
    k = torch.zeros(1, dtype=torch.float64)
    one_atom = interaction_constant(300) * 47.878 * 2.509
    assert float(carbon_power(k, 200.0, 300.0)) == pytest.approx(0.1 * 200 * one_atom**2, rel=0.01)
    assert float(carbon_power(k, 400.0, 300.0) / carbon_power(k, 200.0, 300.0)) == pytest.approx(2)


def test_ice_has_little_power_at_low_resolution_and_a_ring_at_3_7_angstroms() -> None:
    k = torch.linspace(0, 0.6, 601, dtype=torch.float64)
    structure = ice_structure_factor(k)
    assert float(structure[0]) == pytest.approx(0.064)
    assert float(k[structure.argmax()]) == pytest.approx(1 / 3.7, abs=0.01)
    assert float(structure[-1]) == pytest.approx(1, abs=0.05)
    assert torch.allclose(ice_power(k, 600.0, 300.0), 2 * ice_power(k, 300.0, 300.0))


def test_average_of_moving_ice_is_the_mean_over_all_pairs_of_times() -> None:
    k, exposure = torch.tensor([0.05, 0.2, 0.4], dtype=torch.float64), 20.0
    times = np.linspace(0, exposure, 401)
    pairs = torch.from_numpy(np.abs(times[:, None] - times))
    rate = -torch.log(ice_memory(k, 1.0))
    numeric = torch.exp(-rate[:, None, None] * pairs).mean(dim=(1, 2))
    assert torch.allclose(ice_average(k, exposure), numeric, rtol=5e-3)
    # McMullan et al.: 1 Å r.m.s. in space per e-/Å², a third of its square along each axis.
    assert float(rate[1]) == pytest.approx(2 * math.pi**2 * 0.2**2 / 3)


@pytest.mark.parametrize("frames", [2, 16])
def test_frames_of_ice_add_up_to_the_average_over_the_exposure(frames: int) -> None:
    """The process is stationary, and the variance of the sum (from the factors) does not depend on the frames."""
    k, exposure = torch.tensor([0.02, 0.15, 0.3], dtype=torch.float64), 24.0
    kept, entering, following, fresh, renewed = (part.double() for part in ice_steps(k, exposure / frames))
    assert torch.allclose(kept**2 + renewed**2, torch.ones(3, dtype=torch.float64), atol=1e-6)
    # The sum of frames is linear in the first state and in the two noises of each frame.
    state = [torch.zeros_like(k) for _ in range(frames + 1)]
    state[0] = torch.ones_like(k)
    total = [torch.zeros_like(k) for _ in range(frames + 1)]
    for frame in range(frames):
        for source in range(frames + 1):
            total[source] = total[source] + entering * state[source]
            state[source] = state[source] * kept
        total[frame + 1] = total[frame + 1] + following
        state[frame + 1] = renewed
    variance = sum((part / frames) ** 2 for part in total) + fresh**2 / frames
    assert torch.allclose(torch.as_tensor(variance), ice_average(k, exposure), rtol=2e-4)


def test_transfer_of_a_thick_layer_is_the_mean_over_its_depth() -> None:
    y, x = torch.zeros(300, dtype=torch.float64), torch.linspace(0.01, 0.45, 300, dtype=torch.float64)
    thickness = 800.0
    defocus = torch.tensor([15_000.0, 14_000.0, 30.0], dtype=torch.float64)
    depths = (torch.arange(400, dtype=torch.float64) + 0.5) / 400 * thickness - thickness / 2
    settings = torch.stack([defocus[0] + depths, defocus[1] + depths, torch.full_like(depths, 30.0)], dim=1)
    shift = torch.full((400,), 40.0)
    numeric = ctf(y, x, OPTICS, settings, shift, dtype=torch.float64).square().mean(dim=0).sqrt()
    assert torch.allclose(layer_transfer(y, x, OPTICS, defocus, 40.0, thickness), numeric, atol=2e-3)
    thin = ctf(y, x, OPTICS, defocus[None], torch.tensor([40.0]), dtype=torch.float64)[0].abs()
    assert torch.allclose(layer_transfer(y, x, OPTICS, defocus, 40.0, 0.0), thin, atol=1e-6)
