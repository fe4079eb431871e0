from __future__ import annotations

import numpy as np
import pytest

from vitrea.optics.damping import interpolate_mtf

FREQUENCY, VALUE = [0.0, 0.1, 0.25, 0.5], [1.0, 0.9, 0.6, 0.2]


def test_linear_between_rows_and_constant_outside() -> None:
    got = interpolate_mtf([[0.0, 0.05], [0.25, 0.375], [0.5, 0.8]], FREQUENCY, VALUE)
    np.testing.assert_allclose(got, [[1.0, 0.95], [0.6, 0.4], [0.2, 0.2]])
    np.testing.assert_allclose(interpolate_mtf(0.0, [0.1, 0.2], [0.8, 0.7]), 0.8)


def test_wrong_tables_are_refused() -> None:
    with pytest.raises(ValueError, match="rise"):
        interpolate_mtf([0.1], [0.0, 0.2, 0.2], [1.0, 0.9, 0.8])
    with pytest.raises(ValueError, match="one length"):
        interpolate_mtf([0.1], FREQUENCY, VALUE[:3])
