"""FSC curves of half maps: theory on synthetic maps, RELION's curves on real ones."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from vitrea.fourier.filters import lowpass
from vitrea.maps.half_maps import FscSettings, as_tensor, half_map_fsc, particle_fraction, weight_fraction
from vitrea.maps.masking import sphere_mask

SIZE = 48


def white(seed: int) -> NDArray[np.float64]:
    return np.random.default_rng(seed).normal(size=(SIZE,) * 3)


@pytest.fixture(scope="module")
def halves() -> list[NDArray[np.float64]]:
    """Two maps that share everything up to shell 8 and nothing beyond, with a particle of radius 12."""
    inside = sphere_mask(SIZE, 12.0)
    shared = lowpass(torch.from_numpy(white(0) * inside), SIZE / 8, 1.0, 2.0).numpy()
    return [shared + 0.02 * white(seed) for seed in (1, 2)]


def test_without_a_mask_the_unmasked_curve_is_the_corrected_one(halves: list[NDArray[np.float64]]) -> None:
    fsc = half_map_fsc(*halves, voxel_size=2.0)
    assert fsc.masked is None
    assert fsc.randomised is None
    assert np.array_equal(fsc.unmasked, fsc.corrected)
    assert fsc.resolution == pytest.approx(SIZE * 2.0 / fsc.final_shell)
    assert 7 <= fsc.final_shell <= 9
    assert fsc.unmasked[0] == 1.0


def test_the_correction_removes_what_a_tight_mask_feigns(halves: list[NDArray[np.float64]]) -> None:
    """A mask with hard edges spreads the shared low shells over the empty high ones."""
    mask = sphere_mask(SIZE, 10.0).astype(np.float64)
    fsc = half_map_fsc(*halves, voxel_size=2.0, mask=mask, settings=FscSettings(draws=4))
    assert fsc.masked is not None
    assert fsc.randomised is not None
    beyond = slice(13, 22)
    assert fsc.masked[beyond].mean() > 0.15
    assert abs(fsc.corrected[beyond].mean()) < 0.05
    start = fsc.randomised_from
    assert start is not None
    assert fsc.unmasked[start] < 0.8 <= fsc.unmasked[1:start].min()
    assert np.array_equal(fsc.corrected[: start + 2], fsc.masked[: start + 2])
    after = slice(start + 2, None)
    expected = (fsc.masked[after] - fsc.randomised[after]) / (1 - fsc.randomised[after])
    assert np.allclose(fsc.corrected[after], expected)
    assert fsc.without_mask().masked is None


def test_the_arguments_of_the_randomisation_matter(halves: list[NDArray[np.float64]]) -> None:
    mask = sphere_mask(SIZE, 12.0, 4.0)
    first = half_map_fsc(*halves, 2.0, mask, FscSettings(draws=2))
    again = half_map_fsc(*halves, 2.0, mask, FscSettings(draws=2))
    other = half_map_fsc(*halves, 2.0, mask, FscSettings(draws=2, seed=2))
    earlier = half_map_fsc(*halves, 2.0, mask, FscSettings(draws=2, randomise_below=0.99))
    at = half_map_fsc(*halves, 2.0, mask, FscSettings(draws=2, randomise_at=2.0 * SIZE / 5.5))
    single = half_map_fsc(*halves, 2.0, mask)
    assert first.randomised is not None
    assert np.array_equal(first.randomised, again.randomised)
    assert not np.array_equal(first.randomised, other.randomised)
    assert not np.array_equal(first.randomised, single.randomised)
    assert earlier.randomised_from is not None
    assert first.randomised_from is not None
    assert earlier.randomised_from < first.randomised_from
    assert at.randomised_from == 5


def test_maps_that_agree_everywhere_are_not_corrected(halves: list[NDArray[np.float64]]) -> None:
    fsc = half_map_fsc(halves[0], halves[0] * 2, 2.0, sphere_mask(SIZE, 12.0, 4.0))
    assert fsc.randomised_from is None
    assert np.allclose(fsc.corrected, 1.0)
    assert fsc.final_shell == SIZE // 2


def test_the_particle_curve_is_the_unmasked_one_scaled_by_volume() -> None:
    """With signal in part of a box of noise, FSC of that part follows from the whole: f FSC / (1 + (f - 1) FSC)."""
    mask = sphere_mask(SIZE, 13.0, 5.0)
    share = float((mask > 0.5).mean())
    assert particle_fraction(mask) == pytest.approx(0.476 / share)
    assert particle_fraction(np.zeros((4, 4, 4))) == float("inf")
    fsc = half_map_fsc(white(1) + white(0), white(2) + white(0), 2.0, mask)
    factor = 0.476 / share
    assert fsc.particle is not None
    assert np.allclose(fsc.particle, factor * fsc.unmasked / (1 + (factor - 1) * fsc.unmasked))


def test_precision_is_that_of_the_maps() -> None:
    assert as_tensor(np.zeros((2, 2, 2), dtype=np.float64)).dtype == torch.float64
    for kind in (np.float32, np.float16, np.int16):
        assert as_tensor(np.zeros((2, 2, 2), dtype=kind)).dtype == torch.float32


def test_the_molecular_weight_gives_a_curve_of_its_own_with_and_without_a_mask() -> None:
    halves = (white(1) + white(0), white(2) + white(0))
    settings = FscSettings(molecular_weight=50.0)
    factor = 0.476 * (SIZE * 2.0) ** 3 * 0.81 / 50_000
    assert weight_fraction(50.0, SIZE * 2.0) == pytest.approx(factor)
    for mask in (None, sphere_mask(SIZE, 13.0, 5.0)):
        fsc = half_map_fsc(*halves, 2.0, mask, settings)
        assert fsc.weighed is not None
        assert np.allclose(fsc.weighed, factor * fsc.unmasked / (1 + (factor - 1) * fsc.unmasked))
    assert half_map_fsc(*halves, 2.0).weighed is None


def test_curves_cross_thresholds_between_shells(halves: list[NDArray[np.float64]]) -> None:
    plain = half_map_fsc(*halves, 2.0)
    assert list(plain.curves) == ["unmasked"]
    masked = half_map_fsc(*halves, 2.0, sphere_mask(SIZE, 12.0, 4.0))
    assert list(masked.curves) == ["unmasked", "masked", "randomised", "corrected"]
    line = 1.0 - np.arange(SIZE // 2 + 1) / (SIZE // 2)
    for threshold in (0.5, 0.143):
        at = plain.crossing(line, threshold)
        assert at == pytest.approx(SIZE * 2.0 / ((1 - threshold) * (SIZE // 2)))
    assert plain.crossing(np.full_like(line, 0.6), 0.5) is None
    assert plain.crossing(-line, 0.5) == float("inf")
