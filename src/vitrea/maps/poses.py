"""How alike the poses of two refinements of the same particles are, whatever frame each happened to settle in.

A refinement fixes its map only up to a turn of the whole frame, a shift that the symmetry allows, and the hand. All
three are found from the poses themselves before errors are counted: for particle i with orientations A_i and B_i,
``A_i = B_i G`` modulo symmetry, with one G for all particles.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vitrea.geometry.euler import angular_distance
from vitrea.geometry.symmetry import symmetry_distance, symmetry_matrices
from vitrea.maps.transform import smallest_equivalent

Array = NDArray[np.float64]

_HALF_TURN = np.diag([-1.0, -1.0, 1.0])
"""Projections of the inverted map are those of the map turned by 180 degrees in the plane of the image."""

_VOTERS = 60
_JURY = 300


@dataclass(frozen=True)
class PoseComparison:
    """Errors between two sets of poses in a common frame.

    Attributes
    ----------
    angles : ndarray, shape [particles]
        Smallest angle in degrees between the orientations modulo symmetry.
    shifts : ndarray, shape [particles]
        Distance in Å between the particle centres in the image.
    frame : ndarray, shape [3, 3]
        G, which turns coordinates of the first frame into those of the second; of equivalent ones the smallest turn.
    frame_shift : ndarray, shape [3]
        Position in Å, in the first frame, of the second frame's origin.
    mirrored : bool
        Whether the second set describes the other hand.
    """

    angles: Array
    shifts: Array
    frame: Array
    frame_shift: Array
    mirrored: bool


def compare_poses(
    first: Array,
    second: Array,
    first_shifts: Array,
    second_shifts: Array,
    symmetry: str = "C1",
    *,
    fit_frame: bool = True,
    try_both_hands: bool = True,
    seed: int = 0,
) -> PoseComparison:
    """Compare the poses of the same particles in two refinements.

    Parameters
    ----------
    first, second : ndarray, shape [particles, 3, 3]
        Rotation matrices A in the same order of particles.
    first_shifts, second_shifts : ndarray, shape [particles, 2]
        ``rlnOriginX/YAngst`` in Å.
    symmetry : str
        Point group, in its standard setting in the first frame.
    fit_frame : bool
        Whether one turn, shift and hand of the whole frame is taken out first.
    try_both_hands : bool
        Whether the other hand may explain the second set; used with `fit_frame` only.
    seed : int
        Of the choice of particles whose differences are tried as G.

    Returns
    -------
    PoseComparison
    """
    if not fit_frame:
        angles = symmetry_distance(second, first, symmetry)
        shifts = np.linalg.norm(first_shifts - second_shifts, axis=1)
        return PoseComparison(angles, shifts, np.eye(3), np.zeros(3), False)
    hands = (False, True) if try_both_hands else (False,)
    best: tuple[Array, Array, bool] | None = None
    for mirrored in hands:
        turned = _HALF_TURN @ second if mirrored else second
        frame = fit_rotation(first, turned, symmetry, seed)
        angles = symmetry_distance(turned @ frame, first, symmetry)
        if best is None or np.median(angles) < np.median(best[0]):
            best = (angles, frame, mirrored)
    assert best is not None
    angles, frame, mirrored = best
    offset = fit_frame_shift(first, first_shifts - second_shifts, symmetry)
    residual = first_shifts - second_shifts - (first @ offset)[:, :2]
    return PoseComparison(angles, np.linalg.norm(residual, axis=1), frame, offset, mirrored)


def fit_rotation(first: Array, second: Array, symmetry: str, seed: int = 0) -> Array:
    """Find the G that makes ``second @ G`` equal ``first`` modulo symmetry for as many particles as possible.

    Parameters
    ----------
    first, second : ndarray, shape [particles, 3, 3]
    symmetry : str
        Point group, in its standard setting in the first frame.
    seed : int
        Of the choice of particles.

    Returns
    -------
    ndarray, shape [3, 3]
        The candidate (one particle's own difference) with the smallest median error, then averaged over the particles
        that agree with it, twice.
    """
    generator = np.random.default_rng(seed)
    order = generator.permutation(len(first))
    jury = order[:_JURY]
    candidates = second[order[:_VOTERS]].transpose(0, 2, 1) @ first[order[:_VOTERS]]
    costs = [np.median(symmetry_distance(second[jury] @ option, first[jury], symmetry)) for option in candidates]
    frame: Array = candidates[int(np.argmin(costs))]
    operators = symmetry_matrices(symmetry)
    for _ in range(3):
        differences = second.transpose(0, 2, 1)[:, None] @ first[:, None] @ operators  # [particles, m, 3, 3]
        traces = np.einsum("pmij,ij->pm", differences, frame)
        chosen = differences[np.arange(len(first)), traces.argmax(axis=1)]
        errors = angular_distance(chosen, frame)
        agree = errors <= max(3.0 * float(np.median(errors)), 1e-3)
        frame = _nearest_rotation(chosen[agree].mean(axis=0))
    return smallest_equivalent(frame, operators)


def fit_frame_shift(first: Array, differences: Array, symmetry: str) -> Array:
    """Fit the shift of the frame that the symmetry allows to differences of in-plane shifts.

    Parameters
    ----------
    first : ndarray, shape [particles, 3, 3]
    differences : ndarray, shape [particles, 2]
        Å.
    symmetry : str
        Point group: nothing is fitted for D, T, O and I, only the shift along the axis for Cn.

    Returns
    -------
    ndarray, shape [3]
        d in Å with ``difference = (A d)_xy``, by least squares, twice, the second time without outliers.
    """
    allowed, sizes, _ = np.linalg.svd(symmetry_matrices(symmetry).mean(axis=0))
    basis = allowed[:, sizes > 0.5]
    offset = np.zeros(3)
    if basis.shape[1] == 0:
        return offset
    rows = first[:, :2] @ basis
    keep = np.ones(len(first), dtype=bool)
    for _ in range(2):
        solution = np.linalg.lstsq(rows[keep].reshape(-1, basis.shape[1]), differences[keep].ravel(), rcond=None)[0]
        offset = basis @ solution
        residual = np.linalg.norm(differences - (first @ offset)[:, :2], axis=1)
        keep = residual <= max(3.0 * float(np.median(residual)), 1e-6)
    return offset


def _nearest_rotation(matrix: Array) -> Array:
    left, _, right = np.linalg.svd(matrix)
    rotation: Array = left @ np.diag([1.0, 1.0, np.linalg.det(left @ right)]) @ right
    return rotation
