"""Devices and threads."""

from __future__ import annotations

import os
from pathlib import Path

import numba
import pytest
import torch

from vitrea.compute.devices import (
    choose_device,
    cpu_features,
    describe_device,
    set_threads,
)
from vitrea.compute.processors import _cgroup_processors, available_threads
from vitrea.records.errors import InputError


def test_auto_prefers_a_gpu() -> None:
    assert choose_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert choose_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("wish", ["gpu", "cuda:99", "mps", "cuda:x"])
def test_a_device_that_is_not_here_is_refused_by_name(wish: str) -> None:
    with pytest.raises(InputError, match=wish):
        choose_device(wish)


@pytest.mark.gpu
def test_a_gpu_is_described() -> None:
    device = choose_device("cuda")
    description = describe_device(device)
    assert description.memory > 2**30
    assert "compute capability" in description.text


@pytest.mark.parametrize(
    ("text", "expected"), [("200000 100000", 2), ("150000 100000", 2), ("10000 100000", 1), ("max 100000", None)]
)
def test_the_quota_of_a_container_is_read(tmp_path: Path, text: str, expected: int | None) -> None:
    (tmp_path / "cpu.max").write_text(text + "\n")
    assert _cgroup_processors(tmp_path / "cpu.max") == expected
    assert _cgroup_processors(tmp_path / "absent") is None


def test_threads_stay_within_the_affinity() -> None:
    before = torch.get_num_threads(), numba.get_num_threads()
    try:
        assert 1 <= available_threads() <= len(os.sched_getaffinity(0))
        assert set_threads(1) == 1
        assert torch.get_num_threads() == numba.get_num_threads() == 1
        assert set_threads(10_000) == available_threads()
    finally:
        torch.set_num_threads(before[0])
        numba.set_num_threads(before[1])


def test_the_cpu_is_described_in_one_line() -> None:
    text = describe_device(torch.device("cpu")).text
    assert text.startswith("cpu: ")
    assert "GiB" in text
    assert "\n" not in text


@pytest.mark.skipif(not Path("/proc/cpuinfo").exists(), reason="no /proc/cpuinfo on this system")
def test_features_are_single_words() -> None:
    features = cpu_features()
    assert features
    assert all(" " not in feature for feature in features)
