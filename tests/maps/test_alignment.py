"""Alignment finds placements it is not told."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from vitrea.geometry.euler import angular_distance
from vitrea.maps.alignment import align_maps, rotation_grid
from vitrea.maps.comparison import compare_maps, smallest_turn
from vitrea.maps.masking import sphere_mask
from vitrea.maps.transform import Placement, place_map, symmetrise

VOXEL = 3.0


def noisy(density: NDArray[np.float32], seed: int, level: float = 0.5) -> NDArray[np.float32]:
    """Add white noise of half the density's standard deviation."""
    noise = np.random.default_rng(seed).normal(0, level * density.std(), density.shape)
    return (density + noise).astype(np.float32)


@pytest.mark.parametrize("mirrored", [pytest.param(False, marks=pytest.mark.slow), True])
def test_a_random_placement_is_found(molecule: NDArray[np.float32], mirrored: bool) -> None:
    true = Placement(Rotation.random(random_state=4 + mirrored).as_matrix(), np.array([1.7, -2.2, 0.9]), mirrored)
    found = align_maps(noisy(molecule, 1), noisy(place_map(molecule, true), 2), VOXEL).placement
    assert found.mirrored == mirrored
    # Displacements of a tenth of a voxel at the particle's radius of 9 voxels are 0.6 degrees.
    assert float(angular_distance(found.rotation, true.rotation)) < 0.6
    assert np.abs(found.shift - true.shift).max() < 0.1


@pytest.mark.slow
def test_without_the_other_hand_a_mirror_image_fits_worse(molecule: NDArray[np.float32]) -> None:
    mirror = place_map(molecule, Placement(np.eye(3), np.zeros(3), mirrored=True))
    both = align_maps(molecule, mirror, VOXEL)
    one = align_maps(molecule, mirror, VOXEL, try_both_hands=False)
    assert both.placement.mirrored
    assert not one.placement.mirrored
    assert one.correlation < both.correlation - 0.1


def test_refining_from_a_start_skips_the_search(molecule: NDArray[np.float32]) -> None:
    true = Placement(Rotation.from_rotvec([0.0, 0.7, 0.2]).as_matrix(), np.array([0.4, 0.0, -0.6]))
    fixed = place_map(molecule, true)
    near = Placement(Rotation.from_rotvec([0.05, 0.6, 0.2]).as_matrix(), np.zeros(3))
    found = align_maps(molecule, fixed, VOXEL, start=near)
    assert float(angular_distance(found.placement.rotation, true.rotation)) < 0.3
    # From the other side of the rotation group only a local maximum can be reached.
    far = align_maps(molecule, fixed, VOXEL, start=Placement(np.diag([-1.0, -1.0, 1.0]), np.zeros(3)))
    assert far.correlation < found.correlation - 0.1
    coarse = align_maps(molecule, fixed, VOXEL, start=near, resolution=25.0)
    assert coarse.correlation > found.correlation


def test_maps_that_cannot_be_aligned_are_refused(molecule: NDArray[np.float32]) -> None:
    with pytest.raises(ValueError, match="differ in shape"):
        align_maps(molecule, molecule[:-1, :-1, :-1], VOXEL)
    with pytest.raises(ValueError, match="constant"):
        align_maps(molecule, np.zeros_like(molecule), VOXEL)


def test_the_grid_of_rotations_leaves_no_gaps() -> None:
    grid = rotation_grid(30.0)
    probes = Rotation.random(200, random_state=1).as_matrix()
    nearest = np.array([angular_distance(grid, probe).min() for probe in probes])
    assert nearest.max() < 30.0
    assert len(rotation_grid(15.0)) > 6 * len(grid)


def test_maps_compared_as_they_are(molecule: NDArray[np.float32]) -> None:
    result = compare_maps(molecule, molecule, VOXEL)
    assert np.allclose(result.fsc, 1.0)
    assert result.correlation == pytest.approx(1.0)
    assert result.resolution_at(0.5) == pytest.approx(2 * VOXEL)
    assert not result.aligned
    shifted = place_map(molecule, Placement(np.eye(3), np.array([3.0, 0.0, 0.0])))
    assert compare_maps(shifted, molecule, VOXEL).correlation < 0.6


def test_a_mask_confines_the_comparison(molecule: NDArray[np.float32]) -> None:
    outside = 1 - sphere_mask(32, 12.0)
    spoiled = molecule + (outside * np.random.default_rng(0).normal(0, 1, outside.shape)).astype(np.float32)
    assert compare_maps(spoiled, molecule, VOXEL).correlation < 0.5
    inside = compare_maps(spoiled, molecule, VOXEL, mask=sphere_mask(32, 12.0))
    assert inside.correlation > 0.999
    assert inside.resolution_at(0.143) == pytest.approx(2 * VOXEL)


def test_aligned_maps_agree_and_symmetry_chooses_the_smallest_turn(molecule: NDArray[np.float32]) -> None:
    operators = Rotation.from_euler("z", [[0], [120], [240]], degrees=True).as_matrix()
    threefold = symmetrise(molecule, operators)
    true = Placement(Rotation.from_rotvec([0.1, 0.0, np.radians(100.0)]).as_matrix(), np.array([1.0, 0.5, 0.0]))
    fixed = place_map(threefold, true)
    result = compare_maps(threefold, fixed, VOXEL, align=True, symmetry="C3", try_both_hands=False)
    assert result.aligned
    assert result.correlation > 0.999
    # Beyond shell 9 of 16 the blobs hold next to nothing.
    assert result.fsc[:10].min() > 0.98
    # Of turns by 100, -20 and -140 degrees about z the second is the smallest.
    assert result.placement.angle == pytest.approx(20.8, abs=1.0)


def test_the_smallest_turn_of_a_mirrored_map_uses_mirrored_operators() -> None:
    turn = Rotation.from_rotvec([0.2, 0.1, 0.0]).as_matrix()
    mirror = np.diag([-1.0, 1.0, 1.0])
    operator = Rotation.from_euler("z", 90, degrees=True).as_matrix()
    placement = Placement(turn @ mirror @ operator @ mirror, np.zeros(3), mirrored=True)
    assert np.allclose(smallest_turn(placement, "C4").rotation, turn)
