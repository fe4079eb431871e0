"""Alignment of whole frames, against motion that is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from vitrea.fourier.rectangles import crop_rectangle, rectangle_to_fourier
from vitrea.motion.alignment import Alignment, AlignmentSettings, align_frames, alignment_shape, vertex

from .synthetic_movies import SyntheticMovie, drift, error_per_frame, make_movie

PIXEL = 1.5


@pytest.fixture(scope="module")
def movie() -> SyntheticMovie:
    return make_movie()


def align(frames: np.ndarray, settings: AlignmentSettings) -> Alignment:
    """Align and return shifts in pixels of the frames."""
    shape = (frames.shape[1], frames.shape[2])
    new = alignment_shape(shape, PIXEL, settings.b_factor)
    spectra = crop_rectangle(rectangle_to_fourier(torch.from_numpy(frames)), shape, new)
    scale = np.array([shape[1] / new[1], shape[0] / new[0]])
    found = align_frames(spectra, new, (PIXEL * scale[0], PIXEL * scale[1]), settings)
    return replace(found, shifts=found.shifts * scale)


def rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(values**2)))


def test_known_drift_is_found(movie: SyntheticMovie) -> None:
    found = align(movie.frames, AlignmentSettings())
    assert found.converged
    assert found.shifts[0].tolist() == [0, 0]
    # The correction is opposite to the motion.
    assert np.corrcoef(found.shifts[:, 0], -movie.motion[:, 0])[0, 1] > 0.99
    errors = error_per_frame(found.shifts, movie.motion)
    assert rms(errors) < 0.1
    assert errors.max() < 0.25


def test_weak_signal_is_aligned_within_a_fifth_of_a_pixel() -> None:
    """40 frames of 1 e-/Å², 4% contrast: a single frame's peak is off by 0.3 pixels; smoothing over time mends that."""
    weak = make_movie(frames=40, exposure=1.0, contrast=0.04, distance=12)
    smoothed = error_per_frame(align(weak.frames, AlignmentSettings()).shifts, weak.motion)
    single = error_per_frame(align(weak.frames, AlignmentSettings(smoothing="none")).shifts, weak.motion)
    assert rms(smoothed) < 0.2
    assert rms(smoothed) < 0.75 * rms(single)


@pytest.mark.parametrize(
    "settings",
    [
        AlignmentSettings(smoothing="savitzky-golay", smoothing_window=3),
        AlignmentSettings(running_average=3),
        AlignmentSettings(b_factor=600.0),
        AlignmentSettings(minimum_shift=0.0),
        AlignmentSettings(vertical_mask=3, horizontal_mask=1),
    ],
)
def test_every_option_changes_the_shifts_a_little_and_keeps_them_right(
    movie: SyntheticMovie, settings: AlignmentSettings
) -> None:
    usual, other = align(movie.frames, AlignmentSettings()).shifts, align(movie.frames, settings).shifts
    assert rms(error_per_frame(other, movie.motion)) < 0.2
    if settings.minimum_shift > 0:  # which decides where the search begins, not where it ends
        assert np.abs(other - usual).max() > 1e-3


def test_running_averages_settle_without_smoothing_too() -> None:
    """Windows of three frames tell an error that alternates from frame to frame with the wrong sign: 16 pixels here."""
    movie = make_movie(shape=(128, 128), contrast=0.05)
    found = align(movie.frames, AlignmentSettings(running_average=3, smoothing="none", minimum_shift=0.0))
    assert found.converged
    assert rms(error_per_frame(found.shifts, movie.motion)) < 0.7


def test_fixed_pattern_does_not_hold_frames_back() -> None:
    """A detector's pattern, the same in all frames, has a peak at shift 0 that rivals the specimen's elsewhere."""
    movie = make_movie(contrast=0.05, distance=24)
    pattern = np.random.default_rng(8).normal(1, 0.16, movie.frames.shape[1:]).clip(0)
    frames = (movie.frames * pattern).astype(np.float32)
    held = align(frames, AlignmentSettings(minimum_shift=0.0))
    assert rms(error_per_frame(held.shifts, movie.motion)) > 2
    freed = align(frames, AlignmentSettings())
    assert rms(error_per_frame(freed.shifts, movie.motion)) < 0.5


def test_stripes_are_left_out_by_the_central_cross() -> None:
    """Rows of the detector that read out too bright make a line along ky, and a correlation along x."""
    movie = make_movie(contrast=0.05)
    stripes = 1 + 0.1 * np.random.default_rng(2).normal(size=(1, 1, movie.frames.shape[2]))
    frames = (movie.frames * stripes).astype(np.float32)
    plain = align(frames, AlignmentSettings(smoothing="none"))
    masked = align(frames, AlignmentSettings(smoothing="none", horizontal_mask=1))
    assert rms(error_per_frame(plain.shifts, movie.motion)) > 1
    assert rms(error_per_frame(masked.shifts, movie.motion)) < 0.3


def test_maximum_shift_bounds_one_iteration() -> None:
    movie = make_movie(distance=30)
    # From frame 1 to the middle one it is 22 pixels, 33 Å; 20 iterations of at most 3 Å do not all reach.
    short = align(movie.frames, AlignmentSettings(maximum_shift=3.0, max_iterations=1, smoothing="none"))
    assert np.abs(short.shifts).max() < 2 * (3.0 / PIXEL + 1.5)
    assert not short.converged


def test_iterations_end_at_the_threshold(movie: SyntheticMovie) -> None:
    loose = align(movie.frames, AlignmentSettings(threshold=50.0))
    tight = align(movie.frames, AlignmentSettings(threshold=0.01))
    assert loose.iterations < tight.iterations <= 20
    assert tight.largest * PIXEL <= 0.01


def test_size_of_correlations_follows_the_b_factor() -> None:
    assert alignment_shape((4096, 4096), 1.0, 1500.0) == (1152, 1152)
    assert alignment_shape((400, 300), 1.0, 0.0) == (400, 300)
    assert alignment_shape((400, 300), 10.0, 1500.0) == (400, 300)


def test_paraboloid_is_found_exactly() -> None:
    y, x = np.mgrid[-1:2, -1:2].astype(float)
    values = 5 - 2 * (x - 0.3) ** 2 - 1.5 * (y + 0.2) ** 2 + 0.7 * (x - 0.3) * (y + 0.2)
    assert vertex(values) == pytest.approx([0.3, -0.2])
    assert vertex(-values).tolist() == [0, 0]


def test_drift_of_the_fixture_is_what_it_says() -> None:
    path = drift(20, 8.0)
    assert path[0].tolist() == [0, 0]
    assert np.hypot(*path[-1]) == pytest.approx(8.0, rel=0.05)
