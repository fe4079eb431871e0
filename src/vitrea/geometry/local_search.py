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
    """Orientations near the prior orientation of each particle, in compressed rows.

    The candidates of particle i are the entries ``offsets[i]:offsets[i + 1]`` of the direction arrays; each of these
    directions is combined with the in-plane angles ``(psi_start + 0, 1 ... psi_count - 1) modulo len(grid.psi)``.

    Attributes
    ----------
    offsets : int64 array, shape [m + 1]
        First entry of each particle.
    direction : int64 array, shape [k]
        Index of the direction in the grid.
    direction_log_prior : float64 array, shape [k]
        Log of the direction's prior probability; the probabilities of one particle add up to 1.
    psi_start, psi_count : int64 array, shape [k]
        First in-plane angle and their number.
    psi_log_prior : float64 array, shape [sum of psi_count]
        Log prior of the in-plane angles, entry after entry; they add up to 1 (in probability) in every entry.
    psi_total : int
        Number of in-plane angles of the grid.
    """

    offsets: NDArray[np.int64]
    direction: NDArray[np.int64]
    direction_log_prior: NDArray[np.float64]
    psi_start: NDArray[np.int64]
    psi_count: NDArray[np.int64]
    psi_log_prior: NDArray[np.float64]
    psi_total: int

    def orientations(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
        """Write out every pair of direction and in-plane angle.

        Returns
        -------
        offsets : int64 array, shape [m + 1]
            First orientation of each particle.
        orientation : int64 array, shape [total]
            Orientation number, ``direction * len(grid.psi) + psi``.
        log_prior : float64 array, shape [total]
            Log of the prior probability; the probabilities of one particle add up to 1.
        """
        ends = np.concatenate([[0], np.cumsum(self.psi_count)])
        entry = np.repeat(np.arange(len(self.direction)), self.psi_count)
        psi = (self.psi_start[entry] + np.arange(ends[-1]) - ends[entry]) % self.psi_total
        orientation = self.direction[entry] * self.psi_total + psi
        return ends[self.offsets], orientation, self.direction_log_prior[entry] + self.psi_log_prior


def local_candidates(
    grid: OrientationGrid,
    prior_eulers: ArrayLike,
    sigma_rot_tilt: float,
    sigma_psi: float,
    cutoff: float = 3.0,
) -> LocalCandidates:
    """Find the orientations of the grid near the prior orientation of each particle.

    A direction is a candidate if it lies within `cutoff` sigmas of the prior direction or of an equivalent one;
    an in-plane angle, if it lies within `cutoff` sigmas of the prior's. Its prior is a Gaussian of the distance. Where
    nothing lies within, the nearest is taken. In-plane angles are compared after the equivalent prior view has been
    tilted, by the shortest way, onto the direction in question: near the poles and across the borders of the asymmetric
    unit, where rot and psi of neighbouring views differ widely, this still finds the near ones (RELION compares
    the bare psi angles). Distances are those of the grid as it is turned by its perturbation.

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
    views = views @ grid.perturbation_matrix().T  # turn the prior back instead of the grid forth
    operators = symmetry_matrices(grid.symmetry)
    particle, direction, operator, distance = _near_directions(grid, views[:, 2] @ operators, cutoff * sigma_rot_tilt)
    offsets = np.searchsorted(particle, np.arange(len(views) + 1))

    frames = euler_to_matrix(np.pad(grid.directions, ((0, 0), (0, 1))))[direction]  # views with psi = 0
    equivalents = views[:, None] @ operators
    equivalent = equivalents[particle, operator]
    first = _tilt_onto(equivalent[:, 2], frames[:, 2], equivalent[:, 0])
    along = np.einsum("kri,ki->kr", frames[:, :2], first)
    centre = np.degrees(np.arctan2(along[:, 1], along[:, 0]))
    log_prior = -0.5 * np.square(np.degrees(2.0 * np.arcsin(np.minimum(distance / 2.0, 1.0))) / sigma_rot_tilt)
    return LocalCandidates(
        offsets,
        direction,
        _normalise_rows(log_prior, offsets),
        *_near_psi(grid, centre, sigma_psi, cutoff),
        psi_total=len(grid.psi),
    )


def _near_directions(
    grid: OrientationGrid, priors: NDArray[np.float64], radius: float
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Pairs of particle and direction within `radius` degrees, sorted, the closest operator, and the chord between.

    `priors` [operators, m, 3] are the equivalent prior directions of the particles.
    """
    count, particles = priors.shape[:2]
    vectors = directions_to_vectors(grid.directions)
    tree, prior_tree = cKDTree(vectors), cKDTree(priors.reshape(-1, 3))
    chord = 2.0 * np.sin(np.radians(min(radius, 180.0)) / 2.0)
    pairs = prior_tree.sparse_distance_matrix(tree, chord + 1e-12, output_type="ndarray")
    operator, particle = np.divmod(pairs["i"].astype(np.int64), particles)
    direction, distance = pairs["j"].astype(np.int64), pairs["v"]
    missing = np.setdiff1d(np.arange(particles), particle)
    if len(missing):
        far, nearest = tree.query(priors[:, missing])
        best = np.argmin(far, axis=0)
        column = np.arange(len(missing))
        particle = np.concatenate([particle, missing])
        direction = np.concatenate([direction, nearest[best, column]])
        operator = np.concatenate([operator, best])
        distance = np.concatenate([distance, far[best, column]])
    pair = particle * len(vectors) + direction
    order = np.lexsort((distance, pair)) if count > 1 else np.argsort(pair)
    first = np.ones(len(order), dtype=bool)
    first[1:] = pair[order][1:] != pair[order][:-1]
    order = order[first]
    return particle[order], direction[order], operator[order], distance[order]


def _tilt_onto(
    source: NDArray[np.float64], target: NDArray[np.float64], vectors: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Turn `vectors` [k, 3] by the shortest rotation that brings unit vectors `source` onto `target` [k, 3]."""
    axis = np.cross(source, target)
    cosine = np.sum(source * target, axis=1, keepdims=True)
    once = np.cross(axis, vectors)
    # Opposite directions have no shortest way; the floor only keeps the division finite.
    turned: NDArray[np.float64] = vectors + once + np.cross(axis, once) / np.maximum(1.0 + cosine, 1e-12)
    return turned


def _near_psi(
    grid: OrientationGrid, centre: NDArray[np.float64], sigma: float, cutoff: float
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Start, number and log prior of the in-plane angles near `centre` [k] (degrees)."""
    total, step = len(grid.psi), grid.psi_step
    if grid.is_planar:
        centre = centre - grid.perturbation * step
    position = centre / step
    start = np.ceil(position - cutoff * sigma / step - 1e-9).astype(np.int64)
    end = np.floor(position + cutoff * sigma / step + 1e-9).astype(np.int64)
    nearest = np.rint(position).astype(np.int64)
    empty = end < start
    start, end = np.where(empty, nearest, start), np.where(empty, nearest, end)
    whole = end - start + 1 > total  # more than a full turn: every angle once, around the nearest
    start = np.where(whole, nearest - (total - 1) // 2, start)
    counts = np.where(whole, total, end - start + 1)
    ends = np.concatenate([[0], np.cumsum(counts)])
    entry = np.repeat(np.arange(len(counts)), counts)
    difference = (start[entry] + np.arange(ends[-1]) - ends[entry] - position[entry]) * step
    log_prior = _normalise_rows(-0.5 * np.square(difference / sigma), ends)
    return start % total, counts, log_prior


def _normalise_rows(logs: NDArray[np.float64], offsets: NDArray[np.int64]) -> NDArray[np.float64]:
    """Subtract from each row of logs, none of them empty, the log of the sum of its exponentials."""
    if len(logs) == 0:
        return logs
    counts = np.diff(offsets)
    shifted = logs - np.repeat(np.maximum.reduceat(logs, offsets[:-1]), counts)
    sums = np.add.reduceat(np.exp(shifted), offsets[:-1])
    normalised: NDArray[np.float64] = shifted - np.repeat(np.log(sums), counts)
    return normalised
