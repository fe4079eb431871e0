"""Projections of references against projections known in closed form."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from vitrea.fourier.packed import packed_samples
from vitrea.fourier.transforms import to_fourier
from vitrea.geometry.euler import euler_to_matrix
from vitrea.geometry.sampling import planar_grid
from vitrea.matching.reference import ReferenceSet, class_runs, reference_from_map


def _relative_errors(found: NDArray[Any], truth: NDArray[Any]) -> NDArray[np.float64]:
    return np.asarray(np.linalg.norm(found - truth, axis=1) / np.linalg.norm(truth, axis=1))


def _project(voxels: NDArray[np.float32], matrices: NDArray[np.float64], padding: int, radius: int) -> NDArray[Any]:
    reference = reference_from_map(torch.from_numpy(voxels), radius, padding)
    samples = packed_samples(voxels.shape[-1], radius)
    return reference.project(torch.from_numpy(matrices.astype(np.float32)), samples).numpy()


@pytest.mark.parametrize("size", [32, 31])
def test_projections_are_those_of_the_particle(size: int, lopsided: Any) -> None:
    """Trilinear interpolation between samples of a padded transform.

    Its error grows with (distance from the centre / padded box)²: for a particle that fills half the box and padding 2,
    the known size is one to two percent of the signal, and 2.25 times less with padding 3.
    """
    matrices = Rotation.random(20, random_state=1).as_matrix()
    radius = size // 2 - 1
    index = packed_samples(size, radius).index
    truth = lopsided.transforms(size, matrices).reshape(len(matrices), -1)[:, index]
    double, triple = (_relative_errors(_project(lopsided.map(size), matrices, p, radius), truth) for p in (2, 3))
    assert double.max() < 0.03
    assert double.mean() < 0.02
    assert triple.mean() < double.mean() / 2


@pytest.mark.parametrize("size", [24, 25])
def test_projection_along_z_is_the_sum_over_z(size: int, lopsided: Any) -> None:
    """On grid points nothing is interpolated, but the correction 1/sinc² is there: (pi r / 2n)² / 3 = 2% at r = n/6."""
    small = type(lopsided)(lopsided.points * 0.4, lopsided.heights, lopsided.width)
    voxels = small.map(size)
    samples = packed_samples(size, size // 2)
    flat = samples.gather(to_fourier(torch.from_numpy(voxels.sum(axis=0)[None]))).numpy()
    assert _relative_errors(_project(voxels, np.eye(3)[None], 2, size // 2), flat).max() < 0.02


def test_turn_in_plane_turns_the_image(lopsided: Any) -> None:
    """At (0, 0, psi) a point at (x, y) is seen at (x cos psi + y sin psi, y cos psi - x sin psi)."""
    angle = 37.0
    single = type(lopsided)(np.array([[4.0, 1.0, 2.0]]), np.ones(1), 1.5)
    packed = _project(single.map(32), euler_to_matrix([[0.0, 0.0, angle]]), 2, 12)
    c, s = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    turned = type(lopsided)(np.array([[4 * c + s, c - 4 * s, 0.0]]), np.ones(1), 1.5)
    truth = turned.transforms(32, np.eye(3)[None]).reshape(1, -1)[:, packed_samples(32, 12).index]
    assert _relative_errors(packed, truth).max() < 0.02


@pytest.mark.parametrize("size", [32, 31])
def test_class_averages_turn_in_their_plane(size: int, lopsided: Any) -> None:
    """A 2D reference is projected by turning it: the image of the turned particle, known in closed form."""
    grid = planar_grid(25.0, perturbation=0.3)
    number = np.arange(len(grid.psi))
    matrices = grid.matrices(np.zeros_like(number), number, 0)
    average = lopsided.images(lopsided.transforms(size, np.eye(3)[None]), size)[0]
    found = _project(average, matrices, 2, size // 2 - 1)
    index = packed_samples(size, size // 2 - 1).index
    truth = lopsided.transforms(size, matrices).reshape(len(matrices), -1)[:, index]
    assert _relative_errors(found, truth).max() < 0.03
    assert _relative_errors(found[1:], truth[:-1]).min() > 0.3  # neighbouring angles are told apart


def test_sub_tomograms_are_rotated_maps(lopsided: Any) -> None:
    """Samples with z: the transform of the map itself, turned about one axis by 90 degrees is a swap of axes."""
    size, radius = 24, 8
    voxels = lopsided.map(size)
    samples = packed_samples(size, radius, 3)
    reference = reference_from_map(torch.from_numpy(voxels), radius, 2)
    quarter = Rotation.from_euler("x", 90, degrees=True).as_matrix().astype(np.float32)[None]
    found = reference.project(torch.from_numpy(quarter), samples).numpy() / np.sqrt(size)
    turned = type(lopsided)(lopsided.points @ quarter[0].T, lopsided.heights, lopsided.width)
    truth = samples.gather(to_fourier(torch.from_numpy(turned.map(size)[None]), 3)).numpy()
    assert _relative_errors(found, truth).max() < 0.06  # on grid points the error of padding 2 is at its largest


def test_samples_beyond_the_reference_are_refused(lopsided: Any) -> None:
    reference = reference_from_map(torch.from_numpy(lopsided.map(24)), 5)
    with pytest.raises(ValueError, match="samples reach radius 6, the reference only 5"):
        reference.project(torch.eye(3)[None], packed_samples(24, 6))


@pytest.mark.parametrize("dims", [2, 3])
def test_each_class_is_projected_from_its_own_reference(dims: int) -> None:
    size, radius = 16, 6
    rng = np.random.default_rng(4)
    voxels = torch.from_numpy(rng.standard_normal((3, *(size,) * dims)).astype(np.float32))
    members = tuple(reference_from_map(one, radius) for one in voxels)
    eulers = rng.uniform(0, 180, (5, 3)) * ([0, 0, 1] if dims == 2 else [1, 1, 1])
    matrices = torch.from_numpy(euler_to_matrix(eulers).astype(np.float32))
    samples = packed_samples(size, radius)
    classes = np.array([0, 0, 2, 2, 2])  # class 1 has none
    found = ReferenceSet(members).project(classes, matrices, samples)
    for row, number in enumerate(classes):
        alone = members[number].project(matrices[row : row + 1], samples)
        assert torch.equal(found[row : row + 1], alone)
        other = members[1].project(matrices[row : row + 1], samples)
        assert not torch.allclose(alone, other, atol=0.1)
    assert ReferenceSet(members).device == voxels.device


def test_runs_of_classes() -> None:
    def runs(*classes: int) -> list[tuple[int, int, int]]:
        return [(number, where.start, where.stop) for number, where in class_runs(np.array(classes, dtype=np.int64))]

    assert runs(0, 0, 2, 3, 3) == [(0, 0, 2), (2, 2, 3), (3, 3, 5)]
    assert runs(4) == [(4, 0, 1)]
    assert runs() == []
