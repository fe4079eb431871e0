"""Sorting: what differences are made of, what a Z-score is, and that junk of every kind comes last."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.stats import rankdata

from vitrea.formats.images import ParticleImages
from vitrea.formats.mrc import read_map
from vitrea.formats.particle_files import read_particles
from vitrea.fourier.packed import packed_samples
from vitrea.fourier.transforms import to_fourier
from vitrea.geometry.euler import euler_to_matrix, matrix_to_euler
from vitrea.optics.transfer import particle_ctf
from vitrea.records.optics import Optics
from vitrea.records.particles import EULER_LABELS, SHIFT_LABELS, Particles
from vitrea.selection.differences import (
    PairMaker,
    Pairs,
    SmallBox,
    Transfer,
    difference,
    fit_scale,
    noise_spectrum,
    shell_power,
)
from vitrea.selection.features import AGREEMENT, FEATURES, make_features
from vitrea.selection.sorting import FeatureTable, comparable, measure_features, usable, z_scores
from vitrea.simulate.junk import JunkMaker
from vitrea.simulate.particles import NoiseModel, ParticleSimulator
from vitrea.simulate.population import KIND_LABEL, Population, draw_population
from vitrea.simulate.projections import Projector
from vitrea.simulate.truth import Acquisition, draw_particles

SIZE, PIXEL = 40, 4.0
OPTICS = Optics(PIXEL, SIZE, voltage=300.0, spherical_aberration=2.0, amplitude_contrast=0.1)
NAMES = [feature.name for feature in FEATURES]


def auc(good: NDArray[np.float64], junk: NDArray[np.float64]) -> float:
    """Probability that a piece of junk has a larger score than a good particle (Mann-Whitney)."""
    ranks = rankdata(np.concatenate([good, junk]))
    return float((ranks[len(good) :].sum() - len(junk) * (len(junk) + 1) / 2) / (len(good) * len(junk)))


def with_poses(particles: Particles, eulers: NDArray[np.float64], shifts: NDArray[np.float64]) -> Particles:
    return particles.with_columns(dict(zip((*EULER_LABELS, *SHIFT_LABELS), np.hstack([eulers, shifts]).T, strict=True)))


def search(
    projector: Projector, images: torch.Tensor, particles: Particles, radius: int, seed: int = 0
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Poses a refinement might have given: the best of 300 orientations and 49 shifts by correlation."""
    count, rng = 300, np.random.default_rng(seed)
    eulers = np.stack(
        [
            rng.uniform(-180, 180, count),
            np.degrees(np.arccos(rng.uniform(-1, 1, count))),
            rng.uniform(-180, 180, count),
        ],
        axis=1,
    )
    samples = packed_samples(projector.size, radius)
    seen = projector.packed(
        with_poses(particles.rows(np.zeros(count, dtype=int)), eulers, np.zeros((count, 2))), with_ctf=False
    )[:, : len(samples)]
    steps = np.arange(-3.0, 4.0) * 2
    shifts = np.stack(np.meshgrid(steps, steps), axis=-1).reshape(-1, 2)
    ramps = samples.phase_ramps(shifts)
    ctf = particle_ctf(*samples.frequencies(projector.pixel_size), particles)
    best = []
    for image, transfer in zip(samples.gather(to_fourier(images)), ctf, strict=True):
        templates = seen * transfer
        templates = templates / templates.abs().square().sum(dim=1, keepdim=True).sqrt()
        best.append(int(((image * ramps) @ templates.conj().T).real.argmax()))
    where = np.array(best)
    return eulers[where % count], shifts[where // count] * projector.pixel_size


def perturbed(eulers: NDArray[np.float64], degrees: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Turn orientations by small random rotations, as errors of a refinement do."""
    x, y, z = np.radians(rng.normal(0, degrees, (3, len(eulers))))
    zero = np.zeros_like(x)
    skew = np.array([[zero, -z, y], [z, zero, -x], [-y, x, zero]]).transpose(2, 0, 1)
    u, _, v = np.linalg.svd(np.eye(3) + skew)
    return np.asarray(matrix_to_euler(u @ v @ euler_to_matrix(eulers)))


def micrographs_of(particles: Particles) -> NDArray[np.int64]:
    return np.unique(particles.table["rlnMicrographName"].astype(str), return_inverse=True)[1].astype(np.int64)


def scores_of(
    projector_map: torch.Tensor,
    images: NDArray[np.float32],
    particles: Particles,
    diameter: float,
    pixel_size: float,
    resolution: float,
    micrographs: NDArray[np.int64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    size, classes = images.shape[-1], np.zeros(len(images), dtype=np.int64)
    maker = PairMaker([projector_map], pixel_size, int(size * pixel_size / resolution))
    rows = np.arange(len(images))
    table = measure_features(
        maker, particles, classes, lambda wanted: images[wanted], np.array_split(rows, 3), diameter, rows[::2]
    )
    return z_scores(table, classes, micrographs)


@pytest.fixture(scope="module")
def volume(lopsided: Any) -> torch.Tensor:
    return torch.from_numpy(lopsided.map(SIZE))


def acquired(number: int, **wishes: Any) -> Particles:
    return draw_particles(Acquisition(OPTICS, number, **{"groups": 4, "shift_sigma": 6.0, "seed": 2, **wishes}))


def test_pairs_agree_with_projector(volume: torch.Tensor) -> None:
    """Images of the projector (held against relion_project) minus their references leave nothing within the window.

    The window's soft edge lets part of the outermost two shells through; within them nothing may be left but float32.
    """
    particles = acquired(12)
    projector = Projector(volume, PIXEL)
    images = projector.images(particles, with_ctf=True)
    maker = PairMaker([volume], PIXEL, 14, Transfer())
    pairs = maker.pairs(images, particles, np.zeros(12, dtype=np.int64))
    inner = len(maker.samples.prefix(11))
    left = difference(Pairs(pairs.images[:, :inner], pairs.references[:, :inner]), torch.ones(12, dtype=torch.float64))
    assert left.abs().max() < 1e-4 * pairs.images.abs().max()
    scale, strength = fit_scale(
        Pairs(3.0 * pairs.images, pairs.references), (torch.arange(len(maker.samples)) < inner).float()
    )
    np.testing.assert_allclose(scale.numpy(), 3.0, rtol=1e-4)
    assert (strength > 0).all()


@pytest.mark.parametrize(
    ("transfer", "expected"),
    [
        (Transfer(ctf=False), {"with_ctf": False}),
        (Transfer(phase_flipped=True), {"with_ctf": True, "absolute": True}),
        (Transfer(intact_first_peak=True), {"with_ctf": True, "intact_first_peak": True}),
    ],
)
def test_transfer_of_references(volume: torch.Tensor, transfer: Transfer, expected: dict[str, bool]) -> None:
    particles = acquired(5)
    images = Projector(volume, PIXEL).images(particles, **expected)
    maker = PairMaker([volume], PIXEL, 14, transfer)
    pairs = maker.pairs(images, particles, np.zeros(5, dtype=np.int64))
    inner = len(maker.samples.prefix(11))
    gap = (pairs.images - pairs.references)[:, :inner].abs().max()
    assert gap < 1e-4 * pairs.images.abs().max()


def test_premultiplied_images_carry_the_ctf_twice(volume: torch.Tensor) -> None:
    particles = acquired(4)
    maker = PairMaker([volume], PIXEL, 14)
    images, classes = torch.zeros(4, SIZE, SIZE), np.zeros(4, dtype=np.int64)
    once = maker.pairs(images, particles, classes).references
    flagged = replace(particles, optics=(replace(particles.optics[0], ctf_premultiplied=True),))
    twice = maker.pairs(images, flagged, classes).references
    ctf = particle_ctf(*maker.samples.frequencies(PIXEL), particles)
    torch.testing.assert_close(twice, once * ctf, rtol=1e-4, atol=1e-5)


def test_2d_references_turn_with_psi(lopsided: Any) -> None:
    """A class average is turned by psi and moved by the origin like a central slice; rot and tilt do not matter."""
    eulers = np.array([[40.0, 70.0, 35.0], [0.0, 0.0, -120.0], [10.0, 0.0, 0.0]])
    shifts = np.array([[3.0, -2.0], [0.0, 1.5], [-4.0, 0.0]])
    turned = euler_to_matrix(eulers * [0, 0, 1])
    # An image is the projection moved by minus its origin.
    images = torch.from_numpy(lopsided.images(lopsided.transforms(SIZE, turned, -shifts), SIZE))
    average = lopsided.images(lopsided.transforms(SIZE, np.eye(3)[None]), SIZE)[0]
    particles = with_poses(acquired(3), eulers, shifts * PIXEL)
    maker = PairMaker([torch.zeros(SIZE, SIZE), torch.from_numpy(average)], PIXEL, 14, Transfer(ctf=False))
    pairs = maker.pairs(images, particles, np.array([1, 1, 1]))
    inner = len(maker.samples.prefix(11))
    gap = (pairs.images - pairs.references)[:, :inner].abs().max()
    assert gap < 0.03 * pairs.images.abs().max()  # trilinear interpolation at twofold padding: one or two per cent
    assert maker.pairs(images, particles, np.array([0, 1, 0])).references[0].abs().max() == 0


@pytest.mark.parametrize("size", [24, 31])
def test_small_box_keeps_white_noise_white(size: int) -> None:
    """Unit power in every sample gives unit variance in real space; the box holds exactly the samples of its band."""
    samples = packed_samples(size, (size - 1) // 2)
    noise = torch.from_numpy(np.random.default_rng(0).standard_normal((400, size, size)).astype(np.float32))
    packed = samples.gather(to_fourier(noise))
    box = SmallBox(samples, 5)
    small = box.images(packed)
    assert small.shape == (400, 12, 12)
    assert float(small.var()) == pytest.approx(1.0, abs=0.02)  # 400 x 81 independent numbers: 0.8%
    again = packed_samples(box.size, 5).gather(to_fourier(small))
    expected = packed[:, : again.shape[1]]
    ratio = (again / expected).abs()
    torch.testing.assert_close(ratio, torch.full_like(ratio, float(ratio.median())), rtol=1e-3, atol=1e-3)


def test_scale_has_its_standard_error() -> None:
    """1 / strength is the scatter of the scale that noise of the given spectrum causes."""
    samples, rng = packed_samples(32, 15), np.random.default_rng(1)
    sigma = 1.0 + torch.from_numpy(samples.shell).float() / 10
    reference = samples.gather(to_fourier(torch.from_numpy(rng.standard_normal((1, 32, 32)).astype(np.float32))))
    white = torch.from_numpy(rng.standard_normal((2000, 32, 32)).astype(np.float32))
    images = samples.gather(to_fourier(white)) * sigma + 0.7 * reference
    scale, strength = fit_scale(Pairs(images, reference.expand(2000, -1)), sigma**-2)
    assert float(scale.mean()) == pytest.approx(0.7, abs=4 / float(strength[0]) / 2000**0.5)
    assert float(((scale - 0.7) * strength).std()) == pytest.approx(1.0, abs=0.07)  # 4 standard errors of 2000 draws


def test_noise_spectrum_ignores_junk() -> None:
    samples, rng = packed_samples(32, 15), np.random.default_rng(1)
    images = torch.from_numpy(rng.standard_normal((300, 32, 32)).astype(np.float32))
    images[:90] *= 50.0
    spectrum = noise_spectrum(shell_power(samples, samples.gather(to_fourier(images))))
    # The median of all is the 71st percentile of the good 70%; shells of 20 samples and more scatter by a fifth.
    np.testing.assert_allclose(spectrum[6:], 1.0, atol=0.25)


def make_table(values: NDArray[np.float64], strength: float = 10.0) -> FeatureTable:
    return FeatureTable(values, np.full((len(values), len(AGREEMENT)), strength))


def normal_table(count: int, seed: int = 0) -> NDArray[np.float64]:
    values = np.random.default_rng(seed).standard_normal((count, len(FEATURES)))
    values[:, AGREEMENT] = 1.0 + 0.1 * values[:, AGREEMENT]
    return values


def one_group(count: int) -> NDArray[np.int64]:
    return np.zeros(count, dtype=np.int64)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("sign", [-1, 1])
def test_each_feature_counts_on_its_suspicious_side(name: str, sign: int) -> None:
    values, column = normal_table(400), NAMES.index(name)
    scale = 0.1 if column in AGREEMENT else 1.0
    values[0] = np.median(values, axis=0)
    values[0, column] += sign * 20 * scale
    score, deviations = z_scores(make_table(values), one_group(400), one_group(400))
    suspicious = FEATURES[column].sides in (0, sign)
    assert (score[0] == score.max()) == suspicious
    assert (deviations[0, column] > 10) == suspicious
    if not suspicious:
        assert score[0] < np.median(score)


def test_score_of_gaussian_features() -> None:
    """Mean square of independent Gaussian features: 1/2 for a one-sided, 1 for a two-sided one; then the averages.

    Agreement is one-sided and makes half; of the rest, power has 1/2, shape (3 + 2/2) / 5, surroundings (1 + 2/2) / 3.
    The credit that one agreement can give the other lowers the first 1/2 by less than a tenth of it.
    """
    score, _ = z_scores(make_table(normal_table(5000)), one_group(5000), one_group(5000))
    rest = (1 / 2 + 4 / 5 + 2 / 3) / 3
    assert np.mean(score**2) == pytest.approx((1 / 2 + rest) / 2, rel=0.05)


def test_min_z_leaves_out_small_deviations() -> None:
    values = normal_table(1000)
    none, _ = z_scores(make_table(values), one_group(1000), one_group(1000), minimum=10.0)
    assert not none.any()
    some, _ = z_scores(make_table(values), one_group(1000), one_group(1000), minimum=2.0)
    everything, _ = z_scores(make_table(values), one_group(1000), one_group(1000))
    assert (some <= everything + 1e-12).all()
    assert some.sum() < 0.7 * everything.sum()


def test_classes_are_compared_within_themselves() -> None:
    """A class of other grey scale and other statistics is not junk for that; its own outlier is."""
    values, classes = normal_table(400), np.repeat([0, 3], 200)
    values[200:] = values[:200] + 5.0
    values[200:, AGREEMENT] = 3 * values[:200, AGREEMENT]
    values[399, NAMES.index("PowerCoarse")] += 8.0
    score, _ = z_scores(make_table(values), classes, one_group(400))
    assert score.argmax() == 399
    np.testing.assert_allclose(np.median(score[200:]), np.median(score[:200]), rtol=0.1)


def test_small_classes_are_compared_with_others() -> None:
    sets = comparable(np.repeat([0, 1, 2, 5], [200, 60, 10, 5]))
    assert sorted(len(rows) for rows in sets) == [60, 215]
    assert sorted(np.concatenate(sets)) == list(range(275))
    assert [len(rows) for rows in comparable(np.repeat([0, 1], [20, 10]))] == [30]


def test_micrograph_scales_are_not_held_against_particles() -> None:
    """Half the contrast in one micrograph is thick ice; half the contrast of one particle is not."""
    values, micrographs = normal_table(800), np.repeat(np.arange(8), 100)
    values[np.ix_(micrographs == 3, AGREEMENT)] *= 0.6
    values[np.ix_([700], AGREEMENT)] = 0.5
    score, _ = z_scores(make_table(values), one_group(800), micrographs)
    together, _ = z_scores(make_table(values), one_group(800), one_group(800))
    assert np.median(score[micrographs == 3]) < 0.75 * np.median(together[micrographs == 3])
    assert score[700] > np.percentile(score, 99)


def test_unusable_images_have_no_score() -> None:
    values = normal_table(100)
    values[7] = np.nan
    score, _ = z_scores(make_table(values), one_group(100), one_group(100))
    assert np.flatnonzero(np.isnan(score)).tolist() == [7]
    images = np.random.default_rng(0).standard_normal((4, 8, 8)).astype(np.float32)
    images[1, 3, 3], images[2], images[3, 0, 0] = np.nan, 2.0, np.inf
    assert usable(images).tolist() == [True, False, False, False]


def test_features_without_surroundings(volume: torch.Tensor) -> None:
    """Where the particle fills the box there is too little around it to judge: left out, not guessed."""
    maker = PairMaker([volume], PIXEL, 14)
    particles = acquired(60)
    images = np.random.default_rng(0).standard_normal((60, SIZE, SIZE)).astype(np.float32)
    rows = np.arange(60)
    table = measure_features(maker, particles, one_group(60), lambda r: images[r], [rows], 1.5 * SIZE * PIXEL, rows)
    around = [feature.group == "surroundings" for feature in FEATURES]
    assert np.isnan(table.values[:, around]).all()
    assert np.isfinite(table.values[:, np.logical_not(around)]).all()
    score, deviations = z_scores(table, one_group(60), one_group(60))
    assert np.isfinite(score).all()
    assert not deviations[:, around].any()


def test_bands_follow_the_diameter(volume: torch.Tensor) -> None:
    maker = PairMaker([volume], PIXEL, 14)
    pairs = maker.pairs(
        torch.randn(6, SIZE, SIZE, generator=torch.Generator().manual_seed(0)), acquired(6), one_group(6)
    )
    even = torch.ones(len(maker.samples))
    narrow, wide = (
        make_features(SmallBox(maker.samples, 14), diameter, PIXEL).features(pairs, even)[0]
        for diameter in (80.0, 120.0)
    )
    assert (np.abs(narrow - wide).max(axis=0) > 1e-6).all()


def test_junk_comes_last(volume: torch.Tensor) -> None:
    """ROC AUC of at least 0.95 on particles mixed with 10% junk of every kind.

    A signal-to-noise ratio of 0.5 over 380 pixels is as much signal as 0.08 over the 2,500 of beta-galactosidase at
    3.54 Å. Junk has the best of 300 orientations and 49 shifts; good particles have errors of 3 degrees and 0.5 pixels.
    """
    number, radius, snr, rng = 500, 11.0, 0.5, np.random.default_rng(3)
    truth = acquired(number, scale_spread=0.15)
    truth = truth.with_columns(
        draw_population(Population((1.0,), 0.1, ("noise", "contaminant", "pair", "picked_noise")), number, 5)
    )
    projector, noise = Projector(volume, PIXEL), NoiseModel(4)
    junk = JunkMaker([projector], truth, [1.0], radius, noise)
    images = ParticleSimulator(projector, truth, radius, snr, noise, junk).images(np.arange(number))
    kinds = truth.table[KIND_LABEL].astype(str)
    good = kinds == "particle"
    eulers, shifts = truth.eulers, truth.shifts + rng.normal(0, 0.5 * PIXEL, (number, 2))
    eulers[good] = perturbed(eulers[good], 3.0, rng)
    eulers[~good], shifts[~good] = search(projector, torch.from_numpy(images[~good]), truth.rows(~good), 10)
    # The scales by micrograph are for the sorting to find.
    posed = with_poses(truth, eulers, shifts).with_columns({"rlnCtfScalefactor": np.ones(number)})
    score, _ = scores_of(volume, images, posed, 2 * radius * PIXEL, PIXEL, 10.0, micrographs_of(truth))
    by_kind = {kind: auc(score[good], score[kinds == kind]) for kind in np.unique(kinds[~good])}
    assert auc(score[good], score[~good]) >= 0.95, by_kind


def test_junk_among_betagal_comes_last(shared_data: Path) -> None:
    """As above with images made by RELION's projector from an experimental map, 360 of them, and 40 pieces of junk."""
    count, junk_count, rng = 360, 40, np.random.default_rng(3)
    folder = shared_data / "bgal_simulated"
    real = read_particles(folder / "truth.star").rows(slice(0, count))
    voxels = torch.from_numpy(read_map(shared_data / "bgal_map" / "betaGal.mrc").voxels)
    pixel_size, radius = 3.54, 28.0
    population = Population((1.0,), 1.0, ("noise", "contaminant", "pair", "picked_noise"))
    rows = np.concatenate([np.arange(count), rng.choice(count, junk_count, replace=False)])
    fake = real.rows(rows[count:]).with_columns(draw_population(population, junk_count, 1))
    projector, noise = Projector(voxels, pixel_size), NoiseModel(4)
    clean = projector.images(real.rows(slice(0, 50)), with_ctf=True)
    images = ParticleImages(real).load(np.arange(count))
    gain = float((clean * torch.from_numpy(images[:50])).sum() / clean.square().sum())
    simulator = ParticleSimulator(
        projector, fake, radius, 0.1, noise, JunkMaker([projector], fake, [1.0], radius, noise)
    )
    simulator.gain = gain  # pairs as strong as the particles are
    junk = simulator.images(np.arange(junk_count))
    poses = search(projector, torch.from_numpy(junk), fake, 20)
    eulers = np.vstack([perturbed(real.eulers, 3.0, rng), poses[0]])
    shifts = np.vstack([real.shifts + rng.normal(0, 0.5 * pixel_size, (count, 2)), poses[1]])
    particles = with_poses(real.rows(rows), eulers, shifts)
    images = np.concatenate([images, junk])
    score, _ = scores_of(voxels, images, particles, 200.0, pixel_size, 16.0, micrographs_of(particles))
    assert auc(score[:count], score[count:]) >= 0.95
