"""Finding the symmetry axes of a map that no symmetry was imposed on.

All is done on the map's transform F at low resolution. A rotation h is a symmetry of a map centred on the origin if
``F(h k) = F(k)``; how well that holds is the correlation of the two over k, after the mean of every shell is taken away
(anything round would agree with itself otherwise). First this is computed for every direction of an axis and every
angle of the group, a self-rotation function (Rossmann & Blow 1962, doi:10.1107/S0365110X62000067); an orientation of
the group is as good as its axes are in that table. Then the best few orientations are refined, each with its centre.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.spatial import KDTree
from scipy.spatial.transform import Rotation
from torch import Tensor

from vitrea.fourier.filters import lowpass, shift
from vitrea.fourier.packed import PackedSamples, packed_samples
from vitrea.fourier.transforms import resample
from vitrea.geometry.masks import soft_sphere
from vitrea.geometry.shifts import shift_grid
from vitrea.geometry.symmetry import canonical_name, symmetry_matrices
from vitrea.maps.alignment import rotation_grid
from vitrea.maps.half_maps import as_tensor
from vitrea.maps.transform import Placement, place_map, smallest_equivalent, symmetrise
from vitrea.matching.reference import Reference, reference_from_map
from vitrea.records.errors import InputError

Floats = NDArray[np.floating[Any]]

_SHELLS, _SEARCH_SHELLS = 20, 9  # at most, in refinement and search
_STEP = 5.0  # degrees from axis to axis, and from orientation to orientation, in the search
_REACH = 1.5  # pixels of the finest wave by which the centre of mass may miss the centre in the search
_CANDIDATES = 5
_APART = 12.0  # degrees between candidates
_OPERATORS = 8  # looked at while refining: enough to fix axes and centre
_ANGLES = 6  # distinct angles of rotation looked at in the search
_WHITENING = 0.5  # power of a shell's mean power by which it is divided
_EDGE = 3.0  # voxels

SYMMETRIC = 0.5
"""Correlation from which a map can be said to have a symmetry.

