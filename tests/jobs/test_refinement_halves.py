"""Half sets of ``vitrea refine3d``: what shares its noise stays together."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vitrea.jobs.refinement_run import _with_half_sets
from vitrea.records.errors import InputError
from vitrea.records.particles import Particles
from vitrea.records.table import Table


def _particles(names: list[str], **columns: object) -> Particles:
    table = {"rlnImageName": np.array(names, dtype=object), **{key: np.asarray(one) for key, one in columns.items()}}
    return Particles(Table(table), (), Path("particles.star"))


def _halves(particles: Particles) -> np.ndarray:
    return np.asarray(_with_half_sets(particles, 3).table["rlnRandomSubset"])


def test_images_are_divided_evenly_by_chance() -> None:
    names = [f"{row + 1:06d}@particles.mrcs" for row in range(101)]
    halves = _halves(_particles(names))
    assert sorted(np.bincount(halves)[1:]) == [50, 51]
    np.testing.assert_array_equal(halves, _halves(_particles(names)))
    assert 35 < (halves != np.arange(101) % 2 + 1).sum() < 66


def test_symmetry_expanded_copies_of_an_image_stay_in_one_half() -> None:
    """Else each half would hold the noise of the other, and the FSC would say that it is signal."""
    names = [f"{row // 4 + 1:06d}@particles.mrcs" for row in range(160)]
    halves = _halves(_particles(names)).reshape(-1, 4)
    assert (halves == halves[:, :1]).all()
    assert np.bincount(halves[:, 0]).tolist() == [0, 20, 20]


def test_segments_of_a_tube_stay_in_one_half() -> None:
    names = [f"{row + 1:06d}@particles.mrcs" for row in range(120)]
    tubes = np.repeat(np.tile([1, 2], 6), 10)
    micrographs = np.repeat([f"{number}.mrc" for number in range(6)], 20).astype(object)
    halves = _halves(_particles(names, rlnHelicalTubeID=tubes, rlnMicrographName=micrographs)).reshape(12, 10)
    assert (halves == halves[:, :1]).all() and set(halves[:, 0]) == {1, 2}


def test_given_halves_are_respected_and_checked() -> None:
    names = [f"{row + 1:06d}@particles.mrcs" for row in range(40)]
    given = np.repeat([1, 2], 20)
    np.testing.assert_array_equal(_halves(_particles(names, rlnRandomSubset=given)), given)
    with pytest.raises(InputError, match="rlnRandomSubset must be 1 or 2"):
        _halves(_particles(names, rlnRandomSubset=given - 1))
