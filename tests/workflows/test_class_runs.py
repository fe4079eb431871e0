"""What holds for every run with classes: ``class2d``, ``class3d`` and ``initial-model`` on files, as users run them.

Names and readability of files, going on after a kill or a full disk, seeds, and input that cannot be used.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mrcfile
import numpy as np
import pytest
import starfile

from vitrea.cli.main import main
from vitrea.formats.mrc import open_stack, write_stack
from vitrea.formats.particle_files import read_particles
from vitrea.formats.star import read_star, write_star
from vitrea.jobs.run_history import read_history
from vitrea.records.table import Table

Refused = Callable[..., None]
COMMON = ["--particle_diameter", "120", "--offset_range", "3"]


@dataclass(frozen=True)
class Kind:
    """A job with the options of a run of a few seconds, and what it leaves.

    Attributes
    ----------
    job : str
    options : tuple of str
    final : int
        Number of the last iteration.
    images : tuple of str
        Names of its averages or maps, after the root.
    classes : int
    """

    job: str
    options: tuple[str, ...]
    final: int
    images: tuple[str, ...]
    classes: int

    def command(self, folder: Any, output: Path) -> list[str]:
        start = ["--ref", str(folder.start)] if self.job == "class3d" else []
        return [self.job, "--i", str(folder.star), "--o", str(output), *start, *COMMON, *self.options]


KINDS = {
    "class2d": Kind("class2d", ("--K", "4", "--iter", "4"), 4, ("classes.mrcs",), 4),
    "class3d": Kind(
        "class3d",
        ("--K", "2", "--iter", "4", "--healpix_order", "1", "--sym", "C2", "--ini_high", "40"),
        4,
        ("class001.mrc", "class002.mrc"),
        2,
    ),
    "initial-model": Kind(
        "initial-model",
        (
            "--first_maps", "1", "--iter", "3", "--starts", "2", "--healpix_order", "1", "--sym", "C2",
            "--particles_at_start", "60", "--particles_at_end", "150",
        ),
        6,
        ("class001.mrc",),
        1,
    ),
    # As initial-model, with sums that are carried from batch to batch.
    "batches": Kind(
        "class2d",
        ("--K", "3", "--iter", "4", "--schedule", "batches", "--particles_per_class", "30"),
        4,
        ("classes.mrcs",),
        3,
    ),
    "auto": Kind(
        "class2d",
        ("--K", "3", "--iter", "4", "--schedule", "auto", "--particles_per_class", "30"),
        4,
        ("classes.mrcs",),
        3,
    ),
}  # fmt: skip
JOBS = ("class2d", "class3d", "initial-model")
# Where the code is the same for all, one job in every run of the tests and the others in the full one.
ONE_QUICK = ("class2d", *(pytest.param(job, marks=pytest.mark.slow) for job in JOBS[1:]))


@pytest.fixture(scope="module")
def run_of(mixed_folder: Any, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return a function that gives the root of a finished run of a kind, made when first asked for."""
    made: dict[str, Path] = {}

    def root(kind: str) -> Path:
        if kind not in made:
            made[kind] = tmp_path_factory.mktemp(kind) / "run"
            assert main(KINDS[kind].command(mixed_folder, made[kind])) == 0
        return made[kind]

    return root


def assert_same_result(one: Path, two: Path, kind: str) -> None:
    """Both runs ended with the same images, classes and poses, to the last bit."""
    for name in KINDS[kind].images:
        np.testing.assert_array_equal(open_stack(f"{two}_{name}"), open_stack(f"{one}_{name}"))
    first, second = (read_particles(f"{root}_data.star") for root in (one, two))
    for label in first.table:
        if label != "rlnImageName":  # relative to the folder of the run
            np.testing.assert_array_equal(second.table[label], first.table[label], err_msg=label)