Maps without symmetry reach 0.2 to 0.4 along their best axis (the less, the finer the resolution), symmetric ones
without noise more than 0.9.
"""
_POLYHEDRAL_FOLDS = {"T": {2, 3}, "O": {2, 3, 4}, "I2": {2, 3, 5}}
_AS_GOOD = 0.85  # of the best correlation: what groups reach that a map has, but not those it has by half


@dataclass(frozen=True)
class SymmetryAxes:
    """Where the axes of a point group lie in a map.

    Attributes
    ----------
    group : str
        Canonical name.
    placement : Placement
        Brings the map's axes and centre to where RELION has them for this group. With Cn, where any height along the
        axis would do, the density's centre of mass comes to height 0.
    correlation : float
        Mean correlation of the map with itself turned by the operators, at low resolution and without what is the same
        in all directions: 1 for perfect symmetry, around 0 for none.
    """

    group: str
    placement: Placement
    correlation: float

    @property
    def order(self) -> int:
        """Number of operators of the group."""
        return len(symmetry_matrices(self.group))


def find_symmetry_axes(
    voxels: Floats | Tensor, voxel_size: float, group: str, *, resolution: float = 20.0, diameter: float = 0.0
) -> SymmetryAxes:
    """Find the axes of a point group in a map that need not be centred.

    Parameters
    ----------
    voxels : ndarray or Tensor, shape [n, n, n]
        Density, positive, on which no symmetry was imposed.
    voxel_size : float
        Å.
    group : str
        C2 ... Cn, D2 ... Dn, T, O, I1 ... I4; see `vitrea.geometry.symmetry`.
    resolution : float
        Å to which the map is looked at; at most 20 shells are used.
    diameter : float
        Å of the ball about the centre of mass outside which there is only solvent; 0: as large as the box allows.

    Returns
    -------
    SymmetryAxes
        The best found, whether or not the map has the symmetry: see its `correlation`.

    Raises
    ------
    InputError
        If the group is not known, or C1 or D1.
    ValueError
        If the map is constant, or not a cube.
    """
    return rank_symmetries(voxels, voxel_size, [group], resolution=resolution, diameter=diameter)[0]


def rank_symmetries(
    voxels: Floats | Tensor,
    voxel_size: float,
    groups: Sequence[str],
    *,
    resolution: float = 20.0,
    diameter: float = 0.0,
) -> list[SymmetryAxes]:
    """Find the axes of several point groups in one map; parameters as in `find_symmetry_axes`.

    Returns
    -------
    list of SymmetryAxes
        In the order of `groups`. A map with one of the groups has all its subgroups (C2 within D2), at about the same
        correlation.
    """
    names = [canonical_name(group) for group in groups]
    if "C1" in names:
        raise InputError("C1 has no axes to look for; give a point group with symmetry")
    if "D1" in names:
        raise InputError("the axis of D1 is that of C2, in another place; give C2")
    map_ = _LowResolutionMap(_as_density(voxels), voxel_size, resolution, diameter)
    return [_find(map_, name) for name in names]


def search_symmetry(
    voxels: Floats | Tensor,
    voxel_size: float,
    largest_fold: int = 8,
    *,
    resolution: float = 20.0,
    diameter: float = 0.0,
) -> list[SymmetryAxes]:
    """Find the axes of all point groups that a map may have; other parameters as in `find_symmetry_axes`.

    Parameters
    ----------
    largest_fold : int
        Cn and Dn are looked for up to this n. A group is looked for only where its cyclic subgroups are there.

    Returns
    -------
    list of SymmetryAxes
        C2 ... Cn, and those of Dn, T, O, I2 that were looked for.
    """
    map_ = _LowResolutionMap(_as_density(voxels), voxel_size, resolution, diameter)
    found = [_find(map_, f"C{fold}") for fold in range(2, max(5, largest_fold) + 1)]
    there = {int(axes.group[1:]) for axes in found if axes.correlation >= SYMMETRIC}
    if 2 in there:
        groups = [f"D{fold}" for fold in sorted(there) if fold <= largest_fold]
        groups += [group for group, folds in _POLYHEDRAL_FOLDS.items() if folds <= there]
        found += [_find(map_, group) for group in groups]
    return found


def choose_symmetry(found: Sequence[SymmetryAxes]) -> SymmetryAxes | None:
    """Return the largest group of `rank_symmetries` that the map has, or None where it has none of them.

    It has a group whose correlation is at least `SYMMETRIC` and not much lower than the best.
    """
    best = max((axes.correlation for axes in found), default=0.0)
    present = [axes for axes in found if axes.correlation >= max(SYMMETRIC, _AS_GOOD * best)]
    return max(present, key=lambda axes: (axes.order, axes.correlation), default=None)


def align_to_symmetry(
    voxels: Floats | Tensor,
    voxel_size: float,
    group: str,
    *,
    resolution: float = 20.0,
    diameter: float = 0.0,
    impose: bool = False,
) -> tuple[NDArray[np.float32], SymmetryAxes]:
    """Turn and shift a map so that its axes are where RELION has them; parameters as in `find_symmetry_axes`.

    Parameters
    ----------
    impose : bool
        Whether the placed map is averaged over the operators of the group.

    Returns
    -------
    ndarray of float32, shape [n, n, n]
    SymmetryAxes
    """
    found = find_symmetry_axes(voxels, voxel_size, group, resolution=resolution, diameter=diameter)
    placed = place_map(_as_density(voxels).numpy(), found.placement)
    return symmetrise(placed, symmetry_matrices(found.group)) if impose else placed, found


def centre_of_mass(voxels: Tensor) -> NDArray[np.float64]:
    """Return where the dense part of a map has its centre.

    Parameters
    ----------
    voxels : Tensor, shape [n, n, n]
        Low-pass filtered.

    Returns
    -------
    ndarray, shape [3]
        x, y, z in voxels from voxel ``n // 2``, of the density above two standard deviations over the median.
    """
    size = voxels.shape[-1]
    dense = (voxels - voxels.median() - 2.0 * voxels.std()).clamp_min(0.0).double()
    if float(dense.sum()) <= 0.0:
        return np.zeros(3)
    axis = torch.arange(size, dtype=torch.float64) - size // 2
    sums = [dense.sum(dim=(0, 1)), dense.sum(dim=(0, 2)), dense.sum(dim=(1, 2))]
    return np.array([float((line * axis).sum() / line.sum()) for line in sums])


def _as_density(voxels: Floats | Tensor) -> Tensor:
    density = (voxels if isinstance(voxels, Tensor) else as_tensor(voxels)).detach().cpu().float()
    if density.ndim != 3 or len(set(density.shape)) != 1:
        raise ValueError(f"a map must be a cube, this one has shape {tuple(density.shape)}")
    if not float(density.std()) > 0.0:
        raise ValueError("the map is constant, so it has no axes")
    return density


class _Shells:
    """The samples at which a transform is compared with itself turned."""

    def __init__(self, reference: Reference, samples: PackedSamples) -> None:
        self.reference, self.samples = reference, samples
        self.coordinates = samples.coordinates.astype(np.float64)
        members = torch.from_numpy(np.eye(samples.radius + 2, dtype=np.float32)[samples.shell])
        self.members = members / members.sum(dim=0).clamp_min(1.0)
        self.owner = torch.from_numpy(samples.shell)
        still = self._anisotropic(self.turned(np.eye(3)[None]))
        power = still.abs().square() @ self.members
        floor = 1e-4 * power.max()
        self.weight = (power.clamp_min(floor) ** -_WHITENING)[0][self.owner]

    def turned(self, rotations: Floats, centre: Floats | None = None) -> Tensor:
        """Sample F of the map, moved by ``-centre``, at ``h^T k`` for rotations h; shape [rotations, samples]."""
        values = self.reference.project(torch.from_numpy(rotations.astype(np.float32)), self.samples)
        if centre is None:
            return values
        # A projection's view of the centre: (h^T k) . c = k . (h c)
        moved = self.samples.phase_ramps(-(rotations @ centre))
        return values * moved

    def _anisotropic(self, values: Tensor) -> Tensor:
        """Take the mean of every shell away; over whole shells it is real."""
        means = values.real @ self.members
        return values - means[:, self.owner]

    def agreement(self, rotations: Floats, centre: Floats | None = None, shifts: Tensor | None = None) -> Tensor:
        """Correlate the map with itself turned by rotations about a centre, shape [rotations].

        With `shifts` (phase ramps, shape [shifts, samples]) the best correlation over them is returned.
        """
        still = self._anisotropic(self.turned(np.eye(3)[None], centre))
        turned = self._anisotropic(self.turned(rotations, centre))
        power = torch.sqrt((turned.abs().square() @ self.weight) * (still.abs().square() @ self.weight))
        product = turned.conj() * (still * self.weight)
        if shifts is None:
            return product.real.sum(dim=1) / power
        # Re(product * ramp), as two real products.
        overlap = product.real @ shifts.real.T - product.imag @ shifts.imag.T
        return overlap.max(dim=1).values / power


class _LowResolutionMap:
    """A map about its centre of mass in a small box, and the table of its axes."""

    def __init__(self, voxels: Tensor, voxel_size: float, resolution: float, diameter: float) -> None:
        size = voxels.shape[-1]
        shells = max(3, min(round(size * voxel_size / resolution), size // 2 - 1, _SHELLS))
        filtered = lowpass(voxels, size * voxel_size / shells, voxel_size)
        self.mass_centre = centre_of_mass(filtered)
        radius = diameter / (2 * voxel_size) or size / 2 - _EDGE - float(np.abs(self.mass_centre).max())
        ball = torch.from_numpy(soft_sphere(size, max(radius, size / 4), _EDGE).astype(np.float32))
        centred = shift(filtered, -torch.from_numpy(self.mass_centre).float())
        solvent = (centred * (1 - ball)).sum() / (1 - ball).sum()
        box = min(size, 2 * shells + 4)
        self.voxels_per_voxel = size / box
        reference = reference_from_map(resample((centred - solvent) * ball, box, 3).contiguous(), shells, padding=3)
        samples = packed_samples(box, shells, dims=3)
        self.fine = _Shells(reference, samples)
        self.search = _Shells(reference, samples.prefix(min(shells, _SEARCH_SHELLS)))
        reach = _REACH * box / (2 * self.search.samples.radius)
        self.shifts = self.search.samples.phase_ramps(shift_grid(reach, reach / 2, 3))
        self.directions = _hemisphere(_STEP)
        self.tree = KDTree(np.concatenate([self.directions, -self.directions]))
        self._table: dict[int, NDArray[np.float64]] = {}

    def axes(self, angle: float) -> NDArray[np.float64]:
        """Agreement of the map with itself turned by an angle (radians) about each direction, shape [directions]."""
        key = round(angle * 1e6)
        if key not in self._table:
            turns = Rotation.from_rotvec(angle * self.directions).as_matrix()
            self._table[key] = self.search.agreement(turns, shifts=self.shifts).double().numpy()
        return self._table[key]

    def nearest(self, vectors: Floats) -> NDArray[np.int64]:
        """Index of the direction of an axis nearest to unit vectors, shape [...]."""
        index: NDArray[np.int64] = self.tree.query(vectors)[1] % len(self.directions)
        return index


def _hemisphere(step: float) -> NDArray[np.float64]:
    """Spread directions of axes evenly, shape [directions, 3]: half a Fibonacci spiral."""
    count = int(np.ceil(2.0 * np.pi / np.radians(step) ** 2))
    index = np.arange(count) + 0.5
    z, turn = index / count, np.pi * (1.0 + np.sqrt(5.0)) * index
    ring = np.sqrt(1.0 - z**2)
    return np.stack([ring * np.cos(turn), ring * np.sin(turn), z], axis=1)


def _distinct_operators(group: str) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Operators but the identity, one of each with its inverse: matrices, axes, angles (0, pi]."""
    operators = symmetry_matrices(group)[1:]
    vectors = Rotation.from_matrix(operators).as_rotvec()
    angles = np.linalg.norm(vectors, axis=1)
    axes = vectors / angles[:, None]
    kept: list[int] = []
    for i, operator in enumerate(operators):
        if all(np.abs(operator.T - operators[j]).max() > 1e-6 for j in kept):
            kept.append(i)
    return operators[kept], axes[kept], angles[kept]


