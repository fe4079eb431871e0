"""Binary and text tables of cisTEM, cryoSPARC and EMAN2."""

from __future__ import annotations

import contextlib
import io
import struct
from pathlib import Path

import numpy as np
import pytest

from vitrea.formats.cistem_parameters import (
    CISTEM_LABELS,
    read_cistem_binary,
    write_cistem_binary,
    write_cistem_star,
)
from vitrea.formats.cryosparc import read_cs, write_cs
from vitrea.formats.eman_lists import read_lst, write_lst
from vitrea.formats.float32 import widen
from vitrea.formats.star import read_star
from vitrea.formats.star_values import text_column
from vitrea.formats.table_kinds import kind_of_file, kind_of_name
from vitrea.records.errors import InputError
from vitrea.records.table import Table

CRYOSPARC = Path(__file__).parents[1] / "data" / "cryosparc"

# The head and the first of three rows of a file that cisTEM wrote.
CISTEM = bytes.fromhex(
    "180000000100000001000000000000000904000000000000000300004000000000000300008000000000000308000000"
    "000000000310000000000000000320000000000000000340000000000000000380000000000000000300010000000000"
    "000302000000000000000200020000000000000300040000000000000300080000000000000300100000000000000300"
    "400000000000000300800000000000000300000100000000000300000200000000000300000400000000000300000800"
    "000000000300001000000000000300002000000000000300000000010000000201000000000028410000a2410000f141"
    "000000800000000000606a46004067460000044200000000010000000000c842004a23c6000074410000a6410ad7833f"
    "00009643cdcc2c40295c8f3d0000000000000080000000000000008001000000"
)


def test_a_file_of_cistem_reads_and_is_written_to_the_byte(tmp_path: Path) -> None:
    path = tmp_path / "in.cistem"
    path.write_bytes(CISTEM)
    table = read_cistem_binary(path)
    row = {label: column.tolist()[0] for label, column in table.columns.items()}
    expected = {
        "cisTEMPositionInStack": 1, "cisTEMAnglePsi": 10.5, "cisTEMAngleTheta": 20.25, "cisTEMAnglePhi": 30.125,
        "cisTEMDefocus1": 15000.0, "cisTEMDefocus2": 14800.0, "cisTEMDefocusAngle": 33.0, "cisTEMImageActivity": 1,
        "cisTEMOccupancy": 100.0, "cisTEMLogP": -10450.5, "cisTEMSigma": 15.25, "cisTEMScore": 20.75,
        "cisTEMPixelSize": 1.03, "cisTEMMicroscopeVoltagekV": 300.0, "cisTEMMicroscopeCsMM": 2.7,
        "cisTEMAmplitudeContrast": 0.07, "cisTEMAssignedSubset": 1,
    }  # fmt: skip
    assert {label: row[label] for label in expected} == expected
    write_cistem_binary(tmp_path / "out.cistem", table)
    assert (tmp_path / "out.cistem").read_bytes() == CISTEM


def test_texts_in_binary_files(tmp_path: Path) -> None:
    table = Table(
        {
            "cisTEMPositionInStack": np.array([7, 8]),
            "cisTEMStackFilename": text_column(["a.mrc", "longer/name.mrc"]),
            "cisTEMScore": np.array([1.5, -2.0]),
        }
    )
    write_cistem_binary(tmp_path / "t.cistem", table)
    content = (tmp_path / "t.cistem").read_bytes()
    first = struct.pack("<If", 7, 1.5) + struct.pack("<i", 5) + b"a.mrc"
    assert content[8 + 3 * 9 :].startswith(first)  # cisTEM's order: score before names
    read = read_cistem_binary(tmp_path / "t.cistem")
    for label in table:
        assert read[label].tolist() == table[label].tolist()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "too short for its header"),
        (b"\x18\0\0\0", "too short"),
        (CISTEM[:-1], "truncated"),
        (b"hello world, I am no such file at all", "makes no sense|too short"),
        (struct.pack("<iiqBi", 1, 2, 1 << 24, 8, 9), "truncated"),
        (struct.pack("<iiqBqB", 2, 0, 4, 3, 4, 3), "cisTEMAnglePsi twice"),
    ],
)
def test_what_is_no_file_of_cistem(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "x.cistem").write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_cistem_binary(tmp_path / "x.cistem")


def test_an_unknown_column_of_cistem_keeps_its_bit(tmp_path: Path) -> None:
    (tmp_path / "x.cistem").write_bytes(struct.pack("<iiqBqBif", 2, 1, 1, 2, 1 << 40, 3, 5, 2.5))
    assert read_cistem_binary(tmp_path / "x.cistem")[f"cisTEMColumn{1 << 40}"].tolist() == [2.5]


