"""``vitrea class2d`` as users run it. What it shares with other class runs is in test_class_runs.py."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import starfile

from vitrea.cli.main import main
from vitrea.formats.images import ParticleImages
from vitrea.formats.mrc import open_stack, write_stack
from vitrea.formats.particle_files import read_particles, write_particles
from vitrea.formats.star import read_star, write_star
from vitrea.records.particles import Particles
from vitrea.records.table import Table

# RELION 5's command for 2D classes, as its users type it.
RELION = (
    "--iter 2 --dont_combine_weights_via_disc --pool 3 --pad 2 --ctf --tau2_fudge 2 --particle_diameter 100 --K 2 "
    "--flatten_solvent --zero_mask --center_classes --oversampling 1 --psi_step 12 --offset_range 3 --offset_step 2 "
    "--norm --scale --j 1 --random_seed 1"
)
SIZE, PIXEL_SIZE, VIEWS = 24, 5.0, 2


@pytest.fixture(scope="module")
def views(mixture: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray]:
    """Particles seen from two directions, turned in the plane; returns the STAR file and the view of each."""
    made = mixture("lopsided", number=160, views=VIEWS, snr=1.0, junk_fraction=0.0, shift_sigma=3.0, seed=3)
    folder = tmp_path_factory.mktemp("views")
    return write_set(folder, made.images, made.particles), made.views


def write_set(folder: Path, images: np.ndarray, particles: Particles) -> Path:
    """Write a stack and its particle file without the truth."""
    write_stack(folder / "particles.mrcs", images, PIXEL_SIZE)
    names = [f"{number:06d}@particles.mrcs" for number in range(1, len(images) + 1)]
    table = particles.table.without(
        "rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi", "rlnOriginXAngst", "rlnOriginYAngst", "rlnClassNumber"
    )
    particles = Particles(
        table.with_columns({"rlnImageName": np.array(names, dtype="T")}), particles.optics, particles.source
    )
    write_particles(folder / "particles.star", particles)
    return folder / "particles.star"


def classify(star: Path, root: Path, *more: str) -> Any:
    """Run on a file; return the particle table."""
    assert main(["class2d", "--i", str(star), "--o", str(root), *shlex.split(RELION), *more]) == 0
    return starfile.read(f"{root}_data.star")["particles"]


def purity(classes: np.ndarray, truth: np.ndarray) -> float:
    """Share of the particles that are of the commonest kind of their class."""
    return sum(np.bincount(truth[classes == number]).max() for number in np.unique(classes)) / len(truth)


def test_relions_command_divides_views(views: Any, tmp_path: Path) -> None:
    """Two views far apart, in two classes: nearly all particles are with their like."""
    star, truth = views
    data = classify(star, tmp_path / "run", "--iter", "8")
    assert purity(data["rlnClassNumber"].to_numpy(), truth) > 0.9
    assert (data["rlnAngleTilt"] == 0).all() and (data["rlnAngleRot"] == 0).all()


def test_references_may_be_a_stack_or_a_star_file(views: Any, tmp_path: Path) -> None:
    """The same averages, given as a stack, by the model file, or by a STAR file in another order."""
    star, _ = views
    classify(star, tmp_path / "first")
    stack = f"{tmp_path}/first_classes.mrcs"
    classify(star, tmp_path / "stack", "--ref", stack, "--iter", "1")
    expected = open_stack(tmp_path / "stack_classes.mrcs")
    classify(star, tmp_path / "model", "--ref", f"{tmp_path}/first_model.star", "--iter", "1")
    np.testing.assert_array_equal(open_stack(tmp_path / "model_classes.mrcs"), expected)
    names = np.array(["000002@first_classes.mrcs", "000001@first_classes.mrcs"], dtype="T")
    write_star(tmp_path / "turned.star", {"": Table({"rlnReferenceImage": names})})
    classify(star, tmp_path / "turned", "--ref", str(tmp_path / "turned.star"), "--iter", "1")
    # Sums run in another order: the last bits may differ.
    scale = float(np.abs(expected).max())
    np.testing.assert_allclose(open_stack(tmp_path / "turned_classes.mrcs"), expected[::-1], atol=1e-3 * scale)


def test_in_a_project_folder(views: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names relative to the folder one works in, as RELION's users have it; `select` takes what the run leaves."""
    star, _ = views
    shutil.copytree(star.parent, tmp_path / "Project")
    monkeypatch.chdir(tmp_path / "Project")
    data = classify(Path("particles.star"), Path("Class2D/run"))
    assert main(["class2d", "--continue", "Class2D/run_it002_optimiser.star", "--iter", "3"]) == 0
    data = starfile.read("Class2D/run_data.star")["particles"]
    assert main(["select", "--i", "Class2D/run_optimiser.star", "--classes", "1", "--o", "selected.star"]) == 0
    chosen = read_particles("selected.star")
    assert len(chosen) == (data["rlnClassNumber"] == 1).sum()
    assert ParticleImages(chosen).load(np.arange(3)).shape == (3, SIZE, SIZE)


