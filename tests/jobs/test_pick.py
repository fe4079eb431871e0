"""``vitrea pick``: from micrographs to coordinate files, as users run it; what is wrong is set aside by name."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from vitrea.cli.main import main
from vitrea.formats.coordinates import CLASS, MERIT, PSI, X, Y, read_coordinate_files, read_coordinates
from vitrea.formats.movies import read_micrograph
from vitrea.formats.mrc import open_stack, write_stack
from vitrea.formats.star import read_star
from vitrea.picking.comparison import compare_picks

PIXEL, RADIUS = 5.0, 55.0
BLOB = "--characteristic_radius 55 --maximum_radius 65 --pictures 0 --no-invert"


def make_micrograph(seed: int, number: int = 14, size: tuple[int, int] = (224, 256)) -> tuple[Any, Any]:
    rng = np.random.default_rng(seed)
    image, places = rng.standard_normal(size), []
    y, x = np.mgrid[: size[0], : size[1]]
    while len(places) < number:
        place = rng.uniform(14, np.array(size[::-1]) - 15)
        if all(np.hypot(*(place - other)) > 28 for other in places):
            places.append(place)
            image += 1.0 * (np.hypot(x - place[0], y - place[1]) < RADIUS / PIXEL)
    return image.astype(np.float32), np.array(places)


@pytest.fixture
def project(in_tmp: Path) -> dict[str, Any]:
    """Three micrographs in Movies/, listed in mics.star; return the truth by name."""
    Path("Movies").mkdir()
    truth = {}
    for number in (1, 2, 3):
        image, places = make_micrograph(number)
        write_stack(f"Movies/mic{number}.mrc", image, PIXEL)
        truth[f"MotionCorr/job002/Movies/mic{number}.mrc"] = places
    names = "\n".join(truth)
    Path("MotionCorr/job002").mkdir(parents=True)
    Path("Movies").rename("MotionCorr/job002/Movies")
    Path("mics.star").write_text(
        "data_optics\nloop_\n_rlnOpticsGroup\n_rlnOpticsGroupName\n_rlnVoltage\n_rlnSphericalAberration\n"
        "_rlnAmplitudeContrast\n_rlnMicrographPixelSize\n1 one 300 2.7 0.1 5.0\n\n"
        f"data_micrographs\nloop_\n_rlnMicrographName\n_rlnOpticsGroup\n{names} 1\n".replace(".mrc\n", ".mrc 1\n")
    )
    return truth


def pick(command: str) -> None:
    assert main(["pick", *command.split()]) == 0


def test_blobs_are_found(project: dict[str, Any]) -> None:
    pick(f"blob --i mics.star --odir AutoPick/job004/ {BLOB}")
    files = read_coordinate_files("AutoPick/job004/autopick.star")
    assert list(files) == list(project)
    assert str(files["MotionCorr/job002/Movies/mic1.mrc"]) == "AutoPick/job004/Movies/mic1_autopick.star"
    for name, places in project.items():
        table = read_coordinates(files[name])
        found = compare_picks(np.stack([table[X], table[Y]], axis=1), places, 4.0)
        assert found.recall > 0.9 and found.precision > 0.85
        assert (table[CLASS] == 1).all() and (np.diff(table[MERIT]) <= 0).all()
    curve = read_star("AutoPick/job004/autopick_thresholds.star")["thresholds"]
    counts = curve["vitreaPickCount"]  # type: ignore[index]
    assert (np.diff(counts) <= 0).all() and counts[0] >= 40
    assert Path("AutoPick/job004/autopick_thresholds.png").stat().st_size > 5000


def test_a_higher_threshold_keeps_the_best(project: dict[str, Any]) -> None:
    heights = {}
    for threshold in (4, 9):
        pick(f"blob --i mics.star --odir t{threshold} --threshold {threshold} {BLOB}")
        files = read_coordinate_files(f"t{threshold}/autopick.star")
        heights[threshold] = np.concatenate([read_coordinates(path)[MERIT] for path in files.values()])
    assert heights[4].min() >= 4 and heights[9].min() >= 9
    np.testing.assert_allclose(np.sort(heights[4][heights[4] >= 9]), np.sort(heights[9]))


def test_what_is_wrong_is_set_aside(project: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    folder = Path("MotionCorr/job002/Movies")
    write_stack(folder / "mic2.mrc", np.full((224, 256), 3.0, dtype=np.float32), PIXEL)
    content = (folder / "mic3.mrc").read_bytes()
    (folder / "mic3.mrc").write_bytes(content[:4000])
    pick(f"blob --i mics.star --odir out {BLOB}")
    told = capsys.readouterr()
    warnings = told.err + told.out
    assert re.search(r"mic2\.mrc: all its pixels have one value", warnings)
    assert re.search(r"mic3\.mrc.*", warnings)
    assert list(read_coordinate_files("out/autopick.star")) == ["MotionCorr/job002/Movies/mic1.mrc"]
    summary = read_star("out/autopick_summary.star")["micrographs"]
    status = list(summary["vitreaPickStatus"])  # type: ignore[index]
    assert status[0] == "picked" and "mic2" in status[1] and "mic3" in status[2]
    (folder / "mic1.mrc").unlink()
    assert main(["pick", "blob", "--i", "mics.star", "--odir", "none", *BLOB.split()]) == 1
    assert "no micrograph of 3" in capsys.readouterr().err


def test_a_micrograph_without_particles(project: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    write_stack("MotionCorr/job002/Movies/mic2.mrc", make_micrograph(9, 0)[0], PIXEL)
    pick(f"blob --i mics.star --odir out --threshold 6 {BLOB}")
    assert "no picks in 1 micrograph: MotionCorr/job002/Movies/mic2.mrc" in capsys.readouterr().err
    assert len(read_coordinates("out/Movies/mic2_autopick.star")) == 0


def test_only_the_unfinished(project: dict[str, Any]) -> None:
    pick(f"blob --i mics.star --odir out {BLOB}")
    before = {path: path.read_text() for path in sorted(Path("out/Movies").glob("*.star"))}
    first, second, _ = before
    second.unlink()
    first.write_text("data_\nloop_\n_rlnCoordinateX\n_rlnCoordinateY\n1 1\n")
    pick(f"blob --i mics.star --odir out --only_do_unfinished {BLOB}")
    assert first.read_text().endswith("1 1\n")
    again = read_coordinates(second)
    second.write_text(before[second])
    np.testing.assert_allclose(again[MERIT], read_coordinates(second)[MERIT], rtol=1e-6)
    assert len(read_coordinate_files("out/autopick.star")) == 3


def write_references(path: str, pixel: float = PIXEL, size: int = 40) -> None:
    """Two references: a disc as the particles are, and a bar, which they are not."""
    y, x = (np.mgrid[:size, :size] - size // 2) * pixel
    disc, bar = np.hypot(y, x) < RADIUS, (np.abs(y) < 15) & (np.abs(x) < 60)
    write_stack(path, np.stack([bar, disc]).astype(np.float32), pixel)


RELION = "--invert --ctf --ang 30 --shrink 0 --lowpass 20 --particle_diameter 140 --min_distance 110 --gpu 0"


def test_templates_of_another_pixel_size_by_relions_command_line(project: dict[str, Any]) -> None:
    for name in project:
        write_stack(name, -np.array(open_stack(name)[0]), PIXEL)
    write_references("refs.mrcs", 4.0, 50)
    pick(f"template --i mics.star --ref refs.mrcs --odir out --write_fom_maps --pictures 1 {RELION}")
    for name, path in read_coordinate_files("out/autopick.star").items():
        table = read_coordinates(path)
        found = compare_picks(np.stack([table[X], table[Y]], axis=1), project[name], 4.0)
        assert found.recall > 0.9 and found.precision > 0.9
        assert (table[CLASS] == 2).mean() > 0.9
        assert np.abs(table[PSI]).max() <= 180 and 0.6 < table[MERIT].mean() < 1.4
    assert len(list(Path("out/Movies").glob("*.png"))) == 1
    stack = open_stack("out/Movies/mic1_autopick_maps.mrc")
    assert set(np.unique(stack[1])) == {1.0, 2.0}
    # Thresholds anew, from maps: the same picks where nothing changes, fewer at a higher threshold.
    before = {path: path.read_text().split("\n", 1)[1] for path in Path("out/Movies").glob("*.star")}
    again = f"template --i mics.star --ref refs.mrcs --odir out --read_fom_maps --pictures 0 {RELION}"
    pick(again)
    for path, text in before.items():
        old, new = path.with_suffix(".old"), read_coordinates(path)
        old.write_text(text)
        np.testing.assert_allclose(new[X], read_coordinates(old, "star")[X], atol=1e-3)
    pick(f"{again} --threshold 1.05")
    assert all(read_coordinates(path)[MERIT].min() >= 1.05 for path in before)


def test_wrong_references_are_named(project: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    write_references("refs.mrcs", 2.0)
    options = f"template --i mics.star --ref refs.mrcs --odir out {RELION}".split()
    assert main(["pick", *options]) == 2
    assert "does not fit the references in refs.mrcs" in capsys.readouterr().err
    write_stack("blank.mrcs", np.zeros((2, 40, 40), dtype=np.float32), PIXEL)
    assert main(["pick", *options, "--ref", "blank.mrcs"]) == 2
    assert "reference 2 of blank.mrcs: it is empty" in (message := capsys.readouterr().err)
    assert "no reference is left" in message
    assert main(["pick", *options, "--lowpass", "8"]) == 2
    assert not Path("out").exists()


def test_log_takes_relions_options(project: dict[str, Any]) -> None:
    """Thresholds are in standard deviations above the mean of what could be a particle, in each micrograph."""
    log = "blob --i mics.star --LoG --LoG_diam_min 100 --LoG_diam_max 120 --pictures 0"
    pick(f"{log} --odir out --no-invert --LoG_adjust_threshold 0.4 --LoG_neighbour 100 --write_fom_maps")
    for name, path in read_coordinate_files("out/autopick.star").items():
        table = read_coordinates(path)
        found = compare_picks(np.stack([table[X], table[Y]], axis=1), project[name], 5.0)
        assert found.recall > 0.85 and found.precision > 0.85
        assert table[MERIT].min() >= 0.4
    pick(f"{log} --odir few --Log_invert --LoG_adjust_threshold 2")
    few = sum(len(read_coordinates(path)) for path in read_coordinate_files("few/autopick.star").values())
    assert 0 < few < sum(len(read_coordinates(path)) for path in read_coordinate_files("out/autopick.star").values())
    pick(f"{log} --odir limited --Log_invert --LoG_upper_threshold 1.5")
    tables = [read_coordinates(path) for path in read_coordinate_files("limited/autopick.star").values()]
    merits = np.concatenate([table.numbers(MERIT, 0.0) for table in tables])
    assert len(merits) and merits.min() >= 0 and merits.max() <= 1.5
    before = {path: path.read_text().split("\n", 1)[1] for path in Path("out").rglob("*_autopick.star")}
    pick(f"{log} --odir out --no-invert --LoG_adjust_threshold 0.4 --read_fom_maps")
    assert all(path.read_text().split("\n", 1)[1] == text for path, text in before.items()) and before


def test_manual_sets_are_joined_sieved_and_converted(project: dict[str, Any], capsys: Any) -> None:
    Path("Picks").mkdir()
    Path("Picks/mic1_a.star").write_text("data_\nloop_\n_rlnCoordinateX\n_rlnCoordinateY\n50 60\n999 10\n3 3\n")
    Path("Picks/mic1_b.box").write_text("20\t30\t64\t64\n80\t30\t64\t64\n")  # the first is the STAR file's
    Path("Picks/other.box").write_text("1 1 2 2\n")
    Path("Picks/mic2.box").write_text("oops\n")
    pick(
        "manual --i mics.star --coords Picks --odir out --min_distance 60 --edge-distance 40 --format box --box_size 64"
    )
    told = capsys.readouterr().err
    assert "1 of 5 coordinates" in told and "other.box belongs to no micrograph" in told and "mic2.box line 1" in told
    assert Path("out/Movies/mic1_manualpick.box").read_text() == "18\t28\t64\t64\n80\t30\t64\t64\n"
    pick("manual --i mics.star --coords out/manualpick.star --odir cistem --format cistem --truth Picks/mic1_b.box")
    assert Path("cistem/manualpick.txt").read_text().splitlines() == [
        "mic1.mrc 250.000 300.000",
        "mic1.mrc 560.000 310.000",
    ]
    assert "recall 1.000, precision 1.000" in capsys.readouterr().out
    assert main(["pick", "manual", "--i", "mics.star", "--coords", "Picks/other.box", "--odir", "no"]) == 2
    assert not Path("no").exists()


def test_images_without_a_star_file(project: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    # The headers tell the pixel size.
    assert main(["pick", "blob", "--i", "MotionCorr/job002/Movies/*.mrc", "--odir", "out", *BLOB.split()]) == 0
    assert len(read_coordinate_files("out/autopick.star")) == 3
    assert main(["pick", "blob", "--i", "MotionCorr/job002/Movies/*.mrc", "--odir", "out"]) == 2
    assert "characteristic_radius" in capsys.readouterr().err


def test_tiff_micrographs_give_what_mrc_ones_do(project: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    Path("Tiff").mkdir()
    for name in project:
        image = read_micrograph(name)
        tifffile.imwrite(f"Tiff/{Path(name).stem}.tif", image[::-1], compression="deflate", metadata=None)
    assert main(["pick", "blob", "--i", "Tiff", "--odir", "tiff", *BLOB.split()]) == 2
    assert "Tiff/mic1.tif: its header gives no pixel size; give --angpix" in capsys.readouterr().err
    pick(f"blob --i Tiff --angpix 5 --odir tiff {BLOB}")
    pick(f"blob --i mics.star --odir mrc {BLOB}")
    for name in project:
        found, expected = (
            read_coordinates(read_coordinate_files(f"{folder}/autopick.star")[image])
            for folder, image in (("tiff", f"Tiff/{Path(name).stem}.tif"), ("mrc", name))
        )
        assert {label: list(found[label]) for label in found} == {label: list(expected[label]) for label in expected}
    pick("manual --i Tiff --angpix 5 --coordinates tiff/autopick.star --odir Manual --edge_distance 200")
    kept = read_coordinates(read_coordinate_files("Manual/manualpick.star")["Tiff/mic1.tif"])
    assert 0 < len(kept) < len(read_coordinates(read_coordinate_files("tiff/autopick.star")["Tiff/mic1.tif"]))
