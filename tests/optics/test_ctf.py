from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import mrcfile
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from vitrea.optics.ctf import ctf, ctf_phase
from vitrea.records.optics import Optics

OPTICS = Optics(pixel_size=1.5, image_size=128, voltage=300.0, spherical_aberration=2.0, amplitude_contrast=0.1)
DEFOCUS = torch.tensor([[23052.5, 21614.0, 68.49], [10356.0, 10353.2, 178.5]], dtype=torch.float64)


def half_plane(n: int, pixel_size: float) -> tuple[Tensor, Tensor]:
    y = torch.fft.fftfreq(n, pixel_size, dtype=torch.float64)
    x = torch.fft.rfftfreq(n, pixel_size, dtype=torch.float64)
    grid = torch.meshgrid(y, x, indexing="ij")
    return grid[0], grid[1]


def value(
    frequency_y: float, frequency_x: float, optics: Optics, defocus: tuple[float, float, float], **more: object
) -> float:
    y, x = (torch.tensor([f], dtype=torch.float64) for f in (frequency_y, frequency_x))
    return float(ctf(y, x, optics, torch.tensor([defocus], dtype=torch.float64), dtype=torch.float64, **more)[0, 0])  # type: ignore[arg-type]


def test_agrees_with_relion_project(data_dir: Path) -> None:
    """The transform of a projected point, with astigmatism and phase shifts, is RELION's CTF of that image, up to the
    last shell, beyond which relion_project has nothing."""
    with mrcfile.open(data_dir / "ctf" / "point_spread.mrcs") as file:
        images = torch.from_numpy(file.data.astype(np.float64))
    table = torch.from_numpy(np.loadtxt(data_dir / "ctf" / "point_spread.txt"))
    assert set(table[:, 3].tolist()) == {0.0, 90.0, 45.0}
    expected = torch.fft.rfft2(torch.fft.ifftshift(images, dim=(-2, -1)))
    y, x = half_plane(128, 1.5)
    got = ctf(y, x, OPTICS, table[:, :3], table[:, 3], dtype=torch.float64)
    inside = torch.hypot(y, x) * 128 * 1.5 < 63
    assert (got - expected.real)[:, inside].abs().max() < 1e-6  # float32 images
    single = ctf(y.float(), x.float(), OPTICS, table[:, :3].float(), table[:, 3].float())
    assert single.dtype == torch.float32
    assert (single - expected.real)[:, inside].abs().max() < 2e-4  # frequencies rounded to float32


@pytest.mark.parametrize(("frequency", "expected", "tolerance"), [(10.0, 0.59154, 5e-6), (0.1, 0.8475987, 5e-8)])
def test_published_values(frequency: float, expected: float, tolerance: float) -> None:
    """RELION's own unit test; at 10 1/Å the phase is 1.28e7 radians."""
    optics = replace(OPTICS, spherical_aberration=2.7)
    assert value(frequency, frequency, optics, (10000, 12000, 90)) == pytest.approx(expected, abs=tolerance)


def test_origin_is_the_amplitude_contrast() -> None:
    assert value(0, 0, OPTICS, (10000, 12000, 90)) == pytest.approx(0.1)
    assert value(0, 0, OPTICS, (10000, 12000, 90), phase_shift=torch.tensor([90.0])) == pytest.approx(
        math.sqrt(1 - 0.01)
    )


def test_defocus_along_and_across_the_angle() -> None:
    """Along the defocus angle only U counts, across it only V; the angle runs from x to y."""
    k, angle = 0.07, math.radians(30)
    along = value(k * math.sin(angle), k * math.cos(angle), OPTICS, (20000, 10000, 30))
    across = value(k * math.cos(angle), -k * math.sin(angle), OPTICS, (20000, 10000, 30))
    assert along == pytest.approx(value(0, k, OPTICS, (20000, 20000, 0)), abs=1e-9)
    assert across == pytest.approx(value(0, k, OPTICS, (10000, 10000, 0)), abs=1e-9)


@settings(max_examples=30, deadline=None)
@given(
    st.floats(5000, 40000),
    st.floats(-1000, 1000),
    st.floats(-180, 180),
    st.floats(-0.3, 0.3),
    st.floats(-0.3, 0.3),
    st.floats(0, 180),
)
def test_agrees_with_the_formula_by_angle(
    mean: float, half: float, angle: float, y: float, x: float, phase_shift: float
) -> None:
    k = math.hypot(y, x)
    wavelength = OPTICS.wavelength
    defocus = mean + half * math.cos(2 * (math.atan2(y, x) - math.radians(angle)))
    chi = math.pi * wavelength * k**2 * (defocus - 0.5 * wavelength**2 * k**2 * 2.0e7)
    expected = math.sin(chi + math.radians(phase_shift) + math.asin(0.1))
    shift = torch.tensor([phase_shift], dtype=torch.float64)
    assert value(y, x, OPTICS, (mean + half, mean - half, angle), phase_shift=shift) == pytest.approx(
        expected, abs=1e-9
    )


def test_shapes_and_friedel_symmetry() -> None:
    y, x = half_plane(9, 1.5)
    assert ctf(y, x, OPTICS, DEFOCUS).shape == (2, 9, 5)
    packed = ctf(y.flatten(), x.flatten(), OPTICS, DEFOCUS)
    assert torch.equal(packed.reshape(2, 9, 5), ctf(y, x, OPTICS, DEFOCUS))
    assert torch.equal(ctf(-y, -x, OPTICS, DEFOCUS), ctf(y, x, OPTICS, DEFOCUS))
    assert ctf(y, x, OPTICS, DEFOCUS[:0]).shape == (0, 9, 5)


