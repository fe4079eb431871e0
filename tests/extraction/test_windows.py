"""Windows at, over and beyond the edge; re-centring by whole pixels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vitrea.extraction.recentring import recentre
from vitrea.extraction.windows import cut_windows, place_windows, window_centres


@pytest.mark.parametrize("size", [7, 8])
def test_windows_are_what_padding_with_the_edge_gives(size: int) -> None:
    micrograph = np.random.default_rng(1).integers(0, 60000, (30, 40)).astype(np.uint16)
    coordinates = np.array([[20.9, 15.2], [0, 0], [39.5, 29.5], [-3, 12], [2, 32], [43, 5]])
    places = place_windows(coordinates, size, (30, 40))
    assert places.over_edge.tolist() == [False, True, True, True, True, size == 8]
    assert places.outside.tolist() == [False, False, False, False, False, size == 7]
    inside = ~places.outside
    windows = cut_windows(micrograph, places.corners[inside], size)
    padded = np.pad(micrograph, 20, mode="edge")
    for window, (x, y) in zip(windows, places.corners[inside] + 20, strict=True):
        assert np.array_equal(window, padded[y : y + size, x : x + size])
    assert windows.dtype == np.float32


def test_windows_beyond_each_edge() -> None:
    coordinates = np.array([[-5.0, 10], [10, -5], [44, 10], [10, 34], [-3, 10], [43, 10]])
    assert place_windows(coordinates, 8, (30, 40)).outside.tolist() == [True, True, True, True, False, False]


@settings(deadline=None)
@given(st.floats(-50, 5000), st.floats(-60, 60))
def test_recentring_is_exact_whatever_the_fraction(coordinate: float, origin: float) -> None:
    """The particle lies at the old window's centre less the old origin, and at the new one's less the new."""
    moved, left = recentre(np.array([[coordinate, 7.0]]), np.array([[origin, 0.0]]))
    before = window_centres(np.array([[coordinate, 7.0]])) - [[origin, 0.0]]
    after = window_centres(moved) - left
    assert np.abs(after - before).max() < 1e-9
    assert np.abs(left).max() <= 0.5
    assert abs(moved[0, 0] - (coordinate - origin)) <= 1.5
