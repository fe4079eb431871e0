"""Noise substitution: images keep what they should, and curves of a known model give back its FSC."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vitrea.fourier.fsc import fourier_shell_correlation
from vitrea.fourier.grid import frequency_radius
from vitrea.fourier.shells import shell_counts
from vitrea.fourier.transforms import to_fourier, to_real
from vitrea.maps.masking import sphere_mask
from vitrea.maps.noise_substitution import measure_overfitting, substitute_phases


@pytest.mark.parametrize("size", [32, 33])
def test_only_phases_beyond_the_resolution_change(size: int) -> None:
    images = np.random.default_rng(0).normal(size=(40, size, size)).astype(np.float32)
    rows = np.arange(40)
    new = substitute_phases(images, 9.0, rows, seed=5)
    before, after = (to_fourier(torch.from_numpy(one)) for one in (images, new))
    beyond = frequency_radius(size, 2) >= 9.0
    assert torch.allclose(before[:, ~beyond], after[:, ~beyond], atol=1e-4)
    assert torch.allclose(before.abs()[:, beyond], after.abs()[:, beyond], atol=1e-3)
    assert np.allclose(images.std(axis=(1, 2)), new.std(axis=(1, 2)), rtol=1e-4)
    ring = fourier_shell_correlation(torch.from_numpy(images), torch.from_numpy(new), dims=2).mean(dim=0)
    assert float(ring[:9].min()) > 0.999
    # 40 images with 30 independent components and more in a ring: a mean of 0, give or take 0.03.
    assert float(ring[10:16].abs().max()) < 0.1
    phases = torch.angle(after * before.conj())[:, beyond].flatten()
    assert abs(float(torch.cos(phases).mean())) < 0.02 and abs(float(torch.sin(phases).mean())) < 0.02


def test_phases_follow_from_seed_and_row_alone() -> None:
    images = np.random.default_rng(1).normal(size=(6, 16, 16)).astype(np.float32)
    whole = substitute_phases(images, 4.0, np.arange(6), seed=1)
    parts = [substitute_phases(images[rows], 4.0, np.array(rows), seed=1) for rows in ([0, 1], [5, 3])]
    assert np.array_equal(whole[[0, 1]], parts[0]) and np.array_equal(whole[[5, 3]], parts[1])
    assert not np.allclose(whole, substitute_phases(images, 4.0, np.arange(6), seed=2))


def model(seed: int, overfit: float, size: int = 64):  # type: ignore[no-untyped-def]
    """Half maps with signal S(s), noise of power 1 that differs and noise of power `overfit` that they share.

    In the second pair the signal beyond shell 10 is gone, as in a refinement of substituted particles, and the shared
    noise another one. Returned with S by shell.
    """
    generator = torch.Generator().manual_seed(seed)

    def white() -> torch.Tensor:
        return to_fourier(torch.randn((size,) * 3, generator=generator), 3)

    radius = frequency_radius(size, 3)
    strength = 30.0 * torch.exp(-(radius**2) / 120.0)
    signal = white() * strength.sqrt()
    shared = [white() * np.sqrt(overfit) * (radius >= 10) for _ in range(2)]
    kept = signal * (radius < 10)
    pairs = [
        [to_real(what + white(), size, 3).numpy() for _ in range(2)] for what in (signal + shared[0], kept + shared[1])
    ]
    shells = torch.arange(size // 2 + 1)
    return pairs, 30.0 * np.exp(-(shells.numpy() ** 2) / 120.0)


@pytest.mark.parametrize("overfit", [0.0, 0.3, 1.0])
def test_the_fsc_without_overfitting_is_found(overfit: float) -> None:
    """With signal S, shared noise O and other noise 1 the curves are (S + O) / (S + O + 1) and O / (O + 1); what is
    left is S / (S + O + 1), the FSC that a map with noise O + 1 deserves (Chen et al. 2013)."""
    pairs, signal = model(3, overfit)
    found = measure_overfitting(tuple(pairs[0]), tuple(pairs[1]), 1.0, 64 / 10)
    assert found.from_shell == pytest.approx(10) and found.first_corrected == 12
    assert np.array_equal(found.true[:12], found.original[:12])
    beyond = slice(12, 30)
    counts = shell_counts(64, 3)[beyond].numpy()
    scatter = 4 / np.sqrt(counts.min() / 2)  # of an FSC, 4 sigma: half of the samples are mates of the others
    assert np.allclose(found.original[beyond], ((signal + overfit) / (signal + overfit + 1))[beyond], atol=scatter)
    assert np.allclose(found.substituted[beyond], overfit / (overfit + 1), atol=scatter)
    # The division by 1 - n widens the scatter.
    assert np.allclose(found.true[beyond], (signal / (signal + overfit + 1))[beyond], atol=scatter * (1 + overfit))
    assert found.feigned == pytest.approx(overfit / (overfit + 1), abs=0.03)
    exact = 64 / np.sqrt(-120 * np.log((1 + overfit) / 6 / 30))  # S / (S + O + 1) = 1 / 7
    assert found.resolution(found.true, 0.143) == pytest.approx(exact, rel=0.04)
    if overfit:
        assert found.resolution(found.original, 0.143) == 2.0  # never falls


def test_what_a_mask_feigns_is_taken_off_too() -> None:
    """No signal beyond shell 10 in any map: what masked maps agree on there has leaked from the shells before."""
    first, second = (tuple(model(seed, 0.0)[0][1]) for seed in (4, 5))
    plain = measure_overfitting(first, second, 1.0, 6.4)
    masked = measure_overfitting(first, second, 1.0, 6.4, sphere_mask(64, 12.0, 0.0))
    beyond = slice(12, 30)
    assert abs(plain.original[beyond].mean()) < 0.02
    assert masked.original[12:16].mean() > 0.15 and masked.feigned > 0.15
    assert abs(masked.true[beyond].mean()) < 0.05
