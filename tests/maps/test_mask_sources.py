"""Masks from shapes, atoms and differences against geometry worked out another way."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from vitrea.maps.mask_sources import atoms_binary, cut_along_z, cylinder_mask, difference_threshold, scaled_difference
from vitrea.maps.masking import lowpass_density, sphere_mask

SIZE = 32


def grid(size: int = SIZE) -> NDArray[np.float64]:
    """x, y, z of each voxel from the middle, shape [z, y, x, 3]."""
    line = np.arange(size) - size // 2
    z, y, x = np.meshgrid(line, line, line, indexing="ij")
    return np.stack([x, y, z], axis=-1).astype(np.float64)


def test_a_cylinder_is_where_it_should_be() -> None:
    mask = cylinder_mask(SIZE, 5.0, 12.0, center=(3.0, -2.0, 1.0))
    x, y, z = np.moveaxis(grid() - (3.0, -2.0, 1.0), -1, 0)
    assert np.array_equal(mask > 0, (np.hypot(x, y) <= 5) & (np.abs(z) <= 6))


@pytest.mark.parametrize("axis", [(1.0, 0.0, 0.0), (0.0, -2.0, 0.0), (1.0, 1.0, 1.0)])
def test_its_axis_may_point_anywhere(axis: tuple[float, float, float]) -> None:
    mask = cylinder_mask(SIZE, 4.0, 14.0, axis=axis)
    unit = np.array(axis) / np.linalg.norm(axis)
    inside = grid()[mask > 0]
    along = inside @ unit
    assert np.abs(along).max() <= 7
    assert np.linalg.norm(inside - along[:, None] * unit, axis=1).max() <= 4 + 1e-6
    assert mask.sum() == pytest.approx(np.pi * 16 * 14, rel=0.12)


def test_a_tube_has_soft_edges_outside_and_inside() -> None:
    mask = cylinder_mask(SIZE, 10.0, float("inf"), soft_edge_pixels=4.0, inner_radius=6.0)
    middle = mask[SIZE // 2, SIZE // 2, SIZE // 2 :]
    assert np.allclose(middle[[0, 1, 2]], 0.0, atol=1e-7)
    assert middle[4] == pytest.approx(0.5)
    assert (middle[6:11] == 1).all()
    assert middle[12] == pytest.approx(0.5)
    assert middle[14] == 0
    assert np.array_equal(mask[0], mask[-1])


def test_the_edge_of_a_cylinder_is_rounded_at_its_rims() -> None:
    mask = cylinder_mask(SIZE, 5.0, 10.0, soft_edge_pixels=4.0)
    c = SIZE // 2
    assert mask[c + 5 + 2, c, c] == pytest.approx(0.5)
    assert mask[c, c, c + 5 + 2] == pytest.approx(0.5)
    assert mask[c + 5 + 3, c, c + 5 + 3] == 0  # 3 sqrt(2) > 4


def test_a_cylinder_without_direction_is_refused() -> None:
    with pytest.raises(ValueError, match="needs a direction"):
        cylinder_mask(SIZE, 4.0, 4.0, axis=(0.0, 0.0, 0.0))


def test_a_helix_keeps_its_middle() -> None:
    """RELION: 1 up to share / 2 of the box from the middle, then a cosine."""
    cut = cut_along_z(np.ones((40, 4, 4), dtype=np.float32), 0.3, 4.0)[:, 0, 0]
    distance = np.abs(np.arange(40) - 20)
    assert (cut[distance <= 6] == 1).all()
    assert cut[20 + 8] == pytest.approx(0.5)
    assert (cut[distance >= 10] == 0).all()


@pytest.mark.parametrize("radius", [1.0, 3.0, 7.4])
def test_atoms_are_surrounded_to_the_voxel(radius: float) -> None:
    """Every voxel against every atom, by brute force."""
    voxel_size, origin = 2.0, (-30.0, 4.0, 11.0)
    positions = np.random.default_rng(2).uniform(-12, 76, size=(60, 3)) + origin
    positions[0] = np.array(origin) + 20.0
    binary = atoms_binary(positions, SIZE, voxel_size, radius, origin)
    places = (grid() + SIZE // 2) * voxel_size + origin
    nearest = np.min([np.linalg.norm(places - atom, axis=-1) for atom in positions], axis=0)
    assert np.array_equal(binary, nearest <= radius)


def test_a_model_outside_the_box_is_refused_with_both_places() -> None:
    with pytest.raises(ValueError, match=r"atoms are 100 to 100, .* of the box 0 to 64"):
        atoms_binary(np.full((3, 3), 100.0), SIZE, 2.0, 3.0)


def noisy(signal: NDArray[np.float32], seed: int) -> NDArray[np.float32]:
    noise = np.random.default_rng(seed).normal(0, 0.05, signal.shape)
    return lowpass_density(signal + noise, 12.0, 2.0).astype(np.float32)


def test_a_difference_is_where_the_maps_differ_whatever_their_scale() -> None:
    body = sphere_mask(SIZE, 9.0, 2.0)
    part = sphere_mask(SIZE, 3.0, 1.0, center=(9.0, 0.0, 0.0))
    first, second = noisy(body + part, 1), 3.0 * noisy(body, 2) + 0.7
    difference = scaled_difference(first, second)
    found = difference > difference_threshold(difference)
    assert found[SIZE // 2, SIZE // 2, SIZE // 2 + 9]
    assert (found & (sphere_mask(SIZE, 6.5, center=(9.0, 0.0, 0.0)) > 0)).sum() > 0.9 * found.sum()


def test_maps_that_do_not_differ_or_correlate_are_refused() -> None:
    body = sphere_mask(SIZE, 9.0, 2.0)
    with pytest.raises(ValueError, match="differ nowhere"):
        difference_threshold(scaled_difference(noisy(body, 1), noisy(body, 2)))
    with pytest.raises(ValueError, match="do not correlate"):
        scaled_difference(body, -body)
