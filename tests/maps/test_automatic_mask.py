"""Automatic masks hold the particle; the threshold is told; what is given is obeyed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from vitrea.formats.mrc import read_map
from vitrea.maps.automatic_mask import auto_mask, choose_threshold
from vitrea.maps.masking import lowpass_density, mask_from_map, sphere_mask


def ball(size: int, radius: float) -> NDArray[np.bool_]:
    return sphere_mask(size, radius) > 0


def halves(signal: NDArray[np.float32], noise: float, seed: int = 1) -> list[NDArray[np.float32]]:
    generator = np.random.default_rng(seed)
    return [(signal + noise * generator.normal(size=signal.shape)).astype(np.float32) for _ in range(2)]


@pytest.mark.parametrize("noise", [0.05, 0.5, 1.0])
def test_an_automatic_mask_holds_the_particle_and_little_else(noise: float) -> None:
    signal = lowpass_density(ball(48, 9.0).astype(np.float32), 10.0, 3.0)
    made = auto_mask(*halves(signal, noise), voxel_size=3.0)
    assert made.chosen
    mask = made.voxels
    assert (mask[ball(48, 8.0)] == 1).all()
    # 7.5 Å of extension and 15 Å of edge are 2.5 and 5 voxels; the low-pass filter blurs by about two more.
    assert (made.extend_pixels, made.soft_edge_pixels, made.lowpass) == (2.5, 5.0, 15.0)
    assert not mask[~ball(48, 9.0 + 2.5 + 5.0 + 3.0)].any()
    assert mask.min() >= 0
    assert mask.max() == 1


@pytest.mark.parametrize("seed", range(4))
def test_an_automatic_mask_of_noise_is_refused(seed: int) -> None:
    nothing = np.zeros((40, 40, 40), dtype=np.float32)
    with pytest.raises(ValueError, match="no density stands out"):
        auto_mask(*halves(nothing, 1.0, seed), voxel_size=3.0)
    noise = lowpass_density(halves(nothing, 1.0, seed)[0], 15.0, 3.0)
    with pytest.raises(ValueError, match="no density stands out"):
        choose_threshold(noise)


def test_an_automatic_mask_obeys_its_arguments() -> None:
    pair = halves(ball(48, 9.0).astype(np.float32), 0.3)
    sums = [
        auto_mask(*pair, voxel_size=3.0, **options).voxels.sum()
        for options in ({}, {"extend_pixels": 5.0}, {"soft_edge_pixels": 10.0}, {"lowpass": 30.0}, {"threshold": 0.05})
    ]
    assert all(other > 1.05 * sums[0] for other in sums[1:])


def test_a_given_threshold_gives_relions_mask_of_the_average() -> None:
    """RELION 1.4 cut the unfiltered average, extended it and softened its edge."""
    pair = halves(ball(32, 7.0).astype(np.float32), 0.1)
    made = auto_mask(*pair, 3.0, threshold=0.5, lowpass=0.0, extend_pixels=3.0, soft_edge_pixels=6.0)
    assert not made.chosen
    assert np.array_equal(made.voxels, mask_from_map((pair[0] + pair[1]) / 2, 0.5, 3.0, 6.0))
    for threshold, words in ((5.0, "leaves no voxel"), (-5.0, "leaves every voxel")):
        with pytest.raises(ValueError, match=words):
            auto_mask(*pair, 3.0, threshold=threshold)


def test_the_noise_of_one_map_is_that_of_its_dark_half() -> None:
    """Without half maps the spread below the median stands for the noise: the cut hardly differs."""
    pair = halves(ball(48, 9.0).astype(np.float32), 0.5)
    first, second = (lowpass_density(half, 15.0, 3.0) for half in pair)
    with_halves = choose_threshold((first + second) / 2, float(((first - second) / 2).std()))
    assert choose_threshold((first + second) / 2) == pytest.approx(with_halves, rel=0.25)


def test_an_automatic_mask_of_real_half_maps_is_near_a_hand_made_one(shared_reference: Path) -> None:
    run = shared_reference / "betagal_real"
    pair = [read_map(run / f"refine3d/run_half{half}_class001_unfil.mrc").voxels for half in (1, 2)]
    mask, by_hand = auto_mask(*pair, voxel_size=3.54).voxels, read_map(run / "postprocess/mask.mrc").voxels
    overlap = np.minimum(mask, by_hand).sum() / np.maximum(mask, by_hand).sum()
    assert overlap > 0.8
