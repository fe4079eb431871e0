"""Central slices of a Fourier grid, and their adjoint.

A grid holds the half of a Hermitian 3D transform with x >= 0 as ``[z, y, x]``; sample (x, y, z) is at
``[z + half_z, y + half, x]``. Trilinear interpolation, as RELION does it (Scheres 2012, doi:10.1016/j.jsb.2012.09.006).
"""

from __future__ import annotations

import numba
import numpy as np
import torch
from numba import njit, prange
from torch import Tensor

# Numba checks signed indices for wrap-around; unsigned ones into flat arrays spare it that, which halves the time.
_ONE, _TWO, _THREE = np.uintp(1), np.uintp(2), np.uintp(3)


@njit(parallel=True, fastmath=True, error_model="numpy", cache=True)
def _project_numba(  # type: ignore[no-untyped-def]
    grid, rows, columns, half_z, half, matrices, coordinates, scale, out
) -> None:
    # `grid` is flat: real and imaginary parts alternate. A sample reads four runs of two neighbouring voxels.
    row, plane = np.uintp(2 * columns), np.uintp(2 * columns * rows)
    offset_y, offset_z, unit = np.float32(half), np.float32(half_z), np.float32(1.0)
    for m in prange(matrices.shape[0]):
        xx, xy, xz = matrices[m, 0, 0] * scale, matrices[m, 1, 0] * scale, matrices[m, 2, 0] * scale
        yx, yy, yz = matrices[m, 0, 1] * scale, matrices[m, 1, 1] * scale, matrices[m, 2, 1] * scale
        zx, zy, zz = matrices[m, 0, 2] * scale, matrices[m, 1, 2] * scale, matrices[m, 2, 2] * scale
        for j in range(coordinates.shape[0]):
            kx, ky, kz = coordinates[j, 0], coordinates[j, 1], coordinates[j, 2]
            x = xx * kx + xy * ky + xz * kz
            sign = -unit if x < 0 else unit
            x = x * sign
            y = (yx * kx + yy * ky + yz * kz) * sign + offset_y
            z = (zx * kx + zy * ky + zz * kz) * sign + offset_z
            x0, y0, z0 = np.int32(x), np.int32(y), np.int32(z)  # none is negative: truncation is the floor
            fx, fy, fz = x - np.float32(x0), y - np.float32(y0), z - np.float32(z0)
            gx = unit - fx
            a = np.uintp(z0) * plane + np.uintp(y0) * row + np.uintp(x0) * _TWO
            b, c = a + row, a + plane
            d = c + row
            re_a, im_a = gx * grid[a] + fx * grid[a + _TWO], gx * grid[a + _ONE] + fx * grid[a + _THREE]
            re_b, im_b = gx * grid[b] + fx * grid[b + _TWO], gx * grid[b + _ONE] + fx * grid[b + _THREE]
            re_c, im_c = gx * grid[c] + fx * grid[c + _TWO], gx * grid[c + _ONE] + fx * grid[c + _THREE]
            re_d, im_d = gx * grid[d] + fx * grid[d + _TWO], gx * grid[d + _ONE] + fx * grid[d + _THREE]
            re_ab, im_ab = re_a + fy * (re_b - re_a), im_a + fy * (im_b - im_a)
            re_cd, im_cd = re_c + fy * (re_d - re_c), im_c + fy * (im_d - im_c)
            out[m, j, 0] = re_ab + fz * (re_cd - re_ab)
            out[m, j, 1] = sign * (im_ab + fz * (im_cd - im_ab))


@njit(fastmath=True, error_model="numpy", cache=True)
def _add_row(grid, grid_weight, place, c, fx, re, im, w) -> None:  # type: ignore[no-untyped-def]
    """Add a sample, times `c`, to two neighbouring voxels."""
    c1 = c * fx
    c0 = c - c1
    twice = place * _TWO
    grid[twice] += c0 * re
    grid[twice + _ONE] += c0 * im
    grid[twice + _TWO] += c1 * re
    grid[twice + _THREE] += c1 * im
    grid_weight[place] += c0 * w
    grid_weight[place + _ONE] += c1 * w


