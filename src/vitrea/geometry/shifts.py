"""Grids of shifts (translations) of an image or a sub-tomogram, in the unit of their step (Å or pixels)."""

from __future__ import annotations

import itertools
import math

import numpy as np
from numpy.typing import ArrayLike, NDArray


def shift_grid(shift_range: float, step: float, dimensions: int = 2) -> NDArray[np.float64]:
    """Lay a square grid of shifts within a circle or ball.

    Parameters
    ----------
    shift_range : float
        Radius of the circle or ball; its border counts as inside.
    step : float
        Distance of neighbouring shifts, same unit as the radius.
    dimensions : int
        2 or 3.

    Returns
    -------
    array, shape [t, dimensions]
        Shifts (x, y) or (x, y, z), with x varying slowest, as RELION orders them; always holds zero.
    """
    if step <= 0 or shift_range < 0:
        raise ValueError(f"a shift grid needs a positive step and a range >= 0, got {step} and {shift_range}")
    if dimensions not in (2, 3):
        raise ValueError(f"shifts have 2 or 3 dimensions, not {dimensions}")
    reach = math.ceil(shift_range / step)
    points = np.array(list(itertools.product(range(-reach, reach + 1), repeat=dimensions)), dtype=np.float64) * step
    # A hair of tolerance keeps the shifts that lie on the border whatever the rounding of range and step.
    inside: NDArray[np.float64] = points[np.sum(points**2, axis=1) <= shift_range**2 * (1 + 1e-9) + 1e-12]
    return inside


def oversample_shifts(
    shifts: ArrayLike, step: float, oversampling: int = 1, perturbation: float = 0.0
) -> NDArray[np.float64]:
    """Divide the cell of each shift into finer shifts.

    Parameters
    ----------
    shifts : array, shape [t, dimensions]
        Coarse shifts, from `shift_grid`.
    step : float
        Distance of neighbouring coarse shifts.
    oversampling : int
        How many times each cell is halved along every axis; 0 gives the coarse shifts.
    perturbation : float
        Fraction of the coarse step that is added to every shift along every axis, from
        `vitrea.geometry.sampling.perturbation`.

    Returns
    -------
    array, shape [t * 2**(dimensions * oversampling), dimensions]
        The children of one shift lie together, x varying slowest; their mean is the (perturbed) coarse shift.
    """
    coarse = np.asarray(shifts, dtype=np.float64)
    if coarse.ndim != 2 or coarse.shape[1] not in (2, 3):
        raise ValueError(f"shifts need shape [t, 2] or [t, 3], got {list(coarse.shape)}")
    if oversampling < 0:
        raise ValueError(f"oversampling must be 0 or more, got {oversampling}")
    parts = 2**oversampling
    fractions = (np.arange(parts) + 0.5) / parts - 0.5
    offsets = np.array(list(itertools.product(fractions, repeat=coarse.shape[1])))
    children = coarse[:, None, :] + (offsets + perturbation) * step
    return children.reshape(-1, coarse.shape[1])
