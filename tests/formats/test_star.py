"""STAR files: every dialect reads, and what is written reads back."""

from pathlib import Path

import numpy as np
import pytest
import starfile
from hypothesis import given, settings
from hypothesis import strategies as st

from vitrea.formats import star, star_text
from vitrea.formats.labels import label_types
from vitrea.formats.star import read_star, write_star
from vitrea.formats.star_values import split_words
from vitrea.records.errors import InputError
from vitrea.records.table import Table


def read_text(tmp_path: Path, text: str) -> dict[str, star.Block]:
    path = tmp_path / "in.star"
    path.write_bytes(text.encode())
    return read_star(path)


LOOP = "data_particles\n\nloop_\n_rlnDefocusU #1\n_rlnImageName #2\n_rlnOpticsGroup #3\n"


def test_types_follow_the_registry(tmp_path: Path) -> None:
    table = read_text(tmp_path, LOOP + "10000 001 1\n12000.5 002 2.000000\n")["particles"]
    assert isinstance(table, Table)
    assert table["rlnDefocusU"].dtype == np.float64
    assert table["rlnImageName"].tolist() == ["001", "002"]
    assert table["rlnOpticsGroup"].dtype == np.int64
    assert table["rlnOpticsGroup"].tolist() == [1, 2]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["1", "-2"], np.array([1, -2])),
        (["1", "2.5"], np.array([1.0, 2.5])),
        (["1e3", "nan"], np.array([1000.0, np.nan])),
        (["001", "002"], np.array(["001", "002"], object)),
        (["1", "a"], np.array(["1", "a"], object)),
        (["1_0", "2"], np.array(["1_0", "2"], object)),
        (["18446744073709551615", "1"], np.array(["18446744073709551615", "1"], object)),
    ],
)
def test_unknown_labels_are_inferred_without_loss(tmp_path: Path, words: list[str], expected: np.ndarray) -> None:
    table = read_text(tmp_path, "data_\nloop_\n_myColumn\n" + "\n".join(words) + "\n")[""]
    assert isinstance(table, Table)
    assert table["myColumn"].dtype == expected.dtype
    np.testing.assert_array_equal(table["myColumn"], expected)


def test_registered_number_that_is_not_one_stays_text(tmp_path: Path) -> None:
    table = read_text(tmp_path, "data_\nloop_\n_rlnDefocusU\n1.0\nNone\n")[""]
    assert isinstance(table, Table)
    assert table["rlnDefocusU"].tolist() == ["1.0", "None"]


DIALECTS = {
    "flat 1.3": "\ndata_images\n\nloop_ \n_a #1 \n_b #2 \n  1.5  x \n  2.5  y \n \n",
    "no name": "data_\nloop_\n_a\n_b\n1.5 x\n2.5 y\n",
    "no numbers behind labels": "data_x\nloop_\n_a\n_b\n1.5 x\n2.5 y\n",
    "no final newline": "data_x\nloop_\n_a\n_b\n1.5 x\n2.5 y",
    "windows": "data_x\r\n\r\nloop_\r\n_a #1\r\n_b #2\r\n1.5 x\r\n2.5 y\r\n",
    "old mac": "data_x\rloop_\r_a #1\r_b #2\r1.5 x\r2.5 y\r",
    "byte order mark": "\ufeffdata_x\nloop_\n_a\n_b\n1.5 x\n2.5 y\n",
    "comments": "# version 30001\n\ndata_x # c\n# c\nloop_ # c\n_a #1 # c\n# c\n_b #2\n# c\n1.5 x # c\n2.5 y\n# end\n",
    "blank lines between rows": "data_x\nloop_\n_a\n_b\n\n1.5 x\n\n\n2.5 y\n\n",
    "indented": "  data_x\n  loop_\n  _a\n  _b\n\t1.5\tx\n\t2.5\ty\n",
    "quotes": "data_x\nloop_\n_a\n_b\n\"1.5\" 'x'\n'2.5' \"y\"\n",
    "another block behind": "data_x\nloop_\n_a\n_b\n1.5 x\n2.5 y\ndata_z\n_c 1\n",
    "stray text before": "made by hand\ndata_x\nloop_\n_a\n_b\n1.5 x\n2.5 y\n",
    "upper case keywords": "DATA_x\nLOOP_\n_a\n_b\n1.5 x\n2.5 y\n",
}


