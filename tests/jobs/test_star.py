"""`vitrea star`: what is written, what stays, RELION's command lines, and mistakes."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from vitrea.cli.main import main
from vitrea.formats.particle_files import read_particles, write_particles
from vitrea.formats.star import read_star, read_star_content, write_star
from vitrea.formats.star_values import text_column
from vitrea.records.optics import Optics
from vitrea.records.particles import Particles
from vitrea.records.table import Table

COUNT = 20
Capture = pytest.CaptureFixture[str]


def column(path: str, label: str, block: str = "particles") -> list[object]:
    table = read_star(path)[block]
    assert isinstance(table, Table)
    found: list[object] = table[label].tolist()
    return found


@pytest.fixture
def particles(in_tmp: Path) -> Callable[..., None]:
    """Write a.star: twenty particles of four micrographs and five classes, the defocus of number i is 10000 + i / 3."""

    def write(name: str = "a.star", stack: str = "a.mrcs", voltage: float = 300.0, **columns: object) -> None:
        i = np.arange(COUNT)
        table = Table(
            {
                "rlnImageName": text_column([f"{k + 1:06d}@{stack}" for k in i]),
                "rlnMicrographName": text_column([f"m/m{k // 5}.mrc" for k in i]),
                "rlnDefocusU": 10_000.0 + i / 3,
                "rlnDefocusV": 10_000.0 + i / 3,
                "rlnDefocusAngle": np.zeros(COUNT),
                "rlnClassNumber": i % 5 + 1,
                "rlnOpticsGroup": np.ones(COUNT, dtype=np.int64),
                "myColumn": text_column(["001"] * COUNT),
            }
        )
        optics = (Optics(1.5, 64, voltage, 2.7, 0.1),)
        write_particles(name, Particles(table.with_columns(columns), optics))

    write()
    return write


def test_a_copy_is_the_same_to_the_last_digit(particles: Callable[..., None]) -> None:
    exact = Table({"rlnDefocusU": np.array([1 / 3, 1e-9]), "x": text_column(["007", "a b"])})
    write_star("in.star", {"general": {"rlnVoltage": 0.1}, "": exact}, version=None, exact=True)
    assert main(["star", "copy", "in.star", "out.star"]) == 0
    content = read_star_content("out.star")
    assert content.version is None
    assert content.blocks["general"] == {"rlnVoltage": 0.1}
    assert column("out.star", "rlnDefocusU", "") == [1 / 3, 1e-9]
    assert column("out.star", "x", "") == ["007", "a b"]
    assert main(["star", "copy", "a.star", "o.star", "--blocks", "data_optics"]) == 0
    assert list(read_star("o.star")) == ["optics"]


def test_what_is_no_star_file_is_refused_and_nothing_is_written(in_tmp: Path, capsys: Capture) -> None:
    Path("bad.star").write_text("data_\nloop_\n_a\n_b\n1 2\n3\n")
    assert main(["star", "copy", "bad.star", "out.star"]) == 2
    assert "bad.star line 6: 1 values where the loop has 2 columns" in capsys.readouterr().err
    assert not Path("out.star").exists()
    assert main(["star", "copy", "none.star", "out.star"]) == 2
    assert "none.star does not exist" in capsys.readouterr().err


def test_reports_go_to_stderr_where_the_result_goes_to_stdout(particles: Callable[..., None], capsys: Capture) -> None:
    assert main(["star", "select", "a.star", "--where", "ClassNumber == 1"]) == 0
    captured = capsys.readouterr()
    assert captured.out.startswith("# vitrea star select")
    assert "ClassNumber == 1: 4 kept, 16 dropped" in captured.err
    assert "standard output: 4 of 20 rows" in captured.err


def test_select_keeps_blocks_and_combines_conditions(particles: Callable[..., None], capsys: Capture) -> None:
    words = ["star", "select", "a.star", "b.star", "--where", "row > 5", "--where", "ClassNumber in (1, 2)"]
    assert main([*words, "--select_by_str", "MicrographName", "--select_exclude", "m3", "--unique", "ClassNumber"]) == 0
    assert column("b.star", "rlnImageName") == ["000006@a.mrcs", "000007@a.mrcs"]
    assert column("b.star", "myColumn") == ["001", "001"]
    assert read_particles("b.star", require_images=False).optics[0].voltage == 300.0
    assert main(["star", "select", "a.star", "c.star", "--random", "7", "--random_seed", "3"]) == 0
    drawn = column("c.star", "rlnImageName")
    assert len(drawn) == 7
    assert drawn == sorted(drawn)  # type: ignore[type-var]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--where", "ClassNumber > 9"], "no row is left after 'ClassNumber > 9' (20 before it); nothing was written"),
        (["--where", "Clasnumber == 1"], "is it rlnClassNumber? (in data_particles of a.star)"),
        (["--where", "ClassNumber ="], "is not an expression"),
        (["--minval", "3"], "--minval and --maxval need --select"),
        (["--select", "rlnImageName", "--minval", "3"], "rlnImageName of a.star holds text"),
        ([], "nothing to select by"),
        (["--block", "micrographs", "--random", "3"], "has no block data_micrographs; it has data_optics, data_part"),
    ],
)
def test_mistakes_in_a_selection(
    particles: Callable[..., None], capsys: Capture, words: list[str], message: str
) -> None:
    assert main(["star", "select", "a.star", "b.star", *words]) == 2
    error = capsys.readouterr().err
    assert message in error.splitlines()[-1]
    assert not Path("b.star").exists()


def test_operate_in_its_order(particles: Callable[..., None]) -> None:
    words = ["star", "operate", "a.star", "b.star", "--rename", "myColumn=mine", "--add_column", "rlnRandomSubset"]
    words += ["--add_column_value", "2", "--set", "DefocusU = DefocusU + row", "--remove_column", "rlnDefocusAngle"]
    assert main([*words, "--sort", "ClassNumber", "--descending"]) == 0
    table = read_star("b.star")["particles"]
    assert isinstance(table, Table)
    assert "mine" in table
    assert "rlnDefocusAngle" not in table
    assert table["rlnClassNumber"].tolist() == sorted(table["rlnClassNumber"].tolist(), reverse=True)
    assert set(table["rlnRandomSubset"].tolist()) == {2}
    first = column("b.star", "rlnImageName").index("000001@a.mrcs")
    assert table["rlnDefocusU"][first] == 10_001.0


@pytest.mark.parametrize(
    "words",
    [
        ["--operate", "rlnDefocusU", "--set_to", "much"],
        ["--add_column", "rlnPhaseShift", "--add_column_value", "much"],
        ["--set", "DefocusU = 'much'"],
    ],
)
def test_text_does_not_become_a_number(particles: Callable[..., None], capsys: Capture, words: list[str]) -> None:
    particles("a.star", "a.mrcs")
    assert main(["star", "operate", "a.star", "b.star", *words]) == 2
    assert "holds numbers, and 'much' is none (in data_particles of a.star)" in capsys.readouterr().err
    assert not Path("b.star").exists()


def test_relion_star_handler_command_lines(particles: Callable[..., None], capsys: Capture) -> None:
    particles("b.star", "b.mrcs")
    lines = {
        "--i a.star --o s.star --select rlnClassNumber --minval 2 --maxval 3": ("s.star", 8),
        "--i a.star --o o.star --operate rlnDefocusU --operate2 rlnDefocusV --multiply_by 2 --add_to 1": ("o.star", 20),
        "--i a.star --o r.star --remove_column rlnDefocusAngle": ("r.star", 20),
        "--i a.star --o n.star --add_column rlnGroupNumber --add_column_value 3": ("n.star", 20),
        "--i a.star --o k.star --add_column rlnCtfBfactor --copy_column_from rlnDefocusU": ("k.star", 20),
        "--i a.star --o p.star --split --nr_split 2": ("p_split2.star", 10),
        "--i a.star --o q.star --split --size_split 15": ("q_split2.star", 5),
        "--i a.star --o t.star --compare s.star --label1 rlnImageName": ("t_only1.star", 12),
    }
    for line, (output, rows) in lines.items():
        assert main(["star", "handler", *line.split()]) == 0, line
        assert len(column(output, "rlnImageName")) == rows, line
    assert column("o.star", "rlnDefocusV")[:2] == pytest.approx([20_001.0, 2 * (10_000 + 1 / 3) + 1])
    assert main(["star", "handler", "--i", "a.star b.star", "--combine", "--o", "c.star"]) == 0
    assert len(column("c.star", "rlnImageName")) == 40
    capsys.readouterr()
    assert main(["star", "printtable", "a.star", "data_particles", "_rlnClassNumber", "rlnDefocusU"]) == 0
    assert capsys.readouterr().out.splitlines()[1].split() == ["2", "10000.333333"]
    assert main(["star", "plottable", "a.star", "data_particles", "rlnClassNumber", "rlnDefocusU"]) == 0
    assert main(["star", "handler", "--i", "a.star", "--stat_column", "rlnDefocusU", "--hist_bins", "4"]) == 0
    assert "20 values" in capsys.readouterr().out
    assert main(["star", "handler", "--i", "a.star"]) == 2


def test_combine_merges_optics_and_drops_repeats(particles: Callable[..., None], capsys: Capture) -> None:
    particles("b.star", "b.mrcs", voltage=200.0, extra=np.arange(COUNT))
    assert main(["star", "combine", "a.star", "b.star", "a.star", "--o", "c.star",
                 "--check_duplicates", "ImageName"]) == 0  # fmt: skip
    read = read_particles("c.star", require_images=False)
    assert len(read) == 40
    assert [group.voltage for group in read.optics] == [300.0, 200.0]
    assert read.table["rlnOpticsGroup"].tolist() == [1] * 20 + [2] * 20
    captured = capsys.readouterr()
    assert "not all files have them: extra" in captured.err
    assert "20 duplicates dropped" in captured.out
    assert main(["star", "convert", "b.star", "flat.star", "--to", "relion1.3"]) == 0
    assert main(["star", "combine", "a.star", "flat.star", "--o", "d.star"]) == 2
    assert "flat.star has no data_optics" in capsys.readouterr().err


def test_split_by_a_column(particles: Callable[..., None]) -> None:
    assert main(["star", "split", "a.star", "mic.star", "--by", "MicrographName"]) == 0
    assert column("mic_m_m2.mrc.star", "rlnMicrographName") == ["m/m2.mrc"] * 5
    assert "optics" in read_star("mic_m_m2.mrc.star")


def test_join_by_the_usual_key(particles: Callable[..., None], capsys: Capture) -> None:
    fits = Table(
        {"rlnMicrographName": text_column(["m/m1.mrc", "m/m0.mrc"]), "rlnCtfMaxResolution": np.array([4.0, 3.0])}
    )
    write_star("ctf.star", {"micrographs": fits})
    assert main(["star", "join", "a.star", "ctf.star", "j.star"]) == 0
    assert column("j.star", "rlnCtfMaxResolution") == [3.0] * 5 + [4.0] * 5 + [0.0] * 10
    assert "10 of 20 rows have no partner in ctf.star; kept" in capsys.readouterr().err
    assert main(["star", "join", "a.star", "ctf.star", "k.star", "--missing", "drop"]) == 0
    assert len(column("k.star", "rlnImageName")) == 10
    assert main(["star", "join", "a.star", "ctf.star", "l.star", "--missing", "refuse"]) == 2
    assert not Path("l.star").exists()


def test_compare_tells_what_differs(particles: Callable[..., None], capsys: Capture) -> None:
    assert main(["star", "operate", "a.star", "b.star", "--set", "DefocusU = DefocusU + (1 if row == 3 else 0)"]) == 0
    capsys.readouterr()
    assert main(["star", "compare", "a.star", "b.star"]) == 0
    told = capsys.readouterr().out
    assert "20 rows are in both files" in told
    assert "rlnDefocusU: 1 of 20 rows differ, by up to 1" in told
    assert main(["star", "compare", "a.star", "b.star", "--tolerance", "2"]) == 0
    assert "differ" not in capsys.readouterr().out


def test_pictures_pages_and_text(particles: Callable[..., None], capsys: Capture) -> None:
    assert main(["star", "plot", "a.star", "DefocusU", "ClassNumber", "--o", "p.png"]) == 0
    assert Path("p.png").read_bytes().startswith(b"\x89PNG")
    assert main(["star", "histogram", "a.star", "DefocusU", "--o", "h.html"]) == 0
    assert "data:image/png" in Path("h.html").read_text()
    assert main(["star", "plot", "a.star", "DefocusU", "--width", "30", "--height", "5", "--o", "p.txt"]) == 0
    lines = Path("p.txt").read_text().splitlines()
    assert len(lines) == 8
    assert lines[-1].split() == ["1", "row", "20"]
    for words, message in ((["plot", "a.star", "ImageName"], "holds text"), (["plot", "a.star"], "which columns?"),
                           (["histogram", "a.star"], "which column?"),
                           (["plot", "a.star", "DefocusU", "--o", "x.pdf"], ".png or .html")):  # fmt: skip
        assert main(["star", *words]) == 2
        assert message in capsys.readouterr().err


def test_histogram_counts(particles: Callable[..., None], capsys: Capture) -> None:
    assert main(["star", "histogram", "a.star", "ClassNumber", "--show_cumulative", "--in_percent"]) == 0
    assert [line.split()[-1] for line in capsys.readouterr().out.splitlines()[3:]] == [
        "20.00%", "40.00%", "60.00%", "80.00%", "100.00%"]  # fmt: skip
    assert main(["star", "histogram", "a.star", "MicrographName"]) == 0
    assert "20 texts, 4 different" in capsys.readouterr().out


def test_check_finds_faults(particles: Callable[..., None], capsys: Capture) -> None:
    assert main(["star", "check", "a.star"]) == 0
    assert "does not know: myColumn" in capsys.readouterr().out
    text = Path("a.star").read_text().replace("10000.000000", "None", 1)
    Path("b.star").write_text(text)
    assert main(["star", "check", "a.star", "b.star"]) == 1
    captured = capsys.readouterr()
    assert "rlnDefocusU of row 1 is 'None', not a number" in captured.out
    assert "1 of 2 files have faults" in captured.err


def test_a_file_of_several_tables_asks_which(in_tmp: Path, capsys: Capture) -> None:
    write_star("m.star", {"one": Table({"a": np.arange(2)}), "two": Table({"a": np.arange(3)})})
    assert main(["star", "print", "m.star"]) == 2
    assert "several tables; name one with --block: data_one, data_two" in capsys.readouterr().err
    assert main(["star", "print", "m.star", "--block", "two"]) == 0
    assert capsys.readouterr().out.split() == ["0", "1", "2"]


def test_csv(particles: Callable[..., None]) -> None:
    assert main(["star", "print", "a.star", "ImageName", "ClassNumber", "--head", "2", "--separator", "comma",
                 "--header", "--o", "a.csv"]) == 0  # fmt: skip
    assert Path("a.csv").read_text() == "ImageName,ClassNumber\n000001@a.mrcs,1\n000002@a.mrcs,2\n"


def test_convert_reports_what_is_lost(particles: Callable[..., None], capsys: Capture) -> None:
    assert main(["star", "convert", "a.star", "a.cistem", "--report", "lost.star"]) == 0
    assert "not carried: myColumn (cisTEM has no such column)" in capsys.readouterr().out
    assert column("lost.star", "vitreaColumn", "not_carried") == ["myColumn"]
    assert main(["star", "convert", "a.cistem", "back.star"]) == 0
    np.testing.assert_allclose(column("back.star", "rlnDefocusU"), column("a.star", "rlnDefocusU"), rtol=1e-7)
    assert main(["star", "convert", "a.star", "flat.star", "--to", "relion1.3"]) == 0
    assert main(["star", "convert", "flat.star", "new.star"]) == 0
    assert "not carried: rlnMagnification, rlnDetectorPixelSize" in capsys.readouterr().out
    assert column("new.star", "myColumn") == ["001"] * COUNT


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["a.star", "a.txt"], "the name does not tell what to write; give --to"),
        (["a.star", "-", "--to", "frealign9"], "not written to standard output; name a file"),
        (["a.star", "a.box"], "a .box file needs the column rlnCoordinateX"),
        (["x.lst", "b.star"], "give --pixel_size"),
        (["x.par", "b.star"], "give --stack and --pixel_size"),
        (["x.cs", "b.star"], "x.cs is not a cryoSPARC data set"),
        (["x.txt", "b.star"], "give --from"),
        (["none.cs", "b.star"], "none.cs does not exist"),
        (["a.star", "b.cs", "--passthrough", "x.cs"], "--passthrough belongs to a .cs file; a.star is none"),
        (["a.star", "b.par", "--flip_y"], "--flip_y is for conversions from or to cryoSPARC"),
    ],
)
def test_mistakes_in_a_conversion(
    particles: Callable[..., None], capsys: Capture, words: list[str], message: str
) -> None:
    Path("x.lst").write_text("#LSX\n# c\n# 20\n0\ta.hdf\n")
    Path("x.par").write_text(" 1 0 0 0 0 0 10000 1 1 1 1 0 0\n")
    Path("x.cs").write_text("hello")
    Path("x.txt").write_text("hello")
    assert main(["star", "convert", *words]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not Path(words[1]).exists()


def test_micrographs_between_dialects(in_tmp: Path) -> None:
    text = ("data_optics\nloop_\n_rlnOpticsGroup\n_rlnOpticsGroupName\n_rlnVoltage\n_rlnSphericalAberration\n"
            "_rlnAmplitudeContrast\n_rlnMicrographPixelSize\n1 opticsGroup1 300 2.7 0.1 1.5\n\ndata_micrographs\n"
            "loop_\n_rlnMicrographName\n_rlnOpticsGroup\na.mrc 1\nb.mrc 1\n")  # fmt: skip
    Path("m.star").write_text(text)
    assert main(["star", "convert", "m.star", "flat.star", "--to", "relion1.3"]) == 0
    assert column("flat.star", "rlnVoltage", "") == [300.0, 300.0]
    assert main(["star", "convert", "flat.star", "new.star"]) == 0
    assert column("new.star", "rlnMicrographPixelSize", "optics") == [1.5]


def test_a_chain_of_pipes(particles: Callable[..., None], monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    assert main(["star", "select", "a.star", "--where", "row < 3"]) == 0
    text = capsys.readouterr().out
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    assert main(["star", "convert", "-", "b.cs"]) == 0
    assert len(np.load("b.cs")) == 2
