"""Memory: limits of containers, plans, chunks."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest
import torch

from vitrea.compute import memory
from vitrea.compute.memory import (
    MemoryPlan,
    Workspace,
    available_memory,
    chunk_size,
    format_bytes,
    held_memory,
    total_memory,
)

GIB = 2**30


def _cgroup_v2(root: Path, limit: str, used: int, cache: int) -> None:
    (root / "memory.max").write_text(f"{limit}\n")
    (root / "memory.current").write_text(f"{used}\n")
    (root / "memory.stat").write_text(f"anon 5\ninactive_file {cache}\nactive_file 7\n")


def test_the_limit_of_a_container_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _cgroup_v2(tmp_path, str(300 * 2**20), 200 * 2**20, 50 * 2**20)
    monkeypatch.setattr(memory, "_CGROUP", tmp_path)
    assert available_memory() == 150 * 2**20  # limit - used + cache that can be dropped
    assert total_memory() == 300 * 2**20


def test_an_older_container_is_understood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "memory"
    folder.mkdir()
    (folder / "memory.limit_in_bytes").write_text(f"{100 * 2**20}\n")
    (folder / "memory.usage_in_bytes").write_text(f"{60 * 2**20}\n")
    (folder / "memory.stat").write_text(f"total_inactive_file {10 * 2**20}\n")
    monkeypatch.setattr(memory, "_CGROUP", tmp_path)
    assert available_memory() == 50 * 2**20


@pytest.mark.parametrize("limit", ["max", None])
def test_without_a_limit_the_system_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str | None) -> None:
    if limit:
        _cgroup_v2(tmp_path, limit, 1, 0)
    monkeypatch.setattr(memory, "_CGROUP", tmp_path)
    assert total_memory() == psutil.virtual_memory().total
    assert 0 < available_memory() <= total_memory()


def test_a_plan_tells_its_peak_and_whether_it_fits() -> None:
    plan = MemoryPlan([("coarse pass", GIB), ("reconstruction at Nyquist", 3 * GIB)], available=2 * GIB)
    assert plan.peak == 3 * GIB
    assert not plan.fits
    lines = plan.text.splitlines()
    assert lines[0].split() == ["coarse", "pass", "1.00", "GiB"]
    assert lines[-1] == "peak 3.00 GiB does not fit in 2.00 GiB available"
    assert MemoryPlan([], 1).peak == 0
    own = MemoryPlan([("coarse pass", GIB)], available=2 * GIB, held=GIB // 2)
    assert own.text.splitlines()[-1] == "peak 1.00 GiB (1.50 GiB with the program itself) fits in 2.00 GiB available"
    assert 2**24 < held_memory() < total_memory()


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0 B"), (1536, "1.50 KiB"), (5 * 2**20, "5.00 MiB"), (2.5 * GIB, "2.50 GiB")]
)
def test_bytes_are_written_in_their_unit(size: float, text: str) -> None:
    assert format_bytes(size) == text


def test_chunks_fill_the_budget_within_bounds() -> None:
    assert chunk_size(100, 1050) == 10
    assert chunk_size(100, 50) == 1
    assert chunk_size(100, 50, minimum=4) == 4
    assert chunk_size(100, 1e9, maximum=7) == 7
    with pytest.raises(ValueError, match="0 bytes an item"):
        chunk_size(0, 100)


def test_a_workspace_is_taken_once_and_grows() -> None:
    space = Workspace(torch.device("cpu"))
    first = space.take("rows", (4, 5), torch.float32)
    assert first.shape == (4, 5)
    assert space.take("rows", (2, 5), torch.float32).data_ptr() == first.data_ptr()
    assert space.take("slices", (4, 5), torch.float32).data_ptr() != first.data_ptr()
    larger = space.take("rows", (8, 5), torch.complex64)
    assert (larger.shape, larger.dtype) == ((8, 5), torch.complex64)
    assert space.take("rows", (40,), torch.complex64).data_ptr() == larger.data_ptr()
    assert not space.take("rows", (0, 5), torch.complex64).numel()
