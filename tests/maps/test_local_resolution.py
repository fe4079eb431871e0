"""Local resolution: windows, their FSC, the likelihood-ratio test, and maps filtered from place to place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import ndimage

from vitrea.formats.mrc import read_map
from vitrea.fourier.filters import lowpass
from vitrea.fourier.fsc import fourier_shell_correlation, randomise_phases
from vitrea.fourier.shells import spread_shells
from vitrea.fourier.transforms import to_fourier, to_real
from vitrea.maps import local_filter
from vitrea.maps import local_fsc as windowed
from vitrea.maps import local_ratio_test as waves
from vitrea.maps.local_filter import filter_by_map, filter_in_windows, sharpened_transform, window_filters
from vitrea.maps.local_windows import window_lattice
from vitrea.maps.masking import sphere_mask
from vitrea.records.recorder import SilentRecorder

Floats = NDArray[np.floating[Any]]


def noise(size: int, seed: int) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=(size,) * 3).astype(np.float32)


def half_maps(size: int, snr_edge: float = 0.25, seed: int = 3) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return a ball of texture whose spectrum falls, twice, with independent white noise."""
    signal = noise(size, seed) * sphere_mask(size, 0.3 * size, 2.0)
    transform = to_fourier(torch.from_numpy(signal), 3)
    k = torch.fft.fftfreq(size)
    radius = (k[:, None, None] ** 2 + k[:, None] ** 2 + torch.fft.rfftfreq(size) ** 2).sqrt()
    smooth = to_real(transform * torch.exp(-((radius / snr_edge) ** 2)), size, 3).numpy()
    return tuple((smooth + 0.15 * noise(size, seed + half)).astype(np.float32) for half in (1, 2))  # type: ignore[return-value]


def test_windows_lie_where_relion_lays_them() -> None:
    lattice = window_lattice(64, 3.54, 20.0)
    assert (lattice.step, lattice.radius, lattice.edge) == (6, 3, 6)
    assert len(lattice.centres) == 474  # as many as RELION's loop visits
    assert lattice.window[lattice.reach, lattice.reach, lattice.reach + lattice.radius] == 1.0
    assert 0 < lattice.window[lattice.reach, lattice.reach, -1] < 0.1
    assert window_lattice(64, 3.54, 20.0, radius=20.0, edge=0.0).width == 13


def test_windows_that_fit_nowhere_are_refused() -> None:
    with pytest.raises(ValueError, match="larger than the box"):
        window_lattice(16, 2.0, 40.0)
    with pytest.raises(ValueError, match="smaller than a voxel"):
        window_lattice(16, 2.0, 1.0)
    corner = np.zeros((32,) * 3)
    corner[0, 0, 0] = 1
    with pytest.raises(ValueError, match="no window"):
        window_lattice(32, 1.0, 6.0, mask=corner)


def test_values_of_windows_are_blended_as_the_windows_overlap() -> None:
    lattice = window_lattice(23, 1.0, 5.0, radius=3.0, edge=6.0)
    values = np.random.default_rng(0).normal(size=(len(lattice.centres), 2))
    windows = np.stack([lattice.in_box(centre) for centre in lattice.centres]).astype(np.float64)
    total = windows.sum(axis=0)
    for column, blended in zip(values.T, lattice.blend(values), strict=True):
        expected = np.tensordot(column, windows, 1) / np.where(total > 0, total, 1)
        np.testing.assert_allclose(blended, expected, atol=2e-5)
    shares = (windows**2).sum(axis=(1, 2, 3)) / (lattice.window.astype(np.float64) ** 2).sum()
    np.testing.assert_allclose(lattice.shares_of_power, shares, rtol=1e-6)
    assert shares.min() < 0.99


def test_a_mask_leaves_out_only_windows_that_have_no_say_in_it() -> None:
    mask = sphere_mask(32, 4.0, 0.0, center=(6.0, 0.0, -5.0))
    every, some = (window_lattice(32, 1.0, 6.0, mask=chosen) for chosen in (None, mask))
    assert len(some.centres) < 0.7 * len(every.centres)
    full, part = (next(one.blend(np.sin(one.centres @ [1.0, 2.0, 3.0])[:, None])) for one in (every, some))
    np.testing.assert_allclose(part[mask > 0.5], full[mask > 0.5], atol=1e-5)


