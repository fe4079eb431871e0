"""`vitrea project` writes what relion_project writes, and refuses what makes no sense."""

from __future__ import annotations

import shutil
from pathlib import Path

import mrcfile
import numpy as np
import pytest
import starfile

from vitrea.formats.images import ParticleImages
from vitrea.formats.mrc import open_stack
from vitrea.formats.particle_files import read_particles
from vitrea.jobs.base import Context
from vitrea.jobs.project import ProjectParameters, run
from vitrea.records.errors import InputError


@pytest.fixture
def folder(in_tmp: Path, data_dir: Path) -> Path:
    for name in ("map40.mrc", "poses.star"):
        shutil.copy(data_dir / "projection" / name, in_tmp)
    return in_tmp


def project(**parameters: object) -> None:
    run(ProjectParameters(**{"input": "map40.mrc", **parameters}), Context())


def test_one_image_a_particle(folder: Path, data_dir: Path) -> None:
    project(angles="poses.star", output="Project/out", ctf=True)
    assert mrcfile.validate("Project/out.mrcs")
    got, expected = open_stack("Project/out.mrcs"), open_stack(data_dir / "projection" / "with_ctf.mrcs")
    assert np.corrcoef(got.ravel(), expected.ravel())[0, 1] > 0.9999
    written = read_particles("Project/out.star")
    assert np.array_equal(ParticleImages(written).load(np.arange(12)), got)
    given = read_particles("poses.star", require_images=False)
    assert np.array_equal(written.eulers, given.eulers)
    assert written.optics[0].image_size == 40
    assert list(starfile.read("Project/out.star")["particles"]["rlnImageName"])[11] == "000012@Project/out.mrcs"


def test_a_single_view(folder: Path, data_dir: Path) -> None:
    """Poses 3 (tilt 90) and 4 (a shift of 2 and -1 pixels) of the reference."""
    expected = open_stack(data_dir / "projection" / "no_ctf.mrcs")
    project(output="side.mrc", tilt=90)
    project(output="moved.mrc", x_offset=2, y_offset=-1)
    for name, number in (("side.mrc", 2), ("moved.mrc", 3)):
        image = open_stack(name)
        assert image.shape == (1, 40, 40)
        assert np.abs(image[0] - expected[number]).max() < 1e-3 * expected[number].max()
    with mrcfile.open("side.mrc") as file:
        assert float(file.voxel_size.x) == pytest.approx(7.08)


def test_noise_is_added_and_repeatable(folder: Path) -> None:
    project(angles="poses.star", output="clean")
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        project(angles="poses.star", output=name, add_noise=True, white_noise=0.5, seed=seed)
    clean, a, b, c = (np.array(open_stack(f"{name}.mrcs")) for name in ("clean", "a", "b", "c"))
    assert (a - clean).std() == pytest.approx(0.5, rel=0.03)
    assert np.array_equal(a, b)
    assert np.abs(a - c).max() > 0.5


def test_ctf_variants_differ(folder: Path) -> None:
    project(angles="poses.star", output="plain", ctf=True)
    project(angles="poses.star", output="flipped", ctf=True, ctf_phase_flip=True)
    project(angles="poses.star", output="intact", ctf=True, ctf_intact_first_peak=True)
    plain, flipped, intact = (np.array(open_stack(f"{name}.mrcs")) for name in ("plain", "flipped", "intact"))
    assert np.abs(plain - flipped).max() > 0.01
    assert np.abs(intact.sum(axis=(1, 2))).max() > 2 * np.abs(plain.sum(axis=(1, 2))[:8]).max()


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"input": "none.mrc"}, "none.mrc does not exist"),
        ({"ctf": True}, "--ctf needs --ang"),
        ({"ctf_phase_flip": True}, "--ctf_phase_flip needs --ctf"),
        ({"angles": "poses.star", "tilt": 3}, "--tilt is for a single view"),
        ({"angles": "noangles.star"}, "noangles.star lacks the column rlnAngleTilt"),
        ({"angles": "poses.star", "pixel_size": 5.0}, "rlnImagePixelSize of optics group 1 is 7.08 Å"),
        ({"angles": "poses.star", "output": "poses"}, "would overwrite poses.star"),
        ({"add_noise": True}, "go together"),
        ({"white_noise": 1.0}, "go together"),
    ],
)
def test_mistakes_are_told_and_nothing_is_written(folder: Path, parameters: dict[str, object], message: str) -> None:
    text = Path("poses.star").read_text()
    Path("noangles.star").write_text(text.replace("_rlnAngleTilt", "_rlnSomething"))
    before = sorted(folder.iterdir())
    with pytest.raises(InputError, match=message):
        project(**{"output": "out", **parameters})
    assert sorted(folder.iterdir()) == before
    assert Path("poses.star").read_text() == text
