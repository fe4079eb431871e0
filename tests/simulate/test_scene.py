"""What a scene shows: weak-phase images of particles, ice with the rings of its CTF, damage, noise of counting."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from vitrea.optics.ctf import ctf
from vitrea.optics.dose import exposure_filter
from vitrea.records.optics import Optics
from vitrea.records.particles import Particles
from vitrea.records.table import Table
from vitrea.simulate.canvas import Canvas, make_canvas
from vitrea.simulate.detector import count_electrons, counting_mtf, detector_transfer, draw_defects, draw_gain
from vitrea.simulate.imaging import Imaging, Lens, Session, draw_field, draw_lens, inside
from vitrea.simulate.projections import Projector
from vitrea.simulate.scattering import interaction_constant
from vitrea.simulate.scene import Scene
from vitrea.simulate.shots import Shooting

if TYPE_CHECKING:
    from tests.conftest import BlobModel

PIXEL_SIZE = 4.0
OPTICS = Optics(PIXEL_SIZE, 32, 300.0, 2.7, 0.1)
IMAGING = Imaging(OPTICS, exposure=30.0)
LENS = Lens(15_200.0, 14_800.0, 30.0)


@pytest.fixture(scope="module")
def projector(lopsided: BlobModel) -> Projector:
    """A molecule of some volts."""
    return Projector(torch.from_numpy(60.0 * lopsided.map(32)), PIXEL_SIZE)


def one_particle(canvas: Canvas, defocus: float = 15_000.0) -> Particles:
    columns = {"rlnCoordinateX": 61.0, "rlnCoordinateY": 50.0, "rlnAngleRot": 20.0, "rlnAngleTilt": 65.0,
               "rlnAnglePsi": -40.0, "rlnOriginXAngst": 1.5, "rlnOriginYAngst": -0.7, "rlnDefocusU": defocus + 300,
               "rlnDefocusV": defocus - 300, "rlnDefocusAngle": 25.0, "rlnPhaseShift": 0.0}  # fmt: skip
    table = {label: np.array([value]) for label, value in columns.items()}
    return Particles(Table({**table, "rlnClassNumber": np.array([1]), "rlnOpticsGroup": np.array([1])}), (OPTICS,))


def test_contrast_of_a_particle_is_that_of_a_weak_phase_object(lopsided: BlobModel, projector: Projector) -> None:
    """-2 CTF times phase, against the transform of the balls in closed form, on the whole canvas at once."""
    canvas = make_canvas(100, 120, PIXEL_SIZE, 0.0)
    field = one_particle(canvas)
    scene = Scene(canvas, replace(IMAGING, ice_thickness=0.0), LENS, [projector], field)
    got = canvas.to_real(scene.particles).double()
    from vitrea.geometry.euler import euler_to_matrix

    place = np.array([61.0, 50.0]) - field.shifts[0] / PIXEL_SIZE
    seen = (lopsided.points @ euler_to_matrix(field.eulers)[0].T)[:, :2] + place
    y, x = canvas.frequencies()
    ky, kx = y * PIXEL_SIZE, x * PIXEL_SIZE  # cycles per pixel
    envelope = torch.exp(-2 * torch.pi**2 * lopsided.width**2 * (kx.square() + ky.square()))
    balls = sum(
        60.0 * height * torch.exp(-2j * torch.pi * (kx * at[0] + ky * at[1]))
        for height, at in zip(lopsided.heights, seen.tolist(), strict=True)
    )
    volts = torch.as_tensor(balls) * envelope * PIXEL_SIZE  # V Å: the sum along the line of sight
    factor = ctf(y, x, OPTICS, torch.from_numpy(field.defocus), torch.zeros(1), dtype=torch.float64)[0]
    expected = torch.fft.irfft2(-2 * interaction_constant(300) * factor * volts, s=canvas.shape)
    assert float((got - expected).abs().max()) < 0.03 * float(expected.abs().max())  # trilinear interpolation
    assert float((got * expected).sum() / expected.square().sum()) == pytest.approx(1, abs=0.005)
    # Underfocus: the middle of the particle is dark.
    assert float(got[48:53, 59:64].mean()) < 0


def test_each_particle_has_its_own_focus(projector: Projector) -> None:
    canvas = make_canvas(100, 120, PIXEL_SIZE, 0.0)
    near, far = (Scene(canvas, IMAGING, LENS, [projector], one_particle(canvas, d)) for d in (15_000.0, 16_000.0))
    difference = (near.particles - far.particles).abs().square().sum() / near.particles.abs().square().sum()
    assert 0.002 < float(difference) < 0.5  # 1000 Å turn the phase of the lowest resolution little


def test_damage_follows_the_published_filter() -> None:
    """The mean over a short frame is exp(-N / 2Nc) at its middle; over a long one the mean of many short ones."""
    k = torch.tensor([0.05, 0.1, 0.3], dtype=torch.float64)
    short = IMAGING.surviving(k, 19.9, 0.2)
    assert torch.allclose(short, exposure_filter(k, 20.0, 300.0), rtol=1e-4)
    parts = torch.stack([IMAGING.surviving(k, before, 1.0) for before in np.arange(5.0, 35.0)])
    assert torch.allclose(IMAGING.surviving(k, 5.0, 30.0), parts.mean(dim=0), rtol=1e-9)
    zero = IMAGING.surviving(torch.zeros(1, dtype=torch.float64), 10.0, 20.0)
    assert float(zero) == 1
    assert torch.equal(replace(IMAGING, damage=False).surviving(k, 5.0, 30.0), torch.ones(3, dtype=torch.float64))


def test_frames_fade_as_the_filter_says(projector: Projector) -> None:
    canvas = make_canvas(64, 64, PIXEL_SIZE, 0.0)
    field = one_particle(canvas)
    imaging = replace(IMAGING, ice_thickness=0.0, pre_exposure=3.0)
    scene = Scene(canvas, imaging, LENS, [projector], field)
    for frame, contrast in enumerate(scene.contrasts(6, (1, 1))):
        expected = scene.particles * imaging.surviving(scene.frequency, 3.0 + 5.0 * frame, 5.0).float()
        assert float((contrast - expected).abs().max()) < 1e-5 * float(scene.particles.abs().max())


def test_thon_rings_are_those_of_the_ctf() -> None:
    """The spectrum of simulated ice follows CTF² so closely that the defocus can be read from it to 10 Å."""
    canvas = make_canvas(400, 512, 1.2, 0.0)
    optics = replace(OPTICS, pixel_size=1.2)
    empty = draw_field(Session(0, 50.0), 0, IMAGING, LENS, (400, 512))
    scene = Scene(canvas, replace(IMAGING, optics=optics, ice_thickness=300.0), LENS, [], empty)
    power = torch.as_tensor(sum(next(scene.ice(1, (1, n))).abs().square() for n in range(6)))
    band = (scene.frequency > 0.06) & (scene.frequency < 0.25)
    y, x = (part[band] for part in canvas.frequencies())
    flat = (power[band] / (scene.ice_amplitude.square() / scene._transfer().square())[band].clamp(min=1e-12)).double()
    scores = []
    defoci = np.arange(-300.0, 301.0, 10.0)
    for offset in defoci:
        defocus = LENS.defocus + torch.tensor([offset, offset, 0.0], dtype=torch.float64)
        model = ctf(y, x, optics, defocus[None], torch.zeros(1), dtype=torch.float64)[0].square()
        scores.append(float(torch.corrcoef(torch.stack([model, flat]))[0, 1]))
    assert abs(defoci[int(np.argmax(scores))]) <= 20


def test_ice_does_not_depend_on_the_number_of_frames() -> None:
    canvas = make_canvas(150, 160, 1.5, 0.0)
    imaging = replace(IMAGING, optics=replace(OPTICS, pixel_size=1.5))
    empty = draw_field(Session(0, 50.0), 0, imaging, LENS, (150, 160))
    scene = Scene(canvas, imaging, LENS, [], empty)
    powers = []
    for frames in (1, 8):
        sums = [torch.as_tensor(sum(scene.ice(frames, (3, n)))) / frames for n in range(4)]
        powers.append(torch.stack([part.abs().square() for part in sums]).mean(dim=0))
    for low, high in ((0.03, 0.1), (0.1, 0.2), (0.2, 0.3)):
        band = (scene.frequency > low) & (scene.frequency < high)
        assert float(powers[0][band].sum() / powers[1][band].sum()) == pytest.approx(1, abs=0.06)


def test_counts_are_poisson_and_dose_decides_them() -> None:
    """Bare ice: mean is dose times area times what the detector and the ice let through; variance equals the mean."""
    imaging = replace(IMAGING, ice_thickness=1e-9)
    assert imaging.counts == pytest.approx(30 * 16 * 0.85)
    assert replace(imaging, ice_thickness=500.0).counts == pytest.approx(imaging.counts * np.exp(-500 / 3750), rel=0.01)
    assert replace(imaging, ice_thickness=500.0, energy_filter=False).counts == pytest.approx(imaging.counts)
    counts = count_electrons(np.full((400, 500), 5.0, dtype=np.float32), (1, 2))
    assert counts.mean() == pytest.approx(5, abs=0.02)
    assert counts.var() == pytest.approx(5, abs=0.06)
    assert not np.array_equal(counts, count_electrons(np.full((400, 500), 5.0, dtype=np.float32), (1, 3)))
    assert not count_electrons(np.full((4, 5), -1.0, dtype=np.float32), (1, 2)).any()


def test_gain_brings_counts_back_and_has_mean_one() -> None:
    gain = draw_gain(1, (200, 300))
    assert gain.mean() == pytest.approx(1, abs=1e-6)
    assert 0.02 < gain.std() < 0.08
    frames = sum(count_electrons(np.full(gain.shape, 2.0, dtype=np.float32), (1, f), gain) for f in range(100))
    corrected = frames * gain
    assert corrected.mean() == pytest.approx(200, rel=2e-3)
    # What is left is counting: variance of counts / s² = mean / s, with s the sensitivity.
    assert corrected.var() == pytest.approx(200 * gain.mean(), rel=0.05)
    assert np.corrcoef(frames.ravel(), 1 / gain.ravel())[0, 1] > 0.3
    dead, hot = draw_defects(1, (200, 300), 9)
    assert len(dead) == 5
    assert len({*dead.tolist(), *hot.tolist()}) == 9


def test_mtf_of_a_counting_detector() -> None:
    values = counting_mtf(torch.tensor([0.0, 0.25, 0.5]))
    assert values.tolist() == pytest.approx([1, 0.734, 0.389], abs=0.005)  # the K2 at 300 kV
    canvas = make_canvas(30, 32, 2.0, 0.0)
    table = (np.array([0.0, 0.5]), np.array([0.9, 0.45]))
    transfer = detector_transfer(canvas, table)
    assert float(transfer[0, 0]) == pytest.approx(1)
    assert float(transfer[0, -1]) == pytest.approx(0.5)
    assert float(detector_transfer(canvas, None)[0, -1]) == pytest.approx(0.389, abs=0.005)


def test_a_session_draws_what_it_was_told() -> None:
    session = Session(30, 80.0, 40.0, depth=300.0, shares=(1.0, 3.0), defocus=(8_000.0, 9_000.0),
                      astigmatism=(200.0, 400.0), phase_shift=(60.0, 90.0), seed=5)  # fmt: skip
    lenses = [draw_lens(session, number) for number in range(40)]
    mean = np.array([(lens.defocus_u + lens.defocus_v) / 2 for lens in lenses])
    difference = np.array([lens.defocus_u - lens.defocus_v for lens in lenses])
    assert ((mean > 8_000) & (mean < 9_000)).all()
    assert ((difference > 200) & (difference < 400)).all()
    assert all(60 < lens.phase_shift < 90 for lens in lenses)
    fields = [draw_field(session, number, IMAGING, lenses[number], (300, 300)) for number in range(8)]
    assert all(inside(field, (300, 300))[:30].all() and inside(field, (300, 300)).sum() == 30 for field in fields)
    heights = np.concatenate(
        [field.defocus[:, 0] - lens.defocus_u for field, lens in zip(fields, lenses, strict=False)]
    )
    assert abs(heights).max() < 150
    assert heights.std() == pytest.approx(300 / np.sqrt(12), rel=0.15)
    classes = np.concatenate([field.table["rlnClassNumber"] for field in fields])
    assert (classes == 2).mean() == pytest.approx(0.75, abs=0.08)
    first = fields[0]
    assert (first.table.numbers("rlnCoordinateX") % 1 == 0).all()
    assert abs(first.shifts).max() <= PIXEL_SIZE / 2


def test_signal_to_noise_ratio_follows_the_dose(projector: Projector) -> None:
    session = Session(12, 110.0, seed=2, defocus=(15_000.0, 15_000.0))
    ratios = []
    for exposure in (10.0, 20.0):
        imaging = replace(IMAGING, exposure=exposure, damage=False, ice_thickness=1e-6)
        shot = Shooting(imaging, session, [projector], (200, 220)).shot(0)
        ratios.append(shot.signal_to_noise(90.0))
    assert ratios[1] / ratios[0] == pytest.approx(2, rel=1e-3)