def test_curves_of_whole_boxes_are_those_of_masked_half_maps(monkeypatch: pytest.MonkeyPatch) -> None:
    """With boxes as large as the map's, the masked curve is the plain FSC, and the control the mean of many draws."""
    first, second = half_maps(24)
    lattice = window_lattice(24, 2.0, 12.0)
    monkeypatch.setattr(windowed, "_BOX_PER_WINDOW", 9.0)
    local = windowed.local_fsc(first, second, 2.0, lattice, randomise_at=12.0)
    start = local.randomised_from
    assert start == 4
    generator = torch.Generator().manual_seed(0)
    halves = [torch.from_numpy(one) for one in (first, second)]
    draws = [[randomise_phases(half, start, generator) for half in halves] for _ in range(60)]
    for number in range(0, len(lattice.centres), 37):
        window = torch.from_numpy(lattice.in_box(lattice.centres[number]))
        plain = fourier_shell_correlation(halves[0] * window, halves[1] * window).double().numpy()
        np.testing.assert_allclose(local.masked[number, 1:], plain[1:], atol=1e-5)
        drawn = np.mean([fourier_shell_correlation(a * window, b * window).numpy() for a, b in draws], axis=0)
        np.testing.assert_allclose(local.randomised[number, 1:], drawn[1:], atol=0.13)
        beyond = slice(start + 2, None)
        corrected = (local.masked - local.randomised)[:, 1:] / (1 - local.randomised[:, 1:])
        np.testing.assert_allclose(local.corrected[number, beyond], corrected[number, start + 1 :])
    np.testing.assert_array_equal(local.corrected[:, : start + 2], local.masked[:, : start + 2])


def test_boxes_cut_out_give_nearly_the_curves_of_whole_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = half_maps(48)
    lattice = window_lattice(48, 2.0, 12.0, mask=sphere_mask(48, 14.0))
    cut = windowed.local_fsc(first, second, 2.0, lattice)
    monkeypatch.setattr(windowed, "_BOX_PER_WINDOW", 9.0)
    whole = windowed.local_fsc(first, second, 2.0, lattice)
    assert (cut.corrected - whole.corrected)[:, 2:].std() < 0.04
    difference = 96 / cut.resolution - 96 / whole.resolution  # shells
    assert abs(difference.mean()) < 0.3


def test_half_maps_of_noise_have_no_local_resolution() -> None:
    lattice = window_lattice(32, 2.0, 16.0)
    local = windowed.local_fsc(noise(32, 1), noise(32, 2), 2.0, lattice, lowest=40.0)
    assert np.median(local.resolution) == 40.0
    recorder = SilentRecorder()
    mask = sphere_mask(32, 13.0) > 0
    found, tests = waves.ratio_test_resolution(noise(32, 1), noise(32, 2), 2.0, mask, [4.4, 9.0], recorder=recorder)
    assert np.isinf(found[mask]).mean() > 0.95
    assert not found[~mask].any()
    assert tests[0].tested == mask.sum()


@pytest.mark.parametrize("wavelength", [5.0, pytest.param(9.0, marks=pytest.mark.slow)])
def test_the_statistic_of_noise_is_distributed_as_told(wavelength: float) -> None:
    """With mean and variance alone, without the skewness, twice as many values as told lie beyond p = 0.001."""
    size = 56  # noise is whitened by its own spectrum: the smaller the box, the more that takes (1% of the mean at 48)
    mask = np.ones((size,) * 3, dtype=bool)
    samples, nulls = [], []
    for seed in range(4):
        whitened = waves._whiten(noise(size, 2 * seed), noise(size, 2 * seed + 1), mask)
        statistic, null = waves._statistic(whitened, 2.0, wavelength, size)
        samples.append(statistic.double().numpy().ravel())
        nulls.append(null)
    values = np.concatenate(samples)
    assert values.mean() == pytest.approx(nulls[0].mean, rel=0.01)
    assert values.var() == pytest.approx(nulls[0].variance, rel=0.08)
    skewness = np.mean((values - values.mean()) ** 3) / values.std() ** 3
    assert skewness == pytest.approx(nulls[0].skewness, rel=0.25)
    for p_value, error in ((0.05, 0.15), (0.01, 0.3), (0.001, 0.6)):
        share = np.mean(nulls[0].log_p(values) < np.log(p_value))
        assert share == pytest.approx(p_value, rel=error)


