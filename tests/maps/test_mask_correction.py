"""What a mask feigns is taken off: pure noise shows no resolution, tight masks show no more than soft ones."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from vitrea.maps.half_maps import FSC_THRESHOLD, FscSettings, HalfMapFsc, half_map_fsc
from vitrea.maps.masking import lowpass_density, soften, sphere_mask

SIZE, VOXEL = 64, 2.0
SEEDS = range(4)
# Below, a shell has too few components inside a mask: its correlation scatters by more than 0.1 whatever is done.
FIRST = 8


def white(seed: int) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=(SIZE,) * 3).astype(np.float32)


def blobs(edge: float) -> NDArray[np.float32]:
    """A mask as ragged as a threshold in noise makes it: about 3% of the box."""
    ragged = lowpass_density(white(99), 16.0, VOXEL) * sphere_mask(SIZE, 18.0, 6.0)
    return soften(ragged > 1.2 * lowpass_density(white(99), 16.0, VOXEL).std(), edge)


MASKS = {
    "soft sphere": sphere_mask(SIZE, 20.0, 6.0),
    "hard sphere": sphere_mask(SIZE, 20.0),
    "tight": blobs(3.0),
    "tight and hard": blobs(0.0),
}


def low_resolution_signal() -> NDArray[np.float32]:
    """A ball of texture that ends at 16 Å, shell 8, with an edge of two shells."""
    return lowpass_density(sphere_mask(SIZE, 16.0, 2.0) * (1 + white(7)), 16.0, VOXEL).astype(np.float32)


def measure(name: str, signal: NDArray[np.float32] | float, seed: int, draws: int | None = None) -> HalfMapFsc:
    halves = [(signal + 0.2 * white(100 + 2 * seed + number)).astype(np.float32) for number in (0, 1)]
    return half_map_fsc(*halves, VOXEL, MASKS[name], FscSettings(seed=seed + 1, draws=draws))


@pytest.mark.parametrize(
    "name", ["tight", *(pytest.param(name, marks=pytest.mark.slow) for name in MASKS if name != "tight")]
)
def test_pure_noise_has_no_resolution(name: str) -> None:
    """The first fall below 0.143 comes at once, and beyond no shell comes near what is told to be beyond noise.

    That is 0.143 where a shell holds enough samples in the mask, and three standard deviations of noise where not.
    """
    found = [measure(name, 0.0, seed) for seed in SEEDS]
    assert max(fsc.corrected_shell for fsc in found) <= 4
    assert [(fsc.told_shell, fsc.resolution) for fsc in found] == [(0, np.inf)] * len(found)
    # Masks so small that one draw of random phases could make noise pass for signal: all draws' mean is taken.
    assert {fsc.draws for fsc in found} == {0}
    assert all((fsc.corrected < fsc.above_noise)[3:].all() for fsc in found)
    corrected, noise = (np.array([getattr(fsc, name) for fsc in found]) for name in ("corrected", "noise"))
    # Blobs of the tight masks are some 9 voxels wide, so that 64 / 9 shells are alike: 14 of these hundred differ.
    assert (corrected / noise)[:, FIRST:].std() == pytest.approx(1.0, abs=0.4)
    assert (corrected.mean(axis=0) < 3.5 * noise[0] / np.sqrt(len(SEEDS)))[FIRST:].all()
    assert abs(corrected[:, FIRST:].mean()) < 3 * noise[:, FIRST:].mean() / np.sqrt(14)
    enough = 3.0 * noise[0] < FSC_THRESHOLD
    assert enough.sum() > 10
    assert corrected[:, enough].max() < FSC_THRESHOLD


@pytest.mark.parametrize(("name", "draws"), [("soft sphere", 1), ("tight", 0)])
def test_phases_are_drawn_once_where_that_does_no_harm(name: str, draws: int) -> None:
    fsc = measure(name, low_resolution_signal(), 0)
    assert fsc.draws == draws
    once, mean = (measure(name, low_resolution_signal(), 0, fixed) for fixed in (1, 0))
    assert np.array_equal(fsc.corrected, (once if draws else mean).corrected)
    assert once.noise is not None and mean.noise is not None and mean.randomised_from is not None
    after = mean.randomised_from + 2
    ratio = once.noise / mean.noise
    assert np.allclose(ratio[:after], 1.0)
    assert ratio[after:] == pytest.approx(np.sqrt(2), rel=0.15)


@pytest.mark.slow
def test_no_mask_raises_the_corrected_curve() -> None:
    """Halves share what is coarser than 14 Å and nothing else: no mask makes more of it, though the masked FSC does."""
    signal = low_resolution_signal()
    found = {name: [measure(name, signal, seed) for seed in SEEDS] for name in MASKS}
    beyond = 14
    feigned = {
        name: np.mean([fsc.masked[beyond:] for fsc in each if fsc.masked is not None]) for name, each in found.items()
    }
    assert abs(feigned["soft sphere"]) < 0.02
    assert feigned["tight"] > 0.25
    assert feigned["tight and hard"] > 0.6
    for each in found.values():
        assert all(fsc.told_shell >= 6 and fsc.final_shell == fsc.corrected_shell for fsc in each)
        # The filter that made the signal ends at shell 8 with an edge of two shells; one more by chance.
        assert all(8 <= fsc.final_shell <= 10 for fsc in each)
        assert np.mean([fsc.corrected[beyond:] for fsc in each], axis=0).max() < FSC_THRESHOLD
        assert abs(np.mean([fsc.corrected[beyond:] for fsc in each])) < 0.04


@pytest.mark.parametrize("seed", [0, 1])
def test_a_tight_hard_mask_does_not_raise_the_corrected_curve(seed: int) -> None:
    fsc = measure("tight and hard", low_resolution_signal(), seed)
    assert fsc.masked is not None
    assert fsc.masked[14:].mean() > 0.6
    assert fsc.corrected[14:].mean() < 0.1
    assert 8 <= fsc.final_shell <= 10
