"""Criteria on columns and images."""

from __future__ import annotations

import numpy as np
import pytest

from vitrea.selection.criteria import (
    contains_text,
    first_of_each,
    in_range,
    in_spans,
    parse_spans,
    within_sigmas,
)
from vitrea.selection.image_statistics import image_statistics


def test_spans_are_read_and_applied() -> None:
    spans = parse_spans("1, 3,5-8")
    assert spans == [(1, 1), (3, 3), (5, 8)]
    assert np.flatnonzero(in_spans(np.arange(11), spans)).tolist() == [1, 3, 5, 6, 7, 8]
    assert parse_spans("1-1000000000000") == [(1, 10**12)]  # not laid out number by number


@pytest.mark.parametrize("text", ["", ",", "0", "2-", "-3", "a", "1.5", "8-5", "1-2-3", "²"])
def test_what_is_no_list_of_numbers_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"number|backwards"):
        parse_spans(text)


def test_bounds_are_included_and_nan_is_never_inside() -> None:
    values = [np.nan, -np.inf, 1.0, 2.0, 3.0, np.inf]
    assert in_range(values, 1.0, 2.0).tolist() == [False, False, True, True, False, False]
    assert in_range(values, None, 2.0).tolist() == [False, True, True, True, False, False]
    assert in_range(values, 2.0, None).tolist() == [False, False, False, True, True, True]


def test_text_is_included_and_excluded() -> None:
    words = np.array(["mic1_a", "mic2_a", "mic1_b"], dtype=object)
    assert contains_text(words, include="mic1").tolist() == [True, False, True]
    assert contains_text(words, include="mic1", exclude="_b").tolist() == [True, False, False]
    assert contains_text(words, exclude="_b").tolist() == [True, True, False]


def test_first_of_each_value() -> None:
    assert first_of_each(np.array(["b", "a", "b", "c", "a"], dtype=object)).tolist() == [True, True, False, True, False]
    assert first_of_each(np.array([3, 3, 1])).tolist() == [True, False, True]


def test_outliers_in_any_statistic_and_images_that_are_not_numbers_go() -> None:
    rng = np.random.default_rng(0)
    images = rng.normal(size=(200, 16, 16)).astype(np.float32)
    images[10] += 5.0  # mean
    images[20] *= 3.0  # standard deviation
    images[30, 3, 3] = np.nan
    images[40, 3, 3] = np.inf
    statistics = image_statistics(images)
    assert np.flatnonzero(~within_sigmas(statistics[:, :2], 5.0)).tolist() == [10, 20, 30, 40]
    assert np.flatnonzero(~within_sigmas(statistics[:, :1], 5.0)).tolist() == [10, 30, 40]


def test_statistics_are_those_of_float64() -> None:
    images = np.random.default_rng(1).normal(1e4, 1.0, size=(3, 32, 32)).astype(np.float32)
    wide = images.astype(np.float64).reshape(3, -1)
    expected = np.stack([wide.mean(1), wide.std(1), wide.min(1), wide.max(1)], axis=1)
    np.testing.assert_allclose(image_statistics(images), expected, rtol=1e-6)


def test_a_constant_statistic_drops_nothing() -> None:
    assert within_sigmas(np.full((7, 1), 0.1), 1.0).all()
