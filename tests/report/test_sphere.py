"""Directions of view are counted where they lie."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from numpy.typing import NDArray

from vitrea.report.figures import angular_distribution, class_angular_distributions
from vitrea.report.figures.sphere import SMOOTHING


def _cells(axis: Axes) -> NDArray[Any]:
    """Numbers of the cells of equal area, shape [heights, longitudes]; each is drawn as many smaller ones."""
    mesh = next(item for item in axis.collections if isinstance(item, QuadMesh))
    fine = np.asarray(mesh.get_array())
    cells = fine[::SMOOTHING, ::SMOOTHING]
    np.testing.assert_array_equal(fine, np.kron(cells, np.ones((SMOOTHING, SMOOTHING))))
    return cells


def _even_directions(count: int, seed: int = 2) -> NDArray[np.float64]:
    generator = np.random.default_rng(seed)
    tilt = np.degrees(np.arccos(generator.uniform(-1, 1, count)))
    return np.stack([generator.uniform(0, 360, count), tilt, np.zeros(count)], axis=1)


def test_every_particle_is_counted_in_cells_of_equal_area() -> None:
    count = 20_000
    eulers = _even_directions(count)
    eulers[:, 0] += 360.0  # any turn of rot is the same direction
    counts = _cells(angular_distribution(eulers).axes[0])
    assert counts.sum() == count
    # Uniform directions fill cells of equal area alike: Poisson scatter about the mean, no cell beyond 6 sigma.
    mean = count / counts.size
    assert np.abs(counts - mean).max() < 6 * np.sqrt(mean)


def test_a_view_from_above_lands_at_the_pole() -> None:
    counts = _cells(angular_distribution([[10.0, 1.0, 0.0]]).axes[0])
    row, column = np.unravel_index(int(np.argmax(counts)), counts.shape)
    assert row == counts.shape[0] - 1
    assert column == counts.shape[1] // 2 + 1  # rot 10° is the second cell of 10° east of the middle


def test_classes_share_a_scale_of_relative_density() -> None:
    even, view = _even_directions(3000), np.tile([[100.0, 91.0, 0.0]], (60, 1))
    figure = class_angular_distributions(np.concatenate([even, view]), [1] * 3000 + [3] * 60, count=3)
    panels = figure.axes[:3]
    titles = [axis.get_title() for axis in panels]
    assert titles == ["class 1: 3,000 particles", "class 2: 0 particles", "class 3: 60 particles"]
    large, none, small = (_cells(axis) for axis in panels)
    assert large.mean() == small.mean() == 1.0
    assert not none.any()
    assert np.count_nonzero(small) == 1 and small.max() == small.size
    assert small.size < large.size  # larger cells where particles are few
    scales = {item.get_clim() for axis in panels for item in axis.collections if isinstance(item, QuadMesh)}
    assert len(scales) == 1
    assert figure.axes[3].get_ylabel() == "density over an even one"


def test_an_even_distribution_does_not_look_like_a_preferred_view() -> None:
    figure = class_angular_distributions(_even_directions(200), np.ones(200), count=1)
    # With 2 particles a cell on average, 99.7% of cells of a Poisson distribution stay below 4 times the mean.
    assert 3.0 <= figure.axes[0].collections[0].get_clim()[1] <= 4.0
