"""Movies move as their truth says: frames are found where whole-frame shifts and polynomial put them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from vitrea.records.optics import Optics
from vitrea.simulate.deformation import Deformation
from vitrea.simulate.imaging import Imaging, Session
from vitrea.simulate.landscape import CONTAMINATION, FILM, ICE, Surroundings
from vitrea.simulate.motion import Motion, draw_motion
from vitrea.simulate.projections import Projector
from vitrea.simulate.shots import Shooting
from vitrea.thon_rings.fit import fit_ctf
from vitrea.thon_rings.settings import FitSettings
from vitrea.thon_rings.spectrum import amplitude_spectrum

if TYPE_CHECKING:
    from tests.conftest import BlobModel

PIXEL_SIZE, SIZE = 3.0, (180, 200)
IMAGING = Imaging(Optics(PIXEL_SIZE, 32, 300.0, 2.7, 0.1), exposure=24.0, ice_thickness=0.0, damage=False)


@pytest.fixture(scope="module")
def shooting(lopsided: BlobModel) -> Shooting:
    projector = Projector(torch.from_numpy(60.0 * lopsided.map(32)), PIXEL_SIZE)
    session = Session(25, 70.0, 60.0, defocus=(9_000.0, 9_000.0), astigmatism=(0.0, 0.0), seed=3)
    return Shooting(IMAGING, session, [projector], SIZE, blur=False)


def displacement(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    """Measure x, y by which `second` is moved: windowed phases of the cross-spectrum, weighted by its amplitude."""
    window = np.outer(*(np.hanning(n) for n in first.shape))
    cross = np.conj(np.fft.fft2((first - first.mean()) * window)) * np.fft.fft2((second - second.mean()) * window)
    ky, kx = (np.fft.fftfreq(n) for n in first.shape)
    grid = np.stack([np.broadcast_to(kx, cross.shape), np.broadcast_to(ky[:, None], cross.shape)], axis=-1)
    keep = np.hypot(grid[..., 0], grid[..., 1]) < 0.2
    shift = np.zeros(2)
    for _ in range(12):
        phase = np.angle(cross * np.exp(2j * np.pi * (grid @ shift)))[keep]
        weight, basis = np.abs(cross)[keep], -2 * np.pi * grid[keep]
        shift = shift + np.linalg.lstsq(basis * np.sqrt(weight)[:, None], phase * np.sqrt(weight), rcond=None)[0]
    return shift


def test_whole_frame_drift_is_what_the_truth_says(shooting: Shooting) -> None:
    """Noise-free frames against the first, within 0.02 pixel, over a drift of 8 pixels."""
    motion = draw_motion((3, 0), 8, 24.0, 24.0, 0.0, PIXEL_SIZE)
    frames = list(shooting.shot(0, motion).expected(8))
    still = next(shooting.shot(0, replace_drift(motion)).expected(8))
    assert np.hypot(*motion.drift[-1]) == pytest.approx(8, abs=1e-6)
    assert not motion.drift[0].any()
    assert np.abs(frames[0] - still).max() < 1e-4 * still.max()
    for frame, drift in zip(frames, motion.drift, strict=True):
        # The window stays where it is: compare with the still scene moved by whole pixels as far as that goes.
        whole = np.rint(drift).astype(int)
        part = slice(20, -20), slice(20, -20)
        moved = frame[20 + whole[1] : SIZE[0] - 20 + whole[1], 20 + whole[0] : SIZE[1] - 20 + whole[0]]
        assert displacement(still[part], moved) == pytest.approx(drift - whole, abs=0.02)


def replace_drift(motion: Motion) -> Motion:
    return replace(motion, drift=np.zeros_like(motion.drift), local=np.zeros_like(motion.local))


def read_back(last: NDArray[np.float32], motion: Motion, frame: int) -> NDArray[np.float64]:
    """Read each place where the truth says it went."""
    from scipy.ndimage import map_coordinates

    y, x = np.meshgrid(*(np.arange(n, dtype=np.float64) for n in SIZE), indexing="ij")
    moved = motion.at(frame, (x / SIZE[1] - 0.5).ravel(), (y / SIZE[0] - 0.5).ravel())
    return np.asarray(map_coordinates(last, [y.ravel() + moved[:, 1], x.ravel() + moved[:, 0]], order=5).reshape(SIZE))


def test_undoing_the_motion_gives_the_first_frame_back(shooting: Shooting) -> None:
    """What is left is the strain of 2%, which particles, being rigid, have not followed."""
    motion = draw_motion((3, 2), 6, 24.0, 6.0, 6.0, PIXEL_SIZE)
    first, *_, last = shooting.shot(0, motion).expected(6)
    inner = slice(20, -20), slice(20, -20)
    spread = first[inner].std()
    assert (read_back(last, motion, 5) - first)[inner].std() < 0.1 * spread
    assert (last - first)[inner].std() > 0.3 * spread


def test_what_is_no_particle_is_deformed_as_the_truth_says(shooting: Shooting) -> None:
    motion = draw_motion((3, 2), 6, 24.0, 0.0, 6.0, PIXEL_SIZE)
    canvas = shooting.shot(0, motion).canvas
    random = np.random.default_rng(0)
    smooth = torch.exp(-((canvas.radius() * PIXEL_SIZE / 0.15) ** 2)).float()  # nothing that map_coordinates blurs
    field = canvas.white(random) * smooth
    deformation = Deformation(canvas, motion.field(5))
    moved = canvas.crop(canvas.to_real(deformation.moved_transform(field.clone()))).numpy()
    at_rest = canvas.crop(canvas.to_real(field)).numpy()
    np.testing.assert_allclose(canvas.crop(deformation.moved(canvas.to_real(field))).numpy(), moved, atol=1e-5)
    inner = slice(20, -20), slice(20, -20)
    assert (read_back(moved, motion, 5) - at_rest)[inner].std() < 0.01 * at_rest[inner].std()
    assert (moved - at_rest)[inner].std() > 0.3 * at_rest[inner].std()
    x, y = np.array([0.0, 55.5, 190.0]), np.array([3.0, 179.0, 80.0])
    np.testing.assert_allclose(deformation.at(x, y), motion.at(5, x / SIZE[1] - 0.5, y / SIZE[0] - 0.5), atol=1e-9)


def test_local_motion_leaves_the_thon_rings_as_the_lens_makes_them() -> None:
    """A stretch of 2% of the image itself would be 4% of the defocus, 500 Å."""
    imaging = replace(IMAGING, optics=Optics(1.5, 32, 300.0, 2.7, 0.1), ice_thickness=500.0)
    session = Session(0, 70.0, 60.0, defocus=(12_000.0, 12_000.0), astigmatism=(0.0, 0.0), seed=3)
    still = Motion(np.zeros((2, 2)), np.zeros((2, 18)))
    coefficients = still.local.copy()
    coefficients[0, 3], coefficients[1, 9] = 0.02 * 512, -0.02 * 512  # wider along x, narrower along y
    stretched = replace(still, local=coefficients)
    shooting = Shooting(imaging, session, [], (512, 512), blur=False)
    fits = []
    for motion in (still, stretched):
        *_, last = shooting.shot(0, motion).expected(2)
        spectrum = amplitude_spectrum([last], 1.5, 256)
        fits.append(fit_ctf(spectrum, imaging.optics, FitSettings(highest_resolution=4.0)))
        assert fits[-1].has_rings
    assert fits[1].defocus_u == pytest.approx(12_000, abs=60)
    assert fits[1].defocus_v == pytest.approx(12_000, abs=60)
    assert fits[1].defocus_u == pytest.approx(fits[0].defocus_u, abs=40)


def test_local_motion_has_no_mean_and_the_length_asked_for() -> None:
    motion = draw_motion((1, 1), 20, 40.0, 15.0, 8.0, 2.0)
    axis = np.linspace(-0.5, 0.5, 41)
    x, y = (part.ravel() for part in np.meshgrid(axis, axis))
    for frame in (0, 7, 19):
        local = motion.at(frame, x, y) - motion.drift[frame]
        assert np.abs(local.mean(axis=0)).max() < 0.05 * max(np.abs(local).max(), 1e-9) + 1e-12
    end = motion.at(19, x, y) - motion.drift[19]
    assert np.sqrt((end**2).sum(axis=1).mean()) == pytest.approx(4.0, rel=0.01)
    assert np.hypot(*motion.drift[5]) > np.hypot(*(motion.drift[19] - motion.drift[14]))  # fast at first
    assert motion.reach >= np.abs(motion.drift).max()


def test_a_micrograph_is_the_sum_of_a_movie_that_stands_still(shooting: Shooting) -> None:
    """With damage: the mean of the frames' filters is the filter of the whole exposure."""
    faded = replace(shooting, imaging=replace(IMAGING, damage=True))
    (whole,) = faded.shot(1).expected(1)
    parts = sum(faded.shot(1).expected(12))
    assert np.abs(whole - parts).max() < 1e-4 * whole.max()


