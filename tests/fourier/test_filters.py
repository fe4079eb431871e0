"""Filters against relion_image_handler's output and against their formulas."""

from __future__ import annotations

import itertools
from pathlib import Path

import mrcfile
import numpy as np
import pytest
import torch
from torch import Tensor

from vitrea.fourier.filters import apply_bfactor, highpass, invert_hand, lowpass, raised_cosine, shift
from vitrea.fourier.grid import frequency_radius
from vitrea.fourier.transforms import resample, resize_box, to_fourier

VOXEL = 7.08
# RELION computed in double precision and wrote float32: relative error 6e-8 of the largest voxel.
ROUNDING = 1e-7


@pytest.fixture(scope="module")
def folder(data_dir: Path) -> Path:
    return data_dir / "image_handler"


def read(path: Path) -> Tensor:
    return torch.from_numpy(mrcfile.read(path).astype(np.float64))


def largest_error(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).abs().max() / expected.abs().max())


def test_lowpass_is_relions(folder: Path) -> None:
    found = lowpass(read(folder / "newbox40.mrc"), 25.0, VOXEL)
    assert largest_error(found, read(folder / "newbox40_lowpass25.mrc")) < ROUNDING


def test_bfactor_is_relions(folder: Path) -> None:
    found = apply_bfactor(read(folder / "newbox40.mrc"), -200.0, VOXEL)
    assert largest_error(found, read(folder / "newbox40_bfac-200.mrc")) < ROUNDING


def test_inverting_the_hand_is_relions(folder: Path) -> None:
    assert torch.equal(invert_hand(read(folder / "newbox40.mrc")), read(folder / "newbox40_inverthand.mrc"))


def test_shift_moves_as_relion_moves(folder: Path) -> None:
    """RELION shifts by linear interpolation between whole shifts, which we rebuild from ours; both signs and axes show.

    The rim of the box is left out: RELION brings in zeros where ours is periodic.
    """
    original = read(folder / "newbox40.mrc")
    wanted = (1.5, -2.25, 3.0)
    total = torch.zeros_like(original)
    for corner in itertools.product((0, 1), repeat=3):
        whole = [np.floor(value) + step for value, step in zip(wanted, corner, strict=True)]
        weight = np.prod([1 - abs(value - near) for value, near in zip(wanted, whole, strict=True)])
        if weight > 0:
            total += weight * shift(original, torch.tensor(whole, dtype=torch.float64))
    expected = read(folder / "newbox40_shift.mrc")
    assert largest_error(resize_box(total, 32, 3), resize_box(expected, 32, 3)) < ROUNDING


def test_rescaling_is_relions_below_nyquist(shared_reference: Path, shared_data: Path) -> None:
    """At the new Nyquist frequency RELION keeps one of two mates in y and z and halves in x; we add both.

    Our way keeps the grey values of a wave at Nyquist (see test_transforms); the maps differ by 2.6% of the maximum.
    `vitrea map` does as RELION does (tests/jobs/test_map.py).
    """
    found = resample(read(shared_data / "bgal_map/betaGal.mrc"), 50, 3)
    expected = read(shared_reference / "image_handler/rescaled_7.08A_box50.mrc")
    inside = torch.ones(50, 50, 26, dtype=torch.bool)
    inside[25], inside[:, 25], inside[..., 25] = False, False, False
    difference = (to_fourier(found, 3) - to_fourier(expected, 3))[inside].abs().max()
    assert float(difference / to_fourier(expected, 3).abs().max()) < ROUNDING
    assert largest_error(found, expected) < 0.03
    window = read(shared_reference / "image_handler/newbox40.mrc")
    assert torch.equal(resize_box(expected, 40, 3), window)


def transfer(filtered: Tensor, original: Tensor) -> Tensor:
    dims = original.dim()
    return (to_fourier(filtered, dims) / to_fourier(original, dims)).real


@pytest.mark.parametrize("size", [20, 21])
@pytest.mark.parametrize("dims", [2, 3])
def test_the_edge_of_a_lowpass_is_centred_and_as_wide_as_asked(size: int, dims: int) -> None:
    image = torch.randn((size,) * dims, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    radius = frequency_radius(size, dims, dtype=torch.float64)
    for width in (2.0, 4.0):
        # Shell 5 of this box lies at size * 2 Å / 5.
        ratio = transfer(lowpass(image, size * 2.0 / 5, 2.0, edge_width=width, dims=dims), image)
        assert torch.allclose(ratio[radius <= 5 - width / 2], torch.ones((), dtype=torch.float64), atol=1e-9)
        assert torch.allclose(ratio[radius >= 5 + width / 2], torch.zeros((), dtype=torch.float64), atol=1e-9)
        assert torch.allclose(ratio[radius == 5], torch.full((), 0.5, dtype=torch.float64), atol=1e-9)
    sum_of_both = lowpass(image, 8.0, 2.0, dims=dims) + highpass(image, 8.0, 2.0, dims=dims)
    assert torch.allclose(sum_of_both, image)


def test_a_bfactor_changes_amplitudes_by_its_formula_and_empties_the_corners() -> None:
    image = torch.randn(16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    ratio = transfer(apply_bfactor(image, 50.0, 1.5, dims=2), image)
    radius = frequency_radius(16, 2, dtype=torch.float64)
    expected = torch.exp(-50.0 / 4 * (radius / 24.0) ** 2)
    assert torch.allclose(ratio, torch.where(radius <= 8, expected, 0.0), atol=1e-9)


def test_raised_cosine() -> None:
    radius = torch.tensor([0.0, 1.0, 1.5, 2.0, 3.0])
    assert torch.allclose(raised_cosine(radius, 1.0, 2.0), torch.tensor([1.0, 1.0, 0.5, 0.0, 0.0]), atol=1e-6)
    assert raised_cosine(radius, 1.5, 1.5).tolist() == [1, 1, 1, 0, 0]


@pytest.mark.parametrize("size", [7, 8])
def test_inverting_twice_restores_and_the_centre_stays(size: int) -> None:
    volume = torch.randn(size, size, size)
    turned = invert_hand(volume)
    middle = size // 2
    assert torch.equal(turned[..., middle], volume[..., middle])
    assert torch.equal(turned[..., middle + 2], volume[..., middle - 2])
    assert torch.equal(invert_hand(turned), volume)


def test_single_precision_stays() -> None:
    volume = torch.randn(8, 8, 8)
    results = (lowpass(volume, 8.0, 2.0), apply_bfactor(volume, 10.0, 2.0), shift(volume, torch.tensor([0.5, 0, 0])))
    assert all(result.dtype == torch.float32 for result in results)
