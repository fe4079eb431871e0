"""Spectral sharpening: what is known to be damped comes back; weights, edges, hands and falls as their formulas."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from vitrea.formats.atomic_models import read_atoms
from vitrea.fourier.filters import apply_bfactor
from vitrea.fourier.fsc import fourier_shell_correlation
from vitrea.fourier.transforms import to_fourier
from vitrea.maps.masking import sphere_mask
from vitrea.maps.protein_spectrum import protein_amplitudes
from vitrea.maps.sharpening_choice import choose_sharpening
from vitrea.maps.spectral_sharpening import (
    SpectralSettings,
    amplitude_profile,
    change_hand,
    correct_gridding,
    figure_of_merit,
    normalise,
    sharpen_spectrum,
    spectral_gain,
    spread_gain,
)
from vitrea.simulate.density import density_from_atoms
from vitrea.simulate.scattering import in_ice

SIZE, VOXEL = 48, 2.0
Array = NDArray[np.float32]


def white(size: int = SIZE, seed: int = 0) -> Array:
    """White noise without what lies in the corners of Fourier space: a flat spectrum."""
    noise = np.random.default_rng(seed).normal(size=(size,) * 3).astype(np.float32)
    return np.asarray(apply_bfactor(torch.from_numpy(noise), 0.0, VOXEL))


def damped(density: Array, bfactor: float) -> Array:
    return apply_bfactor(torch.from_numpy(density), bfactor, VOXEL).numpy()


def frequencies(size: int = SIZE) -> NDArray[np.float64]:
    return np.arange(size // 2 + 1) / (size * VOXEL)


@pytest.mark.parametrize("size", [SIZE, 45])
def test_a_map_damped_by_a_known_bfactor_comes_back(size: int) -> None:
    truth = white(size)
    result = sharpen_spectrum(damped(truth, 120.0), VOXEL, SpectralSettings(bfactor_low=-120.0))
    # Between shells the factor is drawn with straight lines, 1% off at most where it rises by 10% a shell.
    assert np.corrcoef(result.density.ravel(), truth.ravel())[0, 1] > 0.9999
    assert result.density.std() == pytest.approx(truth.std(), rel=5e-3)
    assert np.allclose(result.gain, np.exp(30.0 * frequencies(size) ** 2))


def test_flattening_gives_a_flat_profile_that_joins_what_is_below() -> None:
    mask = sphere_mask(SIZE, 16.0, 5.0)
    result = sharpen_spectrum(damped(white(), 150.0), VOXEL, SpectralSettings(bfactor_low=-50.0, limit=10.0), mask)
    border = SIZE * VOXEL / 10.0
    beyond = result.after[int(border) + 1 : -1]
    # The mask mixes shells, whose factors differ: a few percent.
    assert np.ptp(beyond) / beyond.mean() < 0.08
    factors = spectral_gain(frequencies(), result.before, result.merit, SpectralSettings(-50.0, 0.0, 10.0))
    at_limit = np.interp(0.1, frequencies(), result.before) * np.exp(12.5 / 100)
    assert np.allclose((factors * result.before)[10:], at_limit)
    assert np.allclose(factors[:9], np.exp(12.5 * frequencies()[:9] ** 2))


def test_the_second_bfactor_acts_beyond_the_limit_only() -> None:
    profile, k = np.exp(-40.0 * frequencies() ** 2), frequencies()
    plain = spectral_gain(k, profile, np.ones_like(k), SpectralSettings(-60.0, 0.0, 12.0))
    with_second = spectral_gain(k, profile, np.ones_like(k), SpectralSettings(-60.0, 25.0, 12.0))
    beyond = np.maximum(k**2 - 12.0**-2, 0.0)
    assert np.allclose(with_second, plain * np.exp(-25.0 / 4 * beyond))
    unflattened = spectral_gain(k, profile, np.ones_like(k), SpectralSettings(-60.0, 25.0, 12.0, flatten=False))
    assert np.allclose(unflattened, np.exp(15.0 * np.minimum(k**2, 12.0**-2) - 25.0 / 4 * beyond))


def test_figures_of_merit_equal_their_formula() -> None:
    fsc = np.array([1.0, 0.9, 0.5, 0.143, 0.0, -0.2])
    ssnr = 2 * fsc[1:4] / (1 - fsc[1:4])
    for scale in (1.0, 2.5):
        expected = np.concatenate([[1.0], scale * ssnr / (1 + scale * ssnr), [0.0, 0.0]])
        assert np.allclose(figure_of_merit(fsc, scale), expected)
    assert figure_of_merit(np.array([0.143]))[0] == pytest.approx(0.5**2, abs=1e-3)  # C_ref = 0.5, squared


def test_components_are_weighted_by_the_figure_of_merit() -> None:
    merit = np.linspace(1.0, 0.2, SIZE // 2 + 1)
    density = white()
    result = sharpen_spectrum(density, VOXEL, SpectralSettings(), merit=merit)
    ratio = amplitude_profile(result.density)[1:-1] / amplitude_profile(density)[1:-1]
    assert np.allclose(ratio, merit[1:-1], rtol=0.01)


def test_the_cutoff_ends_where_it_says_with_a_cosine_of_the_width_given() -> None:
    k = np.linspace(0.0, 0.25, 251)
    gain = spectral_gain(k, np.ones_like(k), np.ones_like(k), SpectralSettings(cutoff=5.0, filter_edge=20.0))
    assert np.allclose(gain[k <= 0.15 + 1e-9], 1.0)
    assert np.interp(0.175, k, gain) == pytest.approx(0.5, abs=1e-3)
    assert np.allclose(gain[k >= 0.2 - 1e-9], 0.0, atol=1e-12)
    hard = spectral_gain(k, np.ones_like(k), np.ones_like(k), SpectralSettings(cutoff=5.0, filter_edge=0.0))
    assert hard.sum() == pytest.approx(201)


def test_the_signal_can_be_flattened_instead() -> None:
    k = frequencies()
    merit, noise = np.exp(-40 * k**2), 1.0
    signal = np.exp(-80 * k**2)
    profile = signal / np.sqrt(merit) + 0 * noise
    gain = spectral_gain(k, profile, merit, SpectralSettings(0.0, 0.0, 10.0, flatten_signal=True))
    expected = np.interp(0.1, k, signal) / signal * merit
    assert np.allclose(gain[11:], expected[11:], rtol=1e-2)


def test_amplitudes_can_be_brought_to_those_of_proteins() -> None:
    k = frequencies()
    profile = np.exp(-30 * k**2)
    gain = spectral_gain(k, profile, np.ones_like(k), SpectralSettings(-20.0, 0.0, 10.0, protein=True))
    after = gain * profile
    assert np.allclose(after[11:] / after[11], (protein_amplitudes(k) / protein_amplitudes(k)[11])[11:])
    assert np.allclose(gain[:10], np.exp(5.0 * k[:10] ** 2))


def test_the_spectrum_of_proteins_peaks_where_sheets_and_helices_have_their_distances() -> None:
    k = np.linspace(0.1, 0.4, 301)
    amplitude = protein_amplitudes(k)
    assert 4.3 < 1 / k[amplitude.argmax()] < 4.8
    assert 6.0 < 1 / k[amplitude[k < 0.2].argmin()] < 7.2
    assert np.log(amplitude[k <= 0.25]).mean() == pytest.approx(0.0, abs=0.02)
    assert np.allclose(protein_amplitudes(np.array([0.0, 0.9])), protein_amplitudes(np.array([0.1, 0.6])))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "assembly"), [("5a1a.pdb.gz", None), ("7a4m.cif.gz", "1"), ("3j9i.pdb.gz", None)])
def test_models_of_proteins_have_the_spectrum_of_proteins(shared_data: Path, name: str, assembly: str | None) -> None:
    atoms = read_atoms(shared_data / "models" / name, assembly)
    voxel_size, size = 1.5, 144 if name.startswith("3") else 136
    voxels = in_ice(density_from_atoms(atoms, size, voxel_size, -20.0), voxel_size, atoms)
    k = np.arange(size // 2 + 1) / (size * voxel_size)
    inside = (k > 0.1) & (k < 0.3)
    ratio = np.log(amplitude_profile(voxels) / protein_amplitudes(k))[inside]
    # What is left is the atoms' mean B-factor, about 20 Å², less what was taken back, and single shells.
    assert np.std(ratio - np.polyval(np.polyfit(k[inside] ** 2, ratio, 1), k[inside] ** 2)) < 0.12


def test_a_shell_without_amplitude_stays_empty() -> None:
    gain = spectral_gain(frequencies(), np.r_[np.ones(20), np.zeros(5)], np.ones(25), SpectralSettings(limit=20.0))
    assert (gain[20:] == 0).all()
    assert np.isfinite(gain).all()


def test_the_mask_decides_where_amplitudes_are_measured() -> None:
    inside, outside = sphere_mask(SIZE, 10.0, 4.0), white(seed=3)
    molecule = damped(white(seed=4), 100.0) * inside
    alone = amplitude_profile(molecule, inside)
    crowded = amplitude_profile(molecule + 5.0 * (inside < 0.01) * outside + 3.0, inside)
    assert np.allclose(crowded[3:15], alone[3:15], rtol=0.35)
    assert crowded[3:].sum() == pytest.approx(alone[3:].sum(), rel=0.25)
    assert (amplitude_profile(molecule + 5.0 * (inside < 0.01) * outside)[3:] > 3 * alone[3:]).all()


def test_the_gain_is_zero_beyond_nyquist_and_lies_on_its_shells() -> None:
    for size in (16, 15):
        curve = np.arange(1.0, size // 2 + 2)
        window = spread_gain(curve, size).numpy()
        assert window[0, 0].tolist() == curve.tolist()
        assert window[3, 4, 0] == pytest.approx(6.0)
        assert window[size // 2, size // 2, -1] == 0


def test_gridding_is_what_interpolation_of_neighbours_does() -> None:
    """Sample a point's transform off the grid by trilinear interpolation; what comes back fades as corrected."""
    size, place = 20, np.array([6, -4, 3])  # x, y, z from the centre
    density = np.zeros((size,) * 3, dtype=np.float32)
    centre = size // 2
    density[centre + place[2], centre + place[1], centre + place[0]] = 1.0
    rng = np.random.default_rng(1)
    where = rng.uniform(0, size, (200_000, 3))
    corner, part = np.floor(where), where % 1
    sampled = np.zeros(len(where), dtype=np.complex128)
    for offset in np.ndindex(2, 2, 2):
        weight = np.prod(np.where(offset, part, 1 - part), axis=1)
        sampled += weight * np.exp(-2j * np.pi * (corner + offset) @ place / size)
    seen = (sampled * np.exp(2j * np.pi * where @ place / size)).mean().real
    corrected = correct_gridding(seen * density)
    # 200,000 samples that scatter by less than 1.
    assert corrected.max() == pytest.approx(1.0, abs=0.01)
    assert seen < 0.85


