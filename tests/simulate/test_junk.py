"""Junk is what it is said to be, measured on the images."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vitrea.records.optics import Optics
from vitrea.records.particles import Particles
from vitrea.simulate.contaminants import CONTAMINANTS, paint_contaminant
from vitrea.simulate.junk import JunkMaker
from vitrea.simulate.particles import NoiseModel, ParticleSimulator
from vitrea.simulate.population import Population, draw_population
from vitrea.simulate.projections import Projector
from vitrea.simulate.truth import Acquisition, draw_particles

SIZE, PIXEL, RADIUS = 32, 5.0, 9.0
# Nearly pure amplitude contrast in focus: the CTF is close to 1, and what is painted can be measured.
OPTICS = Optics(PIXEL, SIZE, voltage=300.0, spherical_aberration=0.0, amplitude_contrast=1.0)


def blob(width: float) -> Projector:
    axis = torch.arange(SIZE, dtype=torch.float32) - SIZE // 2
    z, y, x = torch.meshgrid(axis, axis, axis, indexing="ij")
    return Projector(torch.exp(-(x**2 + y**2 + z**2) / (2 * width**2)), PIXEL)


def particles(number: int, defocus: float = 0.0, shift_sigma: float = 0.0) -> Particles:
    return draw_particles(Acquisition(OPTICS, number, 2, defocus, defocus, 0.0, 0.0, shift_sigma=shift_sigma))


def maker(number: int, **parameters: float) -> JunkMaker:
    projectors = [blob(1.5), blob(3.0)]
    return JunkMaker(projectors, particles(number, **parameters), (1.0, 3.0), RADIUS, NoiseModel(4))


def centroid(images: np.ndarray) -> np.ndarray:
    """Centre of mass (x, y) from the middle, shape [images, 2]."""
    axis = np.arange(SIZE) - SIZE // 2
    total = images.sum(axis=(1, 2))
    return np.stack([images.sum(axis=1) @ axis, images.sum(axis=2) @ axis], axis=1) / total[:, None]


def test_pairs_are_two_particles_on_opposite_sides_of_the_origin() -> None:
    width = 1.5
    made = JunkMaker([blob(width)], particles(60), (1.0,), RADIUS, NoiseModel(4))
    images = made.pairs(np.arange(60)).double().numpy()
    assert np.abs(centroid(images)).max() < 0.2
    axis = np.arange(SIZE) - SIZE // 2
    moment = (images * (axis[:, None] ** 2 + axis[None, :] ** 2)).sum(axis=(1, 2)) / images.sum(axis=(1, 2))
    # The second moment of two blobs: that of each, and the squared distance from the middle, 0.55 to 0.9 radii.
    distance = np.sqrt(moment - 2 * width**2) / RADIUS
    assert distance.min() == pytest.approx(0.55, abs=0.03)
    assert distance.max() == pytest.approx(0.90, abs=0.03)
    # They lie in all directions: the mean image is a ring.
    across = (images * axis[None, :] ** 2).sum(axis=(1, 2)) / (images * axis[:, None] ** 2).sum(axis=(1, 2))
    assert across.min() < 0.3 < 3 < across.max()


def test_pairs_hold_the_molecules_by_their_shares() -> None:
    """The wide blob, with 8 times the mass, is three quarters of all members."""
    total = maker(400).pairs(np.arange(400)).double().sum(dim=(1, 2)).numpy()
    narrow, wide = (float(blob(width).images(particles(1), with_ctf=False).sum()) for width in (1.5, 3.0))
    members = np.round((total - 2 * narrow) / (wide - narrow)).astype(int)  # wide ones in each pair
    assert members.mean() / 2 == pytest.approx(0.75, abs=4 * np.sqrt(0.75 * 0.25 / 800))
    assert set(members) == {0, 1, 2}


def test_origins_move_pairs_and_nothing_comes_back_on_the_other_side() -> None:
    still, moved = maker(40), maker(40, shift_sigma=60.0)
    images = moved.pairs(np.arange(40)).double().numpy()
    expected = still.pairs(np.arange(40)).double().numpy()
    shifts = -moved.particles.shifts / PIXEL
    for image, reference, (x, y) in zip(images, expected, np.round(shifts).astype(int), strict=True):
        if max(abs(x), abs(y)) >= SIZE // 2:
            continue
        # Away from the lines that came in, the image is the unmoved one at another place (to half a pixel).
        place = [slice(max(step, 0), SIZE + min(step, 0)) for step in (y, x)]
        source = [slice(max(-step, 0), SIZE + min(-step, 0)) for step in (y, x)]
        assert np.abs(image[tuple(place)] - reference[tuple(source)]).max() < 0.4 * reference.max()
    far = np.abs(shifts).max(axis=1) > 26
    assert far.any()
    assert np.abs(images[far]).max() < 0.5 * np.abs(expected).max()


@pytest.mark.parametrize("name", list(CONTAMINANTS))
def test_contaminants_are_white_varied_and_repeatable(name: str) -> None:
    made = maker(20)
    images = made.contaminants(name, np.arange(20)).numpy()
    again = made.contaminants(name, np.arange(7, 9)).numpy()
    assert np.abs(images[7:9] - again).max() < 1e-4
    assert images.mean() > 0
    assert (images.max(axis=(1, 2)) > 0.8).all()  # visible: near the noise's deviation or above it, over many pixels
    apart = np.abs(images[:, None] - images[None, :]).max(axis=(2, 3)) + np.eye(20)
    assert apart.min() > 0.1


def test_contaminants_scale_with_the_particle_and_are_seen_through_the_lens() -> None:
    areas = []
    for radius in (8.0, 16.0):
        paintings = [paint_contaminant("gold", np.random.default_rng(i), 128, radius) for i in range(10)]
        areas.append(np.mean([(one.amplitude > one.amplitude.max() / 2).sum() for one in paintings]))
    assert areas[1] / areas[0] == pytest.approx(4, rel=0.1)
    focussed, defocussed = (maker(5, defocus=defocus).contaminants("gold", np.arange(5)) for defocus in (0.0, 3e4))
    assert float((focussed - defocussed).abs().max()) > 0.5


def test_a_border_repeats_its_last_line() -> None:
    noise = torch.randn(30, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
    images = maker(30).images("border", np.arange(30), noise, 1.0).numpy()
    sides = set()
    for image, before in zip(images, noise.numpy(), strict=True):
        changed = image != before
        lines = changed.any(axis=1).sum(), changed.any(axis=0).sum()
        along = int(lines[0] > lines[1])  # 0: rows are repeated
        missing = min(lines)
        assert 0.05 * SIZE - 1 <= missing <= 0.4 * SIZE
        turned = image.T if along else image
        first = bool(changed[0, 0])
        repeated = turned[: missing + 1] if first else turned[-missing - 1 :]
        assert (repeated == repeated[0]).all()
        sides.add((along, first))
    assert len(sides) == 4


def test_a_simulator_puts_molecules_and_junk_where_the_truth_says() -> None:
    truth = particles(120)
    truth = truth.with_columns(draw_population(Population((1.0, 1.0), 0.5, ("noise", "pair")), 120, 1))
    projectors, noise = [blob(1.5), blob(3.0)], NoiseModel(4)
    junk = JunkMaker(projectors, truth, (1.0, 1.0), RADIUS, noise)
    simulator = ParticleSimulator(projectors, truth, RADIUS, 4.0, noise, junk)
    kinds, classes = truth.table["vitreaSimulatedKind"], truth.table["rlnClassNumber"]
    together = simulator.images(np.arange(120))
    assert np.abs(together[30:50] - simulator.images(np.arange(30, 50))).max() < 1e-4
    bright = together[:, SIZE // 2 - 1 : SIZE // 2 + 2, SIZE // 2 - 1 : SIZE // 2 + 2].mean(axis=(1, 2))
    wide, narrow = (bright[(kinds == "particle") & (classes == number)].mean() for number in (2, 1))
    assert wide > narrow + 1  # twice as wide: eight times the mass, twice the height of its projection
    assert abs(bright[kinds == "noise"].mean()) < 0.3
    clean = simulator.clean(np.arange(120))
    assert float(clean[torch.from_numpy(kinds != "particle")].abs().max()) == 0
    variance = simulator.gain**2 * clean[torch.from_numpy(kinds == "particle")][:, simulator.inside].var(dim=1).mean()
    assert float(variance) == pytest.approx(4.0, rel=0.05)
    outside = together[:, simulator.outside.numpy()]
    assert np.abs(outside.mean(axis=1)).max() < 1e-4
    assert outside.std(axis=1) == pytest.approx(np.ones(120), abs=1e-4)
