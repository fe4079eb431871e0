"""Sets of micrographs and movies: rows keep what belongs to them."""

from __future__ import annotations

import numpy as np
import pytest

from vitrea.records.micrographs import Micrographs, Movies
from vitrea.records.optics import Optics
from vitrea.records.table import Table

OPTICS = (
    Optics(1.77, 0, 200.0, 1.4, 0.1, group=3, name="later"),
    Optics(0.7, 0, 300.0, 2.7, 0.07, group=1, name="first"),
)


def names(*values: str) -> np.ndarray:
    return np.array(values, dtype=object)


def test_micrographs_take_pixel_sizes_from_their_groups_and_tell_of_ctf() -> None:
    table = Table({"rlnMicrographName": names("a", "b", "c"), "rlnOpticsGroup": np.array([1, 3, 1])})
    micrographs = Micrographs(table, OPTICS)
    np.testing.assert_array_equal(micrographs.pixel_sizes, [0.7, 1.77, 0.7])
    assert not micrographs.has_ctf
    with pytest.raises(KeyError):
        _ = micrographs.defocus
    fitted = micrographs.with_columns(
        {
            "rlnDefocusU": [3.0, 2, 1],
            "rlnDefocusV": [2.0, 1, 0],
            "rlnDefocusAngle": [0.0, 1, 2],
            "rlnPhaseShift": [90.0] * 3,
        }
    )
    some = fitted.rows([2, 0])
    assert isinstance(some, Micrographs)
    assert some.has_ctf
    assert list(some.names) == ["c", "a"]
    np.testing.assert_array_equal(some.defocus, [[1, 0, 2], [3, 2, 0]])
    np.testing.assert_array_equal(some.phase_shifts, [90, 90])
    np.testing.assert_array_equal(micrographs.phase_shifts, [0, 0, 0])
    np.testing.assert_array_equal(some.pixel_sizes, [0.7, 0.7])


def test_movies_have_a_gain_and_defects_or_none() -> None:
    table = Table({"rlnMicrographMovieName": names("a", "b"), "rlnOpticsGroup": np.array([1, 1])})
    movies = Movies(table, OPTICS)
    assert list(movies.gains) == list(movies.defects) == ["", ""]
    with_gain = movies.with_columns({movies.GAIN: names("g", "h")})
    assert list(with_gain.rows(np.array([False, True])).gains) == ["h"]
    assert list(movies.gains) == ["", ""]  # a change makes a copy
