"""Amorphous ice and carbon as random phase objects: how much power they have, and how it reaches the image.

A layer of randomly placed scatterers gives a phase whose power per area is (number per area) (sigma v f(k) / f(0))²
S(k), with the structure factor S of the glass. Ice moves under the beam: what it shows of itself fades over an exposure
(McMullan, Vinothkumar & Henderson 2015, doi:10.1016/j.ultramic.2015.05.017), which leaves the Thon rings of ice that
one sees in motion-corrected averages.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from vitrea.optics.ctf import ctf_phase
from vitrea.records.optics import Optics
from vitrea.simulate.density import VOLTS
from vitrea.simulate.scattering import (
    CARBON,
    CARBON_DENSITY,
    WATER,
    WATER_DENSITY,
    interaction_constant,
    scattering_factor,
)

# Mean-square displacement of a water molecule along one axis, in Å² per e-/Å²: 1 Å r.m.s. in space per e-/Å².
_DIFFUSION = 1.0 / 3.0
_COMPRESSIBILITY = 0.064  # S(0) of water
# Peaks of S(k) of low-density amorphous ice: height, position and width in 1/Å (3.7 Å and 2.1 Å).
_ICE_PEAKS = ((0.9, 0.269, 0.022), (-0.2, 0.36, 0.04), (0.35, 0.485, 0.04))
_ICE_ONSET = 0.23  # 1/Å


def ice_structure_factor(frequency: Tensor) -> Tensor:
    """Return S(k) of amorphous ice: 0.064 at the origin, 1 far out, peaks at 3.7 and 2.1 Å; frequency in 1/Å."""
    value = 1 - (1 - _COMPRESSIBILITY) * torch.exp(-((frequency / _ICE_ONSET) ** 4))
    for height, position, width in _ICE_PEAKS:
        value = value + height * torch.exp(-0.5 * ((frequency - position) / width) ** 2)
    return value


def ice_power(frequency: Tensor, thickness: float, voltage: float) -> Tensor:
    """Return the power of the phase of ice at rest, in rad² Å².

    Parameters
    ----------
    frequency : Tensor, any shape
        1/Å.
    thickness : float
        Å.
    voltage : float
        kV.
    """
    amplitude = interaction_constant(voltage) * VOLTS * scattering_factor(frequency, WATER)
    return WATER_DENSITY * thickness * amplitude.square() * ice_structure_factor(frequency)


def carbon_power(frequency: Tensor, thickness: float, voltage: float) -> Tensor:
    """Return the power of the phase of an amorphous carbon film, in rad² Å²; parameters as in `ice_power`."""
    amplitude = interaction_constant(voltage) * VOLTS * scattering_factor(frequency, CARBON)
    return CARBON_DENSITY * thickness * amplitude.square()


def ice_memory(frequency: Tensor, exposure: float) -> Tensor:
    """Return by how much the phase of ice is like itself after an exposure: exp(-x), x = 2 pi² k² <u²>.

    Parameters
    ----------
    frequency : Tensor, any shape
        1/Å.
    exposure : float
        e-/Å².
    """
    return torch.exp(-_decay(frequency, exposure))


def ice_average(frequency: Tensor, exposure: float) -> Tensor:
    """Return the part of the power of ice that is left in the average over an exposure; parameters as in `ice_memory`.

    The mean of exp(-|s - t|) over all pairs of times, 2 (x - 1 + exp(-x)) / x².
    """
    x = _decay(frequency, exposure).clamp(min=1e-3)  # below, 1 - x / 3 differs from 1 by less than float32 cares for
    return 2 * (x + torch.expm1(-x)) / x.square()


def ice_steps(frequency: Tensor, exposure: float) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return the factors that make the frames of a movie of ice out of independent noise n and n'.

    With s the ice at the beginning of a frame, in units of its power at rest, its average over the frame is
    ``entering s + following n + fresh n'``, and at the end it is ``kept s + renewed n``: the exact joint distribution
    of an Ornstein-Uhlenbeck process and its average, whose correlation after an exposure is `ice_memory`.

    Parameters
    ----------
    frequency : Tensor, any shape
        1/Å.
    exposure : float
        Of a frame, in e-/Å².

    Returns
    -------
    tuple of Tensor of float32
        kept, entering, following, fresh, renewed.
    """
    x = _decay(frequency, exposure).clamp(min=1e-3)
    kept, passed = torch.exp(-x), -torch.expm1(-x)
    renewed = (-torch.expm1(-2 * x)).sqrt()
    entering = passed / x
    following = passed.square() / (x * renewed)
    fresh = (ice_average(frequency, exposure) - entering.square() - following.square()).clamp(min=0).sqrt()
    return kept.float(), entering.float(), following.float(), fresh.float(), renewed.float()


def _decay(frequency: Tensor, exposure: float) -> Tensor:
    return 2 * math.pi**2 * _DIFFUSION * exposure * frequency.square()


def layer_transfer(
    frequency_y: Tensor,
    frequency_x: Tensor,
    optics: Optics,
    defocus: Tensor,
    phase_shift: float = 0.0,
    thickness: float = 0.0,
) -> Tensor:
    """Return the root mean square of the CTF over the depth of a layer.

    As scatterers at all heights are independent, their image has the mean of CTF² as its spectrum; over a thick layer
    the Thon rings fade and come back, as a sinc of lambda k² thickness.

    Parameters
    ----------
    frequency_y, frequency_x : Tensor, any one shape
        1/Å.
    optics : Optics
    defocus : Tensor, shape [3]
        U, V in Å and angle in degrees at mid height.
    phase_shift : float
        Degrees.
    thickness : float
        Å.

    Returns
    -------
    Tensor of float64, shape of the frequencies
    """
    shift = torch.tensor([phase_shift], dtype=torch.float64)
    phase = ctf_phase(frequency_y, frequency_x, optics, defocus[None], shift)[0]
    squared = frequency_y.square() + frequency_x.square()
    visibility = torch.sinc(optics.wavelength * thickness * squared)
    return (0.5 * (1 - visibility * torch.cos(2 * phase))).clamp(min=0).sqrt()