def test_samplings_can_change_on_the_way(views: Any, tmp_path: Path) -> None:
    star, _ = views
    classify(star, tmp_path / "run")
    optimiser = f"{tmp_path}/run_optimiser.star"
    options = ["--iter", "3", "--psi_step", "5", "--offset_range", "2", "--offset_step", "1"]
    assert main(["class2d", "--continue", optimiser, *options]) == 0
    sampling = read_star(tmp_path / "run_it003_sampling.star")["sampling_general"]
    assert isinstance(sampling, dict)
    assert float(sampling["rlnPsiStep"]) == pytest.approx(5.0)
    assert float(sampling["rlnOffsetRange"]) == pytest.approx(2 * PIXEL_SIZE)
    assert float(sampling["rlnOffsetStep"]) == pytest.approx(PIXEL_SIZE)


def test_skip_align_keeps_poses(views: Any, tmp_path: Path) -> None:
    star, _ = views
    first = classify(star, tmp_path / "first")
    stack = f"{tmp_path}/first_classes.mrcs"
    again = classify(
        Path(f"{tmp_path}/first_data.star"), tmp_path / "kept", "--ref", stack, "--skip_align", "--no_center_classes"
    )
    for label in ("rlnAnglePsi", "rlnOriginXAngst", "rlnOriginYAngst"):
        np.testing.assert_allclose(again[label], first[label], atol=1e-5)


def test_one_class_for_all_is_told(mixture: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Identical classes are not made different by force: with all particles in one, the user is told."""
    made = mixture("lopsided", number=40, views=1, snr=5.0, junk_fraction=0.0, shift_sigma=0.0, seed=3)
    star = write_set(tmp_path, made.images, made.particles)
    black = np.stack([made.images.mean(axis=0) * 0.0, made.images[0]]).astype(np.float32)
    write_stack(tmp_path / "start.mrcs", black, PIXEL_SIZE)
    capsys.readouterr()
    data = classify(star, tmp_path / "run", "--ref", str(tmp_path / "start.mrcs"), "--iter", "1")
    assert len(set(data["rlnClassNumber"])) == 1
    shown = capsys.readouterr()
    assert "all particles are in one class" in (shown.err + shown.out).replace("\n", " ")


def test_blank_edges_are_set_aside(views: Any, tmp_path: Path) -> None:
    """Windows over the edge of a micrograph: flat stripes, as extraction fills them."""
    star, _ = views
    folder = tmp_path / "input"
    shutil.copytree(star.parent, folder)
    stack = np.array(open_stack(folder / "particles.mrcs"))
    for index in (3, 50, 51):
        stack[index, :, :7] = stack[index, :, 7:8]
    stack[90, -6:, :] = stack[90, -7, :]
    write_stack(folder / "particles.mrcs", stack, PIXEL_SIZE)
    kept = classify(folder / "particles.star", tmp_path / "kept", "--iter", "1")
    assert len(kept) == len(stack)
    sieved = classify(folder / "particles.star", tmp_path / "sieved", "--iter", "1", "--exclude_blank_edges")
    assert len(sieved) == len(stack) - 4
    aside = read_star(tmp_path / "sieved_set_aside.star")["particles"]
    assert isinstance(aside, Table)
    assert sorted(int(name.split("@")[0]) - 1 for name in aside["rlnImageName"].astype(str)) == [3, 50, 51, 90]
    assert all("edge" in reason for reason in aside["vitreaReason"].astype(str))


def test_groups_without_micrographs(views: Any, tmp_path: Path) -> None:
    """A file without micrograph names: all particles share one noise spectrum."""
    star, _ = views
    folder = tmp_path / "input"
    shutil.copytree(star.parent, folder)
    blocks: dict[str, Any] = dict(read_star(folder / "particles.star"))
    blocks["particles"] = blocks["particles"].without("rlnMicrographName", "rlnGroupName", "rlnGroupNumber")
    write_star(folder / "particles.star", blocks)
    classify(folder / "particles.star", tmp_path / "run", "--iter", "1")
    general = read_star(tmp_path / "run_model.star")["model_general"]
    assert isinstance(general, dict) and int(general["rlnNrGroups"]) == 1