def test_b_factor_and_scale() -> None:
    y, x = half_plane(16, 1.5)
    plain = ctf(y, x, OPTICS, DEFOCUS, dtype=torch.float64)
    b, scale = torch.tensor([80.0, -20.0]), torch.tensor([0.5, 2.0])
    got = ctf(y, x, OPTICS, DEFOCUS, b_factor=b, scale=scale, dtype=torch.float64)
    envelope = torch.exp(-b.double()[:, None, None] * (y**2 + x**2) / 4)
    torch.testing.assert_close(got, plain * envelope * scale.double()[:, None, None])


def test_arguments_are_left_unchanged() -> None:
    y, x = half_plane(8, 1.5)
    defocus, shift = DEFOCUS.clone(), torch.tensor([10.0, 20.0])
    before = [t.clone() for t in (y, x, defocus, shift)]
    ctf(y, x, OPTICS, defocus, shift, absolute=True, intact_first_peak=True, b_factor=shift, scale=shift)
    for now, then in zip((y, x, defocus, shift), before, strict=True):
        assert torch.equal(now, then)


def test_absolute_and_intact_first_peak() -> None:
    y, x = half_plane(64, 1.5)
    plain = ctf(y, x, OPTICS, DEFOCUS)
    assert plain.min() < -0.9
    assert torch.equal(ctf(y, x, OPTICS, DEFOCUS, absolute=True), plain.abs())
    intact = ctf(y, x, OPTICS, DEFOCUS, intact_first_peak=True)
    before_peak = ctf_phase(y, x, OPTICS, DEFOCUS).abs() < math.pi / 2
    assert 0 < before_peak.sum() < before_peak.numel() / 10
    assert torch.all(intact[before_peak] == 1)
    assert torch.equal(intact[~before_peak], plain[~before_peak])
    # From the origin outwards along x: 1 up to the peak of the CTF, itself near 1, and no jump there.
    line = torch.linspace(0, 0.05, 501, dtype=torch.float64)
    steps = ctf(torch.zeros_like(line), line, OPTICS, DEFOCUS, intact_first_peak=True).diff(dim=1).abs()
    assert steps.max() < 0.05


@pytest.mark.parametrize("field", ["voltage", "spherical_aberration", "amplitude_contrast"])
def test_every_optical_parameter_counts(field: str) -> None:
    y, x = half_plane(32, 1.5)
    changed = replace(OPTICS, **{field: getattr(OPTICS, field) * 1.2})
    assert (ctf(y, x, OPTICS, DEFOCUS) - ctf(y, x, changed, DEFOCUS)).abs().max() > 0.01


def test_even_zernike_of_order_two_is_defocus_and_astigmatism() -> None:
    """Z(0, 2) = 2k² - 1 adds 2c k² - c: less defocus by 2c / (pi lambda) and c less phase shift; Z(2, 2) = kx² - ky² is
    astigmatism along x. Order of coefficients: (0,0) (-2,2) (0,2) (2,2)."""
    y, x = half_plane(64, 1.5)
    c = 30.0
    per_defocus = math.pi * OPTICS.wavelength
    aberrated = ctf(y, x, replace(OPTICS, even_zernike=(0.0, 0.0, c, 0.0)), DEFOCUS, dtype=torch.float64)
    moved = DEFOCUS - torch.tensor([2 * c / per_defocus, 2 * c / per_defocus, 0.0], dtype=torch.float64)
    shift = torch.full((2,), math.degrees(c), dtype=torch.float64)
    torch.testing.assert_close(aberrated, ctf(y, x, OPTICS, moved, shift, dtype=torch.float64), atol=1e-9, rtol=0)

    round_defocus = torch.tensor([[15000.0, 15000.0, 0.0]], dtype=torch.float64)
    stretched = ctf(y, x, replace(OPTICS, even_zernike=(0.0, 0.0, 0.0, c)), round_defocus, dtype=torch.float64)
    along_x = round_defocus + torch.tensor([-c / per_defocus, c / per_defocus, 0.0], dtype=torch.float64)
    torch.testing.assert_close(stretched, ctf(y, x, OPTICS, along_x, dtype=torch.float64), atol=1e-9, rtol=0)
    diagonal = ctf(y, x, replace(OPTICS, even_zernike=(0.0, c)), round_defocus, dtype=torch.float64)
    at_45 = along_x + torch.tensor([0.0, 0.0, 45.0], dtype=torch.float64)
    torch.testing.assert_close(diagonal, ctf(y, x, OPTICS, at_45, dtype=torch.float64), atol=1e-9, rtol=0)


def test_gradient_with_respect_to_defocus() -> None:
    """CTF refinement may follow it."""
    y, x = torch.tensor([0.02, 0.05], dtype=torch.float64), torch.tensor([0.03, -0.01], dtype=torch.float64)
    defocus = DEFOCUS.clone().requires_grad_(True)
    assert torch.autograd.gradcheck(lambda d: ctf(y, x, OPTICS, d, dtype=torch.float64), (defocus,), eps=1e-2)


def test_wrong_shapes_are_refused() -> None:
    y, x = half_plane(8, 1.5)
    with pytest.raises(ValueError, match="one shape"):
        ctf(y, x[:4], OPTICS, DEFOCUS)
    with pytest.raises(ValueError, match="defocus"):
        ctf(y, x, OPTICS, DEFOCUS[0])


@pytest.mark.gpu
def test_same_on_the_gpu() -> None:
    y, x = half_plane(64, 1.5)
    expected = ctf(y, x, OPTICS, DEFOCUS, dtype=torch.float64)
    got = ctf(y.cuda(), x.cuda(), OPTICS, DEFOCUS.cuda(), dtype=torch.float64)
    torch.testing.assert_close(got.cpu(), expected, atol=1e-9, rtol=0)
