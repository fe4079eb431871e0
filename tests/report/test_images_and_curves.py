"""Slices, projections, rows of images and FSC curves show the numbers they are given."""

from __future__ import annotations

import numpy as np
import pytest

from vitrea.report.figures import fsc_curves, image_gallery, map_projections, map_slices


def test_slices_pass_through_the_centre_along_each_axis() -> None:
    voxels = np.zeros((8, 9, 10), dtype=np.float32)
    voxels[4, 4, 5] = 1.0
    images = [axis.images[0].get_array() for axis in map_slices(voxels, 2.0).axes]
    assert [image.shape for image in images] == [(9, 10), (8, 10), (8, 9)]
    assert all(float(image.max()) == 1.0 for image in images)


def test_projections_are_sums_in_one_common_greyscale() -> None:
    voxels = np.random.default_rng(1).random((6, 6, 6)).astype(np.float32)
    shown = [axis.images[0] for axis in map_projections(voxels, 2.0).axes]
    for number, image in enumerate(shown):
        np.testing.assert_allclose(image.get_array(), voxels.sum(axis=number))
    assert len({image.get_clim() for image in shown}) == 1


def test_the_scale_bar_has_the_length_it_tells() -> None:
    (axis,) = image_gallery([np.random.default_rng(1).random((64, 64))], 3.54).axes
    text = axis.texts[0].get_text()
    start, stop = axis.lines[0].get_xdata()
    assert (float(stop) - float(start)) * 3.54 == pytest.approx(float(text.removesuffix(" Å")))
    assert text == "50 Å"  # the largest of 1, 2, 5 x 10^n below a quarter of 226.6 Å


def test_fsc_curves_stand_at_their_frequency() -> None:
    curve = np.linspace(1, 0, 33)
    (axis,) = fsc_curves({"half maps": curve, "with truth": curve**2}, 3.0, 64, resolution=12.0).axes
    frequency, values = axis.lines[0].get_data()
    assert frequency[16] == pytest.approx(16 / (64 * 3.0))
    np.testing.assert_array_equal(values, curve)
    assert axis.get_xlim()[1] == pytest.approx(1 / 6.0)
    assert "12 Å" in [text.get_text().strip() for text in axis.texts]
    assert [tick.get_text() for tick in axis.get_xticklabels()][-1] == "6"
