"""Pixels that are too bright to be true."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# Standard deviations above the mean of the sum of all frames: RELION's figure.
_HOT_SIGMA = 6.0


def find_hot_pixels(total: NDArray[np.float32], dead: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return which pixels of the sum of all frames are hot.

    Parameters
    ----------
    total : ndarray, shape [y, x]
        Sum of the frames, gain applied, not aligned.
    dead : ndarray of bool, shape [y, x]
        Pixels known to be bad: left out of mean and deviation, and not found again.
    """
    good = total[~dead] if dead.any() else total
    threshold = good.mean(dtype=np.float64) + _HOT_SIGMA * good.std(dtype=np.float64)
    return np.asarray((total > threshold) & ~dead)