@njit(parallel=True, fastmath=True, error_model="numpy", cache=True)
def _backproject_numba(  # type: ignore[no-untyped-def]
    slices, weights, rows, columns, half_z, half, matrices, coordinates, scale, owners, grid, grid_weight
) -> None:
    # Each owner adds to every `owners`-th plane only: no two threads meet, and each voxel receives its
    # contributions in the order of the slices whatever the number of threads.
    row, plane = np.uintp(columns), np.uintp(columns * rows)
    offset_y, offset_z, unit = np.float32(half), np.float32(half_z), np.float32(1.0)
    for owner in prange(owners):
        for m in range(matrices.shape[0]):
            xx, xy, xz = matrices[m, 0, 0] * scale, matrices[m, 1, 0] * scale, matrices[m, 2, 0] * scale
            yx, yy, yz = matrices[m, 0, 1] * scale, matrices[m, 1, 1] * scale, matrices[m, 2, 1] * scale
            zx, zy, zz = matrices[m, 0, 2] * scale, matrices[m, 1, 2] * scale, matrices[m, 2, 2] * scale
            for j in range(coordinates.shape[0]):
                kx, ky, kz = coordinates[j, 0], coordinates[j, 1], coordinates[j, 2]
                x = xx * kx + xy * ky + xz * kz
                sign = -unit if x < 0 else unit
                z = (zx * kx + zy * ky + zz * kz) * sign + offset_z
                z0 = np.int32(z)
                first, second = z0 % owners == owner, (z0 + 1) % owners == owner
                if not (first or second):
                    continue
                x = x * sign
                y = (yx * kx + yy * ky + yz * kz) * sign + offset_y
                x0, y0 = np.int32(x), np.int32(y)
                fx, fy, fz = x - np.float32(x0), y - np.float32(y0), z - np.float32(z0)
                re, im, w = slices[m, j, 0], sign * slices[m, j, 1], weights[m, j]
                a = np.uintp(z0) * plane + np.uintp(y0) * row + np.uintp(x0)
                if first:
                    _add_row(grid, grid_weight, a, (unit - fz) * (unit - fy), fx, re, im, w)
                    _add_row(grid, grid_weight, a + row, (unit - fz) * fy, fx, re, im, w)
                if second:
                    _add_row(grid, grid_weight, a + plane, fz * (unit - fy), fx, re, im, w)
                    _add_row(grid, grid_weight, a + plane + row, fz * fy, fx, re, im, w)