@pytest.mark.parametrize("name", DIALECTS)
def test_dialects(tmp_path: Path, name: str) -> None:
    table = next(iter(read_text(tmp_path, DIALECTS[name]).values()))
    assert isinstance(table, Table)
    assert list(table) == ["a", "b"]
    assert table["a"].tolist() == [1.5, 2.5]
    assert table["b"].tolist() == ["x", "y"]


def test_blocks_without_loops_and_one_row_loops(tmp_path: Path) -> None:
    blocks = read_text(
        tmp_path,
        "data_general\n_rlnVoltage 300 # kV\n_rlnImageName ''\n_x \"a b\"\n_empty\n_n 5\n\ndata_one\nloop_\n_n #1\n5\n"
        "data_general\n_n 6\ndata_none\n",
    )
    assert list(blocks) == ["general", "one", "general_2", "none"]
    assert blocks["general"] == {"rlnVoltage": 300.0, "rlnImageName": "", "x": "a b", "empty": "", "n": 5}
    assert isinstance(blocks["one"], Table)
    assert blocks["one"]["n"].tolist() == [5]
    assert blocks["general_2"] == {"n": 6}
    assert blocks["none"] == {}


def test_a_loop_behind_values_in_one_block(tmp_path: Path) -> None:
    blocks = read_text(tmp_path, "data_a\n_n 1\nloop_\n_m\n2\n_k 3\nloop_\n_l\n4\n")
    assert blocks["a"] == {"n": 1}
    assert isinstance(blocks["a_2"], Table)
    assert blocks["a_3"] == {"k": 3}
    assert isinstance(blocks["a_4"], Table)


def test_only_wanted_blocks(tmp_path: Path) -> None:
    path = tmp_path / "in.star"
    path.write_text("data_a\n_n 1\ndata_b\nloop_\n_n\n1\ndata_c\nloop_\n_n\n2\n")
    assert list(read_star(path, {"c"})) == ["c"]
    assert list(read_star(path, ["a", "c"])) == ["a", "c"]


def test_rows_that_look_like_keywords(tmp_path: Path) -> None:
    text = 'data_\nloop_\n_a\n_b\n_c\ndata_1.mrc 1 2\n_x.mrc 3 4\nloop_.mrc 5 6\n"data_q" 7 8\ndata_next\n_n 1\n'
    blocks = read_text(tmp_path, text)
    assert isinstance(blocks[""], Table)
    assert blocks[""]["a"].tolist() == ["data_1.mrc", "_x.mrc", "loop_.mrc", "data_q"]
    assert blocks["next"] == {"n": 1}


def test_empty_loop_has_typed_columns(tmp_path: Path) -> None:
    table = read_text(tmp_path, "data_\nloop_\n_rlnDefocusU\n_rlnImageName\n_rlnOpticsGroup\n")[""]
    assert isinstance(table, Table)
    assert len(table) == 0
    assert [column.dtype.kind for column in table.columns.values()] == ["f", "O", "i"]


def test_a_column_that_turns_to_text_in_a_later_chunk_keeps_its_first_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(star_text, "PIECE", 16)
    words = [f"{i}.50" for i in range(40)] + ["none"]
    table = read_text(tmp_path, "data_\nloop_\n_x\n_y\n" + "".join(f"{word} 1\n" for word in words))[""]
    assert isinstance(table, Table)
    assert table["x"].tolist() == words
    assert table["y"].tolist() == [1] * 41


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("data_\nloop_\n_a\n_b\n1 2\n1 2 3\n", "line 6: 3 values where the loop has 2 columns"),
        ("data_\nloop_\n_a\n_b\n1 2\n\n1\n", "line 7: 1 values where the loop has 2 columns"),
        ("data_\nloop_\n_a\n_b\n'1' 2\n1\n", "line 6: 1 values"),
        ("data_\nloop_\n_a\n_a\n1 2\n", "column _a twice"),
        ("data_\nloop_\n1 2\n", "without labels"),
        ("data_\n_a 1\nhello world\n", "line 3: 'hello world' belongs to no label"),
        ("hello\n", "not a STAR file"),
        ("", "not a STAR file"),
        ("\0\0data_", "binary data"),
    ],
)
def test_broken_files_are_named_with_their_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        read_text(tmp_path, text)
    assert "in.star" in str(caught.value)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.star does not exist"):
        read_star(tmp_path / "none.star")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("a 'b c' \"d e\"", ["a", "b c", "d e"]),
        ("it's 'it's one' x\"y", ["it's", "it's one", 'x"y']),
        ("\"\" '' #c", ["", ""]),
        ("a#1 # 'c'", ["a#1"]),
        ("'never closed", ["'never", "closed"]),
    ],
)
def test_words(line: str, words: list[str]) -> None:
    assert split_words(line) == words