def test_gridding_correction_keeps_the_background_and_stops_at_its_radius() -> None:
    density = np.full((24, 24, 24), 2.0, dtype=np.float32)
    density[12, 12, 20] += 1.0
    assert correct_gridding(density)[12, 12, 20] - 2.0 == pytest.approx(1 / np.sinc(8 / 24) ** 2, rel=1e-5)
    assert correct_gridding(density, radius=5.0)[12, 12, 20] - 2.0 == pytest.approx(1 / np.sinc(5 / 24) ** 2, rel=1e-5)
    assert correct_gridding(density, padding=2.0)[12, 12, 20] - 2.0 == pytest.approx(1 / np.sinc(8 / 48) ** 2, rel=1e-5)
    assert np.allclose(np.delete(correct_gridding(density).ravel(), 12 * 24**2 + 12 * 24 + 20), 2.0)


def test_the_hand_is_changed_about_the_centre() -> None:
    density = np.zeros((12, 12, 12), dtype=np.float32)
    density[3, 4, 9] = 1.0
    mirrored = change_hand(density)
    assert mirrored[3, 4, 3] == 1.0
    assert mirrored.sum() == 1.0


def test_normalised_maps_have_the_deviation_asked_for() -> None:
    density = normalise(3.0 * white() + 1.0, 0.03)
    assert density.mean() == pytest.approx(0.0, abs=1e-6)
    assert density.std() == pytest.approx(0.03, rel=1e-5)


