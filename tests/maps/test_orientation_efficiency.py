"""Sampling of Fourier space by views: distributions whose sampling is known in closed form."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import dawsn, i0e

from vitrea.geometry.euler import euler_to_matrix, matrix_to_euler
from vitrea.geometry.hemisphere import axis_angle
from vitrea.geometry.symmetry import symmetry_matrices
from vitrea.maps.orientation_efficiency import (
    Sampling,
    point_spread,
    sample_directions,
    scan_tilts,
    some_views,
    view_vectors,
)

COUNT, FEW = 8000, 1500


def views_between(low: float, high: float, count: int = COUNT, seed: int = 0) -> NDArray[np.float64]:
    """Even views whose tilt lies between two angles in degrees, as Euler angles."""
    generator = np.random.default_rng(seed)
    heights = generator.uniform(np.cos(np.radians(high)), np.cos(np.radians(low)), count)
    return np.column_stack([generator.uniform(-180, 180, count), np.degrees(np.arccos(heights))])


def sampling_of(eulers: NDArray[np.float64], symmetry: str = "C1") -> Sampling:
    return sample_directions(view_vectors(eulers, symmetry))


def test_even_views_sample_all_directions_alike() -> None:
    found = sampling_of(views_between(0, 180))
    # A direction lies in the slabs of N / 2k views: 80, give or take their root.
    assert found.counts.mean() == pytest.approx(COUNT / 100, rel=0.01)
    assert found.relative.std() == pytest.approx(1 / np.sqrt(80), rel=0.1)
    assert found.empty == 0
    # SCF 1; the mean reciprocal of a count with a Poisson scatter about 80 is larger than 1 / 80 by 1 / 80.
    assert found.scf == pytest.approx(1 - 1 / 80, abs=0.005)
    assert found.scf == found.scf_star


def test_side_views_have_the_published_value() -> None:
    """Views from all around the side: sampling is 2 / (pi sin t) of an even one at t from the axis, so that SCF is
    8 / pi^2 = 0.81 (Baldwin & Lyumkis 2020)."""
    found = sampling_of(views_between(90, 90))
    assert found.scf == pytest.approx(8 / np.pi**2, abs=0.015)
    sine = np.hypot(found.directions[:, 0], found.directions[:, 1])
    ring = (sine > 0.3) & (sine < 0.9)
    assert (found.relative * sine)[ring].mean() == pytest.approx(2 / np.pi, rel=0.02)


def test_top_views_leave_most_directions_empty() -> None:
    """Slabs at right angles to z: filled is what lies within asin(0.5 / 50) of the plane, a hundredth of the sphere."""
    found = sampling_of(np.zeros((COUNT, 2)))
    assert found.empty == pytest.approx(0.99, abs=0.005)
    assert found.scf == 0
    assert found.scf_star < 0.001


def test_a_cone_of_views_leaves_a_cone_of_directions() -> None:
    """Views within 30 degrees of z miss all within 60 degrees of it: half of the sphere."""
    found = sampling_of(views_between(0, 30))
    assert found.empty == pytest.approx(1 - np.cos(np.radians(60)), abs=0.02)
    assert axis_angle(found.directions[found.counts == 0], [0, 0, 1]).max() == pytest.approx(60, abs=2)
    # SCF* with P of the sphere filled, S its mean sampling over N / 2k: SCF / (1 + (1 - P) / P x N / 2k x SCF / 2).
    filled = found.counts[found.counts > 0]
    scf = 1 / (np.mean(1 / filled) * found.counts.mean())
    expected = scf / (1 + found.empty / (1 - found.empty) * found.counts.mean() * scf / 2)
    assert found.scf_star == pytest.approx(expected) and found.scf_star < 0.05


def test_symmetry_fills_what_views_leave_empty() -> None:
    view = views_between(88, 92, 2500)
    tops = np.zeros((50, 2))
    assert sampling_of(tops, "O").empty < sampling_of(tops, "D2").empty == sampling_of(tops).empty
    assert sampling_of(view, "C4").scf == pytest.approx(sampling_of(view).scf, abs=0.05)
    # Copies of the views by hand give the same.
    eulers = np.column_stack([views_between(0, 40, 500), np.zeros(500)])
    copies = matrix_to_euler((euler_to_matrix(eulers)[:, None] @ symmetry_matrices("D3")).reshape(-1, 3, 3))
    assert np.array_equal(sampling_of(copies).counts, sampling_of(eulers, "D3").counts)


def test_tilting_helps_top_views_and_not_even_ones() -> None:
    even = scan_tilts(views_between(0, 180), tilts=(0, 30, 60))
    assert np.ptp(even.scf_star) < 0.02
    assert even.suggested(0.8) == 0
    cone = scan_tilts(views_between(0, 60), tilts=(0, 10, 20, 25, 30, 35, 40))
    assert cone.scf_star[0] < 0.3 and np.all(np.diff(cone.scf_star) > -0.03)
    tilt = cone.suggested(0.8)
    # Views within 60 + 30 degrees reach the side: from there on no direction is empty.
    assert 25 <= tilt <= 35
    assert cone.scf_star[cone.tilts == tilt][0] >= 0.8 > cone.scf_star[cone.tilts < tilt].max()
    # A single view on a stage tilted by t becomes a ring of views at t, whatever the directions in the map.
    ring = sample_directions(view_vectors(np.zeros((COUNT, 2)), tilt=50.0))
    assert axis_angle(view_vectors(np.zeros((9, 2)), tilt=50.0), [0, 0, 1]) == pytest.approx(np.full(9, 50.0))
    assert ring.empty == pytest.approx(1 - np.cos(np.radians(40)), abs=0.02)


def test_the_point_spread_of_even_views_is_round_and_that_of_top_views_a_needle() -> None:
    cases = ((0, 180), (90, 90), (0, 0))
    even, side, top = (point_spread(view_vectors(views_between(*tilts, FEW))) for tilts in cases)
    assert even.efficiency > 0.96  # few views: their scatter shows in the slow tail
    assert 0.2 < side.efficiency < 0.4
    assert top.efficiency == 0
    z = top.directions[:, 2]
    # As long as the particle, or rather the box: 32 resolutions of 4 Å; and as thin as the B-factor lets it be:
    # exp(-4 pi² r² / B) is 1 / e² at sqrt(B / 2) / pi, here 2.76 Å; the end at 4 Å, where 0.1 of it is left, blunts it.
    assert top.widths.max() > 50
    assert top.widths[z < 0.1].mean() == pytest.approx(2 * np.sqrt(150 / 2) / np.pi, rel=0.08)
    assert axis_angle(top.directions[top.widths.argmax()], [0, 0, 1]) < 7
    # Side views sample most along z, crossing there: narrowest along z.
    assert side.widths[side.directions[:, 2] > 0.98].mean() < 0.8 * side.widths[side.directions[:, 2] < 0.2].mean()


def test_point_spreads_have_the_widths_and_the_efficiency_of_closed_forms() -> None:
    """Thin slabs under a Gaussian envelope that ends before the ball does.

    Even views fill Fourier space as 1 / k: the point-spread function is D(x) / x with Dawson's integral D and
    x = 2 pi r / sqrt(B). Side views fill it as 1 / k_xy: it is exp(-4 pi² z² / B) exp(-u) I0(u) with
    u = 2 pi² (x² + y²) / B. From the latter follows E_od = 1 - 2 sigma / mean = 0.285.
    """
    bfactor, level = 256.0, np.exp(-2)

    def width(cosine: float) -> float:
        def above(radius: float) -> float:
            square = (np.pi * radius) ** 2 / bfactor
            return float(np.exp(-4 * square * cosine**2) * i0e(2 * square * (1 - cosine**2))) - level

        return float(2 * brentq(above, 1e-6, 100))

    widths = np.array([width(cosine) for cosine in (np.arange(400) + 0.5) / 400])  # even in solid angle
    expected = 1 - 2 * widths.std() / widths.mean()
    assert expected == pytest.approx(0.285, abs=0.001)
    side = point_spread(view_vectors(views_between(90, 90, FEW)), bfactor=bfactor)
    # Slabs as thick as 1 / 32 of the limit blunt the pole of 1 / k and shorten the tail, the more the longer it is.
    assert side.efficiency == pytest.approx(expected, abs=0.02)
    assert side.mean == pytest.approx(widths.mean(), rel=0.03)
    along = np.array([width(abs(cosine)) for cosine in side.directions[:, 2]])
    np.testing.assert_allclose(side.widths, along, rtol=0.12)
    np.testing.assert_allclose(side.widths[along < 15], along[along < 15], rtol=0.05)
    even = point_spread(view_vectors(views_between(0, 180, FEW)), bfactor=bfactor)
    radius = brentq(lambda x: dawsn(x) / x - level, 0.1, 5) * np.sqrt(bfactor) / (2 * np.pi)
    assert even.mean == pytest.approx(2 * radius, rel=0.03)
    assert even.efficiency > 0.96


@pytest.mark.slow
def test_efficiency_falls_as_views_gather() -> None:
    found = [point_spread(view_vectors(views_between(0, reach, FEW))).efficiency for reach in (90, 60, 40, 20)]
    assert np.all(np.diff(found) < -0.1)
    # More views than bins of directions are gathered in these.
    assert point_spread(view_vectors(views_between(0, 60))).efficiency == pytest.approx(found[1], abs=0.03)


@pytest.mark.slow
def test_the_width_follows_resolution_and_bfactor() -> None:
    views = view_vectors(views_between(0, 180, 500))
    plain = point_spread(views).mean
    assert point_spread(views, resolution=8.0, bfactor=600.0).mean == pytest.approx(2 * plain, rel=1e-3)
    assert point_spread(views, bfactor=300.0).mean > 1.1 * plain
    top = view_vectors(np.zeros((1, 2)))
    assert point_spread(top, diameter=30.0).widths.max() < 0.8 * point_spread(top).widths.max()


def test_views_are_chosen_at_random_and_the_same_for_a_seed() -> None:
    eulers = views_between(0, 180, 1000)
    assert np.array_equal(some_views(eulers, 0, 1), eulers) and np.array_equal(some_views(eulers, 5000, 1), eulers)
    chosen = some_views(eulers, 100, 1)
    assert len(chosen) == 100 and np.array_equal(chosen, some_views(eulers, 100, 1))
    assert not np.array_equal(chosen, some_views(eulers, 100, 2))
