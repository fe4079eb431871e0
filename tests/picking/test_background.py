from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from vitrea.matching.peaks import find_peaks
from vitrea.picking.background import (
    Usual,
    areas_to_avoid,
    background_boxes,
    background_spectrum,
    band,
    surroundings,
    usual_value,
)
from vitrea.picking.field import reduce_micrograph

UNKNOWN = Usual.of(np.empty((0, 3)))


def test_usual_value_withstands_outliers_on_one_side() -> None:
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.normal(10, 2, 6000), rng.uniform(18, 60, 4000)])
    centre, sigma = usual_value(values)
    assert centre == pytest.approx(10, abs=0.7)
    assert sigma == pytest.approx(2, rel=0.25)
    assert usual_value(np.full(50, 3.0)) == (3.0, 0.0)


def test_white_noise_is_unavoided_and_its_spectrum_flat() -> None:
    noise = np.random.default_rng(0).standard_normal((400, 400)) * 3
    field = reduce_micrograph(noise, 5.0, 5.0, 100.0)
    around = surroundings(field, 80.0)
    avoid = areas_to_avoid(around, UNKNOWN, high_variance=True, abnormal_mean=True)
    assert avoid.mean() < 0.01
    spectrum = background_spectrum(field, background_boxes(around, 20, "usual-variance"), around.window)
    assert float(spectrum.mean()) == pytest.approx(9.0, rel=0.05)
    assert float(spectrum[5:, 5:].std()) < 1.0


def test_carbon_and_crystals_are_avoided_and_particles_are_not(discs: Callable[..., tuple]) -> None:
    image, places = discs(40, (420, 420), contrast=0.8, seed=2)
    rng = np.random.default_rng(3)
    image = image + 1.5 * np.linspace(-1, 1, 420) ** 2  # an uneven beam
    image[:, 340:] += 1.6 * rng.standard_normal((420, 80)) + 0.6  # carbon: stronger noise
    crystal = np.hypot(*(np.mgrid[:420, :420] - np.array([300, 120])[:, None, None])) < 40
    image = image + 6.0 * gaussian_filter(crystal.astype(float), 2)
    field = reduce_micrograph(image, 5.0, 5.0, 80.0)
    around = surroundings(field, 65.0)
    smooth = gaussian_filter(image, 6)
    usual = Usual.of(around.around(find_peaks(smooth, 0.3).pixels))
    avoid = areas_to_avoid(around, usual, high_variance=True, abnormal_mean=True)
    on_ice = (places[:, 0] < 310) & (np.hypot(places[:, 0] - 120, places[:, 1] - 300) > 70)
    at = tuple(np.rint(places[on_ice][:, ::-1]).astype(int).T)
    assert on_ice.sum() > 20 and avoid[at].mean() < 0.1
    assert avoid[:, 350:].mean() > 0.98 and avoid[crystal].mean() > 0.9
    texture = areas_to_avoid(around, UNKNOWN, high_variance=True, abnormal_mean=False)
    mean = areas_to_avoid(around, UNKNOWN, high_variance=False, abnormal_mean=True)
    assert texture[:, 350:].mean() > 0.98 and mean[crystal].mean() > 0.9
    assert not areas_to_avoid(around, UNKNOWN, high_variance=False, abnormal_mean=False).any()


def test_noise_limits(discs: Callable[..., tuple]) -> None:
    field = reduce_micrograph(discs()[0], 5.0, 5.0, 80.0)
    around = surroundings(field, 65.0)
    none = {"high_variance": False, "abnormal_mean": False}
    by_deviation = areas_to_avoid(around, UNKNOWN, **none, largest_deviation=1.05)
    np.testing.assert_array_equal(by_deviation, around.deviation > 1.05)
    by_mean = areas_to_avoid(around, UNKNOWN, **none, smallest_mean=0.1)
    np.testing.assert_array_equal(by_mean, around.mean < 0.1)


def test_background_boxes_lie_between_particles(discs: Callable[..., tuple]) -> None:
    image, places = discs(20, contrast=1.5)
    around = surroundings(reduce_micrograph(image, 5.0, 5.0, 80.0), 60.0)
    boxes = background_boxes(around, 8)
    middles = boxes[:, ::-1] + around.window // 2
    nearest = np.hypot(*(middles[:, None] - places[None]).T).min(axis=0)
    usual = background_boxes(around, 8, "usual-variance")[:, ::-1] + around.window // 2
    assert len(boxes) == 8 and nearest.min() > 14
    assert (np.abs(np.diff(boxes, axis=0)).max(axis=1) > 0).all()
    assert not np.array_equal(usual, middles)


def test_band_passes_between_its_limits() -> None:
    field = reduce_micrograph(np.random.default_rng(0).standard_normal((256, 256)), 2.0, 2.0, 20.0)
    weights = band(field, 10.0, 100.0)
    k = np.hypot(np.fft.fftfreq(field.padded_shape[0])[:, None], np.fft.rfftfreq(field.padded_shape[1])) / 2.0
    assert float(weights[0, 0]) == 0.0
    assert float(weights[k > 0.108].max()) == 0.0
    assert float(weights[(k > 0.03) & (k < 0.09)].min()) > 0.98


def test_what_is_usual_around_particles_is_told_in_spite_of_much_dirt() -> None:
    rng = np.random.default_rng(0)
    particles = rng.normal([0.3, 1.3, 1.2], [0.05, 0.1, 0.1], (120, 3))
    dirt = rng.uniform([1, 1.6, 0.7], [6, 3, 2.2], (200, 3))  # it lets fewer electrons through than ice
    usual = Usual.of(np.concatenate([particles, dirt]))
    np.testing.assert_allclose(usual.centres, [0.3, 1.3, 1.2], atol=0.1)
    assert (usual.spreads > [0.02, 0.05, 0.05]).all() and (usual.spreads < [0.15, 0.3, 0.3]).all()
    assert Usual.of(np.empty((0, 3))).count == 0


def test_dirt_of_low_variance_is_no_uneven_beam() -> None:
    """Thick pieces in two corners, a third of the image: a paraboloid through them would darken the ice between."""
    rng = np.random.default_rng(4)
    x = np.arange(400.0)
    beam = 0.8 * ((x - 200) / 200.0) ** 2
    image = rng.standard_normal((400, 400)) + beam
    image[:170, :330] = 0.3 * rng.standard_normal((170, 330)) + 5.0
    image[330:, 200:] = 0.3 * rng.standard_normal((70, 200)) + 8.0
    around = surroundings(reduce_micrograph(image, 5.0, 5.0, 80.0), 60.0)
    ice = np.s_[200:300, 30:370]
    assert np.abs(around.mean[ice]).max() < 0.6
    avoid = areas_to_avoid(around, UNKNOWN, high_variance=False, abnormal_mean=True)
    assert avoid[40:150, 40:300].all() and not avoid[ice].any()
