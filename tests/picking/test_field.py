from __future__ import annotations

import numpy as np
import pytest
import torch

from vitrea.picking.field import coarser, reduce_micrograph


def spot(shape: tuple[int, int], x: float, y: float, width: float = 6.0) -> np.ndarray:
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    return np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / (2 * width**2)).astype(np.float32)


@pytest.mark.parametrize("shape", [(301, 247), (300, 256)])
def test_places_survive_reduction(shape: tuple[int, int]) -> None:
    field = reduce_micrograph(spot(shape, 100.0, 160.0), 1.5, 5.0, 40.0)
    assert field.pixel_sizes[0] <= 5.0 and field.shape[0] < shape[0]
    weight = field.image.clamp(min=0.5 * float(field.image.max())) - 0.5 * float(field.image.max())
    rows, columns = torch.meshgrid(*(torch.arange(n, dtype=torch.float64) for n in field.shape), indexing="ij")
    centre = [float((weight * axis).sum() / weight.sum()) for axis in (columns, rows)]
    np.testing.assert_allclose(field.to_micrograph(np.array([centre]))[0], [100.0, 160.0], atol=0.2)


def test_a_coarser_field_is_that_of_the_micrograph() -> None:
    image = spot((400, 320), 90.0, 200.0, 12.0)
    direct = reduce_micrograph(image, 1.0, 8.0, 60.0)
    twice = coarser(reduce_micrograph(image, 1.0, 4.0, 60.0), 8.0, 60.0)
    assert twice.shape == direct.shape and twice.pixel_sizes == pytest.approx(direct.pixel_sizes)
    torch.testing.assert_close(twice.image, direct.image, atol=2e-3, rtol=0)
    assert coarser(direct, 8.0, 60.0) is direct


def test_margins_mirror_the_image() -> None:
    rng = np.random.default_rng(0)
    field = reduce_micrograph(rng.standard_normal((120, 130)), 2.0, 2.0, 30.0)
    padded = torch.fft.irfft2(field.transform, s=field.padded_shape, norm="forward")
    torch.testing.assert_close(field.inner(padded), field.image, atol=1e-5, rtol=0)
    m = field.margin
    torch.testing.assert_close(padded[m - 1, m : m + 120], field.image[0, :120], atol=1e-5, rtol=0)
    torch.testing.assert_close(padded[m + 5, m - 3], field.image[5, 2], atol=1e-5, rtol=0)


def test_hot_pixels_are_clipped() -> None:
    rng = np.random.default_rng(0)
    image = rng.standard_normal((200, 200))
    hot = image.copy()
    hot[50, 60] = 1e6
    clean, clipped = (reduce_micrograph(i, 2.0, 4.0, 30.0).image for i in (image, hot))
    assert float((clean - clipped).abs().max()) < 4.0


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.full((100, 100), 7.0), "all its pixels have one value"),
        (np.where(np.eye(100) > 0, np.nan, np.arange(100.0)), "not numbers"),
        (np.arange(64.0).reshape(8, 8), "too small"),
        (np.zeros((2, 8, 8)), "3 axes"),
    ],
)
def test_what_cannot_be_searched(image: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        reduce_micrograph(image, 2.0, 4.0, 100.0)
