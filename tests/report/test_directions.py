"""What is drawn by direction lies where it belongs."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.collections import PathCollection, QuadMesh
from matplotlib.patches import Rectangle

from vitrea.geometry.hemisphere import Hemisphere
from vitrea.report.figures import axis_map, directional_curves, line_plot, tilt_pair_plot


def test_an_axis_is_drawn_in_both_its_directions() -> None:
    directions = Hemisphere(8).vectors
    figure = axis_map(directions, directions[:, 0] ** 2, "x²", {"x": [1, 0, 0]})
    mesh = next(item for item in figure.axes[0].collections if isinstance(item, QuadMesh))
    cells = np.asarray(mesh.get_array())  # latitude upwards, longitude from -180°
    latitudes, longitudes = cells.shape
    middle = cells[latitudes // 2]
    # Bins are 7 degrees wide: a cosine squared is off by no more than 0.02 at its top, by 0.01 at its bottom.
    assert middle[longitudes // 2] > 0.97 and middle[0] > 0.97 and middle[-1] > 0.97
    assert middle[longitudes // 4] < 0.02 and middle[3 * longitudes // 4] < 0.02
    assert cells[0].max() < 0.02 and cells[-1].max() < 0.02
    marks = next(item for item in figure.axes[0].collections if isinstance(item, PathCollection))
    assert np.asarray(marks.get_offsets()) == pytest.approx(np.array([[0.0, 0.0], [np.pi, 0.0]]))


def test_bars_tell_the_share_of_directions() -> None:
    ends = np.array([4.0] * 30 + [8.0] * 10)
    figure = directional_curves(np.linspace(1, 0, 11), np.full(11, 0.1), ends, voxel_size=2.0, size=20)
    curves, bars = figure.axes
    heights = {bar.get_x(): bar.get_height() for bar in bars.patches if isinstance(bar, Rectangle) and bar.get_height()}
    assert sorted(heights.values()) == [25.0, 75.0]
    assert [min(heights), max(heights)] == pytest.approx([4 / 40, 8 / 40], abs=0.25 / 40 + 1e-9)
    upper, lower = (np.asarray(line.get_ydata()) for line in curves.lines[1:3])
    assert upper - lower == pytest.approx(np.full(11, 0.2))
    assert np.asarray(curves.lines[0].get_xdata())[-1] == pytest.approx(10 / 40)


def test_pairs_lie_at_their_tilt_about_their_axis() -> None:
    figure = tilt_pair_plot([20.0, 50.0], [90.0, 180.0], [True, False], (20.0, 90.0), 15.0, {"expected": (-20.0, 90.0)})
    points = {
        item.get_label(): np.asarray(item.get_offsets())
        for item in figure.axes[0].collections
        if isinstance(item, PathCollection)
    }
    assert points["in the cluster"] == pytest.approx(np.array([[0.0, 20.0]]), abs=1e-9)
    assert points["other pairs"] == pytest.approx(np.array([[-50.0, 0.0]]), abs=1e-9)
    assert points["expected"] == pytest.approx(np.array([[0.0, -20.0]]), abs=1e-9)


def test_a_line_is_drawn_with_its_mark() -> None:
    axis = line_plot([0, 10, 20], {"SCF*": [0.1, 0.5, 0.9]}, ("tilt", "SCF*"), mark=20.0, y_limits=(0, 1)).axes[0]
    assert axis.lines[0].get_ydata().tolist() == [0.1, 0.5, 0.9]  # type: ignore[union-attr]
    assert list(axis.lines[1].get_xdata()) == [20.0, 20.0] and axis.get_ylim() == (0, 1)
