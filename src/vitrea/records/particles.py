"""A particle set: a table with one row a particle, and the optics groups it refers to."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vitrea.records.image_set import ImageSet

DEFOCUS_LABELS = ("rlnDefocusU", "rlnDefocusV", "rlnDefocusAngle")
EULER_LABELS = ("rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi")
SHIFT_LABELS = ("rlnOriginXAngst", "rlnOriginYAngst")


@dataclass(frozen=True)
class Particles(ImageSet):
    """Particles in RELION's terms, RELION >= 3.1 form (shifts in Å, optics groups) whatever the file's dialect."""

    @property
    def defocus(self) -> NDArray[np.float64]:
        """Defocus U and V in Å and astigmatism angle in degrees, shape [particles, 3]."""
        return np.stack([self.table.numbers(label) for label in DEFOCUS_LABELS], axis=1)

    @property
    def eulers(self) -> NDArray[np.float64]:
        """Angles rot, tilt, psi in degrees, shape [particles, 3]; zeros where absent."""
        return np.stack([self.table.numbers(label, 0.0) for label in EULER_LABELS], axis=1)

    @property
    def shifts(self) -> NDArray[np.float64]:
        """Shifts x, y in Å that bring each particle to the centre, shape [particles, 2]; zeros where absent."""
        return np.stack([self.table.numbers(label, 0.0) for label in SHIFT_LABELS], axis=1)
