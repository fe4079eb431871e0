"""``vitrea postprocess``: files as RELION writes them, options that matter, mistakes that are named."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import starfile
from numpy.typing import NDArray

from vitrea.cli.main import main
from vitrea.formats.mrc import read_map, write_map
from vitrea.jobs.base import Context
from vitrea.jobs.postprocess import JOB
from vitrea.maps.masking import lowpass_density, sphere_mask
from vitrea.records.errors import InputError
from vitrea.records.map import Map
from vitrea.records.recorder import SilentRecorder

VOXEL, SIZE = 2.5, 32


@pytest.fixture
def halves(tmp_path: Path) -> Path:
    """Write two half maps of a noisy ball with texture, a mask and an MTF; return the first half's path."""
    generator = np.random.default_rng(0)
    texture = sphere_mask(SIZE, 9.0, 2.0) * (1.5 + generator.normal(size=(SIZE,) * 3))
    signal = lowpass_density(texture.astype(np.float32), 8.0, VOXEL)
    for half in (1, 2):
        noisy = signal + generator.normal(0, 0.25, signal.shape)
        write_map(tmp_path / f"run_half{half}_unfil.mrc", Map(noisy.astype(np.float32), VOXEL))
    write_map(tmp_path / "mask.mrc", Map(sphere_mask(SIZE, 10.0, 4.0), VOXEL))
    rows = "".join(f"{x:.3f} {1 - x:.4f}\n" for x in np.linspace(0, 0.5, 26))
    (tmp_path / "mtf.star").write_text(f"data_\nloop_\n_rlnResolutionInversePixel #1\n_rlnMtfValue #2\n{rows}")
    return tmp_path / "run_half1_unfil.mrc"


def run(half1: Path, **values: Any) -> SilentRecorder:
    recorder = SilentRecorder()
    output = values.pop("output", half1.parent / "out/post")
    JOB.run(JOB.parameters(half1=half1, output=output, **values), Context(recorder, "vitrea postprocess"))
    return recorder


def density(half1: Path, name: str = "post.mrc") -> NDArray[np.float32]:
    return read_map(half1.parent / "out" / name).voxels


def test_all_files_are_written_with_relions_names_and_labels(halves: Path) -> None:
    folder = halves.parent
    recorder = run(
        halves, mask=folder / "mask.mrc", mtf=folder / "mtf.star", mtf_pixel_size=1.25, auto_bfactor=True, fit_lowest=12
    )
    written = {path.name for path in (folder / "out").iterdir()}
    assert written == {"post.mrc", "post_masked.mrc", "post.star", "post_fsc.xml", "post_fsc.png", "post_guinier.png"}
    blocks = starfile.read(folder / "out/post.star", always_dict=True)
    general, fsc, guinier = blocks["general"], blocks["fsc"], blocks["guinier"]
    assert general["rlnUnfilteredMapHalf2"] == str(folder / "run_half2_unfil.mrc")
    assert general["rlnMaskName"] == str(folder / "mask.mrc")
    assert general["rlnBfactorUsedForSharpening"] == pytest.approx(4 * general["rlnFittedSlopeGuinierPlot"])
    assert list(fsc) == [
        "rlnSpectralIndex",
        "rlnResolution",
        "rlnAngstromResolution",
        "rlnFourierShellCorrelationCorrected",
        "rlnFourierShellCorrelationParticleMaskFraction",
        "rlnFourierShellCorrelationUnmaskedMaps",
        "rlnFourierShellCorrelationMaskedMaps",
        "rlnCorrectedFourierShellCorrelationPhaseRandomizedMaskedMaps",
    ]
    assert list(guinier) == [
        "rlnResolutionSquared",
        "rlnLogAmplitudesOriginal",
        "rlnLogAmplitudesMTFCorrected",
        "rlnLogAmplitudesWeighted",
        "rlnLogAmplitudesSharpened",
        "rlnLogAmplitudesIntercept",
    ]
    assert len(fsc) == len(guinier) == SIZE // 2 + 1
    assert fsc["rlnAngstromResolution"][4] == pytest.approx(SIZE * VOXEL / 4)
    assert fsc["rlnAngstromResolution"][0] == pytest.approx(999.0)
    points = ElementTree.parse(folder / "out/post_fsc.xml").getroot()
    assert points.tag == "fsc"
    assert [float(point.findtext("y", "")) for point in points] == pytest.approx(
        fsc["rlnFourierShellCorrelationCorrected"].tolist(), abs=1e-5
    )
    events = dict(recorder.events)
    assert events["postprocess"]["resolution_angstrom"] == pytest.approx(general["rlnFinalResolution"])
    assert np.allclose(density(halves, "post_masked.mrc"), density(halves) * read_map(folder / "mask.mrc").voxels)
    assert all((folder / f"out/post_{name}.png").read_bytes()[1:4] == b"PNG" for name in ("fsc", "guinier"))


def test_relions_command_line_runs_and_gives_relions_map(
    shared_reference: Path, shared_data: Path, in_tmp: Path
) -> None:
    reference = shared_reference / "betagal_real"
    line = (
        f"--i {reference}/refine3d/run_half1_class001_unfil.mrc --o post/post --angpix 3.54"
        f" --mask {reference}/postprocess/mask.mrc --mtf {shared_data}/betagal_real/mtf_k2_200kV.star"
        " --mtf_angpix 0.885 --auto_bfac --autob_lowres 10"
    )
    assert main(["postprocess", *line.split()]) == 0
    for name in ("post", "post_masked"):
        pair = [read_map(path / f"{name}.mrc").voxels.ravel() for path in (in_tmp / "post", reference / "postprocess")]
        assert np.corrcoef(*pair)[0, 1] > 0.999
    ours, theirs = (starfile.read(folder / "post.star") for folder in (in_tmp / "post", reference / "postprocess"))
    assert set(ours["general"]) == set(theirs["general"])
    assert all(list(ours[block]) == list(theirs[block]) for block in ("fsc", "guinier"))


