"""Grids of orientations: HEALPix directions in the asymmetric unit times in-plane angles.

Directions are the pixel centres of a nested HEALPix grid (Górski et al. 2005, doi:10.1086/427976); halving its step
divides every pixel into four and every in-plane interval into two, so that one coarse orientation has eight children
(adaptive oversampling; Scheres 2012, doi:10.1016/j.jsb.2012.09.006). The grid is turned as a whole by a random part of
its step in every iteration. Order, choice and turn are RELION's, checked against its tables.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import cKDTree

from vitrea.geometry.euler import directions_to_vectors, euler_to_matrix, matrix_to_euler, wrap_degrees
from vitrea.geometry.symmetry import canonical_name, symmetry_matrices, wall_distances

# Directions closer than this (chord of the unit sphere) are the same one; HEALPix centres of any usable order are
# much farther apart.
_SAME_DIRECTION = 1e-7

# From so many directions in the asymmetric unit on, RELION no longer thins out those along its borders.
_MANY_DIRECTIONS = 4000


def angular_step(healpix_order: int, oversampling: int = 0) -> float:
    """Step in degrees of the grid of a HEALPix order, after `oversampling` halvings: 15 at order 2."""
    return 60.0 / float(2 ** (healpix_order + oversampling))


def perturbation(seed: int, iteration: int, factor: float = 0.5) -> float:
    """Random part of the step by which an iteration turns and shifts its grids.

    Every iteration moves on by between half of `factor` and all of it, and the sum is wrapped, so that no two
    successive iterations use nearly the same grid. The value follows from its arguments alone: an interrupted run goes
    on with the grids it would have had.

    Parameters
    ----------
    seed : int
        Seed of the run.
    iteration : int
        Number of the iteration, from 0; iteration 0 has no perturbation.
    factor : float
        Largest part of the step (RELION's ``rlnSamplingPerturbFactor``); 0 switches the perturbation off.

    Returns
    -------
    float
        Between ``-factor`` and `factor` (``rlnSamplingPerturbInstance``).
    """
    if factor <= 0 or iteration <= 0:
        return 0.0
    moves = np.random.default_rng([seed, 0x9E3779B9]).uniform(0.5 * factor, factor, size=iteration)
    return float((moves.sum() + factor) % (2.0 * factor) - factor)


@dataclass(frozen=True, eq=False)
class OrientationGrid:
    """Coarse orientations of one iteration: every direction with every in-plane angle.

    The orientation number of direction i and in-plane angle j is ``i * len(psi) + j``. Made by `orientation_grid` or,
    for images that turn in their plane only, by `planar_grid`.

    Attributes
    ----------
    healpix_order : int
        HEALPix order of the directions; -1 for a planar grid.
    symmetry : str
        Point group whose asymmetric unit the directions fill.
    pixels : int64 array, shape [d]
        Nested HEALPix pixel of each direction.
    directions : float64 array, shape [d, 2]
        (rot, tilt) in degrees, before the perturbation.
    psi : float64 array, shape [p]
        In-plane angles in degrees, before the perturbation.
    psi_step : float
        Step of the in-plane angles in degrees.
    perturbation : float
        Part of the step by which the whole grid is turned; see `perturbation`.
    """

    healpix_order: int
    symmetry: str
    pixels: NDArray[np.int64]
    directions: NDArray[np.float64]
    psi: NDArray[np.float64]
    psi_step: float
    perturbation: float = 0.0

    @property
    def is_planar(self) -> bool:
        """Whether only the in-plane angle varies."""
        return self.healpix_order < 0

    @property
    def size(self) -> int:
        """Number of coarse orientations."""
        return len(self.directions) * len(self.psi)

    @property
    def step(self) -> float:
        """Coarse angular step in degrees."""
        return self.psi_step if self.is_planar else angular_step(self.healpix_order)

    def children(self, oversampling: int = 0) -> int:
        """Number of oversampled orientations of one coarse orientation."""
        if oversampling < 0:
            raise ValueError(f"oversampling must be 0 or more, got {oversampling}")
        return int((2 if self.is_planar else 8) ** oversampling)

    def split(self, orientation: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Direction and psi indices [k] of orientation numbers [k]."""
        direction, psi = np.divmod(np.asarray(orientation, dtype=np.int64), len(self.psi))
        return direction, psi

    def perturbation_matrix(self) -> NDArray[np.float64]:
        """Rotation [3, 3] by which the grid is turned: view matrices are multiplied by it from the right.

        A planar grid is not turned in space (its in-plane angles are shifted instead): the identity.
        """
        turn = 0.0 if self.is_planar else self.perturbation * self.step
        return euler_to_matrix([turn, turn, turn])

    def matrices(self, direction_index: ArrayLike, psi_index: ArrayLike, oversampling: int = 0) -> NDArray[np.float64]:
        """Rotation matrices of coarse orientations or of their children.

        Parameters
        ----------
        direction_index, psi_index : int array, shape [k]
            Coarse orientations.
        oversampling : int
            How many times the step is halved.

        Returns
        -------
        array, shape [k * children(oversampling), 3, 3]
            Perturbed orientations; the children of one coarse orientation lie together, psi varying fastest.
        """
        direction = np.atleast_1d(np.asarray(direction_index, dtype=np.int64))
        psi = np.atleast_1d(np.asarray(psi_index, dtype=np.int64))
        if direction.shape != psi.shape or direction.ndim != 1:
            raise ValueError(f"indices need one shape [k], got {list(direction.shape)} and {list(psi.shape)}")
        # Few directions, many in-plane angles: the frame of each direction is made once.
        used, which = np.unique(direction, return_inverse=True)
        frames = euler_to_matrix(self._child_directions(used, oversampling)) @ self.perturbation_matrix()
        return _turn_in_plane(frames[which], self._child_psi(psi, oversampling))

    def eulers(self, direction_index: ArrayLike, psi_index: ArrayLike, oversampling: int = 0) -> NDArray[np.float64]:
        """Euler angles [k * children(oversampling), 3] in degrees of the same orientations as `matrices`."""
        return matrix_to_euler(self.matrices(direction_index, psi_index, oversampling))

    def _child_directions(self, index: NDArray[np.int64], oversampling: int) -> NDArray[np.float64]:
        """(rot, tilt, 0) [k, 4**oversampling, 3] of the children of directions; planar grids have one child."""
        self.children(oversampling)  # refuses a negative order
        if self.is_planar:
            return np.zeros((len(index), 1, 3))
        parts = 4**oversampling
        if oversampling == 0:
            angles = self.directions[index][:, None]
        else:
            pixels = self.pixels[index][:, None] * parts + np.arange(parts)
            angles = healpix_directions(self.healpix_order + oversampling, pixels)
        return np.concatenate([angles, np.zeros((len(index), parts, 1))], axis=-1)

    def _child_psi(self, index: NDArray[np.int64], oversampling: int) -> NDArray[np.float64]:
        """In-plane angles [k, 2**oversampling] in degrees."""
        parts = 2**oversampling
        offsets = (np.arange(parts) + 0.5) / parts - 0.5
        if self.is_planar:
            offsets = offsets + self.perturbation
        return np.asarray(self.psi[index][:, None] + offsets * self.psi_step, dtype=np.float64)


def _turn_in_plane(frames: NDArray[np.float64], psi: NDArray[np.float64]) -> NDArray[np.float64]:
    """Turn every view of frames [k, a, 3, 3] by every psi [k, b] (degrees): [k * a * b, 3, 3]."""
    cosine = np.cos(np.radians(psi))[:, None, :, None]
    sine = np.sin(np.radians(psi))[:, None, :, None]
    first, second, third = (frames[:, :, row, None, :] for row in range(3))
    out = np.empty((*frames.shape[:2], psi.shape[1], 3, 3))
    out[..., 0, :] = cosine * first + sine * second
    out[..., 1, :] = cosine * second - sine * first
    out[..., 2, :] = third
    return out.reshape(-1, 3, 3)


def healpix_directions(healpix_order: int, pixels: ArrayLike) -> NDArray[np.float64]:
    """Centres (rot, tilt) [..., 2] in degrees of nested HEALPix pixels [...]; rot in (-180, 180].

    Górski et al. 2005, section 5; written out because the libraries that have it take half a second and 25 MB to load.
    """
    sides, index = 2**healpix_order, np.asarray(pixels, dtype=np.int64)
    face, within = np.divmod(index, sides * sides)
    east, west = _even_bits(within), _even_bits(within >> 1)  # steps from the southern corner of the face
    ring = (face // 4 + 2) * sides - east - west - 1  # counted from the north pole
    # Pixels of the ring in a quarter of a turn: fewer near the poles.
    quarter = np.minimum(np.minimum(ring, 4 * sides - ring), sides)
    # The middle of a face lies 45 degrees on in the belts around the poles, and at 0 in that of the equator.
    rot = 45.0 * (2 * (face % 4) + (face // 4 != 1) + (east - west) / quarter)
    polar = 2.0 * np.degrees(np.arcsin(quarter / (np.sqrt(6.0) * sides)))
    belt = np.degrees(np.arccos(np.clip((2 * sides - ring) / (1.5 * sides), -1.0, 1.0)))
    tilt = np.where(quarter == sides, belt, np.where(ring < sides, polar, 180.0 - polar))
    return np.stack([wrap_degrees(rot), tilt], axis=-1)


def _even_bits(numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    """Bits 0, 2, 4 ... of numbers below 2**32, moved together."""
    bits = numbers & 0x55555555
    for shift, mask in ((1, 0x33333333), (2, 0x0F0F0F0F), (4, 0x00FF00FF), (8, 0x0000FFFF)):
        bits = (bits | bits >> shift) & mask
    return bits


def _largest_pixel_radius(healpix_order: int) -> float:
    """Largest angle (radians) between the centre of a HEALPix pixel and its corners (Górski et al. 2005)."""
    sides = 2**healpix_order
    centre = directions_to_vectors([45.0 / sides, np.degrees(np.arccos(2.0 / 3.0))])
    corner = directions_to_vectors([0.0, np.degrees(np.arccos(1.0 - (1.0 - 1.0 / sides) ** 2 / 3.0))])
    return float(np.arccos(centre @ corner))


def _unique_pixels(healpix_order: int, symmetry: str) -> NDArray[np.int64]:
    """Nested pixels of the asymmetric unit, rising, without those that repeat others across its borders.

    As RELION does, a pixel is left out if it lies within half a pixel radius of an equivalent of an earlier one that
    is kept. With many directions RELION leaves out nothing; here exact equivalents still go, as they would be
    counted twice.
    """
    pixels = np.arange(12 * 4**healpix_order, dtype=np.int64)
    vectors = directions_to_vectors(healpix_directions(healpix_order, pixels))
    inside = wall_distances(vectors, symmetry)
    within = inside >= -_SAME_DIRECTION
    if not within.any():  # the unit falls between the pixels of a very coarse grid
        return pixels[[int(np.argmax(inside))]]
    pixels, vectors, inside = pixels[within], vectors[within], inside[within]
    near = 0.5 * _largest_pixel_radius(healpix_order) if len(pixels) < _MANY_DIRECTIONS else _SAME_DIRECTION
    border = np.flatnonzero(inside <= np.sin(near) + _SAME_DIRECTION)
    if len(border) == 0:
        return pixels
    tree = cKDTree(vectors[border])
    chord = 2.0 * np.sin(near / 2.0)
    repeats: list[tuple[int, int]] = []  # (pixel, earlier pixel with an equivalent near it)
    for operator in symmetry_matrices(symmetry)[1:]:
        pairs = tree.sparse_distance_matrix(cKDTree(vectors[border] @ operator), chord, output_type="ndarray")
        pairs = pairs[pairs["j"] < pairs["i"]]
        repeats.extend(zip(pairs["i"].tolist(), pairs["j"].tolist(), strict=True))
    kept = np.ones(len(border), dtype=bool)
    for pixel, earlier in sorted(repeats):  # rising, so that the fate of the earlier one is settled
        kept[pixel] &= not kept[earlier]
    return np.delete(pixels, border[~kept])


def _psi_angles(psi_step: float) -> tuple[NDArray[np.float64], float]:
    """In-plane angles 0, step, 2 step ... and the step, shortened until it divides 360 degrees."""
    if psi_step <= 0:
        raise ValueError(f"the in-plane step must be positive, got {psi_step}")
    count = int(np.ceil(360.0 / psi_step - 1e-9))
    return np.arange(count, dtype=np.float64) * (360.0 / count), 360.0 / count


def orientation_grid(
    healpix_order: int,
    symmetry: str = "C1",
    psi_step: float | None = None,
    perturbation: float = 0.0,
    tilt_limit: float | None = None,
) -> OrientationGrid:
    """Make the grid of coarse orientations of a 3D refinement.

    Parameters
    ----------
    healpix_order : int
        0 (60 degrees), 1 (30), 2 (15), 3 (7.5) ...
    symmetry : str
        Point group; directions outside its asymmetric unit are left out (`in_asymmetric_unit`), and of nearly
        equivalent directions along its borders the one with the lowest pixel number stays.
    psi_step : float, optional
        In-plane step in degrees, shortened until it divides 360; the step of the directions by default.
    perturbation : float
        Part of the step by which the grid is turned; see `perturbation`.
    tilt_limit : float, optional
        Degrees from the nearer pole. Positive: side views at least so far from it only; negative: views along the axis,
        at most so far from it, only (RELION's ``--limit_tilt``).

    Returns
    -------
    OrientationGrid

    Raises
    ------
    InputError
        If the point group is not known.
    """
    if healpix_order < 0:
        raise ValueError(f"the HEALPix order must be 0 or more, got {healpix_order}")
    group = canonical_name(symmetry)
    pixels = _unique_pixels(healpix_order, group)
    directions = healpix_directions(healpix_order, pixels)
    if tilt_limit is not None and abs(tilt_limit) < 90.0:
        from_pole = np.minimum(directions[:, 1], 180.0 - directions[:, 1])
        keep = from_pole >= tilt_limit if tilt_limit > 0 else from_pole <= -tilt_limit
        pixels, directions = pixels[keep], directions[keep]
    psi, step = _psi_angles(angular_step(healpix_order) if psi_step is None else psi_step)
    return OrientationGrid(healpix_order, group, pixels, directions, psi, step, perturbation)


def planar_grid(psi_step: float, perturbation: float = 0.0) -> OrientationGrid:
    """Make the grid of in-plane angles of a 2D classification.

    Parameters
    ----------
    psi_step : float
        In-plane step in degrees, shortened until it divides 360.
    perturbation : float
        Part of the step that is added to every angle; see `perturbation`.
    """
    psi, step = _psi_angles(psi_step)
    return OrientationGrid(-1, "C1", np.zeros(1, dtype=np.int64), np.zeros((1, 2)), psi, step, perturbation)