def test_sixteen_filters_pass_the_same_in_all_directions() -> None:
    """The sum of squares of the filters depends on the radius alone: the basis is steerable."""
    axes, radial = waves._filters(24, 48.0, 6.0)
    assert len(waves.ORDERS) == 16
    total = sum(waves._filter(order, axes, radial).square() for order in waves.ORDERS)
    squared = sum(axis.square() for axis in axes)
    expected = radial.square() * (squared**2 / 2 + squared**3 / 6)
    torch.testing.assert_close(total, expected, rtol=1e-4, atol=1e-6)


def test_windows_filter_a_map_as_if_each_were_filtered_by_itself() -> None:
    first, second = half_maps(32)
    lattice = window_lattice(32, 2.0, 12.0)
    local = windowed.local_fsc(first, second, 2.0, lattice)
    transform = sharpened_transform(first, second, 2.0, bfactor=-30.0)
    filters = window_filters(local)
    assert (filters[:, -1] < 1).all() and filters.min() >= 0
    result = filter_in_windows(transform, local, filters)
    total, weight = np.zeros((32,) * 3), np.zeros((32,) * 3)
    for centre, curve in zip(lattice.centres, filters, strict=True):
        window = lattice.in_box(centre)
        total += window * to_real(transform * spread_shells(torch.from_numpy(curve).float(), 32, 3), 32, 3).numpy()
        weight += window
    expected = np.divide(total, weight, out=np.zeros_like(total), where=weight > 0)
    assert np.abs(result - expected).max() < 0.01 * expected.std() + 1e-6


def test_a_map_of_one_resolution_filters_as_a_low_pass() -> None:
    first, second = half_maps(32)
    transform = sharpened_transform(first, second, 2.0)
    flat = np.full((32,) * 3, 8.0, dtype=np.float32)
    filtered = filter_by_map(transform, 2.0, flat)
    expected = lowpass(torch.from_numpy((first + second) / 2), 8.0, 2.0).numpy()
    assert np.corrcoef(filtered.ravel(), expected.ravel())[0, 1] > 0.995
    flat[:16] = 0.0
    assert not filter_by_map(transform, 2.0, flat)[:16].any()


def test_voxels_lie_between_the_filters_that_their_place_names() -> None:
    rng = np.random.default_rng(1)
    transform = to_fourier(torch.from_numpy(noise(20, 4)), 3)
    curves = np.array([[1.0, *rng.uniform(size=10)] for _ in range(4)])
    voxels = np.sort(rng.choice(20**3, 3000, replace=False))
    place = np.concatenate([[0.0, 1.0, 3.0], rng.uniform(0, 3, 2997)])
    maps = np.stack([to_real(transform * spread_shells(torch.from_numpy(curve).float(), 20, 3), 20, 3).numpy().ravel()
                     for curve in curves])[:, voxels]  # fmt: skip
    lower = np.minimum(place.astype(int), 2)
    part = place - lower
    rows = np.arange(len(voxels))
    expected = np.zeros(20**3)
    expected[voxels] = (1 - part) * maps[lower, rows] + part * maps[lower + 1, rows]
    found = local_filter._between_filters(transform, curves, voxels, place)
    np.testing.assert_allclose(found.ravel(), expected, atol=1e-5)


