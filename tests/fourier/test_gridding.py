"""Maps in oversampled grids against the transform of the whole wide box."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vitrea.fourier import gridding
from vitrea.fourier.gridding import grid_of_map, map_of_grid, row_blocks


def _wide_transform(voxels: np.ndarray, wide: int) -> np.ndarray:
    """Transform of the map in a box of zeros whose origin is the map's centre."""
    size, dims = voxels.shape[0], voxels.ndim
    box = np.zeros((wide,) * dims)
    inner = slice(wide // 2 - size // 2, wide // 2 - size // 2 + size)
    box[(inner,) * dims] = voxels
    return np.fft.fftn(np.fft.ifftshift(box))


@pytest.mark.parametrize(("size", "wide", "half"), [(8, 16, 6), (8, 16, 10), (9, 18, 7), (7, 7, 2), (9, 27, 12)])
@pytest.mark.parametrize("dims", [2, 3])
def test_grid_holds_the_transform_of_the_wide_box(
    dims: int, size: int, wide: int, half: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gridding, "SAMPLES_AT_ONCE", 100)  # several runs of rows
    voxels = np.random.default_rng(size).standard_normal((size,) * dims)
    grid = grid_of_map(torch.from_numpy(voxels), wide, half).numpy()
    axis = np.arange(-half, half + 1)
    expected = _wide_transform(voxels, wide)[np.ix_(*[axis % wide] * (dims - 1), axis[half:] % wide)]
    outside = [np.abs(axis) > wide // 2] * (dims - 1) + [axis[half:] > wide // 2]
    for number, beyond in enumerate(outside):
        expected[(slice(None),) * number + (beyond,)] = 0.0
    np.testing.assert_allclose(grid, expected, atol=1e-12 * np.abs(expected).max())


@pytest.mark.parametrize(("size", "wide", "half"), [(8, 16, 6), (8, 16, 10), (9, 18, 7), (7, 7, 2)])
@pytest.mark.parametrize("dims", [2, 3])
def test_the_way_back_is_that_of_the_wide_box(
    dims: int, size: int, wide: int, half: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gridding, "SAMPLES_AT_ONCE", 100)
    rng = np.random.default_rng(wide)
    grid = rng.standard_normal((2,) + (2 * half + 1,) * (dims - 1) + (half + 1,))
    grid = grid[0] + 1j * grid[1]
    whole = np.zeros((wide,) * (dims - 1) + (wide // 2 + 1,), dtype=complex)
    axis = np.arange(-half, half + 1)
    rows, columns = np.abs(axis) < (wide + 1) // 2, np.flatnonzero(axis[half:] <= wide // 2)
    whole[np.ix_(*[axis[rows] % wide] * (dims - 1), columns)] = grid[np.ix_(*[rows] * (dims - 1), columns)]
    box = np.fft.fftshift(np.fft.irfftn(whole, s=(wide,) * dims, axes=range(dims)))
    inner = slice(wide // 2 - size // 2, wide // 2 - size // 2 + size)
    tensor = torch.from_numpy(grid)
    found = map_of_grid(lambda rows: tensor[..., rows, :], half, wide, size, dims).numpy()
    np.testing.assert_allclose(found, box[(inner,) * dims], atol=1e-12)


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("half", [0, 3, 66, 400])
def test_runs_of_rows_cover_the_axis_once(half: int, dims: int) -> None:
    rows = np.concatenate([np.arange(2 * half + 1)[block] for block in row_blocks(half, dims)])
    np.testing.assert_array_equal(rows, np.arange(2 * half + 1))
