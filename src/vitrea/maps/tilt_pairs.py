"""Tilt pairs: the same particles seen untilted and on a tilted stage, and the hand of the map they were refined to.

The stage turns all particles alike. Orientations found for the two images of a pair independently must therefore differ
by the turn of the stage, for all pairs: that they cluster shows that orientations, and so the map, are right. A map of
the wrong hand gives orientations as consistent, but turned the other way.

References
----------
Rosenthal & Henderson (2003), doi:10.1016/j.jmb.2003.07.013: the tilt-pair test and the hand.
Henderson et al. (2011), doi:10.1016/j.jmb.2011.09.008: the tilt-pair parameter plot, for each particle a point.

Conventions
-----------
Orientations are matrices A from map to view coordinates. A stage that turns the specimen by `tilt`, right-handed, about
the axis ``(cos axis, sin axis, 0)`` of view coordinates makes A into ``R A``. A map of the other hand, inverted through
its centre, gives the same projections at ``Rz(180) A``, so that R appears as ``Rz(180) R Rz(180)``: the same tilt about
the opposite axis.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vitrea.geometry.euler import directions_to_vectors, euler_to_matrix, matrix_to_euler, wrap_degrees
from vitrea.geometry.symmetry import symmetry_matrices

Floats = NDArray[np.float64]
Hand = Literal["right", "wrong", "not known"]

_STEP = 3.0  # degrees of the grid of cluster centres
_MOST_SEARCHED = 2000  # pairs among which the centre is sought
_MOST_STEPS = 30


@dataclass(frozen=True)
class PairTurns:
    """How the orientation of each pair's second image differs from that of its first, for each symmetry operator.

    Attributes
    ----------
    vectors : ndarray, shape [pairs, operators, 3]
        The second direction of view, in view coordinates of the first.
    in_plane : ndarray, shape [pairs, operators]
        Degrees by which the second image is turned in its plane besides.
    """

    vectors: Floats
    in_plane: Floats

    def __len__(self) -> int:
        """Return the number of pairs."""
        return len(self.vectors)


@dataclass(frozen=True)
class TiltCluster:
    """Where the turns of tilt pairs gather.

    Attributes
    ----------
    tilt, axis : float
        Degrees, of the middle of the cluster: angle, and azimuth of the tilt axis from x to y.
    radius : float
        Degrees; pairs within are in the cluster.
    tilts, axes, in_plane : ndarray, shape [pairs]
        Degrees, of each pair, seen through the operator that brings it nearest to the middle.
    distances : ndarray, shape [pairs]
        Degrees from the middle.
    operators : ndarray of int, shape [pairs]
        Which operator that is, from 0.
    """

    tilt: float
    axis: float
    radius: float
    tilts: Floats
    axes: Floats
    in_plane: Floats
    distances: Floats
    operators: NDArray[np.int64]

    @property
    def members(self) -> NDArray[np.bool_]:
        """Which pairs are in the cluster."""
        return self.distances <= self.radius

    @property
    def fraction(self) -> float:
        """Part of the pairs that are in the cluster."""
        return float(self.members.mean())

    @property
    def scatter(self) -> float:
        """Root mean square distance of its members from the middle, degrees."""
        inside = self.distances[self.members]
        return float(np.sqrt(np.mean(inside**2))) if len(inside) else float("nan")

    @property
    def turn_in_plane(self) -> float:
        """Mean turn of the second images in their plane, degrees."""
        angles = np.radians(self.in_plane[self.members])
        return float(np.degrees(np.arctan2(np.sin(angles).sum(), np.cos(angles).sum())))

    def distance_to(self, tilt: float, axis: float) -> float:
        """Angle in degrees between the middle and a tilt about an axis."""
        return float(_degrees_between(tilt_vector(self.tilt, self.axis), tilt_vector(tilt, axis)))


def tilt_vector(tilt: ArrayLike, axis: ArrayLike) -> Floats:
    """Return the direction of view [..., 3] on a stage tilted about an axis, in the untilted view's coordinates."""
    azimuth, angle = np.broadcast_arrays(np.asarray(axis, dtype=np.float64) + 90.0, np.asarray(tilt, dtype=np.float64))
    return directions_to_vectors(np.stack([azimuth, angle], axis=-1))


def pair_turns(untilted: ArrayLike, tilted: ArrayLike, symmetry: str = "C1") -> PairTurns:
    """Return the turns between the orientations of pairs.

    Parameters
    ----------
    untilted, tilted : array, shape [pairs, 3]
        rot, tilt, psi in degrees of the first and the second image of each pair.
    symmetry : str
        Point group of the map: orientations are known up to its operators.
    """
    first, second = euler_to_matrix(untilted), euler_to_matrix(tilted)
    turns = (second[:, None] @ symmetry_matrices(symmetry)) @ first.swapaxes(-1, -2)[:, None]
    angles = matrix_to_euler(turns)
    return PairTurns(turns[:, :, 2], wrap_degrees(angles[..., 0] + angles[..., 2]))


