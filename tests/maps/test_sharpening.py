"""Sharpening undoes known damage: an MTF, a B-factor."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from vitrea.fourier.filters import apply_bfactor, lowpass
from vitrea.fourier.grid import frequency_radius
from vitrea.fourier.transforms import to_fourier, to_real
from vitrea.maps.sharpening import (
    NO_AMPLITUDE,
    ModulationTransfer,
    SharpeningSettings,
    fit_guinier,
    fsc_weights,
    mtf_window,
    sharpen,
)

SIZE, VOXEL = 32, 2.0
PLAIN = SharpeningSettings(fsc_weighting=False)
ONES = np.ones(SIZE // 2 + 1)


def inside_nyquist(density: NDArray[np.float64]) -> NDArray[np.float64]:
    """Empty the corners, which sharpening empties too."""
    return apply_bfactor(torch.from_numpy(density), 0.0, VOXEL).numpy()


@pytest.fixture(scope="module")
def white() -> NDArray[np.float64]:
    """White noise: a flat Guinier plot."""
    return inside_nyquist(np.random.default_rng(0).normal(size=(SIZE,) * 3))


def correlation(first: NDArray[np.floating], second: NDArray[np.floating]) -> float:
    return float(np.corrcoef(first.ravel(), second.ravel())[0, 1])


def test_nothing_asked_nothing_changed(white: NDArray[np.float64]) -> None:
    density, bfactor, plot = sharpen(white, VOXEL, ONES, 16, PLAIN)
    assert np.allclose(density, white, atol=1e-5)
    assert bfactor == 0
    assert plot.mtf_corrected is None
    assert plot.weighted is None
    assert plot.fit is None
    assert np.allclose(plot.resolution_squared[4], (4 / 64) ** 2)


@pytest.mark.parametrize("applied", [60.0, 150.0])
def test_the_fitted_bfactor_undoes_the_one_applied(white: NDArray[np.float64], applied: float) -> None:
    blurred = apply_bfactor(torch.from_numpy(white), applied, VOXEL).numpy()
    settings = SharpeningSettings(automatic=True, fit_lowest=12.0, fit_highest=4.5, fsc_weighting=False)
    density, bfactor, plot = sharpen(blurred, VOXEL, ONES, 16, settings)
    # Mean amplitudes of shells of white noise scatter by about 1%, over a range of 0.04 / Å² in 1/d²: a few Å² in B.
    assert bfactor == pytest.approx(-applied, abs=4.0)
    assert correlation(density, white) > 0.99
    assert plot.fit is not None
    assert plot.fit.correlation > 0.98
    assert np.ptp(plot.sharpened[6:15]) < 0.1


def test_the_range_of_the_fit_matters(white: NDArray[np.float64]) -> None:
    blurred = apply_bfactor(torch.from_numpy(white), 100.0, VOXEL).numpy()
    found = {
        sharpen(blurred, VOXEL, ONES, shell, SharpeningSettings(automatic=True, fit_lowest=low, fit_highest=high))[1]
        for low, high, shell in ((12.0, 0.0, 16), (8.0, 0.0, 16), (12.0, 5.0, 16), (12.0, 0.0, 14))
    }
    assert len(found) == 4


def test_without_enough_shells_no_bfactor_is_invented(white: NDArray[np.float64]) -> None:
    settings = SharpeningSettings(automatic=True, fit_lowest=5.0, fit_highest=4.6, fsc_weighting=False)
    density, bfactor, plot = sharpen(white, VOXEL, ONES, 16, settings)
    assert bfactor == 0
    assert plot.fit is None
    assert np.allclose(density, white, atol=1e-5)


def test_an_adhoc_bfactor_is_applied(white: NDArray[np.float64]) -> None:
    density, bfactor, _ = sharpen(white, VOXEL, ONES, 16, SharpeningSettings(bfactor=-40.0, fsc_weighting=False))
    assert bfactor == -40.0
    expected = apply_bfactor(torch.from_numpy(white), -40.0, VOXEL).numpy()
    assert np.allclose(density, expected, atol=1e-4)


def test_the_mtf_is_divided_out(white: NDArray[np.float64]) -> None:
    frequency = np.linspace(0, 0.5, 51)
    mtf = ModulationTransfer(frequency, np.sinc(frequency), pixel_size=1.2)
    cycles = frequency_radius(SIZE, 3, dtype=torch.float64) / (SIZE * VOXEL) * 1.2
    damaged = to_real(to_fourier(torch.from_numpy(white), 3) * torch.sinc(cycles), SIZE, 3).numpy()
    density, _, plot = sharpen(damaged, VOXEL, ONES, 16, SharpeningSettings(mtf=mtf, fsc_weighting=False))
    # Lines between 51 points miss a sinc by 2e-4 at most; the six samples at Nyquist itself stay, as in RELION.
    assert correlation(density, white) > 0.99999
    assert plot.mtf_corrected is not None
    window = mtf_window(SIZE, VOXEL, mtf)
    assert float(window[0, 0, 8]) == pytest.approx(np.sinc(8 / 64 * 1.2), abs=2e-4)
    assert float(window[0, 0, 16]) == 1.0


def test_shells_are_weighted_by_the_fsc_up_to_its_first_zero() -> None:
    weights = fsc_weights([1.0, 0.5, 0.2, -0.1, 0.4])  # type: ignore[arg-type]
    assert np.allclose(weights, [1.0, np.sqrt(2 / 3), np.sqrt(1 / 3), 0.0, 0.0])


def test_weighting_leaves_nothing_beyond(white: NDArray[np.float64]) -> None:
    fsc = np.where(np.arange(17) < 8, 0.6, -0.2)
    density, _, plot = sharpen(white, VOXEL, fsc, 7, SharpeningSettings())
    assert plot.weighted is not None
    assert (plot.weighted[8:] == NO_AMPLITUDE).all()
    assert np.allclose(plot.weighted[1:8] - plot.original[1:8], np.log(np.sqrt(1.2 / 1.6)))
    low = lowpass(torch.from_numpy(white), SIZE * VOXEL / 7.5, VOXEL, 0.0).numpy()
    assert correlation(density, low) > 0.9


@pytest.mark.parametrize(("asked", "shell"), [(8.0, 8), (-1.0, 10)])
def test_lowpass_at_what_is_asked_or_at_the_final_resolution(
    white: NDArray[np.float64], asked: float, shell: int
) -> None:
    for edge in (2.0, 6.0):
        settings = SharpeningSettings(lowpass=asked, filter_edge=edge, fsc_weighting=False)
        density, _, _ = sharpen(white, VOXEL, ONES, 10, settings)
        expected = lowpass(torch.from_numpy(white), SIZE * VOXEL / shell, VOXEL, edge).numpy()
        assert np.allclose(density, expected, atol=1e-5)


def test_a_line_is_fitted_exactly_and_empty_shells_are_left_out() -> None:
    x = (np.arange(20) / 64) ** 2
    y = -3.0 - 50.0 * x
    y[9] = NO_AMPLITUDE
    fit = fit_guinier(x, y, 16.0, 4.0)
    assert fit is not None
    assert (fit.slope, fit.intercept, fit.correlation) == pytest.approx((-50.0, -3.0, 1.0))
