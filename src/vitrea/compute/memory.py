"""How much memory there is, and what a run will need of it."""

from __future__ import annotations

import contextlib
import ctypes
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch
from torch import Tensor

_CGROUP = Path("/sys/fs/cgroup")
# Parameters of mallopt (malloc.h of the GNU C library).
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
# Blocks from this size on go back to the system when they are freed; smaller ones are used again.
LARGE_BLOCK = 1 << 20
# Free memory at the top of the heap that is kept for what comes next.
KEPT_AT_TOP = 8 << 20


def available_memory(device: torch.device | None = None) -> int:
    """Return the bytes that can be taken without swapping.

    On the CPU the smaller of what the system has free and what the container (cgroup v2 or v1) still allows; on a
    CUDA device what its driver reports free plus what torch holds but does not use.
    """
    if device is not None and device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return int(free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device))
    free = int(psutil.virtual_memory().available)
    allowed = _cgroup_room(_CGROUP)
    return free if allowed is None else max(0, min(free, allowed))


def held_memory() -> int:
    """Return the bytes of main memory that this process holds, the code of its libraries included."""
    return int(psutil.Process().memory_info().rss)


def total_memory() -> int:
    """Return the bytes of main memory this process may ever use: the machine's or the container's limit."""
    total = int(psutil.virtual_memory().total)
    limit = _cgroup_limit(_CGROUP)
    return total if limit is None else min(total, limit)


def _read_number(path: Path) -> int | None:
    try:
        return int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):  # absent, or the word "max"
        return None


def _cgroup_limit(root: Path) -> int | None:
    """Return the memory limit of the container in bytes; None without one."""
    limit = _read_number(root / "memory.max")
    return limit if limit is not None else _read_number(root / "memory" / "memory.limit_in_bytes")


def _cgroup_room(root: Path) -> int | None:
    """Return what the container still allows: its limit less what it holds, not counting file cache it can drop."""
    limit = _cgroup_limit(root)
    if limit is None:
        return None
    is_v2 = (root / "memory.current").exists()
    folder = root if is_v2 else root / "memory"
    used = _read_number(folder / ("memory.current" if is_v2 else "memory.usage_in_bytes")) or 0
    return max(0, limit - used + _droppable_cache(folder / "memory.stat"))


def _droppable_cache(path: Path) -> int:
    """Return ``inactive_file`` of a memory.stat file in bytes."""
    try:
        lines = path.read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    values = dict(line.split()[:2] for line in lines if line.strip())
    return int(values.get("inactive_file", values.get("total_inactive_file", 0)))


@dataclass(frozen=True)
class MemoryPlan:
    """What each stage of a run will hold.

    Attributes
    ----------
    stages : sequence of (str, int)
        Name of the stage and the bytes it holds at once, everything that stays in memory through it included.
    available : int
        Bytes there are.
    held : int
        Bytes that the process holds already: the program with its libraries.
    """

    stages: Sequence[tuple[str, int]]
    available: int
    held: int = 0

    @property
    def peak(self) -> int:
        """Bytes of the largest stage; 0 without stages."""
        return max((size for _, size in self.stages), default=0)

    @property
    def fits(self) -> bool:
        """Whether the largest stage fits."""
        return self.peak <= self.available

    @property
    def text(self) -> str:
        """A small table, one line a stage, and the verdict."""
        width = max((len(name) for name, _ in self.stages), default=0)
        lines = [f"{name:<{width}}  {format_bytes(size):>9}" for name, size in self.stages]
        verdict = "fits in" if self.fits else "does not fit in"
        total = f" ({format_bytes(self.held + self.peak)} with the program itself)" if self.held else ""
        lines.append(f"peak {format_bytes(self.peak)}{total} {verdict} {format_bytes(self.available)} available")
        return "\n".join(lines)


def format_bytes(count: float) -> str:
    """Write a number of bytes in KiB, MiB or GiB."""
    for unit, size in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if count >= size:
            return f"{count / size:.2f} {unit}"
    return f"{count:.0f} B"


def chunk_size(bytes_per_item: float, budget: float, minimum: int = 1, maximum: int = 2**31 - 1) -> int:
    """Return how many items to hold at once.

    Parameters
    ----------
    bytes_per_item : float
        What one item needs; must be positive.
    budget : float
        Bytes to spend on all.
    minimum, maximum : int
        Bounds of the answer. The minimum holds even where the budget is smaller: a plan that does not fit is the
        business of `MemoryPlan`.

    Raises
    ------
    ValueError
        If `bytes_per_item` is not positive or the bounds cross.
    """
    if bytes_per_item <= 0 or minimum > maximum:
        raise ValueError(f"cannot divide {budget} bytes: {bytes_per_item} bytes an item, {minimum} to {maximum} items")
    return min(maximum, max(minimum, math.floor(budget / bytes_per_item)))


class Workspace:
    """Room for intermediate results of a loop, taken once and used again at every turn.

    Blocks of many megabytes that come and go at every turn are either fetched from the system each time, page by page,
    or leave gaps between others that stay: a process then holds much more than it uses.

    Parameters
    ----------
    device : torch.device
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._held: dict[str, Tensor] = {}

    def take(self, purpose: str, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """Return an array with unknown content; it is overwritten by what the same purpose is taken for next."""
        count = math.prod(shape)
        held = self._held.get(purpose)
        if held is None or held.dtype != dtype or held.numel() < count:
            self._held.pop(purpose, None)  # before the larger one is made
            del held
            held = self._held[purpose] = torch.empty(count, dtype=dtype, device=self._device)
        return held[:count].view(shape)


def return_large_blocks() -> None:
    """Have the C library give every large block back to the system as soon as it is freed; for the whole process.

    By itself glibc learns from the first large block that is freed to keep the next ones, up to 32 MiB each, among the
    small ones: what lives longer then comes to stand between them, and the process holds much more than it uses. Does
    nothing where the library has no such call.
    """
    with contextlib.suppress(OSError, AttributeError):
        library = ctypes.CDLL(None)
        library.mallopt(_M_MMAP_THRESHOLD, LARGE_BLOCK)
        library.mallopt(_M_TRIM_THRESHOLD, KEPT_AT_TOP)


def return_freed_memory() -> None:
    """Have the C library give what has been freed back to the system.

    Between stages of a run that need different amounts: glibc otherwise keeps the largest of each kind of block.
    Does nothing where the library has no such call.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
