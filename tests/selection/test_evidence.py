"""Evidence of particles in images, brightness, and how hypotheses are weighed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.special import logsumexp

from vitrea.fourier.transforms import shift_fourier, to_fourier, to_real
from vitrea.optics.transfer import particle_ctf
from vitrea.records.optics import Optics
from vitrea.records.particles import Particles
from vitrea.records.table import Table
from vitrea.selection.brightness import BrightnessMaker, excess, usual_spectrum
from vitrea.selection.differences import PairMaker, Transfer
from vitrea.selection.evidence import OFFSET_SIGMAS, Evidence, Views
from vitrea.selection.hypotheses import HYPOTHESES, weigh

SIZE, PIXEL, DIAMETER = 48, 4.0, 120.0
NOISE = 0.25


def particles(count: int) -> Particles:
    columns = {
        "rlnOpticsGroup": np.ones(count, dtype=np.int64),
        "rlnDefocusU": np.linspace(1e4, 2e4, count),
        "rlnDefocusV": np.linspace(1e4, 2e4, count),
        "rlnDefocusAngle": np.zeros(count),
    }
    return Particles(Table(columns), (Optics(PIXEL, SIZE, 300.0, 2.7, 0.1),))


def molecule() -> torch.Tensor:
    """A rod, 100 Å long."""
    y, x = np.mgrid[:SIZE, :SIZE] - SIZE // 2
    return torch.from_numpy((np.exp(-((x / 8.0) ** 4) - (y / 4.0) ** 2)).astype(np.float32))


def maker() -> PairMaker:
    return PairMaker([molecule()], PIXEL, 12, Transfer(ctf=True))


def images(places: list[list[tuple[float, float]]], noise: float = NOISE, seed: int = 3) -> torch.Tensor:
    """Noise and the molecule at places (x, y in pixels)."""
    posed = particles(len(places))
    y, x = torch.meshgrid(torch.fft.fftfreq(SIZE), torch.fft.rfftfreq(SIZE), indexing="ij")
    ctf = particle_ctf(y.reshape(-1) / PIXEL, x.reshape(-1) / PIXEL, posed).reshape(len(places), SIZE, -1)
    clean = torch.zeros(len(places), SIZE, SIZE)
    shown = to_fourier(molecule())
    for row, spots in enumerate(places):
        for spot in spots:
            moved = shift_fourier(shown[None], torch.tensor([spot]))
            clean[row] += to_real(moved * ctf[row], SIZE)[0].float()
    return clean + noise * torch.from_numpy(np.random.default_rng(seed).normal(size=clean.shape)).float()


@pytest.fixture(scope="module")
def found() -> Evidence:
    """Evidence of 20 centred particles, 20 images of noise, 20 off-centre ones, 20 pairs."""
    places = [[(0.0, 0.0)]] * 20 + [[]] * 20 + [[(12.0, 0.0)]] * 20 + [[(0.0, 11.0), (0.0, -11.0)]] * 20
    views = Views([molecule()], np.ones(1), maker(), DIAMETER)
    whitening = torch.full((len(maker().samples),), 1 / NOISE)
    return views.evidence(images(places), particles(len(places)), whitening)


def test_each_kind_of_image_is_told(found: Evidence) -> None:
    verdict = weigh(found, np.zeros(80), 7)
    names = np.array(HYPOTHESES)[verdict.probabilities.argmax(axis=1)].reshape(4, 20)
    for row, name in enumerate(("particle", "nothing", "elsewhere", "pair")):
        assert (names[row] == name).sum() >= 19
    assert np.allclose(verdict.probabilities.sum(axis=1), 1)
    # Shares are estimated; the fifth hypothesis, of which there is nothing here, has next to none.
    assert np.allclose(verdict.shares[:4], 0.25, atol=0.05)
    assert verdict.shares[4] < 0.02
    assert verdict.offset_sigma == OFFSET_SIGMAS[0]


def test_noise_is_no_evidence(found: Evidence) -> None:
    """Bayes factors of noise have a mean of at most 1: chance alone makes none of them large."""
    noise = slice(20, 40)
    for values in (found.centred[noise, 0], found.elsewhere[noise], found.pair[noise]):
        assert logsumexp(values) - np.log(20) < np.log(20)  # Markov: a mean above 20 happens in one of 20 tries
        assert values.mean() < 0


def test_evidence_by_hand() -> None:
    """At the one place a narrow prior leaves: the sum over views, written out."""
    made = maker()
    picture, posed = images([[(0.0, 0.0)]]), particles(1)
    views = Views([molecule()], np.ones(1), made, DIAMETER)
    whitening = torch.full((len(made.samples),), 1 / NOISE)
    evidence = views.evidence(picture, posed, whitening)
    rows = np.zeros(36, dtype=np.int64)
    turned = Particles(
        posed.rows(rows).table.with_columns(
            {
                "rlnAngleRot": np.zeros(36),
                "rlnAngleTilt": np.zeros(36),
                "rlnAnglePsi": np.arange(36) * 10.0,
                "rlnOriginXAngst": np.zeros(36),
                "rlnOriginYAngst": np.zeros(36),
            }
        ),
        posed.optics,
    )
    pairs = made.pairs(picture[rows], turned, rows)
    gains = 2 * (pairs.images * pairs.references.conj()).real - pairs.references.abs().square()
    gains[:, 0] = 0  # the mean grey value
    centre = logsumexp(gains.double().sum(dim=1).numpy() / NOISE**2) - np.log(36)
    # Places are 48 / 26 pixels of 4 Å apart: the prior of 3 Å leaves most to the centre, its neighbours hold less.
    axis = (np.arange(26) - 13) * SIZE * PIXEL / 26
    share = 1 / np.exp(-(axis[:, None] ** 2 + axis**2) / (2 * OFFSET_SIGMAS[0] ** 2)).sum()
    assert centre + np.log(share) - 1e-3 <= evidence.centred[0, 0] <= centre + 1e-3


def test_brightness() -> None:
    pictures = images([[(0.0, 0.0)]] * 60)
    pictures[7, 20:28, 20:28] += 4 * torch.sin(torch.arange(8) * 2.0)  # lattice fringes
    pictures[9] += 3 * torch.linspace(-1, 1, SIZE)  # the edge of carbon
    maker = BrightnessMaker(SIZE, DIAMETER / PIXEL)
    measured = maker.measure(pictures, usual_spectrum([maker.spectra(pictures[:30]), maker.spectra(pictures[30:])]))
    assert measured.shape == (60, maker.numbers)
    measured[5] = np.nan
    scores = excess(measured)
    assert np.isnan(scores[5])
    others = np.delete(scores, [5, 7, 9])
    assert min(scores[7], scores[9]) > max(8.0, others.max())


def brightness_only(z: NDArray[np.float64]) -> NDArray[np.float64]:
    """Probability of a particle for images of much evidence and a given brightness."""
    count = len(z)
    evidence = Evidence(np.full((count, len(OFFSET_SIGMAS)), 30.0), np.zeros(count), np.zeros(count))
    return weigh(evidence, z, 7).particle


def test_contaminants_and_unusable_images() -> None:
    z = np.concatenate([np.full(90, 1.0), np.full(5, 8.0), [np.nan]])
    kept = brightness_only(z)
    assert (kept[:90] > 0.99).all()
    assert (kept[90:95] < 1e-6).all()
    assert kept[95] == 0
