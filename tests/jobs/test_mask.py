"""``vitrea mask``: RELION's command lines give RELION's masks; mistakes are named."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from vitrea.cli.main import main
from vitrea.formats.mrc import read_map, write_map, write_stack
from vitrea.formats.particle_files import write_particles
from vitrea.jobs.base import Context
from vitrea.jobs.mask import JOB
from vitrea.maps.mask_sources import cylinder_mask
from vitrea.maps.masking import sphere_mask
from vitrea.records.errors import InputError
from vitrea.records.map import Map
from vitrea.records.recorder import SilentRecorder


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


ATOMS = (("A", 60.0, 66.0, 72.0), ("A", 70.0, 66.0, 72.0), ("B", 150.0, 140.0, 145.0))


def write_atoms(folder: Path) -> Path:
    """Write three carbon atoms in two chains; return the path."""
    line = "ATOM  {:5d}  CA  ALA {}{:4d}    {:8.3f}{:8.3f}{:8.3f}  1.00 20.00           C  \n"
    rows = [line.format(number, chain, number, x, y, z) for number, (chain, x, y, z) in enumerate(ATOMS, start=1)]
    (folder / "model.pdb").write_text("".join(rows) + "END\n")
    return folder / "model.pdb"


def test_without_a_threshold_one_is_chosen_told_and_gives_the_same_mask(source: Path, tmp_path: Path) -> None:
    recorder = SilentRecorder()
    output = tmp_path / "auto.mrc"
    picture = tmp_path / "pictures/mask.png"
    JOB.run(JOB.parameters(input=source, output=output, picture=picture), Context(recorder))
    told = str(recorder.events[0][1]["text"])
    found = re.search(
        r"threshold (\S+) \(chosen\) of .*filtered to (\S+) Å; extended by (\S+) voxels, soft edge (\S+) voxels", told
    )
    assert found is not None, told
    threshold, lowpass, extend, edge = map(float, found.groups())
    # Four voxels, as finer filters pass noise; 7.5 Å and five voxels.
    assert (lowpass, extend, edge) == pytest.approx((28.3, 1.06, 5.0), abs=0.03)
    by_hand = make(tmp_path, input=source, threshold=threshold, lowpass=4 * 7.08, extend=7.5 / 7.08, soft_edge=5.0)
    automatic = read_map(output).voxels
    assert np.mean(np.abs(automatic - by_hand) > 1e-3) < 1e-3
    assert 0.03 < np.mean(automatic > 0.5) < 0.4
    assert picture.read_bytes()[1:4] == b"PNG"


@pytest.mark.parametrize("values", [{"extend": 3.0}, {"soft_edge": 8.0}, {"lowpass": 40.0}, {"lowpass": 0.0}])
def test_what_is_given_is_obeyed_where_the_threshold_is_chosen(
    values: dict[str, Any], source: Path, tmp_path: Path
) -> None:
    assert not np.array_equal(make(tmp_path, input=source), make(tmp_path, input=source, **values))


def test_a_model_lies_where_the_map_has_it(source: Path, tmp_path: Path) -> None:
    """The first voxel is at the map's origin; atoms are in Å from there."""
    size, pixel, origin = 40, 5.0, (-10.0, 20.0, 5.0)
    blank = np.random.default_rng(0).normal(size=(size,) * 3).astype(np.float32)
    write_map(tmp_path / "like.mrc", Map(blank, pixel, origin))
    values = {"model": write_atoms(tmp_path), "like": tmp_path / "like.mrc", "extend": 0.0, "soft_edge": 0.0}
    mask = make(tmp_path, **values, atom_radius=6.0)
    for _, x, y, z in ATOMS:
        voxel = np.rint((np.array([x, y, z]) - origin) / pixel).astype(int)
        assert mask[tuple(voxel[::-1])] == 1
    written = read_map(tmp_path / "new/mask.mrc")
    assert written.origin == pytest.approx(origin)
    assert written.voxel_size == pytest.approx(pixel)
    one = make(tmp_path, **values, atom_radius=6.0, chains=("B",))
    assert 0 < one.sum() < mask.sum()
    assert make(tmp_path, **values, atom_radius=9.0).sum() > 2 * mask.sum()
    assert make(tmp_path, **{**values, "extend": 2.0}, atom_radius=6.0).sum() > 2 * mask.sum()
    assert not np.array_equal(make(tmp_path, **values, atom_radius=9.0, lowpass=20.0), mask)


