"""Numbers with their nouns, and lists cut short."""

from __future__ import annotations

from vitrea.records.wording import number_of, some_of


def test_one_takes_no_s() -> None:
    assert [number_of(count, "movie") for count in (0, 1, 2)] == ["0 movies", "1 movie", "2 movies"]


def test_what_is_left_out_is_shown() -> None:
    assert some_of(["a", "b"], 2) == "a, b"
    assert some_of(["a", "b", "c"], 2) == "a, b ..."
