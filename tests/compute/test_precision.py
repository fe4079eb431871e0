"""The choice of a matrix format."""

from __future__ import annotations

import time

import pytest
import torch

from vitrea.compute import precision
from vitrea.compute.precision import MatrixSpeed, fast_products, matrix_dtype, matrix_speed, measure_gemm

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("features", "speed", "expected"),
    [
        ({"amx_bf16"}, MatrixSpeed(100.0, 800.0, 400.0), torch.bfloat16),
        ({"avx512_bf16"}, MatrixSpeed(100.0, 120.0, 100.0), torch.float32),  # units, but no gain worth the precision
        ({"avx2"}, MatrixSpeed(100.0, 800.0, 400.0), torch.float32),  # no units: the measurement is not even asked
    ],
)
def test_bfloat16_needs_both_the_units_and_the_speed(
    monkeypatch: pytest.MonkeyPatch, features: set[str], speed: MatrixSpeed, expected: torch.dtype
) -> None:
    monkeypatch.setattr(precision, "cpu_features", lambda: frozenset(features))
    monkeypatch.setattr(precision, "matrix_speed", lambda device: speed)
    assert matrix_dtype(CPU) is expected


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


@pytest.mark.gpu
def test_recent_gpus_use_bfloat16() -> None:
    device = torch.device("cuda")
    expected = torch.bfloat16 if torch.cuda.get_device_capability(device) >= (8, 0) else torch.float32
    assert matrix_dtype(device) is expected
