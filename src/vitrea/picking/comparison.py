"""Picks against the truth, and how many picks each threshold leaves."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import maximum_bipartite_matching
from scipy.spatial import cKDTree


@dataclass(frozen=True)
class Agreement:
    """How picks agree with the truth.

    Attributes
    ----------
    picked, true, found : int
        Picks, particles there are, and particles that a pick of their own was found for.
    """

    picked: int
    true: int
    found: int

    @property
    def recall(self) -> float:
        """Part of the particles that were found; 0 where there are none."""
        return self.found / self.true if self.true else 0.0

    @property
    def precision(self) -> float:
        """Part of the picks that are particles; 0 where there are none."""
        return self.found / self.picked if self.picked else 0.0

    def __add__(self, other: Agreement) -> Agreement:
        """Take two micrographs together."""
        return Agreement(self.picked + other.picked, self.true + other.true, self.found + other.found)


def compare_picks(picks: ArrayLike, truth: ArrayLike, distance: float) -> Agreement:
    """Pair picks with particles one to one, as many as can be, no pair farther apart than a distance.

    Parameters
    ----------
    picks, truth : array, shape [n, 2]
        Places in one unit.
    distance : float
        In that unit.
    """
    first = np.asarray(picks, dtype=np.float64).reshape(-1, 2)
    second = np.asarray(truth, dtype=np.float64).reshape(-1, 2)
    if not len(first) or not len(second):
        return Agreement(len(first), len(second), 0)
    near = cKDTree(first).sparse_distance_matrix(cKDTree(second), distance, output_type="coo_matrix")
    graph = coo_matrix((np.ones(near.nnz), (near.row, near.col)), shape=(len(first), len(second))).tocsr()
    pairs = maximum_bipartite_matching(graph, perm_type="column")
    return Agreement(len(first), len(second), int((pairs >= 0).sum()))


def picks_at_thresholds(heights: ArrayLike, thresholds: ArrayLike) -> NDArray[np.int64]:
    """Count the peaks above each threshold; never more at a higher one."""
    ordered = np.sort(np.asarray(heights, dtype=np.float64))
    return len(ordered) - np.searchsorted(ordered, np.asarray(thresholds, dtype=np.float64), side="right")
