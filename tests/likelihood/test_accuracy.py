"""How accurately poses can be found."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from vitrea.fourier.packed import packed_samples
from vitrea.likelihood.accuracy import estimate_accuracy
from vitrea.matching.images import PreparedImages
from vitrea.matching.reference import reference_from_map

SIZE, RADIUS, COUNT = 24, 10, 6
SAMPLES = packed_samples(SIZE, RADIUS)


def _images(snr: float) -> PreparedImages:
    empty = torch.zeros(COUNT, len(SAMPLES), dtype=torch.complex64)
    ctf = torch.ones(COUNT, len(SAMPLES))
    zeros = torch.zeros(COUNT, dtype=torch.float64)
    return PreparedImages(empty, empty, ctf, snr * torch.ones_like(ctf), zeros[:, None], zeros)


@pytest.fixture
def eulers() -> np.ndarray:
    rng = np.random.default_rng(1)
    return np.column_stack(
        [rng.uniform(-180, 180, COUNT), np.degrees(np.arccos(rng.uniform(-1, 1, COUNT))), rng.uniform(0, 360, COUNT)]
    )


def test_accuracy_improves_with_signal(lopsided: Any, eulers: np.ndarray) -> None:
    reference = reference_from_map(torch.from_numpy(lopsided.map(SIZE)), RADIUS)
    found = [estimate_accuracy(_images(snr), eulers, reference, SAMPLES, 1) for snr in (30.0, 300.0, 3000.0, 1e9)]
    rotations, translations = zip(*found, strict=True)
    assert rotations[0] > rotations[1] > rotations[2] > rotations[3]
    assert translations[0] > translations[1] > translations[2] > translations[3]
    assert rotations[3] == translations[3] == pytest.approx(0.05)  # the smallest error tried
    # Evidence grows with the square of a small error: 10 times the signal, sqrt(10) times the accuracy.
    assert translations[1] / translations[2] == pytest.approx(math.sqrt(10), rel=0.2)


def test_translation_of_a_ball_by_hand(lopsided: Any) -> None:
    """``|F|² |exp(-2 pi i k d / n) - 1|² = 4 |F|² sin²(pi k d / n)``, summed for a Gaussian ball known in closed form.

    The answer of the program is the first of its trial errors (steps of 0.05 pixel) at which the sum reaches ln 100.
    """
    ball = type(lopsided)(np.zeros((1, 3)), np.ones(1), 1.5)
    reference = reference_from_map(torch.from_numpy(ball.map(SIZE)), RADIUS)
    k = SAMPLES.coordinates.astype(float)
    power = np.exp(-4 * np.pi**2 * ball.width**2 * (k**2).sum(axis=1) / SIZE**2) / SIZE**2
    precision = 1e4
    trial = np.linspace(0, 3, 30001)
    evidence = 0.5 * precision * 4 * (power * np.sin(np.pi * trial[:, None] * k[:, 0] / SIZE) ** 2).sum(axis=1)
    expected = trial[np.argmax(evidence >= math.log(100))]
    rotation, translation = estimate_accuracy(_images(precision), np.zeros((COUNT, 3)), reference, SAMPLES, 1)
    assert expected < translation + 0.01
    assert translation <= expected + 0.1  # one step, and the interpolation error of the ball's tails
    assert rotation > 25.0  # a ball looks the same from everywhere


def test_choice_of_axes_follows_the_seed(lopsided: Any, eulers: np.ndarray) -> None:
    reference = reference_from_map(torch.from_numpy(lopsided.map(SIZE)), RADIUS)
    images = _images(300.0)
    same = [estimate_accuracy(images, eulers, reference, SAMPLES, 1) for _ in range(2)]
    assert same[0] == same[1]
    others = {estimate_accuracy(images, eulers, reference, SAMPLES, seed) for seed in range(5)}
    assert len(others) > 1


def test_disturbance_is_judged_at_the_pose_and_through_the_ctf(lopsided: Any, eulers: np.ndarray) -> None:
    reference = reference_from_map(torch.from_numpy(lopsided.map(SIZE)), RADIUS)
    images = _images(300.0)
    seen = estimate_accuracy(images, eulers, reference, SAMPLES, 1)
    elsewhere = estimate_accuracy(images, eulers[::-1] * 0.5, reference, SAMPLES, 1)
    assert seen != elsewhere
    weaker = estimate_accuracy(replace(images, ctf=0.3 * images.ctf), eulers, reference, SAMPLES, 1)
    assert weaker[0] > seen[0]
    assert weaker[1] > seen[1]
