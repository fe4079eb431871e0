"""An atomic model: what is needed to compute its density."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
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
    chain_names : ndarray of str, shape [atoms]
        Name of each atom's chain ("A"); the copies of an assembly have numbers ("A1", "A2").
    residue_names : ndarray of str, shape [atoms], or None
        Name and number of each atom's residue, unique within its chain ("LEU 123", "LEU 123A"); None: not known.
    """

    elements: NDArray[Any]
    positions: NDArray[np.float64]
    b_factors: NDArray[np.float64]
    occupancies: NDArray[np.float64]
    chain_names: NDArray[Any]
    residue_names: NDArray[Any] | None = None

    def __len__(self) -> int:
        """Return the number of atoms."""
        return len(self.elements)

    @property
    def chains(self) -> tuple[str, ...]:
        """Names of the chains, in order of appearance; copies of an assembly count."""
        return tuple(dict.fromkeys(self.chain_names.tolist()))

    def without_chains(self, names: Collection[str]) -> AtomicModel:
        """Return the model without the atoms of some chains."""
        keep = np.array([name not in names for name in self.chain_names], dtype=bool)
        return AtomicModel(
            self.elements[keep],
            self.positions[keep],
            self.b_factors[keep],
            self.occupancies[keep],
            self.chain_names[keep],
            None if self.residue_names is None else self.residue_names[keep],
        )

    def moved(self, rotation: NDArray[np.float64], shift: NDArray[np.float64]) -> AtomicModel:
        """Return the model with its atoms at ``R x + t``; R of shape [3, 3], t (x, y, z) in Å."""
        return replace(self, positions=self.positions @ np.asarray(rotation).T + shift)
