"""New coordinates for particles whose poses are known."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vitrea.geometry.euler import euler_to_matrix


def project_point(eulers: NDArray[np.float64], point: tuple[float, float, float]) -> NDArray[np.float64]:
    """Return where a point of the map is seen in each view.

    Parameters
    ----------
    eulers : ndarray, shape [particles, 3]
        rot, tilt, psi in degrees.
    point : tuple of float
        x, y, z from the centre of the map's box, in any unit of length.

    Returns
    -------
    ndarray of float64, shape [particles, 2]
        x, y from the particle's centre, in the same unit.
    """
    return euler_to_matrix(eulers)[:, :2] @ np.asarray(point, dtype=np.float64)


def recentre(
    coordinates: NDArray[np.float64], origins: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Move coordinates by whole pixels to where the centres were found, and keep the rest as shifts.

    The fraction of a coordinate is lost when a window is cut (see `vitrea.extraction.windows`), for the first window as
    for the next; moving by whole pixels keeps it the same, so the remaining shifts are right for the new windows.

    Parameters
    ----------
    coordinates : ndarray of float64, shape [particles, 2]
        x, y of the windows the origins refer to, in pixels of the micrograph.
    origins : ndarray of float64, shape [particles, 2]
        RELION's ``rlnOriginX/Y`` in the same pixels: the shift that brings the particle to the centre. It lies at
        coordinate minus origin.

    Returns
    -------
    coordinates : ndarray of float64, shape [particles, 2]
    origins : ndarray of float64, shape [particles, 2]
        What is left, within half a pixel.
    """
    whole = np.round(origins)
    # Next to the first row and column a fraction cut towards zero goes the other way: there the fraction is dropped.
    moved = coordinates - whole
    crossing = (coordinates >= 0) != (moved >= 0)
    moved = np.where(crossing, np.trunc(coordinates) - whole, moved)
    return moved, origins - whole
