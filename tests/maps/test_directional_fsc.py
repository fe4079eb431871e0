"""The FSC by direction: brute force, theory of known signal and noise, missing cones."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from vitrea.fourier.fsc import fourier_shell_correlation
from vitrea.fourier.grid import frequency_axes
from vitrea.fourier.transforms import to_fourier, to_real
from vitrea.geometry.hemisphere import axis_angle
from vitrea.maps.directional_filter import filter_by_direction, fsc_volume
from vitrea.maps.directional_fsc import (
    DirectedSamples,
    DirectionalFsc,
    cone_sums,
    crossing_shells,
    directional_fsc,
    sphericity,
)
from vitrea.maps.half_maps import half_map_fsc
from vitrea.maps.masking import sphere_mask

SIZE, VOXEL = 96, 1.5
Halves = tuple[NDArray[np.float32], NDArray[np.float32]]


def halves_of(ratio: torch.Tensor, seed: int = 0) -> Halves:
    """Half maps of white signal times the root of `ratio`, in Fourier space, and noise of unit power."""
    size = ratio.shape[0]
    generator = torch.Generator().manual_seed(seed)
    white = [to_fourier(torch.randn((size,) * 3, generator=generator), 3) for _ in range(3)]
    signal = white[0] * ratio.sqrt()
    one, other = (to_real(signal + noise, size, 3).numpy() for noise in white[1:])
    return one, other


def gaussian(size: int, squared: torch.Tensor, reach: float) -> torch.Tensor:
    """Signal to noise that falls from 100 as a Gaussian to 1/6, an FSC of 1/7 = 0.143, at a radius of `reach`."""
    return 100.0 * torch.exp(-np.log(600.0) * squared / reach**2)


def grid(size: int = SIZE) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    kx, ky, kz = frequency_axes(size, 3)
    return kx, ky, kz


@pytest.fixture(scope="module")
def isotropic() -> DirectionalFsc:
    kx, ky, kz = grid()
    return directional_fsc(*halves_of(gaussian(SIZE, kx**2 + ky**2 + kz**2, 30.0)), VOXEL)


def test_the_curve_of_a_direction_is_the_fsc_inside_its_cone() -> None:
    """Brute force over exact directions of samples; ours come in bins 1.8 degrees wide, which blurs a cone's rim."""
    size, cone = 32, 30.0
    kx, ky, kz = grid(size)
    one, other = halves_of(gaussian(size, kx**2 + ky**2 + kz**2, 10.0))
    fsc = directional_fsc(one, other, 1.0, cone=cone)
    full = [np.fft.fftn(np.fft.ifftshift(half)) for half in (one, other)]
    k = np.stack(np.meshgrid(*[np.fft.fftfreq(size, 1 / size)] * 3, indexing="ij")[::-1], axis=-1)  # x, y, z
    radius = np.linalg.norm(k, axis=-1)
    for number in (0, 700, 3333, 6000):
        inside = np.abs(k @ fsc.directions[number]) >= radius * np.cos(np.radians(cone))
        for shell in (7, 10, 13):
            chosen = inside & (radius.round() == shell)
            a, b = full[0][chosen], full[1][chosen]
            expected = (a * b.conj()).real.sum() / np.sqrt((abs(a) ** 2).sum() * (abs(b) ** 2).sum())
            # Some 3% of the samples of such cones change sides with the bins, of 50 to 180: 1 to 5 samples.
            assert fsc.curves[number, shell] == pytest.approx(expected, abs=0.06)
    assert np.allclose(fsc.overall[1:], fourier_shell_correlation(*map(torch.from_numpy, (one, other)))[1:], atol=1e-5)


def test_the_mean_over_directions_is_the_fsc_of_the_shell(isotropic: DirectionalFsc) -> None:
    # A ratio of means against a mean of ratios: they agree where a cone holds hundreds of samples.
    assert np.abs(isotropic.curves.mean(axis=0) - isotropic.overall)[12:].max() < 0.02
    assert (isotropic.curves[:, 0] == 1).all() and isotropic.overall[0] == 1


def test_equal_resolution_in_all_directions_is_a_sphere(isotropic: DirectionalFsc) -> None:
    """At shell 30 a cone holds 340 independent samples: the FSC there scatters by 0.05, the crossing by 0.9 shells.

    Averaged over caps it scatters by less than 3%; a surface with such ripples, 20 degrees wide, has 1% more area.
    """
    for threshold in (0.5, 0.143):
        assert isotropic.at(threshold).sphericity > 0.985
    found = isotropic.at(0.143)
    assert np.median(found.resolutions) == pytest.approx(SIZE * VOXEL / 30.0, rel=0.02)
    assert found.resolutions.std() < 0.05 * SIZE * VOXEL / 30.0
    assert isotropic.overall_resolution(0.143) == pytest.approx(SIZE * VOXEL / 30.0, rel=0.02)


