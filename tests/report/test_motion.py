"""Pictures of motion."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from vitrea.records.movie_motion import MovieMotion
from vitrea.report.figures.motion import all_tracks, motion_tracks
from vitrea.report.png import figure_png


@pytest.fixture
def motion() -> MovieMotion:
    frames = np.arange(1.0, 7)
    patches = [
        [f, x, y, 0.1 * (f - 1) * x / 100, -0.05 * (f - 1)] for y in (50, 150) for x in (60, 180) for f in frames
    ]
    coefficients = np.zeros((2, 18))
    coefficients[0, 3] = 0.2  # z x
    return MovieMotion(
        "a.tif", 6, 200, 240, 1, 1.5, 1.0, -frames[:, None] * [1.0, 0.5], coefficients, patch_shifts=np.array(patches)
    )


def test_the_path_of_the_specimen_is_drawn_not_the_correction(motion: MovieMotion) -> None:
    figure = motion_tracks(motion)
    path = figure.axes[0].lines[0].get_xydata()
    np.testing.assert_allclose(path[-1], [6 * 1.5, 3 * 1.5])
    assert len(figure.axes) == 2
    # Four patches: a measured path, the model's and a mark each.
    assert len(figure.axes[1].lines) == 12
    measured = figure.axes[1].lines[0].get_xydata()
    assert measured[-1, 0] < measured[0, 0]
    assert figure_png(figure, dpi=50)


def test_without_patches_or_model_less_is_drawn(motion: MovieMotion) -> None:
    assert len(motion_tracks(replace(motion, coefficients=None)).axes[1].lines) == 8
    assert len(motion_tracks(replace(motion, patch_shifts=np.empty((0, 5)))).axes) == 1


def test_unused_frames_are_left_out(motion: MovieMotion) -> None:
    shifts = motion.shifts.copy()
    shifts[0] = np.nan
    figure = motion_tracks(replace(motion, shifts=shifts, first_frame=2, patch_shifts=np.empty((0, 5))))
    assert len(figure.axes[0].lines[0].get_xydata()) == 5


def test_many_movies_share_a_picture(motion: MovieMotion) -> None:
    figure = all_tracks([motion] * 3)
    assert len(figure.axes[0].lines) == 7
    assert figure_png(figure, dpi=50)
