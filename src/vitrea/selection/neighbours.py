"""Particles picked twice: neighbours closer than a distance in one micrograph."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree


def keep_best_neighbours(
    positions: NDArray[np.float64], micrograph: NDArray[np.int64], merit: NDArray[np.float64], distance: float
) -> NDArray[np.bool_]:
    """Choose particles no two of which lie within a distance of each other in the same micrograph.

    Greedy, from the best merit down: a particle is dropped if a better one that is kept lies within the distance.
    No particle is dropped for the sake of one that is dropped itself.

    Parameters
    ----------
    positions : ndarray of float64, shape [particles, 2]
        x, y in Å.
    micrograph : ndarray of int64, shape [particles]
        Number of the micrograph, from 0.
    merit : ndarray of float64, shape [particles]
        The higher the better; NaN is worst. Of equals, the first is better.
    distance : float
        Å.

    Returns
    -------
    ndarray of bool, shape [particles]
        What to keep.
    """
    keep = np.ones(len(positions), dtype=bool)
    # Micrographs lie one above the other, too far apart to touch: one tree serves them all.
    layers = np.column_stack([positions, 2.0 * distance * micrograph])
    pairs = KDTree(layers).query_pairs(distance, output_type="ndarray")
    if not len(pairs):
        return keep
    pairs = np.concatenate([pairs, pairs[:, ::-1]])
    pairs = pairs[np.argsort(pairs[:, 0], kind="stable")]
    rows, starts = np.unique(pairs[:, 0], return_index=True)
    neighbours = np.split(pairs[:, 1], starts[1:])
    value = np.where(np.isnan(merit), -np.inf, merit)[rows]
    for place in np.lexsort((rows, -value)):
        if keep[rows[place]]:
            keep[neighbours[place]] = False
    return keep
