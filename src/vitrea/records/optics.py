"""What is common to all images taken with one setting of the microscope."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Optics:
    """One optics group.

    Attributes
    ----------
    pixel_size : float
        Å per pixel of the images: particles, micrographs or movie frames.
    image_size : int
        Box size in pixels; 0 for micrographs and movies, which need not be square.
    voltage : float
        Acceleration voltage in kV.
    spherical_aberration : float
        Cs in mm.
    amplitude_contrast : float
        Fraction of amplitude contrast, 0 to 1.
    beam_tilt_x, beam_tilt_y : float
        Beam tilt in mrad.
    odd_zernike, even_zernike : tuple of float
        Zernike coefficients (radians) of the antisymmetric and symmetric aberrations, RELION's order
        (Zivanov et al. 2020, doi:10.1107/S2052252520000081).
    name : str
        Name of the group.
    group : int
        Number of the group in its file (``rlnOpticsGroup``).
    mtf_file : str
        Name of the detector's MTF file, or empty.
    original_pixel_size : float
        Å per pixel of the micrographs, for the MTF; 0 where unknown.
    ctf_premultiplied : bool
        Whether the images are already multiplied by their CTF.
    """

    pixel_size: float
    image_size: int
    voltage: float
    spherical_aberration: float
    amplitude_contrast: float
    beam_tilt_x: float = 0.0
    beam_tilt_y: float = 0.0
    odd_zernike: tuple[float, ...] = ()
    even_zernike: tuple[float, ...] = ()
    name: str = "opticsGroup1"
    group: int = 1
    mtf_file: str = ""
    original_pixel_size: float = 0.0
    ctf_premultiplied: bool = False

    @property
    def wavelength(self) -> float:
        """Relativistic electron wavelength in Å."""
        volts = self.voltage * 1e3
        return 12.2643247 / math.sqrt(volts * (1.0 + 0.978466e-6 * volts))
