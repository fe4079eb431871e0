"""`vitrea symmetry-expand`: what it writes stands for the same map."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from vitrea.cli.main import main
from vitrea.formats.mrc import read_map
from vitrea.formats.particle_files import read_particles, write_particles
from vitrea.fourier.fsc import fourier_shell_correlation
from vitrea.geometry.euler import euler_to_matrix
from vitrea.geometry.symmetry import symmetry_matrices
from vitrea.jobs.base import Context
from vitrea.jobs.reconstruct import ReconstructParameters
from vitrea.jobs.reconstruct import run as reconstruct
from vitrea.jobs.symmetry_expand import SymmetryExpandParameters, run
from vitrea.records.errors import InputError
from vitrea.records.recorder import SilentRecorder


@pytest.fixture
def folder(in_tmp: Path, data_dir: Path) -> Path:
    """Twelve projections with CTF, of known poses, in half sets."""
    shutil.copy(data_dir / "projection" / "with_ctf.mrcs", in_tmp / "images.mrcs")
    particles = read_particles(data_dir / "projection" / "poses.star", require_images=False)
    names = np.array([f"{i + 1:06d}@images.mrcs" for i in range(12)], dtype=object)
    write_particles("p.star", particles.with_columns({"rlnImageName": names, "rlnRandomSubset": np.arange(12) % 2 + 1}))
    return in_tmp


def expand(**parameters: object) -> SilentRecorder:
    recorder = SilentRecorder()
    run(SymmetryExpandParameters(**{"input": "p.star", "symmetry": "D2", **parameters}), Context(recorder))
    return recorder


def test_a_c1_reconstruction_of_the_copies_is_the_symmetric_one_of_the_particles(folder: Path) -> None:
    expand()
    reconstruct(ReconstructParameters(input=Path("p.star"), output=Path("a.mrc"), symmetry="D2", ctf=True), Context())
    reconstruct(ReconstructParameters(input=Path("expanded.star"), output=Path("b.mrc"), ctf=True), Context())
    symmetric, expanded = (torch.from_numpy(read_map(name).voxels) for name in ("a.mrc", "b.mrc"))
    # Beyond the last shell there is nothing to compare.
    assert float(fourier_shell_correlation(symmetric, expanded)[:20].min()) > 0.9999
    assert float((symmetric - expanded).abs().max()) < 1e-3 * float(symmetric.abs().max())


@pytest.mark.parametrize("group", ["C3", "D7", "T", "O", "I2"])
def test_each_copy_is_seen_through_its_operator(folder: Path, group: str) -> None:
    expand(symmetry=group, output="Expand/out.star")
    before, after = read_particles("p.star"), read_particles("Expand/out.star")
    operators = symmetry_matrices(group)
    copies = after.eulers.reshape(12, len(operators), 3)
    assert np.array_equal(copies[:, 0], before.eulers)
    expected = euler_to_matrix(before.eulers)[:, None] @ operators
    np.testing.assert_allclose(euler_to_matrix(copies), expected, atol=1e-8)
    for label in set(before.table) - {"rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi"}:
        assert np.array_equal(after.table[label], np.repeat(before.table[label], len(operators))), label


def test_priors_follow_the_angles(folder: Path) -> None:
    particles = read_particles("p.star")
    priors = {f"rlnAngle{name}Prior": particles.table[f"rlnAngle{name}"] for name in ("Rot", "Tilt", "Psi")}
    write_particles("p.star", particles.with_columns(priors))
    assert expand().warnings == []
    after = read_particles("expanded.star").table
    for name in ("Rot", "Tilt", "Psi"):
        assert np.array_equal(after[f"rlnAngle{name}Prior"], after[f"rlnAngle{name}"])
    write_particles("p.star", particles.with_columns({"rlnAnglePsiPrior": priors["rlnAnglePsiPrior"]}))
    assert "rlnAnglePsiPrior are kept" in expand().warnings[0]


def test_expanding_twice_is_warned_of(folder: Path) -> None:
    assert expand().warnings == []
    recorder = expand(input="expanded.star", output="twice.star", symmetry="C2")
    assert "expanded.star names images more than once" in recorder.warnings[0]


def test_the_command_has_a_hyphen(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["symmetry-expand", "--i", "p.star", "--o", "e.star", "--sym", "c2"]) == 0
    assert len(read_particles("e.star")) == 24
    assert main(["symmetry-expand", "--i", "p.star", "--sym", "X9"]) == 2
    assert "X9" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"input": "none.star"}, "none.star"),
        ({"input": "noangles.star"}, "noangles.star lacks the column rlnAngleTilt"),
        ({"symmetry": "C1"}, "nothing to expand"),
        ({"symmetry": "D2h"}, "D2h"),
        ({"output": "p.star"}, "would overwrite"),
        ({"input": "nopixel.star"}, "rlnImagePixelSize"),
    ],
)
def test_mistakes_are_told_and_nothing_is_written(folder: Path, parameters: dict[str, object], message: str) -> None:
    particles = read_particles("p.star")
    write_particles("noangles.star", replace(particles, table=particles.table.without("rlnAngleTilt")))
    text = Path("p.star").read_text()
    Path("nopixel.star").write_text(text.replace("_rlnImagePixelSize", "_rlnSomethingElse"))
    with pytest.raises(InputError, match=message):
        expand(**parameters)
    assert Path("p.star").read_text() == text
    assert not Path("expanded.star").exists()
    if message == "rlnImagePixelSize":
        expand(input="nopixel.star", pixel_size=7.08)
        assert Path("expanded.star").exists()
