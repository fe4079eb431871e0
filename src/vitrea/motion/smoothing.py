"""Smoothing of shifts over time: motion has no jumps, the peaks of noisy correlations have."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def spline_smooth(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Smooth columns by cubic splines whose stiffness the data themselves choose (generalised cross-validation).

    Craven & Wahba (1978), doi:10.1007/BF01404567. The splines are stiff in the square root of time: specimens move most
    in the first frames. Movies of fewer than 5 frames are left as they are.

    Parameters
    ----------
    values : ndarray, shape [frames, columns]

    Returns
    -------
    ndarray, shape of `values`
    """
    from scipy.interpolate import make_smoothing_spline

    if len(values) < 5:
        return values.copy()
    time = np.sqrt(np.arange(1.0, len(values) + 1))
    return np.stack([make_smoothing_spline(time, column)(time) for column in values.T], axis=1)


def savitzky_golay(values: NDArray[np.float64], window: int) -> NDArray[np.float64]:
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


def polynomial_smooth(values: NDArray[np.float64], degree: int) -> NDArray[np.float64]:
    """Replace columns by the polynomial in time that fits them best; shape [frames, columns].

    The degree is lowered for short movies, to half the number of frames at most.
    """
    time = np.linspace(-1.0, 1.0, len(values))
    basis = np.polynomial.legendre.legvander(time, min(degree, max(0, len(values) // 2)))
    return np.asarray(basis @ np.linalg.lstsq(basis, values, rcond=None)[0])
