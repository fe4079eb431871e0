"""Maps in oversampled Fourier grids, there and back; the effect of interpolation in them, and how to undo it.

A grid is the half (x >= 0) of the transform of a map in a box `padding` times as wide, `half` samples to either side of
the origin (see kernels/README.md). Neither the wide box nor its transform is ever made: axes are transformed one after
the other, each as wide as it must be only while its turn lasts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

# Samples of a grid worked on at once: their temporary copies stay small beside the grid, and in the cache.
SAMPLES_AT_ONCE = 1 << 17


def interpolation_correction(size: int, padding: float, dims: int, device: torch.device | None = None) -> Tensor:
    """Real-space image of trilinear interpolation in an oversampled Fourier grid: ``sinc²(r / (padding size))``.

    Dividing a map by it before it is sampled, or after it is reconstructed, undoes the interpolation's fall-off
    (Jackson et al. 1991, doi:10.1109/42.97598).

    Returns
    -------
    Tensor of float32, shape [size] * dims
    """
    axis = torch.arange(size, dtype=torch.float64, device=device) - size // 2
    squared = axis**2
    for _ in range(dims - 1):
        squared = squared[..., None] + axis**2
    return torch.sinc(squared.sqrt_().div_(padding * size)).square_().to(torch.float32)


def row_blocks(half: int, dims: int = 3, reach: int | None = None) -> Iterator[slice]:
    """Cut the y axis of a grid into runs of rows to be worked on at once.

    Parameters
    ----------
    half : int
        How far the grid reaches.
    dims : int
        3 for the grid of a map, 2 for that of a class average.
    reach : int, optional
        Only rows so far from the origin; by default all of them.
    """
    reach = half if reach is None else reach
    rows = max(1, SAMPLES_AT_ONCE // ((half + 1) * (2 * half + 1 if dims == 3 else 1)))
    for start in range(half - reach, half + reach + 1, rows):
        yield slice(start, min(start + rows, half + reach + 1))


def grid_of_map(voxels: Tensor, wide: int, half: int) -> Tensor:
    """Transform a map (or class average) in a wide box of zeros, without a factor, and cut the middle out.

    Parameters
    ----------
    voxels : Tensor of float32, shape [n] * dims
        Centre at ``n // 2``, which becomes the origin of phases.
    wide : int
        Width of the box of zeros.
    half : int
        How far the grid reaches; beyond the transform's own reach it is zero.

    Returns
    -------
    Tensor of complex64, shape [2 half + 1] * (dims - 1) + [half + 1]
    """
    size, dims = voxels.shape[-1], voxels.ndim
    place = _around_origin(size, size // 2, wide, voxels.device)
    columns = min(half, wide // 2) + 1
    part = torch.fft.rfft(_spread(voxels, -1, place, wide))[..., :columns].contiguous()
    reach = min(half, wide // 2)
    rows = torch.arange(-reach, reach + 1, device=voxels.device)
    inner = slice(half - reach, half + reach + 1)
    grid = torch.zeros([2 * half + 1] * (dims - 1) + [half + 1], dtype=part.dtype, device=voxels.device)
    part = torch.fft.fft(_spread(part, -2, place, wide), dim=-2).index_select(-2, rows % wide)
    if dims == 2:
        grid[inner, :columns] = part
        return grid
    for block in row_blocks(half, dims, reach):
        chosen = _spread(part[:, block.start - inner.start : block.stop - inner.start], 0, place, wide)
        grid[inner, block, :columns] = torch.fft.fft(chosen, dim=0).index_select(0, rows % wide)
    return grid


def map_of_grid(rows: Callable[[slice], Tensor], half: int, wide: int, size: int, dims: int) -> Tensor:
    """Transform a grid back and cut the map (or class average) out of its wide box; the inverse of `grid_of_map`.

    Samples at or beyond the wide box's Nyquist frequency along y and z do not count.

    Parameters
    ----------
    rows : callable
        ``rows(block)`` returns a run of rows of the grid, complex64, shape [z, block, x] (or [block, x]).
    half, wide, size : int
        How far the grid reaches, the width of the box that it is the transform of, and the size of the map.
    dims : int
        3 or 2.

    Returns
    -------
    Tensor of float32, shape [size] * dims
    """
    reach, columns = min(half, (wide + 1) // 2 - 1), min(half, wide // 2) + 1
    inner = slice(half - reach, half + reach + 1)
    middle: Tensor | None = None
    for block in row_blocks(half, dims, reach):
        part = rows(block)[..., :columns]
        if dims == 3:
            part = _transform_back(part[inner], 0, reach, wide, size)
        if middle is None:
            middle = part.new_zeros([size] * (dims - 2) + [2 * reach + 1, columns])
        middle[..., block.start - inner.start : block.stop - inner.start, :] = part
    assert middle is not None  # a grid has at least its middle row
    middle = _transform_back(middle, -2, reach, wide, size)
    place = _around_origin(size, size // 2, wide, middle.device)
    voxels: Tensor = torch.fft.irfft(middle, n=wide).index_select(-1, place)
    return voxels


def _transform_back(part: Tensor, dim: int, reach: int, wide: int, size: int) -> Tensor:
    """Transform one axis back, from samples -reach ... reach of a wide box to the places of a smaller one."""
    spread = _spread(part, dim, _around_origin(2 * reach + 1, reach, wide, part.device), wide)
    place = _around_origin(size, size // 2, wide, part.device)
    found: Tensor = torch.fft.ifft(spread, dim=dim).index_select(dim, place)
    return found


def _around_origin(count: int, middle: int, wide: int, device: torch.device) -> Tensor:
    """Where samples ``-middle ... count - middle - 1`` stand on a periodic axis that begins at 0."""
    return (torch.arange(count, device=device) - middle) % wide


def _spread(values: Tensor, dim: int, place: Tensor, wide: int) -> Tensor:
    """Put the entries of one axis at their places on a wider one that is zero elsewhere."""
    shape = list(values.shape)
    shape[dim] = wide
    return values.new_zeros(shape).index_copy_(dim, place, values)
