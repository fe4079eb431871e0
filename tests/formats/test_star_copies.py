"""Copies of STAR files to the last digit, standard streams, and words written in one go."""

from __future__ import annotations

import io
import math
import sys
from pathlib import Path

import numpy as np
import pytest
import starfile
from hypothesis import given, settings
from hypothesis import strategies as st

from vitrea.formats.star import read_star, read_star_content, write_star
from vitrea.formats.star_values import format_rows, text_column
from vitrea.records.errors import InputError
from vitrea.records.table import Table


@settings(max_examples=200, deadline=None)
@given(st.lists(st.floats(width=64), min_size=1, max_size=20))
def test_exact_words_read_back_as_the_same_number(values: list[float]) -> None:
    words = format_rows([np.array(values)], [12], exact=True).split()
    read = [float(word) for word in words]
    assert [math.copysign(1, a) if a != a or a == 0 else a for a in read] == [
        math.copysign(1, a) if a != a or a == 0 else a for a in values
    ]


def test_exact_words_are_short_where_six_decimals_say_it_all() -> None:
    column = np.array([0.0, -0.5, 12345.678901, 1 / 3, 1e-7, 3e20, float("-nan")])
    words = format_rows([column], [1], exact=True).split()
    assert words == ["0.000000", "-0.500000", "12345.678901", "0.3333333333333333", "1e-07", "3e+20", "-nan"]


@pytest.mark.parametrize(
    "texts",
    [["a", "b c"], ["", "x"], ["#a", "b"], ["data_x", "b"], ["a\tb", "c"], ["_x", "b"], ["'a", "b"], ["a'b", 'c"d']],
)
def test_texts_that_need_quotes_get_them(texts: list[str], tmp_path: Path) -> None:
    write_star(tmp_path / "out.star", {"": Table({"a": text_column(texts), "b": np.arange(2)})})
    table = read_star(tmp_path / "out.star")[""]
    assert isinstance(table, Table)
    assert table["a"].tolist() == texts


def test_the_version_note_is_known_and_may_be_absent(tmp_path: Path) -> None:
    for version in (30001, 50001, None):
        write_star(tmp_path / "out.star", {"particles": Table({"a": np.arange(2)})}, version=version)
        assert read_star_content(tmp_path / "out.star").version == version


def test_standard_input_and_output(monkeypatch: pytest.MonkeyPatch) -> None:
    output = io.StringIO()
    monkeypatch.setattr(sys, "stdout", output)
    write_star("-", {"particles": Table({"rlnDefocusU": np.array([1.5, 2.5])}), "general": {"n": 3}})
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(output.getvalue().encode())))
    blocks = read_star("-")
    assert blocks["particles"]["rlnDefocusU"].tolist() == [1.5, 2.5]  # type: ignore[union-attr]
    assert blocks["general"] == {"n": 3}


def test_a_mistake_on_standard_input_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"data_\nloop_\n_a\n_b\n1\n")))
    with pytest.raises(InputError, match="standard input line 5: 1 values"):
        read_star("-")


REFUSED = 3  # two are no STAR files, one has unquoted blanks inside values


def equal(mine: object, theirs: object) -> bool:
    return mine == theirs or str(mine) == str(theirs)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # pandas' own, from the peer
def test_all_real_files_are_copied_as_starfile_sees_them(star_corpus: Path, tmp_path: Path) -> None:
    files = sorted(path for path in star_corpus.rglob("*.star") if path.is_file())
    refused, copied = 0, tmp_path / "copy.star"
    for path in files:
        try:
            content = read_star_content(path)
        except InputError as error:
            assert str(error).count("\n") == 0
            refused += 1
            continue
        write_star(copied, content.blocks, "vitrea star copy", content.version, exact=True)
        before, after = starfile.read(path, always_dict=True), starfile.read(copied, always_dict=True)
        assert list(before) == list(after), path
        for name, block in before.items():
            is_table = hasattr(block, "columns")
            assert is_table == hasattr(after[name], "columns"), (path, name)
            assert list(block) == list(after[name]), (path, name)
            for label in block:
                old = block[label].tolist() if is_table else [block[label]]
                new = after[name][label].tolist() if is_table else [after[name][label]]
                wrong = [(a, b) for a, b in zip(old, new, strict=True) if not equal(a, b)]
                assert not wrong, (path, name, label, wrong[:3])
    assert len(files) - refused > 580
    assert refused == REFUSED
