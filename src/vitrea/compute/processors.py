"""How many processors there are to use; without importing torch."""

from __future__ import annotations

import os
from pathlib import Path


def available_threads() -> int:
    """Return how many processors this process may use: its affinity, and the quota of its container (cgroup v2)."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _cgroup_processors(Path("/sys/fs/cgroup/cpu.max"))
    return max(1, min(count, quota)) if quota else count


def _cgroup_processors(path: Path) -> int | None:
    """Read a ``cpu.max`` file ("200000 100000": two processors); None where there is no limit."""
    try:
        quota, period = path.read_text(encoding="ascii").split()
        return max(1, round(int(quota) / int(period)))
    except (OSError, ValueError):  # no such file, or "max 100000"
        return None
