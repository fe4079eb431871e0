"""Where particles lie: at random, none upon another."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

_ROUNDS = 60  # of candidates, before a field counts as full


def place_particles(
    random: np.random.Generator,
    number: int,
    height: float,
    width: float,
    spacing: float,
    border: float,
    allowed: NDArray[np.bool_] | None = None,
) -> NDArray[np.float64]:
    """Draw places by random sequential addition, until enough lie in the image.

    Parameters
    ----------
    random : Generator
    number : int
        Centres wanted within the image.
    height, width : float
        Of the image, in pixels.
    spacing : float
        Least distance of two centres, in pixels.
    border : float
        Width in pixels of the strip around the image that is filled at the same density: such particles may reach
        into it, or drift in. Negative: the strip within the image that is left empty.
    allowed : ndarray of bool, shape [height, width], optional
        Where centres may lie; beyond the image its nearest pixel counts.

    Returns
    -------
    ndarray, shape [particles, 2]
        x, y in pixels, 0 being the centre of the first; those within the image come first. Fewer than wanted where the
        image is full.
    """
    inside: list[NDArray[np.float64]] = []
    outside: list[NDArray[np.float64]] = []
    low, high = np.array([-border, -border]), np.array([width + border, height + border]) - 1.0
    if number == 0 or (high <= low).any():
        return np.empty((0, 2))
    for _ in range(_ROUNDS):
        candidates = random.uniform(low, high, size=(max(4 * number, 64), 2))
        if allowed is not None:
            nearest = np.clip(np.rint(candidates).astype(int), 0, [allowed.shape[1] - 1, allowed.shape[0] - 1])
            candidates = candidates[allowed[nearest[:, 1], nearest[:, 0]]]
        for candidate in _keep_apart(candidates, inside + outside, spacing):
            pixel = np.rint(candidate)
            within = bool((pixel >= 0).all() and pixel[0] <= width - 1 and pixel[1] <= height - 1)
            (inside if within else outside).append(candidate)
            if len(inside) == number:
                return np.array(inside + outside)
    return np.array(inside + outside).reshape(-1, 2)


def _keep_apart(
    candidates: NDArray[np.float64], taken: list[NDArray[np.float64]], spacing: float
) -> list[NDArray[np.float64]]:
    """Return, in order, the candidates that are `spacing` away from what is taken and from those kept before."""
    if taken and len(candidates):
        distance, _ = cKDTree(np.array(taken)).query(candidates)
        candidates = candidates[distance >= spacing]
    if not len(candidates):
        return []
    neighbours = cKDTree(candidates).query_ball_point(candidates, spacing, return_sorted=True)
    kept: set[int] = set()
    for row, others in enumerate(neighbours):
        if not any(other in kept for other in others if other < row):
            kept.add(row)
    return [candidates[row] for row in sorted(kept)]
