"""Coordinate files: what each format means, by files written as the programs write them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vitrea.formats import coordinates as co
from vitrea.records.errors import InputError
from vitrea.records.table import Table

PICKS = Table(
    {
        co.X: np.array([10.25, 200.5, 33.0]),
        co.Y: np.array([20.75, 7.0, 44.0]),
        co.PSI: np.array([0.0, 15.0, -90.0]),
        co.CLASS: np.array([1, 2, 1]),
        co.MERIT: np.array([0.5, 0.25, 0.125]),
    }
)


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_star_keeps_every_column(tmp_path: Path) -> None:
    co.write_coordinates(tmp_path / "a_autopick.star", PICKS)
    again = co.read_coordinates(tmp_path / "a_autopick.star")
    assert list(again) == list(PICKS)
    for label in PICKS:
        np.testing.assert_array_equal(again[label], PICKS[label])


@pytest.mark.parametrize("suffix", [".box", ".coords", ".pos", ".star"])
@pytest.mark.parametrize("rows", [0, 3])
def test_round_trip_of_places(tmp_path: Path, suffix: str, rows: int) -> None:
    path = tmp_path / f"mic{suffix}"
    co.write_coordinates(path, PICKS.rows(slice(0, rows)), box=65)
    again = co.read_coordinates(path)
    tolerance = 0.0 if suffix in (".star", ".pos") else 0.5  # whole pixels
    assert len(again) == rows
    np.testing.assert_allclose(again[co.X], PICKS[co.X][:rows], atol=tolerance)
    np.testing.assert_allclose(again[co.Y], PICKS[co.Y][:rows], atol=tolerance)


def test_box_files_hold_corners(tmp_path: Path) -> None:
    # EMAN: corner, width, height, and perhaps -3; the middle of 100 pixels from 50 on is pixel 100.
    even = co.read_coordinates(write(tmp_path / "a.box", "50\t150\t100\t100\t-3\n-10 0 64 64\n"))
    np.testing.assert_array_equal(even[co.X], [100, 22])
    np.testing.assert_array_equal(even[co.Y], [200, 32])
    odd = co.read_coordinates(write(tmp_path / "b.box", "0 0 65 65\n"))
    assert (odd[co.X][0], odd[co.Y][0]) == (32, 32)


def test_ximdisp_and_xmipp_headings(tmp_path: Path) -> None:
    ximdisp = "        x         y      density\n      1143       527         0.0\n       608       831         0.0\n"
    for name in ("a.coords", "a.txt"):  # by suffix, and by the first line
        table = co.read_coordinates(write(tmp_path / name, ximdisp))
        np.testing.assert_array_equal(table[co.X], [1143, 608])
    xmipp2 = "# <X position> <Y position>\n12 34\n56 78\n"
    np.testing.assert_array_equal(co.read_coordinates(write(tmp_path / "m.Common.pos", xmipp2))[co.Y], [34, 78])
    xmipp3 = (
        "# XMIPP_STAR_1 * \n# \ndata_header\n _enabled 1\n _pickingMicrographState Manual\ndata_particles\nloop_\n"
        " _cost\n _enabled\n _xcoor\n _ycoor\n 0.75 1 302 441\n -1 1 12 13\n"
    )
    table = co.read_coordinates(write(tmp_path / "m.pos", xmipp3))
    np.testing.assert_array_equal(table[co.X], [302, 12])
    np.testing.assert_array_equal(table[co.MERIT], [0.75, -1])


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.box", "1 2 64\n", "line 1: expected the corner"),
        ("a.box", "1 2 64 64 -1\n", "filament"),
        ("a.coords", "x y density\n1 2 0\n3 four 0\n", "line 3"),
        ("a.star", "data_\nloop_\n_rlnCoordinateX\n1\n", "lacks the columns"),
        ("a.star", "data_\nloop_\n_rlnCoordinateX\n_rlnCoordinateY\n1 nan\n", "particle 1"),
        ("a.dat", "1 2\n", "format"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, name: str, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        co.read_coordinates(write(tmp_path / name, text))
    assert name in str(error.value)


def test_boxes_need_a_size(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="box size"):
        co.write_coordinates(tmp_path / "a.box", PICKS)
    assert not list(tmp_path.iterdir())


def test_cistem_lists(tmp_path: Path) -> None:
    names = ["Movies/a.mrc", "Movies/b.mrc", "Movies/c.mrc"]
    pixels = np.array([1.5, 2.0, 1.0])
    text = "# image x y\nb.mrc 20.0 40.0 0.9\n1 15 30\na 3.0, 4.5\nMovies/b.mrc 2 2\n"
    a, b, c = co.read_cistem_positions(write(tmp_path / "list.txt", text), names, pixels)
    np.testing.assert_allclose(a[co.X], [10, 2])
    np.testing.assert_allclose(a[co.Y], [20, 3])
    np.testing.assert_allclose(b[co.X], [10, 1])
    assert len(c) == 0
    for by_id in (False, True):
        co.write_cistem_positions(tmp_path / "again.txt", names, [a, b, c], pixels, by_id=by_id)
        again = co.read_cistem_positions(tmp_path / "again.txt", names, pixels)
        for before, after in zip([a, b, c], again, strict=True):
            np.testing.assert_allclose(after[co.X], before[co.X], atol=1e-3)
            np.testing.assert_allclose(after[co.Y], before[co.Y], atol=1e-3)
    assert (tmp_path / "again.txt").read_text().startswith("1 15.000 30.000\n")
    with pytest.raises(InputError, match=r"line 1.*'4'"):
        co.read_cistem_positions(write(tmp_path / "bad.txt", "4 1 1\n"), names, pixels)


def test_list_of_coordinate_files(tmp_path: Path) -> None:
    co.write_coordinates(tmp_path / "a_autopick.star", PICKS)
    co.write_coordinate_files(tmp_path / "autopick.star", {"Movies/a.mrc": "a_autopick.star"})
    files = co.read_coordinate_files(tmp_path / "autopick.star")
    assert list(files) == ["Movies/a.mrc"]
    assert len(co.read_coordinates(files["Movies/a.mrc"])) == 3


def test_real_files(shared_data: Path) -> None:
    for path in sorted((shared_data / "apoferritin_real").glob("*_gt_manual.star")):
        table = co.read_coordinates(path)
        assert len(table) > 100
        assert table.numbers(co.X).max() < 1240
