"""What damps high frequencies: the detector."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def interpolate_mtf(frequency: ArrayLike, table_frequency: ArrayLike, table_value: ArrayLike) -> NDArray[np.float64]:
    """Read the modulation transfer function of a detector from its table.

    Parameters
    ----------
    frequency : array, any shape
        Spatial frequency in cycles per detector pixel (0.5 is Nyquist).
    table_frequency, table_value : array, shape [rows]
        The table (``rlnResolutionInversePixel``, ``rlnMtfValue``), frequencies rising.

    Returns
    -------
    array, same shape as `frequency`
        Linear between rows; the first and last value outside the table.
    """
    x, y = np.asarray(table_frequency, dtype=np.float64), np.asarray(table_value, dtype=np.float64)
    if x.ndim != 1 or x.shape != y.shape or len(x) == 0:
        raise ValueError(f"an MTF table needs two columns of one length, got {list(x.shape)} and {list(y.shape)}")
    if np.any(np.diff(x) <= 0):
        raise ValueError("the frequencies of an MTF table must rise from row to row")
    return np.interp(np.asarray(frequency, dtype=np.float64), x, y)
