"""Independent samples of a shell, against maps whose number of them is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vitrea.fourier.angular_correlation import independent_samples
from vitrea.fourier.fsc import fourier_shell_correlation
from vitrea.fourier.grid import frequency_radius
from vitrea.fourier.transforms import to_fourier, to_real

SIZE = 24


def _noise(seed: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal((SIZE,) * 3).astype(np.float32))


def _radial(seed: int, share: float) -> torch.Tensor:
    """Noise with a share of its power in the mean of each shell."""
    transform = to_fourier(_noise(seed), 3)
    shells = frequency_radius(SIZE, 3).round().long()
    means = torch.from_numpy(np.random.default_rng([seed, 1]).choice([-1.0, 1.0], SIZE).astype(np.float32))
    return to_real((1 - share) ** 0.5 * transform + share**0.5 * means[shells.clamp(max=SIZE - 1)], SIZE, 3)


def test_white_noise_has_as_many_as_components() -> None:
    """Shell 8 has 800 components: too many for 256 of them to tell, so at least a good part of that."""
    samples = independent_samples(_noise(1), _noise(2))
    assert samples.shape == (SIZE // 2 + 1,)
    assert samples[5:].min() > 100


@pytest.mark.parametrize("share", [0.5, 0.9])
def test_a_radial_part_leaves_few(share: float) -> None:
    """A part p of the power in one number has the variance p² in the FSC, the rest next to none."""
    samples = independent_samples(_radial(3, share), _radial(4, share))
    np.testing.assert_allclose(samples[4:], 1 / share**2, rtol=0.25)
    agreement = fourier_shell_correlation(_radial(3, share), _radial(4, share))[4:].abs()
    np.testing.assert_allclose(agreement, share, atol=0.2)  # for nothing that the two have in common


def test_one_map_alone_is_not_enough() -> None:
    """The variance is that of a product: where one of the maps is white, chance has no hold."""
    assert independent_samples(_radial(3, 0.9), _noise(4))[5:].min() > 30
