"""`vitrea select --auto`: classes of a job chosen by score, on RELION's files and on a job written by hand."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import ndimage

from vitrea.cli.main import main
from vitrea.formats.mrc import open_stack, read_header, write_map, write_stack
from vitrea.formats.particle_files import read_particles, write_particles
from vitrea.formats.star import read_star, write_star
from vitrea.formats.star_values import text_column
from vitrea.fourier.grid import frequency_axes
from vitrea.fourier.transforms import to_fourier, to_real
from vitrea.jobs.base import Context
from vitrea.jobs.class_results import read_class_results
from vitrea.jobs.run_inputs import find_run
from vitrea.jobs.select import SelectParameters, run
from vitrea.optics.transfer import particle_ctf
from vitrea.records.errors import InputError, JobError
from vitrea.records.map import Map
from vitrea.records.optics import Optics
from vitrea.records.particles import Particles
from vitrea.records.recorder import SilentRecorder
from vitrea.records.table import Table
from vitrea.selection.class_score import SCORE_THRESHOLD

SIZE, PIXEL, DIAMETER = 48, 4.0, 140.0
COUNTS = np.array([60, 50, 40, 2])  # particles of the classes: two good ones, noise, next to nothing
SHARE = COUNTS / COUNTS.sum()
NOISE = 0.05  # power of the noise in images masked with zeros


def disc(dx: float) -> NDArray[np.float32]:
    """A molecule 30 Å in radius with a dent."""
    y, x = np.mgrid[:SIZE, :SIZE] - SIZE // 2
    body = 1 / (1 + np.exp(np.hypot(x - dx, y) - 8))
    return np.asarray(body - 0.4 * np.exp(-((x - 3) ** 2 + y**2) / 8), dtype=np.float32)


def averages() -> NDArray[np.float32]:
    noise = ndimage.gaussian_filter(np.random.default_rng(4).normal(size=(SIZE, SIZE)), 3)
    return np.stack([disc(0), disc(1), noise, disc(0)]).astype(np.float32)


def write_job(
    folder: str = "Class2D", *, noise: float | None = NOISE, resolution: tuple[float, ...] = (20, 22, 40, 90)
) -> None:
    """Write the files of a 2D class job."""
    Path(folder).mkdir(exist_ok=True)
    count = int(COUNTS.sum())
    defocus = np.linspace(1e4, 2e4, count)
    columns = {
        "rlnImageName": text_column([f"{i + 1:06d}@a.mrcs" for i in range(count)]),
        "rlnOpticsGroup": np.ones(count, dtype=np.int64),
        "rlnDefocusU": defocus,
        "rlnDefocusV": defocus,
        "rlnDefocusAngle": np.zeros(count),
        "rlnAnglePsi": np.zeros(count),
        "rlnClassNumber": np.repeat(np.arange(1, 5), COUNTS),
    }
    write_stack("a.mrcs", np.zeros((count, SIZE, SIZE), dtype=np.float32), PIXEL)
    root = f"{folder}/run_it025"
    write_particles(f"{root}_data.star", Particles(Table(columns), (Optics(PIXEL, SIZE, 300.0, 2.7, 0.1),)))
    write_stack(f"{root}_classes.mrcs", averages(), PIXEL)
    classes = {
        "rlnReferenceImage": text_column([f"{i + 1:06d}@{root}_classes.mrcs" for i in range(4)]),
        "rlnClassDistribution": SHARE,
        "rlnAccuracyRotations": np.full(4, 5.0),
        "rlnEstimatedResolution": np.array(resolution),
    }
    general = {"rlnReferenceDimensionality": 2, "rlnPixelSize": PIXEL, "rlnOriginalImageSize": SIZE}
    blocks: dict[str, object] = {"model_general": general, "model_classes": Table(classes)}
    if noise is not None:
        spectrum = np.full(SIZE // 2 + 1, noise / (2 * SIZE**2))
        blocks["model_optics_group_1"] = Table({"rlnSigma2Noise": spectrum})
    write_star(f"{root}_model.star", blocks)  # type: ignore[arg-type]
    write_optimiser(root)


def write_optimiser(root: str, **changes: object) -> None:
    names = {"rlnExperimentalDataStarFile": f"{root}_data.star", "rlnModelStarFile": f"{root}_model.star"}
    masks = {"rlnParticleDiameter": DIAMETER, "rlnWidthMaskEdge": 5, "rlnDoZeroMask": 1, "rlnDoCorrectCtf": 1}
    write_star(f"{root}_optimiser.star", {"optimiser_general": {**names, **masks, **changes}})


def select(name: str = "Class2D/run_it025_optimiser.star", **parameters: object) -> tuple[list[int], list[str]]:
    """Run with --auto; return the class numbers among the particles kept, and the lines of the report."""
    recorder = SilentRecorder()
    given = {"input": [name], "output": "Select/out.star", "auto": True, "auto_particles": False, **parameters}
    run(SelectParameters.model_validate(given), Context(recorder))
    lines = [str(values["text"]) for _, values in recorder.events] + recorder.warnings
    kept = read_particles("Select/out.star", require_images=False).table["rlnClassNumber"]
    return np.unique(kept).tolist(), lines


def scores(path: str = "Select/out_class_scores.star") -> Table:
    table = read_star(path)["class_scores"]
    assert isinstance(table, Table)
    return table


@pytest.fixture
def folder(in_tmp: Path) -> Path:
    """A project with a class job."""
    write_job()
    return in_tmp


def test_the_default_threshold_is_that_of_the_score() -> None:
    assert SelectParameters(input=("a.star",)).min_score == SCORE_THRESHOLD


@pytest.mark.parametrize("name", ["optimiser", "model", "data"])
def test_good_classes_are_kept_and_each_dropped_one_is_told_why(folder: Path, name: str) -> None:
    kept, lines = select(f"Class2D/run_it025_{name}.star")
    assert kept == [1, 2]
    assert lines[0].startswith("class 3 dropped: score 0.00, 40 particles: ")
    assert "noise" in lines[0]
    assert lines[1].startswith("class 4 dropped: score 0.00, 2 particles: hardly any particles")
    assert "classes that score 0.5 or more: 110 kept, 42 dropped" in lines
    table = scores()
    assert table["vitreaKept"].tolist() == [1, 1, 0, 0]
    assert table["vitreaParticles"].tolist() == COUNTS.tolist()
    assert (table["rlnClassScore"][:2] > 0.9).all()
    assert "noise" in table["vitreaReason"][2]
    assert Path("Select/out_classes.png").read_bytes()[1:4] == b"PNG"


def test_auto_and_classes_must_both_hold(folder: Path) -> None:
    kept, lines = select(classes="2-4")
    assert kept == [2]
    assert "class 1 dropped: score 1.00, 60 particles: not among --classes" in lines
    assert select(min_score=0.0, classes="2-4")[0] == [2, 3, 4]


def test_class_averages_are_references_for_later_jobs(folder: Path) -> None:
    select(class_averages="Select/class_averages.star")
    table = read_star("Select/class_averages.star")[""]
    assert isinstance(table, Table)
    assert table["rlnReferenceImage"].tolist() == [
        "000001@Select/class_averages.mrcs",
        "000002@Select/class_averages.mrcs",
    ]
    assert table["rlnClassNumber"].tolist() == [1, 2]
    assert table["rlnAccuracyRotations"].tolist() == [5.0, 5.0]
    assert np.array_equal(open_stack("Select/class_averages.mrcs"), averages()[:2])
    assert read_header("Select/class_averages.mrcs").pixel_size == pytest.approx(PIXEL)
    # Classes named by hand, nothing judged.
    select(auto=False, classes="4,2", class_averages="Select/two.star")
    assert np.array_equal(open_stack("Select/two.mrcs"), averages()[[1, 3]])
    assert "rlnClassScore" not in read_star("Select/two.star")[""]


def test_noise_power_is_that_of_images_before_they_were_masked(folder: Path) -> None:
    """White noise of power 1 leaves the mean square of the mask in images masked with zeros."""

    def power(**changes: object) -> float:
        write_optimiser("Class2D/run_it025", **changes)
        found = find_run(Path("Class2D/run_it025_optimiser.star"))
        particles = read_particles(found.particles)
        averages = read_class_results(found, particles, 0.0, SilentRecorder()).averages
        assert averages is not None
        assert averages.noise_power is not None
        assert np.ptp(averages.noise_power) < 1e-12
        return float(averages.noise_power[0])

    # A disc of 17.5 pixels whose edge of 5 falls as a cosine: its mean square is that of a disc 1.9 pixels larger.
    assert power() == pytest.approx(NOISE / (np.pi * 19.4**2 / SIZE**2), rel=0.02)
    assert power(rlnDoZeroMask=0) == pytest.approx(NOISE)
    assert power(rlnWidthMaskEdge=0) == pytest.approx(NOISE / (np.pi * 17.5**2 / SIZE**2), rel=0.02)


def test_ctf_is_that_which_averages_were_corrected_for(folder: Path) -> None:
    def ctf2(**changes: object) -> NDArray[np.float64]:
        write_optimiser("Class2D/run_it025", **changes)
        found = find_run(Path("Class2D/run_it025_optimiser.star"))
        averages = read_class_results(found, read_particles(found.particles), 0.0, SilentRecorder()).averages
        assert averages is not None
        assert averages.ctf2 is not None
        return averages.ctf2

    assert ctf2()[0] == pytest.approx(0.01)  # amplitude contrast of 0.1
    assert 0.3 < ctf2()[10:].mean() < 0.7  # many periods: the mean of sin²
    assert ctf2(rlnDoIgnoreCtfUntilFirstPeak=1)[0] == pytest.approx(1.0)
    assert (ctf2(rlnDoCorrectCtf=0) == 1).all()
    assert (ctf2(rlnDoOnlyFlipCtfPhases=1) == 1).all()


def test_averages_that_images_do_not_show_are_refused(folder: Path) -> None:
    """The same averages in ever stronger noise: from some power on, alignment would find as much in noise."""
    assert select()[0] == [1, 2]
    write_job(noise=100 * NOISE)
    with pytest.raises(JobError, match=r"no class of .*_model.star scores 0.5 or more.*alignment finds in noise.*png"):
        select(output="Select/none.star")
    assert not Path("Select/none.star").exists()
    assert scores("Select/none_class_scores.star")["vitreaKept"].tolist() == [0] * 4
    assert Path("Select/none_classes.png").is_file()
    write_job(noise=None)
    kept, lines = select()
    assert kept == [1, 2]
    assert any("holds no rlnSigma2Noise" in line for line in lines)


def test_maps_are_chosen_by_size_and_resolution(folder: Path) -> None:
    root = "Class2D/run_it025"
    write_job(resolution=(8.0, 9.0, 30.0, 8.0))
    blocks = read_star(f"{root}_model.star")
    table = blocks["model_classes"]
    assert isinstance(table, Table)
    names = [f"{root}_class{number:03d}.mrc" for number in range(1, 5)]
    for name in names:
        write_map(name, Map(np.zeros((16, 16, 16), dtype=np.float32), PIXEL))
    blocks["model_classes"] = table.with_columns({"rlnReferenceImage": text_column(names)})
    blocks["model_general"] = {**blocks["model_general"], "rlnReferenceDimensionality": 3}  # type: ignore[dict-item]
    write_star(f"{root}_model.star", blocks)
    kept, lines = select(class_averages="Select/class_averages.star")
    assert kept == [1, 2]
    assert "class 3 dropped: score 0.00, 40 particles: resolution far from that of the best class" in lines
    assert "class 4 dropped: score 0.00, 2 particles: hardly any particles" in lines
    chosen = read_star("Select/class_averages.star")[""]
    assert isinstance(chosen, Table)
    assert chosen["rlnReferenceImage"].tolist() == names[:2]
    assert Path("Select/out_classes.png").is_file()
    blocks["model_classes"] = blocks["model_classes"].rows(slice(0, 1))  # type: ignore[union-attr]
    write_star(f"{root}_model.star", blocks)
    particles = read_particles(f"{root}_data.star")
    write_particles(f"{root}_data.star", particles.with_columns({"rlnClassNumber": np.ones(len(particles))}))
    with pytest.raises(InputError, match="holds a single map"):
        select()


@pytest.mark.parametrize(
    ("change", "parameters", "message"),
    [
        ("model", {"input": ["Class2D/run_it025_data.star"]}, "has no model file of a class job beside it"),
        ("classes", {}, "run_it025_classes.mrcs, named in Class2D/run_it025_model.star, does not exist"),
        ("optimiser", {"input": ["Class2D/run_it025_model.star"]}, "give --particle_diameter"),
        ("", {"join": ["Class2D/run_it025_data.star"]}, "the files of one class job"),
        ("", {"classes": "2-1"}, "the span 2-1 runs backwards"),
        ("", {"particle_diameter": 10.0}, "too small for pixels"),
        ("", {"auto": False, "class_averages": "c.star"}, "--class_averages goes with --auto or --classes"),
        ("cut", {}, "holds 3 class averages, but number 4 is asked for"),
        ("column", {}, "data_model_classes lacks the column rlnEstimatedResolution"),
        ("table", {}, "data_model_classes is missing"),
        ("numbers", {}, "rlnClassNumber of particle 103 is 7, but"),
    ],
)
def test_mistakes_are_told(folder: Path, change: str, parameters: dict[str, object], message: str) -> None:
    root = Path("Class2D/run_it025")
    damage(root, change)
    with pytest.raises(InputError) as error:
        select(**parameters)
    assert message in str(error.value)
    assert not Path("Select").exists()


def damage(root: Path, change: str) -> None:
    """Remove or spoil one of the files of a job."""
    model, data = Path(f"{root}_model.star"), Path(f"{root}_data.star")
    blocks = read_star(model)
    table = blocks["model_classes"]
    assert isinstance(table, Table)
    if change in ("model", "optimiser"):
        Path(f"{root}_{change}.star").unlink()
    elif change == "classes":
        Path(f"{root}_classes.mrcs").unlink()
    elif change == "cut":
        write_stack(f"{root}_classes.mrcs", averages()[:3], PIXEL)
    elif change == "column":
        write_star(model, {**blocks, "model_classes": table.without("rlnEstimatedResolution")})
    elif change == "table":
        write_star(model, {name: block for name, block in blocks.items() if name != "model_classes"})
    elif change == "numbers":
        particles = read_particles(data)
        numbers = np.where(np.arange(len(particles)) == 102, 7, particles.table["rlnClassNumber"])
        write_particles(data, particles.with_columns({"rlnClassNumber": numbers}))


def test_a_diameter_can_be_given(folder: Path) -> None:
    Path("Class2D/run_it025_optimiser.star").unlink()
    assert select("Class2D/run_it025_model.star", particle_diameter=DIAMETER)[0] == [1, 2]


def test_the_command_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = "select --i Class2D/run_it025_optimiser.star --auto --no-auto-particles --min_score 0.4 --o Select/s.star"
    assert main(words.split()) == 0
    assert "Select/s.star: 110 of 152 particles" in capsys.readouterr().out
    write_job(noise=100 * NOISE)
    assert main([*words.split(), "--o", "Select/none.star"]) == 1
    assert "no class of" in capsys.readouterr().err


def test_files_by_relion_of_real_particles(shared_data: Path, shared_reference: Path, in_tmp: Path) -> None:
    """Two particles in one image (class 1) and noise (class 8) are dropped; whole particles (2, 3, 4, 6) are kept."""
    source = shared_reference / "betagal_real" / "class2d"
    Path("Class2D").mkdir()
    for path in source.iterdir():
        shutil.copyfile(path, Path("Class2D") / path.name)
    Path("particles.mrcs").symlink_to(shared_data / "betagal_real" / "particles.mrcs")
    kept, lines = select("Class2D/run_it010_optimiser.star", class_averages="Select/class_averages.star")
    assert set(kept) >= {2, 3, 4, 6}
    assert not {1, 8} & set(kept)
    assert sum(line.startswith("class ") and "dropped" in line for line in lines) == 10 - len(kept)
    assert len(open_stack("Select/class_averages.mrcs")) == len(kept)
    # The plain names of a last iteration, and a model file with the data beside it.
    assert select("Class2D/run_it010_model.star")[0] == kept


def test_particles_are_weighed_one_by_one(folder: Path) -> None:
    """Images are the class average through the CTF, in noise; some hold a bright bar instead, or noise alone."""
    write_images(bars := np.arange(5, 60, 6), noise := np.arange(60, 110, 5))
    kept, lines = select(auto_particles=True)
    names = read_particles("Select/out.star").table["rlnImageName"]
    numbers = {int(str(name).split("@")[0]) - 1 for name in names}
    assert not numbers & {*bars.tolist(), *noise.tolist()}
    # All others that show the particle, also those in class 4, whose average is good but which is too small.
    shown = set(range(110)) - {*bars.tolist(), *noise.tolist()} | {150, 151}
    assert numbers == shown
    assert kept == [1, 2, 4]
    assert any(line.startswith("images show: particle ") for line in lines)
    select(auto_particles=True, classes="1,2")
    assert len(read_particles("Select/out.star")) == len(shown) - 2
    select(auto_particles=True, min_probability=0.0)
    assert len(read_particles("Select/out.star")) == COUNTS.sum()


def test_images_must_be_usable_to_be_weighed(folder: Path) -> None:
    with pytest.raises(InputError, match="none of the images can be used"):
        select(auto_particles=True)


def write_images(bars: NDArray[np.int64], nothing: NDArray[np.int64]) -> None:
    """Fill a.mrcs with what the classes show, in little noise; some images are a bar or nothing."""
    particles = read_particles("Class2D/run_it025_data.star")
    x, y = torch.broadcast_tensors(*(k / (SIZE * PIXEL) for k in frequency_axes(SIZE, 2)))
    transfer = particle_ctf(y.reshape(-1), x.reshape(-1), particles).reshape(len(particles), SIZE, -1)
    shown = averages()[np.asarray(particles.table["rlnClassNumber"]) - 1]
    shown[bars] = shown[nothing] = 0
    shown[bars, :, SIZE // 2 - 3 : SIZE // 2 + 3] = 4.0
    clean = to_real(to_fourier(torch.from_numpy(shown)) * transfer, SIZE).numpy()
    noise = 0.2 * np.random.default_rng(7).normal(size=clean.shape)
    write_stack("a.mrcs", (clean + noise).astype(np.float32), PIXEL)