@pytest.fixture(scope="module")
def molecule() -> Array:
    """A ball of atoms at random, as sharp as the voxels show them, with the spectrum of a protein."""
    rng = np.random.default_rng(2)
    points = rng.uniform(-1, 1, (900, 3))
    points = (points[np.linalg.norm(points, axis=1) < 1] * 15).round().astype(int) + 32
    density = np.zeros((64,) * 3, dtype=np.float32)
    np.add.at(density, tuple(points.T), 1.0)
    # 900 points scatter alike in all shells beyond 15 Å.
    return sharpen_spectrum(density, VOXEL, SpectralSettings(), merit=protein_amplitudes(frequencies(64))).density


def halves(molecule: Array, decay: NDArray[np.float64], noise: float) -> tuple[Array, Array]:
    """Damp a molecule by a factor for each shell, and add white noise, twice."""
    signal = sharpen_spectrum(molecule, VOXEL, SpectralSettings(), merit=decay).density
    rng = np.random.default_rng(5)
    first, second = (signal + rng.normal(0, noise, signal.shape).astype(np.float32) for _ in range(2))
    return first, second


DECAYS = {
    "one B-factor": lambda k: np.exp(-150.0 / 4 * k**2),
    "two B-factors": lambda k: 0.7 * np.exp(-500.0 / 4 * k**2) + 0.3 * np.exp(-50.0 / 4 * k**2),
}


