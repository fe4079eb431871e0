"""`vitrea select`: what is kept, what is written, and mistakes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vitrea.cli.main import main
from vitrea.formats.images import ParticleImages
from vitrea.formats.mrc import write_stack
from vitrea.formats.particle_files import read_particles, write_particles
from vitrea.formats.star import read_star, write_star
from vitrea.jobs.base import Context
from vitrea.jobs.select import SelectParameters, run
from vitrea.records.errors import InputError
from vitrea.records.optics import Optics
from vitrea.records.particles import Particles
from vitrea.records.recorder import SilentRecorder
from vitrea.records.table import Table

COUNT = 40


def make_set(stack: str, optics: Optics) -> Particles:
    """Forty particles of four micrographs and five classes; the defocus of number i is 10000 + 100 i."""
    number = np.arange(COUNT)
    columns: dict[str, object] = {
        "rlnImageName": np.array([f"{i + 1:06d}@{stack}" for i in number], dtype=object),
        "rlnMicrographName": np.array([f"Mics/m{i // 10}.mrc" for i in number], dtype=object),
        "rlnCoordinateX": 100.0 * (number % 10),
        "rlnCoordinateY": np.full(COUNT, 50.0),
        "rlnOriginXAngst": np.zeros(COUNT),
        "rlnOriginYAngst": np.zeros(COUNT),
        "rlnAutopickFigureOfMerit": number / COUNT,
        "rlnMaxValueProbDistribution": 1 - number / COUNT,
        "rlnDefocusU": 10_000.0 + 100 * number,
        "rlnDefocusV": 10_000.0 + 100 * number,
        "rlnDefocusAngle": np.zeros(COUNT),
        "rlnClassNumber": number % 5 + 1,
        "rlnGroupNumber": number // 10 + 1,
        "rlnOpticsGroup": np.full(COUNT, optics.group),
    }
    return Particles(Table({label: np.asarray(column) for label, column in columns.items()}), (optics,))


OPTICS = Optics(2.0, 16, 300.0, 2.7, 0.1, original_pixel_size=1.0)


@pytest.fixture
def folder(in_tmp: Path) -> Path:
    """A project: a.star with its images beside it in Extract/, and the files of a class job."""
    (in_tmp / "Extract").mkdir()
    (in_tmp / "Class2D").mkdir()
    images = np.random.default_rng(1).normal(size=(COUNT, 16, 16)).astype(np.float32)
    write_stack("Extract/a.mrcs", images, 2.0)
    write_particles("Extract/a.star", make_set("a.mrcs", OPTICS))
    write_particles("Class2D/run_it025_data.star", make_set("Extract/a.mrcs", OPTICS))
    scales = Table({"rlnGroupNumber": np.arange(1, 5), "rlnGroupScaleCorrection": np.array([0.5, 1.5, 0.5, 1.5])})
    write_star("Class2D/run_it025_model.star", {"model_general": {"rlnNrClasses": 5}, "model_groups": scales})
    names = {
        "rlnExperimentalDataStarFile": "Class2D/run_it025_data.star",
        "rlnModelStarFile": "Class2D/run_it025_model.star",
    }
    write_star("Class2D/run_it025_optimiser.star", {"optimiser_general": names})
    return in_tmp


def select(**parameters: object) -> tuple[list[int], list[str]]:
    """Run; return the numbers of the images that were kept, from 0, and the lines of the report."""
    recorder = SilentRecorder()
    given = {"input": ["Extract/a.star"], "output": "Select/out.star", **parameters}
    run(SelectParameters.model_validate(given), Context(recorder))
    lines = [str(values["text"]) for _, values in recorder.events] + recorder.warnings
    return numbers("Select/out.star") if Path("Select/out.star").exists() else [], lines


def numbers(path: str) -> list[int]:
    particles = read_particles(path, require_ctf=False)
    return [int(str(name).split("@")[0]) - 1 for name in particles.table["rlnImageName"]]


@pytest.mark.parametrize("name", ["optimiser", "model", "data"])
def test_classes_of_a_job_by_any_of_its_files(folder: Path, name: str) -> None:
    kept, lines = select(input=[f"Class2D/run_it025_{name}.star"], classes="1,3-4")
    assert kept == [i for i in range(COUNT) if i % 5 + 1 in (1, 3, 4)]
    assert lines[0] == "rlnClassNumber 1,3-4: 24 kept, 16 dropped"


def test_criteria_combine_and_each_is_reported(folder: Path) -> None:
    kept, lines = select(
        select="rlnDefocusU", minval=10_500.0, maxval=12_500.0, ranges=["rlnClassNumber:2:"],
        select_by_str="rlnMicrographName", select_include="Mics/m", select_exclude="m1",
    )  # fmt: skip
    assert kept == [6, 7, 8, 9, 21, 22, 23, 24]
    assert lines == [
        "rlnClassNumber from 2: 32 kept, 8 dropped",
        "rlnDefocusU from 10500 to 12500: 16 kept, 16 dropped",
        "rlnMicrographName with 'Mics/m' and without 'm1': 8 kept, 8 dropped",
        "Select/out.star: 8 of 40 particles",
    ]


def test_the_selection_can_be_read_with_its_images_from_the_project(folder: Path) -> None:
    select(classes="2")
    particles = read_particles("Select/out.star")
    assert particles.table["rlnImageName"][0] == "000002@Extract/a.mrcs"
    before = ParticleImages(read_particles("Extract/a.star")).load([1])
    assert np.array_equal(ParticleImages(particles).load([0]), before)
    assert particles.table["rlnDefocusU"][0] == 10_100.0


def test_images_by_their_grey_values(folder: Path) -> None:
    images = np.random.default_rng(1).normal(size=(COUNT, 16, 16)).astype(np.float32)
    images[3] += 3
    images[5] *= 4
    images[7, 2, 2] = 30
    images[9, 2, 2] = np.nan
    write_stack("Extract/a.mrcs", images, 2.0)
    kept, lines = select(discard_on_stats=True, discard_sigma=3.0)
    assert sorted(set(range(COUNT)) - set(kept)) == [3, 5, 9]
    assert lines[0] == "image mean, stddev within 3 sigma: 37 kept, 3 dropped"
    kept, _ = select(discard_on_stats=True, discard_sigma=3.0, discard_statistics=["max"])
    assert sorted(set(range(COUNT)) - set(kept)) == [7, 9]
    kept, _ = select(ranges=["image.max::25", "rlnClassNumber::4", "image.stddev:0:2"])
    assert sorted({i for i in range(COUNT) if i % 5 != 4} - set(kept)) == [5, 7]


def test_doubles_within_a_distance_in_one_micrograph(folder: Path) -> None:
    """Pairs (0, 1) and (10, 11) lie 10 and 30 Å apart once their origins are taken into account."""
    particles = make_set("Extract/a.mrcs", OPTICS)
    origin = np.zeros(COUNT)
    origin[1], origin[11] = 90.0, 70.0
    write_particles("Extract/b.star", particles.with_columns({"rlnOriginXAngst": origin}))
    assert select(remove_duplicates=20.0)[0] == list(range(COUNT))
    kept, lines = select(input=["Extract/b.star"], remove_duplicates=20.0)
    assert set(range(COUNT)) - set(kept) == {0}
    assert lines[0] == "no two within 20 Å (kept by rlnAutopickFigureOfMerit): 39 kept, 1 dropped"
    assert set(range(COUNT)) - set(select(input=["Extract/b.star"], remove_duplicates=40.0)[0]) == {0, 10}
    by_other = {"input": ["Extract/b.star"], "best_by": "rlnMaxValueProbDistribution", "remove_duplicates": 20.0}
    assert set(range(COUNT)) - set(select(**by_other)[0]) == {1}
    # With coordinates of 1.2 Å, the centres are 120 - 90 = 30 Å apart.
    assert len(select(input=["Extract/b.star"], remove_duplicates=20.0, coordinate_pixel_size=1.2)[0]) == COUNT


def test_random_subsets_are_repeatable(folder: Path) -> None:
    kept, _ = select(random=12)
    assert len(set(kept)) == 12
    assert kept == sorted(kept) == select(random=12)[0]
    assert kept != select(random=12, random_seed=2)[0]
    assert len(select(random=100)[0]) == COUNT


def test_parts(folder: Path) -> None:
    _, lines = select(split=True, nr_split=2, size_split=15)
    assert numbers("Select/out_split1.star") == list(range(15))
    assert numbers("Select/out_split2.star") == list(range(15, 30))
    assert lines[-1] == "Select/out_split2.star: 15 of 40 particles"
    assert not Path("Select/out.star").exists()
    select(split=True, nr_split=3, random_order=True)
    parts = [numbers(f"Select/out_split{part}.star") for part in (1, 2, 3)]
    assert sorted(np.concatenate(parts).tolist()) == list(range(COUNT))
    assert parts[0] != list(range(14))


def halves_of(path: str) -> np.ndarray:
    return np.asarray(read_particles(path, require_ctf=False).table["rlnRandomSubset"])


def test_half_sets_are_even_repeatable_and_kept_together(folder: Path) -> None:
    _, lines = select(half_sets=True)
    halves = halves_of("Select/out.star")
    assert [(halves == half).sum() for half in (1, 2)] == [20, 20]
    assert "half sets: 20 and 20 particles" in lines
    select(half_sets=True)
    assert np.array_equal(halves_of("Select/out.star"), halves)
    select(half_sets=True, random_seed=2)
    assert not np.array_equal(halves_of("Select/out.star"), halves)
    # The same images twice, as symmetry expansion leaves them, and segments of tubes: never in both halves.
    one = make_set("a.mrcs", OPTICS)
    twice = Particles(one.table.rows(np.repeat(np.arange(COUNT), 2)), one.optics)
    write_particles("Extract/twice.star", twice)
    select(input=["Extract/twice.star"], half_sets=True)
    assert np.array_equal(*halves_of("Select/out.star").reshape(-1, 2).T)
    write_particles("Extract/tubes.star", one.with_columns({"rlnHelicalTubeID": np.arange(COUNT) // 5 % 2 + 1}))
    _, lines = select(input=["Extract/tubes.star"], half_sets=True)
    tubes = halves_of("Select/out.star").reshape(8, 5)
    assert (tubes == tubes[:, :1]).all() and (tubes == 1).sum() == 20


def test_half_sets_may_be_written_as_two_files(folder: Path) -> None:
    select(half_sets=True, split=True)
    parts = [f"Select/out_split{half}.star" for half in (1, 2)]
    assert all((halves_of(path) == half).all() for half, path in enumerate(parts, start=1))
    assert sorted(number for path in parts for number in numbers(path)) == list(range(COUNT))


def test_joined_files_share_optics_groups_and_doubles_are_dropped(folder: Path) -> None:
    other = Optics(2.0, 16, 200.0, 2.7, 0.1, group=3, name="other")
    write_particles("b.star", make_set("Extract/a.mrcs", other).with_columns({"extra": np.ones(COUNT)}))
    kept, lines = select(input=["Extract/a.star", "b.star"])
    assert len(kept) == 2 * COUNT
    assert read_particles("Select/out.star").table["rlnOpticsGroup"].tolist() == [1] * COUNT + [2] * COUNT
    assert "40 + 40 particles joined, 2 optics groups" in lines
    assert "left out, since not all files have them: extra" in lines
    for files in ({"input": ["Extract/a.star b.star"]}, {"join": ["b.star"]}, {"input": ["Extract/?.star", "b.star"]}):
        kept, lines = select(**{**files, "check_duplicates": "rlnImageName"})
        assert kept == list(range(COUNT))
        assert "each rlnImageName once: 40 kept, 40 dropped" in lines


def test_micrographs_are_regrouped_by_scale_and_defocus(folder: Path) -> None:
    select(input=["Class2D/run_it025_optimiser.star"], regroup=2)
    table = read_particles("Select/out.star").table
    # Scales are 0.5, 1.5, 0.5, 1.5; of two features that vary as much, the scale decides.
    assert [len(set(table["rlnGroupName"][table["rlnMicrographName"] == f"Mics/m{i}.mrc"])) for i in range(4)] == [
        1
    ] * 4
    assert sorted(set(table["rlnGroupName"])) == ["group_1", "group_2"]
    assert table["rlnGroupName"][0] == table["rlnGroupName"][20] != table["rlnGroupName"][10]
    assert "rlnGroupNumber" not in table
    _, lines = select(regroup=2)  # no model: by defocus alone
    table = read_particles("Select/out.star").table
    assert table["rlnGroupName"][0] == table["rlnGroupName"][10] != table["rlnGroupName"][20]
    assert "4 groups joined into 2 by defocus (no model file tells scales): 20 to 20 particles each" in lines
    assert any("there are only 4 groups" in line for line in select(regroup=9)[1])


def test_lists_for_extracting_anew(folder: Path) -> None:
    particles = make_set("Extract/a.mrcs", OPTICS)
    write_particles("Extract/b.star", particles.with_columns({"rlnOriginXAngst": np.full(COUNT, 4.0)}))
    select(input=["Extract/b.star"], classes="1", reextract="Select/again.star", coordinate_folder="Select/Picks")
    again = read_particles("Select/again.star", require_images=False).table
    assert again["rlnCoordinateX"].tolist() == [-4.0, 496.0] * 4
    assert not again["rlnOriginXAngst"].any()
    assert sorted(path.name for path in Path("Select/Picks").iterdir()) == [f"m{i}_select.star" for i in range(4)]
    picks = read_star("Select/Picks/m2_select.star")[""]
    assert isinstance(picks, Table)
    assert picks["rlnCoordinateX"].tolist() == [-4.0, 496.0]
    assert list(picks) == ["rlnCoordinateX", "rlnCoordinateY", "rlnAutopickFigureOfMerit", "rlnClassNumber"]
    assert numbers("Select/out.star") == list(range(0, COUNT, 5))  # the selection itself stays as it is


def test_lists_for_extracting_another_point_of_the_map(folder: Path) -> None:
    """A point 40 Å along x is seen there by particles that lie as the map does, and below by those turned by 90°."""
    particles = make_set("Extract/a.mrcs", OPTICS)
    turned = np.where(np.arange(COUNT) % 2, 90.0, 0.0)
    columns = {"rlnAngleRot": np.zeros(COUNT), "rlnAngleTilt": np.zeros(COUNT), "rlnAnglePsi": turned}
    write_particles("Extract/b.star", particles.with_columns({**columns, "rlnOriginXAngst": np.full(COUNT, 4.0)}))
    select(input=["Extract/b.star"], reextract="Select/again.star", recenter="40,0,0")
    again, before = read_particles("Select/again.star", require_images=False).table, particles.table
    for label, still, moved in (("rlnCoordinateX", 36.0, -4.0), ("rlnCoordinateY", 0.0, -40.0)):
        np.testing.assert_allclose(again[label] - before[label], np.where(turned > 0, moved, still), atol=1e-6)


def test_flat_output_is_the_old_dialect(folder: Path) -> None:
    select(classes="1", flat=True)
    blocks = read_star("Select/out.star")
    assert list(blocks) == [""]
    assert "rlnMagnification" in blocks[""]


def test_images_that_are_not_there_are_told_not_refused(folder: Path) -> None:
    write_particles("Extract/b.star", make_set("removed_since.mrcs", OPTICS))
    kept, lines = select(input=["Extract/b.star"], classes="1")
    assert len(kept) == 8
    assert any("removed_since.mrcs does not exist" in line and "kept as they are" in line for line in lines)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"input": ["none.star"]}, "none.star does not exist"),
        ({"input": ["*.none"]}, "no file matches"),
        ({"input": ["lonely_model.star"]}, "lonely_data.star, are not there"),
        ({"input": ["lost_optimiser.star"]}, "names no particles"),
        ({"classes": "7"}, "no particle is left after 'rlnClassNumber 7' (40 before it); nothing was written"),
        ({"classes": "2-1"}, "--classes 2-1: the span 2-1 runs backwards"),
        ({"input": ["bare.star"], "classes": "1"}, "bare.star lacks the column rlnClassNumber, which --classes needs"),
        ({"ranges": ["rlnDefocusU"]}, "write column:minimum:maximum"),
        ({"ranges": ["rlnDefocusU:low:"]}, "the bounds must be numbers"),
        ({"ranges": ["rlnDefocusU:2:1"]}, "is above the highest"),
        ({"ranges": ["rlnMicrographName:1:"]}, "rlnMicrographName holds text; use --select_by_str"),
        ({"ranges": ["rlnParticleSelectZScore::3"]}, "lacks the column rlnParticleSelectZScore"),
        ({"select": "rlnDefocusU"}, "give a lowest or a highest value"),
        ({"minval": 3.0}, "need --select"),
        ({"select_by_str": "rlnMicrographName"}, "goes with --select_include"),
        ({"select_include": "m1"}, "goes with --select_include"),
        ({"split": True}, "--split goes with"),
        ({"half_sets": True, "classes": "1", "random": 1}, "at least two images"),
        ({"half_sets": True, "split": True, "random_order": True}, "--random_order needs --split"),
        ({"nr_split": 2}, "--split goes with"),
        ({"split": True, "nr_split": 41}, "40 particles do not fill 41 parts"),
        ({"random_order": True}, "--random_order needs --split"),
        ({"discard_on_stats": True, "discard_statistics": []}, "--discard_statistics: name one"),
        ({"input": ["bare.star"], "remove_duplicates": 9.0}, "lacks the column rlnMicrographName"),
        ({"remove_duplicates": 9.0, "best_by": "rlnNothing"}, "lacks the column rlnNothing"),
        ({"input": ["bare.star"], "regroup": 2}, "there is nothing to regroup"),
        ({"input": ["bare.star"], "reextract": "Select/r.star"}, "which re-extraction needs"),
        ({"recenter": "1,2,3"}, "--recenter goes with --reextract"),
        ({"recenter": "1,2", "reextract": "Select/r.star"}, "three numbers in Å"),
        ({"recenter": "1,2,3", "reextract": "Select/r.star"}, "lacks the column rlnAngleRot"),
        ({"input": ["bare.star"], "check_duplicates": "rlnNothing"}, "lacks the column rlnNothing"),
    ],
)
def test_mistakes_are_told_and_nothing_is_written(folder: Path, parameters: dict[str, object], message: str) -> None:
    bare = make_set("Extract/a.mrcs", OPTICS).rows(slice(None))
    table = bare.table.without("rlnClassNumber", "rlnMicrographName", "rlnGroupNumber")
    write_particles("bare.star", Particles(table, bare.optics))
    write_star("lonely_model.star", {"model_general": {"rlnNrClasses": 5}})
    write_star("lost_optimiser.star", {"optimiser_general": {"rlnExperimentalDataStarFile": "gone.star"}})
    with pytest.raises(InputError) as error:
        select(**parameters)
    assert message in str(error.value)
    assert not Path("Select").exists()


def test_the_command_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """RELION's words, several files behind --i, and exit codes."""
    write_particles("b.star", make_set("Extract/a.mrcs", OPTICS))
    words = "select --i Extract/a.star b.star --o s.star --combine --check_duplicates rlnImageName --quiet"
    assert main(words.split()) == 0
    assert numbers("s.star") == list(range(COUNT))
    words = "select --i s.star --o t.star --select rlnDefocusU --minval 10500 --maxval 12000 --remove_duplicates -1"
    assert main(words.split()) == 0
    assert numbers("t.star") == list(range(5, 21))
    assert "rlnDefocusU from 10500 to 12000: 16 kept, 24 dropped" in capsys.readouterr().out
    assert main(["select", "--i", "s.star", "--o", "u.star", "--classes", "9"]) == 2
    assert "nothing was written" in capsys.readouterr().err
    assert not Path("u.star").exists()


def test_conditions_on_columns_are_those_of_star_select(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [
        "select",
        "--i",
        "Extract/a.star",
        "--o",
        "w.star",
        "--where",
        "DefocusU > 11000 and ClassNumber in (1, 2)",
    ]
    assert main([*words, "--where", "MicrographName.contains('m3')"]) == 0
    numbers = (read_particles("w.star", require_images=False).table["rlnDefocusU"] - 10_000) / 100
    assert numbers.tolist() == [30.0, 31.0, 35.0, 36.0]
    assert main(["select", "--i", "Extract/a.star", "--o", "x.star", "--where", "Defocus > 1"]) == 2
    assert "--where: there is no column Defocus" in capsys.readouterr().err