def test_a_model_may_be_put_in_the_middle(tmp_path: Path) -> None:
    atoms = {"model": write_atoms(tmp_path), "box_size": 60, "pixel_size": 3.0, "centre_model": True}
    mask = make(tmp_path, **atoms, atom_radius=5.0, extend=0.0, soft_edge=0.0)
    inside = np.argwhere(mask > 0)
    assert np.abs((inside.min(axis=0) + inside.max(axis=0)) / 2 - 30).max() <= 0.5
    recorder = SilentRecorder()
    beside = JOB.parameters(model=write_atoms(tmp_path), box_size=30, pixel_size=3.0, output=tmp_path / "beside.mrc")
    JOB.run(beside, Context(recorder))
    assert any("1 of 3 atoms lie outside the box" in line for line in recorder.warnings)


def test_a_chain_of_a_centred_model_lies_where_the_whole_model_has_it(tmp_path: Path) -> None:
    pdb, empty = write_atoms(tmp_path), tmp_path / "like.mrc"
    write_map(empty, Map(np.random.default_rng(0).random((40, 40, 40)).astype(np.float32), 3.0))
    values = {"model": pdb, "like": empty, "centre_model": True, "extend": 0.0, "soft_edge": 0.0}
    whole = make(tmp_path, **values)
    parts = [make(tmp_path, chains=chain, **values) for chain in "AB"]
    assert np.array_equal(np.maximum(*parts), whole)
    assert not np.array_equal(*parts)


def test_a_focus_mask_is_where_two_maps_differ(tmp_path: Path) -> None:
    body = sphere_mask(32, 9.0, 2.0)
    part = sphere_mask(32, 3.0, 1.0, center=(9.0, 0.0, 0.0))
    generator = np.random.default_rng(4)
    for name, voxels in (("with", body + part), ("without", 2 * body)):
        noisy = voxels + generator.normal(0, 0.1, voxels.shape)
        write_map(tmp_path / f"{name}.mrc", Map(noisy.astype(np.float32), 3.0))
    pair = {"input": tmp_path / "with.mrc", "difference": tmp_path / "without.mrc"}
    masks = {sign: make(tmp_path, **pair, difference_sign=sign, extend=0.0) for sign in ("both", "positive")}
    for mask in masks.values():
        assert mask[16, 16, 25] == 1
        assert mask[16, 16, 16] == 0
    swapped = {"input": pair["difference"], "difference": pair["input"], "difference_sign": "negative", "extend": 0.0}
    assert np.argwhere(make(tmp_path, **swapped) == 1)[:, 2].min() > 18
    assert make(tmp_path, **pair, threshold=0.2).sum() != masks["both"].sum()


def test_logic_with_a_mask_cuts_at_one_half_and_with_a_map_where_it_is_told(source: Path, tmp_path: Path) -> None:
    write_map(tmp_path / "sphere.mrc", Map(sphere_mask(40, 8.0, 4.0, center=(5.0, 0.0, 0.0)), 7.08))
    plain = {"input": source, "extend": 0.0, "soft_edge": 0.0}
    whole = make(tmp_path, **plain) > 0
    part = make(tmp_path, **plain, and_map=tmp_path / "sphere.mrc") > 0
    assert np.array_equal(part, whole & (read_map(tmp_path / "sphere.mrc").voxels > 0.5))
    higher = make(tmp_path, **plain, and_map=tmp_path / "sphere.mrc", logic_threshold=0.9) > 0
    assert 0 < higher.sum() < part.sum()
    given = make(tmp_path, input=source, threshold=0.03, and_map=source, logic_threshold=0.05) > 0
    assert np.array_equal(given, read_map(source).voxels > 0.05)