def test_carbon_and_contamination(lopsided: BlobModel, shooting: Shooting) -> None:
    """The film takes its share, is darker by what it absorbs, and no particle lies on it or on contamination."""
    imaging = replace(IMAGING, ice_thickness=500.0)
    crowded = replace(shooting, imaging=imaging, surroundings=Surroundings(carbon=0.3, contaminants=2.0))
    shots = [crowded.shot(number) for number in range(3)]
    for shot in shots:
        assert shot.landscape is not None
        mask = shot.canvas.crop(torch.from_numpy(shot.landscape.mask)).numpy()
        assert (mask == FILM).mean() <= 0.33
        image = next(shot.expected(1))
        assert image[mask == FILM].mean() / image[mask == ICE].mean() == pytest.approx(np.exp(-200 / 1520), abs=0.03)
        assert image[mask == FILM].std() > 1.3 * image[mask == ICE].std() or len(shot.particles) > 5
        x, y = (shot.particles.table[f"rlnCoordinate{axis}"].astype(int) for axis in "XY")
        assert (mask[y, x] == ICE).all()
    masks = [shot.landscape.mask for shot in shots if shot.landscape is not None]
    assert any((mask == CONTAMINATION).any() for mask in masks)
    assert np.mean([(mask == FILM).mean() for mask in masks]) > 0.15


def test_images_follow_the_seed(shooting: Shooting) -> None:
    first, again = (next(shooting.shot(0).frames(1)) for _ in range(2))
    other = next(shooting.shot(1).frames(1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
