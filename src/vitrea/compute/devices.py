"""Which processor computes, and with how many threads."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from pathlib import Path

import torch

from vitrea.compute.processors import available_threads
from vitrea.records.errors import InputError


@dataclass(frozen=True)
class DeviceDescription:
    """What a device is.

    Attributes
    ----------
    device : torch.device
    name : str
        The processor's name as its maker writes it.
    threads : int
        Processors this process may use; 0 for a GPU.
    memory : int
        Total memory in bytes; for a CPU, what the container allows.
    features : tuple of str
        Matrix and vector extensions that matter here: ``amx_bf16``, ``avx512_bf16``, ``avx512f``, ``avx2``;
        ``compute capability 9.0`` for a GPU.
    """

    device: torch.device
    name: str
    threads: int
    memory: int
    features: tuple[str, ...]

    @property
    def text(self) -> str:
        """One line for a log."""
        threads = f", {self.threads} thread{'s' if self.threads != 1 else ''}" if self.threads else ""
        features = f" ({', '.join(self.features)})" if self.features else ""
        return f"{self.device}: {self.name}{threads}, {self.memory / 2**30:.1f} GiB{features}"


def choose_device(wish: str = "auto") -> torch.device:
    """Return the device to compute on.

    Parameters
    ----------
    wish : str
        ``auto`` (a CUDA device where there is one, else the CPU), ``cpu``, ``cuda`` or ``cuda:1``.

    Raises
    ------
    InputError
        If the wish is none of these, or there is no such device.
    """
    if wish == "auto":
        return torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
    try:
        device = torch.device(wish)
    except RuntimeError:
        raise InputError(f"device {wish!r} is not known: use auto, cpu, cuda or cuda:0, cuda:1 ...") from None
    if device.type not in ("cpu", "cuda"):
        raise InputError(f"device {wish!r} is not supported: use auto, cpu, cuda or cuda:0, cuda:1 ...")
    if device.type == "cpu":
        return torch.device("cpu")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    index = device.index or 0
    if index >= count:
        present = f"there are {count}" if count else "this machine, or this build of torch, has none"
        raise InputError(f"device {wish!r} is not here: of CUDA devices {present}.")
    return torch.device("cuda", index)


def set_threads(count: int = 0) -> int:
    """Set how many threads torch and numba use; 0 means all this process may have. Return the number."""
    import numba

    chosen = min(count, available_threads()) if count > 0 else available_threads()
    torch.set_num_threads(chosen)
    most = int(numba.config.NUMBA_NUM_THREADS)  # type: ignore[attr-defined] # set at import from the environment
    numba.set_num_threads(min(chosen, most))
    return chosen


def cpu_features() -> frozenset[str]:
    """Return the instruction-set flags of the CPU as Linux names them; empty on other systems."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    except OSError:
        return frozenset()
    lines = (line for line in text.splitlines() if line.startswith(("flags", "Features")))
    return frozenset(next(lines, ":").split(":", 1)[1].split())


def describe_device(device: torch.device) -> DeviceDescription:
    """Return what a device is."""
    from vitrea.compute.memory import total_memory

    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        capability = f"compute capability {properties.major}.{properties.minor}"
        return DeviceDescription(device, properties.name, 0, properties.total_memory, (capability,))
    present = cpu_features()
    telling = tuple(name for name in ("amx_bf16", "avx512_bf16", "avx512f", "avx2") if name in present)
    return DeviceDescription(device, _cpu_name(), available_threads(), total_memory(), telling)


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())
