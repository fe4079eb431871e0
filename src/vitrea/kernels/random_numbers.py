"""The random numbers of the GNU C library's ``rand()``, for results that are to be those of a program that uses it.

The generator is the additive feedback ``r[i] = r[i - 3] + r[i - 31]`` modulo 2^32, without its lowest bit (Knuth, The
Art of Computer Programming, volume 2, section 3.2.2), started by a multiplicative generator; 310 are thrown away first.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

LARGEST = 2**31 - 1
"""The largest number drawn (``RAND_MAX``)."""

_MEMORY, _LAG, _THROWN_AWAY = 31, 3, 310


@njit(cache=True)
def _feed_back(values) -> None:  # type: ignore[no-untyped-def]
    for i in range(_MEMORY, len(values)):
        values[i] = values[i - _LAG] + values[i - _MEMORY]


class LibcRandom:
    """What ``srand(seed)`` and then ``rand()`` give.

    Parameters
    ----------
    seed : int
        0 to 2^31 - 2; 0 is taken for 1, as in the C library.
    """

    def __init__(self, seed: int) -> None:
        if not 0 <= seed < LARGEST:
            raise ValueError(f"the seed must lie between 0 and {LARGEST - 1}, not {seed}")
        start = [seed or 1]
        for _ in range(_MEMORY - 1):
            start.append(16807 * start[-1] % LARGEST)
        # The library's table begins with its fourth entry again after 31 numbers: the first three come last.
        self._state = np.array(start[_LAG:] + start[:_LAG], dtype=np.uint32)
        self.draw(_THROWN_AWAY)

    def draw(self, count: int) -> NDArray[np.uint32]:
        """Return the next numbers, 0 to `LARGEST`, shape [count]."""
        values = np.empty(_MEMORY + count, dtype=np.uint32)
        values[:_MEMORY] = self._state
        _feed_back(values)
        self._state = values[-_MEMORY:].copy()
        return values[_MEMORY:] >> np.uint32(1)
