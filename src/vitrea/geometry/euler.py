"""Euler angles and rotation matrices in the 3DEM convention.

The angles (rot, tilt, psi) are those of Heymann, Chagoyen and Belnap (2005), doi:10.1016/j.jsb.2005.06.001, which
RELION writes as ``rlnAngleRot``, ``rlnAngleTilt``, ``rlnAnglePsi``. The matrix A maps map coordinates to view
coordinates: a projection at A samples the 3D transform at ``A.T @ (kx, ky, 0)``. Its third row is the direction of
view (cos rot sin tilt, sin rot sin tilt, cos tilt).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.transform import Rotation

# Below this sine of the tilt, rot and psi turn about the same axis and only their sum or difference is defined.
# It is the threshold above which RELION, too, reads three angles from a matrix (16 float32 spacings).
DEGENERATE_SINE = 16.0 * float(np.finfo(np.float32).eps)


def wrap_degrees(angles: ArrayLike) -> NDArray[np.float64]:
    """Bring angles in degrees into (-180, 180]."""
    return 180.0 - np.mod(180.0 - np.asarray(angles, dtype=np.float64), 360.0)


def euler_to_matrix(eulers: ArrayLike) -> NDArray[np.float64]:
    """Turn Euler angles into rotation matrices.

    Parameters
    ----------
    eulers : array, shape [..., 3]
        rot, tilt, psi in degrees.

    Returns
    -------
    array, shape [..., 3, 3]
        A, acting on (x, y, z) column vectors.
    """
    angles = np.asarray(eulers, dtype=np.float64)
    if angles.shape[-1:] != (3,):
        raise ValueError(f"Euler angles need shape [..., 3], got {list(angles.shape)}")
    if angles.size == 0:
        return np.empty((*angles.shape[:-1], 3, 3))
    # Rz(rot) Ry(tilt) Rz(psi) turns the object; A looks at it from the turned frame, so it is the inverse.
    active = Rotation.from_euler("ZYZ", angles.reshape(-1, 3), degrees=True).as_matrix()
    return np.ascontiguousarray(active.transpose(0, 2, 1)).reshape(*angles.shape[:-1], 3, 3)


def matrix_to_euler(matrices: ArrayLike) -> NDArray[np.float64]:
    """Read Euler angles from rotation matrices.

    Parameters
    ----------
    matrices : array, shape [..., 3, 3]
        A, as `euler_to_matrix` makes it.

    Returns
    -------
    array, shape [..., 3]
        rot in (-180, 180], tilt in [0, 180], psi in (-180, 180], in degrees. At tilt 0 or 180, where only the sum or
        difference of rot and psi is defined, rot is 0, as RELION writes it.
    """
    a = np.asarray(matrices, dtype=np.float64)
    if a.shape[-2:] != (3, 3):
        raise ValueError(f"rotation matrices need shape [..., 3, 3], got {list(a.shape)}")
    sine = np.hypot(a[..., 0, 2], a[..., 1, 2])
    regular = sine > DEGENERATE_SINE
    up = a[..., 2, 2] > 0
    rot = np.where(regular, np.arctan2(a[..., 2, 1], a[..., 2, 0]), 0.0)
    tilt = np.where(regular, np.arctan2(sine, a[..., 2, 2]), np.where(up, 0.0, np.pi))
    turn_about_z = np.where(
        up, np.arctan2(-a[..., 1, 0], a[..., 0, 0]), np.arctan2(a[..., 1, 0], -a[..., 0, 0])
    )  # psi where rot = 0 and tilt = 0 or 180
    psi = np.where(regular, np.arctan2(a[..., 1, 2], -a[..., 0, 2]), turn_about_z)
    degrees: NDArray[np.float64] = np.degrees(np.stack([rot, tilt, psi], axis=-1))
    degrees[..., 0] = wrap_degrees(degrees[..., 0])
    degrees[..., 2] = wrap_degrees(degrees[..., 2])
    return degrees


def directions_to_vectors(directions: ArrayLike) -> NDArray[np.float64]:
    """Unit vectors (x, y, z) [..., 3] of the directions of view (rot, tilt) [..., 2] in degrees."""
    rot, tilt = np.moveaxis(np.radians(np.asarray(directions, dtype=np.float64)), -1, 0)
    return np.stack([np.cos(rot) * np.sin(tilt), np.sin(rot) * np.sin(tilt), np.cos(tilt)], axis=-1)


def angular_distance(a: ArrayLike, b: ArrayLike) -> NDArray[np.float64]:
    """Angle of the single turn that leads from rotation `a` to rotation `b`.

    Parameters
    ----------
    a, b : array, shape [..., 3, 3]
        Rotation matrices; their leading dimensions broadcast.

    Returns
    -------
    array, shape [...]
        Degrees, 0 to 180. Taken from the chord between the matrices near 0 and from the trace elsewhere, so that a
        millionth of a degree is still resolved.
    """
    first, second = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    chord = np.sqrt(np.sum(np.square(first - second), axis=(-2, -1)) / 8.0)  # sin(angle / 2)
    trace = np.sum(first * second, axis=(-2, -1))
    half_cosine = np.sqrt(np.clip((trace + 1.0) / 4.0, 0.0, None))  # cos(angle / 2)
    angle: NDArray[np.float64] = np.degrees(2.0 * np.arctan2(chord, half_cosine))
    return angle
