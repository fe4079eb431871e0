"""Reconstructions from given poses hold against relion_reconstruct's and against the map that was projected."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from vitrea.formats.mrc import open_stack, read_map
from vitrea.formats.particle_files import read_particles
from vitrea.fourier.fsc import fourier_shell_correlation
from vitrea.fourier.transforms import to_fourier, to_real
from vitrea.geometry.masks import soft_sphere
from vitrea.geometry.symmetry import symmetry_matrices
from vitrea.optics.transfer import particle_ctf
from vitrea.reconstruction.backprojection import Backprojector, CtfCorrection
from vitrea.records.optics import Optics
from vitrea.records.particles import Particles
from vitrea.simulate.projections import Projector
from vitrea.simulate.truth import Acquisition, draw_particles

SIZE, PIXEL = 40, 7.08
OPTICS = Optics(PIXEL, SIZE, voltage=300.0, spherical_aberration=2.0, amplitude_contrast=0.1)
BALL = soft_sphere(SIZE, 16, 2).astype(np.float32)


@pytest.fixture(scope="module")
def truth(data_dir: Path) -> NDArray[np.float32]:
    return read_map(data_dir / "projection" / "map40.mrc").voxels


def rebuilt(
    images: torch.Tensor,
    particles: Particles,
    correction: CtfCorrection | None = CtfCorrection(),  # noqa: B008
    weights: NDArray[np.float64] | None = None,
    symmetry: str = "C1",
    radius: int = SIZE // 2,
) -> NDArray[np.float32]:
    engine = Backprojector(SIZE, PIXEL, radius, correction=correction)
    for rows in np.array_split(np.arange(len(particles)), 2):
        chosen = np.ones(len(rows)) if weights is None else weights[rows]
        engine.add(images[torch.from_numpy(rows)], particles.rows(rows), chosen)
    return np.asarray(engine.reconstruct(symmetry).numpy())


def fsc(first: NDArray[np.float32], second: NDArray[np.float32]) -> NDArray[np.float64]:
    one, other = torch.from_numpy(first * BALL), torch.from_numpy(second * BALL)
    return np.asarray(fourier_shell_correlation(one, other).numpy())


def scale(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    """Factor by which the second map becomes the first, within the ball."""
    weighed = second * BALL
    return float((first * weighed).sum() / (second * weighed).sum())


def views(number: int, **changes: float) -> Particles:
    return draw_particles(Acquisition(OPTICS, number, groups=5, shift_sigma=10.0, **changes))  # type: ignore[arg-type]


def test_agrees_with_relion_reconstruct(data_dir: Path) -> None:
    """Twelve images: most of the Fourier space is empty, so that what fills it (the floor of the denominator, a
    thousandth of the shell's mean) decides. RELION cuts the map's transform at exactly Nyquist, where Vitrea keeps
    the last shell whole: shells 19 and 20 agree less."""
    particles = read_particles(data_dir / "projection" / "poses.star", require_images=False)
    images = torch.from_numpy(np.array(open_stack(data_dir / "projection" / "with_ctf.mrcs")))
    expected = read_map(data_dir / "reconstruct" / "from_with_ctf.mrc").voxels
    got = rebuilt(images, particles)
    assert np.corrcoef(got.ravel(), expected.ravel())[0, 1] > 0.9999
    assert scale(got, expected) == pytest.approx(1, abs=1e-3)
    curve = fsc(got, expected)
    assert curve[:19].min() > 0.9999
    assert curve[19:].min() > 0.98


@pytest.mark.parametrize("with_ctf", [False, True])
def test_two_thousand_views_give_the_map_back(truth: NDArray[np.float32], with_ctf: bool) -> None:
    """The last shell is left out: slices reach it only in part."""
    particles = views(2000)
    images = Projector(torch.from_numpy(truth), PIXEL).images(particles, with_ctf=with_ctf)
    got = rebuilt(images, particles, CtfCorrection() if with_ctf else None)
    assert fsc(got, truth)[:20].min() > 0.99
    assert scale(got, truth) == pytest.approx(1, abs=0.02)


def test_beam_tilt_is_corrected(truth: NDArray[np.float32]) -> None:
    tilted = replace(OPTICS, beam_tilt_x=200.0, beam_tilt_y=-150.0)  # pixels this coarse show no smaller ones
    particles = replace(views(150), optics=(tilted,))
    images = Projector(torch.from_numpy(truth), PIXEL).images(particles, with_ctf=True)
    corrected = fsc(rebuilt(images, particles), truth)
    ignored = fsc(rebuilt(images, replace(particles, optics=(OPTICS,))), truth)
    assert corrected[5:18].min() > 0.97
    assert ignored[17] < corrected[17] - 0.05


def test_variants_of_ctf_correction(truth: NDArray[np.float32]) -> None:
    """Images with flipped phases, or multiplied by their CTF, give the same map when that is known."""
    particles = views(100, defocus_min=30_000.0, defocus_max=36_000.0)  # CTF below 0 in shells 12 to 15
    projector = Projector(torch.from_numpy(truth), PIXEL)
    plain = projector.images(particles, with_ctf=True)
    expected = rebuilt(plain, particles)
    flipped = projector.images(particles, with_ctf=True, absolute=True)
    np.testing.assert_allclose(rebuilt(flipped, particles, CtfCorrection(phase_flipped=True)), expected, atol=2e-4)
    assert fsc(rebuilt(flipped, particles), truth)[12:15].max() < -0.9

    transfer = projector.samples.scatter(
        particle_ctf(*projector.samples.frequencies(PIXEL), particles).to(torch.complex64)
    )
    multiplied = to_real(to_fourier(plain) * transfer, SIZE)
    known = replace(particles, optics=(replace(OPTICS, ctf_premultiplied=True),))
    np.testing.assert_allclose(rebuilt(multiplied, known), expected, atol=2e-4)

    only_flip = rebuilt(plain, particles, CtfCorrection(only_flip_phases=True))
    assert scale(only_flip, expected) < 0.9  # amplitudes stay damped
    assert fsc(only_flip, expected)[2:15].min() > 0.8
    intact = rebuilt(plain, particles, CtfCorrection(intact_first_peak=True))
    assert fsc(intact, expected)[8:15].min() > 0.99
    assert np.abs(np.fft.fftn(intact))[0, 0, 1] < 0.7 * np.abs(np.fft.fftn(expected))[0, 0, 1]


def test_weights_choose_particles(truth: NDArray[np.float32]) -> None:
    """Particles of weight 0 do not count, and a common factor does not matter."""
    particles = views(30)
    images = Projector(torch.from_numpy(truth), PIXEL).images(particles, with_ctf=True)
    chosen = np.arange(30) % 2 == 0
    some = rebuilt(images[torch.from_numpy(chosen)], particles.rows(chosen))
    np.testing.assert_allclose(rebuilt(images, particles, weights=3.0 * chosen), some, atol=2e-5)
    assert np.abs(rebuilt(images, particles) - some).max() > 0.01


def test_symmetry_and_radius(truth: NDArray[np.float32]) -> None:
    """Few views with the point group's copies are as good as those views written out; a radius cuts the resolution."""
    particles = views(30)
    images = Projector(torch.from_numpy(truth), PIXEL).images(particles, with_ctf=True)
    got = rebuilt(images, particles, symmetry="C4")
    quarter = np.asarray(np.rot90(got[:, 1:, 1:], 1, (1, 2)))
    assert np.corrcoef(quarter.ravel(), got[:, 1:, 1:].ravel())[0, 1] > 0.99
    assert len(symmetry_matrices("C4")) == 4
    plain = rebuilt(images, particles)
    assert np.corrcoef(np.rot90(plain[:, 1:, 1:], 1, (1, 2)).ravel(), plain[:, 1:, 1:].ravel())[0, 1] < 0.9

    coarse = np.abs(np.fft.fftn(rebuilt(images, particles, radius=8)))
    assert coarse[0, 0, 12] < 0.02 * coarse[0, 0, 5]
