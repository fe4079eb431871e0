"""Where a map is looked at locally: soft spherical windows on a lattice, and what they say put together again."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from vitrea.geometry.masks import raised_cosine, soft_sphere

Floats = NDArray[np.floating[Any]]

_BLOCK_FLOATS = 1 << 25  # of the matrices that `WindowLattice.blend` multiplies at a time


@dataclass(frozen=True)
class WindowLattice:
    """Equal windows, soft balls, about every so many voxels of a cubic map.

    Attributes
    ----------
    size : int
        Box size n of the map.
    step : int
        Voxels from one centre to the next; the first is at voxel 0, so that centres are multiples of it.
    radius, edge : int
        A window is 1 within `radius` voxels and falls as half a cosine to 0 over the next `edge` voxels.
    centres : ndarray of int64, shape [windows, 3]
        z, y, x.
    """

    size: int
    step: int
    radius: int
    edge: int
    centres: NDArray[np.int64]

    @property
    def reach(self) -> int:
        """Voxels from the centre to the last one in which a window is above zero."""
        return self.radius + max(self.edge - 1, 0)

    @property
    def width(self) -> int:
        """Voxels across a window: ``2 reach + 1``."""
        return 2 * self.reach + 1

    @cached_property
    def window(self) -> NDArray[np.float32]:
        """The window, its centre in the middle; shape [width, width, width]."""
        return soft_sphere(self.width, self.radius, self.edge).astype(np.float32)

    def in_box(self, centre: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return one window as a map, cut off at the edges of the box; shape [n, n, n]."""
        return soft_sphere(self.size, self.radius, self.edge, centre=centre.tolist()).astype(np.float32)

    @cached_property
    def shares_of_power(self) -> NDArray[np.float64]:
        """Part of the sum over the squared window that lies inside the box, window by window; shape [windows]."""
        squared = np.square(self.window, dtype=np.float64)
        sums = np.pad(squared, ((1, 0),) * 3).cumsum(0).cumsum(1).cumsum(2)  # of all that is before a voxel
        low = np.clip(self.reach - self.centres, 0, self.width)
        high = np.clip(self.size - self.centres + self.reach, 0, self.width)
        inside = np.zeros(len(self.centres))
        for corner in np.ndindex(2, 2, 2):
            z, y, x = (np.where(upper, high[:, axis], low[:, axis]) for axis, upper in enumerate(corner))
            inside += (-1) ** (3 - sum(corner)) * sums[z, y, x]
        shares: NDArray[np.float64] = inside / sums[-1, -1, -1]
        return shares

    def blend(self, values: Floats) -> Iterator[NDArray[np.float32]]:
        """Spread values of windows over the map: at each voxel their mean, weighted by the windows there.

        Parameters
        ----------
        values : ndarray, shape [windows, k]

        Yields
        ------
        ndarray of float32, shape [n, n, n]
            One for each of the k; 0 where there is no window.
        """
        spread = _Spreader(self)
        total = spread(np.ones(len(self.centres)))
        for column in np.asarray(values).T:
            with np.errstate(divide="ignore", invalid="ignore"):
                yield np.where(total > 0, spread(column) / total, 0.0).astype(np.float32)