def find_cluster(turns: PairTurns, nominal: float, tolerance: float = 15.0, radius: float = 15.0) -> TiltCluster:
    """Find where the turns gather.

    Parameters
    ----------
    turns : PairTurns
    nominal : float
        Tilt of the stage in degrees; its sign is of no account.
    tolerance : float
        How far from it the tilt of the cluster may lie.
    radius : float
        Of the cluster, degrees.

    Returns
    -------
    TiltCluster
        The middle is the mean of the members about the point of a grid with most pairs within the radius, for tilts
        within the tolerance and tilt axes in all directions: the search knows nothing of the hand.
    """
    middle = _densest(turns.vectors, nominal, tolerance, radius)
    members = np.zeros(len(turns), dtype=bool)
    for _ in range(_MOST_STEPS):
        operators, distances = _nearest(turns.vectors, middle)
        before, members = members, distances <= radius
        if not members.any() or np.array_equal(before, members):
            break
        mean = turns.vectors[np.arange(len(turns)), operators][members].mean(axis=0)
        middle = mean / np.linalg.norm(mean)
    operators, distances = _nearest(turns.vectors, middle)
    rows = np.arange(len(turns))
    tilts, axes = _polar(turns.vectors[rows, operators])
    tilt, axis = _polar(middle)
    in_plane = turns.in_plane[rows, operators]
    return TiltCluster(float(tilt), float(axis), radius, tilts, axes, in_plane, distances, operators)


def chance_fractions(
    untilted: ArrayLike, tilted: ArrayLike, symmetry: str, nominal: float, tolerance: float, radius: float,
    seed: int = 0, shuffles: int = 20,
) -> Floats:  # fmt: skip
    """Return the fractions that cluster by chance: those of the same images, wrongly paired.

    Preferred views and high symmetry make some tilts frequent whatever the orientations are worth. Parameters as
    `pair_turns` and `find_cluster`; at most 2,000 pairs are used.

    Returns
    -------
    ndarray, shape [shuffles]
    """
    generator = np.random.default_rng(seed)
    first, second = np.asarray(untilted, dtype=np.float64), np.asarray(tilted, dtype=np.float64)
    some = generator.permutation(len(first))[:_MOST_SEARCHED]
    found = []
    for _ in range(shuffles):
        turns = pair_turns(first[some], second[generator.permutation(some)], symmetry)
        found.append(find_cluster(turns, nominal, tolerance, radius).fraction)
    return np.array(found)


def judge_hand(cluster: TiltCluster, tilt: float, axis: float) -> Hand:
    """Tell whether the map that orientations refer to has the right hand.

    Parameters
    ----------
    cluster : TiltCluster
    tilt : float
        How far the stage was turned, right-handed about the axis, in degrees; negative for the other way.
    axis : float
        Azimuth of the axis in the images, degrees from x to y.

    Returns
    -------
    str
        "right" where the cluster lies about the tilt expected, "wrong" where it lies about the opposite one, "not
        known" where it lies near neither: farther than half the tilt from both.
    """
    same, opposite = cluster.distance_to(tilt, axis), cluster.distance_to(-tilt, axis)
    if min(same, opposite) > abs(tilt) / 2:
        return "not known"
    return "right" if same < opposite else "wrong"


def _densest(vectors: Floats, nominal: float, tolerance: float, radius: float) -> Floats:
    """Return the grid point with most pairs of which one equivalent lies within the radius."""
    low, high = max(abs(nominal) - tolerance, 0.0), abs(nominal) + tolerance
    tilts = np.linspace(low, high, int(np.ceil((high - low) / _STEP)) + 1)
    grid = tilt_vector(*(part.ravel() for part in np.meshgrid(tilts, np.arange(0.0, 360.0, _STEP))))
    some = vectors[np.linspace(0, len(vectors) - 1, min(len(vectors), _MOST_SEARCHED)).astype(int)]
    counts = np.zeros(len(grid))
    for number in range(0, len(some), 100):
        cosine = np.einsum("gi,poi->gpo", grid, some[number : number + 100]).max(axis=2)
        # A flat top would leave the middle to chance: pairs count the more the nearer they lie.
        counts += np.clip(1.0 - np.degrees(np.arccos(np.clip(cosine, -1, 1))) / radius, 0.0, None).sum(axis=1)
    return np.asarray(grid[int(counts.argmax())])


def _nearest(vectors: Floats, middle: Floats) -> tuple[NDArray[np.int64], Floats]:
    """Return which equivalent of each pair lies nearest to a direction, and how near, in degrees."""
    distances = _degrees_between(vectors, middle)
    operators = distances.argmin(axis=1)
    return operators, distances[np.arange(len(distances)), operators]


def _polar(vectors: Floats) -> tuple[Floats, Floats]:
    """Return tilt and azimuth of the tilt axis, in degrees, of directions of view."""
    x, y, z = np.moveaxis(vectors, -1, 0)
    return np.degrees(np.arctan2(np.hypot(x, y), z)), wrap_degrees(np.degrees(np.arctan2(y, x)) - 90.0)


def _degrees_between(first: Floats, second: Floats) -> Floats:
    cosine = np.sum(first * second, axis=-1)
    return np.asarray(np.degrees(np.arctan2(np.linalg.norm(np.cross(first, second), axis=-1), cosine)))
