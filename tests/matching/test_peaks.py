from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vitrea.matching.peaks import Peaks, find_peaks, separate
from vitrea.picking.comparison import Agreement, compare_picks, picks_at_thresholds
from vitrea.picking.mixture import fit_peak_heights


def test_peaks_lie_between_pixels() -> None:
    y, x = np.mgrid[:60, :80]
    truth = np.array([[20.3, 14.8], [55.4, 40.1]])
    score = sum(h * np.exp(-((x - a) ** 2 + (y - b) ** 2) / 18) for h, (a, b) in zip((2.0, 1.0), truth, strict=True))
    peaks = find_peaks(score.astype(np.float32), 0.5)
    np.testing.assert_allclose(peaks.places, truth, atol=0.05)
    assert peaks.heights[0] > peaks.heights[1]
    assert len(find_peaks(score.astype(np.float32), 0.5, edge=16)) == 1
    assert len(find_peaks(score.astype(np.float32), 1.5)) == 1


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), distance=st.floats(0.5, 12.0))
def test_picks_at_a_higher_threshold_are_the_higher_picks(seed: int, distance: float) -> None:
    score = np.random.default_rng(seed).standard_normal((40, 40)).astype(np.float32)
    all_picks = separate(find_peaks(score, 0.5), distance)
    gaps = np.hypot(*(all_picks.places[:, None] - all_picks.places[None]).T) + 1e9 * np.eye(len(all_picks))
    assert gaps.min(initial=np.inf) > distance
    for threshold in (1.0, 1.8):
        fewer = separate(find_peaks(score, threshold), distance)
        np.testing.assert_array_equal(fewer.pixels, all_picks.rows(all_picks.heights > threshold).pixels)


def test_the_better_of_two_neighbours_stays() -> None:
    places = np.array([[10.0, 10.0], [12.0, 10.0], [14.0, 10.0], [30.0, 5.0]])
    peaks = Peaks(places, places[:, ::-1].astype(np.int64), np.array([4.0, 3.0, 2.0, 1.0]))
    # The second falls to the first, and does not drag the third down with it.
    np.testing.assert_array_equal(separate(peaks, 3.0).heights, [4.0, 2.0, 1.0])


def test_the_threshold_parts_noise_from_particles() -> None:
    rng = np.random.default_rng(0)
    noise, particles = 2.0 + rng.exponential(0.7, 3000), rng.normal(9, 1.5, 1000)
    found = fit_peak_heights(np.concatenate([noise, particles]), 2.0, 3.0)
    assert found.usual == pytest.approx(9, abs=0.2) and found.share == pytest.approx(0.25, abs=0.03)
    assert (noise > found.threshold).mean() < 0.03 and (particles < found.threshold).mean() < 0.03


def test_without_two_kinds_the_threshold_is_plain() -> None:
    assert fit_peak_heights(np.array([6.0, 8.0, 10.0]), 2.0, 3.0).threshold == 4.0
    assert fit_peak_heights(np.empty(0), 2.0, 3.0) == fit_peak_heights(np.array([2.5]), 2.0, 3.0)
    assert fit_peak_heights(np.empty(0), 2.0, 3.0).threshold == 3.0
    only_noise = 2.0 + np.random.default_rng(0).exponential(0.5, 500)
    assert fit_peak_heights(only_noise, 2.0, 3.0).threshold >= 3.0


def test_picks_are_paired_one_to_one() -> None:
    truth = np.array([[0.0, 0.0], [10.0, 0.0], [50.0, 50.0]])
    picks = np.array([[1.0, 0.0], [2.0, 0.0], [4.9, 0.0], [90.0, 90.0]])
    found = compare_picks(picks, truth, 6.0)
    assert found == Agreement(4, 3, 2)
    assert found.recall == pytest.approx(2 / 3) and found.precision == 0.5
    assert compare_picks([], truth, 6.0) == Agreement(0, 3, 0)
    assert (found + Agreement(1, 1, 1)).found == 3
    assert Agreement(0, 0, 0).recall == Agreement(0, 0, 0).precision == 0.0


def test_no_threshold_adds_picks() -> None:
    heights = np.random.default_rng(0).normal(5, 2, 100)
    counts = picks_at_thresholds(heights, np.linspace(0, 10, 30))
    assert (np.diff(counts) <= 0).all() and counts[0] == (heights > 0).sum()