@pytest.mark.parametrize("kind", JOBS)
def test_files_are_those_of_relion_and_others_read_them(kind: str, run_of: Callable[[str], Path]) -> None:
    root, expected = run_of(kind), KINDS[kind]
    stars = ("data.star", "model.star", "optimiser.star", "sampling.star")
    for middle in [f"it{number:03d}_" for number in range(1, expected.final + 1)] + [""]:
        for name in (*stars, *expected.images):
            assert Path(f"{root}_{middle}{name}").exists(), f"{middle}{name}"
    for path in [*root.parent.glob("*.mrc"), *root.parent.glob("*.mrcs")]:
        assert mrcfile.validate(path), path
    for path in root.parent.glob("*.star"):
        assert starfile.read(path, always_dict=True), path
    data = starfile.read(f"{root}_data.star")["particles"]
    assert data["rlnClassNumber"].between(1, expected.classes).all()
    model = starfile.read(f"{root}_model.star", always_dict=True)
    classes = model["model_classes"]
    classes = {label: np.atleast_1d(values) for label, values in classes.items()}
    assert len(classes["rlnReferenceImage"]) == expected.classes
    assert np.sum(classes["rlnClassDistribution"]) == pytest.approx(1.0)
    for number in range(1, expected.classes + 1):
        assert np.isfinite(model[f"model_class_{number}"]["rlnSsnrMap"]).all()
    pictures = ("classes", "convergence", *(("views",) if expected.job != "class2d" else ()))
    assert all(Path(f"{root}_{picture}.png").read_bytes()[1:4] == b"PNG" for picture in pictures)
    assert Path(f"{root}_report.html").read_text().count("<img") == len(pictures)
    lines = [line for line in Path(f"{root}.log").read_text().splitlines() if "iteration=" in line]
    assert len(lines) == expected.final
    history = read_history(str(root), expected.final)
    assert [record.iteration for record in history] == list(range(1, expected.final + 1))
    for record, line in zip(history, lines, strict=True):
        told = dict(word.split("=", 1) for word in line.split() if "=" in word)
        assert record.resolution == pytest.approx(float(told["resolution_angstrom"]), abs=1e-3)
        assert record.change_offset == pytest.approx(float(told["change_offset_angstrom"]), abs=1e-3)
        assert record.change_class == pytest.approx(float(told["change_class"]), abs=1e-4)
        shares = [float(word) for word in told["shares"].split(",")] if "," in told["shares"] else [1.0]
        np.testing.assert_allclose(record.shares, shares, atol=1e-4)
    assert [record.iteration for record in read_history(str(root), expected.final - 1)][-1] == expected.final - 1
    record = json.loads(Path(f"{root}_job.json").read_text())
    assert record["job"] == expected.job and f"{root}_data.star" in record["outputs"]


def test_occupancies_are_probabilities(run_of: Callable[[str], Path]) -> None:
    data = starfile.read(f"{run_of('class3d')}_data.star")["particles"]
    shares = data[["vitreaOccupancy1", "vitreaOccupancy2"]].to_numpy()
    # Poses that hold less than a thousandth (--adaptive_fraction) are left out.
    total = shares.sum(axis=1)
    assert (total > 0.999 - 1e-5).all() and (total < 1.0 + 1e-5).all()
    assert (np.argmax(shares, axis=1) + 1 == data["rlnClassNumber"]).mean() > 0.9


@pytest.mark.parametrize(
    "kind",
    ["class2d", "class3d", *(pytest.param(k, marks=pytest.mark.slow) for k in ("initial-model", "auto"))],
)
def test_going_on_from_an_iteration_repeats_the_rest(kind: str, run_of: Callable[[str], Path], tmp_path: Path) -> None:
    root, job = run_of(kind), KINDS[kind]
    options = ["--continue", f"{root}_it{job.final - 1:03d}_optimiser.star", "--o", str(tmp_path / "again")]
    assert main([job.job, *options]) == 0
    assert_same_result(root, tmp_path / "again", kind)


def moved(root: Path, iteration: int, folder: Path) -> Path:
    """Copy the files of an iteration, and what they name, into another folder; return the optimiser file there."""
    for path in root.parent.glob(f"run_it{iteration:03d}*"):
        shutil.copy(path, folder)
        if path.suffix == ".star":
            text = path.read_text().replace(str(root.parent), str(folder))
            (folder / path.name).write_text(text)
    return folder / f"run_it{iteration:03d}_optimiser.star"


