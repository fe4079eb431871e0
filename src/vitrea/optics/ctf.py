"""The contrast transfer function of the microscope, with RELION's sign.

With k the spatial frequency, lambda the wavelength, Cs the spherical aberration, w the amplitude contrast and phi the
phase shift of a phase plate::

    CTF(k) = -sin( -pi lambda D(k) k^2 + pi/2 Cs lambda^3 k^4 - phi - asin(w) + Z(k) )
    D(k)   = (U + V)/2 + (U - V)/2 cos(2 (angle of k - defocus angle))

so that underfocus is positive and CTF(0) = +w. Z is the phase of the even Zernike polynomials (symmetric aberrations;
Zivanov et al. 2020, doi:10.1107/S2052252520000081).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from vitrea.optics.aberrations import symmetric_phase
from vitrea.records.optics import Optics

_ANGSTROM_PER_MM = 1e7


def _defocus_terms(defocus: Tensor) -> Tensor:
    """Coefficients [particles, 3] of k^2, kx^2 - ky^2 and 2 kx ky in D(k) k^2, from (U, V, angle in degrees)."""
    u, v, angle = defocus.unbind(-1)
    mean, half_difference = (u + v) / 2, (u - v) / 2
    doubled = torch.deg2rad(2 * angle)
    return torch.stack([mean, half_difference * torch.cos(doubled), half_difference * torch.sin(doubled)], dim=-1)


def ctf_phase(
    frequency_y: Tensor, frequency_x: Tensor, optics: Optics, defocus: Tensor, phase_shift: Tensor | None = None
) -> Tensor:
    """Phase whose negative sine is the CTF, in radians.

    Parameters and shapes as in `ctf`. Always float64: at 3 Å and 3 µm of defocus it runs to hundreds of radians, of
    which float32 would keep four digits after the point at best.

    Returns
    -------
    Tensor, shape [particles, *frequency.shape], float64
    """
    if frequency_y.shape != frequency_x.shape:
        shapes = f"{list(frequency_y.shape)} and {list(frequency_x.shape)}"
        raise ValueError(f"frequency_y and frequency_x need one shape, got {shapes}")
    if defocus.ndim != 2 or defocus.shape[1] != 3:
        raise ValueError(f"defocus needs shape [particles, 3], got {list(defocus.shape)}")
    y, x = frequency_y.to(torch.float64).reshape(-1), frequency_x.to(torch.float64).reshape(-1)
    squared = y.square() + x.square()
    basis = torch.stack([squared, x.square() - y.square(), 2 * x * y])  # [3, samples]
    wavelength = optics.wavelength
    terms = -math.pi * wavelength * _defocus_terms(defocus.to(basis))  # [particles, 3]
    aberration = 0.5 * math.pi * optics.spherical_aberration * _ANGSTROM_PER_MM * wavelength**3
    common = aberration * squared.square() - math.asin(optics.amplitude_contrast)
    if optics.even_zernike:
        common = common + symmetric_phase(y, x, optics)
    phase = torch.addmm(common.expand(len(terms), -1), terms, basis)
    if phase_shift is not None:
        phase -= torch.deg2rad(phase_shift.to(phase))[:, None]
    return phase.reshape(len(terms), *frequency_y.shape)


def ctf(
    frequency_y: Tensor,
    frequency_x: Tensor,
    optics: Optics,
    defocus: Tensor,
    phase_shift: Tensor | None = None,
    b_factor: Tensor | None = None,
    scale: Tensor | None = None,
    *,
    intact_first_peak: bool = False,
    absolute: bool = False,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Contrast transfer functions of many particles at given spatial frequencies.

    Parameters
    ----------
    frequency_y, frequency_x : Tensor, any one shape
        Spatial frequency in 1/Å.
    optics : Optics
        Voltage, spherical aberration, amplitude contrast and symmetric aberrations of the particles' optics group.
    defocus : Tensor, shape [particles, 3]
        (U, V, angle): defocus in Å along and across the angle, in degrees from the x axis (``rlnDefocusU``,
        ``rlnDefocusV``, ``rlnDefocusAngle``).
    phase_shift : Tensor, shape [particles], optional
        Phase shift in degrees (``rlnPhaseShift``).
    b_factor : Tensor, shape [particles], optional
        B in Å² of the envelope exp(-B k²/4) (``rlnCtfBfactor``).
    scale : Tensor, shape [particles], optional
        Factor (``rlnCtfScalefactor``).
    intact_first_peak : bool
        Take 1 for the CTF up to its first extremum (RELION's ``--ctf_intact_first_peak``).
    absolute : bool
        Take the absolute value: the images are phase-flipped.
    dtype : torch.dtype
        Type of the result; phases are float64 in any case.

    Returns
    -------
    Tensor, shape [particles, *frequency.shape]
    """
    phase = ctf_phase(frequency_y, frequency_x, optics, defocus, phase_shift)
    first_peak = phase.abs() < math.pi / 2 if intact_first_peak else None
    value = phase.sin_().neg_().to(dtype)
    if first_peak is not None:
        value.masked_fill_(first_peak, 1.0)
    shape = (-1,) + (1,) * frequency_y.ndim
    if b_factor is not None:
        squared = (frequency_y.square() + frequency_x.square()).to(dtype)
        value *= torch.exp(b_factor.to(value).reshape(shape) * (-squared / 4))
    if absolute:
        value.abs_()
    if scale is not None:
        value *= scale.to(value).reshape(shape)
    return value
