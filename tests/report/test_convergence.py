"""Curves of a run hold its numbers."""

from __future__ import annotations

import numpy as np

from vitrea.report.figures import class_convergence, convergence_curves

_ITERATIONS = np.arange(1, 6)


def test_each_series_has_its_panel() -> None:
    figure = convergence_curves([1, 2, 3], {"resolution (Å)": [30, 20, 10], "accuracy (°)": [9, np.nan, 3]})
    assert [axis.get_title() for axis in figure.axes] == ["resolution (Å)", "accuracy (°)"]
    np.testing.assert_array_equal(figure.axes[0].lines[0].get_ydata(), [30, 20, 10])
    assert all(axis.get_ylim()[0] == 0 for axis in figure.axes)


def test_a_series_far_from_zero_fills_its_panel() -> None:
    values = {"a": [1000.0, 1001.0, 1002.0], "b": [1000.0, 1001.0, 1002.0]}
    first, second = convergence_curves([1, 2, 3], values, not_from_zero=["b"]).axes
    assert first.get_ylim()[0] == 0
    assert second.get_ylim()[0] > 990


def test_panels_stand_in_even_rows_as_wide_as_the_page() -> None:
    figure = convergence_curves([1, 2], {str(number): [1, 2] for number in range(4)})
    shape = {axis.get_subplotspec().get_gridspec().get_geometry() for axis in figure.axes}
    assert shape == {(2, 2)}


def test_a_classification_shows_what_is_known_of_it() -> None:
    shares = np.array([[0.2, 0.3, 0.5]] * 4 + [[0.10, 0.02, 0.88]])
    figure = class_convergence(
        _ITERATIONS, changed=[1.0, 0.5, 0.2, 0.1, 0.05], log_likelihood=[-50.0, -40, -30, -25, -24],
        particles=[300, 300, 600, 900, 900], shares=shares,
    )  # fmt: skip
    changed, likelihood, particles, stack = figure.axes
    assert changed.get_title() == "changed class (%)"
    np.testing.assert_allclose(changed.lines[0].get_ydata(), [100, 50, 20, 10, 5])
    assert likelihood.get_title() == "log-likelihood" and likelihood.get_ylim()[0] < -50
    assert likelihood.get_ylim()[1] < 0
    np.testing.assert_array_equal(particles.lines[0].get_ydata(), [300, 300, 600, 900, 900])
    assert len(stack.collections) == 3
    # Class 3 lies on top: at the last iteration it reaches from 12% to 100%.
    area = stack.collections[2].get_paths()[0].vertices
    np.testing.assert_allclose(np.unique(area[area[:, 0] == 5, 1]), [12, 100])
    # A class of 2% has no room for its number.
    assert [text.get_text() for text in stack.texts] == ["1", "3"]


def test_few_classes_have_a_named_curve_each() -> None:
    resolutions = np.linspace(40, 10, 5)[:, None] + np.arange(3)
    (axis,) = class_convergence(_ITERATIONS, resolutions=resolutions).axes
    np.testing.assert_array_equal([line.get_ydata() for line in axis.lines], resolutions.T)
    assert [text.get_text() for text in axis.get_legend().get_texts()] == ["class 1", "class 2", "class 3"]


def test_many_classes_are_grey_behind_their_median_and_the_lowest() -> None:
    resolutions = np.random.default_rng(1).uniform(10, 40, (5, 20))
    resolutions[2, 0] = np.nan  # an empty class has none
    (axis,) = class_convergence(_ITERATIONS, resolutions=resolutions).axes
    *grey, median, lowest = axis.lines
    assert len(grey) == 20
    np.testing.assert_allclose(median.get_ydata(), np.nanmedian(resolutions, axis=1))
    np.testing.assert_allclose(lowest.get_ydata(), np.nanmin(resolutions, axis=1))
