"""`vitrea reconstruct`: relion_reconstruct's map, the choice of particles, and mistakes."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import mrcfile
import numpy as np
import pytest

from vitrea.formats.mrc import open_stack, read_map, write_stack
from vitrea.formats.particle_files import read_particles, write_particles
from vitrea.jobs.base import Context
from vitrea.jobs.reconstruct import ReconstructParameters, run
from vitrea.records.errors import InputError
from vitrea.records.recorder import SilentRecorder


@pytest.fixture
def folder(in_tmp: Path, data_dir: Path) -> Path:
    """Twelve projections with CTF, half sets, classes and figures of merit."""
    shutil.copy(data_dir / "projection" / "with_ctf.mrcs", in_tmp / "images.mrcs")
    particles = read_particles(data_dir / "projection" / "poses.star", require_images=False)
    names = np.array([f"{i + 1:06d}@images.mrcs" for i in range(12)], dtype=object)
    half = np.arange(12) % 2 + 1
    columns = {"rlnImageName": names, "rlnRandomSubset": half, "rlnClassNumber": half}
    write_particles("p.star", particles.with_columns({**columns, "rlnParticleFigureOfMerit": (half == 1) * 0.5}))
    return in_tmp


def reconstruct(**parameters: object) -> tuple[np.ndarray, SilentRecorder]:
    recorder = SilentRecorder()
    run(ReconstructParameters(**{"input": "p.star", "output": "Recon/map.mrc", **parameters}), Context(recorder))
    return read_map("Recon/map.mrc").voxels, recorder


def test_agrees_with_relion_reconstruct(folder: Path, data_dir: Path) -> None:
    got, _ = reconstruct(ctf=True)
    expected = read_map(data_dir / "reconstruct" / "from_with_ctf.mrc").voxels
    assert np.corrcoef(got.ravel(), expected.ravel())[0, 1] > 0.9999
    assert (got * expected).sum() / (expected * expected).sum() == pytest.approx(1, abs=1e-3)
    assert mrcfile.validate("Recon/map.mrc")
    assert read_map("Recon/map.mrc").voxel_size == pytest.approx(7.08)


def test_half_sets_classes_and_weights_choose_the_same_particles(folder: Path) -> None:
    by_half, _ = reconstruct(ctf=True, subset=1)
    by_class, _ = reconstruct(ctf=True, class_number=1)
    by_weight, _ = reconstruct(ctf=True, fom_weighting=True)
    assert np.array_equal(by_half, by_class)
    np.testing.assert_allclose(by_half, by_weight, atol=1e-5)
    assert np.abs(by_half - reconstruct(ctf=True, subset=2)[0]).max() > 0.02


def test_every_choice_changes_the_map(folder: Path) -> None:
    plain, _ = reconstruct(ctf=True)
    switches = ("ctf_phase_flipped", "ctf_intact_first_peak", "only_flip_phases")
    choices: list[dict[str, object]] = [{"ctf": False}, {"symmetry": "C2"}, {"max_resolution": 30.0}, {"padding": 1}]
    for changes in [*choices, *({switch: True} for switch in switches)]:
        changed, _ = reconstruct(**{"ctf": True, **changes})
        assert np.abs(changed - plain).max() > 1e-3 * np.abs(plain).max(), changes


def test_a_bad_image_is_left_out_by_name(folder: Path) -> None:
    images = np.array(open_stack("images.mrcs"))
    images[3, 5, 5] = np.nan
    write_stack("images.mrcs", images, 7.08)
    got, recorder = reconstruct(ctf=True)
    assert recorder.warnings == ["000004@images.mrcs holds NaN or infinite pixels and is left out"]
    particles = read_particles("p.star")
    write_particles("p.star", particles.rows(np.arange(12) != 3))
    np.testing.assert_allclose(reconstruct(ctf=True)[0], got, atol=1e-5)
    write_stack("images.mrcs", np.full_like(images, np.nan), 7.08)
    with pytest.raises(InputError, match="none of the images can be used"):
        reconstruct(ctf=True)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"input": "none.star"}, "none.star"),
        ({"input": "noangles.star"}, "noangles.star lacks the column rlnAnglePsi"),
        ({"input": "noctf.star", "ctf": True}, "noctf.star lacks the column rlnDefocusU"),
        ({"input": "lost.star"}, "gone.mrcs does not exist"),
        ({"symmetry": "Q7"}, "Q7"),
        ({"only_flip_phases": True}, "--only_flip_phases needs --ctf"),
        ({"max_resolution": 300.0}, "--maxres 300 Å is too coarse"),
        ({"class_number": 5}, "no particle is left with rlnClassNumber 5"),
        ({"input": "noctf.star", "subset": 1}, "lacks the column rlnRandomSubset"),
        ({"input": "noctf.star", "fom_weighting": True}, "lacks the column rlnParticleFigureOfMerit"),
    ],
)
def test_mistakes_are_told_and_nothing_is_written(folder: Path, parameters: dict[str, object], message: str) -> None:
    particles = read_particles("p.star")
    table = particles.table
    write_particles("noangles.star", replace(particles, table=table.without("rlnAnglePsi")))
    gone = ("rlnDefocusU", "rlnRandomSubset", "rlnParticleFigureOfMerit")
    write_particles("noctf.star", replace(particles, table=table.without(*gone)))
    lost = np.array([name.replace("images", "gone") for name in table["rlnImageName"]], dtype=object)
    write_particles("lost.star", particles.with_columns({"rlnImageName": lost}))
    with pytest.raises(InputError, match=message):
        reconstruct(**parameters)
    assert not Path("Recon").exists()
