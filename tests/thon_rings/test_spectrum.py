"""Amplitude spectra."""

from __future__ import annotations

import numpy as np
import pytest

from vitrea.thon_rings.spectrum import amplitude_spectrum


def test_white_noise_has_a_flat_spectrum_of_the_mean_modulus() -> None:
    image = np.random.default_rng(1).standard_normal((700, 512)).astype(np.float32)
    spectrum = amplitude_spectrum([image], 2.0, 256)
    assert spectrum.amplitude.shape == (256, 256)
    assert spectrum.pixel_size == 2.0
    # The modulus of a complex Gaussian of unit power has mean sqrt(pi)/2; the taper at the edges takes some power away.
    assert spectrum.amplitude.mean() == pytest.approx(np.sqrt(np.pi) / 2, rel=0.06)
    assert np.abs(spectrum.amplitude[96:160].mean() / spectrum.amplitude.mean() - 1) < 0.02


def test_a_wave_shows_at_its_frequency_whatever_the_shape_of_the_image() -> None:
    y, x = np.mgrid[:600, :800]
    noise = np.random.default_rng(2).standard_normal((600, 800))
    image = noise + 2 * np.cos(2 * np.pi * (0.11 * x - 0.21 * y))
    spectrum = amplitude_spectrum([image], 1.5, 256)
    row, column = np.unravel_index(spectrum.amplitude.argmax(), (256, 256))
    found = np.array([column - 128, row - 128]) / 256 * np.sign(column - 128)
    np.testing.assert_allclose(found, [0.11, -0.21], atol=0.6 / 256)
    # Friedel's law: the mirror image about the origin.
    np.testing.assert_allclose(spectrum.amplitude[1:, 1:], spectrum.amplitude[1:, 1:][::-1, ::-1], rtol=1e-4)


def test_fine_pixels_are_left_out_up_to_the_target() -> None:
    y, x = np.mgrid[:1024, :1024]
    image = np.random.default_rng(3).standard_normal((1024, 1024)) + np.cos(2 * np.pi * (0.1 * x + 0.06 * y))
    spectrum = amplitude_spectrum([image], 0.5, 256, target_pixel_size=1.4)
    assert spectrum.pixel_size == pytest.approx(1.4, rel=0.02)
    row, column = np.unravel_index(spectrum.amplitude.argmax(), (256, 256))
    found = np.array([column - 128, row - 128]) * spectrum.step * np.sign(column - 128)
    np.testing.assert_allclose(found, [0.2, 0.12], atol=0.6 * spectrum.step)  # 0.1 and 0.06 per pixel of 0.5 Å


def test_the_spectrum_of_several_images_is_the_mean_of_theirs() -> None:
    images = np.random.default_rng(4).standard_normal((2, 300, 300))
    both = amplitude_spectrum(iter(images), 1.0, 128).amplitude
    each = [amplitude_spectrum([image], 1.0, 128).amplitude for image in images]
    # But for what is put in the place of the origin.
    y, x = np.mgrid[-64:64, -64:64]
    away = np.hypot(x, y) > 12
    np.testing.assert_allclose(both[away], ((each[0] + each[1]) / 2)[away], rtol=1e-3)


@pytest.mark.parametrize(
    ("images", "box", "said"),
    [
        ([], 128, "no image"),
        ([np.ones((300, 300))], 127, "even"),
        ([np.ones((300, 50))], 128, "too small"),
        ([np.ones((300, 300)), np.ones((300, 301))], 128, "one movie"),
    ],
)
def test_what_cannot_be_used_is_refused(images: list[np.ndarray], box: int, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        amplitude_spectrum(images, 1.0, box)
