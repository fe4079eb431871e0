"""A Fourier shell correlation as a file gives it: against spatial frequency, for maps of any box."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class FscCurve:
    """FSC between half maps.

    Attributes
    ----------
    frequency : ndarray of float64, shape [points]
        1/Å, rising.
    value : ndarray of float64, shape [points]
        -1 to 1.
    name : str
        What it is called where it comes from (``rlnFourierShellCorrelationCorrected``, ``Part_FSC``).
    """

    frequency: NDArray[np.float64]
    value: NDArray[np.float64]
    name: str = "FSC"

    def of_shells(self, size: int, voxel_size: float) -> NDArray[np.float64]:
        """Return the FSC of each shell of a map, drawn with straight lines between points.

        Parameters
        ----------
        size : int
            Box n in voxels.
        voxel_size : float
            Å.

        Returns
        -------
        ndarray, shape [n // 2 + 1]
            1 in shell 0; 0 beyond the last point, of which nothing is known.
        """
        shells = np.arange(size // 2 + 1) / (size * voxel_size)
        # A hundredth of a shell beyond the last point is rounding of a printed frequency, not another shell.
        reach = self.frequency[-1] + 0.01 / (size * voxel_size)
        values = np.interp(shells, self.frequency, self.value)
        values = np.where(shells <= reach, values, 0.0)
        values[0] = 1.0
        return values
