"""``vitrea postprocess``: files as RELION writes them, options that matter, mistakes that are named."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
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
from vitrea.maps.masking import lowpass_density, soften, sphere_mask
from vitrea.records.errors import InputError
from vitrea.records.map import Map
from vitrea.records.recorder import SilentRecorder

VOXEL, SIZE = 2.5, 32


@pytest.fixture
def halves(tmp_path: Path, write_halves: Callable[..., Any]) -> Path:
    """Write two half maps of a noisy ball with texture, a mask and an MTF; return the first half's path."""
    write_halves(tmp_path, VOXEL, 0.25, mask=(10.0, 4.0), ending="_unfil")
    rows = "".join(f"{x:.3f} {1 - x:.4f}\n" for x in np.linspace(0, 0.5, 26))
    (tmp_path / "mtf.star").write_text(f"data_\nloop_\n_rlnResolutionInversePixel #1\n_rlnMtfValue #2\n{rows}")
    return tmp_path / "run_half1_unfil.mrc"


def run(half1: Path, **values: Any) -> SilentRecorder:
    recorder = SilentRecorder()
    output = values.pop("output", half1.parent / "out/post")
    JOB.run(JOB.parameters(half1=half1, output=output, **values), Context(recorder, "vitrea postprocess"))
    return recorder


