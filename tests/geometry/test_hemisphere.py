"""Axes fall into bins of equal area that they share with their opposites."""

from __future__ import annotations

import numpy as np

from vitrea.geometry.hemisphere import Hemisphere, axis_angle, mean_axis, upper


def test_opposite_vectors_share_a_bin_and_bins_share_the_area() -> None:
    grid = Hemisphere(8)
    assert len(grid) == 6 * 8 * 8
    vectors = np.random.default_rng(0).normal(size=(200_000, 3))
    bins = grid.index(vectors)
    assert np.array_equal(bins, grid.index(-vectors))
    assert np.array_equal(bins, grid.index(5 * vectors))
    counts = np.bincount(bins, minlength=len(grid))
    mean = len(vectors) / len(grid)
    assert np.abs(counts - mean).max() < 5 * np.sqrt(mean)  # Poisson


def test_a_bin_holds_its_middle_and_what_is_near() -> None:
    grid = Hemisphere(32)
    assert np.array_equal(grid.index(grid.vectors), np.arange(len(grid)))
    assert (grid.vectors[:, 2] >= 0).all()
    vectors = np.random.default_rng(1).normal(size=(5000, 3))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    # A pixel reaches at most some 1.2 of its mean width (58.6 / 32 degrees) from its middle.
    assert axis_angle(vectors, grid.vectors[grid.index(vectors)]).max() < 1.2 * 58.6 / 32
    assert grid.index(np.zeros(3)) == grid.index([0, 0, 1])


def test_axes_have_no_sense() -> None:
    turned = upper([[0, 0, -1], [0, -1, 0], [-1, 0, 0], [1, 2, 3]])
    assert turned.tolist() == [[0, 0, 1], [0, 1, 0], [1, 0, 0], [1, 2, 3]]
    assert axis_angle([1, 0, 0], [-1, 0, 0]) == 0
    assert np.isclose(axis_angle([1, 0, 0], [np.cos(2), np.sin(2), 0]), 180 - np.degrees(2))
    axis = np.array([0.6, 0.0, 0.8])
    scattered = axis + np.random.default_rng(2).normal(0, 0.1, (400, 3))
    scattered *= np.random.default_rng(3).choice([-1, 1], 400)[:, None]
    assert axis_angle(mean_axis(scattered), axis) < 1.5  # 0.1 rad / sqrt(400), five times
    assert axis_angle(mean_axis(np.eye(3), [0.1, 1, 0.2]), [0, 1, 0]) == 0
