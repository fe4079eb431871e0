"""Single-precision numbers of binary tables as the decimals they were meant to be."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_FEW = 1000


def widen(values: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return float32 numbers as float64; where a column has few different ones, as their shortest decimals.

    The pixel size 2.95 then is 2.95, not 2.950000047683716. Either way float32 of the result is the number itself.
    """
    wide: NDArray[np.float64] = values.astype(np.float64)
    if not np.isfinite(wide).all():
        return wide
    different, index = np.unique(values, return_inverse=True)
    if len(different) > _FEW:
        return wide
    decimals = np.array([float(str(value)) for value in different], dtype=np.float64)
    return decimals[index].reshape(values.shape)
