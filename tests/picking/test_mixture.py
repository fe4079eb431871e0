"""Thresholds from the heights of peaks: many particles, few, none."""

from __future__ import annotations

import numpy as np
import pytest

from vitrea.picking.mixture import fit_peak_heights


def heights(particles: int, noise: int, usual: float = 9.0, seed: int = 0) -> np.ndarray:
    """Return heights above 2.25, of noise as that of maxima of a Gaussian field is, and of particles."""
    rng = np.random.default_rng(seed)
    return np.concatenate([2.25 + rng.exponential(0.4, noise), rng.normal(usual, 1.5, particles)])


@pytest.mark.parametrize(("particles", "noise"), [(300, 100), (300, 300), (100, 700), (45, 720), (20, 900)])
def test_particles_are_told_from_noise_however_few(particles: int, noise: int) -> None:
    found = fit_peak_heights(heights(particles, noise), 2.25, 3.0)
    assert found.usual == pytest.approx(9.0, abs=0.8)
    assert found.share == pytest.approx(particles / (particles + noise), rel=0.25)
    assert 4.0 < found.threshold < 6.8


def test_noise_alone_makes_no_particles() -> None:
    for seed in range(5):
        found = fit_peak_heights(heights(0, 500, seed=seed), 2.25, 3.0)
        assert found.share < 0.1
