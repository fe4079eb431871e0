"""References are brought to the centre of the box by whole pixels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from vitrea.geometry.masks import soft_sphere
from vitrea.likelihood.centring import centre_class, centre_of_mass
from vitrea.likelihood.state import new_class

PIXEL = 5.0


def _blob(size: int, centre: tuple[float, ...], width: float = 2.0, height: float = 1.0) -> NDArray[np.float32]:
    """A Gaussian ball or disc; centre (x, y(, z)) in pixels from the middle of the box."""
    axes = np.meshgrid(*[np.arange(size) - size // 2] * len(centre), indexing="ij")
    squared = sum((axis - at) ** 2 for axis, at in zip(axes, centre[::-1], strict=True))
    return np.asarray(height * np.exp(-squared / (2 * width**2)), dtype=np.float32)


@pytest.mark.parametrize(("size", "centre"), [(24, (3.0, -2.0)), (25, (0.0, 4.5)), (24, (1.0, 2.0, -3.0))])
def test_centre_of_mass(size: int, centre: tuple[float, ...]) -> None:
    found = centre_of_mass(_blob(size, centre), np.ones((size,) * len(centre), np.float32), PIXEL)
    np.testing.assert_allclose(found, centre, atol=0.05)


def test_background_and_what_is_outside_the_mask_do_not_count() -> None:
    mask = soft_sphere(32, 9, 2, dims=2).astype(np.float32)
    noise = 0.05 * np.random.default_rng(1).standard_normal((32, 32)).astype(np.float32)
    neighbour = _blob(32, (-14.0, 0.0), height=3.0)
    found = centre_of_mass(_blob(32, (2.0, 3.0)) + noise + neighbour, mask, PIXEL)
    np.testing.assert_allclose(found, [2.0, 3.0], atol=0.4)
    assert centre_of_mass(neighbour + noise, np.ones_like(mask), PIXEL)[0] < -12
    np.testing.assert_array_equal(centre_of_mass(np.zeros((8, 8), np.float32), np.ones((8, 8), np.float32), PIXEL), 0.0)
    np.testing.assert_array_equal(centre_of_mass(-_blob(8, (1.0, 0.0)), np.ones((8, 8), np.float32), PIXEL), 0.0)


@pytest.mark.parametrize("centre", [(3.0, -2.0), (-4.0, 1.0, 2.0)])
def test_references_move_by_whole_pixels(centre: tuple[float, ...]) -> None:
    size, dims = 24, len(centre)
    mask = np.ones((size,) * dims, np.float32)
    group = new_class(_blob(size, centre, width=1.5), 1)
    plain = np.roll(group.voxels, 1, axis=0)
    moved_group, moved = centre_class(type(group)(**{**vars(group), "unfiltered": plain}), mask, PIXEL)
    np.testing.assert_array_equal(moved, [*(-np.array(centre)), *([0.0] * (3 - dims))])
    np.testing.assert_allclose(moved_group.voxels, _blob(size, (0.0,) * dims, width=1.5), atol=1e-6)
    assert moved_group.unfiltered is not None
    np.testing.assert_allclose(moved_group.unfiltered, np.roll(moved_group.voxels, 1, axis=0), atol=1e-6)
    again, still = centre_class(moved_group, mask, PIXEL)
    assert again is moved_group
    np.testing.assert_array_equal(still, 0.0)


@pytest.mark.parametrize("changed", [{"share": 0.0}, {"centre": (0.4, -0.4)}])
def test_references_that_stay(changed: dict[str, Any]) -> None:
    """Of dead classes, and those that are centred to half a pixel."""
    voxels = _blob(24, changed.get("centre", (3.0, 0.0)))
    group = new_class(voxels, 1, changed.get("share", 1.0))
    found, moved = centre_class(group, np.ones_like(voxels), PIXEL)
    assert found is group
    np.testing.assert_array_equal(moved, 0.0)
