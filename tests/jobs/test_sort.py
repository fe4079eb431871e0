"""`vitrea sort`: order, Z-scores and pictures; kinds of references; that options count; mistakes."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from vitrea.cli.main import main
from vitrea.formats.mrc import open_stack, write_map, write_stack
from vitrea.formats.particle_files import read_particles, write_particles
from vitrea.formats.star import read_star, write_star
from vitrea.formats.star_values import text_column
from vitrea.jobs.base import Context
from vitrea.jobs.sort import SortParameters, run
from vitrea.records.errors import InputError
from vitrea.records.map import Map
from vitrea.records.optics import Optics
from vitrea.records.particles import Particles
from vitrea.records.recorder import SilentRecorder
from vitrea.records.table import Table
from vitrea.simulate.particles import NoiseModel, ParticleSimulator
from vitrea.simulate.projections import Projector
from vitrea.simulate.truth import Acquisition, draw_particles

SIZE, PIXEL, COUNT = 32, 4.0, 120
NOISE_ROWS = [5, 17, 40, 41, 77, 119]
SCORE = "rlnParticleSelectZScore"


def noise_images(count: int, seed: int = 9) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((count, SIZE, SIZE)).astype(np.float32)


@pytest.fixture
def folder(in_tmp: Path, lopsided: Any) -> Path:
    """A map, and 120 clear particles of it with CTF, six of which are nothing but noise."""
    import torch

    voxels = lopsided.map(SIZE)
    write_map(in_tmp / "map.mrc", Map(voxels, PIXEL))
    optics = Optics(PIXEL, SIZE, voltage=300.0, spherical_aberration=2.0, amplitude_contrast=0.1)
    particles = draw_particles(Acquisition(optics, COUNT, groups=2, shift_sigma=4.0, seed=2))
    projector = Projector(torch.from_numpy(voxels), PIXEL)
    images = ParticleSimulator(projector, particles, 11.0, 1.0, NoiseModel(3)).images(np.arange(COUNT))
    images[NOISE_ROWS] = noise_images(len(NOISE_ROWS))
    save(particles, images, in_tmp / "particles.star")
    return in_tmp


def save(particles: Particles, images: NDArray[np.float32], path: Path, **columns: Any) -> None:
    stack = path.with_suffix(".mrcs")
    write_stack(stack, images, PIXEL)
    names = text_column([f"{row + 1:06d}@{stack.name}" for row in range(len(images))])
    write_particles(path, particles.with_columns({"rlnImageName": names, **columns}))


def sort(recorder: SilentRecorder | None = None, **wishes: Any) -> Particles:
    """Run the job; return what it wrote."""
    given = {"input": "particles.star", "reference": "map.mrc", "ctf": True, "plots": False, "output": "out.star"}
    wanted = {name: value for name, value in {**given, **wishes}.items() if value is not None}
    parameters = SortParameters(**wanted)
    run(parameters, Context(recorder or SilentRecorder()))
    return read_particles(parameters.output)


def rows_of(particles: Particles) -> list[int]:
    return [int(str(name).split("@")[0]) - 1 for name in particles.table["rlnImageName"]]


def scores(particles: Particles) -> NDArray[np.float64]:
    """Z-scores in the order of the input."""
    out = np.empty(len(particles))
    out[rows_of(particles)] = particles.table[SCORE]
    return out


def test_noise_comes_last(folder: Path) -> None:
    before = read_particles("particles.star")
    recorder = SilentRecorder()
    result = sort(recorder, particle_diameter=88.0)
    assert (np.diff(result.table[SCORE]) >= 0).all()
    assert sorted(rows_of(result)[-len(NOISE_ROWS) :]) == NOISE_ROWS
    assert sorted(rows_of(result)) == list(range(COUNT))
    for label in ("rlnAngleRot", "rlnDefocusU", "rlnOriginXAngst"):
        np.testing.assert_allclose(result.table[label], before.table[label][rows_of(result)])
    assert any("120 particles" in str(values.get("text")) for _, values in recorder.events)


def test_command_line_and_pictures(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """RELION's command, as in its tutorial; PNG files appear beside the output, features in the same order."""
    words = "sort --i particles.star --ref map.mrc --ctf --o Sort/run.star --features Sort/features.star --min_z 1"
    assert main(words.split()) == 0
    assert "120 particles" in capsys.readouterr().out
    for name in ("run_zscore.png", "run_gallery.png"):
        assert (folder / "Sort" / name).read_bytes().startswith(b"\x89PNG")
    table = read_star(folder / "Sort" / "features.star")["features"]
    assert isinstance(table, Table)
    written = read_particles(folder / "Sort" / "run.star")
    assert table["rlnImageName"].tolist() == written.table["rlnImageName"].tolist()
    np.testing.assert_allclose(table[SCORE], written.table[SCORE])
    # Noise does not agree with its reference: its scale is far below that of the particles.
    scale = table["vitreaSortAgreementCoarse"]
    assert scale[-len(NOISE_ROWS) :].mean() < 0.4 * np.median(scale)
    assert (table["vitreaSortAgreementCoarseDeviation"][-len(NOISE_ROWS) :] > 2).all()


