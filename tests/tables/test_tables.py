"""Combining, joining, comparing, sorting, counting."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vitrea.formats.star_values import text_column
from vitrea.geometry.euler import euler_to_matrix
from vitrea.records.particles import EULER_LABELS
from vitrea.records.table import Table
from vitrea.tables.centring import centre_on
from vitrea.tables.checking import find_faults
from vitrea.tables.columns import assign, constant_column, rename_column, scale_columns, set_column, sort_rows
from vitrea.tables.combining import combine_tables, join_optics
from vitrea.tables.comparing import column_differences
from vitrea.tables.joining import join_by_key, match_keys, match_near
from vitrea.tables.names import find_column, new_column
from vitrea.tables.statistics import histogram, summarize


def table(**columns: object) -> Table:
    return Table(
        {name: text_column(v) if isinstance(v[0], str) else np.asarray(v) for name, v in columns.items()}  # type: ignore[index,arg-type]
    )


def test_names_are_found_with_and_without_their_prefix() -> None:
    columns = ["rlnDefocusU", "myColumn", "cisTEMScore"]
    for typed in ("rlnDefocusU", "_rlnDefocusU", "DefocusU"):
        assert find_column(typed, columns) == "rlnDefocusU"
    assert find_column("Score", columns) == "cisTEMScore"
    with pytest.raises(ValueError, match=r"no column defocusu; is it rlnDefocusU\?"):
        find_column("defocusu", columns)
    with pytest.raises(ValueError, match="cannot be the name"):
        new_column("two words")


def test_assignments_make_and_change_columns_in_the_type_of_their_label() -> None:
    rows = table(rlnDefocusU=[1.0, 2.0], rlnClassNumber=[1, 2])
    assert assign(rows, "DefocusU = DefocusU + 100")["rlnDefocusU"].tolist() == [101.0, 102.0]
    assert assign(rows, "rlnClassNumber = ClassNumber / 1")["rlnClassNumber"].dtype == np.int64
    assert assign(rows, "rlnClassNumber = ClassNumber / 2")["rlnClassNumber"].tolist() == [0.5, 1.0]
    assert assign(rows, "vitreaGood = DefocusU > 1")["vitreaGood"].tolist() == [0, 1]
    assert assign(rows, "rlnMicrographName = ClassNumber")["rlnMicrographName"].tolist() == ["1", "2"]
    assert list(assign(rows, "x = 1")) == ["rlnDefocusU", "rlnClassNumber", "x"]
    for text in ("DefocusU", "DefocusU == 1", "= 1", "x ="):
        with pytest.raises(ValueError, match=r"column = expression|cannot be the name"):
            assign(rows, text)


def test_renaming_keeps_the_place() -> None:
    rows = table(a=[1], b=[2], c=[3])
    assert list(rename_column(rows, "b", "_rlnX")) == ["a", "rlnX", "c"]
    with pytest.raises(ValueError, match="already"):
        rename_column(rows, "b", "c")


def test_constants_are_read_as_a_file_would_be() -> None:
    rows = table(a=[1, 2])
    assert constant_column(rows, "rlnImageName", "001")["rlnImageName"].tolist() == ["001", "001"]
    assert constant_column(rows, "rlnDefocusU", "1")["rlnDefocusU"].dtype == np.float64
    assert scale_columns(rows, ["a"], 2.0, 1.0)["a"].tolist() == [3.0, 5.0]
    with pytest.raises(ValueError, match="holds text"):
        scale_columns(table(a=["x"]), ["a"], 2.0, 0.0)
    assert set_column(rows, "rlnDefocusU", np.array([1, 2]))["rlnDefocusU"].dtype == np.float64


def test_sorting_is_stable_and_the_first_column_counts_most() -> None:
    rows = table(a=["y", "x", "x", "y"], b=[1, 2, 1, 1], c=[0, 1, 2, 3])
    assert sort_rows(rows, ["a", "b"])["c"].tolist() == [2, 1, 0, 3]
    assert sort_rows(rows, ["a"], descending=True)["c"].tolist() == [0, 3, 1, 2]


def test_combining_drops_fills_or_refuses_what_not_all_have() -> None:
    first, second = table(a=[1, 2], b=["x", "y"]), table(a=[0.5], c=[7])
    combined = combine_tables([first, second])
    assert combined.incomplete == ("b", "c")
    assert combined.table["a"].tolist() == [1.0, 2.0, 0.5]
    filled = combine_tables([first, second], "fill").table
    assert filled["b"].tolist() == ["x", "y", ""]
    assert filled["c"].tolist() == [0, 0, 7]
    with pytest.raises(ValueError, match="the columns b, c"):
        combine_tables([first, second], "refuse")
    with pytest.raises(ValueError, match="no column in common"):
        combine_tables([table(a=[1]), table(b=[1])])
    mixed = combine_tables([table(a=[1]), table(a=["x"])]).table["a"]
    assert mixed.tolist() == ["1", "x"]


def test_optics_groups_that_agree_become_one() -> None:
    one = table(rlnOpticsGroup=[1, 2], rlnOpticsGroupName=["a", "b"], rlnVoltage=[300.0, 200.0])
    other = table(rlnOpticsGroup=[1, 5], rlnOpticsGroupName=["b", "a"], rlnVoltage=[200.0, 120.0])
    rows, block = join_optics([table(rlnOpticsGroup=[1, 2, 1]), table(rlnOpticsGroup=[5, 1])], [one, other])
    assert [part["rlnOpticsGroup"].tolist() for part in rows] == [[1, 2, 1], [3, 2]]
    assert block["rlnOpticsGroup"].tolist() == [1, 2, 3]
    assert block["rlnOpticsGroupName"].tolist() == ["a", "b", "a_2"]
    assert block["rlnVoltage"].tolist() == [300.0, 200.0, 120.0]
    with pytest.raises(ValueError, match="optics group 9"):
        join_optics([table(rlnOpticsGroup=[9])], [one])


def test_joining_by_a_key() -> None:
    left = table(name=["b", "a", "c", "a"], value=[1.0, 2.0, 3.0, 4.0])
    right = table(other=["a", "b"], value=[10.0, 20.0], text=["x", "y"])
    joined, lonely = join_by_key(left, right, ["name"], ["other"], ["value", "text"], blank=True)
    assert lonely == 1
    assert joined["value"].tolist() == [20.0, 10.0, 3.0, 10.0]  # the row without a partner keeps its own
    assert joined["text"].tolist() == ["y", "x", "", "x"]
    dropped, _ = join_by_key(left, right, ["name"], ["other"], ["text"], blank=False)
    assert dropped["name"].tolist() == ["b", "a", "a"]
    with pytest.raises(ValueError, match="the key a comes more than once"):
        join_by_key(right, left, ["other"], ["name"], ["value"], blank=True)


def test_matching_by_keys_and_by_distance() -> None:
    match = match_keys([np.array([3, 1, 2])], [np.array([2, 4, 3])])
    assert match.first.tolist() == [0, 2]
    assert match.second.tolist() == [2, 0]
    assert (match.only_first.tolist(), match.only_second.tolist()) == ([1], [1])
    with pytest.raises(ValueError, match="the key 1 comes 2 times in the first table"):
        match_keys([np.array([1, 1])], [np.array([1])])
    near = match_near([np.array([0.0, 10.0, 11.0])], [np.array([10.4, 100.0])], 2.0)
    assert (near.first.tolist(), near.second.tolist()) == ([1], [0])  # the nearer of two
    assert near.only_first.tolist() == [0, 2]
    assert match_near([np.empty(0)], [np.array([1.0])], 1.0).only_second.tolist() == [0]


def test_differences_of_columns() -> None:
    first = table(key=[1, 2, 3], a=[1.0, 2.0, np.nan], b=["x", "y", "z"], c=[0, 0, 0])
    second = table(key=[3, 2, 1], a=[np.nan, 2.5, 1.0], b=["z", "y", "w"])
    match = match_keys([first["key"]], [second["key"]])
    found = {one.column: (one.rows, one.largest) for one in column_differences(first, second, match)}
    assert found == {"key": (0, 0.0), "a": (1, 0.5), "b": (1, None)}
    assert column_differences(first, second, match, tolerance=0.5)[1].rows == 0


def test_a_summary_leaves_out_what_is_not_finite() -> None:
    summary = summarize([4.0, 1.0, np.nan, 3.0, 2.0, np.inf])
    assert (summary.count, summary.missing, summary.median, summary.mean) == (4, 2, 2.5, 2.5)
    assert summary.deviation == pytest.approx(np.sqrt(1.25))
    assert summarize([]).count == 0


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=60), st.integers(0, 20))
def test_a_histogram_counts_every_value_once(values: list[float], bins: int) -> None:
    counted = histogram(values, bins)
    assert counted.counts.sum() + counted.below + counted.above == len(values)
    assert (np.diff(counted.edges) > 0).all()


def test_whole_numbers_get_a_bin_each_and_given_edges_are_kept() -> None:
    assert histogram([1, 1, 2, 3, 3, 3]).counts.tolist() == [2, 1, 3]
    counted = histogram([0.0, 1.0, 2.0, 3.0], 2, 1.0, 2.0)
    assert (counted.counts.tolist(), counted.below, counted.above) == ([1, 1], 1, 1)
    normal = np.random.default_rng(0).normal(size=1000)
    width = 2 * np.subtract(*np.quantile(normal, [0.75, 0.25])) / 10  # Freedman & Diaconis
    assert len(histogram(normal).counts) == int(np.ceil(np.ptp(normal) / width))
    with pytest.raises(ValueError, match="not below"):
        histogram([1.0], 5, 3.0, 2.0)
    with pytest.raises(ValueError, match="no value"):
        histogram([np.nan])


def test_faults_of_tables() -> None:
    faults, notes = find_faults(
        {
            "optics": table(rlnOpticsGroup=[1]),
            "particles": table(
                rlnOpticsGroup=[1, 2], rlnDefocusU=["1.0", "None"], rlnImageName=["a", "a"], mine=[1, 2]
            ),
        }
    )
    assert any("rlnDefocusU of row 2 is 'None', not a number" in fault for fault in faults)
    assert any("rlnOpticsGroup 2, which data_optics does not define" in fault for fault in faults)
    assert any("1 rows repeat a rlnImageName" in note for note in notes)
    assert any("does not know: mine" in note for note in notes)
    assert find_faults({"x": table(rlnOpticsGroup=[1])})[0] == [
        "data_x has the column rlnOpticsGroup, but there is no data_optics"
    ]


def test_centring_on_a_point_brings_its_image_to_the_centre() -> None:
    """An image is the centred projection moved by minus its origin: the point must then lie at the centre."""
    random = np.random.default_rng(3)
    angles = dict(zip(EULER_LABELS, random.uniform(5, 170, (3, 5)), strict=True))
    origins = {"rlnOriginXAngst": random.normal(size=5), "rlnOriginYAngst": random.normal(size=5)}
    rows = Table({**angles, **origins, "rlnOpticsGroup": np.array([1, 1, 2, 2, 1])})
    optics = table(rlnOpticsGroup=[1, 2], rlnImagePixelSize=[1.5, 2.0])
    point = np.array([10.0, -4.0, 7.0])
    moved = centre_on(rows, optics, point)
    for row, size in enumerate((1.5, 1.5, 2.0, 2.0, 1.5)):
        seen = size * euler_to_matrix([angles[label][row] for label in EULER_LABELS]) @ point
        for axis, label in enumerate(origins):
            place = seen[axis] - origins[label][row]  # in the image, from its centre
            assert place == pytest.approx(-moved[label][row])
    pixels = Table({**angles, "rlnOriginX": np.zeros(5), "rlnOriginY": np.zeros(5)})
    assert centre_on(pixels, None, point)["rlnOriginX"][0] == pytest.approx(
        -(euler_to_matrix([angles[label][0] for label in EULER_LABELS]) @ point)[0]
    )
    for broken, message in ((rows.without("rlnAngleRot"), "no column rlnAngleRot"), (rows, "no data_optics"),
                            (rows.without("rlnOriginYAngst"), "no columns rlnOriginXAngst")):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            centre_on(broken, None, point)