def _corners(
    grid_shape: tuple[int, int, int], half_z: int, half: int, matrices: Tensor, coordinates: Tensor, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Flat grid index and trilinear weight of the 8 neighbours of each sample, and which samples were conjugated.

    Returns tensors of shape [8, slices, samples], [8, slices, samples] and [slices, samples].
    """
    position = torch.einsum("mij,ni->mnj", matrices, coordinates) * scale
    flip = position[..., 0] < 0
    position = torch.where(flip[..., None], -position, position)
    base = torch.floor(position)
    fraction = position - base
    corner = base.to(torch.int64)
    indices, factors = [], []
    for number in range(8):
        dx, dy, dz = number & 1, (number >> 1) & 1, number >> 2
        x, y, z = corner[..., 0] + dx, corner[..., 1] + half + dy, corner[..., 2] + half_z + dz
        indices.append((z * grid_shape[1] + y) * grid_shape[2] + x)
        parts = [fraction[..., i] if d else 1 - fraction[..., i] for i, d in enumerate((dx, dy, dz))]
        factors.append(parts[0] * parts[1] * parts[2])
    return torch.stack(indices), torch.stack(factors), flip


def project_slices_torch(
    grid: Tensor,
    half_z: int,
    half: int,
    matrices: Tensor,
    coordinates: Tensor,
    scale: float,
    out: Tensor | None = None,
) -> Tensor:
    """Plain torch body of `project_slices`."""
    index, factor, flip = _corners(_shape3(grid), half_z, half, matrices, coordinates, scale)
    values = (grid.reshape(-1)[index] * factor).sum(dim=0)
    slices = torch.where(flip, values.conj(), values)
    return slices if out is None else out.copy_(slices)


def backproject_slices_torch(
    slices: Tensor,
    weights: Tensor,
    half_z: int,
    half: int,
    matrices: Tensor,
    coordinates: Tensor,
    scale: float,
    grid: Tensor,
    grid_weight: Tensor,
) -> None:
    """Plain torch body of `backproject_slices`."""
    index, factor, flip = _corners(_shape3(grid), half_z, half, matrices, coordinates, scale)
    values = torch.where(flip, slices.conj(), slices)
    grid.view(-1).index_add_(0, index.reshape(-1), (values * factor).reshape(-1))
    grid_weight.view(-1).index_add_(0, index.reshape(-1), (weights * factor).reshape(-1))


def project_slices(
    grid: Tensor,
    half_z: int,
    half: int,
    matrices: Tensor,
    coordinates: Tensor,
    scale: float = 1.0,
    out: Tensor | None = None,
) -> Tensor:
    """Sample a Fourier grid on rotated coordinates.

    Parameters
    ----------
    grid : Tensor of complex64, shape [z, y, x]
        Half (x >= 0) of a Hermitian transform; must reach one voxel beyond the largest scaled radius.
    half_z, half : int
        Index of z = 0 and of y = 0.
    matrices : Tensor of float32, shape [slices, 3, 3]
        Rotations A; sample k of slice m is taken at ``A_m^T k * scale``.
    coordinates : Tensor of float32, shape [samples, 3]
        Fourier index (x, y, z) of each sample.
    scale : float
        Grid voxels per Fourier pixel (the padding factor).
    out : Tensor of complex64, shape [slices, samples], optional
        Receives the result.

    Returns
    -------
    Tensor of complex64, shape [slices, samples]
    """
    if grid.device.type != "cpu" or grid.dtype != torch.complex64:
        return project_slices_torch(grid, half_z, half, matrices, coordinates, scale, out)
    if out is None:
        out = torch.empty((len(matrices), len(coordinates)), dtype=torch.complex64)
    _project_numba(
        torch.view_as_real(grid.contiguous()).view(-1).numpy(),
        grid.shape[1],
        grid.shape[2],
        half_z,
        half,
        matrices.contiguous().numpy(),
        coordinates.contiguous().numpy(),
        np.float32(scale),
        torch.view_as_real(out).numpy(),
    )
    return out


def backproject_slices(
    slices: Tensor,
    weights: Tensor,
    half_z: int,
    half: int,
    matrices: Tensor,
    coordinates: Tensor,
    scale: float,
    grid: Tensor,
    grid_weight: Tensor,
) -> None:
    """Add slices and their weights into a Fourier grid, in place: the adjoint of `project_slices`.

    Parameters
    ----------
    slices : Tensor of complex64, shape [slices, samples]
    weights : Tensor of float32, shape [slices, samples]
    half_z, half, matrices, coordinates, scale
        As in `project_slices`.
    grid : Tensor of complex64, shape [z, y, x]
        Receives the slices.
    grid_weight : Tensor of float32, shape [z, y, x]
        Receives the weights.
    """
    if grid.device.type != "cpu" or grid.dtype != torch.complex64:
        backproject_slices_torch(slices, weights, half_z, half, matrices, coordinates, scale, grid, grid_weight)
        return
    _backproject_numba(
        torch.view_as_real(slices.contiguous()).numpy(),
        weights.contiguous().numpy(),
        grid.shape[1],
        grid.shape[2],
        half_z,
        half,
        matrices.contiguous().numpy(),
        coordinates.contiguous().numpy(),
        np.float32(scale),
        numba.get_num_threads(),
        torch.view_as_real(grid).view(-1).numpy(),
        grid_weight.view(-1).numpy(),
    )


def _shape3(grid: Tensor) -> tuple[int, int, int]:
    z, y, x = grid.shape
    return z, y, x
