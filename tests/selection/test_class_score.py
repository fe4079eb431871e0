"""The class score: particles above the threshold, junk below, on simulated averages and RELION's of real particles."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from vitrea.formats.atomic_models import read_atoms
from vitrea.formats.mrc import open_stack
from vitrea.formats.particle_files import read_particles
from vitrea.formats.star import read_star
from vitrea.fourier.filters import lowpass
from vitrea.fourier.grid import frequency_axes
from vitrea.fourier.shells import shell_mean
from vitrea.geometry.masks import soft_sphere
from vitrea.optics.transfer import particle_ctf
from vitrea.records.table import Table
from vitrea.selection.class_features import Classes, ClassFeatures, measure_classes, signal_energy
from vitrea.selection.class_score import (
    CHANCE_ENERGY,
    SCORE_THRESHOLD,
    ClassScores,
    score_classes,
    score_features,
    score_maps,
)
from vitrea.simulate.density import density_from_atoms
from vitrea.simulate.projections import Projector

from .class_averages import Average, Microscope, average, einstein, noise_power, take_images, views_of

MICROSCOPE = Microscope()
MODELS = {"proteasome": "3j9i.pdb.gz", "galactosidase": "5a1a.pdb.gz", "ribosome": "4v4r_30S.pdb.gz"}
VIEW = np.array([10.0, 60.0, 0.0])


@pytest.fixture(scope="module")
def projectors(shared_data: Path) -> dict[str, Projector]:
    """Three molecules that just fit the mask of 200 Å."""
    size, pixel = MICROSCOPE.size, MICROSCOPE.pixel_size
    found = {}
    for name, file in MODELS.items():
        density = density_from_atoms(read_atoms(shared_data / "models" / file), size, pixel, b_factor=200.0)
        found[name] = Projector(torch.from_numpy(density), pixel)
    return found


@pytest.fixture(scope="module")
def particles(projectors: dict[str, Projector]) -> dict[str, Average]:
    """Five views of each molecule, of 300 to 30 particles."""
    rng = np.random.default_rng(20)
    found = {}
    for name, projector in projectors.items():
        for number, count in enumerate((300, 150, 80, 50, 30)):
            view = np.array([rng.uniform(0, 360), np.degrees(np.arccos(rng.uniform(-1, 1))), rng.uniform(0, 360)])
            images = take_images(MICROSCOPE, views_of(MICROSCOPE, projector, view, count, number), count, 40 + number)
            found[f"{name} {number}"] = average(MICROSCOPE, images)
    return found


@pytest.fixture(scope="module")
def junk(projectors: dict[str, Projector]) -> dict[str, Average]:
    """Noise, aligned noise, contaminants and pairs."""
    y, x = np.mgrid[: MICROSCOPE.size, : MICROSCOPE.size] - MICROSCOPE.size // 2
    found = {
        f"noise {count}": average(MICROSCOPE, take_images(MICROSCOPE, None, count, count)) for count in (2, 30, 300)
    }
    template = views_of(MICROSCOPE, projectors["galactosidase"], VIEW, 1, 1)
    template = lowpass(template, 20.0, MICROSCOPE.pixel_size, dims=2)[0].numpy()
    found["aligned noise"] = einstein(MICROSCOPE, template, 60, 1, seed=5)
    found["picked noise"] = einstein(MICROSCOPE, template, 60, 6, seed=6)
    spots = {
        "big blob": 8 * np.exp(-((x - 3) ** 2 + (y - 4) ** 2) / 50),
        "spot": 10 * np.exp(-(x**2 + y**2) / 18),
        "carbon edge": 3.0 * (x > 5),
        "fibre": 3 * np.exp(-((x + y) ** 2) / 18),
    }
    for name, spot in spots.items():
        view = torch.from_numpy(spot.astype(np.float32)).expand(50, -1, -1)
        found[name] = average(MICROSCOPE, take_images(MICROSCOPE, view, 50, 3))
    for name, projector in projectors.items():
        first = views_of(MICROSCOPE, projector, VIEW, 100, 1)
        second = views_of(MICROSCOPE, projector, np.array([80.0, 20.0, 50.0]), 100, 2)
        for left, right in ((14, 14), (4, 20)):
            pair = torch.roll(first, -left, dims=2) + torch.roll(second, right, dims=2)
            found[f"{name} pair {left}"] = average(MICROSCOPE, take_images(MICROSCOPE, pair, 100, 8))
    empty = np.zeros((MICROSCOPE.size, MICROSCOPE.size), dtype=np.float32)
    found["empty"] = replace(found["noise 2"], image=empty, count=0, resolution=999.0)
    found["NaN"] = replace(found["empty"], image=empty * np.float32(np.nan), count=50)
    return found


def classes_of(averages: list[Average]) -> Classes:
    counts = np.array([one.count for one in averages], dtype=np.float64)
    return Classes(
        np.stack([one.image for one in averages]),
        counts / counts.sum(),
        np.array([one.resolution for one in averages]),
        int(counts.sum()),
        MICROSCOPE.pixel_size,
        MICROSCOPE.diameter,
        noise_power(MICROSCOPE),
        averages[0].ctf2,
    )


def test_particles_score_above_the_threshold_and_junk_far_below(
    particles: dict[str, Average], junk: dict[str, Average]
) -> None:
    result = score_classes(classes_of([*particles.values(), *junk.values()]))
    scores = dict(zip([*particles, *junk], result.scores, strict=True))
    assert {name: scores[name] for name in particles if scores[name] < 0.6} == {}
    assert {name: scores[name] for name in junk if scores[name] > 0.3} == {}
    assert result.good.tolist() == [name in particles for name in scores]
    reasons = dict(zip(scores, result.reasons, strict=True))
    assert "noise" in reasons["aligned noise"]
    assert "alignment finds in noise" in reasons["picked noise"]
    assert "as rough at the edge" in reasons["carbon edge"]
    assert reasons["proteasome 0"] == ""
    assert reasons["empty"]


def test_picked_noise_looks_like_the_template_and_is_told_by_its_energy_alone(
    particles: dict[str, Average], junk: dict[str, Average]
) -> None:
    """What gives Einstein away is how little each particle shows of him, not his looks."""
    both = classes_of([*particles.values(), junk["aligned noise"], junk["picked noise"]])
    energy = signal_energy(both).sum(axis=1)
    assert energy[:-2].min() > 1.5 * CHANCE_ENERGY
    # 2 ln M: the better of six finds more, but no more than 36 turns x 49 shifts x 6 images could.
    assert 4 < energy[-2] < energy[-1] < 2 * np.log(36 * 49 * 6)
    features = measure_classes(both)
    assert features.unity[-1] > 0.9
    assert features.offset[-1] < 0.2
    assert score_classes(both).scores[-1] == 0
    # A search in fewer poses has a lower bar.
    assert score_classes(both, chance_energy=5.0).criteria["energy"][-1] == 1


@pytest.mark.parametrize(
    ("run", "count", "good", "bad"),
    [
        ("class2d/run_it010", 10, {2, 3, 4, 6, 9, 10}, {1, 8}),
        ("class2d_k20/run_it025", 20, {2, 3, 4, 6, 9, 11, 12, 13, 15, 17, 19, 20}, {1, 8, 10, 14, 16, 18}),
    ],
)
def test_averages_by_relion_of_real_particles(
    shared_data: Path, shared_reference: Path, run: str, count: int, good: set[int], bad: set[int]
) -> None:
    """Chosen by eye before scoring: whole particles; two particles, noise and classes of one to four images.

    Blurred classes that could be either (5 and 7 of both) are left out. The ramps were set with these in sight.
    """
    result = _score_relion(
        shared_reference / "betagal_real" / run, shared_data / "betagal_real" / "particles.star", count
    )
    kept = set((np.flatnonzero(result.scores >= SCORE_THRESHOLD) + 1).tolist())
    assert good <= kept
    assert not bad & kept


def _score_relion(root: Path, particles: Path, count: int) -> ClassScores:
    images = np.array(open_stack(f"{root}_classes.mrcs"), dtype=np.float32)
    blocks = read_star(f"{root}_model.star")
    table, noise = blocks["model_classes"], blocks["model_optics_group_1"]
    assert isinstance(table, Table)
    assert isinstance(noise, Table)
    assert len(images) == count
    size, pixel = images.shape[-1], 3.54
    rows = read_particles(particles, require_images=False).rows(slice(None, None, 20))
    x, y = (k.reshape(-1) / (size * pixel) for k in torch.broadcast_tensors(*frequency_axes(size, 2)))
    ctf2 = particle_ctf(y, x, rows).square().mean(dim=0).reshape(size, -1)
    mask = soft_sphere(size, 100 / pixel, 5.0, dims=2)  # spectra are those of images masked with zeros
    return score_classes(
        Classes(
            images, table.numbers("rlnClassDistribution"), table.numbers("rlnEstimatedResolution"), 2374, pixel, 200.0,
            2 * size**2 * noise.numbers("rlnSigma2Noise") / float((mask**2).mean()),
            shell_mean(ctf2, size, 2).double().numpy(),
        )
    )  # fmt: skip


@pytest.fixture
def disc() -> Classes:
    """Two equal classes: a smooth disc 16 pixels wide."""
    return Classes(np.stack([_disc(0, 0)] * 2), np.array([0.5, 0.5]), np.array([10.0, 10.0]), 2000, 2.0, 64.0,
                   np.ones(25), np.ones(25))  # fmt: skip


def _disc(dx: float, dy: float) -> NDArray[np.float32]:
    y, x = np.mgrid[:48, :48] - 24
    return (1 / (1 + np.exp(np.hypot(x - dx, y - dy) - 8))).astype(np.float32)


def test_energy_is_signal_over_noise_summed_over_pixels(disc: Classes) -> None:
    image = disc.images[0].astype(np.float64)
    expected = ((image - image.mean()) ** 2).sum()
    energy = signal_energy(disc).sum(axis=1)
    assert energy == pytest.approx(expected, rel=0.01)  # corners of the transform and 1/N of noise apart
    assert signal_energy(replace(disc, noise_power=np.full(25, 4.0))).sum(axis=1) == pytest.approx(energy / 4, rel=0.02)
    assert signal_energy(replace(disc, ctf2=np.full(25, 0.5))).sum(axis=1) == pytest.approx(energy / 2, rel=0.02)


def test_one_class_of_energy_is_no_evidence_in_a_job_that_has_none() -> None:
    """A class somewhat above chance is believed only where a fifth of all particles shows far more than chance."""

    def score(count: tuple[float, ...], energy: tuple[float, ...], area: float = 0.2) -> list[float]:
        one, none = np.ones(len(count)), np.zeros(len(count))
        features = ClassFeatures(
            np.array(count), one, one, none, none, one, none, np.array([area, *one[1:]]), 10.0 * np.array(energy), none
        )
        return score_features(features, chance_energy=10.0).scores.tolist()

    assert score((100.0, 900.0), (2.0, 1.15)) == [0.0, 0.0]
    assert score((300.0, 700.0), (2.0, 1.15)) == [1.0, 1.0]
    assert score((100.0, 900.0), (1.15, 2.0)) == [1.0, 1.0]
    assert score((300.0, 700.0), (0.9, 0.9)) == [0.0, 0.0]
    # Contaminants, full of energy, are no evidence for the others.
    assert score((300.0, 700.0), (90.0, 1.15), area=0.02) == [0.0, 0.0]


def test_maps_are_scored_by_size_and_resolution() -> None:
    found = score_maps(np.array([0.5, 0.3, 0.199, 0.001]), np.array([8.0, 10.0, 30.0, 8.0]), 5000)
    assert found.good.tolist() == [True, True, False, False]
    assert found.reasons[2] == "resolution far from that of the best class"
    with pytest.raises(ValueError, match="as many"):
        score_maps(np.ones(2), np.ones(3), 10)


def test_noise_left_in_small_classes_is_no_energy() -> None:
    """The plain average of N images of noise has 1/N of power in each component, all of which is left noise."""
    rng = np.random.default_rng(3)
    images = (rng.normal(size=(4, 48, 48)) / np.sqrt(10)).astype(np.float32)
    classes = Classes(images, np.full(4, 0.25), np.full(4, 50.0), 40, 2.0, 64.0, np.ones(25), np.ones(25))
    plain = (images.astype(np.float64) ** 2).sum(axis=(1, 2))
    assert (signal_energy(classes).sum(axis=1) > 0.5 * plain).all()  # undamped, it cannot be told from signal ...
    assert (score_classes(classes).scores < 0.01).all()  # ... but by its looks and its number of images


def test_shape_features_of_a_disc(disc: Classes) -> None:
    two = replace(disc, images=np.stack([_disc(4, 0), _disc(-10, 0) + 0.6 * _disc(10, 0)]))
    features = measure_classes(two)
    assert features.offset[0] == pytest.approx(4 / 16, abs=0.005)
    assert features.area[0] == pytest.approx((8.4 / 16) ** 2, rel=0.05)  # 0.4 of the height is at radius 8 + ln 1.5
    assert features.unity == pytest.approx([1.0, 1 / 1.6], abs=0.05)
    assert features.darkness == pytest.approx([0, 0], abs=0.01)
    assert features.edge[0] < 0.01 < features.edge[1]
    inverted = measure_classes(replace(disc, images=-disc.images + 0.5))
    assert (inverted.darkness > 0.9).all()


def test_numbers_and_resolution_count(disc: Classes) -> None:
    features = measure_classes(
        replace(disc, share=np.array([0.99, 0.01]), resolution=np.array([10.0, 40.0]), particles=300)
    )
    assert features.count.tolist() == [297.0, 3.0]
    assert features.crowd == pytest.approx([1.98, 0.02])
    plain = replace(disc, noise_power=None, ctf2=None, resolution=np.array([10.0, 40.0]))
    assert measure_classes(plain).fineness == pytest.approx([1.0, 0.25])
    assert set(score_classes(plain).criteria) == set(score_classes(disc).criteria) - {"energy", "coarse", "evidence"}
    assert measure_classes(replace(plain, resolution=np.array([999.0, np.inf]))).fineness.tolist() == [1.0, 0.0]
    assert measure_classes(replace(plain, diameter=48.0)).area[0] > 1.7 * measure_classes(plain).area[0]


def test_arrays_that_do_not_fit_are_refused(disc: Classes) -> None:
    with pytest.raises(ValueError, match="as many"):
        measure_classes(replace(disc, share=np.ones(3)))
    with pytest.raises(ValueError, match="too small"):
        measure_classes(replace(disc, diameter=5.0))
    with pytest.raises(ValueError, match="power of the noise"):
        signal_energy(replace(disc, noise_power=None))


def test_one_good_class_in_a_set_of_junk_may_be_chance() -> None:
    """The same class is good in company, and chance where it is all there is of twenty."""

    def best(good: int) -> float:
        ones = np.ones(20)
        darkness = np.where(np.arange(20) < good, 0.1, 1.0)
        features = ClassFeatures(
            50 * ones, ones, ones, darkness, 0.05 * ones, ones, 0 * ones, 0.3 * ones, None, None
        )  # fmt: skip
        return float(score_features(features).scores[0])

    assert best(1) == 0
    assert best(3) == 1
