"""Candidate rows: compiled bodies against plain torch, and against loops written out in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from vitrea.kernels.rows import (
    accumulate_rows,
    accumulate_rows_torch,
    correlate_rows,
    correlate_rows_torch,
    sum_by_particle,
)

ORIENTATIONS, PARTICLES, SAMPLES, SHELLS = 5, 4, 37, 6
# Sums of 37 products of numbers of order 1 in float32: rounding stays below 1e-5.
ROUNDING = {"rtol": 1e-5, "atol": 2e-5}


def _complex(*shape: int, seed: int) -> Tensor:
    rng = np.random.default_rng(seed)
    return torch.from_numpy((rng.standard_normal(shape) + 1j * rng.standard_normal(shape)).astype(np.complex64))


def _real(*shape: int, seed: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).uniform(0.2, 2.0, shape).astype(np.float32))


@pytest.fixture
def correlation() -> tuple[Tensor, ...]:
    rng = np.random.default_rng(1)
    orientation = torch.from_numpy(np.sort(rng.integers(ORIENTATIONS, size=11)))
    particle = torch.from_numpy(rng.integers(PARTICLES, size=11))
    return (
        _complex(ORIENTATIONS, SAMPLES, seed=2),
        orientation,
        _complex(PARTICLES, SAMPLES, seed=3),
        _real(PARTICLES, SAMPLES, seed=4),
        particle,
    )


def test_correlation_of_rows(correlation: tuple[Tensor, ...]) -> None:
    products, power = correlate_rows(*correlation)
    plain_products, plain_power = correlate_rows_torch(*correlation)
    np.testing.assert_allclose(products.numpy(), plain_products.numpy(), **ROUNDING)
    np.testing.assert_allclose(power.numpy(), plain_power.numpy(), **ROUNDING)
    projections, orientation, images, weight, particle = (value.numpy() for value in correlation)
    for row in range(len(orientation)):
        p, x = projections[orientation[row]].astype(complex), images[particle[row]].astype(complex)
        np.testing.assert_allclose(products[row].numpy(), np.conj(p) * x, **ROUNDING)
        assert float(power[row]) == pytest.approx(np.sum(np.abs(p) ** 2 * weight[particle[row]]), rel=1e-5)


@pytest.fixture
def accumulation() -> tuple[Tensor | int, ...]:
    first = torch.tensor([0, 2, 3, 7, 7, 9])  # the fourth orientation has no row
    rows = int(first[-1])
    particle = torch.from_numpy(np.random.default_rng(6).integers(PARTICLES, size=rows))
    shell = torch.from_numpy(np.sort(np.random.default_rng(7).integers(SHELLS - 1, size=SAMPLES)))
    return (
        _complex(rows, SAMPLES, seed=8),
        _real(rows, seed=9),
        first,
        _complex(ORIENTATIONS, SAMPLES, seed=10),
        particle,
        _complex(PARTICLES, SAMPLES, seed=11),
        _complex(PARTICLES, SAMPLES, seed=12),
        _real(PARTICLES, SAMPLES, seed=13),
        _real(PARTICLES, SAMPLES, seed=14),
        shell,
        SHELLS,
    )


def test_accumulation_agrees_with_torch(accumulation: tuple[Tensor | int, ...]) -> None:
    compiled = accumulate_rows(*accumulation)
    plain = accumulate_rows_torch(*accumulation)
    for one, other in zip(compiled, plain, strict=True):
        assert one.shape == other.shape
        np.testing.assert_allclose(one.numpy(), other.numpy(), rtol=1e-5, atol=1e-4)  # sums of up to 150 terms


def test_accumulation_written_out(accumulation: tuple[Tensor | int, ...]) -> None:
    *tensors, shells = accumulation
    ramps, mass, first, projections, particle, masked, unmasked, ctf, precision, shell = (t.numpy() for t in tensors)
    sums, weights, cross, power = (value.numpy() for value in accumulate_rows(*accumulation))
    expected_sums = np.zeros((ORIENTATIONS, SAMPLES), dtype=complex)
    expected_weights = np.zeros((ORIENTATIONS, SAMPLES))
    for orientation in range(ORIENTATIONS):
        for row in range(first[orientation], first[orientation + 1]):
            i = particle[row]
            expected_sums[orientation] += ctf[i] * precision[i] * unmasked[i] * ramps[row]
            expected_weights[orientation] += mass[row] * ctf[i] ** 2 * precision[i]
            model = ctf[i] * projections[orientation].astype(complex)
            agreement = (np.conj(model) * masked[i] * ramps[row]).real
            strength = mass[row] * np.abs(model) ** 2
            for s in range(shells):
                assert cross[row, s] == pytest.approx(agreement[shell == s].sum(), abs=1e-4)
                assert power[row, s] == pytest.approx(strength[shell == s].sum(), rel=1e-4)
    np.testing.assert_allclose(sums, expected_sums, rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(weights, expected_weights, rtol=1e-5)
    assert not sums[3].any()
    assert not weights[3].any()
    assert not power[:, shells - 1].any()  # no sample in the last shell


@pytest.mark.parametrize("shells", [1, 8, 13])
def test_rows_are_added_to_their_particles(shells: int) -> None:
    """To what is there already, in float64 and in the order of the rows: bit by bit that of a plain loop."""
    values = _complex(50, shells, seed=15).real.contiguous()
    particle = torch.from_numpy(np.random.default_rng(16).integers(PARTICLES - 1, size=50))  # the last has no rows
    before = np.random.default_rng(17).standard_normal((PARTICLES, shells))
    total = torch.from_numpy(before.copy())
    sum_by_particle(values, particle, total)
    expected = before.copy()
    for row in range(50):
        expected[particle[row]] += values[row].double().numpy()
    np.testing.assert_array_equal(total.numpy(), expected)
    np.testing.assert_array_equal(total[-1].numpy(), before[-1])
