"""Which number format makes matrix products fast here."""

from __future__ import annotations

import functools
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from vitrea.compute.devices import cpu_features

# 512^3 multiply-adds: large enough to run at the speed of the matrix units, 10 ms where there are none.
_SIZE = 512
_BUDGET_SECONDS = 0.06


@dataclass(frozen=True)
class MatrixSpeed:
    """Measured speed of matrix products in GFLOP/s (a multiply-add counts two).

    Attributes
    ----------
    float32, bfloat16 : float
        Factors and result in that format.
    fast : float
        Factors and result in float32, inside `fast_products`: what comparisons that choose candidates run at.
    """

    float32: float
    bfloat16: float
    fast: float


def bfloat16_hardware(device: torch.device) -> bool:
    """Tell whether a device has matrix or vector units for bfloat16.

    AMX or AVX512-BF16 on x86, BF16 instructions on ARM, CUDA compute capability 8.0 or later. Elsewhere bfloat16 is
    emulated and slower than float32.
    """
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    return bool(cpu_features() & {"amx_bf16", "avx512_bf16", "bf16"})


def measure_gemm(
    device: torch.device, dtype: torch.dtype, size: int = _SIZE, seconds: float = _BUDGET_SECONDS
) -> float:
    """Measure square matrix products.

    Parameters
    ----------
    device : torch.device
    dtype : torch.dtype
    size : int
        Rows and columns of both factors.
    seconds : float
        Time to spend, besides one product to warm up.

    Returns
    -------
    float
        GFLOP/s of the fastest product: the others were disturbed.
    """
    left = torch.ones(size, size, device=device, dtype=dtype)
    right = torch.ones(size, size, device=device, dtype=dtype)
    _timed_product(left, right)
    best, end = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < end:
        best = min(best, _timed_product(left, right))
    return 2.0 * size**3 / best * 1e-9


def _timed_product(left: torch.Tensor, right: torch.Tensor) -> float:
    start = time.perf_counter()
    _ = left @ right
    if left.device.type == "cuda":
        torch.cuda.synchronize(left.device)
    return time.perf_counter() - start


@functools.lru_cache(maxsize=8)
def matrix_speed(device: torch.device) -> MatrixSpeed:
    """Measure once in a process; takes about 0.2 s."""
    float32, bfloat16 = (measure_gemm(device, dtype) for dtype in (torch.float32, torch.bfloat16))
    with fast_products():
        fast = measure_gemm(device, torch.float32)
    return MatrixSpeed(float32, bfloat16, fast)


@contextmanager
def fast_products() -> Iterator[None]:
    """Let float32 matrix products inside this block run in bfloat16 or TF32 where units for them are there.

    For comparisons that only choose candidates. On a CPU torch then hands products to oneDNN, which uses AMX where it
    finds it and is also the faster float32 library on processors that are not Intel's.
    """
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
