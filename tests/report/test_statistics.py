"""What a choice keeps is told apart from what it drops."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.colors import to_hex

from vitrea.report.figures import histogram, scatter
from vitrea.report.figures.style import DROPPED, KEPT


def test_bars_count_values() -> None:
    axis = histogram([1.0, 1.0, 2.0, np.nan, np.inf], "degrees", bins=2).axes[0]
    assert [bar.get_height() for bar in axis.patches] == [2, 1]
    assert axis.get_xlabel() == "degrees"
    assert not axis.lines and not axis.get_title()


def test_a_histogram_shows_what_a_range_keeps() -> None:
    values = np.arange(100.0)
    (axis,) = histogram(values, "score", bins=10, kept=(20.0, np.inf)).axes
    heights = {
        colour: sum(bar.get_height() for bar in axis.patches if to_hex(bar.get_facecolor()) == colour)
        for colour in (KEPT, DROPPED)
    }
    assert heights == {KEPT: 80, DROPPED: 20}
    assert axis.get_title() == "80 of 100 kept (80.0%)"
    (line,) = axis.lines  # none for the end that is open
    assert set(line.get_xdata()) == {20.0}
    assert [text.get_text().strip() for text in axis.texts] == ["20"]


def test_points_within_all_limits_are_kept() -> None:
    x, y = [1.0, 2.0, 3.0, np.nan], [10.0, 20.0, 30.0, 15.0]
    (axis,) = scatter(x, y, ("share (%)", "resolution (Å)"), kept_x=(1.5, np.inf), kept_y=(0.0, 25.0)).axes
    kept, dropped = axis.collections
    np.testing.assert_array_equal(kept.get_offsets(), [[2, 20]])
    np.testing.assert_array_equal(dropped.get_offsets(), [[1, 10], [3, 30]])
    assert to_hex(kept.get_facecolor()[0]) == KEPT and to_hex(dropped.get_facecolor()[0]) == DROPPED
    assert axis.get_title() == "1 of 3 kept (33.3%)"
    assert [text.get_text().strip() for text in axis.texts] == ["1.5", "0", "25"]
    assert (axis.get_xlabel(), axis.get_ylabel()) == ("share (%)", "resolution (Å)")


@pytest.mark.parametrize("values", [[], [np.nan]])
def test_nothing_gives_an_empty_picture(values: list[float]) -> None:
    assert histogram(values, "score", kept=(0.0, 1.0)).axes[0].get_title() == "0 of 0 kept (0.0%)"
    assert scatter(values, values, ("a", "b"), kept_x=(0.0, 1.0)).axes[0].get_title() == "0 of 0 kept (0.0%)"