def test_shapes_take_the_box_of_a_map(source: Path, tmp_path: Path) -> None:
    shape = {"denovo": True, "like": source, "outer_radius": 6.0}
    sphere = make(tmp_path, **shape)
    assert np.array_equal(sphere, sphere_mask(40, 6.0))
    assert read_map(tmp_path / "new/mask.mrc").voxel_size == pytest.approx(7.08, rel=1e-5)
    tube = make(tmp_path, **shape, cylinder=True, inner_radius=2.0)
    assert np.array_equal(tube, cylinder_mask(40, 6.0, float("inf"), inner_radius=2.0))
    turned = make(tmp_path, **shape, cylinder=True, cylinder_length=9.0, cylinder_axis=(1.0, 1.0, 0.0))
    assert np.array_equal(turned, cylinder_mask(40, 6.0, 9.0, axis=(1.0, 1.0, 0.0)))


def test_the_name_of_a_mask_tells_that_it_is_mrc(source: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"mask\.spi: maps are written as MRC"):
        JOB.run(JOB.parameters(input=source, output=tmp_path / "mask.spi"), Context())
    assert not list(tmp_path.iterdir())


def test_a_helix_is_cut_along_z(source: Path, tmp_path: Path) -> None:
    whole = make(tmp_path, input=source, threshold=0.03, soft_edge=3.0)
    cut = make(tmp_path, input=source, threshold=0.03, soft_edge=3.0, helix=True, z_percentage=0.2)
    assert np.array_equal(cut[17:24], whole[17:24])
    assert not cut[:12].any()


