from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from vitrea.optics.aberrations import aberration_phase, antisymmetric_phase, even_indices, odd_indices, zernike
from vitrea.records.optics import Optics

OPTICS = Optics(pixel_size=1.0, image_size=64, voltage=200.0, spherical_aberration=1.4, amplitude_contrast=0.1)


def half_plane(n: int = 64, pixel_size: float = 1.0) -> tuple[Tensor, Tensor]:
    y = torch.fft.fftfreq(n, pixel_size, dtype=torch.float64)
    x = torch.fft.rfftfreq(n, pixel_size, dtype=torch.float64)
    grid = torch.meshgrid(y, x, indexing="ij")
    return grid[0], grid[1]


def test_order_of_the_coefficients() -> None:
    """Zivanov et al. 2020: by radial order, then by azimuthal order from -n to n."""
    assert list(even_indices(6)) == [(0, 0), (-2, 2), (0, 2), (2, 2), (-4, 4), (-2, 4)]
    assert list(odd_indices(7)) == [(-1, 1), (1, 1), (-3, 3), (-1, 3), (1, 3), (3, 3), (-5, 5)]
    assert list(even_indices(0)) == []
    for i, (m, n) in enumerate(odd_indices(30)):  # the closed form
        k = int((math.sqrt(1 + 4 * i) - 1) / 2)
        assert (m, n) == (2 * (i - k * k - k) - 2 * k - 1, 2 * k + 1)


@pytest.mark.parametrize("n", range(7))
def test_polynomials_are_orthogonal_with_the_known_norm(n: int) -> None:
    """Over the unit disc: pi / (2n + 2), twice that for m = 0 (Born & Wolf, section 9.2.1)."""
    nodes = torch.linspace(0.5 / 400, 1 - 0.5 / 400, 400, dtype=torch.float64)
    angles = torch.arange(64, dtype=torch.float64) * (2 * math.pi / 64)
    rho, phi = torch.meshgrid(nodes, angles, indexing="ij")
    y, x = rho * torch.sin(phi), rho * torch.cos(phi)
    area = rho * (1 / 400) * (2 * math.pi / 64)
    others = [(m, k) for k in range(7) for m in range(-k, k + 1, 2)]
    for m in range(-n, n + 1, 2):
        one = zernike(m, n, y, x)
        for other in others:
            product = float((one * zernike(*other, y, x) * area).sum())
            norm = math.pi / (2 * n + 2) * (2 if m == 0 else 1)
            # The midpoint rule with 400 radii leaves about n^3 / 400^2.
            assert product == pytest.approx(norm if other == (m, n) else 0.0, abs=2e-3)


def test_polynomials_in_closed_form() -> None:
    y, x = torch.tensor([0.3, -0.2, 0.0]).double(), torch.tensor([0.1, 0.7, 0.0]).double()
    r2 = y**2 + x**2
    torch.testing.assert_close(zernike(1, 3, y, x), (3 * r2 - 2) * x)
    torch.testing.assert_close(zernike(-1, 3, y, x), (3 * r2 - 2) * y)
    torch.testing.assert_close(zernike(0, 4, y, x), 6 * r2**2 - 6 * r2 + 1)
    torch.testing.assert_close(zernike(-2, 2, y, x), 2 * x * y)


def test_there_are_no_other_polynomials() -> None:
    y = torch.zeros(1)
    for m, n in ((1, 2), (3, 1), (-4, 2)):
        with pytest.raises(ValueError, match=f"m = {m}, n = {n}"):
            zernike(m, n, y, y)


def test_beam_tilt_is_the_odd_zernike_that_relion_writes_for_it() -> None:
    """RELION 3.1 and later replace a tilt t (mrad) by Z(±1, 3) with coefficient -2e4 pi Cs lambda² t / 3 and Z(±1, 1)
    with twice that, which leaves -2e4 pi Cs lambda² k² (k . t)."""
    y, x = half_plane()
    tilt_x, tilt_y = 0.7, -0.4
    scale = -2e4 * math.pi * OPTICS.spherical_aberration * OPTICS.wavelength**2 / 3
    odd = (2 * scale * tilt_y, 2 * scale * tilt_x, 0.0, scale * tilt_y, scale * tilt_x, 0.0)
    tilted = antisymmetric_phase(y, x, replace(OPTICS, beam_tilt_x=tilt_x, beam_tilt_y=tilt_y))
    torch.testing.assert_close(tilted, antisymmetric_phase(y, x, replace(OPTICS, odd_zernike=odd)), atol=1e-10, rtol=0)
    both = replace(OPTICS, beam_tilt_x=tilt_x, beam_tilt_y=tilt_y, odd_zernike=odd)
    torch.testing.assert_close(antisymmetric_phase(y, x, both), 2 * tilted, atol=1e-10, rtol=0)


def test_size_of_coma() -> None:
    """1 mrad at 3 Å, 200 kV, Cs 1.4 mm: 2 pi 1.4e7 0.02508² 1e-3 / 27 radians."""
    x = torch.tensor([1 / 3], dtype=torch.float64)
    phase = antisymmetric_phase(torch.zeros(1).double(), x, replace(OPTICS, beam_tilt_x=1.0))
    assert float(phase[0]) == pytest.approx(-2 * math.pi * 1.4e7 * 0.0250793**2 * 1e-3 / 27, rel=1e-4)


def test_first_order_shifts_the_image() -> None:
    """Z(1, 1) = kx with coefficient -2 pi s moves the image by s Å along x, as the shift theorem says."""
    image = torch.zeros(16, 16, dtype=torch.float64)
    image[4, 5] = 1.0
    y, x = half_plane(16, 2.0)
    factor = aberration_phase(y, x, replace(OPTICS, odd_zernike=(0.0, -2 * math.pi * 6.0)), torch.complex128)
    assert factor is not None
    moved = torch.fft.irfft2(torch.fft.rfft2(image) * factor, s=(16, 16))
    assert divmod(int(moved.argmax()), 16) == (4, 8)


def test_factor_has_unit_size_and_keeps_images_real() -> None:
    y, x = half_plane()
    optics = replace(OPTICS, beam_tilt_x=0.3, odd_zernike=(0.1, 0.2, 3.0))
    factor, opposite = aberration_phase(y, x, optics), aberration_phase(-y, -x, optics)
    assert factor is not None
    assert opposite is not None
    assert factor.dtype == torch.complex64
    torch.testing.assert_close(factor.abs(), torch.ones_like(factor.abs()))
    torch.testing.assert_close(opposite, factor.conj().resolve_conj())


def test_no_aberration_no_factor() -> None:
    y, x = half_plane(8)
    assert aberration_phase(y, x, OPTICS) is None
    assert aberration_phase(y, x, replace(OPTICS, odd_zernike=(0.0, 0.0))) is None
    assert aberration_phase(y, x, replace(OPTICS, beam_tilt_y=0.1)) is not None
