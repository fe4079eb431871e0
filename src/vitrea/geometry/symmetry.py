"""Point groups: their operators in RELION's order, distances modulo symmetry, and asymmetric units.

A view A of a symmetric map equals its views ``A @ R`` for every operator R of the group.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.transform import Rotation

from vitrea.geometry.euler import angular_distance
from vitrea.records.errors import InputError

KNOWN_GROUPS = "C1, C2, ... Cn, D1, D2, ... Dn, T, O, I (the same as I2), I1, I2, I3, I4"

_GOLDEN = (1.0 + math.sqrt(5.0)) / 2.0
_Vector = tuple[float, float, float]


@dataclass(frozen=True)
class _PointGroup:
    """Generating axes (fold, direction) and the corners of an asymmetric unit, both as RELION chose them.

    Lengths are of no account. Cyclic and dihedral groups need no entry: their unit is a wedge.
    """

    axes: tuple[tuple[int, _Vector], ...]
    corners: tuple[_Vector, _Vector, _Vector]


_ROOT_2, _ROOT_6, _EDGE = math.sqrt(2.0), math.sqrt(6.0), math.sqrt(1.0 + _GOLDEN**2)
_POLYHEDRAL: dict[str, _PointGroup] = {
    "T": _PointGroup(
        axes=((3, (0.0, 0.0, 1.0)), (2, (0.0, _ROOT_2, 1.0))),
        corners=((0.0, 0.0, 1.0), (0.0, 2.0 * _ROOT_2, -1.0), (-_ROOT_6, _ROOT_2, 1.0)),
    ),
    "O": _PointGroup(
        axes=((3, (1.0, 1.0, 1.0)), (4, (0.0, 0.0, 1.0))),
        corners=((0.0, 0.0, 1.0), (1.0, 1.0, 1.0), (-1.0, 1.0, 1.0)),
    ),
    # Four settings of one group. I1 and I2 have twofold axes on x, y and z; I3 and I4 are I2 turned about y until a
    # fivefold axis lies on z, in either sense. Corners: two neighbouring fivefold axes and the threefold axis between.
    "I1": _PointGroup(
        axes=((2, (1.0, 0.0, 0.0)), (5, (_GOLDEN, 0.0, -1.0)), (3, (_GOLDEN**2, 1.0, 0.0))),
        corners=((-_GOLDEN, 0.0, 1.0), (-_GOLDEN, 0.0, -1.0), (-(_GOLDEN**2), 1.0, 0.0)),
    ),
    "I2": _PointGroup(
        axes=((2, (0.0, 0.0, 1.0)), (5, (1.0, 0.0, _GOLDEN)), (3, (0.0, 1.0, _GOLDEN**2))),
        corners=((-1.0, 0.0, _GOLDEN), (1.0, 0.0, _GOLDEN), (0.0, 1.0, _GOLDEN**2)),
    ),
    "I3": _PointGroup(
        axes=((2, (-1.0, 0.0, _GOLDEN)), (5, (0.0, 0.0, 1.0)), (3, (-(_GOLDEN**2), _EDGE, _GOLDEN**3))),
        corners=((0.0, 0.0, 1.0), (-2.0, 0.0, 1.0), (-(_GOLDEN**2), _EDGE, _GOLDEN**3)),
    ),
    "I4": _PointGroup(
        axes=((2, (1.0, 0.0, _GOLDEN)), (5, (2.0, 0.0, 1.0)), (3, (_GOLDEN**2, _EDGE, _GOLDEN**3))),
        corners=((-(_GOLDEN**2), -_EDGE, _GOLDEN), (-(_GOLDEN**2), _EDGE, _GOLDEN), (-(_GOLDEN**3) - 1.0, 0.0, 1.0)),
    ),
}


def canonical_name(name: str) -> str:
    """Bring the name of a point group to its usual form: ``"c04"`` to ``"C4"``, ``"i"`` to ``"I2"``.

    Raises
    ------
    InputError
        If no group of that name is known. Groups with mirrors (CI, CS, CnV, Dnh ...) are not: a molecule of one hand
        cannot have them.
    """
    text = name.strip().upper()
    if text == "I":
        return "I2"
    if text in _POLYHEDRAL:
        return text
    match = re.fullmatch(r"([CD])0*([1-9][0-9]{0,2})", text)
    if match is None:
        raise InputError(f"Symmetry '{name}' is not known; give one of {KNOWN_GROUPS}.")
    return match[1] + match[2]


def _generating_axes(name: str) -> tuple[tuple[int, _Vector], ...]:
    if name in _POLYHEDRAL:
        return _POLYHEDRAL[name].axes
    axes: list[tuple[int, _Vector]] = [(int(name[1:]), (0.0, 0.0, 1.0))]
    if name[0] == "D":
        axes.append((2, (1.0, 0.0, 0.0)))
    return tuple(axes)


def _next_untried(tried: NDArray[np.bool_]) -> tuple[int, int] | None:
    """Find the first untried pair, going outwards through square shells: down column n, then back along row n."""
    for n in range(len(tried)):
        pairs = [(i, n) for i in range(n + 1)] + [(n, j) for j in range(n - 1, -1, -1)]
        for pair in pairs:
            if not tried[pair]:
                return pair
    return None


def _closure(operators: list[NDArray[np.float64]]) -> list[NDArray[np.float64]]:
    """Multiply operators (without the identity) until nothing new appears, in the order RELION lists them."""
    found = list(operators)
    tried = np.zeros((len(found), len(found)), dtype=bool)
    while (pair := _next_untried(tried)) is not None:
        tried[pair] = True
        product = found[pair[0]] @ found[pair[1]]
        known = np.stack([np.eye(3), *found])
        if np.abs(known - product).max(axis=(1, 2)).min() > 1e-6:
            found.append(product)
            tried = np.pad(tried, ((0, 1), (0, 1)))
    return found


@lru_cache(maxsize=64)
def _operators(name: str) -> NDArray[np.float64]:
    axes = _generating_axes(name)
    # Matrices act on coordinates seen from the turned frame (as A does), hence the minus sign.
    turns = [
        Rotation.from_rotvec(-2.0 * np.pi * power / fold * np.array(axis) / np.linalg.norm(axis)).as_matrix()
        for fold, axis in axes
        for power in range(1, fold)
    ]
    # The powers of one axis are closed already; skipping the search keeps a C999 from trying a million products.
    rest = turns if name[0] == "C" else _closure(turns)
    operators = np.stack([np.eye(3), *rest])
    operators.setflags(write=False)
    return operators


def symmetry_matrices(name: str) -> NDArray[np.float64]:
    """List the operators of a point group.

    Parameters
    ----------
    name : str
        C1, C2 ... Cn, D1 ... Dn, T, O, I (the same as I2), I1, I2, I3, I4; upper or lower case.

    Returns
    -------
    array, shape [m, 3, 3], read-only
        Rotation matrices, the identity first, in the order of RELION's ``--print_symmetry_ops``.

    Raises
    ------
    InputError
        If no group of that name is known; groups with mirrors are not.
    """
    return _operators(canonical_name(name))


def symmetry_axes(name: str) -> list[tuple[int, NDArray[np.float64]]]:
    """List the axes of a point group: fold and unit vector (x, y, z), of its two senses the upper; C1 has none."""
    vectors = Rotation.from_matrix(symmetry_matrices(name)[1:]).as_rotvec()
    found: list[tuple[int, NDArray[np.float64]]] = []
    # The smallest turn about an axis tells its fold, and comes first.
    for vector in vectors[np.argsort(np.linalg.norm(vectors, axis=1), kind="stable")]:
        angle = float(np.linalg.norm(vector))
        axis = vector / angle
        axis = axis * next((np.sign(part) for part in axis[::-1] if abs(part) > 1e-6), 1.0)
        if all(abs(axis @ other) < 1 - 1e-6 for _, other in found):
            found.append((round(2 * np.pi / angle), axis))
    return sorted(found, key=lambda item: -item[0])


def change_of_setting(first: str, second: str) -> NDArray[np.float64]:
    """Return the smallest rotation that brings a map from one setting of the icosahedral group to another.

    Parameters
    ----------
    first, second : str
        I1, I2 (or I), I3, I4.

    Returns
    -------
    array, shape [3, 3]
        Q, which sends the point x of the map to Q x; the operators R become ``Q R Q^T``.

    Raises
    ------
    InputError
        If one of them is another group.
    """
    names = [canonical_name(first), canonical_name(second)]
    for name in names:
        if name[0] != "I":
            raise InputError(f"only icosahedral symmetry has several settings (I1, I2, I3, I4), {name} has one")
    # Three twofold axes at right angles of the one, laid in all ways onto those of the other.
    start = _twofold_frames(names[0])[0]
    wanted = symmetry_matrices(names[1])
    turns = [end @ turn @ start.T for end in _twofold_frames(names[1]) for turn in symmetry_matrices("O")]
    given = symmetry_matrices(names[0])
    fitting = [turn for turn in turns if _same_group(turn @ given @ turn.T, wanted)]
    best: NDArray[np.float64] = max(fitting, key=np.trace)
    return best


def _twofold_frames(name: str) -> list[NDArray[np.float64]]:
    """Return the right-handed frames, in columns, of three twofold axes at right angles."""
    axes = [axis for fold, axis in symmetry_axes(name) if fold == 2]
    right = [(one, other) for i, one in enumerate(axes) for other in axes[i + 1 :] if abs(one @ other) < 1e-6]
    return [np.stack([one, other, np.cross(one, other)], axis=1) for one, other in right]


def _same_group(first: NDArray[np.float64], second: NDArray[np.float64]) -> bool:
    traces = first.reshape(-1, 9) @ second.reshape(-1, 9).T
    return bool((traces.max(axis=1) > 3 - 1e-6).all())


def symmetry_distance(a: ArrayLike, b: ArrayLike, name: str) -> NDArray[np.float64]:
    """Smallest angle in degrees between rotation `a` and any symmetry-equivalent ``b @ R`` of rotation `b`.

    Parameters
    ----------
    a, b : array, shape [..., 3, 3]
        Rotation matrices; their leading dimensions broadcast.
    name : str
        Point group; see `symmetry_matrices`.

    Returns
    -------
    array, shape [...]
        Degrees.
    """
    first, second = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    # One operator at a time: for I this needs a sixtieth of the memory of a broadcast.
    distances: NDArray[np.float64] | None = None
    for operator in symmetry_matrices(name):
        candidate = angular_distance(first, second @ operator)
        distances = candidate if distances is None else np.minimum(distances, candidate)
    assert distances is not None  # every group holds the identity
    return distances


@lru_cache(maxsize=64)
def _walls(name: str) -> NDArray[np.float64]:
    """Inward normals [h, 3] of the planes that bound the asymmetric unit."""
    if name in _POLYHEDRAL:
        corners = np.array(_POLYHEDRAL[name].corners)
        corners /= np.linalg.norm(corners, axis=1, keepdims=True)
        normals = np.cross(corners, np.roll(corners, -1, axis=0))
        normals *= np.sign(normals @ corners.sum(axis=0))[:, None]  # whichever way round the corners go
        return np.asarray(normals / np.linalg.norm(normals, axis=1, keepdims=True), dtype=np.float64)
    fold = int(name[1:])
    half = np.pi / fold
    middle = np.pi / 2 if name[0] == "D" else 0.0  # rot at the middle of the wedge
    walls = []
    if fold > 1:
        walls = [[np.cos(middle + side), np.sin(middle + side), 0.0] for side in (np.pi / 2 - half, half - np.pi / 2)]
    if name[0] == "D":
        walls.append([0.0, 0.0, 1.0])
    return np.array(walls).reshape(-1, 3)


def wall_distances(vectors: ArrayLike, name: str) -> NDArray[np.float64]:
    """How far unit vectors lie inside the nearest wall of the asymmetric unit.

    Parameters
    ----------
    vectors : array, shape [..., 3]
        Unit vectors (x, y, z) of directions of view.
    name : str
        Point group; see `symmetry_matrices`.

    Returns
    -------
    array, shape [...]
        Sine of the angle to the nearest wall: positive inside, negative outside; infinite for C1.
    """
    directions = np.asarray(vectors, dtype=np.float64)
    walls = _walls(canonical_name(name))
    if len(walls) == 0:
        return np.full(directions.shape[:-1], np.inf)
    return np.asarray(np.min(directions @ walls.T, axis=-1), dtype=np.float64)


def in_asymmetric_unit(vectors: ArrayLike, name: str, tolerance: float = 1e-9) -> NDArray[np.bool_]:
    """Tell which directions lie in the asymmetric unit or on its border.

    The unit is RELION's: for Cn, the wedge of rot within 180/n degrees of 0; for Dn, the part with tilt <= 90 of the
    wedge within 180/n of rot = 90; for T a triangle of three threefold axes; for O that of the fourfold axis on z and
    two threefold axes; for I that of two neighbouring fivefold axes and the threefold axis between them.

    Parameters
    ----------
    vectors : array, shape [..., 3]
        Unit vectors (x, y, z) of directions of view.
    name : str
        Point group; see `symmetry_matrices`.
    tolerance : float
        How far (sine of the angle) outside a wall still counts as on it.

    Returns
    -------
    bool array, shape [...]
    """
    return np.asarray(wall_distances(vectors, name) >= -tolerance)