@pytest.mark.parametrize(
    ("axis", "half_angle"), [((1.0, 2.0, 2.0), 40.0), pytest.param((0.0, 0.0, 1.0), 35.0, marks=pytest.mark.slow)]
)
def test_a_missing_cone_is_found_where_it_is(axis: tuple[float, float, float], half_angle: float) -> None:
    kx, ky, kz = grid()
    radius = (kx**2 + ky**2 + kz**2).sqrt()
    unit = np.array(axis) / np.linalg.norm(axis)
    along = (kx * unit[0] + ky * unit[1] + kz * unit[2]).abs()
    kept = (along <= radius * np.cos(np.radians(half_angle))) | (radius == 0)
    found = directional_fsc(*halves_of(gaussian(SIZE, radius**2, 30.0) * kept), VOXEL).at(0.143)
    assert axis_angle(found.worst_axis, unit) < 5.0
    away = axis_angle(found.directions, unit)
    # A cone of 20 degrees that lies in the gap has noise alone, one that lies outside is as if there were no gap.
    inside, outside = away < half_angle - 20 - 2, away > half_angle + 20 + 2
    assert found.resolutions[inside].min() > 2 * SIZE * VOXEL / 30.0
    assert np.median(found.resolutions[outside]) == pytest.approx(SIZE * VOXEL / 30.0, rel=0.02)
    # A hundredth of a cone with signal is enough for agreement at coarse shells (100 times the noise): what ends early
    # are the cones that lie in the gap but for their rims.
    poor = np.degrees(np.arccos(1 - (found.shells < 15.0).mean()))
    assert half_angle - 20 <= poor <= half_angle - 12
    assert found.sphericity < 0.95


def test_resolution_that_changes_with_direction_is_measured_in_each() -> None:
    """Signal to noise with ellipsoids as surfaces: 1/6 at shell 36 along x and y, at shell 20 along z."""
    kx, ky, kz = grid()
    reach = 36.0
    squared = kx**2 + ky**2 + kz**2 * (reach / 20.0) ** 2
    fsc = directional_fsc(*halves_of(gaussian(SIZE, squared, reach)), VOXEL, cone=10.0)
    found = fsc.at(0.143)
    x, y, z = fsc.directions.T
    expected = 1 / np.sqrt((x**2 + y**2) / reach**2 + z**2 / 20.0**2)
    # The mean over 10 degrees takes off the sharpest parts: 2% at the poles. Noise is averaged over 400 directions.
    for chosen in (z > 0.97, (z > 0.6) & (z < 0.7), z < 0.1):
        assert found.shells[chosen].mean() == pytest.approx(expected[chosen].mean(), rel=0.06)
    assert axis_angle(found.worst_axis, [0, 0, 1]) < 8.0
    assert axis_angle(found.best_axis, [0, 0, 1]) > 65.0
    # An oblate spheroid of axes 36, 36, 20: sphericity from its area, 2 pi a^2 (1 + (1 - e^2) / e atanh e).
    e = np.sqrt(1 - (20 / 36) ** 2)
    area = 2 * np.pi * 36**2 * (1 + (1 - e**2) / e * np.arctanh(e))
    exact = np.pi ** (1 / 3) * (6 * 4 / 3 * np.pi * 36**2 * 20) ** (2 / 3) / area
    assert sphericity(fsc.directions, expected) == pytest.approx(exact, abs=0.002)
    assert found.sphericity == pytest.approx(exact, abs=0.03)


def test_the_cone_changes_what_is_averaged(isotropic: DirectionalFsc) -> None:
    kx, ky, kz = grid(48)
    pair = halves_of(gaussian(48, kx**2 + ky**2 + kz**2, 15.0))
    narrow, wide, all_of_it = (directional_fsc(*pair, VOXEL, cone=cone) for cone in (10.0, 40.0, 90.0))
    assert narrow.spread[8:].min() > 2 * wide.spread[8:].min()
    assert all_of_it.spread.max() < 1e-5
    with pytest.raises(ValueError, match="half angle"):
        directional_fsc(*pair, VOXEL, cone=0.0)
    with pytest.raises(ValueError, match="different shape"):
        directional_fsc(pair[0], pair[1][:-1], VOXEL)