def _orientations(group: str, step: float) -> NDArray[np.float64]:
    """Rotations to try, shape [orientations, 3, 3]: of those that place the axes alike, the smallest."""
    if group[0] == "C":
        return np.stack([_turn_to_z(axis) for axis in _hemisphere(step)])
    grid = rotation_grid(step)
    traces = grid.reshape(-1, 9) @ symmetry_matrices(group).reshape(-1, 9).T  # of g^T R
    unit: NDArray[np.float64] = grid[traces.argmax(axis=1) == 0]
    return unit


def _turn_to_z(axis: Floats) -> NDArray[np.float64]:
    """Smallest rotation that brings a direction in the upper hemisphere to z."""
    across = np.cross(axis, [0.0, 0.0, 1.0])
    sine = np.linalg.norm(across)
    vector = across / max(float(sine), 1e-12) * np.arctan2(sine, axis[2])
    matrix: NDArray[np.float64] = Rotation.from_rotvec(vector).as_matrix()
    return matrix


def _find(map_: _LowResolutionMap, group: str) -> SymmetryAxes:
    operators, axes, angles = _distinct_operators(group)
    orientations = _orientations(group, _STEP)
    kinds = np.unique(angles.round(6))
    kinds = kinds[np.linspace(0, len(kinds) - 1, min(_ANGLES, len(kinds))).round().astype(int)]
    scores = np.zeros(len(orientations))
    chosen = [i for i in range(len(axes)) if np.abs(kinds - angles[i]).min() < 1e-5]
    for i in chosen:
        # A turn about u after the placement R is one about R^T u before it.
        scores += map_.axes(angles[i])[map_.nearest(axes[i] @ orientations)]
    scores /= len(chosen)
    best = [_refine(map_, group, operators, start) for start in _candidates(group, orientations, scores)]
    correlation, rotation, centre = max(best, key=lambda item: item[0])
    rotation = _nearest_to_identity(group, rotation)
    whole_centre = map_.mass_centre + centre * map_.voxels_per_voxel
    return SymmetryAxes(group, Placement(rotation, -rotation @ whole_centre), correlation)


