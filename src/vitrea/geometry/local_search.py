"""Local searches: the orientations of a grid near what is already known of each particle, with their priors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import cKDTree

from vitrea.geometry.euler import directions_to_vectors, euler_to_matrix
from vitrea.geometry.sampling import OrientationGrid
from vitrea.geometry.symmetry import symmetry_matrices


@dataclass(frozen=True, eq=False)
class LocalCandidates:
    """Coarse orientations near the prior orientation of each particle, in compressed rows.

    Attributes
    ----------
    offsets : int64 array, shape [m + 1]
        The candidates of particle i are the entries ``offsets[i]:offsets[i + 1]``; every particle has at least one.
    orientation : int64 array, shape [total]
        Orientation numbers, as `OrientationGrid.split` reads them; each at most once in a particle's row, not sorted.
    log_prior : float64 array, shape [total]
        Log of the prior probability; the probabilities of one particle add up to 1.
    """

    offsets: NDArray[np.int64]
    orientation: NDArray[np.int64]
    log_prior: NDArray[np.float64]

    def orientations(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
        """All three arrays, to unpack."""
        return self.offsets, self.orientation, self.log_prior


@dataclass(frozen=True, eq=False)
class _Approaches:
    """Ways in which an equivalent of a particle's prior comes near a direction: arrays [k], sorted by particle."""

    particle: NDArray[np.int64]
    direction: NDArray[np.int64]
    operator: NDArray[np.int64]
    chord: NDArray[np.float64]


def local_candidates(
    grid: OrientationGrid,
    prior_eulers: ArrayLike,
    sigma_rot_tilt: float,
    sigma_psi: float,
    cutoff: float = 3.0,
) -> LocalCandidates:
    """Find the orientations of the grid near the prior orientation of each particle.

    An orientation is a candidate if its direction lies within `cutoff` sigmas of the prior direction, or of one
    equivalent by symmetry, and its in-plane angle within `cutoff` sigmas of the prior's. Its prior is the product of a
    Gaussian of either distance. Where nothing lies within, the nearest is taken.

    In-plane angles are compared after the equivalent prior view has been tilted, by the shortest way, onto the
    direction in question. Near the poles, near symmetry axes and across the borders of the asymmetric unit, where rot
    and psi of neighbouring views differ widely, this still finds all the near ones and only these; RELION compares the
    bare psi angles. Distances are those of the grid as it is turned by its perturbation.

    Parameters
    ----------
    grid : OrientationGrid
        Coarse orientations.
    prior_eulers : array, shape [m, 3]
        (rot, tilt, psi) of each particle in degrees.
    sigma_rot_tilt, sigma_psi : float
        Standard deviations in degrees of the direction and of the in-plane angle.
    cutoff : float
        How many sigmas still count.

    Returns
    -------
    LocalCandidates
    """
    if sigma_rot_tilt <= 0 or sigma_psi <= 0 or cutoff <= 0:
        raise ValueError(f"sigmas and cutoff must be positive, got {sigma_rot_tilt}, {sigma_psi} and {cutoff}")
    views = euler_to_matrix(np.asarray(prior_eulers, dtype=np.float64).reshape(-1, 3))
    # Equivalents of the priors, turned back by the perturbation instead of turning the grid forth.
    operators = symmetry_matrices(grid.symmetry) @ grid.perturbation_matrix().T
    near = _approaches(grid, views[:, 2] @ operators, cutoff * sigma_rot_tilt)
    equivalents = (views[:, None] @ operators)[near.particle, near.operator]
    centre = _psi_after_tilting(equivalents, grid, near.direction)
    angle = np.degrees(2.0 * np.arcsin(np.minimum(near.chord / 2.0, 1.0)))
    entry, psi, psi_difference = _near_psi(grid, centre, sigma_psi, cutoff)
    orientation = near.direction[entry] * len(grid.psi) + psi
    log_prior = -0.5 * (np.square(angle[entry] / sigma_rot_tilt) + np.square(psi_difference / sigma_psi))
    particle = near.particle[entry]
    # Near a symmetry axis, several equivalents of one prior may come near the same orientation.
    overlap = _overlapping(near, centre, max(cutoff * sigma_psi, grid.psi_step))
    if overlap.any():
        once = _best_of_repeats(overlap[entry], particle * grid.size + orientation, log_prior)
        particle, orientation, log_prior = particle[once], orientation[once], log_prior[once]
    offsets = np.searchsorted(particle, np.arange(len(views) + 1))
    return LocalCandidates(offsets, orientation, _normalise_rows(log_prior, offsets))


def candidates_per_particle(
    grid: OrientationGrid, sigma_rot_tilt: float, sigma_psi: float, cutoff: float = 3.0
) -> float:
    """How many orientations `local_candidates` finds for each particle, on average, away from axes of symmetry."""
    psi = min(2.0 * cutoff * sigma_psi / grid.psi_step + 1.0, len(grid.psi))
    if grid.is_planar:
        return psi
    # The share of the sphere that a cap covers, of all pixels of a HEALPix grid.
    share = 0.5 * (1.0 - np.cos(np.radians(min(cutoff * sigma_rot_tilt, 180.0))))
    return float(max(12 * 4**grid.healpix_order * share, 1.0) * psi)