def test_a_mask_alone_gives_no_resolution() -> None:
    """Noise that shares only its coarse part: a tight mask feigns agreement, the correction takes it off everywhere."""
    size = 64
    kx, ky, kz = grid(size)
    pair = halves_of(100.0 * ((kx**2 + ky**2 + kz**2) < 8**2).float())
    mask = sphere_mask(size, 14.0, 0.0)
    fsc = directional_fsc(*pair, 2.0, mask)
    plain = directional_fsc(pair[0] * mask, pair[1] * mask, 2.0)
    assert fsc.randomised_from is not None and 7 <= fsc.randomised_from <= 9
    beyond = slice(fsc.randomised_from + 2, 30)
    assert plain.curves[:, beyond].mean() > 0.1
    assert abs(fsc.curves[:, beyond].mean()) < 0.05
    whole = half_map_fsc(*pair, 2.0, mask)
    assert np.abs(fsc.overall - whole.corrected)[:30].mean() < 0.05  # two draws of phases against four


def test_crossings_are_drawn_with_straight_lines() -> None:
    curves = np.array([[1, 0.9, 0.4, 0.1], [1, 0.9, 0.8, 0.7], [1, 0.2, 0.9, 0.9], [1, 0.6, 0.5, 0.1]])
    assert crossing_shells(curves, 0.5).tolist() == pytest.approx([1.8, 3.0, 0.5, 2.0])


def test_sums_over_cones_hold_what_lies_in_them() -> None:
    directions = np.array([[0, 0, 1], [np.sin(0.3), 0, np.cos(0.3)], [1, 0, 0]], dtype=np.float32)
    values = np.array([[1.0, 2.0, 4.0]], dtype=np.float32)
    assert cone_sums(values, directions, 20.0).tolist() == [[3.0, 3.0, 4.0]]
    assert cone_sums(values, directions, 10.0).tolist() == [[1.0, 2.0, 4.0]]


@pytest.mark.parametrize("size", [24, 25])
def test_the_3d_fsc_has_the_curves_of_all_directions(size: int) -> None:
    kx, ky, kz = grid(size)
    squared = kx**2 + ky**2 + (1.5 * kz) ** 2
    fsc = directional_fsc(*halves_of(gaussian(size, squared, 9.0)), 2.0)
    volume = fsc_volume(fsc)
    centre = size // 2
    assert volume.shape == (size,) * 3 and volume[centre, centre, centre] == 1.0
    inner = slice(centre - 9, centre + 10)
    ball = volume[inner, inner, inner]
    assert np.allclose(ball, ball[::-1, ::-1, ::-1])  # mates are equal
    samples = DirectedSamples(size)
    for vector in ([0, 0, 6], [7, 0, 0], [-3, 5, -4], [2, -6, 1]):
        number = int(samples.grid.index(vector))
        radius = float(np.linalg.norm(vector))
        expected = np.interp(radius, np.arange(fsc.curves.shape[1]), fsc.curves[number])
        x, y, z = (centre + part for part in vector)
        assert volume[z, y, x] == pytest.approx(expected, abs=1e-5)
    assert volume[0, 0, 0] == 0.0


def test_the_filter_ends_where_each_direction_ends() -> None:
    kx, ky, kz = grid(48)
    radius = (kx**2 + ky**2 + kz**2).sqrt()
    squared = kx**2 + ky**2 + (2 * kz) ** 2
    pair = halves_of(gaussian(48, squared, 20.0))
    fsc = directional_fsc(*pair, 1.0)
    found = fsc.at(0.143)
    mean = (pair[0] + pair[1]) / 2
    before, after = (
        to_fourier(torch.from_numpy(one), 3).abs() for one in (mean, filter_by_direction(mean, fsc, found))
    )
    samples = DirectedSamples(48)
    ratio = (after / before)[samples.inside]
    end = torch.from_numpy(found.shells[samples.bin.numpy()]).float()
    beyond = samples.radius > end + 1.01
    assert float(after[samples.inside][beyond].max()) < 1e-5 * float(before.max())  # float32
    within = ratio[(samples.radius < end - 1.01) & (samples.radius > 0)]
    assert float(within.min()) > 0.45 and float(within.max()) <= 1.001  # sqrt(2 x 0.143 / 1.143) = 0.5
    assert float(radius[(after > 0.3 * before) & (kz.abs() > 0.95 * radius)].max()) < 15  # half of 20, and a cone
