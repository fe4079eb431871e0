"""The exhaustive search, against plain sums."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from vitrea.kernels.thon_rings import ring_derivatives
from vitrea.records.optics import Optics
from vitrea.thon_rings.samples import half_plane
from vitrea.thon_rings.search import radial_range, search, sector_sums
from vitrea.thon_rings.settings import FitSettings
from vitrea.thon_rings.tilt import fit_tilted

SETTINGS = FitSettings(defocus_min=4000.0, defocus_max=30000.0)


def pattern_of(mean: float, cosine: float, sine: float, phase: float, optics: Optics, box: int) -> np.ndarray:
    """Return -cos(2 chi), written out."""
    y, x = np.mgrid[-box // 2 : box // 2, -box // 2 : box // 2] / (box * 1.5)
    theta = 2 * np.arctan2(y, x)
    squared, wavelength = x**2 + y**2, optics.wavelength
    defocus = mean + cosine * np.cos(theta) + sine * np.sin(theta)
    chi = -np.pi * wavelength * defocus * squared + 0.5 * np.pi * 2.7e7 * wavelength**3 * squared**2
    return -np.cos(2 * (chi - phase - np.arcsin(0.1))).astype(np.float32)


@pytest.mark.parametrize("phase", [0.0, 1.2])
def test_the_best_candidate_is_the_ctf_that_made_the_rings(phase: float, optics: Optics) -> None:
    box, step = 384, 1 / (384 * 1.5)
    pattern = pattern_of(14000.0, 300.0, -500.0, phase, optics, box)
    settings = replace(SETTINGS, phase_max=180.0) if phase else SETTINGS
    radii = radial_range(box, step, settings)
    best, second = search(sector_sums(pattern, *radii), optics, settings, step, radii, 0, 2)
    assert best.defocus == pytest.approx(14000.0, abs=300)
    assert (best.cosine, best.sine) == (pytest.approx(300.0, abs=250), pytest.approx(-500.0, abs=250))
    if phase:
        assert best.phase_shift == pytest.approx(phase, abs=0.35)
    assert best.score > 0.6
    assert second.score < 0.5 * best.score


def test_sector_sums_hold_every_sample_once() -> None:
    pattern = np.random.default_rng(0).standard_normal((128, 128)).astype(np.float32)
    sums = sector_sums(pattern, 10, 60)
    samples = half_plane(128)
    inside = samples.within(10, 60)
    values = pattern.ravel()[samples.flat[inside]]
    assert sums.counts.sum() == inside.sum()
    assert sums.values.sum() == pytest.approx(values.sum(), abs=1e-2)
    assert sums.power == pytest.approx((values.astype(np.float64) ** 2).sum())


def test_derivatives_of_the_likelihood() -> None:
    rng = np.random.default_rng(1)
    values, strength, constant = rng.standard_normal((3, 400))
    basis, point = rng.standard_normal((400, 3)), rng.standard_normal(3)
    gradient, curvature = np.empty(3), np.empty((3, 3))

    def value(at: np.ndarray) -> float:
        model = -strength * np.cos(2 * (constant + basis @ at))
        return float((values * model - model**2 / 2).sum())

    assert ring_derivatives(values, strength, basis, constant, point, gradient, curvature) == pytest.approx(
        value(point)
    )
    delta = 1e-5 * np.eye(3)
    numeric = [(value(point + d) - value(point - d)) / 2e-5 for d in delta]
    np.testing.assert_allclose(gradient, numeric, rtol=1e-5)
    slope = np.empty(3)
    for p, d in enumerate(delta):
        forward = gradient.copy()
        ring_derivatives(values, strength, basis, constant, point + d, forward, np.empty((3, 3)))
        ring_derivatives(values, strength, basis, constant, point - d, slope, np.empty((3, 3)))
        np.testing.assert_allclose(curvature[p:, p], (forward - slope)[p:] / 2e-5, rtol=1e-4, atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize(("tilt", "axis"), [(0.0, 0.0), (30.0, 110.0)])
def test_tilt_of_a_specimen_in_strips(tilt: float, axis: float, optics: Optics, thon_images) -> None:  # type: ignore[no-untyped-def]
    """Rings of strips, each at the defocus of its height, blended into one another."""
    size, mean = 1400, 18000.0
    slope = np.tan(np.radians(tilt))
    direction = np.radians(axis + 90)
    y, x = (np.mgrid[:size, :size] - size // 2) * 1.5
    defocus = mean + slope * (x * np.cos(direction) + y * np.sin(direction))
    levels = np.linspace(defocus.min(), defocus.max(), 25 if tilt else 1)
    image = np.zeros((size, size), dtype=np.float32)
    for level in levels:
        share = np.clip(1 - np.abs(defocus - level) / max(levels[-1] - levels[0], 1) * 24, 0, 1) if tilt else 1.0
        image += share * thon_images((size, size), (level + 150, level - 150, 20.0), signal=1.0, seed=3)
    fit, found = fit_tilted(image, 1.5, 384, 0.0, optics, SETTINGS)
    assert found.angle == pytest.approx(tilt, abs=3)
    assert fit.defocus_u == pytest.approx(mean + 150, abs=80)
    if tilt:
        assert abs((found.axis - axis + 180) % 360 - 180) < 6
