"""What a fit may look for, and where."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class FitSettings:
    """Ranges of a CTF fit.

    Attributes
    ----------
    lowest_resolution, highest_resolution : float
        Å: rings between these are fitted.
    defocus_min, defocus_max : float
        Å, of the mean of U and V.
    defocus_step : float
        Å: the widest step of the search; finer ones are taken where `highest_resolution` asks for it.
    tolerated_astigmatism : float
        Å: the restraint on astigmatism, as in CTFFIND4; 0: none.
    largest_astigmatism : float
        Å: the search goes to this difference of U and V; the refinement may go beyond.
    known_astigmatism : tuple of float or None
        Difference of U and V in Å and its angle in degrees, where they are known and shall not be fitted.
    phase_min, phase_max : float
        Phase shift in degrees; no phase shift is fitted where the two are equal.
    """

    lowest_resolution: float = 30.0
    highest_resolution: float = 5.0
    defocus_min: float = 5000.0
    defocus_max: float = 50000.0
    defocus_step: float = 500.0
    tolerated_astigmatism: float = 0.0
    largest_astigmatism: float = 3000.0
    known_astigmatism: tuple[float, float] | None = None
    phase_min: float = 0.0
    phase_max: float = 0.0

    @property
    def fits_phase(self) -> bool:
        """Whether a phase shift is looked for."""
        return self.phase_max > self.phase_min
