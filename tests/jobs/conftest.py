"""What tests of the jobs that follow a refinement share: half maps of a textured ball."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from vitrea.formats.mrc import write_map
from vitrea.maps.masking import lowpass_density, sphere_mask
from vitrea.records.map import Map

Half = NDArray[np.float32]


def _write_halves(
    folder: Path,
    voxel: float,
    noise: float,
    *,
    size: int = 32,
    radius: float = 9.0,
    level: float = 1.5,
    limit: float = 8.0,
    mask: tuple[float, float] = (9.0, 3.0),
    ending: str = "",
) -> list[Half]:
    generator = np.random.default_rng(0)
    texture = sphere_mask(size, radius, 2.0) * (level + generator.normal(size=(size,) * 3))
    signal = lowpass_density(texture.astype(np.float32), limit, voxel)
    halves = [(signal + generator.normal(0, noise, signal.shape)).astype(np.float32) for _ in range(2)]
    for number, half in enumerate(halves, start=1):
        write_map(folder / f"run_half{number}{ending}.mrc", Map(half, voxel))
    write_map(folder / "mask.mrc", Map(sphere_mask(size, *mask), voxel))
    return halves


@pytest.fixture
def write_halves() -> Callable[..., list[Half]]:
    """Write, with ``write_halves(folder, voxel, noise, ...)``, two half maps of `size`³ and a mask; returns the halves.

    They hold a ball of `radius` voxels, of density `level` and a texture that ends at `limit` Å, in white noise.
    """
    return _write_halves
