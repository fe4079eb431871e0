"""How evenly views sample Fourier space, and what that costs.

A view contributes a slab of Fourier space at right angles to its direction. Where views cluster, slabs crowd through
some directions and miss others: the signal there is weaker, or was never measured.

References
----------
Baldwin & Lyumkis (2020), doi:10.1016/j.pbiomolbio.2019.09.002: the sampling compensation factor, SCF.
Baldwin & Lyumkis (2021), doi:10.1016/j.pbiomolbio.2020.06.003: SCF*, which counts empty directions, and tilts.
Naydenova & Russo (2017), doi:10.1038/s41467-017-00782-3: the efficiency E_od of an orientation distribution (equation
1), from the surface at which the point-spread function that its slabs make together has fallen to 1/e² of its height.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from vitrea.geometry.euler import directions_to_vectors, euler_to_matrix
from vitrea.geometry.hemisphere import Hemisphere, upper
from vitrea.geometry.symmetry import symmetry_matrices

Floats = NDArray[np.float64]

FOURIER_RADIUS = 50.0
"""Cycles per box of the surface on which sampling is counted, as Baldwin & Lyumkis do; slabs are one cycle thick."""

_NSIDE, _NSIDE_SCAN, _NSIDE_PSF = 32, 16, 8
_CHUNK = 2048  # views whose slabs are counted at a time
_SHELLS = 32  # radius in Fourier voxels of the ball that a point-spread function is made of
_PADDING = 2
_STEP = 0.25  # voxels of the padded point-spread function
_LEVEL = np.exp(-2.0)  # of the height of a point-spread function, at which its width is taken
_GOLDEN_ANGLE = 180.0 * (3.0 - np.sqrt(5.0))


@dataclass(frozen=True)
class Sampling:
    """How views sample the directions of Fourier space.

    Attributes
    ----------
    directions : ndarray, shape [directions, 3]
        Unit vectors of half a sphere, each standing for the same solid angle.
    counts : ndarray, shape [directions]
        Views whose slab holds the direction.
    """

    directions: Floats
    counts: Floats

    @property
    def relative(self) -> Floats:
        """Sampling of each direction over that of even views."""
        return np.asarray(self.counts / self.counts.mean())

    @property
    def empty(self) -> float:
        """Part of the directions that no view sampled."""
        return float((self.counts == 0).mean())

    @property
    def scf(self) -> float:
        """Sampling compensation factor: 1 for even views, 0 where any direction is empty."""
        return 0.0 if self.empty else self._factor()

    @property
    def scf_star(self) -> float:
        """SCF in which an empty direction weighs like one that half a view sampled: `scf` where none is empty."""
        ratio = self.empty / (1.0 - self.empty)
        factor = self._factor()
        return factor / (1.0 + ratio * float(self.counts.mean()) * factor / 2.0)

    def _factor(self) -> float:
        """Return the reciprocal of the mean reciprocal sampling, of what was sampled, over the mean sampling."""
        return float(1.0 / (np.mean(1.0 / self.counts[self.counts > 0]) * self.counts.mean()))


@dataclass(frozen=True)
class PointSpread:
    """Width of a point-spread function by direction.

    Attributes
    ----------
    directions : ndarray, shape [directions, 3]
    widths : ndarray, shape [directions]
        Å, from the centre to where it has fallen to 1/e² of its height, doubled.
    """

    directions: Floats
    widths: Floats

    @property
    def mean(self) -> float:
        """Mean width in Å."""
        return float(self.widths.mean())

    @property
    def deviation(self) -> float:
        """Standard deviation of the width over directions in Å."""
        return float(self.widths.std())

    @property
    def efficiency(self) -> float:
        """E_od = 1 - 2 deviation / mean: 1 for a round point-spread function, above 0.5 is wanted; not below 0."""
        return max(0.0, 1.0 - 2.0 * self.deviation / self.mean)


def view_vectors(eulers: ArrayLike, symmetry: str = "C1", tilt: float = 0.0) -> Floats:
    """Return the directions of views in the map, with all their symmetric equivalents.

    Parameters
    ----------
    eulers : array, shape [views, 2] or [views, 3]
        rot and tilt (and psi, unused) in degrees.
    symmetry : str
        Point group.
    tilt : float
        Degrees by which the stage was tilted in addition. Particles are turned at random in the plane of the ice:
        their in-plane angles are spread evenly.

    Returns
    -------
    ndarray, shape [views * operators, 3]
        Unit vectors with z >= 0.
    """
    angles = np.asarray(eulers, dtype=np.float64)[:, :2]
    if tilt:
        turned = np.column_stack([angles, np.arange(len(angles)) * _GOLDEN_ANGLE])
        stage = euler_to_matrix([0.0, tilt, 0.0])
        views = (stage @ euler_to_matrix(turned))[:, 2]
    else:
        views = directions_to_vectors(angles)
    return upper((views @ symmetry_matrices(symmetry)).swapaxes(0, 1).reshape(-1, 3))


def sample_directions(views: Floats, radius: float = FOURIER_RADIUS, nside: int = _NSIDE) -> Sampling:
    """Count the views that sample each direction at a radius in Fourier space.

    Parameters
    ----------
    views : ndarray, shape [views, 3]
        Unit vectors.
    radius : float
        Cycles per box; a view samples what lies within half a cycle of its central section.
    nside : int
        HEALPix resolution of the directions.
    """
    grid = Hemisphere(nside)
    directions = torch.from_numpy(grid.vectors.astype(np.float32))
    given = torch.from_numpy(np.ascontiguousarray(views, dtype=np.float32))
    counts = torch.zeros(len(grid), dtype=torch.float32)
    for begin in range(0, len(given), _CHUNK):
        counts += ((directions @ given[begin : begin + _CHUNK].T).abs_() < 0.5 / radius).sum(dim=1)
    return Sampling(grid.vectors, counts.double().numpy())


def point_spread(views: Floats, resolution: float = 4.0, bfactor: float = 150.0, diameter: float = 0.0) -> PointSpread:
    """Compute the point-spread function that views make together, and its width by direction.

    Each view adds a slab, as thick as one over the particle's diameter, to the transfer function; it falls as
    ``exp(-B k² / 4)`` and ends at the resolution. Its transform is the image of a point.

    Parameters
    ----------
    views : ndarray, shape [views, 3]
        Unit vectors.
    resolution : float
        Å.
    bfactor : float
        Å².
    diameter : float
        Å; 0 and what exceeds 32 times the resolution: 32 times the resolution.
    """
    extent = _SHELLS * resolution
    half_width = 0.5 * extent / min(diameter or extent, extent)
    transfer = _transfer_function(views, half_width)
    axis = np.arange(-_SHELLS, _SHELLS + 1) / extent
    squared = axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2
    transfer *= np.exp(-bfactor * squared / 4.0)
    size = 2 * _PADDING * _SHELLS
    padded = np.zeros((size,) * 3, dtype=np.float32)
    inner = slice(size // 2 - _SHELLS, size // 2 + _SHELLS)
    padded[inner, inner, inner] = transfer[:-1, :-1, :-1]
    image = np.fft.fftshift(np.fft.fftn(np.fft.ifftshift(padded))).real.astype(np.float32)
    directions = Hemisphere(_NSIDE_PSF).vectors
    radii = _radii(image / image.max(), directions)
    return PointSpread(directions, 2.0 * radii * extent / size)


def _transfer_function(views: Floats, half_width: float) -> NDArray[np.float32]:
    """Return the share of views whose slab holds each Fourier voxel of a ball, shape [2 shells + 1] * 3."""
    vectors, weights = _gathered(views)
    axis = np.arange(-_SHELLS, _SHELLS + 1, dtype=np.float32)
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
    ball = (x * x + y * y + z * z < _SHELLS**2) & (z >= 0)
    points = torch.from_numpy(np.stack([x[ball], y[ball], z[ball]], axis=1))
    share = torch.from_numpy((weights / weights.sum()).astype(np.float32))
    slabs = torch.from_numpy(vectors.astype(np.float32).T.copy())
    parts = (points[begin : begin + _CHUNK] for begin in range(0, len(points), _CHUNK))
    total = [((part @ slabs).abs_() <= half_width).float() @ share for part in parts]
    transfer = np.zeros(ball.shape, dtype=np.float32)
    transfer[ball] = torch.cat(total).numpy()
    return np.maximum(transfer, transfer[::-1, ::-1, ::-1])


def _gathered(views: Floats) -> tuple[Floats, Floats]:
    """Return at most 1,536 views and their weights: those of one bin of directions are put at their mean."""
    grid = Hemisphere(_NSIDE_SCAN)
    if len(views) <= len(grid):
        return views, np.ones(len(views))
    bins = grid.index(views)
    # Of a bin on the rim of the half sphere views may lie on either side.
    aligned = views * np.where(np.sum(views * grid.vectors[bins], axis=1) < 0, -1.0, 1.0)[:, None]
    sums = np.stack([np.bincount(bins, part, minlength=len(grid)) for part in aligned.T], axis=1)
    weights = np.bincount(bins, minlength=len(grid)).astype(np.float64)
    kept = weights > 0
    return sums[kept] / np.linalg.norm(sums[kept], axis=1, keepdims=True), weights[kept]


def _radii(image: NDArray[np.float32], directions: Floats) -> Floats:
    """Return how far from the centre, in voxels, an image of height 1 first falls to the level in each direction."""
    centre = image.shape[0] // 2
    radii = np.arange(0.0, centre, _STEP)
    points = centre + radii[:, None, None] * directions[:, ::-1]  # [radii, directions, 3], z first
    profile = ndimage.map_coordinates(image, points.transpose(2, 0, 1), order=3, mode="nearest")
    below = profile < _LEVEL
    last = np.where(below.any(axis=0), np.maximum(below.argmax(axis=0), 1), len(radii) - 1)
    columns = np.arange(len(directions))
    high, low = profile[last - 1, columns], profile[last, columns]
    part = np.clip((high - _LEVEL) / np.maximum(high - low, 1e-6), 0.0, 1.0)
    return np.asarray(radii[last - 1] + part * _STEP, dtype=np.float64)


@dataclass(frozen=True)
class TiltScan:
    """What tilting the stage would do to the sampling.

    Attributes
    ----------
    tilts : ndarray, shape [tilts]
        Degrees, from 0.
    scf_star : ndarray, shape [tilts]
    """

    tilts: Floats
    scf_star: Floats

    def suggested(self, enough: float) -> float:
        """Return the tilt in degrees that makes the sampling good enough, 0 where it is already.

        The smallest tilt whose SCF* reaches `enough`; where none does, the smallest that comes within 5% of the best.
        Each degree of tilt costs thicker ice, drift and uneven defocus.
        """
        wanted = min(enough, 0.95 * float(self.scf_star.max()))
        return float(self.tilts[np.flatnonzero(self.scf_star >= wanted)[0]])


def scan_tilts(eulers: ArrayLike, symmetry: str = "C1", tilts: ArrayLike = tuple(range(0, 65, 5))) -> TiltScan:
    """Compute the SCF* that the same views would have had on a tilted stage.

    Parameters
    ----------
    eulers : array, shape [views, 2] or [views, 3]
        rot and tilt in degrees, of an untilted stage.
    symmetry : str
    tilts : array
        Degrees.
    """
    angles = np.asarray(tilts, dtype=np.float64)
    found = [
        sample_directions(view_vectors(eulers, symmetry, tilt), nside=_NSIDE_SCAN).scf_star for tilt in angles.tolist()
    ]
    return TiltScan(angles, np.array(found))


def some_views(eulers: Any, most: int, seed: int) -> Floats:
    """Return at most so many rows of `eulers`, chosen at random where there are more; all where `most` is 0."""
    angles = np.asarray(eulers, dtype=np.float64)
    if not most or len(angles) <= most:
        return angles
    return np.asarray(angles[np.sort(np.random.default_rng(seed).choice(len(angles), most, replace=False))])