def test_sums_of_batches_are_kept_for_the_newest_iteration(
    run_of: Callable[[str], Path],
    mixed_folder: Any,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    refused: Refused,
    disk_full_after: Any,
) -> None:
    """A run that stopped has them and uses them; it says so where it goes on without."""
    root, job = tmp_path / "run", KINDS["batches"]
    with disk_full_after(Path(f"{root}_it002_optimiser.star")):
        assert main(job.command(mixed_folder, root)) == 2
    sums = tmp_path / "run_it002_sums.npz"
    assert sums.exists()
    command = ["class2d", "--continue", f"{root}_it002_optimiser.star", "--o"]
    assert main([*command, str(tmp_path / "again")]) == 0
    assert_same_result(run_of("batches"), tmp_path / "again", "batches")
    for finished in (tmp_path / "again", run_of("batches")):  # the last iteration carries nothing on
        assert not list(finished.parent.glob(f"{finished.name}_it*_sums.npz"))
    content = sums.read_bytes()
    sums.write_bytes(content[: len(content) // 2])
    refused(command[:-1], str(sums), "damaged")
    sums.unlink()
    assert main([*command, str(tmp_path / "without")]) == 0
    shown = capsys.readouterr()
    assert "without the sums" in (shown.err + shown.out).replace("\n", " ")


@pytest.mark.parametrize("name", ["classes.mrcs", "data.star", "model.star", "sampling.star"])
def test_files_of_the_run_that_are_gone(
    name: str, run_of: Callable[[str], Path], tmp_path: Path, refused: Refused
) -> None:
    optimiser = moved(run_of("class2d"), 2, tmp_path)
    (tmp_path / f"run_it002_{name}").unlink()
    output = tmp_path / "output" / "run"
    refused(["class2d", "--continue", str(optimiser), "--o", str(output)], f"run_it002_{name}")
    assert not output.parent.exists()


@pytest.mark.parametrize("kind", ["batches", *(pytest.param(kind, marks=pytest.mark.slow) for kind in JOBS)])
def test_seeds_decide(kind: str, run_of: Callable[[str], Path], mixed_folder: Any, tmp_path: Path) -> None:
    """The same seed gives the same result; another seed another one."""
    root = run_of(kind)
    assert main(KINDS[kind].command(mixed_folder, tmp_path / "same")) == 0
    assert_same_result(root, tmp_path / "same", kind)
    assert main([*KINDS[kind].command(mixed_folder, tmp_path / "other"), "--random_seed", "2"]) == 0
    name = KINDS[kind].images[0]
    assert not np.array_equal(open_stack(f"{root}_{name}"), open_stack(tmp_path / f"other_{name}"))


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "plain"), [("class2d", ("--schedule", "em")), ("class3d", ("--balanced", "0"))])
def test_more_iterations_later_are_as_if_asked_for_at_once(
    kind: str, plain: tuple[str, ...], mixed_folder: Any, tmp_path: Path
) -> None:
    """Where no rule counts from the end, as cisTEM's resolution ramp, even classes and fine poses at last do."""
    job, options = KINDS[kind], ("--always_oversample", *plain)
    assert main([*job.command(mixed_folder, tmp_path / "whole"), "--iter", "3", *options]) == 0
    assert main([*job.command(mixed_folder, tmp_path / "parts"), "--iter", "2", *options]) == 0
    # The last optimiser file has no number.
    assert main([job.job, "--continue", f"{tmp_path}/parts_optimiser.star", "--iter", "3"]) == 0
    assert_same_result(tmp_path / "whole", tmp_path / "parts", kind)
    assert (tmp_path / "parts.log").exists() and not list(tmp_path.glob("*star.log"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "seen"),
    [
        ("class2d", "it001_classes.mrcs"),
        ("class2d", "it003_optimiser.star"),
        ("class2d", "classes.mrcs"),
        ("batches", "it002_sums.npz"),
        ("class3d", "it002_class001.mrc"),
        ("class3d", "it003_model.star"),
        ("initial-model", "it004_data.star"),
    ],
)
def test_killed_and_continued_is_as_never_stopped(
    kind: str,
    seen: str,
    run_of: Callable[[str], Path],
    mixed_folder: Any,
    run_until: Callable[[list[str], Path], None],
    tmp_path: Path,
) -> None:
    """Kill between iterations, in the middle of writing, and before the very last files."""
    root, job = tmp_path / "run", KINDS[kind]
    run_until(job.command(mixed_folder, root), Path(f"{root}_{seen}"))
    assert not Path(f"{root}_job.json").exists()
    done = sorted(tmp_path.glob("run_it*_optimiser.star"))
    # Without an iteration there is nothing to go on from; a user types the command once more.
    again = [job.job, "--continue", str(done[-1])] if done else job.command(mixed_folder, root)
    assert main(again) == 0
    assert_same_result(run_of(kind), root, kind)
    # The convergence plot tells of all iterations, those before the kill too.
    stories = [read_history(str(one), KINDS[kind].final) for one in (run_of(kind), root)]
    for one, other in zip(*stories, strict=True):
        np.testing.assert_equal(vars(other), vars(one))


