"""The plain torch bodies on a CUDA device give what the compiled loops give on the CPU."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from vitrea.fourier.packed import packed_samples
from vitrea.kernels.project import backproject_slices
from vitrea.matching.reference import reference_from_map

pytestmark = pytest.mark.gpu


def test_project_and_backproject() -> None:
    rng = np.random.default_rng(1)
    samples = packed_samples(24, 11)
    voxels = torch.from_numpy(rng.standard_normal((24, 24, 24)).astype(np.float32))
    matrices = torch.from_numpy(Rotation.random(20, random_state=1).as_matrix().astype(np.float32))
    found = []
    for device in (torch.device("cpu"), torch.device("cuda")):
        reference = reference_from_map(voxels.to(device), 11)
        slices = reference.project(matrices.to(device), samples)
        grid, weight = torch.zeros_like(reference.grid), torch.zeros(reference.grid.shape, device=device)
        coordinates = torch.from_numpy(samples.coordinates).to(device)
        ones = torch.ones(slices.shape, device=device)
        half_z, half = reference.half_z, reference.half
        backproject_slices(slices, ones, half_z, half, matrices.to(device), coordinates, 2.0, grid, weight)
        found.append([tensor.cpu() for tensor in (slices, grid, weight)])
    # Sums in another order, float32.
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-3)
