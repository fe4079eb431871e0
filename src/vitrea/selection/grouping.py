"""Groups that share a noise spectrum and an intensity scale, joined so that each has enough particles."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_ROUNDING = 1e-9


def regroup(features: NDArray[np.float64], counts: NDArray[np.int64], number: int) -> NDArray[np.int64]:
    """Join micrographs into groups of about equal size that are alike.

    RELION sorts particles by the scale of their group and cuts the list into equal parts. Here more than one feature
    counts (scale and defocus): the set is halved across the feature in which it varies most, and the halves again,
    until there are as many groups as wanted; each cut divides the particles as it divides the groups to come. Features
    are measured in their standard deviations over all particles. Micrographs are never divided.

    Parameters
    ----------
    features : ndarray of float64, shape [micrographs, features]
        Of two that vary as much, the first decides.
    counts : ndarray of int64, shape [micrographs]
        Particles, at least 1 each.
    number : int
        Groups wanted, from 1 to the number of micrographs.

    Returns
    -------
    ndarray of int64, shape [micrographs]
        Group of each, from 0; every group has a micrograph.

    Raises
    ------
    ValueError
        If more groups are wanted than there are micrographs.
    """
    if not 1 <= number <= len(counts):
        raise ValueError(f"{len(counts)} micrographs cannot make {number} groups")
    group = np.zeros(len(counts), dtype=np.int64)
    waiting = [(np.arange(len(counts)), number, 0)]
    spread = _spread(features, counts)
    scaled = features / np.where(spread > 0, spread, np.inf)
    while waiting:
        members, wanted, first = waiting.pop()
        if wanted == 1:
            group[members] = first
            continue
        left = wanted // 2
        axis = int(np.argmax(_spread(scaled[members], counts[members]).round(6)))
        ordered = members[np.argsort(scaled[members, axis], kind="stable")]
        cut = _cut(counts[ordered], left, wanted)
        waiting += [(ordered[:cut], left, first), (ordered[cut:], wanted - left, first + left)]
    return group


def _spread(features: NDArray[np.float64], counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the standard deviation over particles of each feature; 0 for what varies by rounding only."""
    weights = counts / counts.sum()
    mean = weights @ features
    deviation = np.sqrt(weights @ (features - mean) ** 2)
    return np.where(deviation > _ROUNDING * np.abs(mean), deviation, 0.0)


def _cut(counts: NDArray[np.int64], left: int, wanted: int) -> int:
    """Return how many micrographs go to the left so that its particles come nearest to their share."""
    total = np.cumsum(counts)
    share = total[-1] * left / wanted
    cuts = np.arange(left, len(counts) - (wanted - left) + 1)  # each side has a micrograph for each of its groups
    return int(cuts[np.argmin(np.abs(total[cuts - 1] - share))])
