"""The C library's random numbers: its published first values, and the library itself where it is GNU's."""

from __future__ import annotations

import ctypes
import platform

import numpy as np
import pytest

from vitrea.kernels.random_numbers import LARGEST, LibcRandom

# What every Linux program prints for rand() without srand().
FIRST = [1804289383, 846930886, 1681692777, 1714636915, 1957747793]


def test_the_first_numbers_are_the_well_known_ones() -> None:
    assert LibcRandom(1).draw(5).tolist() == FIRST
    assert LibcRandom(0).draw(5).tolist() == FIRST


def test_the_sequence_does_not_depend_on_how_it_is_drawn() -> None:
    whole, pieces = LibcRandom(7), LibcRandom(7)
    assert np.array_equal(whole.draw(200), np.concatenate([pieces.draw(count) for count in (1, 0, 2, 40, 157)]))
    assert not np.array_equal(LibcRandom(7).draw(9), LibcRandom(8).draw(9))


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not GNU's")
@pytest.mark.parametrize("seed", [0, 1, 42, 2**31 - 2])
def test_the_numbers_are_those_of_the_library(seed: int) -> None:
    libc = ctypes.CDLL(None)
    libc.srand(seed)
    assert LibcRandom(seed).draw(1000).tolist() == [libc.rand() for _ in range(1000)]


@pytest.mark.parametrize("seed", [-1, LARGEST])
def test_seeds_out_of_range_are_refused(seed: int) -> None:
    with pytest.raises(ValueError, match="seed must lie"):
        LibcRandom(seed)
