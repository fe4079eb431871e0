"""Packed samples: completeness, order and phase ramps."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vitrea.fourier.packed import packed_samples
from vitrea.fourier.transforms import to_fourier, to_real

BOXES = [(16, 2), (15, 2), (12, 3), (9, 3)]


@pytest.mark.parametrize(("size", "dims"), BOXES)
@pytest.mark.parametrize("part", [1.0, 0.6])
def test_one_of_each_friedel_pair(size: int, dims: int, part: float) -> None:
    """Samples and their mates are, together, every component of the full transform in the ball, off Nyquist."""
    radius = int(part * (size // 2))
    samples = packed_samples(size, radius, dims)
    limit = (size - 1) // 2  # the Nyquist index of an even box is left out
    axis = np.arange(-limit, limit + 1)
    points = np.stack(np.meshgrid(*[axis] * dims, indexing="ij"), axis=-1).reshape(-1, dims)
    expected = {tuple(p) for p in points[(points**2).sum(axis=1) <= radius**2]}
    listed = [tuple(p) for p in samples.coordinates[:, :dims].astype(int)]
    mates = [tuple(-c for c in p) for p in listed if any(p)]
    assert len(set(listed)) == len(listed) == len(samples)
    assert len(listed) + len(mates) == len(expected)
    assert set(listed) | set(mates) == expected
    assert (samples.coordinates[:, 0] >= 0).all()
    if dims == 2:
        assert not samples.coordinates[:, 2].any()


@pytest.mark.parametrize(("size", "dims"), BOXES)
def test_lower_resolution_is_a_prefix(size: int, dims: int) -> None:
    full = packed_samples(size, size // 2, dims)
    for radius in range(size // 2 + 1):
        part, alone = full.prefix(radius), packed_samples(size, radius, dims)
        assert (part.radius, part.size, part.dims) == (radius, size, dims)
        np.testing.assert_array_equal(part.coordinates, alone.coordinates)
        np.testing.assert_array_equal(part.index, full.index[: len(part)])
        np.testing.assert_array_equal(part.index, alone.index)
        np.testing.assert_array_equal(part.shell, alone.shell)


def test_shells_are_rounded_radii() -> None:
    samples = packed_samples(16, 8)
    np.testing.assert_array_equal(
        samples.shell, np.floor(np.linalg.norm(samples.coordinates.astype(float), axis=1) + 0.5)
    )


def test_radius_beyond_nyquist_is_refused() -> None:
    with pytest.raises(ValueError, match="radius 9 exceeds the Nyquist frequency of a box of 16"):
        packed_samples(16, 9)


@pytest.mark.parametrize(("size", "dims"), BOXES)
def test_samples_hold_the_whole_band(size: int, dims: int) -> None:
    """An image without components outside the ball comes back from its samples and their mates alone."""
    rng = np.random.default_rng(1)
    noise = torch.from_numpy(rng.standard_normal([2] + [size] * dims))
    samples = packed_samples(size, (size - 1) // 2, dims)
    flat = to_fourier(noise, dims).flatten(1)
    band = torch.zeros_like(flat)
    index = torch.from_numpy(samples.index)
    band[:, index] = flat[:, index]
    half = band.view(2, *[size] * (dims - 1), size // 2 + 1)
    mates = np.flatnonzero((samples.coordinates[:, 0] == 0) & (samples.shell > 0))
    place = tuple(
        torch.from_numpy((-samples.coordinates[mates, i].astype(int)) % size) for i in range(dims - 1, -1, -1)
    )
    half[(slice(None), *place)] = band[:, index[mates]].conj()
    image = to_real(half, size, dims)
    packed = samples.gather(to_fourier(image, dims))
    # Rounding of float64 transforms.
    np.testing.assert_allclose(packed.numpy(), band[:, index].numpy(), atol=1e-12)
    power = packed.abs().square()
    twice = torch.from_numpy(np.where(samples.shell > 0, 2.0, 1.0))
    energy = image.square().flatten(1).sum(dim=1)
    np.testing.assert_allclose((power * twice).sum(dim=1).numpy(), energy.numpy(), rtol=1e-12)  # Parseval


@pytest.mark.parametrize(("size", "dims"), BOXES)
def test_ramps_move_images_by_plus_shift(size: int, dims: int) -> None:
    """Whole pixels: as torch.roll does, which only moves voxels."""
    image = torch.from_numpy(np.random.default_rng(2).standard_normal([1] + [size] * dims).astype(np.float32))
    samples = packed_samples(size, size // 2, dims)
    shift = np.array([[2.0, -3.0, 1.0][:dims]])
    moved = samples.gather(to_fourier(image, dims)) * samples.phase_ramps(shift)
    axes = tuple(range(dims, 0, -1))  # x is the last axis
    rolled = torch.roll(image, tuple(int(s) for s in shift[0]), axes)
    np.testing.assert_allclose(moved.numpy(), samples.gather(to_fourier(rolled, dims)).numpy(), atol=1e-5)  # float32


def test_ramps_of_parts_of_pixels_add_up() -> None:
    samples = packed_samples(15, 7)
    halves = samples.phase_ramps(np.array([[0.25, -1.5]]))
    whole = samples.phase_ramps(np.array([[0.5, -3.0]]))
    np.testing.assert_allclose((halves**2).numpy(), whole.numpy(), atol=1e-6)
    np.testing.assert_allclose(whole.abs().numpy(), 1.0, atol=1e-6)
