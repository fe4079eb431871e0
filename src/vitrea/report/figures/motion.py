"""How specimens moved while movies were taken."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from vitrea.records.movie_motion import MovieMotion
from vitrea.report.figures.style import COLOURS, DROPPED, PAGE_WIDTH, bar_length

# Local motion is drawn so much longer that the longest path fills about a patch.
_FILL = 0.8


def motion_tracks(motion: MovieMotion) -> Figure:
    """Draw the motion of one movie: of the whole, from its first frame, and of patches beyond that, enlarged.

    Drawn is where the specimen went: the opposite of the shifts that bring it back.
    """
    patches = len(motion.patch_shifts) > 0
    figure = Figure(figsize=(PAGE_WIDTH if patches else PAGE_WIDTH / 2, 4.2), layout="constrained")
    _draw_whole(figure.add_subplot(1, 2 if patches else 1, 1), motion)
    if patches:
        _draw_patches(figure.add_subplot(1, 2, 2), motion)
    return figure


def all_tracks(motions: Sequence[MovieMotion]) -> Figure:
    """Draw the whole-frame motion of many movies, in Å from the first frame."""
    figure = Figure(figsize=(4.8, 4.2), layout="constrained")
    axis = figure.subplots()
    opacity = float(np.clip(20 / max(1, len(motions)), 0.08, 0.9))
    for motion in motions:
        path = _path(motion)
        axis.plot(*path.T, color=COLOURS[0], linewidth=0.8, alpha=opacity)
        axis.plot(*path[-1:].T, ".", color=DROPPED, markersize=3, alpha=min(1.0, 2 * opacity))
    _finish(axis)
    return figure


def _path(motion: MovieMotion) -> NDArray[np.float64]:
    """Return where the specimen went in Å, from the first frame used, shape [frames used, 2]."""
    used = np.isfinite(motion.shifts).all(axis=1)
    return np.asarray(-motion.shifts[used] * motion.pixel_size)


def _finish(axis: Axes) -> None:
    axis.plot(0, 0, "o", color="black", markersize=4, markerfacecolor="white")
    axis.set_aspect("equal", adjustable="datalim")
    axis.set_xlabel("motion along x (Å)")
    axis.set_ylabel("motion along y (Å)")
    axis.grid(color="#dddddd", linewidth=0.5)


def _draw_whole(axis: Axes, motion: MovieMotion) -> None:
    path = _path(motion)
    axis.plot(*path.T, color=COLOURS[0], linewidth=1)
    axis.scatter(path[:, 0], path[:, 1], s=10, c=np.arange(len(path)), cmap="viridis", zorder=3)
    axis.set_title(f"whole frames, {motion.first_frame} to {motion.first_frame + len(path) - 1}", fontsize=9)
    _finish(axis)


def _draw_patches(axis: Axes, motion: MovieMotion) -> None:
    table = motion.patch_shifts
    starts = np.flatnonzero(np.append(True, (np.diff(table[:, 1:3], axis=0) != 0).any(axis=1)))
    tracks = np.split(table, starts[1:])
    longest = max(float(np.hypot(*track[:, 3:].T).max()) for track in tracks)
    room = _FILL * min(motion.columns, motion.rows) / max(1.0, np.sqrt(len(tracks)))
    factor = bar_length(room / longest) if longest > 0 else 1.0
    for track in tracks:
        centre = track[0, 1:3]
        axis.plot(*(centre - factor * track[:, 3:]).T, color="#999999", linewidth=0.8)
        if motion.coefficients is not None:
            axis.plot(*(centre - factor * _model(motion, track)).T, color=COLOURS[0], linewidth=1.3)
        axis.plot(*centre, "o", color="black", markersize=3, markerfacecolor="white")
    axis.set_xlim(0, motion.columns)
    axis.set_ylim(0, motion.rows)
    axis.set_aspect("equal")
    axis.set_xlabel("x (pixels)")
    axis.set_ylabel("y (pixels)")
    fitted = ", model in colour" if motion.coefficients is not None else ", no model"
    axis.set_title(f"patches beyond that, × {factor:g}{fitted}", fontsize=9)


def _model(motion: MovieMotion, track: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the model's shifts along a patch's track, from its first frame on, shape [frames, 2]."""
    if motion.coefficients is None:
        raise ValueError("the motion has no local model")
    z = track[:, 0] - motion.first_frame
    x, y = track[0, 1] / motion.columns - 0.5, track[0, 2] / motion.rows - 0.5
    space, time = np.array([1, x, x * x, y, y * y, x * y]), np.stack([z, z**2, z**3], axis=1)
    shifts = np.einsum("act,c,zt->za", motion.coefficients.reshape(2, 6, 3), space, time)
    return np.asarray(shifts - shifts[0])
