"""``vitrea initial-model`` as users run it. What it shares with other class runs is in test_class_runs.py."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vitrea.cli.main import main
from vitrea.formats.mrc import open_stack, read_map, write_stack
from vitrea.formats.particle_files import read_particles, relink_images, write_particles
from vitrea.geometry.symmetry import symmetry_matrices
from vitrea.maps.transform import symmetrise

SHORT = [
    "--particle_diameter", "120", "--offset_range", "3", "--healpix_order", "1", "--iter", "6",
    "--particles_at_start", "100", "--particles_at_end", "200", "--finish_resolution", "16", "--first_maps", "2",
]  # fmt: skip


def verdict(root: Path) -> str:
    """What the log says in the end."""
    lines = [line for line in Path(f"{root}.log").read_text().splitlines() if "verdict=" in line]
    assert len(lines) == 1
    return lines[0].split("verdict=")[1].split()[0]


def agreement(root: Path, truth: Path, tmp_path: Path) -> float:
    """Resolution in Å where the FSC with the truth falls below 0.5, either hand, best placement."""
    report = tmp_path / "compare.json"
    files = [f"{root}_class001.mrc", str(truth)]
    assert main(["compare", *files, "--align", "--resolution", "20", "--json", str(report)]) == 0
    return float(json.loads(report.read_text())["resolution_fsc_0.5"])


@pytest.fixture(scope="module")
def found(particle_folder: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with its symmetry from the beginning."""
    root = tmp_path_factory.mktemp("model") / "run"
    assert main(["initial-model", "--i", str(particle_folder.star), "--o", str(root), "--sym", "C2", *SHORT]) == 0
    return root


def test_the_shape_is_found_from_nothing(found: Path, particle_folder: Any, tmp_path: Path) -> None:
    assert verdict(found) == "confident"
    assert agreement(found, particle_folder.folder / "map.mrc", tmp_path) < 25.0


@pytest.mark.slow
def test_axes_are_found_after_a_start_without_symmetry(particle_folder: Any, tmp_path: Path) -> None:
    """First maps have no symmetry; then the best is turned onto its axis, and the start imposes it."""
    root = tmp_path / "run"
    command = ["initial-model", "--i", str(particle_folder.star), "--o", str(root), "--sym", "C2", *SHORT]
    assert main([*command, "--run_in_c1", "--starts", "1"]) == 0
    log = Path(f"{root}.log").read_text()
    assert float(re.findall(r"axes of C2 found, correlation ([0-9.]+)", log)[0]) > 0.7
    assert symmetry_of(Path(f"{root}_class001.mrc")) > 0.98
    assert verdict(root) == "confident"
    assert agreement(root, particle_folder.folder / "map.mrc", tmp_path) < 25.0


def symmetry_of(path: Path) -> float:
    """Correlation of a map with itself after it was averaged over C2 about z."""
    voxels = read_map(path).voxels
    even = symmetrise(voxels, list(symmetry_matrices("C2")))
    return float(np.corrcoef(voxels.ravel(), even.ravel())[0, 1])


@pytest.mark.slow
def test_stochastic_descent_makes_a_model(particle_folder: Any, tmp_path: Path) -> None:
    root = tmp_path / "run"
    command = ["initial-model", "--i", str(particle_folder.star), "--o", str(root), "--sym", "C2", "--method", "sgd"]
    assert main([*command, *SHORT, "--iter", "12", "--starts", "1", "--particles_at_start", "60"]) == 0
    assert np.isfinite(read_map(f"{root}_class001.mrc").voxels).all()
    used = [int(number) for number in re.findall(r"particles=(\d+) current", Path(f"{root}.log").read_text())]
    assert max(used) == 60
    assert agreement(root, particle_folder.folder / "map.mrc", tmp_path) < 40.0


def test_noise_gives_no_confident_model(
    particle_folder: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A map comes out of noise, too: the verdict tells."""
    copied = particle_folder.copy_to(tmp_path / "input")
    shape = open_stack(copied.folder / "particles.mrcs").shape
    noise = np.random.default_rng(4).standard_normal(shape).astype(np.float32)
    write_stack(copied.folder / "particles.mrcs", noise, 5.0)
    root, once = tmp_path / "run", ["--starts", "1", "--iter", "4"]
    assert main(["initial-model", "--i", str(copied.star), "--o", str(root), "--sym", "C2", *SHORT, *once]) == 0
    shown = capsys.readouterr()
    assert "no confident model" in " ".join((shown.err + shown.out).split())
    assert verdict(root) == "none"
    assert "no confident model" in Path(f"{root}_report.html").read_text()


@pytest.mark.slow
def test_several_models(particle_folder: Any, tmp_path: Path) -> None:
    root = tmp_path / "run"
    command = ["initial-model", "--i", str(particle_folder.star), "--o", str(root), "--sym", "C2", "--K", "2", *SHORT]
    assert main([*command, "--iter", "3", "--starts", "1"]) == 0
    one, two = (read_map(f"{root}_class00{number}.mrc").voxels for number in (1, 2))
    assert not np.array_equal(one, two)


def test_best_poses_alone(found: Path, particle_folder: Any, tmp_path: Path) -> None:
    """Without blurring by likelihood each particle is put in once: another model, with sharper poses."""
    root = tmp_path / "run"
    command = ["initial-model", "--i", str(particle_folder.star), "--o", str(root), "--sym", "C2", *SHORT]
    assert main([*command, "--starts", "1", "--iter", "2", "--no_likelihood_blurring"]) == 0
    assert not np.array_equal(open_stack(f"{root}_it001_class001.mrc"), open_stack(f"{found}_it001_class001.mrc"))


def test_too_few_particles(particle_folder: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    particles = read_particles(particle_folder.star)
    few = tmp_path / "few.star"
    write_particles(few, relink_images(particles.rows(np.arange(50)), tmp_path))
    assert main(["initial-model", "--i", str(few), "--o", str(tmp_path / "output" / "run"), *SHORT]) == 2
    message = capsys.readouterr().err
    assert "few.star" in message and "50" in message and len(message.strip().splitlines()) == 1
    assert not (tmp_path / "output").exists()