@pytest.mark.parametrize("kind", list(DECAYS))
def test_the_automatic_choice_comes_nearest_to_the_truth(molecule: Array, kind: str) -> None:
    """Whatever the decay: nearer than no sharpening, than cisTEM's defaults, and than half or twice its B-factor."""
    decay = DECAYS[kind](frequencies(64))
    first, second = halves(molecule, decay, 0.05)
    mask = sphere_mask(64, 17.0, 5.0)
    fsc = fourier_shell_correlation(*(torch.from_numpy(half * mask) for half in (first, second))).numpy()
    mean = (first + second) / 2
    choice = choose_sharpening(mean, VOXEL, fsc, mask)
    assert 4.0 < choice.resolution < 7.0
    merit = figure_of_merit(fsc)
    band = sharpen_spectrum(molecule, VOXEL, SpectralSettings(cutoff=choice.resolution, filter_edge=0.0)).density
    chosen = choice.settings

    def closeness(settings: SpectralSettings, weights: NDArray[np.float64] | None = merit) -> float:
        sharpened = sharpen_spectrum(mean, VOXEL, settings, mask, weights).density
        return float(np.corrcoef((sharpened * mask).ravel(), (band * mask).ravel())[0, 1])

    best = closeness(chosen)
    cutoff, bfactor = chosen.cutoff, chosen.bfactor_low
    others = {
        "none": closeness(SpectralSettings(cutoff=cutoff), None),
        "cistem": closeness(SpectralSettings(-90.0, 0.0, 12.0, cutoff=cutoff)),
        "half": closeness(SpectralSettings(bfactor / 2, 0.0, 0.0, cutoff=cutoff)),
        "twice": closeness(SpectralSettings(2 * bfactor, 0.0, 0.0, cutoff=cutoff)),
        "flat": closeness(SpectralSettings(bfactor, 0.0, 10.0, True, True, False, cutoff)),
        "blunter": closeness(SpectralSettings(bfactor, 60.0, 10.0, True, True, True, cutoff)),
        "coarser": closeness(SpectralSettings(bfactor, 0.0, 10.0, True, True, True, 1.4 * cutoff)),
    }
    assert best > max(others.values()), (best, others)
    if kind == "one B-factor":
        assert bfactor == pytest.approx(-150.0, rel=0.15)


def test_with_few_shells_only_a_bfactor_is_chosen_and_without_signal_nothing(molecule: Array) -> None:
    fsc = np.where(np.arange(33) <= 15, 0.9, 0.0)
    choice = choose_sharpening(damped(molecule, 200.0), VOXEL, fsc)
    assert choice.shells == 3
    assert choice.settings.limit == 0
    assert choice.settings.bfactor_low < -100
    none = choose_sharpening(molecule, VOXEL, np.where(np.arange(33) <= 8, 0.9, 0.0))
    assert none.fit is None
    assert none.settings.bfactor_low == 0
    with pytest.raises(ValueError, match="no signal"):
        choose_sharpening(molecule, VOXEL, np.zeros(33))


def test_the_phases_stay(molecule: Array) -> None:
    result = sharpen_spectrum(molecule, VOXEL, SpectralSettings(-90.0, 0.0, 10.0, cutoff=5.0))
    before, after = (to_fourier(torch.from_numpy(one), 3) for one in (molecule, result.density))
    inside = after.abs() > 1e-3 * after.abs().max()
    assert float((before * after.conj()).angle()[inside].abs().max()) < 1e-2