def test_without_a_mask_there_is_no_masked_map(halves: Path) -> None:
    run(halves)
    assert not (halves.parent / "out/post_masked.mrc").exists()
    fsc = starfile.read(halves.parent / "out/post.star", always_dict=True)["fsc"]
    assert "rlnFourierShellCorrelationMaskedMaps" not in fsc
    assert (fsc["rlnFourierShellCorrelationCorrected"] == fsc["rlnFourierShellCorrelationUnmaskedMaps"]).all()


def test_an_automatic_mask_is_used_and_written(halves: Path) -> None:
    run(halves, auto_mask=True, force_mask=True)
    mask = density(halves, "post_automask.mrc")
    assert mask[SIZE // 2, SIZE // 2, SIZE // 2] == 1
    assert mask[0, 0, 0] == 0
    assert np.allclose(density(halves, "post_masked.mrc"), density(halves) * mask)


OPTIONS: list[dict[str, Any]] = [
    {"bfactor": -80.0},
    {"auto_bfactor": True, "fit_lowest": 12.0},
    {"auto_bfactor": True, "fit_lowest": 12.0, "fit_highest": 7.0},
    {"skip_fsc_weighting": True},
    {"low_pass": 15.0},
    {"low_pass": 15.0, "filter_edge_width": 6.0},
    {"mtf": "mtf.star", "mtf_pixel_size": 1.25},
    {"mtf": "mtf.star", "mtf_pixel_size": 2.5},
    {"pixel_size": 2.51, "bfactor": -80.0},
    {"mask": "mask.mrc", "force_mask": True},
    {"mask": "mask.mrc", "force_mask": True, "random_seed": 3},
    {"mask": "mask.mrc", "force_mask": True, "randomise_at_fsc": 0.95},
]


def test_every_option_changes_the_map(halves: Path) -> None:
    run(halves)
    seen = {"no option": density(halves)}
    for values in OPTIONS:
        files = {key: halves.parent / value for key, value in values.items() if key in ("mtf", "mask")}
        run(halves, **{**values, **files})
        found = density(halves)
        same = [other for other, earlier in seen.items() if np.array_equal(found, earlier)]
        assert not same, f"{values} gives the same map as {same}"
        seen[str(values)] = found


def test_the_user_is_warned_of_what_does_not_work(halves: Path) -> None:
    guessed = run(halves, mtf=halves.parent / "mtf.star")
    assert any("--mtf_angpix is not given" in line for line in guessed.warnings)
    few = run(halves, auto_bfactor=True, fit_lowest=6.0)
    assert any("fewer than three shells" in line for line in few.warnings)
    differing = run(halves, pixel_size=3.0)
    assert any("using 3 Å per voxel" in line for line in differing.warnings)
    write_map(halves.parent / "tight.mrc", Map(sphere_mask(SIZE, 4.0, center=(10.0, 10.0, 0.0)), VOXEL))
    aside = run(halves, mask=halves.parent / "tight.mrc")
    assert any("--force_mask" in line for line in aside.warnings)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"half1": "missing_half1.mrc"}, "missing_half1.mrc does not exist"),
        ({"half1": "mask.mrc"}, "name the second half map with --i2"),
        ({"half2": "run_half1_unfil.mrc"}, "are the same map"),
        ({"half2": "small.mrc"}, "small.mrc has a box of 8 voxels"),
        ({"half2": "coarse.mrc"}, "differ by more than 1%"),
        ({"mask": "missing.mrc"}, "missing.mrc does not exist"),
        ({"mask": "run_half2_unfil.mrc"}, r"must lie in \[0, 1\]"),
        ({"mask": "zero.mrc"}, "is 0 everywhere"),
        ({"mask": "mask.mrc", "auto_mask": True}, "--mask or --auto_mask, not both"),
        ({"auto_bfactor": True, "bfactor": -50.0}, "--auto_bfac or --adhoc_bfac, not both"),
        ({"auto_bfactor": True, "fit_highest": 20.0}, "must be finer than --autob_lowres"),
        ({"mtf": "bad.star"}, "is no MTF"),
        ({"half1": "noise_half1.mrc", "auto_mask": True}, "give one with --mask"),
    ],
)
def test_mistakes_are_named_and_nothing_is_written(halves: Path, values: dict[str, Any], sentence: str) -> None:
    folder = halves.parent
    generator = np.random.default_rng(5)
    write_map(folder / "small.mrc", Map(generator.normal(size=(8, 8, 8)).astype(np.float32), VOXEL))
    write_map(folder / "coarse.mrc", Map(generator.normal(size=(SIZE,) * 3).astype(np.float32), 1.02 * VOXEL))
    write_map(folder / "zero.mrc", Map(np.zeros((SIZE,) * 3, dtype=np.float32), VOXEL))
    for half in (1, 2):
        noise = generator.normal(size=(SIZE,) * 3).astype(np.float32)
        write_map(folder / f"noise_half{half}.mrc", Map(noise, VOXEL))
    (folder / "bad.star").write_text("data_\nloop_\n_rlnVoltage #1\n300\n")
    filled = {key: folder / value if isinstance(value, str) else value for key, value in values.items()}
    with pytest.raises(InputError, match=sentence):
        run(filled.pop("half1", halves), **filled)
    assert not (folder / "out").exists()
