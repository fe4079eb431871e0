"""Expressions over columns: what they give, and that nothing else is possible."""

from __future__ import annotations

import numpy as np
import pytest

from vitrea.formats.star_values import text_column
from vitrea.records.table import Table
from vitrea.tables.expression import evaluate, evaluate_mask

TABLE = Table(
    {
        "rlnDefocusU": np.array([1e4, 2e4, np.nan]),
        "rlnMicrographName": text_column(["a/b.mrc", "c/d.mrc", "x"]),
        "rlnClassNumber": np.array([1, 2, 3]),
        "ctf/df1_A": np.array([1.0, 2.0, 3.0]),
    }
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("rlnDefocusU > 10000 and rlnMicrographName.contains('d')", [False, True, False]),
        ("_rlnDefocusU >= 10000 or ClassNumber == 3", [True, True, True]),
        ("1 < ClassNumber <= 3", [False, True, True]),
        ("ClassNumber in (1, 3)", [True, False, True]),
        ("ClassNumber not in [1]", [False, True, True]),
        ("not isnan(DefocusU)", [True, True, False]),
        ("DefocusU != DefocusU", [False, False, True]),
        ("'b' in MicrographName", [True, False, False]),
        ("MicrographName == 'x'", [False, False, True]),
        ("MicrographName in ('x', 'a/b.mrc')", [True, False, True]),
        ("MicrographName.startswith('a') | MicrographName.endswith('x')", [True, False, True]),
        ("MicrographName.matches('^[ac]/')", [True, True, False]),
        ("row % 2 == 0", [False, True, False]),
        ("True", [True, True, True]),
    ],
)
def test_conditions(text: str, expected: list[bool]) -> None:
    mask = evaluate_mask(text, TABLE)
    assert mask.dtype == bool
    assert mask.tolist() == expected


@pytest.mark.parametrize(
    ("text", "expected", "kind"),
    [
        ("ClassNumber * 2 + 1", [3, 5, 7], "i"),
        ("-ClassNumber", [-1, -2, -3], "i"),
        ("ClassNumber / 2", [0.5, 1.0, 1.5], "f"),
        ("ClassNumber // 2", [0, 1, 1], "i"),
        ("2 ** -ClassNumber", [0.5, 0.25, 0.125], "f"),
        ("column('ctf/df1_A') ** 2", [1.0, 4.0, 9.0], "f"),
        ("maximum(ClassNumber, 2)", [2, 2, 3], "i"),
        ("mean(ClassNumber)", [2.0, 2.0, 2.0], "f"),
        ("round(ClassNumber / 3, 2)", [0.33, 0.67, 1.0], "f"),
        ("degrees(arctan2(1, 1)) + 0 * row", [45.0, 45.0, 45.0], "f"),
        ("where(ClassNumber > 1, 'a', 'b')", ["b", "a", "a"], "O"),
        ("10 if ClassNumber > 1 else 20", [20, 10, 10], "i"),
        ("str(ClassNumber) + '@' + MicrographName", ["1@a/b.mrc", "2@c/d.mrc", "3@x"], "O"),
        ("MicrographName.file().before('.')", ["b", "d", "x"], "O"),
        ("MicrographName.folder()", ["a", "c", ""], "O"),
        ("MicrographName.after('/')", ["b.mrc", "d.mrc", ""], "O"),
        ("MicrographName.replace('mrc', 'tif').upper()", ["A/B.TIF", "C/D.TIF", "X"], "O"),
        ("float('1.5') * ClassNumber", [1.5, 3.0, 4.5], "f"),
        ("int(ClassNumber / 2)", [0, 1, 1], "i"),
        ("9 ** 9 ** 9", [np.inf] * 3, "f"),
        ("ClassNumber / 0", [np.inf] * 3, "f"),
        ("pi", [np.pi] * 3, "f"),
    ],
)
def test_values(text: str, expected: list[object], kind: str) -> None:
    column = evaluate(text, TABLE)
    assert column.dtype.kind == kind
    if kind == "f":
        np.testing.assert_allclose(column, expected, rtol=1e-15)
    else:
        assert column.tolist() == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("__import__('os').system('touch hacked')", "no method system"),
        ("__import__('os')", "no function __import__"),
        ("open('a')", "no function open"),
        ("(1).__class__", "is not possible"),
        ("DefocusU.__class__", "is not possible"),
        ("MicrographName.__class__()", "no method __class__"),
        ("[x for x in (1,)]", "is not possible"),
        ("lambda: 1", "is not possible"),
        ("f'{DefocusU}'", "is not possible"),
        ("DefocusU[0]", "is not possible"),
        ("(a := 1)", "is not possible"),
        ("1 << 9", "is not possible"),
        ("None", "is not possible"),
        ("1j", "is not possible"),
        ("abs(x=1)", "arguments have no names"),
        ("DefocusU is 1", "write == for 'is'"),
        ("DefocsU", r"no column DefocsU; is it rlnDefocusU\?"),
        ("MicrographName > 3", "compares a text with a number"),
        ("MicrographName * 2", "computes with a text"),
        ("sqrt(MicrographName)", "computes with a text"),
        ("DefocusU.contains('a')", "holds numbers"),
        ("MicrographName.contains(3)", "takes texts in quotes"),
        ("MicrographName.contains()", "takes 1 arguments"),
        ("MicrographName.matches('(')", "not a regular expression"),
        ("float(MicrographName)", "no number"),
        ("ClassNumber in 3", "'in' needs a list"),
        ("ClassNumber in ('a',)", "of another kind"),
        ("where(ClassNumber > 1, 'a', 2)", "between a text and a number"),
        ("DefocusU and 1 < 2", "is not a condition"),
        ("not DefocusU", "is not a condition"),
        ("1 +", "is not an expression"),
        ("import os", "is not an expression"),
        ("-" * 9000 + "1", "nested too deeply"),
        ("1 + " * 4000 + "1", "longer than"),
    ],
)
def test_what_is_not_such_an_expression_is_refused_in_a_sentence(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        evaluate(text, TABLE)
    assert str(caught.value).count("\n") == 0
    assert len(str(caught.value)) < 400


def test_a_number_is_no_condition() -> None:
    with pytest.raises(ValueError, match="is not a condition"):
        evaluate_mask("DefocusU", TABLE)


def test_a_table_without_rows() -> None:
    empty = TABLE.rows(slice(0))
    assert evaluate_mask("DefocusU > 1 and MicrographName.contains('a')", empty).tolist() == []
