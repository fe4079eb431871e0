"""``examples/missing_subunit.py``: commands are ones that vitrea takes; it finds the subunit and who lacks it."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from vitrea.cli.main import main
from vitrea.formats.mrc import write_map
from vitrea.formats.particle_files import read_particles
from vitrea.formats.star import read_star, write_star
from vitrea.geometry.symmetry import symmetry_matrices
from vitrea.records.map import Map
from vitrea.records.table import Table

BOX, PIXEL = 40, 4.0
CENTRE = np.array([30.0, 22.0, 14.0])  # x, y, z from the middle, Å
RADIUS = 16.0


def balls(centres: Any) -> Map:
    """Balls of density, edges a voxel wide."""
    z, y, x = (np.indices((BOX,) * 3) - BOX // 2) * PIXEL
    distance = np.stack([np.sqrt((x - a) ** 2 + (y - b) ** 2 + (z - c) ** 2) for a, b, c in centres])
    voxels = np.clip((RADIUS - distance) / PIXEL + 0.5, 0.0, 1.0).max(axis=0)
    return Map(voxels.astype(np.float32), PIXEL)


@pytest.fixture
def program(load_example: Callable[[str], ModuleType]) -> ModuleType:
    return load_example("missing_subunit")


def test_the_asymmetric_unit_is_one_of_the_balls(program: ModuleType) -> None:
    places = symmetry_matrices("D2") @ CENTRE
    centre, radius = program.asymmetric_unit(balls(places), "D2")
    assert np.linalg.norm(places - centre, axis=1).min() < 0.25 * PIXEL
    assert radius == pytest.approx(RADIUS, rel=0.1)  # the threshold cuts the edge in the middle


@pytest.fixture
def commands(program: ModuleType, in_tmp: Path, noted_commands: list[str], optics_block: Table) -> list[str]:
    """What the program runs on three particles of a molecule with D2; one copy of the second lacks the subunit."""
    for folder in ("Refine3D", "Class3D"):
        (in_tmp / folder).mkdir()
    places = symmetry_matrices("D2") @ CENTRE
    whole = balls(places)
    centre, _ = program.asymmetric_unit(whole, "D2")
    others = [place for place in places if np.linalg.norm(place - centre) > RADIUS]
    write_map("ref.mrc", whole)
    write_map("Refine3D/run_class001.mrc", whole)
    write_map("Class3D/run_class001.mrc", balls(others))
    write_map("Class3D/run_class002.mrc", whole)
    names = np.array([f"{number:06d}@particles.mrcs" for number in (1, 2, 3)] * 4, dtype=object)
    classes = np.full(12, 2)
    classes[7] = 1
    table = Table({"rlnImageName": names, "rlnOpticsGroup": np.ones(12, dtype=int), "rlnClassNumber": classes})
    for name in ("rlnDefocusU", "rlnDefocusV", "rlnDefocusAngle"):
        table = table.with_columns({name: np.full(12, 10000.0)})
    write_star("Class3D/run_data.star", {"optics": optics_block, "particles": table})
    options = ["--ref", "ref.mrc", "--output", ".", "--diameter", "150", "--symmetry", "D2", "--classes", "2"]
    assert program.main(["Class3D/run_data.star", *options]) == 0
    return noted_commands


@pytest.fixture
def optics_block() -> Table:
    values = {
        "rlnVoltage": 300.0,
        "rlnSphericalAberration": 2.7,
        "rlnAmplitudeContrast": 0.1,
        "rlnImagePixelSize": PIXEL,
    }
    columns: dict[str, Any] = {name: np.array([value]) for name, value in values.items()}
    columns |= {"rlnImageSize": np.array([BOX]), "rlnOpticsGroup": np.array([1])}
    return Table({**columns, "rlnImageDimensionality": np.array([2])})


def test_every_command_is_understood(commands: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert [command.split(" --")[0] for command in commands] == ["select", "refine3d", "symmetry-expand", "class3d"]
    for command in commands:
        assert main([*shlex.split(command), "--print-command"]) == 0, capsys.readouterr().err


def test_an_image_is_incomplete_if_one_of_its_copies_is(commands: list[str]) -> None:
    for name, numbers in (("whole", [1, 3]), ("incomplete", [2])):
        table = read_particles(f"{name}.star", require_images=False).table
        assert [int(str(image).split("@")[0]) for image in table["rlnImageName"]] == numbers
        assert "optics" in read_star(f"{name}.star")


@pytest.mark.parametrize(("symmetry", "told"), [("C1", "no equal subunits"), ("X9", "--symmetry")])
def test_a_molecule_without_symmetry_is_refused(
    program: ModuleType, in_tmp: Path, capsys: pytest.CaptureFixture[str], symmetry: str, told: str
) -> None:
    for name in ("particles.star", "ref.mrc"):
        Path(name).touch()
    with pytest.raises(SystemExit) as stop:
        program.main(["particles.star", "--ref", "ref.mrc", "--diameter", "150", "--symmetry", symmetry])
    assert stop.value.code == 2
    assert "error: " in (said := capsys.readouterr().err) and told in said.split("error: ")[1]