@pytest.fixture
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the plots, which take most of the time of a run on a small map."""
    monkeypatch.setattr("vitrea.jobs.postprocess_report.write_pictures", lambda *arguments: None)


def density(half1: Path, name: str = "post.mrc") -> NDArray[np.float32]:
    return read_map(half1.parent / "out" / name).voxels


def test_all_files_are_written_with_relions_names_and_labels(halves: Path) -> None:
    folder = halves.parent
    recorder = run(
        halves, mask=folder / "mask.mrc", mtf=folder / "mtf.star", mtf_pixel_size=1.25, auto_bfactor=True, fit_lowest=12
    )
    written = {path.name for path in (folder / "out").iterdir()}
    pictures = {"post_fsc.png", "post_guinier.png", "post_report.html"}
    assert written == {"post.mrc", "post_masked.mrc", "post.star", "post_fsc.xml", *pictures}
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
    events = dict(recorder.events)
    assert events["postprocess"]["resolution_angstrom"] == pytest.approx(general["rlnFinalResolution"])
    assert np.allclose(density(halves, "post_masked.mrc"), density(halves) * read_map(folder / "mask.mrc").voxels)
    assert all((folder / f"out/post_{name}.png").read_bytes()[1:4] == b"PNG" for name in ("fsc", "guinier"))


@pytest.mark.usefixtures("no_pictures")
@pytest.mark.parametrize("mask", ["soft.mrc", "tight.mrc", ""])
def test_half_maps_of_pure_noise_have_no_resolution(tmp_path: Path, mask: str) -> None:
    """Neither a soft sphere, nor a ragged mask of 3% of the box, nor the mask chosen make noise pass for a map."""
    rng = np.random.default_rng(8)
    size = 48
    for half in (1, 2):
        noise = rng.normal(size=(size,) * 3).astype(np.float32)
        write_map(tmp_path / f"run_half{half}_unfil.mrc", Map(noise, 2.0))
    ragged = lowpass_density(rng.normal(size=(size,) * 3).astype(np.float32), 16.0, 2.0) * sphere_mask(size, 14.0, 4.0)
    write_map(tmp_path / "soft.mrc", Map(sphere_mask(size, 14.0, 6.0), 2.0))
    write_map(tmp_path / "tight.mrc", Map(soften(ragged > 1.2 * ragged.std(), 3.0), 2.0))
    half1 = tmp_path / "run_half1_unfil.mrc"
    if not mask:
        with pytest.raises(InputError, match="no density stands out of the noise"):
            run(half1, auto_mask=True)
        return
    recorder = run(half1, mask=tmp_path / mask, force_mask=True)
    assert dict(recorder.events)["postprocess"]["resolution_angstrom"] == np.inf
    assert any(text["text"].startswith("No resolution") for name, text in recorder.events if name == "text")
    fsc = starfile.read(tmp_path / "out/post.star", always_dict=True)["fsc"]
    noise_band = starfile.read(tmp_path / "out/post.star", always_dict=True)["noise"]
    corrected = fsc["rlnFourierShellCorrelationCorrected"].to_numpy()
    assert (corrected[3:] < np.maximum(0.143, 3 * noise_band.iloc[3:, -1].to_numpy())).all()


@pytest.mark.usefixtures("no_pictures")
def test_the_fsc_for_emdb_is_as_emdb_has_it(halves: Path) -> None:
    """One ``fsc`` of ``coordinate``s; x in 1/Å rises, y is the correlation; plain decimals."""
    run(halves, mask=halves.parent / "mask.mrc")
    path = halves.parent / "out/post_fsc.xml"
    root = ElementTree.parse(path).getroot()
    assert root.tag == "fsc"
    assert set(root.attrib) == {"title", "xaxis", "yaxis"}
    assert (root.get("xaxis"), root.get("yaxis")) == ("Resolution (A-1)", "Correlation Coefficient")
    assert all([one.tag for one in point] == ["x", "y"] for point in root)
    x, y = (np.array([float(point.findtext(name, "")) for point in root]) for name in ("x", "y"))
    assert (np.diff(x) > 0).all()
    assert np.abs(y).max() <= 1
    assert "e-" not in path.read_text()
    fsc = starfile.read(halves.parent / "out/post.star", always_dict=True)["fsc"]
    assert np.allclose(x, fsc["rlnResolution"], atol=1e-6)
    assert np.allclose(y, fsc["rlnFourierShellCorrelationCorrected"], atol=1e-6)


def test_where_the_curves_fall_is_told_in_log_star_and_report(halves: Path) -> None:
    recorder = run(halves, auto_mask=True, force_mask=True)
    blocks = starfile.read(halves.parent / "out/post.star", always_dict=True)
    table = blocks["resolutions"].set_index(["vitreaFscCurve", "vitreaFscThreshold"])["rlnAngstromResolution"]
    columns = {
        "unmasked": "rlnFourierShellCorrelationUnmaskedMaps",
        "masked": "rlnFourierShellCorrelationMaskedMaps",
        "randomised": "rlnCorrectedFourierShellCorrelationPhaseRandomizedMaskedMaps",
        "corrected": "rlnFourierShellCorrelationCorrected",
    }
    lines = [str(values["text"]) for name, values in recorder.events if name == "text"]
    page = (halves.parent / "out/post_report.html").read_text()
    for name, column in columns.items():
        curve = blocks["fsc"][column].to_numpy()
        for threshold in (0.5, 0.143):
            at = table[name, threshold]
            shell = SIZE * VOXEL / at
            assert np.interp(shell, np.arange(len(curve)), curve) == pytest.approx(threshold, abs=1e-4)
            assert any(line.startswith(name) and f"{at:.2f} Å" in line for line in lines)
            assert f"{at:.2f} Å at FSC = {threshold:g}" in page
    assert f"threshold {blocks['general']['vitreaMaskThreshold']:.5g} (chosen)" in page


@pytest.mark.usefixtures("no_pictures")
def test_half_maps_are_written_for_validation(halves: Path) -> None:
    run(halves, mask=halves.parent / "mask.mrc", force_mask=True, bfactor=-60.0, write_half_maps=True)
    first, second = (density(halves, f"post_half{number}.mrc") for number in (1, 2))
    assert np.allclose((first + second) / 2, density(halves), atol=1e-5)
    assert np.corrcoef(first.ravel(), second.ravel())[0, 1] < 0.999
    mask = read_map(halves.parent / "mask.mrc").voxels
    assert np.allclose(density(halves, "post_half2_masked.mrc"), second * mask)


@pytest.mark.usefixtures("no_pictures")
def test_the_molecular_weight_adds_its_curve(halves: Path) -> None:
    run(halves, mask=halves.parent / "mask.mrc", molecular_weight=60.0)
    blocks = starfile.read(halves.parent / "out/post.star", always_dict=True)
    factor = 0.476 * (SIZE * VOXEL) ** 3 * 0.81 / 60_000
    assert blocks["general"]["rlnParticleBoxFractionMolecularWeight"] == pytest.approx(factor, rel=1e-5)
    curve, plain = (
        blocks["fsc"][f"rlnFourierShellCorrelation{name}"] for name in ("ParticleMolWeight", "UnmaskedMaps")
    )
    assert np.allclose(curve, factor * plain / (1 + (factor - 1) * plain), atol=1e-4)


@pytest.mark.usefixtures("no_pictures")
def test_the_start_of_a_runs_names_is_enough(halves: Path) -> None:
    """RELION-1.3 took --i run for run_half1_class001_unfil.mrc."""
    for number in (1, 2):
        (halves.parent / f"run_half{number}_unfil.mrc").rename(halves.parent / f"it_half{number}_class001_unfil.mrc")
    run(halves.parent / "it")
    general = starfile.read(halves.parent / "out/post.star", always_dict=True)["general"]
    assert general["rlnUnfilteredMapHalf2"] == str(halves.parent / "it_half2_class001_unfil.mrc")


@pytest.mark.usefixtures("no_pictures")
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
        assert np.corrcoef(*pair)[0, 1] > 0.999999
    ours, theirs = (starfile.read(folder / "post.star") for folder in (in_tmp / "post", reference / "postprocess"))
    assert set(ours["general"]) == set(theirs["general"])
    assert all(list(ours[block]) == list(theirs[block]) for block in ("fsc", "guinier"))
    for label, value in theirs["general"].items():
        if isinstance(value, float):
            assert ours["general"][label] == pytest.approx(value, rel=2e-5), label
    for block in ("fsc", "guinier"):
        for column in theirs[block]:
            assert np.abs(ours[block][column] - theirs[block][column]).max() < 6e-5, column
    points = [
        ElementTree.parse(path / "post_fsc.xml").getroot() for path in (in_tmp / "post", reference / "postprocess")
    ]
    for name in ("x", "y"):
        ours, theirs = (np.array([float(point.findtext(name, "")) for point in root]) for root in points)
        assert np.abs(ours - theirs).max() < 2e-5


def test_noise_is_told_to_have_no_resolution(tmp_path: Path) -> None:
    """Half maps that oppose each other, so that chance cannot make them agree."""
    voxels = np.random.default_rng(3).normal(size=(16,) * 3).astype(np.float32)
    for half, sign in ((1, 1), (2, -1)):
        write_map(tmp_path / f"run_half{half}.mrc", Map(sign * voxels, VOXEL))
    recorder = run(tmp_path / "run_half1.mrc")
    assert any("do not agree even at low resolution" in warning for warning in recorder.warnings)
    assert any(
        str(event.get("text")).startswith("No resolution: the FSC is below 0.143") for _, event in recorder.events
    )
    page = (tmp_path / "out/post_report.html").read_text()
    assert "No resolution" in page and "inf Å" not in page
    general = starfile.read(tmp_path / "out/post.star", always_dict=True)["general"]
    assert general["rlnFinalResolution"] == 999  # worse than any, and a number


@pytest.mark.usefixtures("no_pictures")
def test_without_a_mask_there_is_no_masked_map(halves: Path) -> None:
    run(halves)
    assert not (halves.parent / "out/post_masked.mrc").exists()
    fsc = starfile.read(halves.parent / "out/post.star", always_dict=True)["fsc"]
    assert "rlnFourierShellCorrelationMaskedMaps" not in fsc
    assert (fsc["rlnFourierShellCorrelationCorrected"] == fsc["rlnFourierShellCorrelationUnmaskedMaps"]).all()


@pytest.mark.usefixtures("no_pictures")
def test_an_automatic_mask_is_used_and_written(halves: Path) -> None:
    run(halves, auto_mask=True, force_mask=True)
    mask = density(halves, "post_automask.mrc")
    assert mask[SIZE // 2, SIZE // 2, SIZE // 2] == 1
    assert mask[0, 0, 0] == 0
    assert np.allclose(density(halves, "post_masked.mrc"), density(halves) * mask)


@pytest.mark.usefixtures("no_pictures")
def test_the_threshold_of_an_automatic_mask_is_told_and_gives_the_same_mask(halves: Path) -> None:
    recorder = run(halves, auto_mask=True, force_mask=True)
    chosen = density(halves, "post_automask.mrc")
    general = starfile.read(halves.parent / "out/post.star", always_dict=True)["general"]
    threshold = general["vitreaMaskThreshold"]
    lines = [str(values["text"]) for name, values in recorder.events if name == "text"]
    assert any(f"threshold {threshold:.5g} (chosen)" in line for line in lines)
    run(halves, auto_mask=True, force_mask=True, mask_threshold=threshold)
    again = density(halves, "post_automask.mrc")
    assert (again >= chosen).all()  # small pieces stay where the threshold is given
    assert np.mean(again != chosen) < 0.01
    general = starfile.read(halves.parent / "out/post.star", always_dict=True)["general"]
    assert general["vitreaMaskThresholdChosen"] == 0


@pytest.mark.usefixtures("no_pictures")
@pytest.mark.usefixtures("no_pictures")
def test_the_log_tells_the_mask_the_curves_and_what_looks_wrong(halves: Path) -> None:
    output = halves.parent / "out/post"
    assert main(["postprocess", "--i", str(halves), "--auto_mask", "--adhoc_bfac", "50", "--o", str(output)]) == 0
    log = (halves.parent / "out/post.log").read_text()
    assert "(chosen) of the average low-pass filtered to 15 Å" in log
    assert "corrected" in log
    assert "positive B-factor" in log


@pytest.mark.parametrize(
    "values", [{"mask_threshold": 1.0}, {"mask_extend": 4.0}, {"mask_edge": 9.0}, {"mask_lowpass": 25.0}]
)
def test_every_option_of_the_automatic_mask_changes_it(halves: Path, values: dict[str, Any]) -> None:
    run(halves, auto_mask=True, force_mask=True)
    before = density(halves, "post_automask.mrc")
    run(halves, auto_mask=True, force_mask=True, **values)
    assert not np.array_equal(before, density(halves, "post_automask.mrc"))


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
    {"mask": "mask.mrc", "force_mask": True, "random_draws": 0},
    {"mask": "mask.mrc", "force_mask": True, "random_seed": 3},
    {"mask": "mask.mrc", "force_mask": True, "randomise_at_fsc": 0.95},
    {"mask": "mask.mrc", "force_mask": True, "randomise_at": 16.0},
    {"mask": "mask.mrc", "force_mask": True, "random_draws": 3},
]


@pytest.mark.usefixtures("no_pictures")
def test_noise_in_the_mask_and_the_draws_of_random_phases_are_told(halves: Path) -> None:
    mask = {"mask": halves.parent / "mask.mrc", "force_mask": True}
    for values, draws, words in (({}, None, "one draw, RELION's"), ({"random_draws": 0}, 0, "the mean of all draws")):
        lines = [str(event.get("text")) for _, event in run(halves, **mask, **values).events]
        assert sum(line.startswith(f"random phases: {words}") for line in lines) == 1
        blocks = starfile.read(halves.parent / "out/post.star", always_dict=True)
        assert blocks["general"].get("vitreaRandomPhaseDraws") == draws
        noise = blocks["noise"]["vitreaFscNoiseDeviation"].to_numpy()
        assert len(noise) == SIZE // 2 + 1 and (noise > 0).all() and noise[-1] < 0.1 < noise[3]


@pytest.mark.usefixtures("no_pictures")
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


@pytest.mark.usefixtures("no_pictures")
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
    fsc = starfile.read(halves.parent / "out/post.star", always_dict=True)["fsc"]
    curves = [fsc[f"rlnFourierShellCorrelation{name}"] for name in ("Corrected", "UnmaskedMaps", "MaskedMaps")]
    assert (curves[0] == curves[1]).all()
    assert (curves[2] != curves[1]).any()


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
        ({"mtf": "percent.star"}, "is it in percent"),
        ({"mtf": "twice.star"}, "must rise from row to row"),
        ({"mtf": "k2_300kV.star", "voltage": 200.0}, "is for 300 kV, but --voltage is 200 kV"),
        ({"voltage": 200.0}, "--voltage says something about --mtf"),
        ({"mtf_pixel_size": 1.0}, "--mtf_angpix says something about --mtf"),
        ({"mask_threshold": 0.1}, "--inimask_threshold says how --auto_mask makes a mask"),
        ({"mask": "mask.mrc", "mask_edge": 3.0}, "--width_mask_edge says how --auto_mask"),
        ({"force_mask": True}, "--force_mask is about the mask"),
        ({"random_draws": 3}, "--random_draws is about the mask"),
        ({"auto_mask": True, "mask_threshold": 500.0}, "leaves no voxel in the mask"),
        ({"mask": "mask.mrc", "randomise_at": 3.0}, "must lie between Nyquist"),
        ({"mask": "mask.mrc", "randomise_at": 300.0}, "must lie between Nyquist"),
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
    head = "data_\nloop_\n_rlnResolutionInversePixel #1\n_rlnMtfValue #2\n"
    (folder / "percent.star").write_text(f"{head}0 100\n0.5 40\n")
    (folder / "twice.star").write_text(f"{head}0 1\n0.2 0.8\n0.2 0.7\n")
    (folder / "k2_300kV.star").write_text(f"{head}0 1\n0.5 0.4\n")
    filled = {key: folder / value if isinstance(value, str) else value for key, value in values.items()}
    with pytest.raises(InputError, match=sentence):
        run(filled.pop("half1", halves), **filled)
    assert not (folder / "out").exists()


CURVE = {0.0: 1.0, 0.125: 0.9, 0.25: 0.75, 0.375: 0.55, 0.5: 0.4}


def write_mtf(path: Path, curve: dict[float, float] = CURVE, block: str = "") -> Path:
    rows = "".join(f"{frequency} {value}\n" for frequency, value in curve.items())
    path.write_text(f"data_{block}\nloop_\n_rlnResolutionInversePixel #1\n_rlnMtfValue #2\n{rows}")
    return path


def write_run(folder: Path, voltage: float, pixel: float) -> None:
    optics = "_rlnOpticsGroup #1\n_rlnVoltage #2\n_rlnMicrographOriginalPixelSize #3\n"
    (folder / "run_data.star").write_text(
        f"# version 30001\n\ndata_optics\n\nloop_\n{optics}1 {voltage} {pixel}\n\n"
        "# version 30001\n\ndata_particles\n\nloop_\n_rlnImageName #1\n1@stack.mrcs\n"
    )


@pytest.mark.usefixtures("no_pictures")
def test_the_detector_is_told_and_its_pixels_are_looked_up(halves: Path) -> None:
    write_run(halves.parent, 300.0, 1.25)
    recorder = run(halves, mtf=write_mtf(halves.parent / "mtf_k2_300kV.star"))
    lines = [str(values["text"]) for name, values in recorder.events if name == "text"]
    assert any("MTF of Gatan K2 at 300 kV, pixels of 1.25 Å" in line and "run_data.star" in line for line in lines)
    assert not any("kV" in line or "angpix" in line for line in recorder.warnings)
    looked_up = density(halves)
    run(halves, mtf=halves.parent / "mtf_k2_300kV.star", mtf_pixel_size=1.25)
    assert np.array_equal(looked_up, density(halves))


@pytest.mark.usefixtures("no_pictures")
def test_a_detector_for_another_voltage_is_warned_of(halves: Path) -> None:
    write_run(halves.parent, 200.0, 1.25)
    recorder = run(halves, mtf=write_mtf(halves.parent / "mtf.star", block="mtf_k2_300kv"))
    assert any("is for 300 kV, but the particles of this run were recorded at 200 kV" in w for w in recorder.warnings)
    recorder = run(halves, mtf=halves.parent / "mtf.star", voltage=300.0)
    assert not any("kV" in line for line in recorder.warnings)


@pytest.mark.usefixtures("no_pictures")
def test_names_that_contradict_each_other_are_warned_of(halves: Path) -> None:
    wrong = run(halves, mtf=write_mtf(halves.parent / "mtf_falcon2_300kV.star", block="mtf_k2_300kv"))
    assert any("that of Falcon 2 at 300 kV, but its data block as that of Gatan K2" in w for w in wrong.warnings)
    wrong = run(halves, mtf=write_mtf(halves.parent / "mtf_k2_300kV.star", block="mtf_k2_200kv"))
    assert any("named as that of Gatan K2 at 300 kV, but its data block" in line for line in wrong.warnings)
    right = run(halves, mtf=write_mtf(halves.parent / "mtf_k2_300kV.star"))
    assert not any("named as" in line for line in right.warnings)
    dim = run(halves, mtf=write_mtf(halves.parent / "dim.star", {0.0: 0.6, 0.5: 0.3}))
    assert any("is 0.60 at frequency 0" in line for line in dim.warnings)
    large = run(halves, mtf=halves.parent / "mtf_k2_300kV.star", mtf_pixel_size=5.0)
    assert any("are larger than the map's" in line for line in large.warnings)
