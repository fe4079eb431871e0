from __future__ import annotations

import numpy as np
import pytest
import torch

from vitrea.fourier.shells import radial_power_spectrum
from vitrea.simulate.noise import colour, coloured_spectrum, unit_variance, white_noise


def test_noise_of_an_image_depends_on_seed_and_number_only() -> None:
    all_of_them = white_noise(3, 0, 6, 16)
    assert np.array_equal(all_of_them[4:], white_noise(3, 4, 2, 16))
    assert not np.array_equal(all_of_them[0], all_of_them[1])
    assert np.abs(all_of_them - white_noise(4, 0, 6, 16)).max() > 1


def test_white_noise_has_unit_power_in_every_shell() -> None:
    noise = white_noise(1, 0, 200, 32)
    assert noise.var() == pytest.approx(1, abs=0.02)
    # The origin alone has one sample an image: 200 of them, variance known to 10%.
    power = radial_power_spectrum(torch.from_numpy(noise)).mean(dim=0).numpy()
    assert power[1:] == pytest.approx(np.ones(16), abs=0.15)


@pytest.mark.parametrize("size", [32, 33])
def test_coloured_noise_has_its_spectrum_and_unit_variance(size: int) -> None:
    spectrum = coloured_spectrum(size, 4.0)
    assert spectrum[0] > 3 * spectrum[-1]
    noise = colour(torch.from_numpy(white_noise(1, 0, 300, size)), spectrum)
    assert float(noise.var()) == pytest.approx(1, abs=0.02)
    power = radial_power_spectrum(noise).mean(dim=0).numpy()
    assert power[1:] / spectrum[1:] == pytest.approx(np.ones(size // 2), abs=0.15)


def test_unit_variance_ignores_the_scale() -> None:
    curve = np.linspace(3, 1, 9)
    assert unit_variance(curve, 16) == pytest.approx(unit_variance(17 * curve, 16))
    assert unit_variance(np.full(9, 5.0), 16) == pytest.approx(np.ones(9))
