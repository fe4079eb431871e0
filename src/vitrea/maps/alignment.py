"""Finding the rotation, shift and hand that bring one map onto another.

A search in two stages. First, both maps at low resolution in a small box: every rotation of an even grid is tried, in
both hands, and the best shift of each comes from one Fourier transform of the cross-correlation. Then the best
candidates are refined at rising resolution by gradient ascent (L-BFGS) of the real-space correlation.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.spatial.transform import Rotation
from torch import Tensor

from vitrea.fourier.filters import invert_hand, lowpass
from vitrea.fourier.transforms import resample
from vitrea.maps.half_maps import as_tensor
from vitrea.maps.transform import Placement, rotate_batch
from vitrea.records.recorder import Recorder, SilentRecorder

Floats = NDArray[np.floating[Any]]

_COARSE_BOX = 20
_COARSE_STEP = 18.0
_MIDDLE_BOX = 40
_BATCH = 48
_CANDIDATES = 8


@dataclass(frozen=True)
class Alignment:
    """How a moving map is placed onto a fixed one, and their correlation there at the resolution of the search."""

    placement: Placement
    correlation: float


def align_maps(
    moving: Floats,
    fixed: Floats,
    voxel_size: float,
    *,
    resolution: float = 0.0,
    try_both_hands: bool = True,
    start: Placement | None = None,
    recorder: Recorder | None = None,
) -> Alignment:
    """Find the placement that brings one map onto another.

    Parameters
    ----------
    moving, fixed : ndarray, shape [n, n, n]
        Same box and voxel size.
    voxel_size : float
        Å.
    resolution : float
        Å to which the maps are compared in the last stage; 0 for three voxels, but no finer than 6 Å.
    try_both_hands : bool
        Whether the mirror image of the moving map is searched too.
    start : Placement, optional
        Refine from here instead of searching all rotations.
    recorder : Recorder, optional
        Told of the progress.

    Returns
    -------
    Alignment

    Raises
    ------
    ValueError
        If the boxes differ, or a map is constant.
    """
    if moving.shape != fixed.shape:
        raise ValueError(f"maps differ in shape: {moving.shape} and {fixed.shape}")
    recorder = recorder or SilentRecorder()
    finest = resolution or max(3.0 * voxel_size, 6.0)
    tensors = as_tensor(moving).float(), as_tensor(fixed).float()
    if any(float(tensor.std()) == 0.0 for tensor in tensors):
        raise ValueError("a map is constant, so there is nothing to align")
    found = [Alignment(start, 0.0)] if start else _search(*tensors, try_both_hands, recorder)
    size = fixed.shape[-1]
    for box, keep in ((min(_COARSE_BOX, size), 3), (min(_MIDDLE_BOX, size), 1), (min(size, 128), 1)):
        extent = size * voxel_size
        limit = max(finest, 3.0 * extent / box)
        pair = _Pair.prepare(*tensors, voxel_size, box, limit)
        recorder.stage(f"refining to {limit:.1f} Å", len(found), "candidates")
        refined = []
        for candidate in found:
            refined.append(pair.refine(candidate.placement))
            recorder.advance()
        found = _distinct(refined)[:keep]
    return found[0]


@dataclass(frozen=True)
class _Pair:
    """Two maps made ready for comparison in a box of their own; shifts are counted in voxels of the full box."""

    moving: Tensor
    mirrored: Tensor
    fixed: Tensor
    voxels_per_voxel: float

    @classmethod
    def prepare(cls, moving: Tensor, fixed: Tensor, voxel_size: float, box: int, resolution: float) -> _Pair:
        size = fixed.shape[-1]
        small = [resample(lowpass(volume, resolution, voxel_size), box, 3) for volume in (moving, fixed)]
        return cls(small[0], invert_hand(small[0]), _standardise(small[1]), size / box)

    def refine(self, placement: Placement) -> Alignment:
        """Climb to the nearest maximum of the correlation."""
        source = self.mirrored if placement.mirrored else self.moving
        reach = source.shape[-1] / 2  # radians times this are voxels, so all six parameters weigh alike

        def loss(parameters: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
            vector = torch.tensor(parameters, dtype=torch.float32, requires_grad=True)
            turn = _rotation_from_vector(vector[:3] / reach) @ torch.tensor(placement.rotation, dtype=torch.float32)
            shift = vector[3:] + torch.tensor(placement.shift / self.voxels_per_voxel, dtype=torch.float32)
            turned = rotate_batch(source, turn[None], shift[None])[0]
            correlation = (_standardise(turned) * self.fixed).mean()
            (-correlation).backward()  # type: ignore[no-untyped-call]
            assert vector.grad is not None
            return -float(correlation.detach()), vector.grad.double().numpy()

        best = minimize(loss, np.zeros(6), jac=True, method="L-BFGS-B", options={"maxiter": 40, "ftol": 1e-6})
        turn = Rotation.from_rotvec(best.x[:3] / reach).as_matrix() @ placement.rotation
        shift = placement.shift + best.x[3:] * self.voxels_per_voxel
        return Alignment(replace(placement, rotation=turn, shift=shift), -float(best.fun))


def _search(moving: Tensor, fixed: Tensor, try_both_hands: bool, recorder: Recorder) -> list[Alignment]:
    """Try every rotation of the coarse grid, with the best shift of each; the best few, distinct ones."""
    size = fixed.shape[-1]
    box = min(_COARSE_BOX, size)
    # Voxels of 1 Å here: only ratios matter in the coarse stage.
    pair = _Pair.prepare(moving, fixed, 1.0, box, 3.0 * size / box)
    reference = torch.fft.rfftn(pair.fixed)
    rotations = torch.from_numpy(rotation_grid(_COARSE_STEP))
    found: list[Alignment] = []
    hands = (False, True) if try_both_hands else (False,)
    recorder.stage("searching rotations", len(rotations) * len(hands), "rotations")
    for mirrored in hands:
        source = pair.mirrored if mirrored else pair.moving
        for chunk in torch.split(rotations, _BATCH):
            turned = rotate_batch(source, chunk.float(), torch.zeros(len(chunk), 3))
            product = torch.fft.rfftn(_standardise(turned), dim=(1, 2, 3)).conj() * reference
            scores = torch.fft.irfftn(product, s=(box,) * 3, dim=(1, 2, 3))
            best, where = scores.reshape(len(chunk), -1).max(dim=1)
            for rotation, score, index in zip(chunk.numpy(), best.tolist(), where.tolist(), strict=True):
                offset = np.array(np.unravel_index(index, (box,) * 3)[::-1], dtype=np.float64)
                offset -= box * (offset > box // 2)
                placement = Placement(rotation, offset * size / box, mirrored)
                found.append(Alignment(placement, score / box**3))
            recorder.advance(len(chunk))
    return _distinct(found)[:_CANDIDATES]


def rotation_grid(step: float) -> NDArray[np.float64]:
    """Return rotations spread evenly over all orientations.

    Parameters
    ----------
    step : float
        Approximate spacing in degrees.

    Returns
    -------
    ndarray, shape [rotations, 3, 3]
        A Fibonacci spiral of directions, each with evenly spaced turns about it, staggered from one direction to the
        next.
    """
    directions = int(np.ceil(4.0 * np.pi / np.radians(step) ** 2))
    turns = int(np.ceil(360.0 / step))
    index = np.arange(directions) + 0.5
    tilt = np.arccos(1.0 - 2.0 * index / directions)
    golden = np.pi * (1.0 + np.sqrt(5.0)) * index
    psi = (np.arange(turns)[None, :] + (0.618034 * np.arange(directions)[:, None]) % 1.0) * (2.0 * np.pi / turns)
    angles = np.stack(np.broadcast_arrays(golden[:, None], tilt[:, None], psi), axis=-1).reshape(-1, 3)
    matrices: NDArray[np.float64] = Rotation.from_euler("ZYZ", angles).as_matrix()
    return matrices


def _distinct(alignments: list[Alignment], degrees: float = 12.0) -> list[Alignment]:
    """Sort by correlation and drop those near a better one of the same hand."""
    kept: list[Alignment] = []
    for candidate in sorted(alignments, key=lambda item: -item.correlation)[: 20 * _CANDIDATES]:
        near = (
            other.placement.mirrored == candidate.placement.mirrored
            and np.trace(other.placement.rotation.T @ candidate.placement.rotation)
            > 1 + 2 * np.cos(np.radians(degrees))
            for other in kept
        )
        if not any(near):
            kept.append(candidate)
    return kept


def _standardise(volumes: Tensor) -> Tensor:
    """Bring the last three axes to mean 0 and variance 1."""
    axes = (-3, -2, -1)
    centred = volumes - volumes.mean(dim=axes, keepdim=True)
    return centred / centred.square().mean(dim=axes, keepdim=True).sqrt().clamp_min(1e-20)


def _rotation_from_vector(vector: Tensor) -> Tensor:
    """Turn a rotation vector (radians) into a matrix, differentiably, also at zero."""
    zero = torch.zeros((), dtype=vector.dtype)
    x, y, z = vector
    skew = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero]).reshape(3, 3)
    return torch.matrix_exp(skew)