def _approaches(grid: OrientationGrid, priors: NDArray[np.float64], radius: float) -> _Approaches:
    """Every equivalent prior direction within `radius` degrees of a direction; at least the nearest of each particle.

    `priors` [operators, m, 3] are unit vectors.
    """
    particles = priors.shape[1]
    tree = cKDTree(directions_to_vectors(grid.directions))
    limit = 2.0 * np.sin(np.radians(min(radius, 180.0)) / 2.0) + 1e-12
    pairs = cKDTree(priors.reshape(-1, 3)).sparse_distance_matrix(tree, limit, output_type="ndarray")
    operator, particle = np.divmod(pairs["i"].astype(np.int64), max(particles, 1))
    direction, chord = pairs["j"].astype(np.int64), pairs["v"]
    missing = np.setdiff1d(np.arange(particles), particle)
    if len(missing):
        far, nearest = tree.query(priors[:, missing])
        best, column = np.argmin(far, axis=0), np.arange(len(missing))
        particle = np.concatenate([particle, missing])
        operator = np.concatenate([operator, best])
        direction = np.concatenate([direction, nearest[best, column]])
        chord = np.concatenate([chord, far[best, column]])
    order = np.argsort(particle * len(grid.directions) + direction, kind="stable")
    return _Approaches(particle[order], direction[order], operator[order], chord[order])


def _psi_after_tilting(
    views: NDArray[np.float64], grid: OrientationGrid, direction: NDArray[np.int64]
) -> NDArray[np.float64]:
    """In-plane angles [k] (degrees) of views [k, 3, 3] once tilted by the shortest way onto directions [k]."""
    frames = euler_to_matrix(np.pad(grid.directions, ((0, 0), (0, 1))))[direction]  # views with psi = 0
    source, target, first = views[:, 2], frames[:, 2], views[:, 0]
    axis = np.cross(source, target)
    once = np.cross(axis, first)
    # Opposite directions have no shortest way; the floor only keeps the division finite.
    scale = 1.0 / np.maximum(1.0 + np.sum(source * target, axis=1, keepdims=True), 1e-12)
    turned = first + once + scale * np.cross(axis, once)
    along = np.einsum("kri,ki->kr", frames[:, :2], turned)
    return np.asarray(np.degrees(np.arctan2(along[:, 1], along[:, 0])), dtype=np.float64)


def _near_psi(
    grid: OrientationGrid, centre: NDArray[np.float64], sigma: float, cutoff: float
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """In-plane angles near `centre` [k] (degrees): entry of `centre`, index of psi, and difference in degrees."""
    total, step = len(grid.psi), grid.psi_step
    position = centre / step - (grid.perturbation if grid.is_planar else 0.0)
    reach = cutoff * sigma / step + 1e-9
    nearest = np.rint(position).astype(np.int64)
    start = np.minimum(np.ceil(position - reach).astype(np.int64), nearest)
    end = np.maximum(np.floor(position + reach).astype(np.int64), nearest)
    whole = end - start + 1 > total  # more than a full turn: every angle once, around the nearest
    start = np.where(whole, nearest - (total - 1) // 2, start)
    counts = np.where(whole, total, end - start + 1)
    ends = np.cumsum(counts)
    entry = np.repeat(np.arange(len(counts)), counts)
    unwrapped = start[entry] + np.arange(len(entry)) - (ends - counts)[entry]
    return entry, unwrapped % total, (unwrapped - position[entry]) * step


def _best_of_repeats(
    overlap: NDArray[np.bool_], row: NDArray[np.int64], log_prior: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """Mark what to keep of the rows that `overlap` marks, where a number comes more than once: the likeliest."""
    keep = np.ones(len(row), dtype=bool)
    doubtful = np.flatnonzero(overlap)
    order = doubtful[np.lexsort((-log_prior[doubtful], row[doubtful]))]
    keep[order[1:][row[order][1:] == row[order][:-1]]] = False
    return keep


def _overlapping(near: _Approaches, centre: NDArray[np.float64], reach: float) -> NDArray[np.bool_]:
    """Mark approaches [k] that share particle, direction and, within `reach` degrees of either, in-plane angles."""
    marked = np.zeros(len(centre), dtype=bool)
    apart = 1
    while apart < len(centre):
        same = near.particle[apart:] == near.particle[:-apart]
        same &= near.direction[apart:] == near.direction[:-apart]
        if not same.any():
            break
        between = np.abs(np.mod(centre[apart:] - centre[:-apart] + 180.0, 360.0) - 180.0)
        close = same & (between <= 2.0 * reach)
        marked[apart:] |= close
        marked[:-apart] |= close
        apart += 1
    return marked


def _normalise_rows(logs: NDArray[np.float64], offsets: NDArray[np.int64]) -> NDArray[np.float64]:
    """Subtract from each row of logs, none of them empty, the log of the sum of its exponentials."""
    if len(logs) == 0:
        return logs
    counts = np.diff(offsets)
    shifted = logs - np.repeat(np.maximum.reduceat(logs, offsets[:-1]), counts)
    sums = np.add.reduceat(np.exp(shifted), offsets[:-1])
    normalised: NDArray[np.float64] = shifted - np.repeat(np.log(sums), counts)
    return normalised
