"""``vitrea mask``: RELION's command lines give RELION's masks; mistakes are named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from vitrea.cli.main import main
from vitrea.formats.mrc import read_map, write_map
from vitrea.jobs.base import Context
from vitrea.jobs.mask import JOB
from vitrea.records.errors import InputError
from vitrea.records.map import Map


def make(folder: Path, **values: Any) -> NDArray[np.float32]:
    JOB.run(JOB.parameters(output=folder / "new/mask.mrc", **values), Context())
    return read_map(folder / "new/mask.mrc").voxels


@pytest.fixture
def source(data_dir: Path) -> Path:
    return data_dir / "image_handler/newbox40.mrc"


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("m1", "--i {} --ini_threshold 0.03 --extend_inimask 2 --width_soft_edge 4"),
        ("m2_lp30", "--i {} --ini_threshold 0.02 --lowpass 30 --extend_inimask 3 --width_soft_edge 6 --angpix 7.08"),
        (
            "m3_shell",
            "--denovo --box_size 40 --outer_radius 14 --inner_radius 5 --width_soft_edge 4 --center_x 2 --j 2",
        ),
        ("m4_invert", "--i {} --ini_threshold 0.03 --invert --width_soft_edge 3"),
    ],
)
def test_relions_command_lines_give_relions_masks(
    name: str, options: str, source: Path, data_dir: Path, tmp_path: Path
) -> None:
    output = tmp_path / "mask.mrc"
    assert main(["mask", *options.format(source).split(), "--o", str(output)]) == 0
    mask = read_map(output)
    assert np.abs(mask.voxels - read_map(data_dir / f"mask/{name}.mrc.gz").voxels).max() < 1.2e-7
    assert mask.voxel_size == pytest.approx(1.0 if "denovo" in options else 7.08, rel=1e-5)


def test_logic_combines_what_lies_above_threshold(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    first, second = (generator.normal(size=(12, 12, 12)).astype(np.float32) for _ in range(2))
    for name, voxels in (("a", first), ("b", second)):
        write_map(tmp_path / f"{name}.mrc", Map(voxels, 2.0))
    a, b = first > 0.5, second > 0.5
    expected = {"and_map": a & b, "or_map": a | b, "and_not_map": a & ~b, "or_not_map": a | ~b}
    for option, binary in expected.items():
        mask = make(tmp_path, input=tmp_path / "a.mrc", threshold=0.5, **{option: tmp_path / "b.mrc"})
        assert np.array_equal(mask, binary.astype(np.float32))


def test_the_centre_of_a_sphere_may_be_moved(tmp_path: Path) -> None:
    mask = make(
        tmp_path, denovo=True, box_size=20, outer_radius=4.0, center_x=1, center_y=-2, center_z=3, pixel_size=1.5
    )
    centre = np.array(np.nonzero(mask)).mean(axis=1)[::-1] - 10
    assert np.allclose(centre, (1, -2, 3))
    assert read_map(tmp_path / "new/mask.mrc").voxel_size == pytest.approx(1.5)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({}, "give the map to mask with --i"),
        ({"input": "missing.mrc"}, "missing.mrc does not exist"),
        ({"input": "{source}", "threshold": 50.0}, "--ini_threshold 50 leaves no voxel"),
        ({"input": "{source}", "threshold": -50.0}, "--ini_threshold -50 leaves every voxel"),
        ({"input": "{source}", "denovo": True, "box_size": 10, "outer_radius": 3.0}, "leave out --i"),
        ({"denovo": True, "outer_radius": 3.0}, "--denovo needs --box_size"),
        ({"denovo": True, "box_size": 10, "outer_radius": 3.0, "inner_radius": 4.0}, "must exceed --inner_radius"),
        ({"input": "{source}", "and_map": "{source}", "or_map": "{source}"}, "give one of --and and --or"),
        ({"input": "{source}", "and_map": "{small}"}, "small.mrc has a box of 8 voxels"),
        ({"input": "{nan}"}, "NaN"),
        ({"input": "{flat}"}, "is empty"),
        ({"input": "{oblong}"}, "is not a cube"),
    ],
)
def test_mistakes_are_named_and_nothing_is_written(
    values: dict[str, Any], sentence: str, source: Path, tmp_path: Path
) -> None:
    noise = np.random.default_rng(0).normal(size=(8, 8, 8)).astype(np.float32)
    broken = noise.copy()
    broken[1, 2, 3] = np.nan
    maps = {"small": noise, "nan": broken, "flat": np.zeros_like(noise), "oblong": noise[:6]}
    for name, voxels in maps.items():
        write_map(tmp_path / f"{name}.mrc", Map(voxels, 7.08))
    paths = {name: tmp_path / f"{name}.mrc" for name in maps}
    filled = {
        key: value.format(source=source, **paths) if isinstance(value, str) else value for key, value in values.items()
    }
    with pytest.raises(InputError, match=sentence):
        make(tmp_path, **filled)
    assert not (tmp_path / "new").exists()
