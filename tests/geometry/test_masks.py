from __future__ import annotations

from pathlib import Path

import mrcfile
import numpy as np
import pytest

from vitrea.geometry import raised_cosine, soft_sphere


def test_shell_agrees_with_relion(shared_reference: Path) -> None:
    """relion_mask_create --denovo --outer_radius 14 --inner_radius 5 --width_soft_edge 4 --center_x 2, box 40."""
    with mrcfile.open(shared_reference / "mask" / "m3_shell.mrc") as file:
        expected = file.data.copy()
    centre = (20, 20, 22)
    shell = soft_sphere(40, 14, 4, 3, centre) * (1 - soft_sphere(40, 1, 4, 3, centre))
    np.testing.assert_allclose(shell, expected, atol=1e-6)


@pytest.mark.parametrize("n", [32, 33])
@pytest.mark.parametrize("dims", [2, 3])
def test_values_by_radius(n: int, dims: int) -> None:
    mask = soft_sphere(n, 8, 4, dims)
    assert mask.shape == (n,) * dims
    assert mask.dtype == np.float64
    line = mask[(n // 2,) * (dims - 1)][n // 2 :]
    np.testing.assert_array_equal(line[:9], 1)
    np.testing.assert_allclose(line[9:12], [0.5 + 0.5 * np.cos(np.pi / 4), 0.5, 0.5 - 0.5 * np.cos(np.pi / 4)])
    np.testing.assert_allclose(line[12:], 0, atol=1e-15)


def test_off_centre_and_hard_edges() -> None:
    mask = soft_sphere(21, 3, 0, 2, centre=(5, 12))
    y, x = np.nonzero(mask)
    assert (y.mean(), x.mean()) == (5, 12)
    assert mask.sum() == 29
    assert set(np.unique(mask)) == {0.0, 1.0}


def test_raised_cosine_of_any_shape() -> None:
    np.testing.assert_allclose(raised_cosine([[0, 1], [2, 3]], 1, 2), [[1, 1], [0.5, 0]], atol=1e-15)


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="dimensions"):
        soft_sphere(10, 3, 1, 4)
    with pytest.raises(ValueError, match="centre"):
        soft_sphere(10, 3, 1, 3, centre=(1, 2))
