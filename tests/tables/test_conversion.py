"""Conversions between programs: signs and units by hand, and round trips that lose nothing both can carry."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from vitrea.formats.frealign_par import par_of_particles, particles_of_par, read_par, write_par
from vitrea.formats.particle_files import block_as_table, read_particles, write_particles
from vitrea.formats.star import read_star
from vitrea.formats.star_values import text_column
from vitrea.geometry.euler import angular_distance, euler_to_matrix
from vitrea.records.errors import InputError
from vitrea.records.optics import Optics
from vitrea.records.particles import EULER_LABELS, Particles
from vitrea.records.table import Table
from vitrea.tables import cistem, cryosparc, eman, frealign, relion, xmipp
from vitrea.tables.conversion import GivenImages, particles_of_rows

HERE = Path("in.star")
NOTHING = GivenImages()


def number(low: float, high: float) -> st.SearchStrategy[float]:
    return st.floats(low, high, width=32)


@st.composite
def particle_sets(draw: st.DrawFn) -> Particles:
    """Particles of one to three optics groups with every column that the programs have in common."""
    groups = draw(st.integers(1, 3))
    optics = tuple(
        Optics(1.0 + 0.25 * i, 64, 200.0 + 100 * i, 2.75, 0.125, group=i + 1, name=f"opticsGroup{i + 1}")
        for i in range(groups)
    )
    rows = draw(st.lists(st.tuples(
        number(-180, 180), number(0, 180), number(-180, 180), number(-100, 100), number(-100, 100),
        number(5_000, 50_000), number(5_000, 50_000), number(0, 180), st.integers(1, 9), st.integers(1, 2),
        st.integers(1, groups), st.integers(1, 999), st.integers(1, 3),
    ), min_size=1, max_size=12, unique_by=lambda row: row[11]))  # fmt: skip
    values = list(zip(*rows, strict=True))
    labels = (*EULER_LABELS, "rlnOriginXAngst", "rlnOriginYAngst", "rlnDefocusU", "rlnDefocusV", "rlnDefocusAngle",
              "rlnClassNumber", "rlnRandomSubset", "rlnOpticsGroup")  # fmt: skip
    columns: dict[str, Any] = {label: np.array(column) for label, column in zip(labels, values, strict=False)}
    columns["rlnImageName"] = text_column(
        [f"{i:06d}@stack{k}.mrcs" for i, k in zip(values[11], values[12], strict=True)]
    )
    columns["rlnMicrographName"] = text_column([f"mics/m{k}.mrc" for k in values[12]])
    used = set(columns["rlnOpticsGroup"].tolist())
    return Particles(Table(columns), tuple(group for group in optics if group.group in used))


def check_same(read: Particles, before: Particles, *, rtol: float, without: tuple[str, ...] = ()) -> None:
    """Compare all columns, turns by their angle, and what the optics say of each particle."""
    turned = angular_distance(euler_to_matrix(read.eulers), euler_to_matrix(before.eulers))
    # Below this, tilts count as 0 wherever angles are read from matrices (`DEGENERATE_SINE`, as in RELION).
    assert turned.max() < 2.5e-4, "degrees"
    for label, column in before.table.columns.items():
        if label in (*EULER_LABELS, "rlnOpticsGroup", *without):
            continue
        if column.dtype == object:
            assert read.table[label].tolist() == column.tolist(), label
        else:
            np.testing.assert_allclose(read.table[label], column, rtol=rtol, atol=100 * rtol, err_msg=label)
    for one, other in zip(read.optics_index, before.optics_index, strict=True):
        a, b = read.optics[one], before.optics[other]
        for field in ("pixel_size", "voltage", "spherical_aberration", "amplitude_contrast", "image_size"):
            if field not in without:
                assert getattr(a, field) == pytest.approx(getattr(b, field), rel=1e-6), field


@settings(max_examples=25, deadline=None)
@given(particle_sets())
def test_relion_1_and_3_round_trip(tmp_path_factory: pytest.TempPathFactory, particles: Particles) -> None:
    folder = tmp_path_factory.mktemp("relion")
    write_particles(folder / "new.star", particles)
    first = read_particles(folder / "new.star", require_images=False)
    write_particles(folder / "flat.star", first, dialect="1.3")
    flat = read_particles(folder / "flat.star", require_images=False)
    write_particles(folder / "new2.star", flat)
    again = read_particles(folder / "new2.star", require_images=False)
    check_same(again, particles, rtol=2e-9, without=("image_size",))
    write_particles(folder / "flat2.star", again, dialect="1.3")
    once, twice = (block_as_table(read_star(folder / name)[""]) for name in ("flat.star", "flat2.star"))
    assert set(once) == set(twice)
    for label in once:
        if once[label].dtype == object:
            assert once[label].tolist() == twice[label].tolist(), label
        else:
            np.testing.assert_allclose(twice[label], once[label], rtol=2e-9, atol=1e-12, err_msg=label)


@settings(max_examples=25, deadline=None)
@given(particle_sets(), st.booleans())
def test_cistem_round_trip(particles: Particles, binary: bool) -> None:
    converted = cistem.cistem_of_particles(particles, binary=binary)
    assert not converted.lost
    table = converted.table
    if binary:  # as in the file
        table = Table({name: c.astype(np.float32).astype(np.float64) if c.dtype.kind == "f" else c
                       for name, c in table.columns.items()})  # fmt: skip
    rows = cistem.rows_of_cistem(table, NOTHING, binary=binary)
    check_same(particles_of_rows(rows.table, HERE), particles, rtol=1e-6, without=("image_size",))


@settings(max_examples=25, deadline=None)
@given(particle_sets())
def test_cryosparc_round_trip(particles: Particles) -> None:
    converted = cryosparc.cryosparc_of_particles(particles)
    assert not converted.lost
    table = Table({name: c.astype(np.float32).astype(np.float64) if c.dtype.kind == "f" else c
                   for name, c in converted.table.columns.items()})  # fmt: skip
    rows = cryosparc.rows_of_cryosparc(table, NOTHING)
    check_same(particles_of_rows(rows.table, HERE), particles, rtol=1e-6)
    again = cryosparc.cryosparc_of_particles(particles_of_rows(rows.table, HERE)).table
    assert set(again) == set(converted.table)
    assert again["uid"].tolist() == converted.table["uid"].tolist()


@settings(max_examples=25, deadline=None)
@given(particle_sets())
def test_xmipp_round_trip(particles: Particles) -> None:
    converted = xmipp.xmipp_of_particles(particles)
    assert {one.column for one in converted.lost} == {"rlnRandomSubset"}
    rows = xmipp.rows_of_xmipp(converted.table, NOTHING)
    check_same(particles_of_rows(rows.table, HERE), particles, rtol=1e-12, without=("rlnRandomSubset", "image_size"))


@settings(max_examples=25, deadline=None)
@given(particle_sets())
def test_eman_round_trip(particles: Particles) -> None:
    particles = replace(particles.with_columns({"rlnOpticsGroup": np.ones(len(particles), int)}),
                        optics=(Optics(1.5, 64, 300.0, 2.7, 0.1),))  # fmt: skip
    entries, lost = eman.eman_of_particles(particles)
    gone = {one.column for one in lost}
    assert {"rlnDefocusU", "rlnClassNumber", "rlnImagePixelSize"} <= gone
    rows = eman.rows_of_eman(entries, GivenImages(pixel_size=1.5))
    kept = tuple(label for label in particles.table if label in gone)
    fields = ("voltage", "spherical_aberration", "amplitude_contrast", "image_size")
    check_same(particles_of_rows(rows.table, HERE), particles, rtol=1e-9, without=(*kept, *fields))


@settings(max_examples=25, deadline=None)
@given(particle_sets(), st.sampled_from(["9", "x"]))
def test_frealign_round_trip(tmp_path_factory: pytest.TempPathFactory, particles: Particles, version: str) -> None:
    one = particles.optics[:1]
    names = text_column([f"{i + 1:06d}@all.mrcs" for i in range(len(particles))])
    numbers = np.full(len(particles), one[0].group)
    particles = replace(particles.with_columns({"rlnImageName": names, "rlnOpticsGroup": numbers}), optics=one)
    table, labels = par_of_particles(particles, version)
    path = tmp_path_factory.mktemp("par") / "x.par"
    write_par(path, table)
    read = particles_of_par(read_par(path), "all.mrcs", one[0])
    lost = {entry.column for entry in frealign.lost_in_par(particles, labels)}
    assert {"rlnClassNumber", "rlnRandomSubset", "rlnImageName", "rlnMicrographName", "rlnVoltage"} <= lost
    assert angular_distance(euler_to_matrix(read.eulers), euler_to_matrix(particles.eulers)).max() < 0.02
    np.testing.assert_allclose(read.shifts, particles.shifts, atol=0.00501)
    np.testing.assert_allclose(read.defocus[:, :2], particles.defocus[:, :2], atol=0.0501)
    assert read.table["rlnImageName"].tolist() == names.tolist()
    again, _ = par_of_particles(read, version)
    for name in set(table) - {"FILM"}:  # the numbers of films are those of the names' order
        np.testing.assert_allclose(again[name], read_par(path)[name], rtol=1e-5, atol=1e-6, err_msg=name)


def test_signs_and_units_of_cistem() -> None:
    rows = cistem.rows_of_cistem(
        Table({"cisTEMPositionInStack": np.array([3]), "cisTEMAnglePsi": np.array([10.0]),
               "cisTEMAngleTheta": np.array([20.0]), "cisTEMAnglePhi": np.array([30.0]),
               "cisTEMXShift": np.array([1.5]), "cisTEMYShift": np.array([-2.5]),
               "cisTEMPhaseShift": np.array([np.pi / 2]), "cisTEMScore": np.array([20.0]),
               "cisTEMPixelSize": np.array([1.5]), "cisTEMBeamTiltX": np.array([0.0])}),
        GivenImages(stack="s.mrc", voltage=300.0), binary=True)  # fmt: skip
    row = {label: column.tolist()[0] for label, column in rows.table.columns.items()}
    assert row == {
        "rlnImageName": "000003@s.mrc", "rlnAnglePsi": 10.0, "rlnAngleTilt": 20.0, "rlnAngleRot": 30.0,
        "rlnOriginXAngst": -1.5, "rlnOriginYAngst": 2.5, "rlnPhaseShift": 90.0, "rlnImagePixelSize": 1.5,
        "cisTEMScore": 20.0, "rlnVoltage": 300.0,
    }  # fmt: skip
    with pytest.raises(ValueError, match="give --stack"):
        cistem.rows_of_cistem(Table({"cisTEMPositionInStack": np.array([3])}), NOTHING, binary=True)
    text = cistem.rows_of_cistem(Table({"cisTEMPhaseShift": np.array([1.5])}), NOTHING, binary=False)
    assert text.table["rlnPhaseShift"].tolist() == [1.5]
    assert "radians" in text.notes[0]


def test_signs_and_units_of_cryosparc() -> None:
    fields = {"blob/path": text_column([">J1/a.mrc"]), "blob/idx": np.array([4]), "blob/psize_A": np.array([2.0]),
              "alignments3D/shift/0": np.array([3.0]), "alignments3D/shift/1": np.array([-1.0]),
              "alignments3D/psize_A": np.array([1.5]), "alignments3D/split": np.array([0]),
              "alignments3D/class": np.array([2]), "ctf/df_angle_rad": np.array([np.pi / 6]),
              "location/center_x_frac": np.array([0.25]), "location/center_y_frac": np.array([0.125]),
              "location/micrograph_shape/0": np.array([4000]), "location/micrograph_shape/1": np.array([6000]),
              "ctf/cs_mm": np.array([2.0]), "ctf/tilt_A/0": np.array([2000.0]),
              "ctf/tilt_A/1": np.array([0.0])}  # fmt: skip
    matrix = euler_to_matrix([40.0, 50.0, 60.0])
    vector = Rotation.from_matrix(matrix.T).as_rotvec()
    fields |= {f"alignments3D/pose/{axis}": vector[axis : axis + 1] for axis in range(3)}
    rows = cryosparc.rows_of_cryosparc(Table(fields), NOTHING).table
    assert rows["rlnImageName"].tolist() == ["000005@J1/a.mrc"]
    np.testing.assert_allclose([rows[label][0] for label in EULER_LABELS], [40.0, 50.0, 60.0])
    assert (rows["rlnOriginXAngst"][0], rows["rlnOriginYAngst"][0]) == (4.5, -1.5)
    assert (rows["rlnRandomSubset"][0], rows["rlnClassNumber"][0]) == (1, 3)
    assert rows["rlnDefocusAngle"][0] == pytest.approx(30.0)
    assert (rows["rlnCoordinateX"][0], rows["rlnCoordinateY"][0]) == (1500.0, 500.0)
    assert rows["rlnBeamTiltX"][0] == pytest.approx(0.1)  # mrad: 2000 Å of 2 mm
    back = cryosparc.cryosparc_of_particles(particles_of_rows(rows, HERE)).table
    for name in set(fields) - {"blob/path"}:
        np.testing.assert_allclose(back[name].astype(float), fields[name].astype(float) * (
            1.5 / 2.0 if "shift" in name else 2.0 / 1.5 if name == "alignments3D/psize_A" else 1.0),
            rtol=1e-9, err_msg=name)  # fmt: skip


def test_places_of_cryosparc_count_from_the_first_line() -> None:
    """As the makers' example for crYOLO has it: RELION's coordinate over the size of the micrograph is the fraction."""
    x, y, height, width = np.array([1500.0, 7.0]), np.array([500.0, 3999.0]), 4000, 6000
    fields = {"location/center_x_frac": x / width, "location/center_y_frac": y / height,
              "location/micrograph_shape/0": np.full(2, height),
              "location/micrograph_shape/1": np.full(2, width)}  # fmt: skip
    images = {"blob/path": text_column(["a.mrc"] * 2), "blob/idx": np.arange(2), "blob/psize_A": np.full(2, 2.0)}
    dataset = Table(images | fields)
    rows = cryosparc.rows_of_cryosparc(dataset, NOTHING).table
    np.testing.assert_allclose(rows["rlnCoordinateX"], x)
    np.testing.assert_allclose(rows["rlnCoordinateY"], y)
    over = cryosparc.upside_down(dataset)
    np.testing.assert_allclose(cryosparc.rows_of_cryosparc(over, NOTHING).table["rlnCoordinateY"], height - y)


def test_particles_of_micrographs_upside_down_show_the_same_molecule() -> None:
    """A point of the map is seen at (x, y) of an image, at (x, -y) of the image with its lines in reverse order."""
    rng = np.random.default_rng(5)
    eulers = np.column_stack([rng.uniform(-180, 180, 9), rng.uniform(0, 180, 9), rng.uniform(-180, 180, 9)])
    columns = dict(zip(EULER_LABELS, eulers.T, strict=True))
    columns |= {"rlnOriginXAngst": rng.normal(size=9), "rlnOriginYAngst": rng.normal(size=9),
                "rlnDefocusU": np.full(9, 2e4), "rlnDefocusV": np.full(9, 1e4),
                "rlnDefocusAngle": rng.uniform(0, 180, 9), "rlnBeamTiltY": np.full(9, 0.2),
                "rlnBeamTiltX": np.full(9, 0.1), "rlnVoltage": np.full(9, 300.0),
                "rlnSphericalAberration": np.full(9, 2.7), "rlnAmplitudeContrast": np.full(9, 0.1),
                "rlnImagePixelSize": np.full(9, 1.5)}  # fmt: skip
    names = text_column([f"{i + 1:06d}@all.mrcs" for i in range(9)])
    particles = particles_of_rows(Table({"rlnImageName": names, **columns}), HERE)
    dataset = cryosparc.cryosparc_of_particles(particles).table
    over = cryosparc.upside_down(dataset, poses=True)
    after = cryosparc.rows_of_cryosparc(over, NOTHING).table
    point = np.array([3.0, -5.0, 7.0])
    seen = euler_to_matrix(eulers) @ point
    again = euler_to_matrix(np.stack([after[label] for label in EULER_LABELS], axis=1)) @ point
    np.testing.assert_allclose(again[:, :2], seen[:, :2] * [1, -1], atol=1e-9)
    for label, sign in (("rlnOriginXAngst", 1), ("rlnOriginYAngst", -1), ("rlnDefocusAngle", -1), ("rlnBeamTiltX", 1),
                        ("rlnBeamTiltY", -1), ("rlnDefocusU", 1)):  # fmt: skip
        np.testing.assert_allclose(after[label], sign * columns[label], atol=1e-9, err_msg=label)
    twice = cryosparc.upside_down(over, poses=True)
    for field in dataset:
        if dataset[field].dtype != object:
            np.testing.assert_allclose(twice[field], dataset[field], atol=1e-9, err_msg=field)


def test_the_passthrough_file_is_joined_by_uid() -> None:
    dataset = Table({"uid": text_column(["7", "9"]), "blob/idx": np.array([0, 1])})
    other = Table({"uid": np.array([9, 8, 7]), "ctf/df1_A": np.array([9.0, 8.0, 7.0]), "blob/idx": np.array([5, 5, 5])})
    joined = cryosparc.with_passthrough(dataset, other)
    assert joined["ctf/df1_A"].tolist() == [7.0, 9.0]
    assert joined["blob/idx"].tolist() == [0, 1]
    with pytest.raises(ValueError, match="1 of 2 particles are not in"):
        cryosparc.with_passthrough(dataset, other.rows(slice(2)))


def test_eman_matrix_is_the_rotation_and_minus_the_origin() -> None:
    columns = {"rlnImageName": text_column(["000003@a.hdf"]), "rlnAngleRot": np.array([40.0]),
               "rlnAngleTilt": np.array([50.0]), "rlnAnglePsi": np.array([60.0]), "rlnOpticsGroup": np.array([1]),
               "rlnOriginXAngst": np.array([3.0]), "rlnOriginYAngst": np.array([-6.0])}  # fmt: skip
    particles = Particles(Table(columns), (Optics(1.5, 64, 300.0, 2.7, 0.1),))
    ((index, file, more),), _ = eman.eman_of_particles(particles)
    assert (index, file) == (2, "a.hdf")
    matrix = np.array(json.loads(more["xform.projection"]["matrix"])).reshape(3, 4)
    np.testing.assert_allclose(matrix[:, :3], euler_to_matrix([40.0, 50.0, 60.0]), atol=1e-12)
    assert matrix[:, 3].tolist() == [-2.0, 4.0, 0.0]
    # EMAN2's own angles: az = rot + 90, phi = psi - 90 about z, x, z (3DEM conventions, Heymann et al. 2005).
    turned = Rotation.from_euler("ZXZ", [130.0, 50.0, -30.0], degrees=True).as_matrix().T
    np.testing.assert_allclose(matrix[:, :3], turned, atol=1e-12)
    with pytest.raises(ValueError, match="give --pixel_size"):
        eman.rows_of_eman([(0, "a", {"xform.projection": {"matrix": "[1]"}})], NOTHING)
    with pytest.raises(ValueError, match="not a matrix of twelve"):
        eman.rows_of_eman([(0, "a", {"xform.projection": {"matrix": "[1]"}})], GivenImages(pixel_size=1.0))


def test_mirrored_images_of_xmipp_are_told() -> None:
    table = Table({"image": text_column(["1@a"]), "flip": np.array([1]), "shiftX": np.array([2.0])})
    with pytest.raises(ValueError, match="give --pixel_size"):
        xmipp.rows_of_xmipp(table, NOTHING)
    converted = xmipp.rows_of_xmipp(table, GivenImages(pixel_size=1.5))
    assert converted.table["rlnOriginXAngst"].tolist() == [3.0]
    assert "1 images are mirrored" in converted.lost[0].reason


def test_what_flat_files_lose() -> None:
    columns = {"rlnOpticsGroup": np.array([1, 2]), "rlnPhaseShift": np.array([90.0, 0.0])}
    optics = (Optics(1.5, 64, 300.0, 2.7, 0.1, name="a", odd_zernike=(0.0, 0.5)),
              Optics(1.5, 64, 300.0, 2.7, 0.1, name="b", group=2, odd_zernike=(0.0, 0.5)))  # fmt: skip
    block = Table({"rlnOpticsGroup": np.array([1, 2]), "rlnOpticsGroupName": text_column(["a", "b"]),
                   "rlnOddZernike": text_column(["[0,0.5]", "[0,0.5]"])})  # fmt: skip
    particles = Particles(Table(columns), optics, optics_table=block)
    assert {one.column for one in relion.lost_in_flat_file(particles, "1.3")} == {
        "rlnOpticsGroupName", "rlnOpticsGroup", "rlnPhaseShift", "rlnOddZernike"}  # fmt: skip
    assert "rlnPhaseShift" not in {one.column for one in relion.lost_in_flat_file(particles, "3.0")}


def test_a_missing_pixel_size_is_asked_for() -> None:
    with pytest.raises(InputError, match="give --pixel_size"):
        particles_of_rows(Table({"rlnImageName": text_column(["1@a"])}), HERE)
