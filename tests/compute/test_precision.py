"""The choice of a matrix format."""

from __future__ import annotations

import time

import pytest
import torch

from vitrea.compute import precision
from vitrea.compute.precision import fast_products, matrix_speed, measure_gemm

CPU = torch.device("cpu")


def test_speed_counts_two_operations_a_multiply_add(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "_timed_product", lambda left, right: 0.001)
    assert measure_gemm(CPU, torch.float32, size=100, seconds=0.001) == pytest.approx(2e6 / 0.001 * 1e-9)


def test_the_check_is_made_once_and_is_cheap() -> None:
    matrix_speed.cache_clear()
    start = time.perf_counter()
    first = matrix_speed(CPU)
    # Budget 0.3 s on a quiet machine; tests share theirs.
    assert time.perf_counter() - start < 3.0
    assert first.float32 > 0
    assert first.bfloat16 > 0
    assert first.fast > 0
    assert matrix_speed(CPU) is first


def test_fast_products_keep_float32_results_and_leave_no_trace() -> None:
    generator = torch.Generator().manual_seed(3)
    left, right = (torch.randn(256, 256, generator=generator) for _ in range(2))
    before = torch.get_float32_matmul_precision()
    with fast_products():
        found = left @ right
    assert torch.get_float32_matmul_precision() == before
    exact = left.double() @ right.double()
    error = float((found - exact).square().mean().sqrt() / exact.square().mean().sqrt())
    # Both factors rounded to bfloat16 (eps / sqrt(12) each, relative): 0.003; a bfloat16 sum would err far more.
    assert error < torch.finfo(torch.bfloat16).eps
