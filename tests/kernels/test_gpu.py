"""The plain torch bodies on a CUDA device give what the compiled loops give on the CPU."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from vitrea.fourier.packed import packed_samples
from vitrea.kernels.posterior import normalise_dense, normalise_rows, significant_orientations
from vitrea.kernels.project import backproject_slices
from vitrea.kernels.rows import accumulate_rows, correlate_rows, sum_by_particle
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


def _everywhere(*tensors: torch.Tensor) -> list[list[torch.Tensor]]:
    """Copies on the CPU and on the GPU."""
    return [[one.clone().to(device) for one in tensors] for device in ("cpu", "cuda")]


def _uniform(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).uniform(0.1, 1.0, shape).astype(np.float32))


def _complex(*shape: int, seed: int = 2) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    return torch.from_numpy((rng.standard_normal(shape) + 1j * rng.standard_normal(shape)).astype(np.complex64))


def test_posterior_weights() -> None:
    """All probability kept: then sorting and the histogram keep the same poses, down to weights of 1e-13."""
    rng = np.random.default_rng(3)
    scores = torch.from_numpy((8 * rng.standard_normal((5, 7, 60)) + 100).astype(np.float32))
    priors = -_uniform(60, seed=4), -_uniform(5, 7, seed=5)
    for fraction in (0.9, 1.0):
        weights, results = [], []
        for values, power, log_orientation, log_shift in _everywhere(scores, _uniform(5, 60), *priors):
            results.append(normalise_dense(values, power, log_orientation, log_shift, fraction))
            weights.append(values.cpu())
        both = (weights[0] > 0) & (weights[1] > 0)
        assert both.any(dim=2).any(dim=1).all()
        torch.testing.assert_close(weights[0][both], weights[1][both], rtol=1e-3, atol=0)
        assert float((weights[0] - weights[1]).abs().sum(dim=(1, 2)).max()) < 1.0 - fraction + 1e-4
        for name in ("best_row", "best_shift"):
            assert torch.equal(results[0][name], results[1][name])
        for name in ("evidence", "top"):
            torch.testing.assert_close(results[0][name], results[1][name], rtol=1e-4, atol=1e-4)
        assert all(value.device.type == "cpu" for value in results[1].values())
    flags = []
    for values, power, log_orientation, log_shift in _everywhere(scores, _uniform(5, 60), *priors):
        flags.append(significant_orientations(values, power, log_orientation, log_shift, 0.99, 0.1)[0].cpu())
    assert ((flags[0] - flags[1]) >= 0).all()  # the histogram may keep a few more
    assert flags[1].any(dim=1).all()


def test_rows() -> None:
    rng = np.random.default_rng(6)
    orientation = torch.from_numpy(np.sort(rng.integers(4, size=30)))
    particle = torch.from_numpy(rng.integers(5, size=30))
    first = torch.from_numpy(np.searchsorted(orientation.numpy(), np.arange(5)))
    projections, images = _complex(4, 20), _complex(5, 20, seed=7)
    shell = torch.from_numpy(np.sort(rng.integers(6, size=20)))
    found = []
    for p, o, x, w, i in _everywhere(projections, orientation, images, _uniform(5, 20), particle):
        found.append([part.cpu() for part in correlate_rows(p, o, x, w, i)])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)
    found = []
    ramps, mass, ctf, precision = (
        _complex(30, 20, seed=8),
        _uniform(30),
        _uniform(5, 20, seed=9),
        _uniform(5, 20, seed=10),
    )
    for r, m, f, p, i, x, u, c, v, s in _everywhere(
        ramps, mass, first, projections, particle, images, images * 1j, ctf, precision, shell
    ):
        found.append([part.cpu() for part in accumulate_rows(r, m, f, p, i, x, u, c, v, s, 7)])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-3)
    totals = []
    for values, i in _everywhere(_uniform(30, 7), particle):
        total = torch.zeros(5, 7, dtype=torch.float64, device=values.device)
        sum_by_particle(values, i, total)
        totals.append(total.cpu())
    torch.testing.assert_close(*totals)
    weights = []
    for values, _ in _everywhere(10 * _uniform(30, 7), particle):
        order = torch.argsort(particle, stable=True)
        bounds = torch.from_numpy(np.searchsorted(particle[order].numpy(), np.arange(6)))
        normalise_rows(values, order, bounds, 1.0)
        weights.append(values.cpu())
    torch.testing.assert_close(*weights, rtol=1e-4, atol=1e-6)