@pytest.mark.parametrize("kind", ["class2d", pytest.param("initial-model", marks=pytest.mark.slow)])
def test_what_was_stopped_before_its_last_file_is_finished(
    kind: str, run_of: Callable[[str], Path], tmp_path: Path
) -> None:
    """All iterations are there, the files without a number are not."""
    root, job = run_of(kind), KINDS[kind]
    optimiser = Path(f"{root}_it{job.final:03d}_optimiser.star")
    assert main([job.job, "--continue", str(optimiser), "--o", str(tmp_path / "run")]) == 0
    assert_same_result(root, tmp_path / "run", kind)
    assert (tmp_path / "run_report.html").exists() and (tmp_path / "run_job.json").exists()


@pytest.mark.slow  # a quick one is in test_sums_of_batches_are_kept_for_the_newest_iteration
@pytest.mark.parametrize("kind", ["batches", *JOBS])
def test_full_disk_is_one_sentence(
    kind: str,
    run_of: Callable[[str], Path],
    mixed_folder: Any,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    disk_full_after: Any,
) -> None:
    """What is there stays whole, and the run can be continued."""
    root, job = tmp_path / "run", KINDS[kind]
    with disk_full_after(Path(f"{root}_it001_optimiser.star")):
        assert main(job.command(mixed_folder, root)) == 2
    message = capsys.readouterr().err
    assert "no space" in message.lower() and "Traceback" not in message
    assert {path.suffix for path in tmp_path.iterdir()} <= {".mrc", ".mrcs", ".star", ".npz", ".log"}
    for path in [*tmp_path.glob("*.mrc"), *tmp_path.glob("*.mrcs")]:
        assert mrcfile.validate(path)
    last = max(tmp_path.glob("run_it*_optimiser.star"))
    assert main([job.job, "--continue", str(last)]) == 0
    assert_same_result(run_of(kind), root, kind)


def test_nothing_to_continue(run_of: Callable[[str], Path], refused: Refused) -> None:
    for kind in JOBS:
        command = [KINDS[kind].job, "--continue", f"{run_of(kind)}_optimiser.star"]
        refused(command, "finished", "--iter", "optimiser.star")


@pytest.mark.parametrize("kind", JOBS)
def test_number_of_classes_is_settled_at_the_start(
    kind: str, run_of: Callable[[str], Path], tmp_path: Path, refused: Refused
) -> None:
    optimiser = f"{run_of(kind)}_it002_optimiser.star"
    output = tmp_path / "output" / "run"
    refused(
        [KINDS[kind].job, "--continue", optimiser, "--K", "7", "--o", str(output)], optimiser, "--K 7",
        str(KINDS[kind].classes),
    )  # fmt: skip
    assert not output.parent.exists()


def test_a_run_of_one_job_is_not_continued_by_another(
    run_of: Callable[[str], Path],
    particle_folder: Any,
    tmp_path: Path,
    refused: Refused,
) -> None:
    assert main(["refine3d", *particle_folder.options(tmp_path / "refine"), "--iter", "1"]) == 0
    optimisers = {kind: f"{run_of(kind)}_it002_optimiser.star" for kind in JOBS}
    optimisers["refine3d"] = f"{tmp_path}/refine_optimiser.star"
    for made_by, optimiser in optimisers.items():
        for job in optimisers:
            if job != made_by:
                output = tmp_path / "output" / "run"
                refused([job, "--continue", optimiser, "--o", str(output)], optimiser, f"vitrea {made_by}")
                assert not output.parent.exists()


