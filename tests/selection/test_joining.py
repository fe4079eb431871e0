"""Sets joined: optics groups, columns."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from vitrea.formats.particle_files import read_particles, write_particles
from vitrea.records.optics import Optics
from vitrea.records.table import Table
from vitrea.selection.joining import join_particles

from .conftest import make_particles

OPTICS = Optics(2.0, 32, 300.0, 2.7, 0.1)


def test_groups_that_agree_become_one_and_others_are_numbered_anew() -> None:
    first = make_particles(2, OPTICS)
    same = make_particles(3, replace(OPTICS, group=7))
    other = make_particles(4, replace(OPTICS, voltage=200.0))
    joined = join_particles([first, same, other]).particles
    assert [(group.group, group.name, group.voltage) for group in joined.optics] == [
        (1, "opticsGroup1", 300.0),
        (2, "opticsGroup1_2", 200.0),
    ]
    assert joined.table["rlnOpticsGroup"].tolist() == [1] * 5 + [2] * 4


@pytest.mark.parametrize(
    "change",
    [
        {"name": "other"},
        {"pixel_size": 2.1},
        {"image_size": 48},
        {"spherical_aberration": 1.4},
        {"beam_tilt_x": 0.1},
        {"even_zernike": (0.1, 0.2)},
        {"mtf_file": "mtf.star"},
        {"ctf_premultiplied": True},
    ],
)
def test_groups_that_differ_in_anything_stay_apart(change: dict[str, object]) -> None:
    joined = join_particles([make_particles(1, OPTICS), make_particles(1, replace(OPTICS, **change))]).particles
    assert joined.table["rlnOpticsGroup"].tolist() == [1, 2]
    field, value = next(iter(change.items()))
    assert [getattr(group, field) for group in joined.optics] == [getattr(OPTICS, field), value]


def test_flat_files_and_files_with_optics_groups_join_into_one_group(tmp_path: Path) -> None:
    particles = make_particles(3, OPTICS, rlnOriginXAngst=[1.0, 2.0, 3.0])
    write_particles(tmp_path / "new.star", particles)
    write_particles(tmp_path / "old.star", particles, dialect="1.3")
    sets = [
        read_particles(tmp_path / name, require_ctf=False, require_images=False) for name in ("new.star", "old.star")
    ]
    sets[1] = replace(sets[1], optics=tuple(replace(group, image_size=32) for group in sets[1].optics))
    joined = join_particles(sets).particles
    assert len(joined.optics) == 1
    np.testing.assert_allclose(joined.table["rlnOriginXAngst"], [1, 2, 3, 1, 2, 3])


def test_unknown_optics_columns_survive_and_keep_groups_apart(tmp_path: Path) -> None:
    block = {"rlnOpticsGroup": np.array([1]), "myFilter": np.array([20])}
    first = replace(make_particles(1, OPTICS), optics_table=Table(block))
    second = replace(first, optics_table=Table({**block, "myFilter": np.array([30])}))
    joined = join_particles([first, second, make_particles(1, OPTICS)]).particles
    write_particles(tmp_path / "j.star", joined)
    table = read_particles(tmp_path / "j.star", require_ctf=False, require_images=False).optics_table
    assert table is not None
    assert table["myFilter"].tolist() == [20, 30, 0]


def test_columns_that_not_all_have_are_named_and_left_out() -> None:
    first = make_particles(2, rlnDefocusU=[1.0, 2.0], rlnGroupNumber=[1, 2], mixed=[1, 2])
    second = make_particles(1, rlnDefocusU=[3.0], rlnClassNumber=[1], mixed=np.array(["a"], dtype=object))
    joined = join_particles([first, second])
    assert joined.dropped_columns == ("rlnClassNumber",)
    assert joined.particles.table["rlnDefocusU"].tolist() == [1.0, 2.0, 3.0]
    assert joined.particles.table["mixed"].tolist() == ["1", "2", "a"]
    assert "rlnGroupNumber" not in joined.particles.table
