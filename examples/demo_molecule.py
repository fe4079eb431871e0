"""The molecule of the demonstration: a small protein-like particle of D2 symmetry, packed from alpha helices."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vitrea.geometry.symmetry import symmetry_matrices
from vitrea.records.map import Map

PIXEL_SIZE, DIAMETER, SYMMETRY = 3.5, 150, "D2"  # Å, Å
CA_RISE, CA_RADIUS, CA_TURN = 1.5, 2.3, 100.0  # Å, Å, degrees a residue: an alpha helix
Points = NDArray[np.float64]


def helix(residues: int) -> Points:
    """Return the alpha carbons of a right-handed helix along z, centred; Å, shape [residues, 3]."""
    index = np.arange(residues) - (residues - 1) / 2
    turn = np.radians(CA_TURN) * index
    return np.stack([CA_RADIUS * np.cos(turn), CA_RADIUS * np.sin(turn), CA_RISE * index], axis=1)


def random_rotation(generator: np.random.Generator) -> NDArray[np.float64]:
    """Return a rotation matrix drawn evenly."""
    matrix, triangle = np.linalg.qr(generator.normal(size=(3, 3)))
    matrix *= np.sign(np.diag(triangle))
    return np.asarray(matrix * np.linalg.det(matrix))


def protein(seed: int = 7, clearance: float = 7.5) -> Points:
    """Pack helices into one quarter of a D2 particle so that no two come near, and return all four quarters; Å."""
    generator = np.random.default_rng(seed)
    operators = symmetry_matrices(SYMMETRY)
    centre, radii = np.array([20.0, 16.0, 25.0]), np.array([23.0, 20.0, 31.0])
    quarter = np.empty((0, 3))
    for _ in range(8000):
        points = helix(int(generator.integers(9, 20))) @ random_rotation(generator).T
        points += centre + radii * generator.uniform(-1.0, 1.0, 3)
        if (((points - centre) / radii) ** 2).sum(axis=1).max() > 1.0:
            continue
        others = [quarter @ operator.T for operator in operators]
        others += [points @ operator.T for operator in operators[1:]]
        distances = ((points[:, None] - np.concatenate(others)[None]) ** 2).sum(axis=-1)
        if distances.min() > clearance**2:
            quarter = np.concatenate([quarter, points])
    return np.concatenate([quarter @ operator.T for operator in operators])


def density(points: Points, box: int, width: float = 2.0) -> Map:
    """Draw a Gaussian ball of `width` Å at each point (x, y, z), in a box of so many voxels."""
    axis = (np.arange(box) - box // 2) * PIXEL_SIZE
    profiles = np.exp(-0.5 * ((axis[None, :, None] - points[:, None, :]) / width) ** 2)  # [points, box, xyz]
    voxels = np.einsum("az,ay,ax->zyx", profiles[..., 2], profiles[..., 1], profiles[..., 0], optimize=True)
    return Map(voxels.astype(np.float32), PIXEL_SIZE)
