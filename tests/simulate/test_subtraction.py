"""The signal of a map in images, point by point against what projector and CTF say."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from vitrea.fourier.transforms import to_fourier
from vitrea.optics.transfer import particle_ctf
from vitrea.records.optics import Optics
from vitrea.records.particles import Particles
from vitrea.records.table import Table
from vitrea.simulate.projections import Projector
from vitrea.simulate.subtraction import Imaging, cut_out, projected_point, signal_images

SIZE, PIXEL = 24, 4.0


@pytest.fixture
def particles() -> Particles:
    columns = {
        "rlnAngleRot": [10.0, 50.0, -20.0], "rlnAngleTilt": [80.0, 20.0, 130.0], "rlnAnglePsi": [0.0, 33.0, 99.0],
        "rlnOriginXAngst": [3.0, 0.0, -5.0], "rlnOriginYAngst": [0.0, 7.0, 2.0],
        "rlnDefocusU": [9000.0, 12000.0, 15000.0], "rlnDefocusV": [9000.0, 11000.0, 15500.0],
        "rlnDefocusAngle": [0.0, 40.0, 70.0], "rlnOpticsGroup": [1, 1, 2],
    }  # fmt: skip
    group = Optics(PIXEL, SIZE, 300.0, 2.7, 0.1)
    optics = (group, replace(group, group=2, ctf_premultiplied=True))
    return Particles(Table({label: np.array(values) for label, values in columns.items()}), optics)


@pytest.mark.parametrize("imaging", [Imaging(), Imaging(phase_flipped=True), Imaging(intact_first_peak=True)])
def test_premultiplied_images_hold_the_ctf_twice(lopsided: Any, particles: Particles, imaging: Imaging) -> None:
    projector = Projector(torch.from_numpy(lopsided.map(SIZE)), PIXEL)
    got = projector.samples.gather(to_fourier(signal_images(projector, particles, np.ones(3), imaging)))
    plain = projector.packed(particles, with_ctf=False)
    transfer = particle_ctf(
        *projector.samples.frequencies(PIXEL), particles,
        intact_first_peak=imaging.intact_first_peak, absolute=imaging.phase_flipped,
    )  # fmt: skip
    transfer[2] *= transfer[2].clone()
    inside = slice(0, -2)  # of the last two, at Nyquist, images keep the real part alone
    torch.testing.assert_close(got[:, inside], (plain * transfer)[:, inside], atol=1e-3, rtol=0)


def test_factors_multiply_and_without_ctf_there_are_projections(lopsided: Any, particles: Particles) -> None:
    projector = Projector(torch.from_numpy(lopsided.map(SIZE)), PIXEL)
    factors = np.array([0.5, 1.0, 2.0])
    got = signal_images(projector, particles, factors, Imaging(ctf=False))
    expected = projector.images(particles, with_ctf=False) * torch.from_numpy(factors).float()[:, None, None]
    torch.testing.assert_close(got, expected)


def test_a_point_is_where_its_image_is_brightest(lopsided: Any, particles: Particles) -> None:
    point = np.array([4.0, -3.0, 2.0])
    ball = replace(lopsided, points=point[None], heights=np.ones(1))
    images = signal_images(
        Projector(torch.from_numpy(ball.map(SIZE)), PIXEL), particles, np.ones(3), Imaging(ctf=False)
    )
    images = (images - 0.2 * images.amax(dim=(1, 2), keepdim=True)).clamp_min(0)  # the peak, without what rings around
    axis = torch.arange(SIZE) - SIZE // 2
    total = images.sum(dim=(1, 2))
    seen = torch.stack([images.sum(dim=1) @ axis.float(), images.sum(dim=2) @ axis.float()], dim=1) / total[:, None]
    np.testing.assert_allclose(projected_point(particles, point * PIXEL) / PIXEL, seen.numpy(), atol=0.1)


def test_cutting_out_moves_and_crops() -> None:
    images = torch.zeros(2, 9, 9)
    images[0, 2, 6] = images[1, 4, 4] = 1.0
    got = cut_out(images, np.array([[-2, 2], [1, 0]]), 5)
    assert got.shape == (2, 5, 5)
    assert got[0, 2, 2] == 1.0
    assert got[1, 2, 3] == 1.0
    assert float(got.sum()) == 2.0
