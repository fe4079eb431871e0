"""Soft spherical masks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray


def raised_cosine(distance: ArrayLike, radius: float, edge: float) -> NDArray[np.float64]:
    """1 up to `radius`, 0 from ``radius + edge`` on, half a cosine period between.

    Parameters
    ----------
    distance : array, any shape
        Distances from the centre of the mask.
    radius, edge : float
        In the unit of the distances; an edge of 0 gives a hard mask that holds its border.
    """
    r = np.asarray(distance, dtype=np.float64)
    if edge <= 0:
        return (r <= radius).astype(np.float64)
    ramp = np.clip((r - radius) / edge, 0.0, 1.0)
    return 0.5 + 0.5 * np.cos(np.pi * ramp)


def soft_sphere(
    n: int, radius: float, edge: float, dims: int = 3, centre: Sequence[float] | None = None
) -> NDArray[np.float64]:
    """Make a soft-edged ball or disc.

    Parameters
    ----------
    n : int
        Box size in pixels, even or odd.
    radius : float
        Radius in pixels within which the mask is 1.
    edge : float
        Width in pixels of the raised-cosine edge outside the radius.
    dims : int
        2 for a disc, 3 for a ball.
    centre : sequence of float, optional
        Centre in pixels, in array order ([y, x] or [z, y, x]); pixel ``n // 2`` by default.

    Returns
    -------
    array, shape [n] * dims
        Values 0 to 1.
    """
    if dims not in (2, 3):
        raise ValueError(f"a mask has 2 or 3 dimensions, not {dims}")
    middle = [float(n // 2)] * dims if centre is None else list(centre)
    if len(middle) != dims:
        raise ValueError(f"a mask of {dims} dimensions needs a centre of {dims} numbers, got {len(middle)}")
    squared = np.zeros((1,) * dims)
    for axis, position in enumerate(middle):
        shape = [1] * dims
        shape[axis] = n
        squared = squared + ((np.arange(n) - position) ** 2).reshape(shape)
    return raised_cosine(np.sqrt(squared), radius, edge)