def _candidates(
    group: str, orientations: NDArray[np.float64], scores: NDArray[np.float64]
) -> list[NDArray[np.float64]]:
    """Return the best orientations that lie apart from each other."""
    operators = symmetry_matrices(group)
    kept: list[NDArray[np.float64]] = []
    limit = np.cos(np.radians(_APART))
    for index in np.argsort(-scores):
        rotation = orientations[index]
        if group[0] == "C":
            near = any(abs(rotation[2] @ other[2]) > limit for other in kept)
        else:
            near = any(np.einsum("mij,ij->m", operators, rotation @ other.T).max() > 1 + 2 * limit for other in kept)
        if not near:
            kept.append(rotation)
        if len(kept) == _CANDIDATES:
            break
    return kept


def _refine(
    map_: _LowResolutionMap, group: str, operators: NDArray[np.float64], start: NDArray[np.float64]
) -> tuple[float, NDArray[np.float64], NDArray[np.float64]]:
    """Climb from an orientation at the centre of mass; return correlation over all operators, rotation, centre."""
    few = operators[np.linspace(0, len(operators) - 1, min(_OPERATORS, len(operators))).round().astype(int)]
    # With one axis only, along z, turns about it and shifts along it change nothing.
    free = np.array([0, 1, 3, 4] if group[0] == "C" else range(6))
    reach = map_.fine.samples.size / 4  # radians times this are voxels, so all parameters weigh alike

    def place(parameters: Floats) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        six = np.zeros(6)
        six[free] = parameters
        rotation = Rotation.from_rotvec(six[:3] / reach).as_matrix() @ start
        return rotation, rotation.T @ six[3:]

    def loss(parameters: Floats) -> float:
        rotation, centre = place(parameters)
        return -float(map_.fine.agreement(rotation.T @ few @ rotation, centre).mean())

    simplex = np.concatenate([np.zeros((1, len(free))), np.eye(len(free))])
    options = {"initial_simplex": simplex, "xatol": 0.01, "fatol": 1e-5, "maxfev": 500}
    best = minimize(loss, np.zeros(len(free)), method="Nelder-Mead", options=options)
    rotation, centre = place(best.x)
    turns = rotation.T @ operators @ rotation
    return float(map_.fine.agreement(turns, centre).mean()), rotation, centre


def _nearest_to_identity(group: str, rotation: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of the rotations that bring the axes to the same places, return the smallest: a map in place stays there."""
    if group[0] == "C":
        return _turn_to_z(rotation[2] * (1.0 if rotation[2, 2] >= 0 else -1.0))
    return smallest_equivalent(rotation.T, _normaliser(group)).T


def _normaliser(group: str) -> NDArray[np.float64]:
    """Rotations that bring the axes of a group (not Cn) onto each other, though perhaps no density onto itself."""
    operators = symmetry_matrices(group)
    if group[0] == "D":
        return symmetry_matrices("O" if group == "D2" else f"D{2 * int(group[1:])}")
    if group == "T":
        vectors = Rotation.from_matrix(operators[1:]).as_rotvec()
        half_turn = vectors[np.linalg.norm(vectors, axis=1).argmax()]
        quarter: NDArray[np.float64] = operators @ Rotation.from_rotvec(half_turn / 2).as_matrix()
        return np.concatenate([operators, quarter])
    return operators
