from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitrea.geometry import oversample_shifts, shift_grid


@given(st.floats(0, 12), st.floats(0.5, 4), st.sampled_from([2, 3]))
def test_shifts_fill_the_ball(shift_range: float, step: float, dimensions: int) -> None:
    shifts = shift_grid(shift_range, step, dimensions)
    assert np.all(np.linalg.norm(shifts, axis=1) <= shift_range * (1 + 1e-6) + 1e-5)
    assert np.sum(np.all(shifts == 0, axis=1)) == 1
    np.testing.assert_allclose(shifts / step, np.rint(shifts / step), atol=1e-9)
    axis = np.arange(-30, 31) * step
    everything = np.stack(np.meshgrid(*[axis] * dimensions, indexing="ij"), axis=-1).reshape(-1, dimensions)
    strictly_inside = np.sum(np.linalg.norm(everything, axis=1) < shift_range * (1 - 1e-6))
    assert len(shifts) >= max(strictly_inside, 1)


def test_border_counts_and_x_varies_slowest() -> None:
    assert len(shift_grid(3.0, 1.0)) == 29  # the 29 points of the disc of radius 3
    assert len(shift_grid(0.3, 0.1)) == 29  # whatever the rounding of 0.3 / 0.1
    np.testing.assert_array_equal(shift_grid(1.0, 1.0), [[-1, 0], [0, -1], [0, 0], [0, 1], [1, 0]])
    assert len(shift_grid(1.0, 1.0, 3)) == 7
    assert len(shift_grid(17.7, 7.08)) == 21


@pytest.mark.parametrize("dimensions", [2, 3])
@pytest.mark.parametrize("oversampling", [0, 1, 2])
def test_children_tile_the_cell_of_their_parent(dimensions: int, oversampling: int) -> None:
    coarse = shift_grid(4.0, 2.0, dimensions)
    fine = oversample_shifts(coarse, 2.0, oversampling)
    families = fine.reshape(len(coarse), -1, dimensions)
    assert families.shape[1] == 2 ** (dimensions * oversampling)
    np.testing.assert_allclose(families.mean(axis=1), coarse, atol=1e-12)
    assert len(np.unique(np.round(fine, 9), axis=0)) == len(fine)
    offsets = np.unique(np.round(families - coarse[:, None], 9))
    expected = {0: [0.0], 1: [-0.5, 0.5], 2: [-0.75, -0.25, 0.25, 0.75]}[oversampling]
    np.testing.assert_allclose(offsets, expected)


def test_perturbation_moves_every_shift_by_a_part_of_the_coarse_step() -> None:
    coarse = shift_grid(4.0, 2.0)
    np.testing.assert_allclose(
        oversample_shifts(coarse, 2.0, 1, perturbation=0.25) - oversample_shifts(coarse, 2.0, 1), 0.5
    )


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="step"):
        shift_grid(3.0, 0.0)
    with pytest.raises(ValueError, match="dimensions"):
        shift_grid(3.0, 1.0, 4)
    with pytest.raises(ValueError, match="oversampling"):
        oversample_shifts(np.zeros((1, 2)), 1.0, -1)
    with pytest.raises(ValueError, match="shape"):
        oversample_shifts(np.zeros(2), 1.0)