def zones(size: int, voxel_size: float, limits: tuple[float, ...], ratio: float) -> tuple[list[Floats], Floats]:
    """Simulate half maps of random atoms in a ball, three slabs of which are low-pass filtered to different limits.

    The noise has the spectrum of the unblurred atoms, `ratio` times weaker in the mean map at every frequency inside
    the ball, so that nothing but the filters of the zones limits the resolution.
    """
    rng = np.random.default_rng(0)
    axis = np.arange(size) - size // 2
    radius = 0.42 * size
    ball = axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2 < radius**2
    atoms = np.zeros(size**3)
    np.add.at(atoms, rng.choice(np.flatnonzero(ball), int(0.03 * ball.sum() * voxel_size**3)), 1.0)
    k = np.fft.fftfreq(size, voxel_size)
    s = np.sqrt(k[:, None, None] ** 2 + k[:, None] ** 2 + np.fft.rfftfreq(size, voxel_size) ** 2)
    envelope = np.exp(-60 / 4 * s**2)
    transform = np.fft.rfftn(atoms.reshape((size,) * 3)) * envelope
    edge = 1 / (size * voxel_size)
    labels = np.digitize(axis, [-radius / 3, radius / 3]) + 1 + 0 * ball.astype(int)
    blurred = np.zeros(ball.shape)
    for number, limit in enumerate(limits, start=1):
        window = 0.5 + 0.5 * np.cos(np.pi * np.clip((s - 1 / limit + edge) / (2 * edge), 0, 1))
        blurred += np.fft.irfftn(transform * window, s=ball.shape, axes=(0, 1, 2)) * (labels == number)
    density = atoms.sum() / ball.sum()  # the power of random atoms, per voxel inside the ball
    sigma = np.sqrt(2 * density / ratio)
    halves = []
    for _ in range(2):
        noisy = np.fft.rfftn(sigma * rng.normal(size=ball.shape)) * envelope
        halves.append((blurred + np.fft.irfftn(noisy, s=ball.shape, axes=(0, 1, 2))).astype(np.float32))
    return halves, np.where(ball, labels, 0)


def test_relions_half_maps_give_relions_local_resolution(shared_reference: Path) -> None:
    """RELION draws its random phases once, without a seed: two of its draws agree no better than this."""
    folder = shared_reference / "betagal_real"
    first, second = (read_map(folder / f"refine3d/run_half{half}_class001_unfil.mrc").voxels for half in (1, 2))
    resolution = read_map(folder / "locres/locres_locres.mrc").voxels
    filtered = read_map(folder / "locres/locres_locres_filtered.mrc").voxels
    inside = read_map(folder / "postprocess/mask.mrc").voxels > 0.5
    local = windowed.local_fsc(first, second, 3.54, window_lattice(64, 3.54, 20.0), randomise_at=15.0)
    ours = local.resolution_map()
    np.testing.assert_array_equal(ours > 0, resolution > 0)
    assert np.median(ours[inside]) == pytest.approx(np.median(resolution[inside]), rel=0.03)
    assert np.median(np.abs(ours[inside] / resolution[inside] - 1)) < 0.025
    assert np.corrcoef(ours[inside], resolution[inside])[0, 1] > 0.95
    transform = sharpened_transform(first, second, 3.54, bfactor=-100.0)
    sharpened = filter_in_windows(transform, local, window_filters(local))
    known = resolution > 0
    assert np.corrcoef(sharpened[known], filtered[known])[0, 1] > 0.998
    assert np.polyfit(sharpened[known], filtered[known], 1)[0] == pytest.approx(1.0, abs=0.02)


def medians(resolution: Floats, labels: Floats, voxel_size: float) -> list[float]:
    """Return the median of each zone, farther from its border than half a window."""
    cores = [ndimage.distance_transform_edt(labels == zone) * voxel_size > 20 for zone in (1, 2, 3)]
    return [float(np.median(resolution[core])) for core in cores]


@pytest.mark.slow
def test_three_zones_have_the_resolution_they_were_blurred_to() -> None:
    """Zones of 5, 8 and 12 Å: every median within 10%, by both methods, on the same half maps."""
    limits, voxel_size, size = (5.0, 8.0, 12.0), 2.2, 144
    halves, labels = zones(size, voxel_size, limits, ratio=2.0)
    tested = [4.84 * 1.05**step for step in range(24)]
    found, _ = waves.ratio_test_resolution(halves[0], halves[1], voxel_size, labels > 0, tested)
    of_waves = medians(found, labels, voxel_size)
    lattice = window_lattice(size, voxel_size, 25.0, mask=labels > 0)
    local = windowed.local_fsc(halves[0], halves[1], voxel_size, lattice)
    of_windows = medians(local.resolution_map(), labels, voxel_size)
    assert of_waves == pytest.approx(limits, rel=0.1), (of_waves, of_windows)
    assert of_windows == pytest.approx(limits, rel=0.1), (of_waves, of_windows)
