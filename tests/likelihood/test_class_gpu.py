"""Classifications on a CUDA device give what they give on the CPU."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from vitrea.likelihood.scheme import Scheme
from vitrea.likelihood.settings import Settings

pytestmark = pytest.mark.gpu
SETTINGS = Settings(
    particle_diameter=80.0,
    offset_range=4.0,
    offset_step=4.0,
    healpix_order=1,
    maximum_iterations=4,
    initial_resolution=20.0,
    adaptive_fraction=1.0,
)


@pytest.mark.parametrize("search", ["global", "local", "shifts"])
@pytest.mark.parametrize("planar", [True, False])
@pytest.mark.parametrize("fine", [True, False])
def test_an_iteration_is_the_same(fine: bool, planar: bool, search: Any, simulate: Callable[..., Any]) -> None:
    """One and two passes, matrix products and rows; mini-batches, so that sums are kept and centred."""
    simulation = simulate(16, 24, snr=0.3, scales=np.ones(2))
    settings = replace(SETTINGS, oversampling=int(fine))
    scheme = Scheme(
        2,
        planar,
        "batches",
        psi_step=20.0 if planar else 0.0,
        search=search,
        local_sigma=20.0,
        centre_classes=True,
        particles_per_class=4,
        occupancy=True,
        always_oversample=fine,
    )
    voxels = simulation.map.sum(axis=0) if planar else simulation.map
    references = [np.roll(voxels, 2, axis=0), np.rot90(voxels, axes=(-2, -1)).copy()]
    states = []
    for device in ("cpu", "cuda"):
        run = replace(simulation.classification(settings, scheme), device=torch.device(device))
        states.append(run.step(run.step(run.start(references, simulation.particles(known=True)))))
    one, other = states
    # Products in other orders: a pose that is as good as another may change, in few particles.
    same = np.abs(one.particles.eulers - other.particles.eulers).max(axis=1) < 1e-3
    assert same.mean() > 0.9
    np.testing.assert_allclose(one.particles.pmax[same], other.particles.pmax[same], rtol=0.02, atol=1e-4)
    for first, second in zip(one.models[0].classes, other.models[0].classes, strict=True):
        assert first.share == pytest.approx(second.share, abs=0.02)
        assert np.corrcoef(first.voxels.ravel(), second.voxels.ravel())[0, 1] > 0.999
    np.testing.assert_allclose(one.models[0].sigma2_noise, other.models[0].sigma2_noise, rtol=0.01)
    assert all(item.data.device.type == "cuda" for item in other.carried)
