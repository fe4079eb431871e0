"""Smoothing of shifts over time: motion has no jumps, the peaks of noisy correlations have."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def spline_smooth(values: Array, noise: Array | None = None) -> Array:
    """Smooth columns by cubic splines whose stiffness the data themselves choose.

    By their likelihood where the noise is known (Wahba 1985, doi:10.1214/aos/1176349743: a smoothing spline is the most
    probable path of an integrated random walk), else by generalised cross-validation (Craven & Wahba 1978,
    doi:10.1007/BF01404567). The splines are stiff in the square root of time: specimens move most in the first frames.
    Movies of fewer than 5 frames are left as they are.

    Parameters
    ----------
    values : ndarray, shape [frames, columns]
    noise : ndarray, shape [columns], optional
        Standard deviation of the values; 0: it is not known.

    Returns
    -------
    ndarray, shape of `values`
    """
    from scipy.interpolate import make_smoothing_spline

    if len(values) < 5:
        return values.copy()
    time = np.sqrt(np.arange(1.0, len(values) + 1))
    known = np.zeros(values.shape[1]) if noise is None else noise
    columns = [
        _likely_spline(time, column, float(sigma) ** 2) if sigma > 0 else make_smoothing_spline(time, column)(time)
        for column, sigma in zip(values.T, known, strict=True)
    ]
    return np.stack(columns, axis=1)


def _likely_spline(time: Array, values: Array, variance: float) -> Array:
    """Smooth a column whose noise has this variance, with the likeliest strength of the random walk."""
    place = (time - time[0]) / (time[-1] - time[0])
    early, late = np.minimum(place[:, None], place), np.maximum(place[:, None], place)
    walk = early**2 * late / 2 - early**3 / 6  # covariance of an integrated random walk of unit strength
    # Straight lines are free: what is left of the values beside them decides.
    beside = np.linalg.qr(np.stack([np.ones_like(place), place], axis=1), mode="complete")[0][:, 2:]
    powers, axes = np.linalg.eigh(beside.T @ walk @ beside)
    parts = axes.T @ (beside.T @ values)
    strengths = variance * np.geomspace(1e-4, 1e12, 321)[:, None] / powers.max()
    expected = strengths * np.maximum(powers, 0) + variance
    best = expected[np.argmin((np.log(expected) + parts**2 / expected).sum(axis=1))]
    return np.asarray(values - beside @ (axes @ (parts * variance / best)))


def savitzky_golay(values: Array, window: int) -> Array:
    """Smooth columns by straight lines fitted over a sliding window (Savitzky & Golay, 1964, doi:10.1021/ac60214a047).

    Parameters
    ----------
    values : ndarray, shape [frames, columns]
    window : int
        Frames of a window; an even number is raised by one. The first and last frames take the values of the first and
        last whole window's line. Below 3, or where there are no more frames than that, nothing is smoothed.

    Returns
    -------
    ndarray, shape of `values`
    """
    from scipy.signal import savgol_filter

    width = window + 1 - window % 2
    if window < 3 or len(values) <= width:
        return values.copy()
    return np.asarray(savgol_filter(values, width, 1, axis=0, mode="interp"))


def polynomial_smooth(values: Array, degree: int) -> Array:
    """Replace columns by the polynomial in time that fits them best; shape [frames, columns].

    The degree is lowered for short movies, to half the number of frames at most.
    """
    time = np.linspace(-1.0, 1.0, len(values))
    basis = np.polynomial.legendre.legvander(time, min(degree, max(0, len(values) // 2)))
    return np.asarray(basis @ np.linalg.lstsq(basis, values, rcond=None)[0])
