"""The exposure filter, held against published and recomputed values."""

from __future__ import annotations

import math

import pytest
import torch

from vitrea.optics.dose import (
    critical_exposure,
    exposure_filter,
    exposure_filters,
    frame_exposures,
    optimal_exposure,
    voltage_factor,
)


def frequencies(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_critical_exposure_has_the_published_values() -> None:
    """The paper's equation 3 has rounded constants (0.245, -1.665, 2.81); cisTEM's, used here, differ by 0.12%."""
    expected = frequencies(14.1383, 6.3823, 4.6287, 3.9365, 3.5869)
    torch.testing.assert_close(critical_exposure(frequencies(0.1, 0.2, 0.3, 0.4, 0.5)), expected, rtol=1.2e-3, atol=0)


@pytest.mark.parametrize(
    ("pixel_size", "low", "high"), [(0.72, 0.929922, 0.017325), (1.0, 0.958592, 0.031610), (2.1, 0.987710, 0.155882)]
)
def test_filter_has_the_values_of_cistems_console_test(pixel_size: float, low: float, high: float) -> None:
    """300 kV, 1024 pixels, a frame from 15 to 30 e-/Å², Fourier pixels 13 and 341 of the first line."""
    weights = exposure_filter(frequencies(13, 341) / (1024 * pixel_size), 30.0)
    torch.testing.assert_close(weights, frequencies(low, high), rtol=0, atol=6e-7)


def test_lower_voltages_damage_more() -> None:
    k = frequencies(0.1, 0.3)
    torch.testing.assert_close(critical_exposure(k, 200.0), 0.8 * critical_exposure(k, 300.0))
    torch.testing.assert_close(critical_exposure(k, 100.0), 0.64 * critical_exposure(k, 300.0))
    assert (exposure_filter(k, 20.0, 200.0) < exposure_filter(k, 20.0, 300.0)).all()
    assert voltage_factor(299.5) == 1.0
    with pytest.raises(ValueError, match="250 kV"):
        voltage_factor(250.0)


def test_optimal_exposure_maximises_the_signal_to_noise_ratio_of_a_plain_sum() -> None:
    """Signal of a sum to exposure N: integral of exp(-n / 2Nc); noise: sqrt(N)."""
    k = frequencies(0.25)
    critical, optimum = float(critical_exposure(k)), float(optimal_exposure(k))

    def ratio(exposure: float) -> float:
        return (1 - math.exp(-exposure / (2 * critical))) ** 2 / exposure

    assert ratio(optimum) > ratio(0.999 * optimum)
    assert ratio(optimum) > ratio(1.001 * optimum)
    assert optimum / critical == pytest.approx(2.51284, abs=3e-5)


def test_origin_weighs_one() -> None:
    weights = exposure_filters(frequencies(0.0, 0.2), frame_exposures(5, 2.0))
    torch.testing.assert_close(weights[:, 0], torch.ones(5, dtype=torch.float64))
    assert not weights.isnan().any()


def test_exposures_count_the_frame_itself_and_what_came_before() -> None:
    assert frame_exposures(3, 1.5, pre_exposure=4.0) == [5.5, 7.0, 8.5]
    early, late = exposure_filters(frequencies(0.3), frame_exposures(2, 1.0, 10.0), restore_power=False)
    torch.testing.assert_close(early, exposure_filter(frequencies(0.3), 11.0))
    torch.testing.assert_close(late, exposure_filter(frequencies(0.3), 12.0))


def test_restored_filter_keeps_the_noise_power_of_the_plain_sum() -> None:
    k = torch.linspace(0.01, 0.5, 20, dtype=torch.float64)
    exposures = frame_exposures(24, 1.5)
    restored = exposure_filters(k, exposures)
    torch.testing.assert_close(restored.square().sum(dim=0), torch.full_like(k, 24.0))
    plain = exposure_filters(k, exposures, restore_power=False)
    assert (plain.square().sum(dim=0) < 24).all()
    torch.testing.assert_close(restored[3] / restored[17], plain[3] / plain[17])


def test_long_exposures_do_not_divide_by_nothing() -> None:
    weights = exposure_filters(torch.tensor([0.0, 0.5]), frame_exposures(4, 10.0, 1000.0))
    assert weights.isfinite().all()
    torch.testing.assert_close(weights[:, 0], torch.ones(4))
