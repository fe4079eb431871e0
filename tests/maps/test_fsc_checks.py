"""Each check finds what it looks for, and says nothing about sound data."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from vitrea.maps.fsc_checks import check_fsc, check_half_maps, check_mask, check_sharpening, edge_width
from vitrea.maps.half_maps import FscSettings, HalfMapFsc, half_map_fsc
from vitrea.maps.masking import lowpass_density, mask_from_binary, sphere_mask
from vitrea.maps.sharpening import GuinierFit, GuinierPlot, SharpeningSettings

SIZE, VOXEL = 48, 2.5
SHELLS = np.arange(SIZE // 2 + 1)
Map3D = NDArray[np.float32]


def white(seed: int) -> Map3D:
    return np.random.default_rng(seed).normal(size=(SIZE,) * 3).astype(np.float32)


@pytest.fixture(scope="module")
def halves() -> tuple[Map3D, Map3D]:
    """Two noisy halves of a textured ball of radius 12 whose detail ends at about 8 Å."""
    texture = sphere_mask(SIZE, 12.0, 2.0) * (1.5 + white(0))
    signal = lowpass_density(texture, 8.0, VOXEL)
    return (signal + 0.25 * white(1)).astype(np.float32), (signal + 0.25 * white(2)).astype(np.float32)


@pytest.fixture(scope="module")
def good_mask() -> Map3D:
    return sphere_mask(SIZE, 15.0, 6.0)


def names(found: list) -> list[str]:  # type: ignore[type-arg]
    assert all(len(one.text) > 40 and not one.text.endswith(".") for one in found)
    return [one.name for one in found]


def test_sound_data_are_not_complained_of(halves: tuple[Map3D, Map3D], good_mask: Map3D) -> None:
    fsc = half_map_fsc(*halves, VOXEL, good_mask)
    assert not check_half_maps(*halves, fsc)
    assert not check_mask(good_mask, *halves, VOXEL)
    assert not check_fsc(fsc, FscSettings())
    assert not check_fsc(half_map_fsc(*halves, VOXEL), FscSettings())


def test_masked_half_maps_are_found(halves: tuple[Map3D, Map3D], good_mask: Map3D) -> None:
    masked = [(half * good_mask).astype(np.float32) for half in halves]
    assert "half maps are masked" in names(check_half_maps(*masked, half_map_fsc(*masked, VOXEL)))


def test_a_box_that_is_empty_outside_its_sphere_is_no_mask(halves: tuple[Map3D, Map3D]) -> None:
    """Reconstructions of some programs end at the sphere that fits the box."""
    round_ones = [half * sphere_mask(SIZE, SIZE / 2 - 0.5) for half in halves]
    assert "half maps are masked" not in names(check_half_maps(*round_ones, half_map_fsc(*round_ones, VOXEL)))


def test_filtered_half_maps_are_found(halves: tuple[Map3D, Map3D]) -> None:
    filtered = [lowpass_density(half, 10.0, VOXEL).astype(np.float32) for half in halves]
    found = check_half_maps(*filtered, half_map_fsc(*filtered, VOXEL))
    assert "half maps are filtered" in names(found)
    # The filter ends a shell beyond 12, which is 10 Å.
    assert any("anything beyond 8." in one.text or "anything beyond 9." in one.text for one in found)


def test_halves_in_different_places_or_hands_are_found(halves: tuple[Map3D, Map3D]) -> None:
    moved = np.roll(halves[1], 9, axis=0)
    assert "half maps do not agree" in names(check_half_maps(halves[0], moved, half_map_fsc(halves[0], moved, VOXEL)))


@pytest.mark.parametrize(("width", "sharp"), [(0.0, True), (1.0, True), (2.0, True), (5.0, False), (8.0, False)])
def test_sharp_edges_are_found(width: float, sharp: bool, halves: tuple[Map3D, Map3D]) -> None:
    mask = sphere_mask(SIZE, 15.0, width)
    assert ("mask too sharp" in names(check_mask(mask, *halves, VOXEL))) == sharp


def test_the_width_of_an_edge_is_measured() -> None:
    for width in (4.0, 6.0, 9.0):
        assert edge_width(sphere_mask(SIZE, 10.0, width)) == pytest.approx(width, rel=0.15)
    assert edge_width(sphere_mask(SIZE, 10.0)) == pytest.approx(1.0)
    assert edge_width(np.zeros((4, 4, 4), dtype=np.float32)) == float("inf")


@pytest.mark.parametrize(("radius", "tight"), [(8.0, True), (9.5, True), (13.0, False), (15.0, False)])
def test_a_mask_that_cuts_the_particle_is_found(radius: float, tight: bool, halves: tuple[Map3D, Map3D]) -> None:
    mask = sphere_mask(SIZE, radius, 4.0)
    assert ("mask too tight" in names(check_mask(mask, *halves, VOXEL))) == tight


def test_a_mask_that_holds_mostly_solvent_is_found(halves: tuple[Map3D, Map3D], good_mask: Map3D) -> None:
    small = [half * sphere_mask(SIZE, 5.0, 2.0) + 0.1 * white(seed) for half, seed in zip(halves, (3, 4), strict=True)]
    assert "mask mostly solvent" in names(check_mask(good_mask, *small, VOXEL))


def test_a_mask_that_fills_the_box_or_reaches_its_border_is_found(halves: tuple[Map3D, Map3D]) -> None:
    large = names(check_mask(sphere_mask(SIZE, 23.0, 4.0), *halves, VOXEL))
    assert {"mask fills the box", "mask reaches the border"} <= set(large)
    aside = sphere_mask(SIZE, 15.0, 6.0, center=(10.0, 0.0, 0.0))
    found = names(check_mask(aside, *halves, VOXEL))
    assert "mask reaches the border" in found
    assert "mask fills the box" not in found


def test_solvent_noise_in_a_mask_is_found(halves: tuple[Map3D, Map3D]) -> None:
    noise = lowpass_density(white(7), 8.0, VOXEL)
    specks = (sphere_mask(SIZE, 13.0) > 0) | (noise > 3.5 * noise.std())
    assert "solvent noise in the mask" in names(check_mask(mask_from_binary(specks, 1.5, 5.0), *halves, VOXEL))
    two = sphere_mask(SIZE, 13.0) + sphere_mask(SIZE, 2.0, center=(20.0, 0.0, 0.0))
    assert "solvent noise in the mask" not in names(check_mask(np.minimum(two, 1), *halves, VOXEL))


def falling(end: float, floor: float = 0.0) -> NDArray[np.float64]:
    """An FSC that falls smoothly through one half at a shell."""
    return np.maximum(1.0 / (1.0 + np.exp((SHELLS - end) / 1.2)), floor)


def curves(corrected: NDArray[np.float64], **others: object) -> HalfMapFsc:
    start = 8
    given = {
        "unmasked": falling(8.0),
        "masked": corrected,
        "randomised": np.where(start > SHELLS, 1.0, 0.0),
        "randomised_from": start,
        **others,
    }
    return HalfMapFsc(VOXEL, SIZE, corrected=corrected, **given)  # type: ignore[arg-type]


def test_plain_curves_are_not_complained_of() -> None:
    assert not check_fsc(curves(falling(12.0)), FscSettings())


def test_an_fsc_that_never_falls_low_enough_to_randomise_is_found() -> None:
    high = 0.95 - 0.002 * SHELLS
    found = check_fsc(
        curves(high, unmasked=high, masked=high, randomised=None, randomised_from=None),
        FscSettings(randomise_below=0.8),
    )
    assert "FSC never falls low enough" in names(found)
    assert "and the masked one" in found[0].text
    found = check_fsc(curves(falling(12.0), randomised=None, randomised_from=None), FscSettings(randomise_below=0.1))
    assert "the unmasked FSC never falls below 0.1" in found[0].text


def test_random_phases_that_still_correlate_are_found() -> None:
    """RELION's limit: 0.1 at the final resolution."""
    for level, bad in ((0.05, False), (0.15, True)):
        fsc = curves(falling(12.0), randomised=np.where(SHELLS < 8, 1.0, level))
        assert ("mask too tight or sharp" in names(check_fsc(fsc, FscSettings()))) == bad