FLOATS = st.floats(allow_nan=True, allow_infinity=True, width=64)
TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Zl", "Zp")), max_size=8).filter(
    lambda text: (
        not ('" ' in text and "' " in text) and len(text.split()) < 3 and all(c == " " or not c.isspace() for c in text)
    )
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(FLOATS, st.integers(-(2**63), 2**63 - 1), TEXTS), min_size=1, max_size=20))
def test_what_is_written_reads_back(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[float, int, str]]
) -> None:
    path = tmp_path_factory.mktemp("star") / "out.star"
    numbers, integers, texts = zip(*rows, strict=True)
    names = np.empty(len(rows), object)
    names[:] = texts
    table = Table({"rlnDefocusU": np.array(numbers), "myId": np.array(integers, np.int64), "rlnImageName": names})
    write_star(
        path, {"particles": table, "general": {"rlnVoltage": numbers[0], "rlnMicrographName": texts[0], "n": 3}}, "hi"
    )
    blocks = read_star(path)
    read = blocks["particles"]
    assert isinstance(read, Table)
    assert read["rlnImageName"].tolist() == list(texts)
    np.testing.assert_array_equal(read["myId"], integers)
    np.testing.assert_allclose(read["rlnDefocusU"], numbers, rtol=1e-9, atol=0)
    general = blocks["general"]
    assert isinstance(general, dict)
    np.testing.assert_allclose(general["rlnVoltage"], numbers[0], rtol=1e-9)
    assert (general["rlnMicrographName"], general["n"]) == (texts[0], 3)


def test_numbers_are_short_where_that_is_exact(tmp_path: Path) -> None:
    path = tmp_path / "out.star"
    write_star(path, {"": Table({"a": np.array([0.0, 12345.678901234, 1e-7, 1 / 3, 3e20]), "b": np.arange(5)})})
    rows = [line.split() for line in path.read_text().splitlines()[-6:] if line]
    assert [row[0] for row in rows] == ["0.000000", "12345.678901", "1e-07", "0.3333333333", "3e+20"]
    assert [row[1] for row in rows] == ["0", "1", "2", "3", "4"]


def test_comment_comes_first(tmp_path: Path) -> None:
    write_star(tmp_path / "out.star", {"a": {"x": 1}}, comment="one\ntwo")
    assert (tmp_path / "out.star").read_text().startswith("# one\n# two\n")
    assert read_star(tmp_path / "out.star") == {"a": {"x": 1}}


def test_line_breaks_are_refused_and_nothing_is_left(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="line break"):
        write_star(tmp_path / "out.star", {"a": {"x": "one\ntwo"}})
    assert list(tmp_path.iterdir()) == []


def test_starfile_reads_what_is_written(tmp_path: Path) -> None:
    names = np.array(["1@a.mrcs", "2@a b.mrcs", ""], object)
    table = Table({"rlnImageName": names, "rlnDefocusU": np.array([1.25, 2e-9, -7.0]), "rlnClassNumber": np.arange(3)})
    write_star(tmp_path / "out.star", {"optics": {"rlnVoltage": 300.0}, "particles": table})
    peer = starfile.read(tmp_path / "out.star", parse_as_string=["rlnImageName"])
    assert peer["optics"]["rlnVoltage"] == 300.0
    assert list(peer["particles"]["rlnImageName"]) == names.tolist()
    assert list(peer["particles"]["rlnDefocusU"]) == [1.25, 2e-9, -7.0]


