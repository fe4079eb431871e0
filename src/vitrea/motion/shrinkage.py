"""Coefficients of local motion from noisy sums: as large as the data say, term by term, and no larger.

Coefficients are drawn, a priori, from Gaussians about 0, whose variances are found by maximising the likelihood of the
data with all coefficients integrated out (empirical Bayes; Tipping 2001, "Sparse Bayesian learning and the relevance
vector machine", J. Mach. Learn. Res. 1, 211-244). Terms of the same order in space and the same order in time share a
variance: a movie that bends slowly, as most do, pays nothing for the fast terms that the model allows.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vitrea.motion.field import PLACES, SPATIAL_ORDER, TIMES

Array = NDArray[np.float64]

_ROUNDS = 100
# Square pixels: a variance below is none.
_LEAST = 1e-8


def shrink(information: Array, estimate: Array, noise: float) -> Array:
    """Return the most probable coefficients.

    Parameters
    ----------
    information : ndarray, shape [2, 5, 5]
        For x and y: the precision of coefficients, the same for each order in time, up to a factor.
    estimate : ndarray, shape [5, 3, 2]
        Coefficients by function of place, order in time and axis that fit best.
    noise : float
        What the precision has to be divided by.

    Returns
    -------
    ndarray, shape [5, 3, 2]
    """
    precision = information[:, None] / noise  # [axis, 1, 5, 5]
    fit = estimate.transpose(2, 1, 0)[..., None]  # [axis, time, 5, 1]
    target = precision @ fit
    groups = [(order == SPATIAL_ORDER, time) for order in (1, 2) for time in range(TIMES)]
    variances = np.empty((TIMES, PLACES))
    for places, time in groups:
        variances[time, places] = max(_LEAST, float(np.mean(fit[:, time, places] ** 2)))
    mean = fit
    for _ in range(_ROUNDS):
        covariance = np.linalg.inv(precision + np.eye(PLACES) / variances[None, :, :, None])
        mean = covariance @ target
        expected = mean[..., 0] ** 2 + np.diagonal(covariance, axis1=2, axis2=3)  # of the square
        for places, time in groups:
            variances[time, places] = max(_LEAST, float(np.mean(expected[:, time, places])))
    return np.asarray(mean[..., 0].transpose(2, 1, 0))
