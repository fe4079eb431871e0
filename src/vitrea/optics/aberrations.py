"""Higher-order aberrations: Zernike polynomials and beam tilt.

The polynomials are evaluated at the spatial frequency itself in 1/Å (not scaled to Nyquist), as RELION does, so that
``rlnEvenZernike`` and ``rlnOddZernike`` can be used as they stand (Zivanov et al. 2020,
doi:10.1107/S2052252520000081).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from vitrea.records.optics import Optics

_ANGSTROM_PER_MM = 1e7


def even_indices(count: int) -> Iterator[tuple[int, int]]:
    """First `count` pairs (m, n) of the even Zernike polynomials: (0,0) (-2,2) (0,2) (2,2) (-4,4) ..."""
    n = 0
    while count > 0:
        for m in range(-n, n + 1, 2)[:count]:
            yield m, n
        count -= n + 1
        n += 2


def odd_indices(count: int) -> Iterator[tuple[int, int]]:
    """First `count` pairs (m, n) of the odd Zernike polynomials: (-1,1) (1,1) (-3,3) (-1,3) (1,3) (3,3) ..."""
    n = 1
    while count > 0:
        for m in range(-n, n + 1, 2)[:count]:
            yield m, n
        count -= n + 1
        n += 2


def _radial_coefficients(m: int, n: int) -> list[float]:
    """Coefficients c_j of R_n^m(rho) / rho^m = sum over j of c_j rho^(2j), m >= 0."""
    high, low = (n + m) // 2, (n - m) // 2
    coefficients = [0.0] * (low + 1)
    for k in range(low + 1):
        term = math.factorial(n - k) // (math.factorial(k) * math.factorial(high - k) * math.factorial(low - k))
        coefficients[low - k] = float((-1) ** k * term)
    return coefficients


def zernike(m: int, n: int, y: Tensor, x: Tensor) -> Tensor:
    """Evaluate one Zernike polynomial.

    Parameters
    ----------
    m, n : int
        Azimuthal and radial order, of one parity, |m| <= n. cos(m phi) for m >= 0, sin(|m| phi) for m < 0.
    y, x : Tensor, any one shape
        Cartesian coordinates; phi is counted from x to y.

    Returns
    -------
    Tensor, same shape
        Not normalised: 1 at rho = 1, phi = 0 for m >= 0.
    """
    if abs(m) > n or (n - m) % 2:
        raise ValueError(f"there is no Zernike polynomial with m = {m}, n = {n}")
    squared = y.square() + x.square()
    radial = torch.zeros_like(squared)
    for coefficient in reversed(_radial_coefficients(abs(m), n)):
        radial = radial * squared + coefficient
    # rho^m cos(m phi) and rho^m sin(m phi) are the parts of (x + iy)^m: no division by rho = 0 is needed.
    real, imaginary = torch.ones_like(squared), torch.zeros_like(squared)
    for _ in range(abs(m)):
        real, imaginary = real * x - imaginary * y, real * y + imaginary * x
    return radial * (real if m >= 0 else imaginary)


def _sum_of_polynomials(
    coefficients: Sequence[float], indices: Iterator[tuple[int, int]], y: Tensor, x: Tensor
) -> Tensor:
    total = torch.zeros_like(y)
    for coefficient, (m, n) in zip(coefficients, indices, strict=True):
        if coefficient:
            total = total + coefficient * zernike(m, n, y, x)
    return total


def symmetric_phase(frequency_y: Tensor, frequency_x: Tensor, optics: Optics) -> Tensor:
    """Phase in radians that the even Zernike polynomials add within the CTF.

    Parameters
    ----------
    frequency_y, frequency_x : Tensor, any one shape
        Spatial frequency in 1/Å.
    optics : Optics
        Gives `even_zernike`.

    Returns
    -------
    Tensor, same shape and type
    """
    coefficients = optics.even_zernike
    return _sum_of_polynomials(coefficients, even_indices(len(coefficients)), frequency_y, frequency_x)


def antisymmetric_phase(frequency_y: Tensor, frequency_x: Tensor, optics: Optics) -> Tensor:
    """Phase in radians of beam tilt and the odd Zernike polynomials.

    Beam tilt t gives -2 pi Cs lambda² k² (k . t), axial coma with RELION's sign of ``rlnBeamTiltX/Y`` (the sign by
    which the coefficients of ``rlnOddZernike`` replace them). Where both are given they add up, as in RELION.

    Parameters
    ----------
    frequency_y, frequency_x : Tensor, any one shape
        Spatial frequency in 1/Å.
    optics : Optics
        Gives `beam_tilt_x`, `beam_tilt_y` (mrad) and `odd_zernike`.

    Returns
    -------
    Tensor, same shape and type
    """
    coefficients = optics.odd_zernike
    phase = _sum_of_polynomials(coefficients, odd_indices(len(coefficients)), frequency_y, frequency_x)
    if optics.beam_tilt_x or optics.beam_tilt_y:
        coma = 2 * math.pi * optics.spherical_aberration * _ANGSTROM_PER_MM * optics.wavelength**2 * 1e-3
        along_tilt = frequency_x * optics.beam_tilt_x + frequency_y * optics.beam_tilt_y
        phase = phase - coma * (frequency_y.square() + frequency_x.square()) * along_tilt
    return phase


def aberration_phase(
    frequency_y: Tensor, frequency_x: Tensor, optics: Optics, dtype: torch.dtype = torch.complex64
) -> Tensor | None:
    """Complex factor by which beam tilt and odd aberrations multiply the transform of a particle.

    Multiply a projection by it to make it look like the particle, or the particle by its conjugate to correct it.

    Parameters
    ----------
    frequency_y, frequency_x : Tensor, any one shape
        Spatial frequency in 1/Å.
    optics : Optics
        Gives beam tilt and `odd_zernike`.
    dtype : torch.dtype
        Complex type of the result; the phase is float64 in any case.

    Returns
    -------
    Tensor, same shape, complex, or None
        exp(i phase); None where the optics group has no such aberration, so that callers can skip the product.
    """
    if not (optics.beam_tilt_x or optics.beam_tilt_y or any(optics.odd_zernike)):
        return None
    phase = antisymmetric_phase(frequency_y.to(torch.float64), frequency_x.to(torch.float64), optics)
    return torch.polar(torch.ones_like(phase), phase).to(dtype)
