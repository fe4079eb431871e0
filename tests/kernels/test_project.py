"""Projection and its adjoint: the compiled bodies against float64 torch, the dot-product test, threads."""

from __future__ import annotations

import numba
import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor

from vitrea.fourier.packed import PackedSamples, packed_samples
from vitrea.kernels.project import (
    backproject_slices,
    backproject_slices_torch,
    project_slices,
    project_slices_torch,
)

# What is sampled: name, dimensions of the particle, dimensions of the reference.
CASES = {"image of a map": (2, 3), "image of a class average": (2, 2), "sub-tomogram of a map": (3, 3)}


class Scene:
    """A random Hermitian grid and random rotations, in float64."""

    def __init__(self, particle: int, reference: int, padding: float = 2.0, radius: int = 6) -> None:
        rng = np.random.default_rng(3)
        self.samples: PackedSamples = packed_samples(16, radius, particle)
        self.padding, self.half = padding, int(padding * radius) + 2
        self.half_z = self.half if reference == 3 else 0
        depth = 2 * self.half + 1 if reference == 3 else 2
        shape = (depth, 2 * self.half + 1, self.half + 1)
        grid = rng.standard_normal(shape) + 1j * rng.standard_normal(shape)
        # The plane x = 0 holds both mates of each pair: only a grid that is Hermitian there is continuous across it.
        planes = (0, 1) if reference == 3 else (1,)
        grid[:, :, 0] = 0.5 * (grid[:, :, 0] + np.conj(np.flip(grid[:, :, 0], planes)))
        self.grid = torch.from_numpy(grid)
        if reference == 2:
            self.grid[1] = 0
            turns = Rotation.from_euler("z", rng.uniform(0, 360, (7, 1)), degrees=True)
        else:
            turns = Rotation.random(7, random_state=4)
        self.matrices = torch.from_numpy(turns.as_matrix())
        slices = rng.standard_normal((7, len(self.samples))) + 1j * rng.standard_normal((7, len(self.samples)))
        self.slices = torch.from_numpy(slices)
        self.weights = torch.from_numpy(rng.uniform(0, 2, size=slices.shape))

    def coordinates(self, dtype: torch.dtype) -> Tensor:
        return torch.from_numpy(self.samples.coordinates).to(dtype)

    def project(self) -> Tensor:
        return project_slices(
            self.grid.to(torch.complex64),
            self.half_z,
            self.half,
            self.matrices.float(),
            self.coordinates(torch.float32),
            self.padding,
        )

    def backproject(self) -> tuple[Tensor, Tensor]:
        grid, weight = torch.zeros(self.grid.shape, dtype=torch.complex64), torch.zeros(self.grid.shape)
        backproject_slices(
            self.slices.to(torch.complex64),
            self.weights.float(),
            self.half_z,
            self.half,
            self.matrices.float(),
            self.coordinates(torch.float32),
            self.padding,
            grid,
            weight,
        )
        return grid, weight


@pytest.fixture(params=list(CASES))
def scene(request: pytest.FixtureRequest) -> Scene:
    return Scene(*CASES[request.param])


# Coordinates up to 12 voxels are rounded to 1e-6 in float32, and a random grid changes by a few units from
# voxel to voxel: differences of 1e-5 are rounding, an error in the interpolation would be of order 1.
ROUNDING = 1e-4


def test_compiled_projection_agrees_with_float64(scene: Scene) -> None:
    truth = project_slices_torch(
        scene.grid, scene.half_z, scene.half, scene.matrices, scene.coordinates(torch.float64), scene.padding
    )
    assert truth.dtype == torch.complex128
    np.testing.assert_allclose(scene.project().numpy(), truth.numpy(), atol=ROUNDING)


def test_compiled_backprojection_agrees_with_float64(scene: Scene) -> None:
    grid, weight = torch.zeros_like(scene.grid), torch.zeros(scene.grid.shape, dtype=torch.float64)
    backproject_slices_torch(
        scene.slices,
        scene.weights,
        scene.half_z,
        scene.half,
        scene.matrices,
        scene.coordinates(torch.float64),
        scene.padding,
        grid,
        weight,
    )
    data, total = scene.backproject()
    np.testing.assert_allclose(data.numpy(), grid.numpy(), atol=ROUNDING)
    np.testing.assert_allclose(total.numpy(), weight.numpy(), atol=ROUNDING)
    assert float(total.sum()) == pytest.approx(float(scene.weights.sum()), rel=1e-5)  # trilinear weights sum to 1


def test_backprojection_is_the_adjoint_of_projection(scene: Scene) -> None:
    """<P g, s> = <g, P* s> as real inner products (a conjugated sample makes P linear over the reals only)."""
    projected, (grid, _) = scene.project(), scene.backproject()
    left = float((projected.to(torch.complex128).conj() * scene.slices).real.sum())
    right = float((scene.grid.conj() * grid.to(torch.complex128)).real.sum())
    size = float(projected.abs().double().norm() * scene.slices.abs().norm())
    assert abs(left - right) < 1e-6 * size  # float32 rounding; the products themselves are summed in float64
    assert abs(left) > 1e-3 * size  # so that agreement is not that of two zeros


def test_projection_of_a_linear_ramp_is_exact() -> None:
    """Trilinear interpolation reproduces a function that is linear in each coordinate: here y and z times i."""
    scene = Scene(2, 3)
    z, y, _ = torch.meshgrid(*(torch.arange(n, dtype=torch.float64) for n in scene.grid.shape), indexing="ij")
    scene.grid = 1j * ((y - scene.half) + 3 * (z - scene.half_z))  # odd, so Hermitian
    points = torch.einsum("mij,ni->mnj", scene.matrices, scene.coordinates(torch.float64)) * scene.padding
    expected = points[..., 1] + 3 * points[..., 2]
    np.testing.assert_allclose(scene.project().imag.numpy(), expected.numpy(), atol=1e-4)
    np.testing.assert_allclose(scene.project().real.numpy(), 0, atol=1e-6)


def test_scale_stretches_the_slice() -> None:
    scene = Scene(2, 3)
    wide = scene.project()
    scene.padding = 1.0
    narrow = scene.project()
    assert not torch.allclose(wide, narrow)
    scene.samples = scene.samples.prefix(3)
    doubled = scene.coordinates(torch.float32) * 2
    direct = project_slices(
        scene.grid.to(torch.complex64), scene.half_z, scene.half, scene.matrices.float(), doubled, 1.0
    )
    scene.padding = 2.0
    np.testing.assert_allclose(scene.project().numpy(), direct.numpy(), atol=ROUNDING)


@pytest.mark.skipif(numba.config.NUMBA_NUM_THREADS < 2, reason="one thread only")
def test_results_do_not_depend_on_the_number_of_threads(scene: Scene) -> None:
    before = numba.get_num_threads()
    results = []
    try:
        for threads in (1, 2):
            numba.set_num_threads(threads)
            results.append((scene.project(), *scene.backproject()))
    finally:
        numba.set_num_threads(before)
    for one, two in zip(*results, strict=True):
        assert torch.equal(one, two)
