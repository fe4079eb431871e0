"""Masks against relion_mask_create and against geometry."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from vitrea.formats.mrc import read_map
from vitrea.maps.masking import (
    LOGIC,
    extend,
    keep_large_pieces,
    mask_from_binary,
    mask_from_map,
    soften,
    sphere_mask,
)

# Masks were written as float32: half a unit in the last place of 1.
ROUNDING = 1.2e-7


def largest_error(mask: NDArray[np.float32], data_dir: Path, name: str) -> float:
    return float(np.abs(mask - read_map(data_dir / f"mask/{name}.mrc.gz").voxels).max())


@pytest.fixture(scope="module")
def density(data_dir: Path) -> NDArray[np.float32]:
    return read_map(data_dir / "image_handler/newbox40.mrc").voxels


def test_threshold_extension_and_edge_are_relions(density: NDArray[np.float32], data_dir: Path) -> None:
    mask = mask_from_map(density, 0.03, extend_pixels=2, soft_edge_pixels=4)
    assert largest_error(mask, data_dir, "m1") < ROUNDING


def test_lowpass_before_the_threshold_is_relions(density: NDArray[np.float32], data_dir: Path) -> None:
    mask = mask_from_map(density, 0.02, 3, 6, lowpass=30.0, voxel_size=7.08)
    assert largest_error(mask, data_dir, "m2_lp30") < ROUNDING


def test_a_shell_is_relions(data_dir: Path) -> None:
    mask = sphere_mask(40, 14, soft_edge_pixels=4, inner_radius=5, center=(2, 0, 0))
    assert largest_error(mask, data_dir, "m3_shell") < ROUNDING


def test_an_inverted_mask_is_relions(density: NDArray[np.float32], data_dir: Path) -> None:
    assert largest_error(1 - mask_from_map(density, 0.03, soft_edge_pixels=3), data_dir, "m4_invert") < ROUNDING


def ball(size: int, radius: float) -> NDArray[np.bool_]:
    return sphere_mask(size, radius) > 0


@pytest.mark.parametrize("size", [24, 25])
def test_growing_and_shrinking_change_the_radius(size: int) -> None:
    small = ball(size, 6.0)
    grown = extend(small, 3.0)
    assert not (grown & ~ball(size, 9.0)).any()
    assert not (ball(size, 8.0) & ~grown).any()
    shrunk = extend(grown, -3.0)
    assert not (shrunk & ~ball(size, 7.0)).any()
    assert not (ball(size, 5.0) & ~shrunk).any()
    assert np.array_equal(extend(small, 0.0), small)


def test_masks_without_a_surface_stay() -> None:
    for binary in (np.zeros((4, 4, 4), dtype=bool), np.ones((4, 4, 4), dtype=bool)):
        assert np.array_equal(extend(binary, 2.0), binary)
        assert np.array_equal(soften(binary, 2.0), binary.astype(np.float32))


def test_the_edge_falls_as_a_cosine_of_the_distance() -> None:
    plane = np.zeros((8, 8, 12), dtype=bool)
    plane[..., :4] = True
    profile = soften(plane, 4.0)[0, 0]
    expected = 0.5 + 0.5 * np.cos(np.pi * np.arange(5) / 4)
    assert np.allclose(profile[3:8], expected, atol=1e-6)
    assert (profile[:4] == 1).all()
    assert (profile[8:] == 0).all()
    assert np.array_equal(soften(plane, 0.0), plane.astype(np.float32))
    assert np.array_equal(mask_from_binary(plane, 1.0, 0.0)[0, 0, :6], [1, 1, 1, 1, 0, 0])


def test_logic() -> None:
    first, second = np.array([True, True, False, False]), np.array([True, False, True, False])
    table = {name: operation(first, second).tolist() for name, operation in LOGIC.items()}
    assert table == {
        "and": [True, False, False, False],
        "or": [True, True, True, False],
        "and_not": [False, True, False, False],
        "or_not": [True, True, False, True],
    }


@pytest.mark.parametrize(("threshold", "word"), [(9.0, "no"), (-9.0, "every")])
def test_a_useless_threshold_is_refused(threshold: float, word: str) -> None:
    with pytest.raises(ValueError, match=f"leaves {word} voxel"):
        mask_from_map(np.random.default_rng(0).normal(size=(8, 8, 8)).clip(-3, 3), threshold)


def test_sphere_radii_and_centre() -> None:
    mask = sphere_mask(21, 5.0, center=(1.0, -2.0, 3.0))
    centre = np.array(np.nonzero(mask)).mean(axis=1)[::-1] - 21 // 2
    assert np.allclose(centre, (1.0, -2.0, 3.0))
    assert mask.sum() == pytest.approx(4 / 3 * np.pi * 125, rel=0.03)
    hollow = sphere_mask(21, 8.0, inner_radius=4.0)
    assert hollow[10, 10, 10] == 0
    assert hollow[10, 10, 10 + 6] == 1


def test_small_pieces_are_dropped() -> None:
    binary = np.zeros((10, 10, 10), dtype=bool)
    binary[1:5, 1:5, 1:5] = True
    binary[7:9, 7:9, 7:9] = True
    binary[0, 9, 9] = True
    assert keep_large_pieces(binary, 0.1).sum() == 64 + 8
    assert keep_large_pieces(binary, 0.2).sum() == 64