class _Spreader:
    """Sums of windows times values, as matrix products.

    The voxels between lattice points are the same in every cell: each is a sum over the same few neighbouring lattice
    points with the same weights. Cells times neighbours times voxels of a cell is a matrix product.
    """

    def __init__(self, lattice: WindowLattice) -> None:
        self.lattice = lattice
        step, reach = lattice.step, lattice.reach
        self.cells = -(-lattice.size // step)
        taps = np.arange(-(reach // step), (step - 1 + reach) // step + 1)
        self.low, self.high = int(-taps[0]), int(taps[-1])
        # Distance along an axis of each voxel of a cell from each lattice point: [taps, voxels of a cell].
        offsets = np.arange(step) - taps[:, None] * step
        squared = np.square(offsets)
        distance = np.sqrt(
            squared[:, None, None, :, None, None] + squared[:, None, None, :, None] + squared[:, None, None, :]
        )
        weights = raised_cosine(distance, lattice.radius, lattice.edge).reshape(len(taps) ** 3, step**3)
        self.used = np.flatnonzero(weights.any(axis=1))
        self.taps = [tuple(int(i) for i in np.unravel_index(tap, (len(taps),) * 3)) for tap in self.used]
        self.weights = torch.from_numpy(weights[self.used].astype(np.float32))
        self.places = tuple((lattice.centres // step).T)

    def __call__(self, values: Floats) -> NDArray[np.float32]:
        """Return the sum of all windows, each times its value; shape [n, n, n]."""
        step, cells, size = self.lattice.step, self.cells, self.lattice.size
        points = np.zeros((cells,) * 3, dtype=np.float32)
        points[self.places] = values
        padded = torch.from_numpy(np.pad(points, (self.low, self.high)))
        result = np.empty((cells * step, size, size), dtype=np.float32)
        rows = max(1, _BLOCK_FLOATS // (cells**2 * max(len(self.taps), step**3)))
        for start in range(0, cells, rows):
            count = min(rows, cells - start)
            near = torch.stack(
                [padded[start + z : start + z + count, y : y + cells, x : x + cells] for z, y, x in self.taps], dim=-1
            )
            block = near.reshape(-1, len(self.taps)) @ self.weights
            voxels = block.view(count, cells, cells, step, step, step).permute(0, 3, 1, 4, 2, 5)
            whole = voxels.reshape(count * step, cells * step, cells * step)
            result[start * step : (start + count) * step] = whole[:, :size, :size].numpy()
        return result[:size]


def window_lattice(
    size: int,
    voxel_size: float,
    sampling: float,
    radius: float | None = None,
    edge: float | None = None,
    mask: Floats | None = None,
) -> WindowLattice:
    """Lay windows over a map as ``relion_postprocess --locres`` does.

    Parameters
    ----------
    size : int
        Box size n.
    voxel_size : float
        Å.
    sampling : float
        Å from one window to the next.
    radius, edge : float, optional
        Å in which a window is 1, and of its soft edge outside; half of `sampling`, and `sampling`, by default.
    mask : ndarray, shape [n, n, n], optional
        Only windows that reach voxels in which it is above one half are kept: all that have a say there.

    Returns
    -------
    WindowLattice
        Windows whose centres are nearer to that of the box than half the box less the radius. Lengths are rounded to
        voxels, as in RELION.

    Raises
    ------
    ValueError
        If the window is larger than the box, or none remains.
    """
    step = max(1, _voxels(sampling, voxel_size))
    inner = _voxels(0.5 * sampling if radius is None else radius, voxel_size)
    outer = _voxels(sampling if edge is None else edge, voxel_size)
    if inner < 1:
        raise ValueError(f"a window of {inner * voxel_size:g} Å radius is smaller than a voxel of {voxel_size:g} Å")
    limit = size // 2 - inner
    if limit <= 0:
        raise ValueError(
            f"a window of {inner * voxel_size:.0f} Å radius is larger than the box of {size * voxel_size:.0f} Å"
        )
    axis = np.arange(0, size, step)
    grid = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1).reshape(-1, 3)
    kept = grid[np.linalg.norm(grid - size // 2, axis=1) < limit]
    lattice = WindowLattice(size, step, inner, outer, kept)
    if mask is not None:
        distance = ndimage.distance_transform_edt(np.asarray(mask) <= 0.5)
        weight = raised_cosine(distance[tuple(kept.T)], inner, outer)  # at the nearest voxel of the mask
        lattice = WindowLattice(size, step, inner, outer, kept[weight > 0])
    if not len(lattice.centres):
        raise ValueError("no window reaches into the mask")
    return lattice


def _voxels(length: float, voxel_size: float) -> int:
    return math.floor(length / voxel_size + 0.5)


def cut_windows(padded: Tensor, lattice: WindowLattice, centres: NDArray[np.int64]) -> Tensor:
    """Cut the surroundings of centres out of maps and multiply them by the window.

    Parameters
    ----------
    padded : Tensor, shape [maps, n + 2 reach, n + 2 reach, n + 2 reach]
        Maps with a border of zeros as wide as windows reach.
    lattice : WindowLattice
    centres : ndarray of int64, shape [windows, 3]

    Returns
    -------
    Tensor, shape [windows, maps, width, width, width]
    """
    width = lattice.width
    cubes = torch.stack([padded[:, z : z + width, y : y + width, x : x + width] for z, y, x in centres.tolist()])
    return cubes * torch.from_numpy(lattice.window)