def test_chunks_do_not_matter(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Images are read a portion at a time, and what a portion holds does not change a score."""
    whole = scores(sort())
    monkeypatch.setattr("vitrea.jobs.particle_inputs._CHUNK_BYTES", 4 * SIZE * SIZE * 7)
    np.testing.assert_allclose(scores(sort()), whole, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "wish",
    [
        {"lowpass": 20.0},
        {"particle_diameter": 70.0},
        {"min_z": 1.5},
        {"ctf": False},
        {"ctf_phase_flipped": True},
        {"ctf_intact_first_peak": True},
        {"invert": True},
    ],
    ids=lambda wish: next(iter(wish)),
)
def test_options_count(folder: Path, wish: dict[str, Any]) -> None:
    assert np.abs(scores(sort(**wish)) - scores(sort())).max() > 0.05


def test_inverted_references(folder: Path) -> None:
    """References of the other contrast sort alike with --invert, and without it a warning says so."""
    write_map(folder / "black.mrc", Map(-4.0 * open_stack(folder / "map.mrc").astype(np.float32), PIXEL))
    np.testing.assert_allclose(scores(sort(reference="black.mrc", invert=True)), scores(sort()), rtol=1e-3, atol=1e-4)
    recorder = SilentRecorder()
    sort(recorder, reference="black.mrc")
    assert any("--invert" in text for text in recorder.warnings)


def test_norm_correction(folder: Path) -> None:
    """Images of twice the scale with a norm correction of 2 sort as before; left out, they look odd."""
    particles, images = read_particles("particles.star"), np.array(open_stack(folder / "particles.mrcs"))
    norm = np.where(np.arange(COUNT) % 10 == 0, 2.0, 1.0)
    save(particles, images * norm[:, None, None].astype(np.float32), folder / "scaled.star", rlnNormCorrection=norm)
    before = scores(sort())
    np.testing.assert_allclose(scores(sort(input="scaled.star")), before, rtol=1e-3, atol=1e-4)
    without = scores(sort(input="scaled.star", norm=False))
    assert np.median(without[norm == 2.0]) > 2 * np.median(before[norm == 2.0])


def test_pixel_size_for_files_without(folder: Path) -> None:
    particles = read_particles("particles.star")
    table = particles.table.with_columns(
        {"rlnVoltage": np.full(COUNT, 300.0), "rlnSphericalAberration": np.full(COUNT, 2.0)}
    )
    table = table.with_columns(
        {"rlnAmplitudeContrast": np.full(COUNT, 0.1), "rlnOriginX": particles.shifts[:, 0] / PIXEL}
    )
    table = table.with_columns({"rlnOriginY": particles.shifts[:, 1] / PIXEL})
    flat = table.without("rlnOpticsGroup", "rlnOriginXAngst", "rlnOriginYAngst")
    write_star("flat.star", {"": flat}, version=None)
    np.testing.assert_allclose(scores(sort(input="flat.star", pixel_size=PIXEL)), scores(sort()), rtol=1e-3, atol=1e-3)


@pytest.fixture
def classified(folder: Path, lopsided: Any) -> Path:
    """Particles of two class averages without CTF, turned in the plane; the first five are noise."""
    from vitrea.geometry.euler import euler_to_matrix

    rng = np.random.default_rng(4)
    views = np.array([[0.0, 0.0, 0.0], [30.0, 90.0, 0.0]])
    averages = lopsided.images(lopsided.transforms(SIZE, euler_to_matrix(views)), SIZE)
    write_stack(folder / "run_it025_classes.mrcs", averages, PIXEL)
    number = np.arange(COUNT) % 2 + 1
    psi = rng.uniform(-180, 180, COUNT)
    eulers = views[number - 1] + np.stack([np.zeros(COUNT), np.zeros(COUNT), psi], axis=1)
    clean = lopsided.images(lopsided.transforms(SIZE, euler_to_matrix(eulers)), SIZE)
    images = clean / clean.std() + noise_images(COUNT)
    images[:5] = noise_images(5, seed=8)
    particles = read_particles("particles.star").with_columns({"rlnAnglePsi": psi, "rlnClassNumber": number})
    zero = np.zeros(COUNT)
    save(particles, images, folder / "run_it025_data.star", rlnOriginXAngst=zero, rlnOriginYAngst=zero)
    names = text_column([f"{i:06d}@Class2D/run_it025_classes.mrcs" for i in (1, 2)])
    write_star("run_it025_model.star", {"model_classes": Table({"rlnReferenceImage": names})})
    return folder


@pytest.mark.parametrize("reference", [None, "run_it025_model.star", "run_it025_classes.mrcs"])
def test_class_averages(classified: Path, reference: str | None) -> None:
    """References come from the model file beside the data file, a model file, or the stack."""
    result = sort(input="run_it025_data.star", reference=reference, ctf=False)
    assert sorted(rows_of(result)[-5:]) == list(range(5))


def test_classes_count(classified: Path) -> None:
    """With the class averages swapped, particles do not agree with them."""
    averages = np.array(open_stack(classified / "run_it025_classes.mrcs"))
    write_stack(classified / "swapped.mrcs", averages[::-1], PIXEL)
    features = {"input": "run_it025_data.star", "ctf": False}
    sort(**features, reference="run_it025_classes.mrcs", features="right.star")
    sort(**features, reference="swapped.mrcs", features="wrong.star")
    right, wrong = (read_star(name)["features"]["vitreaSortAgreementFine"] for name in ("right.star", "wrong.star"))
    assert np.median(wrong) < 0.5 * np.median(right)


def test_larger_references_are_cut(folder: Path, lopsided: Any) -> None:
    write_map(folder / "large.mrc", Map(lopsided.map(SIZE + 8), PIXEL))
    recorder = SilentRecorder()
    np.testing.assert_allclose(scores(sort(recorder, reference="large.mrc")), scores(sort()), rtol=0.02, atol=0.02)
    assert any("box of 40" in text for text in recorder.warnings)


def test_unusable_images_come_last(folder: Path) -> None:
    particles, images = read_particles("particles.star"), np.array(open_stack(folder / "particles.mrcs"))
    images[3, 4, 4], images[8] = np.nan, 1.0
    save(particles, images, folder / "bad.star")
    recorder = SilentRecorder()
    result = sort(recorder, input="bad.star", plots=True)
    assert sorted(rows_of(result)[-2:]) == [3, 8]
    assert np.isfinite(result.table[SCORE]).all()
    assert sum("put last" in text for text in recorder.warnings) == 2
    save(particles, np.full_like(images, np.nan), folder / "all.star")
    with pytest.raises(InputError, match="none of the images"):
        sort(input="all.star")


def test_ctf_left_out_is_told(folder: Path) -> None:
    recorder = SilentRecorder()
    sort(recorder, ctf=False)
    assert any("--ctf" in text for text in recorder.warnings)


def lacking(*labels: str, **columns: Any) -> None:
    particles = read_particles("particles.star")
    table = particles.table.without(*labels).with_columns(columns)
    write_particles("wrong.star", Particles(table, particles.optics, optics_table=particles.optics_table))


def test_mistakes_are_named(folder: Path) -> None:
    def fails(match: str, **wishes: Any) -> None:
        with pytest.raises(InputError, match=match):
            sort(**wishes)
        assert not Path("out.star").exists()

    fails("no_such.star", input="no_such.star")
    fails("no_such.mrc", reference="no_such.mrc")
    fails("give --ref", reference=None)
    fails("overwritten", output="particles.star")
    fails("too coarse", lowpass=60.0)
    fails("less than 8 pixels", particle_diameter=20.0)
    fails("ctf_phase_flipped needs --ctf", ctf=False, ctf_phase_flipped=True)
    lacking("rlnAngleTilt")
    fails("lacks the column rlnAngleTilt", input="wrong.star")
    lacking("rlnDefocusU")
    fails("lacks the column rlnDefocusU", input="wrong.star")
    lacking(rlnClassNumber=np.full(COUNT, 2))
    fails("rlnClassNumber of particle 1 is 2, but map.mrc has 1 reference$", input="wrong.star")
    lacking(rlnNormCorrection=np.zeros(COUNT))
    fails("rlnNormCorrection must be positive", input="wrong.star")
    write_map("fine.mrc", Map(np.ones((SIZE, SIZE, SIZE), dtype=np.float32), 3.0))
    fails("fine.mrc has 3 Å per pixel, but the particles 4", reference="fine.mrc")
    write_stack("two.mrcs", noise_images(2), PIXEL)
    fails("lacks the column rlnClassNumber, but two.mrcs has 2 classes", reference="two.mrcs")
    write_stack("nan.mrcs", np.full((1, SIZE, SIZE), np.nan, dtype=np.float32), PIXEL)
    fails("not numbers", reference="nan.mrcs")


def test_mistakes_in_reference_files(folder: Path) -> None:
    def fails(match: str, names: list[str]) -> None:
        write_star("refs.star", {"model_classes": Table({"rlnReferenceImage": text_column(names)})})
        with pytest.raises(InputError, match=match):
            sort(reference="refs.star")

    write_stack("two.mrcs", noise_images(2), PIXEL)
    fails("reference gone.mrc, named in refs.star, does not exist", ["gone.mrc"])
    fails("holds 2 references, but number 3", ["000003@two.mrcs"])
    fails("differ in size or dimension", ["000001@two.mrcs", "map.mrc"])
    write_star("refs.star", {"model_general": Table({"rlnNothing": np.array([1.0])})})
    with pytest.raises(InputError, match="names no references"):
        sort(reference="refs.star")


def test_a_users_mistake_exits_with_2(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copy("particles.star", "other.star")
    assert main(["sort", "--i", "other.star", "--ref", "nothing.mrc"]) == 2
    assert "nothing.mrc" in capsys.readouterr().err
