"""Fits of CTFs to images whose CTF is known."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from vitrea.optics.ctf import ctf_phase
from vitrea.records.optics import Optics
from vitrea.thon_rings.diagnostic import diagnostic_image
from vitrea.thon_rings.fit import CtfFit, fit_ctf
from vitrea.thon_rings.quality import RingCurves, fit_resolution
from vitrea.thon_rings.samples import ctf_constants
from vitrea.thon_rings.settings import FitSettings
from vitrea.thon_rings.spectrum import Spectrum, amplitude_spectrum

BOX = 384
SETTINGS = FitSettings(defocus_min=3000.0)


def fit(image: np.ndarray, optics: Optics, settings: FitSettings = SETTINGS) -> CtfFit:
    return fit_ctf(amplitude_spectrum([image], optics.pixel_size, BOX), optics, settings)


def angle_between(first: float, second: float) -> float:
    return abs((first - second + 90) % 180 - 90)


def astigmatism(u: float, v: float, angle: float) -> complex:
    """Return the difference of U and V as a vector at twice its angle."""
    return complex((u - v) * np.exp(2j * np.radians(angle)))


def test_the_phase_is_that_of_the_ctf(optics: Optics) -> None:
    frequency = torch.linspace(0.01, 0.4, 50, dtype=torch.float64)
    expected = ctf_phase(torch.zeros(50), frequency, optics, torch.tensor([[20000.0, 18000.0, 0.0]]),
                         torch.tensor([30.0]))[0]  # fmt: skip
    found = ctf_constants(optics).phase(frequency.numpy() ** 2, 20000.0, math.radians(30.0))
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-5)  # the fixture's defocus is float32


@pytest.mark.parametrize(
    "defocus",
    [(5200.0, 4900.0, 10.0), (12000.0, 10000.0, 62.0), (21500.0, 21100.0, -40.0), (35500.0, 34000.0, 88.0)],
)
def test_defocus_and_astigmatism_of_known_rings(
    defocus: tuple[float, float, float], optics: Optics, thon_images: Callable[..., np.ndarray]
) -> None:
    found = fit(thon_images((800, 900), defocus), optics)
    assert found.defocus_u == pytest.approx(defocus[0], abs=60)
    assert found.defocus_v == pytest.approx(defocus[1], abs=60)
    assert abs(astigmatism(found.defocus_u, found.defocus_v, found.angle) - astigmatism(*defocus)) < 80
    assert found.has_rings
    assert found.significance > 15
    assert found.resolution < 5


def test_phase_shift(optics: Optics, thon_images: Callable[..., np.ndarray]) -> None:
    image = thon_images((800, 800), (15600.0, 14800.0, 30.0), phase_shift=70.0)
    found = fit(image, optics, replace(SETTINGS, phase_max=180.0))
    assert found.phase_shift == pytest.approx(70.0, abs=8)
    assert (found.defocus_u + found.defocus_v) / 2 == pytest.approx(15200.0, abs=80)
    assert angle_between(found.angle, 30.0) < 4
    # Within a range that leaves the truth out, the nearest end is taken.
    held = fit(image, optics, replace(SETTINGS, phase_min=0.0, phase_max=45.0))
    assert held.phase_shift == pytest.approx(45.0, abs=0.01)
    assert held.score < found.score


def test_noise_and_other_images_without_rings_are_told(optics: Optics) -> None:
    rng = np.random.default_rng(5)
    for _ in range(4):
        image = rng.standard_normal((600, 600))
        assert not fit(image, optics).has_rings
    walk = np.cumsum(np.cumsum(rng.standard_normal((600, 600)), axis=0), axis=1)
    assert not fit(walk / walk.std() + rng.standard_normal((600, 600)), optics).has_rings


def test_known_astigmatism_is_kept(optics: Optics, thon_images: Callable[..., np.ndarray]) -> None:
    image = thon_images((700, 700), (16000.0, 15000.0, 20.0))
    found = fit(image, optics, replace(SETTINGS, known_astigmatism=(1000.0, 20.0)))
    assert found.astigmatism == pytest.approx(1000.0)
    assert found.angle == pytest.approx(20.0)
    assert found.defocus_u == pytest.approx(16000.0, abs=40)
    wrong = fit(image, optics, replace(SETTINGS, known_astigmatism=(1000.0, -70.0)))
    assert wrong.score < 0.7 * found.score


def test_the_restraint_holds_astigmatism_back(optics: Optics, thon_images: Callable[..., np.ndarray]) -> None:
    image = thon_images((700, 700), (16500.0, 15000.0, 20.0), signal=0.2)
    free = fit(image, optics)
    held = fit(image, optics, replace(SETTINGS, tolerated_astigmatism=2.0))
    assert free.astigmatism == pytest.approx(1500.0, abs=200)
    assert held.astigmatism < 0.7 * free.astigmatism


def test_the_range_of_the_search_counts(optics: Optics, thon_images: Callable[..., np.ndarray]) -> None:
    image = thon_images((700, 700), (16000.0, 15800.0, 20.0))
    elsewhere = fit(image, optics, replace(SETTINGS, defocus_min=25000.0, defocus_max=40000.0))
    assert elsewhere.score < 0.5 * fit(image, optics).score
    assert not elsewhere.has_rings or elsewhere.defocus_u > 20000


def test_more_noise_ends_the_rings_sooner(optics: Optics, thon_images: Callable[..., np.ndarray]) -> None:
    clear, faint = (fit(thon_images((800, 800), (15000.0, 14700.0, 0.0), signal=s), optics) for s in (1.0, 0.08))
    assert clear.resolution < faint.resolution - 0.4
    assert clear.score > 2 * faint.score


def test_aliasing_is_told_from_a_box_that_is_too_small(optics: Optics, thon_images: Callable[..., np.ndarray]) -> None:
    image = thon_images((800, 800), (35000.0, 34000.0, 0.0), signal=1.0)
    small = fit_ctf(amplitude_spectrum([image], 1.5, 256), optics, SETTINGS)
    # The rings of CTF² are 1 / (2 lambda D k) apart (Cs aside), that is two samples of 1/384 Å at k = 0.141/Å.
    assert small.alias_resolution == pytest.approx(1 / 0.141, rel=0.03)
    large = fit_ctf(amplitude_spectrum([image], 1.5, 1024), optics, SETTINGS)
    assert large.alias_resolution == 0


def test_crystalline_ice_raises_the_ice_figure(optics: Optics, thon_images: Callable[..., np.ndarray]) -> None:
    image = thon_images((800, 800), (15000.0, 14700.0, 0.0))
    transform = np.fft.rfft2(image)
    k = np.hypot(np.fft.fftfreq(800, 1.5)[:, None], np.fft.rfftfreq(800, 1.5)[None])
    ice = np.fft.irfft2(transform * np.where(np.abs(k - 0.268) < 0.004, 1.6, 1.0), s=image.shape)
    assert fit(ice, optics).ice_ring > 2 * fit(image, optics).ice_ring


def test_the_picture_shows_the_fit_beside_the_spectrum(optics: Optics, thon_images: Callable[..., np.ndarray]) -> None:
    found = fit(thon_images((800, 800), (15000.0, 14000.0, 35.0), signal=2.0), optics)
    step = 1 / (BOX * 1.5)
    picture = diagnostic_image(found, optics, step)
    assert picture.shape == (BOX, BOX)
    assert picture.min() >= 0 and picture.max() <= 1
    # The half with x < 0 is |CTF|; the other, turned by 180 degrees, shows the same rings.
    y, x = np.mgrid[-BOX // 2 : BOX // 2, -BOX // 2 : BOX // 2]
    ring = (x < -3) & (np.abs(y) > 3) & (np.hypot(x, y) * step < 0.2) & (np.hypot(x, y) * step > 0.04)
    turned = np.roll(picture[::-1, ::-1], (1, 1), axis=(0, 1))
    assert np.corrcoef(picture[ring], turned[ring])[0, 1] > 0.6


@pytest.mark.parametrize(
    ("amplitude", "settings", "said"),
    [
        (np.ones((128, 128)), SETTINGS, "constant"),
        (np.full((128, 128), np.nan), SETTINGS, "not finite"),
        (np.eye(128), replace(SETTINGS, highest_resolution=25.0), "too few"),
    ],
)
def test_spectra_that_are_no_use(amplitude: np.ndarray, settings: FitSettings, said: str, optics: Optics) -> None:
    with pytest.raises(ValueError, match=said):
        fit_ctf(Spectrum(amplitude.astype(np.float32), 1.5), optics, settings)


def curves_of_quality(*steps: tuple[float, int]) -> RingCurves:
    """Return curves to 3 Å whose quality takes each value for so many points."""
    quality = np.concatenate([np.full(points, value) for value, points in steps])
    frequency = np.linspace(0, 1 / 3, len(quality))
    flat = np.zeros_like(quality)
    return RingCurves(frequency, flat, flat, flat, quality, flat)


@pytest.mark.parametrize(
    ("steps", "end"),
    [
        ([(0.9, 400), (0.2, 600)], 400),
        ([(0.9, 400), (0.3, 8), (0.9, 100), (0.2, 492)], 508),  # a short dip is noise
        ([(0.9, 400), (0.3, 50), (0.7, 100), (0.2, 450)], 400),  # a long one is the end
        ([(0.55, 140), (0.4, 60), (0.8, 300), (0.2, 500)], 500),  # the first ring is hard to tell from its background
        ([(0.2, 500), (0.9, 500)], None),
    ],
)
def test_the_resolution_is_where_rings_cease_to_follow_the_fit(steps: list[tuple[float, int]], end: int | None) -> None:
    curves = curves_of_quality(*steps)
    expected = math.inf if end is None else 1 / curves.frequency[end - 1]
    assert fit_resolution(curves, 30.0) == expected
