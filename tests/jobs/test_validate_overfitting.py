"""`vitrea validate substitution` and `vitrea validate overfitting` on files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vitrea.cli.main import main
from vitrea.formats.image_names import split_image_name
from vitrea.formats.mrc import open_stack, read_header, write_map, write_stack
from vitrea.formats.particle_files import read_particles, write_particles
from vitrea.formats.star import read_star
from vitrea.formats.star_values import text_column
from vitrea.fourier.fsc import fourier_shell_correlation
from vitrea.jobs.base import Context
from vitrea.jobs.reconstruct import ReconstructParameters
from vitrea.jobs.reconstruct import run as reconstruct
from vitrea.jobs.validate_overfitting import ValidateOverfittingParameters
from vitrea.jobs.validate_overfitting import run as compare
from vitrea.jobs.validate_substitution import ValidateSubstitutionParameters
from vitrea.jobs.validate_substitution import run as substitute
from vitrea.maps.masking import sphere_mask
from vitrea.records.map import Map
from vitrea.records.recorder import SilentRecorder

SIZE, PIXEL = 24, 5.0


@pytest.fixture
def folder(in_tmp: Path, mixture: Callable[..., Any]) -> Path:
    """Three hundred particles of one molecule, in half sets."""
    made = mixture("lopsided", number=300, junk_fraction=0.0, snr=0.5)
    write_stack("images.mrcs", made.images, PIXEL)
    names = text_column([f"{i + 1:06d}@images.mrcs" for i in range(300)])
    subset = np.arange(300) % 2 + 1
    write_particles("p.star", made.particles.with_columns({"rlnImageName": names, "rlnRandomSubset": subset}))
    return in_tmp


def recorded(run: Callable[..., None], parameters: object) -> SilentRecorder:
    recorder = SilentRecorder()
    run(parameters, Context(recorder))
    return recorder


def substituted(**parameters: object) -> SilentRecorder:
    return recorded(substitute, ValidateSubstitutionParameters(**{"input": "p.star", "resolution": 20, **parameters}))


def compared(**parameters: object) -> SilentRecorder:
    given = {"half1": "a_half1.mrc", "substituted_half1": "b_half1.mrc", "resolution": 20.0, **parameters}
    return recorded(compare, ValidateOverfittingParameters(**given))


def write_halves(name: str, shared: float, seed: int) -> None:
    """Write half maps of white noise, part of it shared."""
    generator = np.random.default_rng(seed)
    common = np.sqrt(shared) * generator.normal(size=(SIZE,) * 3)
    for half in (1, 2):
        own = np.sqrt(1 - shared) * generator.normal(size=(SIZE,) * 3)
        write_map(f"{name}_half{half}.mrc", Map((common + own).astype(np.float32), PIXEL))


def test_images_lose_their_fine_detail_and_nothing_else(folder: Path) -> None:
    substituted(output="out")
    before, after = read_particles("p.star"), read_particles("out/particles_substituted.star")
    assert np.array_equal(after.table["rlnImageOriginalName"], before.table["rlnImageName"])
    for label in ("rlnAngleRot", "rlnDefocusU", "rlnRandomSubset", "rlnOriginXAngst"):
        assert np.allclose(after.table[label], before.table[label], atol=1e-4)  # digits of a STAR file
    stack, index = split_image_name(after.table["rlnImageName"][7])
    assert index == 7 and read_header(stack).shape == (300, SIZE, SIZE)
    pair = [torch.from_numpy(np.array(open_stack(name))) for name in ("images.mrcs", stack)]
    rings = fourier_shell_correlation(*pair, dims=2).mean(dim=0)
    # Shell 6 is at 20 Å.
    assert float(rings[:6].min()) > 0.999 and float(rings[7:].abs().max()) < 0.05
    half = substituted(output="half", float16=True)
    assert read_header("half/particles_substituted.mrcs").mode == 12 and "300 particles" in half.events[-1][1]["text"]
    other = substituted(output="other", random_seed=3)
    assert not other.warnings
    assert not np.allclose(open_stack("other/particles_substituted.mrcs"), pair[1].numpy(), atol=0.1)


def test_images_that_are_no_numbers_are_set_aside(folder: Path) -> None:
    pixels = np.array(open_stack("images.mrcs"))
    pixels[4] = np.nan
    write_stack("images.mrcs", pixels, PIXEL)
    recorder = substituted(output="out")
    assert "000005@images.mrcs" in recorder.warnings[0]
    after = read_particles("out/particles_substituted.star")
    assert len(after) == 299 and after.table["rlnImageOriginalName"][4] == "000006@images.mrcs"
    assert split_image_name(after.table["rlnImageName"][4])[1] == 4


def test_true_poses_do_not_overfit(folder: Path) -> None:
    """The whole way: particles, substitution, half maps of each, FSC. Poses are not refined, so nothing over-fits."""
    substituted(output="Substituted")
    for name, star in (("a", "p.star"), ("b", "Substituted/particles_substituted.star")):
        for half in (1, 2):
            options = {"input": star, "output": f"{name}_half{half}.mrc", "ctf": True, "subset": half}
            reconstruct(ReconstructParameters(**options), Context())
    recorder = compared(output="Check")
    figures = dict(recorder.events)["overfitting"]
    # Beyond shell 8 there are few hundred independent samples a shell.
    assert abs(figures["feigned_fsc"]) < 0.1 and not recorder.warnings
    blocks = read_star("Check/overfitting.star")
    curve = blocks["fsc"]
    assert curve["vitreaFscOriginal"][:6].min() > 0.8 and curve["vitreaFscSubstituted"][:5].min() > 0.8
    assert curve["rlnFourierShellCorrelationCorrected"][8:11] == pytest.approx(
        curve["vitreaFscOriginal"][8:11], abs=0.2
    )
    assert figures["resolution_angstrom"] == pytest.approx(blocks["general"]["rlnFinalResolution"])


def test_overfitting_is_told(in_tmp: Path) -> None:
    write_halves("a", 0.7, 1)
    write_halves("b", 0.5, 2)
    recorder = compared(output="out")
    assert "over-fits" in recorder.warnings[0]
    blocks = read_star("out/overfitting.star")
    general, curve = blocks["general"], blocks["fsc"]
    assert general["vitreaFeignedFsc"] == pytest.approx(0.5, abs=0.06)
    # Shells 8 to 12; shell 6 is at 20 Å. (0.7 - 0.5) / (1 - 0.5) = 0.4.
    assert curve["rlnFourierShellCorrelationCorrected"][8:].mean() == pytest.approx(0.4, abs=0.1)
    assert np.array_equal(curve["rlnFourierShellCorrelationCorrected"][:8], curve["vitreaFscOriginal"][:8])
    assert Path("out/overfitting.png").read_bytes()[1:4] == b"PNG"
    assert "over-fitting" in Path("out/report.html").read_text()
    plain = dict(recorder.events)["overfitting"]
    write_map("mask.mrc", Map(sphere_mask(SIZE, 8.0, 2.0), PIXEL))
    for options in ({"mask": "mask.mrc"}, {"resolution": 12.0}, {"pixel_size": 4.0}):
        assert dict(compared(**options).events)["overfitting"] != plain, options


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("overfitting --half1 a_half1.mrc --substituted-half1 a_half1.mrc --resolution 20", "is the same map as"),
        ("overfitting --half1 a_half1.mrc --substituted-half1 none_half1.mrc --resolution 20", "none_half1.mrc"),
        ("overfitting --half1 a_half1.mrc --substituted-half1 b_half1.mrc --resolution 5", "--resolution 5"),
        ("overfitting --half1 a_half1.mrc --substituted-half1 small_half1.mrc --resolution 20", "box"),
        ("substitution --i nothing.star --resolution 20", "nothing.star"),
        ("substitution --i p.star --resolution 300", "--resolution 300"),
    ],
)
def test_bad_input_is_one_sentence(folder: Path, line: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    write_halves("a", 0.5, 1)
    write_halves("b", 0.5, 2)
    for half in (1, 2):
        noise = np.random.default_rng(half).normal(size=(16, 16, 16)).astype(np.float32)
        write_map(f"small_half{half}.mrc", Map(noise, PIXEL))
    assert main(["validate", *line.split(), "--o", "bad"]) == 2
    told = capsys.readouterr().err.strip()
    assert message in told and "\n" not in told
    assert not Path("bad").exists()