def test_a_hundred_thousand_rows(tmp_path: Path) -> None:
    rows = 100_000
    random = np.random.default_rng(0)
    names = np.array([f"{i + 1:06d}@stack.mrcs" for i in range(rows)], object)
    table = Table({"rlnImageName": names, "rlnAngleRot": random.normal(0, 90, rows), "rlnClassNumber": np.arange(rows)})
    write_star(tmp_path / "out.star", {"particles": table})
    read = read_star(tmp_path / "out.star")["particles"]
    assert isinstance(read, Table)
    assert (read["rlnImageName"] == names).all()
    np.testing.assert_array_equal(read["rlnClassNumber"], table["rlnClassNumber"])
    np.testing.assert_allclose(read["rlnAngleRot"], table["rlnAngleRot"], rtol=1e-9)


def test_registry() -> None:
    types = label_types()
    assert types["rlnMicrographName"] == "string"
    assert types["rlnDefocusU"] == "double"
    assert types["rlnOpticsGroup"] == "int"
    assert set(types.values()) == {"string", "double", "int", "bool"}


def same(mine: object, theirs: object) -> bool:
    if str(mine) == str(theirs) or mine == theirs:
        return True
    try:
        return bool(np.isclose(float(str(mine)), float(str(theirs)), rtol=1e-12, atol=0, equal_nan=True))
    except ValueError:
        # starfile reads an empty text as NaN, and turns ' inside a value into ".
        return (str(mine), str(theirs)) == ("", "nan") or str(mine).replace("'", '"') == str(theirs)


def compare_with_starfile(path: Path) -> None:
    blocks, peer = read_star(path), starfile.read(path, always_dict=True)
    assert len(blocks) == len(peer)
    for (name, block), theirs in zip(blocks.items(), peer.values(), strict=True):
        assert isinstance(block, Table) == hasattr(theirs, "columns"), name
        assert list(block) == list(theirs), name
        for label in block:
            values = block[label].tolist() if isinstance(block, Table) else [block[label]]
            others = theirs[label].tolist() if isinstance(block, Table) else [theirs[label]]
            wrong = [(a, b) for a, b in zip(values, others, strict=True) if not same(a, b)]
            assert not wrong, (path, name, label, wrong[:3])


# Not STAR files (the text of a symbolic link, the name of another file), and one with unquoted blanks inside values.
BROKEN = {
    "aspire/gallery/tutorials/data/rln_proj_65.star": "not a STAR file",
    "relion31_tutorial_stars/ManualPick/job004/coords_suffix_manualpick.star": "not a STAR file",
    "relion31_tutorial_stars/Class2D/job013/job.star": "line 84: 12 values",
}


@pytest.mark.filterwarnings("ignore")  # pandas' own, from the peer
def test_real_files_read_as_starfile_reads_them(star_corpus: Path) -> None:
    files = sorted(path for path in star_corpus.rglob("*.star") if path.is_file())
    assert len(files) > 580
    for path in files:
        broken = BROKEN.get(str(path.relative_to(star_corpus)))
        if broken is not None:
            with pytest.raises(InputError, match=broken):
                read_star(path)
        elif path.stat().st_size < 60_000:
            compare_with_starfile(path)
        else:  # the peer takes too long on these
            rows = sum(len(block) for block in read_star(path).values() if isinstance(block, Table))
            lines = (line.strip() for line in path.read_text().splitlines())
            assert rows == sum(1 for line in lines if line and not line.startswith(("#", "_", "loop_", "data_"))), path


def test_real_files_survive_a_round_trip(shared_data: Path, tmp_path: Path) -> None:
    for name in ("betagal_real/particles.star", "mtf/mtf_k2_300kV.star", "tilt/sta_testing_bin8.star"):
        blocks = read_star(shared_data / name)
        write_star(tmp_path / "out.star", blocks)
        again = read_star(tmp_path / "out.star")
        assert list(again) == list(blocks)
        for key, block in blocks.items():
            other = again[key]
            assert isinstance(block, Table)
            assert isinstance(other, Table)
            for label in block:
                if block[label].dtype == object:
                    assert block[label].tolist() == other[label].tolist()
                else:
                    np.testing.assert_allclose(other[label], block[label], rtol=1e-9)