def test_cistem_star_files_have_single_quotes_around_names(tmp_path: Path) -> None:
    table = Table({"cisTEMStackFilename": text_column(["a.mrc"]), "cisTEMPositionInStack": np.array([1])})
    write_cistem_star(tmp_path / "x.star", table, "made by hand")
    text = (tmp_path / "x.star").read_text()
    assert "_cisTEMPositionInStack #1\n_cisTEMStackFilename #2\n" in text
    assert "           1 'a.mrc'\n" in text
    assert read_star(tmp_path / "x.star")[""]["cisTEMStackFilename"].tolist() == ["a.mrc"]  # type: ignore[union-attr]
    with pytest.raises(InputError, match="names with blanks"):
        write_cistem_star(tmp_path / "x.star", Table({"cisTEMStackFilename": text_column(["a b"])}))
    with pytest.raises(ValueError, match="no column rlnX"):
        write_cistem_star(tmp_path / "x.star", Table({"rlnX": np.array([1])}))


def test_bits_and_labels_of_cistem_are_different() -> None:
    assert len(set(CISTEM_LABELS)) == len(CISTEM_LABELS) == 35


def test_a_data_set_of_cryosparc(tmp_path: Path) -> None:
    array = np.zeros(2, [("uid", "<u8"), ("blob/path", "S5"), ("blob/shape", "<u4", (2,)), ("pose", "<f4", (3,)),
                         ("ctf/df1_A", "<f4")])  # fmt: skip
    array["uid"] = [2**63 + 5, 7]
    array["blob/path"] = [b"a.mrc", b"b"]
    array["blob/shape"] = 180
    array["pose"] = [[0.1, 0.2, 0.3], [1, 2, 3]]
    array["ctf/df1_A"] = 2.95
    with (tmp_path / "x.cs").open("wb") as file:
        np.save(file, array)
    table = read_cs(tmp_path / "x.cs")
    assert table["uid"].tolist() == [str(2**63 + 5), "7"]
    assert table["blob/path"].tolist() == ["a.mrc", "b"]
    assert table["ctf/df1_A"].tolist() == [2.95, 2.95]
    assert table["pose/2"].tolist() == [0.3, 3.0]
    write_cs(tmp_path / "y.cs", table)
    again = np.load(tmp_path / "y.cs")
    assert again.dtype == array.dtype
    assert (again == array).all()


def test_what_is_no_data_set_of_cryosparc(tmp_path: Path) -> None:
    path = tmp_path / "x.cs"
    for content, message in ((b"hello", "not a cryoSPARC data set"), (b"\x94CSDAT...", "it is cut off")):
        path.write_bytes(content)
        with pytest.raises(InputError, match=message):
            read_cs(path)
    np.save(buffer := io.BytesIO(), np.arange(3))
    path.write_bytes(buffer.getvalue())
    with pytest.raises(InputError, match="no fields"):
        read_cs(path)
    np.save(buffer := io.BytesIO(), np.array([(1, "a")], dtype=[("uid", "<u8"), ("x", "O")]), allow_pickle=True)
    path.write_bytes(buffer.getvalue())
    with pytest.raises(InputError, match="not a cryoSPARC data set"):
        read_cs(path)
    with pytest.raises(ValueError, match="uid of a cryoSPARC data set"):
        write_cs(path, Table({"uid": text_column(["x"])}))


@pytest.mark.parametrize("name", ["compressed_lz4.cs", "compressed_snappy.cs"])
def test_compressed_data_sets_of_cryosparc_say_what_plain_ones_say(name: str) -> None:
    """All three were written by cryosparc-tools: 5.0.3 (plain and LZ4) and 4.3.1 (snappy)."""
    plain, compressed = read_cs(CRYOSPARC / "numpy.cs"), read_cs(CRYOSPARC / name)
    assert list(compressed) == list(plain)
    assert compressed["location/micrograph_path"].tolist() == ["S1/ä.mrc", "", "S1/b.mrc", "x", "x", "y", "z"]
    for label in plain:
        assert compressed[label].tolist() == plain[label].tolist(), label


def test_a_compressed_data_set_without_rows(tmp_path: Path) -> None:
    header = b'{"length": 0, "dtype": [["uid", "<u8"]], "compression": "lz4", "compressed_fields": []}'
    (tmp_path / "x.cs").write_bytes(b"\x95CSDAT" + len(header).to_bytes(4, "little") + header)
    table = read_cs(tmp_path / "x.cs")
    assert list(table) == ["uid"]
    assert len(table) == 0


