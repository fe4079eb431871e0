"""Columns drawn as figures and as text."""

from __future__ import annotations

import numpy as np
import pytest

from vitrea.report.figures import binned_histogram, column_plot
from vitrea.report.terminal import text_bars, text_scatter


def dots(text: str) -> int:
    """Count the dots of braille characters."""
    return sum((ord(character) - 0x2800).bit_count() for character in text if 0x2800 <= ord(character) < 0x2900)


def test_every_point_has_its_dot() -> None:
    text = text_scatter([0, 1, 2, np.nan], [[0, 1, 4, 5]], ["y"], "x", width=10, height=5)
    lines = text.splitlines()
    assert len(lines) == 8
    assert dots(text) == 3
    assert dots(lines[1][-1]) == 1  # the last point, at the top right
    assert dots(lines[5]) == 1  # the first, at the bottom
    assert lines[1].startswith("4 ┤")
    assert lines[5].startswith("0 ┤")
    assert lines[-1].split() == ["0", "x", "2"]


def test_several_columns_have_a_mark_each() -> None:
    text = text_scatter([0, 1], [[0, 0], [1, 1]], ["low", "high"], "x", width=4, height=2)
    assert text.splitlines() == ["o low   x high", "1 ┤x  x", "0 ┤o  o", "  └────", "   0 x 1"]


def test_a_column_that_does_not_vary_and_one_without_numbers() -> None:
    assert dots(text_scatter([5], [[5]], ["y"], "x")) == 1
    assert text_scatter([np.nan], [[1]], ["y"], "x") == "no point has finite values"


def test_bars_are_as_long_as_their_values() -> None:
    lines = text_bars(["a", "bb"], [4, 2], ["4", "2"], width=4).splitlines()
    assert lines == [" a ████ 4", "bb ██   2"]
    assert text_bars(["a"], [0], ["0"], width=2) == "a    0"
    assert "▌" in text_bars(["a", "b"], [1, 8], ["", ""], width=4)


@pytest.mark.parametrize("lines", [False, True])
def test_column_plot_has_a_line_and_a_legend_entry_a_column(lines: bool) -> None:
    figure = column_plot([0, 1, 2], [[1, 2, 3], [3, 2, np.nan]], ["a", "b"], "x", lines=lines)
    (axis,) = figure.axes
    assert [line.get_ydata()[0] for line in axis.lines] == [1, 3]
    legend = axis.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["a", "b"]
    assert axis.get_xlabel() == "x"
    assert column_plot([0], [[1]], ["only"], "x").axes[0].get_ylabel() == "only"


def test_binned_histogram_has_the_bins_given() -> None:
    (axis,) = binned_histogram([0, 1, 3], [2, 5], "x", "percent").axes
    (patch,) = axis.patches
    values, edges, _ = patch.get_data()  # type: ignore[attr-defined]
    assert (values.tolist(), edges.tolist()) == ([2.0, 5.0], [0.0, 1.0, 3.0])
    assert axis.get_ylabel() == "percent"
