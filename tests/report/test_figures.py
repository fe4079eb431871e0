"""Figures show the numbers they are given."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.collections import QuadMesh

from vitrea.report.figures import (
    angular_distribution,
    convergence_curves,
    fsc_curves,
    histogram,
    image_gallery,
    map_projections,
    map_slices,
)


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


def test_the_angular_distribution_counts_every_particle_in_cells_of_equal_area() -> None:
    generator = np.random.default_rng(2)
    count = 20_000
    eulers = np.stack(
        [
            generator.uniform(-500, 500, count),  # any turn of rot is the same direction
            np.degrees(np.arccos(generator.uniform(-1, 1, count))),
            np.zeros(count),
        ],
        axis=1,
    )
    eulers[:, 0] = np.degrees(np.angle(np.exp(1j * generator.uniform(0, 2 * np.pi, count)))) + 360.0
    mesh = next(item for item in angular_distribution(eulers).axes[0].collections if isinstance(item, QuadMesh))
    counts = np.asarray(mesh.get_array())
    assert counts.sum() == count
    # Uniform directions fill cells of equal area alike: Poisson scatter about the mean, no cell beyond 6 sigma.
    mean = count / counts.size
    assert np.abs(counts - mean).max() < 6 * np.sqrt(mean)


def test_a_view_from_above_lands_at_the_pole() -> None:
    mesh = next(
        item for item in angular_distribution([[10.0, 1.0, 0.0]]).axes[0].collections if isinstance(item, QuadMesh)
    )
    row, _ = np.unravel_index(int(np.argmax(mesh.get_array())), mesh.get_array().shape)
    assert row == mesh.get_array().shape[0] - 1


def test_series_and_histograms_hold_their_values() -> None:
    figure = convergence_curves([1, 2, 3], {"resolution (Å)": [30, 20, 10], "accuracy (°)": [9, np.nan, 3]})
    assert [axis.get_title() for axis in figure.axes] == ["resolution (Å)", "accuracy (°)"]
    np.testing.assert_array_equal(figure.axes[0].lines[0].get_ydata(), [30, 20, 10])
    bars = histogram([1.0, 1.0, 2.0], "degrees", bins=2).axes[0].patches
    assert [bar.get_height() for bar in bars] == [2, 1]