@pytest.mark.parametrize("name", ["compressed_lz4.cs", "compressed_snappy.cs"])
def test_damaged_compressed_data_sets_are_refused(name: str, tmp_path: Path) -> None:
    """Cut off anywhere, or with any byte after the header changed, a file is refused in a sentence or read whole."""
    content = (CRYOSPARC / name).read_bytes()
    path = tmp_path / "x.cs"
    for end in range(6, len(content), 7):
        path.write_bytes(content[:end])
        with pytest.raises(InputError, match="not a cryoSPARC data set"):
            read_cs(path)
    body = 10 + int.from_bytes(content[6:10], "little")
    for place in range(body, len(content), 5):
        path.write_bytes(content[:place] + bytes([content[place] ^ 0xFF]) + content[place + 1 :])
        with contextlib.suppress(InputError):
            assert len(read_cs(path)) == 7
    path.write_bytes(content.replace(b'"lz4"', b'"zip"').replace(b'"snap"', b'"zipp"'))
    with pytest.raises(InputError, match="compressed by zip"):
        read_cs(path)


def test_a_real_data_set_of_cryosparc_is_written_as_it_was(shared_data: Path, tmp_path: Path) -> None:
    source = shared_data / "formats" / "cryosparc_P12_J24_001_particles.cs"
    write_cs(tmp_path / "out.cs", read_cs(source))
    before, after = np.load(source), np.load(tmp_path / "out.cs")
    assert before.dtype.names == after.dtype.names
    for name in before.dtype.names:
        np.testing.assert_array_equal(before[name], after[name], err_msg=name)


def test_numbers_of_single_precision_become_the_decimals_they_were() -> None:
    few = np.array([2.95, 0.07, 2.95], dtype=np.float32)
    assert widen(few).tolist() == [2.95, 0.07, 2.95]
    many = np.random.default_rng(0).normal(size=2000).astype(np.float32)
    for values in (few, many, np.array([np.nan, 1.1], np.float32)):
        np.testing.assert_array_equal(widen(values).astype(np.float32), values)


def test_lists_of_eman(tmp_path: Path) -> None:
    entries = [(0, "a.hdf", {"score": -0.5}), (12, "folder/b.hdf", {"class": 1, "name": "é"}), (3, "c.hdf", {})]
    write_lst(tmp_path / "x.lst", entries)
    lines = (tmp_path / "x.lst").read_bytes().split(b"\n")
    assert lines[0] == b"#LSX"
    assert {len(line) + 1 for line in lines[3:-1]} == {int(lines[2][1:])}
    assert read_lst(tmp_path / "x.lst") == entries
    (tmp_path / "old.lst").write_text("#LST\n0\ta.hdf\n1\tb c.hdf\tsome comment\n")
    assert read_lst(tmp_path / "old.lst") == [(0, "a.hdf", {}), (1, "b c.hdf", {"comment": "some comment"})]


@pytest.mark.parametrize(
    ("text", "message"),
    [("1 a.hdf\n", "not an EMAN2 list"), ("#LSX\n# c\n# 20\n", "lists no images"),
     ("#LSX\n# c\n# 20\nx\ta.hdf\n", "line 4: 'x"), ("#LSX\n0\ta.hdf\t{oops\n", "line 2"), ("#LST\n0\n", "line 2")],
)  # fmt: skip
def test_what_is_no_list_of_eman(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "x.lst").write_text(text)
    with pytest.raises(InputError, match=message):
        read_lst(tmp_path / "x.lst")


@pytest.mark.parametrize(
    ("name", "text", "kind"),
    [
        ("a.star", "data_optics\ndata_particles\nloop_\n_rlnImageName #1\n", "relion3.1"),
        ("a.star", "data_\nloop_\n_rlnImageName #1\n", "relion1.3"),
        ("a.star", "data_\nloop_\n_cisTEMAnglePsi #1\n", "cistem"),
        ("a.star", "data_\nloop_\n_rlnImageName\n_cisTEMScore\n", "relion1.3"),
        ("a.star", "# XMIPP_STAR_1 *\ndata_noname\n", "xmipp"),
        ("a.txt", "#LSX\n", "eman"),
        ("a.par", "C PSI\n", "frealign9"),
        ("a.cistem", "\x01\0\0\0", "cistem-binary"),
    ],
)
def test_kinds_of_files(tmp_path: Path, name: str, text: str, kind: str) -> None:
    (tmp_path / name).write_text(text)
    assert kind_of_file(tmp_path / name) == kind


def test_a_file_of_no_known_kind(tmp_path: Path) -> None:
    (tmp_path / "a.star").write_text("hello")
    with pytest.raises(InputError, match="give --from"):
        kind_of_file(tmp_path / "a.star")
    with pytest.raises(InputError, match="does not exist"):
        kind_of_file(tmp_path / "none.star")
    assert kind_of_name("a.txt") is None
