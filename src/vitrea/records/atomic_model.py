"""An atomic model: what is needed to compute its density."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class AtomicModel:
    """Atoms of a structure.

    Attributes
    ----------
    elements : ndarray of str, shape [atoms]
        Chemical symbols ("C", "Fe").
    positions : ndarray of float64, shape [atoms, 3]
        x, y, z in Å.
    b_factors : ndarray of float64, shape [atoms]
        Isotropic displacement parameters in Å².
    occupancies : ndarray of float64, shape [atoms]
        0 to 1.
    chains : int
        Number of chains, copies of an assembly counted.
    """

    elements: NDArray[Any]
    positions: NDArray[np.float64]
    b_factors: NDArray[np.float64]
    occupancies: NDArray[np.float64]
    chains: int = 0

    def __len__(self) -> int:
        """Return the number of atoms."""
        return len(self.elements)
