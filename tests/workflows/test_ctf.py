"""``vitrea ctf`` on files: micrographs, movies, spectra, bad input, going on, and another program run instead."""

from __future__ import annotations

import math
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from vitrea.formats.micrograph_files import read_micrographs, read_movies, write_micrographs
from vitrea.formats.mrc import open_stack, read_header, write_stack
from vitrea.formats.star import read_star
from vitrea.jobs.base import Context
from vitrea.jobs.ctf import EXECUTABLE_VARIABLE, CtfParameters, run
from vitrea.optics.ctf import ctf
from vitrea.records.errors import InputError, JobError
from vitrea.records.optics import Optics
from vitrea.records.recorder import SilentRecorder
from vitrea.thon_rings.spectrum import amplitude_spectrum

PIXEL = 1.5
OPTICS = Optics(PIXEL, 0, 300.0, 2.7, 0.1)
GIVEN = {"pixel_size": PIXEL, "voltage": 300.0, "spherical_aberration": 2.7, "amplitude_contrast": 0.1}
SMALL = {**GIVEN, "box": 256, "threads": 2, "plots": False}


def micrograph(
    u: float, v: float, angle: float, size: int = 512, signal: float = 1.0, seed: int = 0
) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    y = torch.fft.fftfreq(size, PIXEL, dtype=torch.float64)[:, None].expand(-1, size // 2 + 1)
    x = torch.fft.rfftfreq(size, PIXEL, dtype=torch.float64)[None].expand(size, -1)
    transfer = ctf(y, x, OPTICS, torch.tensor([[u, v, angle]]), b_factor=torch.tensor([40.0]))[0].numpy()
    seen = np.fft.irfft2(np.fft.rfft2(rng.standard_normal((size, size))) * transfer, s=(size, size))
    return (np.sqrt(signal) * seen + rng.standard_normal((size, size))).astype(np.float32)


def estimate(recorder: SilentRecorder | None = None, **values: object) -> SilentRecorder:
    recorder = recorder or SilentRecorder()
    run(CtfParameters(**{**SMALL, **values}), Context(recorder))  # type: ignore[arg-type]
    return recorder


@pytest.fixture
def folder(in_tmp: Path) -> Path:
    """Two good micrographs of different defocus in Micrographs/."""
    (in_tmp / "Micrographs").mkdir()
    write_stack("Micrographs/a.mrc", micrograph(12000, 11500, 30), PIXEL)
    write_stack("Micrographs/b.mrc", micrograph(20000, 18500, -60, seed=1), PIXEL)
    return in_tmp


def test_images_by_name_without_an_import(folder: Path) -> None:
    recorder = estimate(input=("Micrographs/*.mrc",), output="ctf.star", plots=True)
    found = read_micrographs("ctf.star", require_ctf=True)
    assert [str(name) for name in found.names] == ["Micrographs/a.mrc", "Micrographs/b.mrc"]
    np.testing.assert_allclose(found.defocus[:, :2], [[12000, 11500], [20000, 18500]], atol=120)
    np.testing.assert_allclose(found.defocus[1, 2], -60, atol=5)
    assert (found.table["rlnCtfMaxResolution"] < 7).all()
    assert (found.table["rlnCtfFigureOfMerit"] > 0.15).all()
    np.testing.assert_allclose(found.table["rlnCtfAstigmatism"], found.defocus[:, 0] - found.defocus[:, 1], atol=1e-3)
    root = Path("ctf/Micrographs/a")
    image = str(found.table["rlnCtfImage"][0])
    assert image == f"{root}.ctf:mrc"
    assert read_header(f"{root}.ctf").shape == (1, 256, 256)
    assert Path(f"{root}_ctf.png").read_bytes().startswith(b"\x89PNG")
    for ending in ("_avrot.txt", ".txt", "_ctffind4.log", "_ctf.star"):
        assert Path(f"{root}{ending}").exists()
    assert not recorder.warnings
    assert not Path("ctf/set_aside.star").exists()


def test_bad_micrographs_are_named_and_the_rest_goes_on(folder: Path) -> None:
    write_stack("Micrographs/c_constant.mrc", np.full((512, 512), 7.0, dtype=np.float32), PIXEL)
    write_stack("Micrographs/d_noise.mrc", np.random.default_rng(0).standard_normal((512, 512)), PIXEL)
    write_stack("Micrographs/e_small.mrc", micrograph(12000, 11500, 30)[:100, :512], PIXEL)
    content = Path("Micrographs/a.mrc").read_bytes()
    Path("Micrographs/f_truncated.mrc").write_bytes(content[: len(content) // 2])
    write_stack("Micrographs/g_stack.mrc", np.ones((3, 512, 512), dtype=np.float32), PIXEL)
    bad = micrograph(12000, 11500, 30)
    bad[5, 5] = np.nan
    write_stack("Micrographs/h_nan.mrc", bad, PIXEL)
    recorder = estimate(input=("Micrographs/*.mrc",), output="ctf.star")
    assert len(read_micrographs("ctf.star")) == 2
    aside = read_star("ctf/set_aside.star")["set_aside"]
    reasons = dict(zip(map(str, aside["rlnMicrographName"]), map(str, aside["vitreaReason"]), strict=True))  # type: ignore[index]
    assert len(reasons) == 6
    for name, said in {"c_constant": "constant", "d_noise": "no Thon rings", "e_small": "too small",
                       "f_truncated": "f_truncated", "g_stack": "3 images", "h_nan": "not finite"}.items():  # fmt: skip
        assert said in reasons[f"Micrographs/{name}.mrc"]
    assert any("c_constant" in one for one in recorder.warnings)
    assert any("1 more" in one for one in recorder.warnings)


def test_nothing_but_noise_is_an_error_of_the_job(in_tmp: Path) -> None:
    write_stack("noise.mrc", np.random.default_rng(0).standard_normal((512, 512)), PIXEL)
    with pytest.raises(JobError, match="no CTF"):
        estimate(input=("noise.mrc",), output="ctf.star")
    assert not Path("ctf.star").exists()


def test_going_on_keeps_what_was_fitted_with_the_same_settings(folder: Path) -> None:
    estimate(input=("Micrographs/*.mrc",), output="ctf.star")
    whole = Path("ctf.star").read_text()
    before = Path("ctf/Micrographs/a.ctf").stat().st_mtime_ns
    Path("ctf/Micrographs/b_ctf.star").unlink()
    recorder = estimate(input=("Micrographs/*.mrc",), output="ctf.star", only_do_unfinished=True)
    assert Path("ctf/Micrographs/a.ctf").stat().st_mtime_ns == before
    assert Path("ctf/Micrographs/b_ctf.star").exists()
    assert Path("ctf.star").read_text() == whole
    assert any("1 micrograph fitted before" in str(values) for _, values in recorder.events)
    other = estimate(input=("Micrographs/*.mrc",), output="ctf.star", only_do_unfinished=True, highest_resolution=6.0)
    assert not any("fitted before" in str(values) for _, values in other.events)


def test_movies_as_means_of_frames(in_tmp: Path) -> None:
    rng = np.random.default_rng(3)
    still = micrograph(15000, 14500, 10, signal=1.0, seed=3)
    frames = still[None] * 20 + 100 + 20 * rng.standard_normal((7, 512, 512))
    gain = rng.uniform(0.8, 1.2, size=(512, 512)).astype(np.float32)
    write_stack("gain.mrc", gain, PIXEL)
    write_stack("movie.mrcs", (frames / gain).astype(np.float32), PIXEL)
    estimate(input=("movie.mrcs",), output="plain.star", movies=True, average_frames=3)
    plain = read_movies("plain.star")
    gained = plain.with_columns({"rlnMicrographGainName": np.array(["gain.mrc"], dtype=object)})
    write_micrographs("movies.star", gained)
    estimate(input=("movies.star",), output="ctf.star", average_frames=3)
    first, second = (read_movies(name).table for name in ("plain.star", "ctf.star"))
    assert second["rlnDefocusU"][0] == pytest.approx(15000, abs=150)
    # The gain's pattern is noise to the rings: without it they are clearer.
    assert second["rlnCtfFigureOfMerit"][0] > 1.1 * first["rlnCtfFigureOfMerit"][0]
    with pytest.raises(JobError):
        estimate(input=("movie.mrcs",), output="no.star")


def test_frames_that_drift_are_aligned_before_they_are_averaged(in_tmp: Path) -> None:
    """27 Å of drift within each average leave no ring along it."""
    rng = np.random.default_rng(4)
    still = micrograph(15000, 14200, 10, signal=1.0, seed=3)
    frames = np.stack([np.roll(still, (3 * n, 5 * n), axis=(0, 1)) for n in range(8)]) * 20 + 100
    write_stack("movie.mrcs", (frames + 20 * rng.standard_normal(frames.shape)).astype(np.float32), PIXEL)
    estimate(input=("movie.mrcs",), output="ctf.star", movies=True)
    estimate(input=("movie.mrcs",), output="blurred.star", movies=True, align_frames=False)
    found, blurred = (read_movies(name).table for name in ("ctf.star", "blurred.star"))
    assert found["rlnDefocusU"][0] == pytest.approx(15000, abs=80)
    assert found["rlnDefocusV"][0] == pytest.approx(14200, abs=80)
    assert found["rlnCtfFigureOfMerit"][0] > 1.3 * blurred["rlnCtfFigureOfMerit"][0]


def test_given_spectra_and_sums_without_exposure_weighting(folder: Path) -> None:
    image = micrograph(20000, 18500, -60, seed=1)
    spectrum = amplitude_spectrum([image], PIXEL, 256)
    write_stack("b_PS.mrc", spectrum.amplitude, spectrum.pixel_size)
    estimate(input=("b_PS.mrc",), output="direct.star", amplitude_spectra=True)
    micrographs = read_micrographs("direct.star").rows([0])
    names = {
        "rlnMicrographName": "weighted.mrc",
        "rlnCtfPowerSpectrum": "b_PS.mrc",
        "rlnMicrographNameNoDW": "Micrographs/b.mrc",
    }
    table = micrographs.with_columns({label: np.array([name], dtype=object) for label, name in names.items()})
    write_micrographs("mics.star", table)
    estimate(input=("mics.star",), output="ps.star", use_given_ps=True)
    estimate(input=("mics.star",), output="nodw.star", use_no_dw=True)
    for name in ("direct.star", "ps.star", "nodw.star"):
        found = read_micrographs(name)
        np.testing.assert_allclose(found.defocus[0, :2], [20000, 18500], atol=150)
    assert str(read_micrographs("ps.star").names[0]) == "weighted.mrc"
    with pytest.raises(InputError, match="rlnCtfPowerSpectrum"):
        estimate(input=("Micrographs/a.mrc",), output="no.star", use_given_ps=True)


def test_relions_old_scale_and_window(folder: Path) -> None:
    values = {"pixel_size": 0.0, "magnification": 100000.0, "detector_pixel": 15.0, "window": 400}
    estimate(input=("Micrographs/a.mrc",), output="ctf.star", **values)
    found = read_micrographs("ctf.star")
    assert found.optics[0].pixel_size == pytest.approx(1.5)
    assert found.defocus[0, 0] == pytest.approx(12000, abs=200)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"highest_resolution": 40.0}, "--ResMax"),
        ({"defocus_max": 4000.0}, "--dFMax"),
        ({"box": 255}, "--Box"),
        ({"phase_shift": True, "phase_min": 90.0, "phase_max": 90.0}, "--phase_max"),
        ({"magnification": 1e5}, "--DStep"),
        ({"amplitude_spectra": True, "tilt": True}, "spectra"),
        ({"movies": True, "tilt": True}, "--tilt"),
        ({"pixel_size": 0.0}, "pixel size"),
        ({"voltage": None}, "(?i)voltage"),
        ({"use_ctffind": True}, EXECUTABLE_VARIABLE),
        ({"ctffind_exe": "no/such/ctffind"}, "no/such/ctffind"),
    ],
)
def test_contradictions_are_told_before_anything_is_written(
    values: dict[str, object], said: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(EXECUTABLE_VARIABLE, raising=False)
    with pytest.raises(InputError, match=said):
        estimate(**{"input": ("Micrographs/*.mrc",), "output": "ctf.star", **values})
    assert not Path("ctf").exists()


FAKE = """#!{python}
import sys
lines = sys.stdin.read().splitlines()
open("asked.txt", "a").write("\\n".join([*sys.argv[1:], *lines, "--"]) + "\\n")
if "b.mrc" in lines[0]:
    print("Error: cannot do this")
    sys.exit(3)
root = next(line for line in lines if line.endswith(".ctf"))[:-4]
open(root + ".ctf", "w").write("picture")
if "{version}" == "3":
    print("  12345.00  12000.00    45.00   0.15000  Final Values")
else:
    open(root + ".txt", "w").write("# Output\\n1.0 12345.0 12000.0 45.0 0.5 0.15 4.2{more}\\n")
    open(root + "_avrot.txt", "w").write("# h\\n" * 5 + "\\n".join(["0.2 0.26 0.27 0.3"] + ["1 2 -3 4"] * 5))
    print("Summary of results                           : " + root + ".txt")
"""


def fake_ctffind(version: str, more: str = "") -> Path:
    path = Path("ctffind").resolve()
    path.write_text(FAKE.format(python=sys.executable, version=version, more=more))
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def test_ctffind4_is_asked_in_its_order_and_its_failures_are_set_aside(folder: Path) -> None:
    program = fake_ctffind("4")
    values = {"phase_shift": True, "tolerated_astigmatism": 100.0, "threads": 1}
    recorder = estimate(input=("Micrographs/*.mrc",), output="ctf.star", ctffind_exe=program, **values)
    asked = Path("asked.txt").read_text().split("--\n")[0].splitlines()
    assert asked[:14] == ["Micrographs/a.mrc", "ctf/Micrographs/a.ctf", "1.5", "300", "2.7", "0.1", "256", "30", "5",
                          "5000", "50000", "500", "no", "yes"]  # fmt: skip
    assert asked[14:17] == ["yes", "100", "yes"]
    np.testing.assert_allclose([float(one) for one in asked[17:20]], [0, math.pi, math.pi / 18], atol=1e-4)
    assert asked[20:] == ["no"]
    found = read_micrographs("ctf.star")
    assert len(found) == 1
    np.testing.assert_allclose(found.defocus, [[12345, 12000, 45]])
    np.testing.assert_allclose(found.phase_shifts, math.degrees(0.5), atol=1e-6)
    assert found.table["rlnCtfMaxResolution"][0] == 4.2
    assert found.table["rlnCtfIceRingDensity"][0] == 5  # |2| + |-3|, as RELION sums it
    assert any("exit code 3" in one and "b.mrc" in one for one in recorder.warnings)


def test_ctffind5_from_the_environment_with_tilt(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(EXECUTABLE_VARIABLE, str(fake_ctffind("5", " 80.0 25.0 0.0")))
    estimate(input=("Micrographs/a.mrc",), output="ctf.star", is_ctffind5=True, tilt=True)
    asked = Path("asked.txt").read_text().split("--\n")[0].splitlines()
    assert asked[12:] == ["no", "yes", "no", "no", "yes", "no", "no"]  # ... phase shift, tilt, thickness, expert
    table = read_micrographs("ctf.star").table
    assert (table["rlnMicrographTiltAngle"][0], table["rlnMicrographTiltAxisDirection"][0]) == (25.0, 80.0)


def test_ctffind3_and_its_log(folder: Path) -> None:
    estimate(
        input=("Micrographs/a.mrc",), output="ctf.star", ctffind_exe=fake_ctffind("3"), ctffind_version="3", window=400
    )
    asked = Path("asked.txt").read_text().split("--\n")[0].splitlines()
    assert asked[0] == "ctf/Micrographs/a_win.mrc"
    assert not Path(asked[0]).exists()
    assert asked[2] == "2.7, 300, 0.1, 10000, 1.5"
    assert asked[3] == "256, 30, 5, 5000, 50000, 500, 0"
    np.testing.assert_allclose(read_micrographs("ctf.star").defocus, [[12345, 12000, 45]])
    with pytest.raises(InputError, match="CTFFIND 3"):
        estimate(input=("Micrographs/a.mrc",), ctffind_exe=fake_ctffind("3"), ctffind_version="3", phase_shift=True)


def test_the_diagnostic_file_is_the_spectrum_beside_the_fit(folder: Path) -> None:
    estimate(input=("Micrographs/a.mrc",), output="CtfFind/job003")
    assert Path("CtfFind/job003/micrographs_ctf.star").exists()
    picture = np.asarray(open_stack("CtfFind/job003/Micrographs/a.ctf")[0])
    assert picture.min() >= 0 and picture.max() <= 1
    assert picture[:, 140:].std() > 0.1
    assert picture[:, :116].std() > 0.1


def test_real_micrographs_against_ctffind5(shared_data: Path, in_tmp: Path) -> None:
    source = shared_data / "apoferritin_real"
    values = {"pixel_size": 1.5, "spherical_aberration": 0.0, "amplitude_contrast": 0.07, "box": 512}
    estimate(input=(f"{source}/*_0[34]*.mrc", f"{source}/*06.09.02*.mrc"), output="ctf.star", **values)
    ours, theirs = read_micrographs("ctf.star"), read_micrographs(source / "ctffind5_fits.star")
    expected = {str(name): row for row, name in enumerate(theirs.names)}
    pairs = [(row, expected[Path(str(name)).name]) for row, name in enumerate(ours.names)]
    assert len(pairs) == 7
    error = np.abs(np.array([ours.defocus[i, :2] - theirs.defocus[j, :2] for i, j in pairs]))
    assert np.median(error) < 40
    assert error.max() < 100
    resolution = np.array(
        [ours.table["rlnCtfMaxResolution"][i] / theirs.table["rlnCtfMaxResolution"][j] for i, j in pairs]
    )
    assert (np.abs(resolution - 1) < 0.15).all()
    aside = read_star("ctf/set_aside.star")["set_aside"]
    assert [Path(str(name)).name for name in aside["rlnMicrographName"]] == ["May08_06.09.02_avg.mrc"]  # type: ignore[index]


def test_real_spectra_against_ctffind4(shared_data: Path, in_tmp: Path) -> None:
    source = shared_data / "ctf_spectra_real" / "ctffind4_fits.star"
    run(CtfParameters(input=(str(source),), output="ctf.star", use_given_ps=True, plots=False), Context())  # type: ignore[arg-type]
    ours, theirs = read_micrographs("ctf.star"), read_micrographs(source)
    assert len(ours) == 12
    np.testing.assert_allclose(ours.defocus[:, :2], theirs.defocus[:, :2], rtol=0.006)
    np.testing.assert_allclose(ours.defocus[:, 2], theirs.defocus[:, 2], atol=8)
    # The 12 micrographs are of one session: their one astigmatism scatters less here than in CTFFIND4's fits.
    scatter = []
    for u, v, angle in (ours.defocus.T[:3], theirs.defocus.T[:3]):
        astigmatism = (u - v) / 2 * np.exp(2j * np.radians(angle))
        scatter.append(np.std(astigmatism))
    assert scatter[0] < 0.8 * scatter[1]


def test_micrographs_are_fitted_without_loading_torch() -> None:
    """It takes several times as long to load as a fit takes."""
    words = [sys.executable, "-c", "import sys, vitrea.jobs.ctf_run; sys.exit('torch' in sys.modules)"]
    assert subprocess.run(words, check=False).returncode == 0