@pytest.mark.parametrize("job", JOBS)
def test_relions_optimiser_is_refused_kindly(job: str, tmp_path: Path, refused: Refused) -> None:
    write_star(tmp_path / "run_it003_optimiser.star", {"optimiser_general": {"rlnCurrentIteration": 3}})
    refused([job, "--continue", str(tmp_path / "run_it003_optimiser.star")], "vitrea_parameters")


@pytest.mark.parametrize("job", ONE_QUICK)
def test_a_few_bad_images_are_set_aside(
    job: str, mixed_folder: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copied = mixed_folder.copy_to(tmp_path / "input")
    stack = np.array(open_stack(copied.folder / "particles.mrcs"))
    stack[4, 3, 3] = np.nan
    stack[17] = 0.5
    write_stack(copied.folder / "particles.mrcs", stack, 5.0)
    output = tmp_path / "run"
    more = ["--iter", "2", "--starts", "1"] if job == "initial-model" else ["--iter", "2"]
    assert main([*KINDS[job].command(copied, output), *more]) == 0
    shown = capsys.readouterr()
    assert "000005@" in shown.err + shown.out and "000018@" in shown.err + shown.out
    aside = read_star(f"{output}_set_aside.star")["particles"]
    assert isinstance(aside, Table) and len(aside) == 2
    assert len(read_particles(f"{output}_data.star")) == 238


def test_classes_of_an_earlier_run_are_forgotten(
    run_of: Callable[[str], Path], mixed_folder: Any, tmp_path: Path
) -> None:
    """What another run wrote into the particle file does not change the first iteration of a search everywhere."""
    earlier = Path(f"{run_of('class3d')}_data.star")
    blocks: dict[str, Any] = dict(read_star(earlier))
    table = blocks["particles"]
    columns = {label: np.zeros(len(table)) for label in ("rlnOriginXAngst", "rlnOriginYAngst")}
    changed = table.with_columns({**columns, "rlnClassNumber": np.full(len(table), 30)})
    write_star(tmp_path / "earlier.star", {**blocks, "particles": changed})
    options = [*COMMON, "--K", "2", "--iter", "1", "--schedule", "batches", "--particles_per_class", "30"]
    for name, star in (("one", mixed_folder.star), ("two", tmp_path / "earlier.star")):
        assert main(["class2d", "--i", str(star), "--o", str(tmp_path / name), *options]) == 0
    np.testing.assert_array_equal(open_stack(tmp_path / "one_classes.mrcs"), open_stack(tmp_path / "two_classes.mrcs"))
    found = read_particles(tmp_path / "two_data.star").table
    assert set(np.unique(found["rlnClassNumber"])) <= {1, 2}
    assert "vitreaOccupancy1" not in found


def test_a_data_file_that_was_changed_meanwhile(
    run_of: Callable[[str], Path], tmp_path: Path, refused: Refused
) -> None:
    """Tilts do no harm in two dimensions; classes that do not exist are refused."""
    root = run_of("class2d")
    optimiser, data = moved(root, 2, tmp_path), tmp_path / "run_it002_data.star"
    blocks: dict[str, Any] = dict(read_star(data))
    table = blocks["particles"]
    tilted = table.with_columns({"rlnAngleTilt": np.full(len(table), 77.0), "rlnAngleRot": np.full(len(table), 9.0)})
    write_star(data, {**blocks, "particles": tilted})
    assert main(["class2d", "--continue", str(optimiser), "--o", str(tmp_path / "again")]) == 0
    np.testing.assert_array_equal(open_stack(f"{root}_classes.mrcs"), open_stack(tmp_path / "again_classes.mrcs"))
    write_star(data, {**blocks, "particles": table.with_columns({"rlnClassNumber": np.full(len(table), 9)})})
    refused(["class2d", "--continue", str(optimiser)], str(data), "rlnClassNumber", "9")
