"""Class averages and maps of classes: the right image, beside the right numbers, in the right order."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from vitrea.report.figures import class_gallery, class_maps
from vitrea.report.figures.style import DROPPED, KEPT, PAGE_WIDTH
from vitrea.report.png import figure_png

_SIZE, _PIXEL = 32, 4.0


def _averages(count: int) -> NDArray[np.float32]:
    """Class k is noise about the level k."""
    noise = np.random.default_rng(3).normal(size=(count, _SIZE, _SIZE))
    return (noise + np.arange(1, count + 1)[:, None, None]).astype(np.float32)


def _gallery(count: int, **options: Any) -> tuple[Figure, Axes]:
    shares = np.full(count, 1 / count)
    figure = class_gallery(_averages(count), _PIXEL, shares, np.full(count, 50), np.full(count, 12.0), **options)
    (axis,) = figure.axes
    return figure, axis


def _lines_below(axis: Axes, place: int) -> list[str]:
    """Texts below a panel, from top to bottom, left before right."""
    left, right, bottom, top = axis.images[place].get_extent()
    pitch = 2 * (bottom - top)
    inside = [
        text for text in axis.texts
        if left - 0.01 <= text.get_position()[0] <= right + 0.01 and bottom < text.get_position()[1] < bottom + pitch
    ]  # fmt: skip
    lines = sorted(inside, key=lambda text: (text.get_position()[1], text.get_position()[0]))
    following = [image.get_extent()[3] for image in axis.images if image.get_extent()[3] > bottom]
    end = min(following, default=np.inf)
    return [text.get_text() for text in lines if text.get_position()[1] < end]


def test_the_largest_class_comes_first_with_its_own_numbers() -> None:
    averages = _averages(4)
    figure = class_gallery(averages, _PIXEL, [0.2, 0.5, 0.0, 0.3], [20, 1500, 0, 30], [15.0, 8.25, 999.0, np.inf])
    (axis,) = figure.axes
    assert len(axis.images) == 4
    for place, number in enumerate((2, 4, 1, 3)):
        np.testing.assert_array_equal(axis.images[place].get_array(), averages[number - 1])
        assert _lines_below(axis, place)[0] == f"{number}"
    assert _lines_below(axis, 0) == ["2", "50.0%", "1,500", "8.2 Å"]
    assert _lines_below(axis, 1) == ["4", "30.0%", "30", "–"]
    assert _lines_below(axis, 3) == ["3", "empty", "0", "–"]


@pytest.mark.parametrize(("count", "rows", "columns"), [(1, 1, 4), (10, 2, 5), (50, 5, 10), (200, 20, 10)])
def test_one_to_two_hundred_classes_fit_a_page(count: int, rows: int, columns: int) -> None:
    figure, axis = _gallery(count)
    assert len(axis.images) == count
    extents = np.array([image.get_extent() for image in axis.images])  # left, right, bottom, top in inches
    assert len(np.unique(extents[:, 3].round(6))) == rows
    assert len(np.unique(extents[:, 0].round(6))) == min(count, columns)
    width, height = figure.get_size_inches()
    assert width == PAGE_WIDTH
    assert extents[:, 1].max() <= width and extents[:, 2].max() < height
    # Square, and no two overlap.
    np.testing.assert_allclose(extents[:, 1] - extents[:, 0], extents[:, 2] - extents[:, 3])
    pitch = np.diff(np.unique(extents[:, 3].round(6)))
    assert (pitch > extents[0, 2] - extents[0, 3]).all()
    # All text is at least 7 points high and stays in its cell.
    assert min(text.get_fontsize() for text in axis.texts) >= 7


def test_text_keeps_within_the_picture_and_clear_of_its_neighbour() -> None:
    averages = _averages(50)
    figure = class_gallery(
        averages, _PIXEL, np.full(50, 0.123), [123456, 8_765_432] * 25, [99.9, 123.4] * 25, np.ones(50)
    )
    figure_png(figure, dpi=int(figure.dpi))  # lays out the text
    (axis,) = figure.axes
    boxes = [text.get_window_extent() for text in axis.texts]
    inside = figure.bbox
    assert all(box.x0 >= inside.x0 and box.x1 <= inside.x1 and box.y0 >= inside.y0 for box in boxes)
    by_line: dict[int, list[Any]] = {}
    for text, box in zip(axis.texts, boxes, strict=True):
        by_line.setdefault(round(1000 * text.get_position()[1]), []).append(box)
    for line in by_line.values():
        line.sort(key=lambda box: box.x0)
        assert all(first.x1 < second.x0 for first, second in pairwise(line))


def test_each_image_has_the_greyscale_of_its_mask() -> None:
    averages = _averages(2)
    averages[:, 0, 0] = 1e6  # outside the mask
    shares, counts, resolutions = [0.6, 0.4], [6, 4], [10.0, 10.0]
    figure = class_gallery(averages, _PIXEL, shares, counts, resolutions, mask_diameter=100.0)
    (axis,) = figure.axes
    (low, high), (second_low, second_high) = (image.get_clim() for image in axis.images)
    assert -4 < low < high < 6  # noise of unit variance about 1
    assert second_low - low == pytest.approx(1.0, abs=0.5)
    assert second_high - high == pytest.approx(1.0, abs=0.5)
    # What is far outside the mask is not shown: 106 Å are 27 pixels about pixel n // 2.
    start = _SIZE // 2 - 27 // 2
    np.testing.assert_array_equal(axis.images[0].get_array(), averages[0, start : start + 27, start : start + 27])


def test_one_scale_bar_tells_its_length() -> None:
    _, axis = _gallery(12)
    (bar,) = axis.lines
    left, right, _, _ = axis.images[0].get_extent()
    length = float(np.diff(bar.get_xdata())[0]) / (right - left) * _SIZE * _PIXEL
    above = [text.get_text() for text in axis.texts if text.get_position()[1] < axis.images[0].get_extent()[3]]
    assert above == ["50 Å"]
    assert length == pytest.approx(50.0)  # the largest of 1, 2, 5 x 10^n below half of 128 Å


def test_a_selection_is_framed_and_summed_up() -> None:
    kept = np.array([True, False, True])
    averages = _averages(3)
    figure = class_gallery(
        averages, _PIXEL, [0.5, 0.3, 0.2], [50, 30, 20], [9, 9, 9], scores=[0.9, 0.1, np.nan], kept=kept
    )
    (axis,) = figure.axes
    frames = [patch for patch in axis.patches if isinstance(patch, Rectangle)]
    assert [to_hex(frame.get_edgecolor()) for frame in frames] == [KEPT, DROPPED, KEPT]
    assert [frame.get_linestyle() for frame in frames] == ["-", "--", "-"]  # without colours too
    for frame, image in zip(frames, axis.images, strict=True):
        assert frame.get_xy() == (image.get_extent()[0], image.get_extent()[3])
    texts = [text.get_text() for text in axis.get_legend().get_texts()]
    assert texts == ["kept: 2 of 3 classes, 70 particles (70.0%)", "dropped"]
    assert _lines_below(axis, 0)[-2:] == ["score", "0.90"]
    assert _lines_below(axis, 2)[-2:] == ["score", "–"]


@pytest.mark.parametrize("value", [0.0, np.nan])
def test_an_empty_class_is_even_grey(value: float) -> None:
    averages = _averages(2)
    averages[1] = value
    (axis,) = class_gallery(averages, _PIXEL, [1.0, 0.0], [9, 0], [9.0, 999.0]).axes
    assert axis.images[1].get_clim() == (-1.0, 1.0)


def test_each_map_has_a_row_of_slices_and_projections() -> None:
    maps = [np.random.default_rng(seed).random((16, 16, 16)).astype(np.float32) for seed in (1, 2)]
    figure = class_maps(maps, 5.0, [0.7, 0.3], [700, 300], [9.5, 999])
    assert len(figure.axes) == 12
    shown = [axis.images[0] for axis in figure.axes]
    for row, voxels in enumerate(maps):
        for axis in range(3):
            np.testing.assert_array_equal(shown[6 * row + axis].get_array(), np.take(voxels, 8, axis=axis))
            np.testing.assert_allclose(shown[6 * row + 3 + axis].get_array(), voxels.sum(axis=axis))
        assert len({image.get_clim() for image in shown[6 * row : 6 * row + 3]}) == 1
        assert len({image.get_clim() for image in shown[6 * row + 3 : 6 * row + 6]}) == 1
    titles = [axis.get_title() for axis in figure.axes]
    assert titles[:6] == ["slice z = 0", "slice y = 0", "slice x = 0", "seen along z", "seen along y", "seen along x"]
    assert not any(titles[6:])
    labels = [figure.axes[6 * row].texts[0].get_text().split("\n") for row in range(2)]
    assert labels == [["class 1", "70.0%", "700 particles", "9.5 Å"], ["class 2", "30.0%", "300 particles", "–"]]
    assert sum(len(axis.lines) for axis in figure.axes) == 1  # one scale bar


def test_maps_are_cut_to_the_mask() -> None:
    voxels = np.random.default_rng(1).random((16, 16, 16)).astype(np.float32)
    figure = class_maps([voxels], 5.0, [1.0], [9], [9.0], mask_diameter=50.0)
    np.testing.assert_array_equal(figure.axes[0].images[0].get_array(), voxels[8, 3:14, 3:14])  # 53 Å: 11 voxels