def test_a_dip_of_the_correction_is_found_and_one_of_the_data_is_not() -> None:
    dipped = falling(16.0)
    dipped[11] = 0.4
    assert "dip where phases are randomised" in names(check_fsc(curves(dipped, masked=falling(16.0)), FscSettings()))
    assert not check_fsc(curves(dipped), FscSettings())


def test_an_unmasked_fsc_that_does_not_drop_is_found() -> None:
    found = names(check_fsc(curves(falling(40.0), unmasked=falling(8.0, floor=0.2)), FscSettings()))
    assert {"unmasked FSC does not drop", "FSC not zero at Nyquist"} <= set(found)


def test_an_fsc_that_is_not_zero_at_nyquist_is_found() -> None:
    limited = check_fsc(curves(falling(24.0)), FscSettings())
    assert names(limited) == ["FSC not zero at Nyquist"]
    assert "the pixels, not the data" in limited[0].text
    plateau = check_fsc(curves(falling(12.0, floor=0.08)), FscSettings())
    assert names(plateau) == ["FSC not zero at Nyquist"]
    assert "stays near 0.08" in plateau[0].text


def test_a_curve_that_is_still_falling_at_nyquist_is_no_plateau() -> None:
    """The threshold is crossed a few shells before the end: what is left there is structure on its way to zero."""
    curve = np.full(len(SHELLS), 0.9)
    curve[0], curve[-5:] = 1.0, 0.09
    assert "FSC not zero at Nyquist" not in names(check_fsc(curves(curve), FscSettings()))


