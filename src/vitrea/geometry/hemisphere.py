"""Axes through the origin: directions that are the same as their opposites, in bins of equal area.

What Fourier space holds at a direction it holds at the opposite one, and a projection seen from behind tells nothing
new: what depends on such directions lives on half a sphere. Bins are pairs of opposite HEALPix pixels (Górski et al.
2005, doi:10.1086/427976), which are equal in area and symmetric about the origin.
"""

from __future__ import annotations

import numpy as np
from astropy_healpix import healpy
from numpy.typing import ArrayLike, NDArray


class Hemisphere:
    """Equal-area bins of axes.

    Parameters
    ----------
    nside : int
        HEALPix resolution, a power of 2: ``6 nside²`` bins, some ``58.6 / nside`` degrees wide.

    Attributes
    ----------
    vectors : ndarray, shape [bins, 3]
        Unit vector (x, y, z) at the middle of each bin, of the two the one with z > 0 (or y, or x, where z is 0).
    """

    def __init__(self, nside: int) -> None:
        self.nside = nside
        pixels = np.arange(12 * nside * nside)
        centres = np.stack(healpy.pix2vec(nside, pixels), axis=1)
        opposite = healpy.vec2pix(nside, *-centres.T)
        chosen, self._bin = np.unique(np.minimum(pixels, opposite), return_inverse=True)
        self.vectors: NDArray[np.float64] = upper(centres[chosen])

    def __len__(self) -> int:
        """Return the number of bins."""
        return len(self.vectors)

    def index(self, vectors: ArrayLike) -> NDArray[np.int64]:
        """Return the bin of each vector (x, y, z), shape [..., 3] to [...]; a vector and its opposite share one.

        Lengths are of no account; the origin is in the bin of z.
        """
        # Turned up first, so that rounding cannot send opposites on the border of two pixels to different bins.
        x, y, z = np.moveaxis(upper(vectors), -1, 0)
        nowhere = (x == 0) & (y == 0) & (z == 0)
        return np.asarray(self._bin[healpy.vec2pix(self.nside, x, y, np.where(nowhere, 1.0, z))], dtype=np.int64)


def upper(vectors: ArrayLike) -> NDArray[np.float64]:
    """Return vectors [..., 3], those that point down (z < 0; in the plane y < 0, then x < 0) replaced by opposites."""
    given = np.asarray(vectors, dtype=np.float64)
    x, y, z = np.moveaxis(given, -1, 0)
    down = (z < 0) | ((z == 0) & ((y < 0) | ((y == 0) & (x < 0))))
    return np.asarray(np.where(down[..., None], -given, given) + 0.0)  # -0 has another longitude than 0


def mean_axis(vectors: ArrayLike, weights: ArrayLike | None = None) -> NDArray[np.float64]:
    """Return the axis [3] about which axes [n, 3] gather: the first eigenvector of their mean outer product."""
    given = np.asarray(vectors, dtype=np.float64)
    share = np.ones(len(given)) if weights is None else np.asarray(weights, dtype=np.float64)
    _, axes = np.linalg.eigh((given * share[:, None]).T @ given)
    return upper(axes[:, -1])


def axis_angle(first: ArrayLike, second: ArrayLike) -> NDArray[np.float64]:
    """Return the angle in degrees, 0 to 90, between axes given as unit vectors [..., 3]."""
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    across = np.linalg.norm(np.cross(a, b), axis=-1)
    return np.asarray(np.degrees(np.arctan2(across, np.abs(np.sum(a * b, axis=-1)))))