@pytest.mark.slow
def test_a_focus_mask_goes_to_class3d(
    tmp_path: Path, mixture: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`vitrea mask` writes what `vitrea class3d --solvent_mask` reads: focussed classification, on files."""
    monkeypatch.chdir(tmp_path)
    set_ = mixture("lopsided", "part", number=40, junk_fraction=0.0)
    write_stack("particles.mrcs", set_.images, 5.0)
    names = np.array([f"{number + 1:06d}@particles.mrcs" for number in range(40)], dtype=object)
    write_particles("particles.star", set_.particles.with_columns({"rlnImageName": names}))
    for name, voxels in zip(("whole", "part"), set_.maps, strict=True):
        write_map(Path(f"{name}.mrc"), Map(voxels, 5.0))
    line = "mask whole.mrc focus.mrc --difference part.mrc --lowpass 15 --extend_inimask 1 --width_soft_edge 3"
    assert main(line.split()) == 0
    focus = read_map(Path("focus.mrc")).voxels
    assert 0 < np.mean(focus > 0.5) < 0.3
    line = (
        "class3d --i particles.star --ref whole.mrc --o run --K 2 --iter 1 --skip_align --ctf --particle_diameter 90"
        " --solvent_mask focus.mrc --flatten_solvent --ini_high 20"
    )
    assert main(line.split()) == 0
    outside = read_map(Path("run_it001_class001.mrc")).voxels[focus == 0]
    assert np.ptp(outside) < 1e-3 * np.ptp(read_map(Path("run_it001_class001.mrc")).voxels)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({}, "give the map to mask with --i"),
        ({"input": "missing.mrc"}, "missing.mrc does not exist"),
        (
            {"input": "{source}", "threshold": 50.0},
            "--ini_threshold 50 of .*: that leaves no voxel in the mask; grey values run",
        ),
        ({"input": "{source}", "threshold": -50.0}, "--ini_threshold -50 of .*: that leaves every voxel"),
        ({"input": "{source}", "denovo": True, "box_size": 10, "outer_radius": 3.0}, "leave out --i"),
        ({"denovo": True, "outer_radius": 3.0}, "--denovo needs --like, a map whose box the mask gets, or --box_size"),
        ({"denovo": True, "box_size": 10, "outer_radius": 3.0, "inner_radius": 4.0}, "must exceed --inner_radius"),
        ({"input": "{source}", "and_map": "{source}", "or_map": "{source}"}, "give one of --and and --or"),
        ({"input": "{source}", "and_map": "{small}"}, "small.mrc has a box of 8 voxels"),
        ({"input": "{source}", "and_map": "{source}"}, "is no mask: say with --logic_threshold"),
        ({"input": "{small}"}, "no density stands out of the noise.* with --ini_threshold"),
        ({"input": "{source}", "difference": "{source}"}, "differ nowhere by more than noise"),
        ({"input": "{source}", "difference": "{small}"}, "small.mrc has a box of 8 voxels"),
        ({"input": "{source}", "model": "{pdb}"}, "give the map whose box it gets with --like"),
        ({"model": "{pdb}"}, "--model needs --like"),
        ({"model": "{pdb}", "box_size": 20}, "needs the voxel size, --angpix"),
        ({"model": "missing.pdb", "like": "{source}"}, "missing.pdb"),
        ({"model": "{pdb}", "like": "{small}", "pixel_size": 1.0}, "no atom lies in the box.* or --centre_model"),
        ({"model": "{pdb}", "like": "{source}", "chains": "A,X"}, r"has no chain X \(it has: A, B\)"),
        ({"model": "{pdb}", "like": "{source}", "assembly": "7"}, "no biological assembly '7'"),
        ({"denovo": True, "like": "{source}", "model": "{pdb}", "outer_radius": 3.0}, "leave out --model"),
        ({"denovo": True, "like": "{source}", "and_map": "{small}", "outer_radius": 3.0}, "leave out --and"),
        ({"denovo": True, "like": "{source}", "outer_radius": 3.0, "center_x": 90.0}, "has no voxel in the box"),
        ({"denovo": True, "like": "{source}", "outer_radius": 3.0, "cylinder_length": 9.0}, "that of --cylinder"),
        ({"denovo": True, "like": "{source}", "outer_radius": 3.0, "cylinder_axis": "0,1"}, "needs three numbers"),
        (
            {"denovo": True, "like": "{source}", "outer_radius": 3.0, "cylinder": True, "cylinder_axis": "0,0,0"},
            "needs a direction",
        ),
        ({"input": "{source}", "threshold": 0.03, "extend": -30.0}, "that leaves no voxel in the mask"),
        ({"input": "{source}", "picture": "new/mask.jpg"}, "mask.jpg: pictures are written as .png"),
        ({"input": "{source}", "cylinder": True}, "--cylinder is for the shapes of --denovo"),
        ({"input": "{source}", "outer_radius": 3.0}, "--outer_radius is for the shapes of --denovo"),
        ({"input": "{source}", "box_size": 20}, "--box_size is for --model and --denovo"),
        ({"input": "{source}", "chains": "A"}, "--chains is for the atoms of --model"),
        ({"input": "{source}", "difference_sign": "positive"}, "--difference_sign is for --difference"),
        ({"input": "{source}", "logic_threshold": 0.1}, "--logic_threshold is for a second map"),
        ({"input": "{source}", "z_percentage": 0.5}, "--z_percentage is for --helix"),
        ({"denovo": True, "box_size": 10, "outer_radius": 3.0, "extend": 3.0}, "--extend_inimask is for masks about"),
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
    paths = {name: tmp_path / f"{name}.mrc" for name in maps} | {"pdb": write_atoms(tmp_path)}
    filled = {
        key: value.format(source=source, **paths) if isinstance(value, str) else value for key, value in values.items()
    }
    with pytest.raises(InputError, match=sentence):
        make(tmp_path, **filled)
    assert not (tmp_path / "new").exists()
