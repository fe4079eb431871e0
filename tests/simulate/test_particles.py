from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from vitrea.records.optics import Optics
from vitrea.simulate.noise import coloured_spectrum
from vitrea.simulate.particles import NoiseModel, ParticleSimulator, normalise
from vitrea.simulate.projections import Projector
from vitrea.simulate.truth import Acquisition, draw_particles

SIZE, PIXEL, RADIUS = 32, 4.0, 10.0
OPTICS = Optics(PIXEL, SIZE, voltage=300.0, spherical_aberration=2.7, amplitude_contrast=0.1)


def ball() -> torch.Tensor:
    axis = torch.arange(SIZE, dtype=torch.float32) - SIZE // 2
    z, y, x = torch.meshgrid(axis, axis, axis, indexing="ij")
    return 3.0 * torch.exp(-(x**2 + y**2 / 2 + z**2 / 3) / 8)


def simulator(snr: float, noise: NoiseModel | None = NoiseModel(5), number: int = 60) -> ParticleSimulator:  # noqa: B008
    truth = draw_particles(Acquisition(OPTICS, number, groups=3))
    return ParticleSimulator(Projector(ball(), PIXEL), truth, RADIUS, snr, noise)


@pytest.mark.parametrize("snr", [0.1, 2.0])
def test_the_signal_has_the_ratio_asked_for(snr: float) -> None:
    """Signal in the disc over noise of unit variance; images of particles, less the background, are brighter inside."""
    made = simulator(snr)
    clean = made.gain * made.clean(np.arange(60))
    inside = made.inside
    assert float(clean[:, inside].var(dim=1).mean()) == pytest.approx(snr, rel=0.05)
    images = made.images(np.arange(60))
    variance = images[:, inside.numpy()].var(axis=1).mean()
    assert variance == pytest.approx((1 + snr), rel=0.1)


@pytest.mark.parametrize("spectrum", [None, coloured_spectrum(SIZE, PIXEL)])
def test_background_is_normalised_and_particles_are_white(spectrum: np.ndarray | None) -> None:
    made = simulator(1.0, NoiseModel(5, spectrum))
    images = made.images(np.arange(60))
    outside = images[:, made.outside.numpy()]
    assert np.abs(outside.mean(axis=1)).max() < 1e-5
    assert outside.std(axis=1) == pytest.approx(np.ones(60), abs=1e-5)
    middle = SIZE // 2
    assert images[:, middle - 3 : middle + 4, middle - 3 : middle + 4].mean() > 0.3


def test_images_do_not_depend_on_their_chunk() -> None:
    made = simulator(0.5)
    together = made.images(np.arange(10))
    apart = np.concatenate([made.images(np.arange(4)), made.images(np.arange(4, 10))])
    assert np.abs(together - apart).max() < 1e-5
    assert np.abs(together[0] - together[1]).max() > 1


def test_noise_only_and_signal_only() -> None:
    empty = simulator(0.0)
    assert empty.gain == 0
    images = empty.images(np.arange(60))
    assert images.mean(axis=0).std() == pytest.approx(1 / np.sqrt(60), rel=0.1)  # nothing adds up
    clean = simulator(0.3, noise=None)
    expected = clean.projectors[0].images(clean.particles, with_ctf=True)
    assert clean.gain == 1
    assert np.array_equal(clean.images(np.arange(60)), expected.numpy())


def test_group_scales_scale_the_signal() -> None:
    truth = draw_particles(Acquisition(OPTICS, 40, groups=4))
    scale = np.repeat([0.5, 1.0, 1.5, 2.0], 10)
    scaled = replace(truth, table=truth.table.with_columns({"rlnCtfScalefactor": scale}))
    projector = Projector(ball(), PIXEL)
    plain, strong = (
        ParticleSimulator(projector, one, RADIUS, 1.0, None).images(np.arange(40)) for one in (truth, scaled)
    )
    assert np.abs(strong - scale[:, None, None] * plain).max() < 1e-4 * np.abs(plain).max()


def test_normalise_is_blind_to_scale_and_offset() -> None:
    images = torch.randn(3, 8, 8, generator=torch.Generator().manual_seed(1))
    background = torch.ones(8, 8, dtype=torch.bool)
    background[2:6, 2:6] = False
    torch.testing.assert_close(normalise(5 * images - 2, background), normalise(images, background), atol=1e-5, rtol=0)
