"""`vitrea subtract`: of a structure of two bodies, what is left is the image of one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from vitrea.cli.main import main
from vitrea.formats.images import ParticleImages
from vitrea.formats.mrc import open_stack, read_header, write_map, write_stack
from vitrea.formats.particle_files import read_particles, write_particles
from vitrea.formats.star import write_star
from vitrea.geometry.euler import euler_to_matrix
from vitrea.jobs import particle_inputs
from vitrea.jobs.base import Context
from vitrea.jobs.subtract import SubtractParameters, run
from vitrea.optics.transfer import particle_ctf
from vitrea.records.errors import InputError
from vitrea.records.map import Map
from vitrea.records.optics import Optics
from vitrea.records.particles import Particles
from vitrea.records.recorder import SilentRecorder
from vitrea.records.table import Table

SIZE, PIXEL, COUNT = 40, 4.0, 24
AVERAGE_NORM = 0.8
SCALES = {1: 0.7, 2: 1.3}
CENTRE = np.array([8.0, 1.0, -2.0])  # of the body that stays, in voxels


@dataclass(frozen=True)
class Truth:
    """Two bodies on either side of the plane x = 0."""

    away: Any
    stays: Any


@pytest.fixture
def truth(lopsided: Any) -> Truth:
    random = np.random.default_rng(2)
    points = random.uniform(-3.5, 3.5, (2, 6, 3))
    points -= points.mean(axis=1, keepdims=True)
    heights = random.uniform(20, 40, (2, 6))
    return Truth(
        replace(lopsided, points=points[0] - [8.0, 0.0, 0.0], heights=heights[0], width=1.4),
        replace(lopsided, points=points[1] + CENTRE, heights=heights[1], width=1.4),
    )


def transfer(particles: Particles) -> NDArray[np.float64]:
    y, x = np.meshgrid(np.fft.fftfreq(SIZE, PIXEL), np.fft.rfftfreq(SIZE, PIXEL), indexing="ij")
    values = particle_ctf(torch.from_numpy(y.ravel()), torch.from_numpy(x.ravel()), particles)
    return values.view(-1, *y.shape).numpy()


def images_of(model: Any, particles: Particles, factors: NDArray[np.float64]) -> NDArray[np.float32]:
    """Images in closed form: not from our projector."""
    transforms = model.transforms(SIZE, euler_to_matrix(particles.eulers), -particles.shifts / PIXEL)
    return model.images(transforms * transfer(particles) * factors[:, None, None], SIZE)


def _particles() -> Particles:
    random = np.random.default_rng(1)
    defocus = random.uniform(8000, 15000, COUNT)
    columns = {
        "rlnImageName": np.array([f"{i + 1:06d}@images.mrcs" for i in range(COUNT)], dtype=object),
        "rlnAngleRot": random.uniform(-180, 180, COUNT),
        "rlnAngleTilt": np.degrees(np.arccos(random.uniform(-1, 1, COUNT))),
        "rlnAnglePsi": random.uniform(-180, 180, COUNT),
        "rlnOriginXAngst": random.normal(0, 6, COUNT),
        "rlnOriginYAngst": random.normal(0, 6, COUNT),
        "rlnDefocusU": defocus,
        "rlnDefocusV": defocus - 300,
        "rlnDefocusAngle": random.uniform(0, 180, COUNT),
        "rlnOpticsGroup": np.ones(COUNT, dtype=np.int64),
        "rlnNormCorrection": random.uniform(0.6, 1.0, COUNT),
        "rlnGroupNumber": np.arange(COUNT) % 2 + 1,
        "rlnClassNumber": np.arange(COUNT) % 3 // 2 + 1,
        "rlnRandomSubset": np.arange(COUNT) % 2 + 1,
    }
    return Particles(Table(columns), (Optics(PIXEL, SIZE, 300.0, 2.7, 0.1),))


def factors_of(particles: Particles) -> NDArray[np.float64]:
    scale = np.array([SCALES[int(group)] for group in particles.table["rlnGroupNumber"]])
    return np.asarray(particles.table["rlnNormCorrection"] / AVERAGE_NORM * scale)


def write_model(path: Path, *maps: str) -> None:
    numbers = np.array(list(SCALES))
    groups = {"rlnGroupNumber": numbers, "rlnGroupScaleCorrection": np.array(list(SCALES.values()))}
    references = np.array(maps, dtype=object)
    write_star(path, {
        "model_general": {"rlnNormCorrectionAverage": AVERAGE_NORM},
        "model_classes": Table({"rlnReferenceImage": references, "rlnClassDistribution": np.ones(len(maps))}),
        "model_groups": Table(groups),
    })  # fmt: skip


@pytest.fixture
def folder(in_tmp: Path, truth: Truth) -> Path:
    """A finished run: particles of both bodies, its data, model and optimiser files, and a mask of one body."""
    particles = _particles()
    factors = factors_of(particles)
    write_stack(
        "images.mrcs", images_of(truth.away, particles, factors) + images_of(truth.stays, particles, factors), PIXEL
    )
    write_particles("run_data.star", particles)
    write_map("run_class001.mrc", Map(truth.away.map(SIZE) + truth.stays.map(SIZE), PIXEL))
    mask = np.zeros((SIZE,) * 3, dtype=np.float32)
    mask[:, :, SIZE // 2 :] = 1
    write_map("mask.mrc", Map(mask, PIXEL))
    write_model(Path("run_model.star"), "run_class001.mrc")
    names = {"rlnModelStarFile": "run_model.star", "rlnExperimentalDataStarFile": "run_data.star"}
    write_star("run_optimiser.star", {"optimiser_general": names})
    return in_tmp


def subtract(**parameters: object) -> tuple[Particles, NDArray[np.float32], SilentRecorder]:
    recorder = SilentRecorder()
    run(SubtractParameters(**{"input": "run_optimiser.star", "mask": "mask.mrc", **parameters}), Context(recorder))
    particles = read_particles(Path(str(parameters.get("output", "Subtract"))) / "particles_subtracted.star")
    return particles, ParticleImages(particles).load(np.arange(len(particles))), recorder


def rms(images: NDArray[np.float32]) -> float:
    return float(np.sqrt(np.square(images, dtype=np.float64).mean()))


def test_what_remains_is_the_image_of_the_other_body(folder: Path, truth: Truth) -> None:
    after, images, recorder = subtract()
    before = read_particles("run_data.star")
    left, gone = (images_of(model, before, factors_of(before)) for model in (truth.stays, truth.away))
    # Trilinear interpolation overshoots by 2% an eighth of the box from the centre (simulate/README.md).
    assert rms(images - left) < 0.025 * rms(gone)
    assert recorder.warnings == []
    unchanged = set(before.table) - {"rlnImageName"}
    assert all(np.allclose(after.table[label], before.table[label]) for label in unchanged)
    assert list(after.table["rlnImageOriginalName"]) == list(before.table["rlnImageName"])
    header = read_header("Subtract/particles_subtracted.mrcs")
    assert header.mode == 2
    assert header.pixel_size == pytest.approx(PIXEL)


@pytest.mark.parametrize("column", ["rlnNormCorrection", "rlnGroupNumber", "rlnOriginXAngst", "rlnDefocusU"])
def test_each_number_of_a_particle_counts(folder: Path, truth: Truth, column: str) -> None:
    """With the numbers of other particles, more than a tenth of the signal that should go is left."""
    before = read_particles("run_data.star")
    gone, left = (images_of(model, before, factors_of(before)) for model in (truth.away, truth.stays))
    write_particles("run_data.star", before.with_columns({column: np.roll(before.table[column], 1)}))
    _, images, _ = subtract()
    assert rms(images - left) > 0.1 * rms(gone)


@pytest.mark.parametrize("given", ["run_model.star", "run_data.star"])
def test_a_run_is_found_from_any_of_its_files(folder: Path, given: str) -> None:
    expected = subtract()[1]
    assert np.array_equal(subtract(input=given, output="Other")[1], expected)


def test_images_do_not_depend_on_how_many_are_read_at_a_time(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = subtract()[1]
    monkeypatch.setattr(particle_inputs, "_CHUNK_BYTES", 5 * 4 * SIZE * SIZE)
    np.testing.assert_allclose(subtract(output="Chunks")[1], expected, atol=1e-6)


def test_every_particle_loses_the_map_of_its_class(folder: Path, truth: Truth) -> None:
    """Class 1 holds the body on the left; class 2 does not, so nothing goes."""
    write_map("run_class001.mrc", Map(truth.away.map(SIZE), PIXEL))
    write_map("run_class002.mrc", Map(truth.stays.map(SIZE), PIXEL))
    write_model(Path("run_model.star"), "run_class001.mrc", "run_class002.mrc")
    after, images, _ = subtract()
    before = read_particles("run_data.star")
    first = before.table["rlnClassNumber"] == 1
    original = ParticleImages(before).load(np.arange(COUNT))
    left = images_of(truth.stays, before, factors_of(before))
    scale = rms(original - left)
    assert rms((images - left)[first]) < 0.025 * scale
    assert rms((images - original)[~first]) < 0.01 * scale
    assert np.array_equal(after.table["rlnClassNumber"], before.table["rlnClassNumber"])
    # One map given by name is everyone's.
    _, images, _ = subtract(map="run_class001.mrc", output="All")
    assert rms(images - left) < 0.025 * scale


def test_half_sets_lose_the_map_of_their_half(folder: Path, truth: Truth) -> None:
    for half, model in ((1, truth.away), (2, truth.stays)):
        write_map(f"run_half{half}_class001.mrc", Map(model.map(SIZE), PIXEL))
        write_model(Path(f"run_half{half}_model.star"), f"run_half{half}_class001.mrc")
    names = {f"rlnModelStarFile{end}": f"run_half{half}_model.star" for half, end in ((1, ""), (2, "2"))}
    write_star("run_optimiser.star", {"optimiser_general": {**names, "rlnExperimentalDataStarFile": "run_data.star"}})
    _, images, _ = subtract()
    before = read_particles("run_data.star")
    left = images_of(truth.stays, before, factors_of(before))
    first = before.table["rlnRandomSubset"] == 1
    assert rms((images - left)[first]) < 0.025 * rms(images)
    assert rms((images - left)[~first]) > 0.3 * rms(images)
    write_particles("run_data.star", replace(before, table=before.table.without("rlnRandomSubset")))
    with pytest.raises(InputError, match="lacks the column rlnRandomSubset"):
        subtract()


@pytest.mark.parametrize("by_mask", [True, False])
def test_images_are_centred_on_what_stays(folder: Path, truth: Truth, by_mask: bool) -> None:
    if by_mask:
        ball = np.square(np.indices((SIZE,) * 3) - SIZE // 2 - CENTRE[::-1, None, None, None]).sum(axis=0) <= 49
        write_map("mask.mrc", Map(ball.astype(np.float32), PIXEL))
        after, images, _ = subtract(recenter_on_mask=True, new_box=28)
    else:
        x, y, z = CENTRE
        after, images, _ = subtract(center_x=x, center_y=y, center_z=z, new_box=28)
    assert images.shape == (COUNT, 28, 28)
    assert after.optics[0].image_size == 28
    assert np.abs(after.shifts).max() <= PIXEL / 2 + 1e-3  # the rest of a whole-pixel move
    before = read_particles("run_data.star")
    centred = images_of(replace(truth.stays, points=truth.stays.points - CENTRE), after, factors_of(before))
    middle = slice(6, 34)
    # The CTF spreads the bodies' signal a little over the edge of the box.
    assert rms(images - centred[:, middle, middle]) < 0.04 * rms(centred[:, middle, middle])


def test_revert_goes_back_with_the_poses_found_since(folder: Path) -> None:
    before = read_particles("run_data.star")
    after, _, _ = subtract(center_x=8, center_y=1, center_z=-2, new_box=28, float16=True)
    assert read_header("Subtract/particles_subtracted.mrcs").mode == 12
    moved = after.with_columns({"rlnOriginXAngst": after.shifts[:, 0] + 1.5})  # a later refinement found
    write_particles("refined.star", moved.rows(np.arange(5, COUNT)))
    run(SubtractParameters(revert=Path("refined.star"), output=Path("Back")), Context())
    back = read_particles("Back/original.star")
    assert list(back.table["rlnImageName"]) == list(before.table["rlnImageName"][5:])
    assert back.optics[0].image_size == SIZE
    assert set(back.table) == set(before.table)
    # In the original image the point lies at (A c) - origin before, and at the middle after a shift by the new origin.
    seen = euler_to_matrix(before.eulers)[:, :2] @ (CENTRE * PIXEL) - before.shifts
    np.testing.assert_allclose(back.shifts, -seen[5:] + [1.5, 0.0], atol=1e-6)


def test_subtracting_twice_remembers_the_first_images(folder: Path, truth: Truth) -> None:
    subtract(center_x=8, center_y=1, center_z=-2)
    write_map("map.mrc", Map(replace(truth.stays, points=truth.stays.points - CENTRE).map(SIZE), PIXEL))
    twice, _, _ = subtract(
        data="Subtract/particles_subtracted.star", map="map.mrc", output="Twice", center_x=3, center_y=0, center_z=0
    )
    before = read_particles("run_data.star")
    assert list(twice.table["rlnImageOriginalName"]) == list(before.table["rlnImageName"])
    run(SubtractParameters(revert=Path("Twice/particles_subtracted.star"), output=Path("Back")), Context())
    point = (CENTRE + np.array([3.0, 0.0, 0.0])) * PIXEL
    seen = euler_to_matrix(before.eulers)[:, :2] @ point - before.shifts
    np.testing.assert_allclose(read_particles("Back/original.star").shifts, -seen, atol=1e-6)


def test_subsets_and_bad_images(folder: Path) -> None:
    whole = subtract()[1]
    before = read_particles("run_data.star")
    write_particles("some.star", before.rows([7, 3, 11]))
    _, images, _ = subtract(data="some.star", output="Some")
    np.testing.assert_allclose(images, whole[[7, 3, 11]], atol=1e-6)
    stack = np.array(open_stack("images.mrcs"))
    stack[3, 1, 1] = np.nan
    write_stack("images.mrcs", stack, PIXEL)
    after, images, recorder = subtract(data="some.star", output="Good")
    assert recorder.warnings == ["000004@images.mrcs holds NaN or infinite pixels and is left out"]
    np.testing.assert_allclose(images, whole[[7, 11]], atol=1e-6)
    assert list(after.table["rlnImageOriginalName"]) == ["000008@images.mrcs", "000012@images.mrcs"]


def test_a_wrong_grey_scale_and_a_missing_model_are_warned_of(folder: Path, truth: Truth) -> None:
    write_map("run_class001.mrc", Map(5 * (truth.away.map(SIZE) + truth.stays.map(SIZE)), PIXEL))
    assert "0.20 times the signal" in subtract()[2].warnings[0]
    Path("run_data.star").rename("alone.star")
    recorder = subtract(input="alone.star", map="run_class001.mrc")[2]
    assert "alone.star has no model file beside it" in recorder.warnings[0]


def test_how_the_run_treated_the_ctf_is_taken_from_its_optimiser(folder: Path) -> None:
    plain = subtract()[1]
    options = {
        "ctf": ("rlnDoCorrectCtf", 0),
        "ctf_phase_flipped": ("rlnCtfDataArePhaseFlipped", 1),
        "ctf_intact_first_peak": ("rlnDoIgnoreCtfUntilFirstPeak", 1),
    }
    names = {"rlnModelStarFile": "run_model.star", "rlnExperimentalDataStarFile": "run_data.star"}
    for option, (label, value) in options.items():
        write_star("o.star", {"optimiser_general": {**names, label: value}})
        told, given = subtract(input="o.star", output="a")[1], subtract(**{option: bool(value)}, output="b")[1]
        assert np.array_equal(told, given)
        assert rms(told - plain) > 0.1 * rms(plain), option


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"input": None}, "--i is required"),
        ({"mask": None}, "--mask is required"),
        ({"revert": "run_data.star"}, "not both"),
        ({"input": None, "mask": None, "revert": "run_data.star"}, "lacks the column rlnImageOriginalName"),
        ({"input": "none.star"}, "none.star does not exist"),
        ({"input": "noangles.star"}, "noangles.star lacks the column rlnAnglePsi"),
        ({"input": "alone.star"}, "alone.star has no model file"),
        ({"data": "nogroups.star"}, "lacks the column rlnGroupNumber"),
        ({"data": "group7.star"}, "rlnGroupNumber 7 is none of the groups"),
        ({"data": "norm0.star"}, "rlnNormCorrection must be above 0"),
        ({"map": "small.mrc"}, "mask.mrc has a box of 40 voxels, but small.mrc one of 32"),
        ({"map": "small.mrc", "mask": "smallmask.mrc"}, "a box of 40 pixels, but small.mrc one of 32"),
        ({"map": "fine.mrc"}, "rlnImagePixelSize"),
        ({"map": "flat.star"}, "2D class averages"),
        ({"map": "twoclasses.star", "data": "class3.star"}, "particle 1 has rlnClassNumber 3"),
        ({"map": "lost.star"}, "gone.mrc, named in lost.star, does not exist"),
        ({"mask": "ones.mrc"}, "1 everywhere"),
        ({"new_box": 50}, "--new_box 50 exceeds"),
        ({"center_x": 3.0}, "go together"),
        ({"center_x": 3.0, "center_y": 0.0, "center_z": 99.0}, "within 20 voxels"),
        ({"center_x": 3.0, "recenter_on_mask": True}, "not both"),
    ],
)
def test_mistakes_are_told_and_nothing_is_written(
    folder: Path, write_variants: Callable[[], None], parameters: dict[str, object], message: str
) -> None:
    write_variants()
    with pytest.raises(InputError, match=message):
        subtract(**parameters)
    assert not Path("Subtract").exists()


@pytest.fixture
def write_variants(folder: Path, truth: Truth) -> Callable[[], None]:
    """Write files that are wrong in one way each."""

    def write() -> None:
        good = read_particles("run_data.star")
        write_particles("alone.star", good)
        for name, label in (("noangles", "rlnAnglePsi"), ("nogroups", "rlnGroupNumber")):
            write_particles(f"{name}.star", replace(good, table=good.table.without(label)))
        changes = {"group7": ("rlnGroupNumber", 7), "class3": ("rlnClassNumber", 3), "norm0": ("rlnNormCorrection", 0)}
        for name, (label, value) in changes.items():
            write_particles(f"{name}.star", good.with_columns({label: np.full(COUNT, value)}))
        write_map("small.mrc", Map(truth.away.map(32), PIXEL))
        write_map("smallmask.mrc", Map(np.eye(32, dtype=np.float32)[None].repeat(32, 0), PIXEL))
        write_map("fine.mrc", Map(truth.away.map(SIZE), PIXEL / 2))
        write_map("ones.mrc", Map(np.ones((SIZE,) * 3, dtype=np.float32), PIXEL))
        write_model(Path("flat.star"), "000001@images.mrcs")
        write_model(Path("twoclasses.star"), "run_class001.mrc", "run_class001.mrc")
        write_model(Path("lost.star"), "run_class001.mrc", "gone.mrc")

    return write


def test_the_command_line_says_it_in_one_sentence(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["subtract", "--i", "run_data.star", "--mask", "mask.mrc", "--o", "S", "--quiet"]) == 0
    assert main(["subtract", "--i", "run_data.star", "--mask", "absent.mrc", "--o", "T"]) == 2
    message = capsys.readouterr().err
    assert "absent.mrc" in message
    assert message.count("\n") == 1
