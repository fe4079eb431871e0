"""The samples of a spectrum's half plane, and the phase of the CTF there."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from vitrea.records.optics import Optics

_ANGSTROM_PER_MM = 1e7


@dataclass(frozen=True)
class Samples:
    """Half of the samples of a spectrum of `box` a side, those within the largest circle, without the origin.

    Attributes
    ----------
    box : int
    flat : ndarray of int64, shape [samples]
        Places in the flattened spectrum.
    radius : ndarray of float64, shape [samples]
        Distance from the origin in samples.
    angle : ndarray of float64, shape [samples]
        Radians from the x axis towards y, -pi/2 to pi/2.
    """

    box: int
    flat: NDArray[np.int64]
    radius: NDArray[np.float64]
    angle: NDArray[np.float64]

    def within(self, low: float, high: float) -> NDArray[np.bool_]:
        """Tell which samples have a radius from `low` to `high`."""
        return (self.radius >= low) & (self.radius <= high)


@lru_cache(maxsize=4)
def half_plane(box: int) -> Samples:
    """Return the samples of a spectrum; kept, as all spectra of a job have one size."""
    y, x = np.mgrid[-box // 2 : box // 2, -box // 2 : box // 2].astype(np.float64)
    half = ((x > 0) | ((x == 0) & (y > 0))) & (np.hypot(x, y) < box / 2)
    return Samples(box, np.flatnonzero(half), np.hypot(x, y)[half], np.arctan2(y[half], x[half]))


@dataclass(frozen=True)
class CtfConstants:
    """The phase of the CTF along a line of frequencies: chi = spherical k^4 - linear D k^2 + constant - phase shift.

    Attributes
    ----------
    linear, spherical, constant : float
        Å, Å^4, radians.
    """

    linear: float
    spherical: float
    constant: float

    def phase(
        self, squared: NDArray[np.float64], defocus: float | NDArray[np.float64], phase_shift: float
    ) -> NDArray[np.float64]:
        """Return chi in radians at squared frequencies (1/Å²) for defoci in Å and a phase shift in radians."""
        return self.spherical * squared**2 - self.linear * defocus * squared + self.constant - phase_shift

    def slope(self, frequency: NDArray[np.float64], defocus: float | NDArray[np.float64]) -> NDArray[np.float64]:
        """Return d chi / dk in radians Å."""
        return 4 * self.spherical * frequency**3 - 2 * self.linear * defocus * frequency


def ctf_constants(optics: Optics) -> CtfConstants:
    """Return the constants of `vitrea.optics.ctf.ctf_phase` for one setting of the microscope."""
    wavelength = optics.wavelength
    spherical = 0.5 * math.pi * optics.spherical_aberration * _ANGSTROM_PER_MM * wavelength**3
    return CtfConstants(math.pi * wavelength, spherical, -math.asin(optics.amplitude_contrast))