def test_an_fsc_that_rises_again_is_found() -> None:
    bump = falling(9.0) + 0.4 * np.exp(-((SHELLS - 17.0) ** 2) / 4)
    found = check_fsc(curves(bump), FscSettings())
    assert "FSC rises again" in names(found)
    spike = falling(9.0)
    spike[17] = 0.3
    assert not check_fsc(curves(spike), FscSettings())


def test_a_mask_that_was_set_aside_is_told() -> None:
    assert names(check_fsc(curves(falling(12.0)).without_mask(), FscSettings(), mask_set_aside=True)) == [
        "mask not used"
    ]


def test_fits_of_the_bfactor_are_judged() -> None:
    line = np.zeros(len(SHELLS))
    plot = GuinierPlot(line, line, None, None, line, GuinierFit(-30.0, -5.0, 0.9, 10.0, 6.0))
    automatic = SharpeningSettings(automatic=True)
    assert not check_sharpening(plot, automatic, 6.0)
    assert names(check_sharpening(replace(plot, fit=None), automatic, 9.0)) == ["B-factor not fitted"]
    for fit in (GuinierFit(5.0, -5.0, 0.9, 10.0, 6.0), GuinierFit(-30.0, -5.0, 0.2, 10.0, 6.0)):
        assert names(check_sharpening(replace(plot, fit=fit), automatic, 6.0)) == ["Guinier plot not a line"]
    assert names(check_sharpening(plot, SharpeningSettings(bfactor=50.0), 6.0)) == ["B-factor blurs"]
    assert not check_sharpening(plot, SharpeningSettings(bfactor=-50.0), 6.0)


def test_a_resolution_that_noise_could_have_is_told() -> None:
    """By chance, the first shells of noise in a small mask lie above 0.143."""
    curve = np.r_[1.0, 0.3, 0.25, np.zeros(SIZE // 2 - 2)]
    noise = np.r_[1.0, 0.5, 0.3, np.full(SIZE // 2 - 2, 0.01)]
    fsc = HalfMapFsc(VOXEL, SIZE, curve, curve, noise=noise)
    assert "resolution not told from noise" in names(check_fsc(fsc, FscSettings()))
    assert "resolution not told from noise" not in names(check_fsc(replace(fsc, noise=noise / 20), FscSettings()))


def test_shells_that_noise_could_reach_are_no_rise() -> None:
    curve = np.r_[np.ones(6), np.zeros(3), np.full(4, 0.2), np.zeros(SIZE // 2 - 12)]
    fsc = HalfMapFsc(VOXEL, SIZE, curve, curve, noise=np.full(len(curve), 0.08))
    assert "FSC rises again" not in names(check_fsc(fsc, FscSettings()))
    assert "FSC rises again" in names(check_fsc(replace(fsc, noise=np.full(len(curve), 0.02)), FscSettings()))
