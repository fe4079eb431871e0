"""Tables and particle records."""

import numpy as np
import pytest

from vitrea.records.optics import Optics
from vitrea.records.particles import Particles
from vitrea.records.table import Table, distinct


def test_columns_must_be_equally_long() -> None:
    with pytest.raises(ValueError, match="differ in length"):
        Table({"a": np.arange(2), "b": np.arange(3)})


def test_rows_columns_and_defaults() -> None:
    table = Table({"a": np.array([3, 1, 2]), "b": np.array(["x", "y", "z"], object)})
    assert len(table) == 3
    assert list(table) == ["a", "b"]
    assert "a" in table
    assert "c" not in table
    assert table.rows(table["a"] > 1)["b"].tolist() == ["x", "z"]
    assert table.numbers("a").dtype == np.float64
    assert table.numbers("c", 1.5).tolist() == [1.5] * 3
    with pytest.raises(KeyError):
        table.numbers("c")
    changed = table.with_columns({"a": [0.0, 1.0, 2.0], "c": [1, 2, 3]})
    assert list(changed) == ["a", "b", "c"]
    assert table["a"].tolist() == [3, 1, 2]
    assert list(changed.without("a", "c")) == ["b"]
    assert len(Table()) == 0


def test_particles_refer_to_optics_by_number() -> None:
    optics = (Optics(1.0, 8, 300.0, 2.7, 0.1, group=4), Optics(1.0, 8, 200.0, 2.7, 0.1, group=2))
    particles = Particles(Table({"rlnOpticsGroup": np.array([2, 4, 2]), "rlnAngleRot": np.array([1.0, 2, 3])}), optics)
    assert particles.optics_index.tolist() == [1, 0, 1]
    assert particles.eulers.tolist() == [[1, 0, 0], [2, 0, 0], [3, 0, 0]]
    assert particles.shifts.shape == (3, 2)
    assert particles.rows([2]).eulers.tolist() == [[3, 0, 0]]


def test_wavelength() -> None:
    # 0.019687 Å at 300 kV and 0.025079 Å at 200 kV: tables of the relativistic de Broglie wavelength.
    assert Optics(1.0, 8, 300.0, 2.7, 0.1).wavelength == pytest.approx(0.0196875, abs=1e-6)
    assert Optics(1.0, 8, 200.0, 2.7, 0.1).wavelength == pytest.approx(0.0250793, abs=1e-6)


@pytest.mark.parametrize("kind", [object, "T", "U3"])
def test_distinct_texts(kind: object) -> None:
    names, place = distinct(np.array(["b", "a", "c", "b", "a"], dtype=kind))
    assert names == ["a", "b", "c"]
    assert place.tolist() == [1, 0, 2, 1, 0]


def test_distinct_numbers_are_taken_as_printed() -> None:
    names, place = distinct(np.array([10, 9, 10]))
    assert names == ["10", "9"]
    assert place.tolist() == [0, 1, 0]
