"""A small synthetic molecule for the tests of this room."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray


def blobs(size: int, seed: int = 0, count: int = 25, width: float = 1.3) -> NDArray[np.float32]:
    """Sum Gaussian blobs at random places within a third of the box about its centre: no symmetry, no hand's mirror."""
    generator = np.random.default_rng(seed)
    axis = np.arange(size) - size // 2
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
    places = generator.uniform(-0.28 * size, 0.28 * size, (4 * count, 3))
    places = places[np.linalg.norm(places, axis=1) < 0.3 * size][:count]
    density = np.zeros((size,) * 3)
    for px, py, pz in places:
        density += np.exp(-((x - px) ** 2 + (y - py) ** 2 + (z - pz) ** 2) / (2 * width**2))
    return density.astype(np.float32)


@pytest.fixture(scope="session")
def molecule() -> NDArray[np.float32]:
    """Density of an asymmetric molecule in a box of 32."""
    return blobs(32)
