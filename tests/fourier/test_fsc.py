"""FSC against theory (a known signal-to-noise ratio) and RELION's curves; resolutions; random phases."""

from __future__ import annotations

from pathlib import Path

import mrcfile
import numpy as np
import pytest
import torch
from torch import Tensor

from vitrea.fourier.fsc import (
    correlate_transforms,
    fourier_shell_correlation,
    interpolated_resolution_at,
    last_shell_above,
    randomise_phases,
    resolution_at,
    shell_resolution,
)
from vitrea.fourier.shells import shell_index
from vitrea.fourier.transforms import to_fourier


def noise(size: int, seed: int, dims: int = 3) -> Tensor:
    return torch.randn((size,) * dims, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("size", [15, 16])
@pytest.mark.parametrize("dims", [2, 3])
def test_a_map_agrees_with_itself_and_opposes_its_negative(size: int, dims: int) -> None:
    volume = noise(size, 1, dims)
    ones = torch.ones(size // 2 + 1, dtype=torch.float64)
    assert torch.allclose(fourier_shell_correlation(volume, 2.5 * volume, dims), ones)
    assert torch.allclose(fourier_shell_correlation(volume, -volume, dims), -ones)


def test_independent_noise_does_not_correlate_and_shared_signal_does_as_it_should() -> None:
    size, snr = 48, 0.5
    signal = noise(size, 0) * snr**0.5
    fsc = fourier_shell_correlation(signal + noise(size, 1), signal + noise(size, 2))
    shells = torch.arange(3, size // 2 + 1)
    # Half of the samples of a shell are independent; correlations scatter by about one over their root.
    scatter = 4.5 / (2 * torch.pi * shells.double() ** 2).sqrt()
    assert ((fsc[3:] - snr / (1 + snr)).abs() < scatter).all()
    assert (fourier_shell_correlation(noise(size, 1), noise(size, 2))[3:].abs() < scatter).all()


def test_maps_without_power_give_zero_and_not_nan() -> None:
    assert torch.equal(fourier_shell_correlation(torch.zeros(8, 8, 8), torch.zeros(8, 8, 8)), torch.zeros(5))


def test_transforms_may_be_given_instead_of_maps() -> None:
    first, second = noise(9, 1), noise(9, 2) + noise(9, 1)
    expected = fourier_shell_correlation(first, second)
    assert torch.equal(correlate_transforms(to_fourier(first, 3), to_fourier(second, 3), 9), expected)


def test_curves_are_relions(shared_reference: Path) -> None:
    """RELION 5 post.star holds six decimals.

    RELION counts every stored sample of the half transform once, so the plane kx = 0 weighs double against the
    textbook definition, which differs from its curves by up to 0.008 here. We follow RELION.
    """
    run = shared_reference / "betagal_real"
    halves = [run / f"refine3d/run_half{half}_class001_unfil.mrc" for half in (1, 2)]
    first, second = (torch.from_numpy(mrcfile.read(path)) for path in halves)
    mask = torch.from_numpy(mrcfile.read(run / "postprocess/mask.mrc"))
    lines = [line.split() for line in (run / "postprocess/post.star").read_text().splitlines()]
    rows = np.array([line for line in lines if len(line) == 8 and line[0].isdigit()], dtype=float)
    for ours, column in (
        (fourier_shell_correlation(first, second), 5),
        (fourier_shell_correlation(first * mask, second * mask), 6),
    ):
        assert np.abs(ours.numpy() - rows[:, column]).max() < 2e-6


def test_the_resolution_is_that_of_the_last_shell_before_the_first_fall() -> None:
    curve = [1.0, 0.9, 0.6, 0.2, 0.1, 0.3, 0.0]
    assert last_shell_above(curve, 0.143) == 3
    assert resolution_at(curve, 0.143, 2.0, 12) == pytest.approx(12 * 2.0 / 3)
    assert resolution_at(curve, 0.5, 2.0, 12) == pytest.approx(12.0)
    assert resolution_at([1.0] * 7, 0.143, 2.0, 12) == pytest.approx(4.0)
    assert resolution_at([1.0, 0.0, 0.9], 0.143, 2.0, 4) == float("inf")
    assert shell_resolution(0, 2.0, 12) == float("inf")


def test_the_crossing_is_interpolated() -> None:
    curve = torch.tensor([1.0, 0.9, 0.6, 0.2, 0.1])
    # From 0.6 at shell 2 to 0.2 at shell 3, 0.5 lies at 2.25.
    assert interpolated_resolution_at(curve, 0.5, 1.0, 8) == pytest.approx(8 / 2.25)
    assert interpolated_resolution_at([1.0] * 5, 0.5, 1.0, 8) == pytest.approx(2.0)
    assert interpolated_resolution_at([1.0, 0.2, 0.1], 0.5, 1.0, 4) == float("inf")


@pytest.mark.parametrize("size", [15, 16])
def test_random_phases_leave_amplitudes_and_low_shells_alone(size: int) -> None:
    volume = noise(size, 4)
    changed = randomise_phases(volume, 4, torch.Generator().manual_seed(7))
    before, after = to_fourier(volume, 3), to_fourier(changed, 3)
    assert torch.allclose(before.abs(), after.abs(), atol=1e-10)
    low = shell_index(size, 3) <= 3
    assert torch.allclose(before[low], after[low], atol=1e-10)
    correlation = fourier_shell_correlation(volume, changed)
    assert (correlation[6:].abs() < 0.3).all()


def test_random_phases_come_from_the_generator() -> None:
    volume = noise(8, 4)
    first, again, other = (randomise_phases(volume, 2, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.allclose(first, other)
