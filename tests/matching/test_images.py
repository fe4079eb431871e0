"""Images made ready: whole-pixel shifts, prefixes, spectra and masks."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vitrea.fourier.packed import packed_samples
from vitrea.fourier.transforms import to_fourier
from vitrea.geometry.masks import soft_sphere
from vitrea.matching.images import PreparedImages, shell_spectrum, transform_images, translate_whole_pixels

SIZE = 17


def _images(count: int, size: int = SIZE) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(1).standard_normal((count, size, size)).astype(np.float32))


def _prepared(count: int, samples: int) -> PreparedImages:
    rng = np.random.default_rng(2)
    values = [torch.from_numpy(rng.standard_normal((count, samples)).astype(np.float32)) for _ in range(6)]
    return PreparedImages(
        torch.complex(values[0], values[1]),
        torch.complex(values[2], values[3]),
        values[4],
        values[5].abs(),
        torch.arange(count * 3.0, dtype=torch.float64).view(count, 3),
        torch.arange(count, dtype=torch.float64),
    )


def test_whole_pixel_shifts_bring_in_zeros() -> None:
    images = _images(3)
    shifts = torch.tensor([[0, 0], [2, -3], [-40, 1]])
    moved = translate_whole_pixels(images, shifts)
    assert torch.equal(moved[0], images[0])
    assert torch.equal(moved[1, : SIZE - 3, 2:], images[1, 3:, : SIZE - 2])
    assert not moved[1, SIZE - 3 :].any()
    assert not moved[1, :, :2].any()
    assert not moved[2].any()  # beyond the box


def test_whole_pixel_shifts_have_the_sign_of_phase_ramps() -> None:
    """An object away from the border moves the same way by pixels and by phases."""
    image = torch.zeros(1, SIZE, SIZE)
    image[0, 5:9, 7:10] = _images(1)[0, 5:9, 7:10]
    samples = packed_samples(SIZE, SIZE // 2)
    by_pixels = samples.gather(to_fourier(translate_whole_pixels(image, torch.tensor([[3, -2]]))))
    by_phases = samples.gather(to_fourier(image)) * samples.phase_ramps(np.array([[3.0, -2.0]]))
    np.testing.assert_allclose(by_pixels.numpy(), by_phases.numpy(), atol=1e-5)  # float32


def test_prefix_is_a_lower_resolution() -> None:
    images = _prepared(4, 20)
    low = images.prefix(8)
    for name in ("masked", "unmasked", "ctf", "precision"):
        assert torch.equal(getattr(low, name), getattr(images, name)[:, :8])
    assert torch.equal(low.spectrum, images.spectrum)
    assert len(low) == 4


def test_part_is_a_run_of_particles() -> None:
    images = _prepared(4, 20)
    part = images.part(slice(1, 3))
    assert len(part) == 2
    for name in ("masked", "unmasked", "ctf", "precision", "spectrum", "total_power"):
        assert torch.equal(getattr(part, name), getattr(images, name)[1:3])


def test_targets() -> None:
    images = _prepared(2, 9)
    target, weight = images.targets()
    np.testing.assert_allclose(target, images.masked * images.ctf * images.precision, rtol=1e-6)
    np.testing.assert_allclose(weight, images.ctf**2 * images.precision, rtol=1e-6)
    doubled, _ = images.with_precision(2 * images.precision).targets()
    np.testing.assert_allclose(doubled, 2 * target, rtol=1e-6)


@pytest.mark.parametrize("size", [16, 17])
def test_spectrum_of_white_noise_is_flat(size: int) -> None:
    """Unit noise has unit power per component: a shell's sum is its number of samples, to 5 sigma of 400 images."""
    images = _images(400, size)
    full = packed_samples(size, size // 2)
    samples = full.prefix(4)
    masked, unmasked, spectrum, total = transform_images(images, torch.ones(size, size), None, full, samples)
    counts = np.bincount(full.shell, minlength=size // 2 + 1)
    error = 5 * np.sqrt(2.0 / (400 * counts))  # DC is real: its power varies twice as much as that of the others
    assert (np.abs(spectrum.mean(dim=0).numpy() / counts - 1) < error).all()
    assert torch.equal(masked, unmasked)
    assert masked.shape == (400, len(samples))
    np.testing.assert_allclose(total, images.double().square().sum(dim=(1, 2)), rtol=1e-6)
    # The samples end at radius 4, in the middle of shell 4.
    np.testing.assert_allclose(shell_spectrum(samples, masked, 5)[:, :4], spectrum[:, :4], rtol=1e-6)


def test_mask_and_fill() -> None:
    images = _images(2)
    mask = torch.from_numpy(soft_sphere(SIZE, 4.0, 2.0, dims=2).astype(np.float32))
    full = packed_samples(SIZE, SIZE // 2)
    masked, unmasked, _, total = transform_images(images, mask, None, full, full)
    np.testing.assert_allclose(masked, full.gather(to_fourier(images * mask)), atol=1e-6)
    np.testing.assert_allclose(unmasked, full.gather(to_fourier(images)), atol=1e-6)
    fill = torch.full_like(images, 3.0)
    filled, same, _, more = transform_images(images, mask, fill, full, full)
    np.testing.assert_allclose(filled, full.gather(to_fourier(images * mask + 3 * (1 - mask))), atol=1e-5)
    assert torch.equal(same, unmasked)
    assert (more > total).all()
