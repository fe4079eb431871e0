"""Noise inside masks, against what many maps of noise show."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from vitrea.fourier.fsc import fourier_shell_correlation, randomise_phases
from vitrea.fourier.masked_noise import mean_random_phase_fsc, noise_deviation, random_phase_spectra
from vitrea.fourier.shells import shell_counts
from vitrea.fourier.transforms import to_fourier


def white(size: int, seed: int) -> Tensor:
    return torch.randn((size,) * 3, generator=torch.Generator().manual_seed(seed))


def ball(size: int, radius: float, edge: float) -> Tensor:
    axis = torch.arange(size) - size // 2
    distance = (axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2).sqrt()
    return ((radius + edge / 2 - distance) / edge).clamp(0.0, 1.0)


@pytest.mark.parametrize("size", [24, 25])
def test_without_a_mask_every_component_counts(size: int) -> None:
    expected = shell_counts(size, 3, dtype=torch.float64).rsqrt()
    assert torch.allclose(noise_deviation(torch.ones((size,) * 3)), expected, atol=1e-6)


@pytest.mark.parametrize(
    "mask",
    [ball(24, 7.0, 4.0), ball(24, 4.0, 1.0), (white(24, 5) > 1.0) * ball(24, 7.0, 3.0)],
    ids=["soft", "small", "ragged"],
)
def test_the_fsc_of_noise_scatters_as_told(mask: Tensor) -> None:
    """100 pairs of maps give each shell's scatter to 7%, and that of ten shells together to about 3%."""
    generator = torch.Generator().manual_seed(1)
    first, second = (torch.randn(100, 24, 24, 24, generator=generator) * mask for _ in range(2))
    told = noise_deviation(mask).numpy()
    ratio = fourier_shell_correlation(first, second).numpy()[:, 3:].std(axis=0) / told[3:]
    assert np.abs(ratio - 1).max() < 0.3
    assert ratio.mean() == pytest.approx(1.0, abs=0.08)
    assert (np.diff(told) <= 0).all() and told[0] == 1.0


def test_the_mean_of_random_phases_is_that_of_many_draws() -> None:
    """Of maps that share their low shells, inside a hard mask, which carries them into the shells beyond."""
    size, start, mask = 16, 3, ball(16, 3.5, 0.1)
    low = torch.fft.irfftn(torch.fft.rfftn(white(size, 0)) * (to_radius(size) < start), s=(size,) * 3)
    maps = [3.0 * low + 0.5 * white(size, seed) for seed in (1, 2)]
    generator = torch.Generator().manual_seed(3)
    cross, powers, curves = [], [], []
    for _ in range(100):
        one, other = (randomise_phases(volume, start, generator) * mask for volume in maps)
        curves.append(fourier_shell_correlation(one, other).double())
        transforms = to_fourier(one, 3), to_fourier(other, 3)
        cross.append((transforms[0] * transforms[1].conj()).real)
        powers.append(transforms[0].abs().square())
    drawn = torch.stack(curves)
    mean = mean_random_phase_fsc(*maps, mask, start)
    assert float(mean[start + 2 :].mean()) > 0.05  # else this would show nothing
    error = drawn.std(dim=0) / len(drawn) ** 0.5
    # A mean of ratios is not quite the ratio of means; the difference goes with one over the samples of a shell.
    assert ((mean - drawn.mean(dim=0)).abs() < 4 * error + drawn.var(dim=0) + 0.003).all()
    spectra = random_phase_spectra(*maps, mask, start)
    for found, drawn_spectra in ((spectra[0], cross), (spectra[1], powers)):
        expected = torch.stack(drawn_spectra).mean(dim=0)
        assert float((found - expected).square().mean() / expected.square().mean()) < 0.03


def to_radius(size: int) -> Tensor:
    k = torch.fft.fftfreq(size, 1 / size)
    return (k[:, None, None] ** 2 + k[:, None] ** 2 + torch.fft.rfftfreq(size, 1 / size) ** 2).sqrt()
