"""Posterior weights against exact sorting in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from vitrea.kernels.posterior import (
    BINS_PER_NAT,
    DEPTH,
    normalise_dense,
    normalise_dense_torch,
    normalise_rows,
    normalise_rows_torch,
    significant_orientations,
    significant_orientations_torch,
)

PARTICLES, SHIFTS, ORIENTATIONS = 6, 9, 200
BODIES = {"compiled": significant_orientations, "torch": significant_orientations_torch}
ROW_BODIES = {"compiled": normalise_rows, "torch": normalise_rows_torch}
DENSE_BODIES = {"compiled": normalise_dense, "torch": normalise_dense_torch}


def _inputs() -> tuple[torch.Tensor, ...]:
    """Log-likelihoods with the spread of a real search, from sharp to broad posteriors."""
    rng = np.random.default_rng(11)
    spread = np.geomspace(0.5, 40, PARTICLES)[:, None, None]
    scores = spread * rng.standard_normal((PARTICLES, SHIFTS, ORIENTATIONS)) + 300
    power = rng.uniform(0, 20, (PARTICLES, ORIENTATIONS))
    log_orientation = np.log(rng.dirichlet(np.ones(ORIENTATIONS)))
    log_shift = -rng.uniform(0, 3, (PARTICLES, SHIFTS))
    return tuple(torch.from_numpy(a.astype(np.float32)) for a in (scores, power, log_orientation, log_shift))


def _exact() -> NDArray[np.float64]:
    scores, power, log_orientation, log_shift = (value.double().numpy() for value in _inputs())
    return scores - power[:, None, :] + log_orientation + log_shift[:, :, None]


def _exact_depth(weights: NDArray[np.float64], fraction: float) -> float:
    """Depth in nats of the last sample of the smallest set that holds the fraction."""
    ranked = np.sort(weights.ravel())[::-1]
    mass = np.exp(ranked - ranked[0]).cumsum()
    return float(ranked[0] - ranked[np.searchsorted(mass, fraction * mass[-1])])


# Log-weights of about 300 are rounded to 3e-5 in float32, four times in a sum.
ROUNDING = 2e-4


@pytest.mark.parametrize("body", list(BODIES))
@pytest.mark.parametrize("margin", [0.0, 1.5])
@pytest.mark.parametrize("fraction", [0.5, 0.999])
def test_significant_set_is_at_most_one_bin_larger_than_the_smallest(body: str, fraction: float, margin: float) -> None:
    flags, counts = BODIES[body](*_inputs(), fraction, margin)
    exact = _exact()
    one_bin = 1 / BINS_PER_NAT if body == "compiled" else 0.0
    for i in range(PARTICLES):
        below = exact[i].max() - exact[i]
        depth = _exact_depth(exact[i], fraction) + margin
        smallest, largest = below <= depth - ROUNDING, below <= depth + one_bin + ROUNDING
        assert smallest.sum() <= counts[i] <= largest.sum()
        kept = flags[i].numpy().astype(bool)
        assert not (smallest.any(axis=0) & ~kept).any()
        assert not (kept & ~largest.any(axis=0)).any()
        mass = np.exp(-below)
        assert mass[:, kept].sum() >= (fraction - 1e-6) * mass.sum()
    assert counts[-1] < counts[0]  # a sharp posterior has fewer significant poses than a broad one


def test_margin_and_fraction_enlarge_the_set() -> None:
    sizes = [
        int(significant_orientations(*_inputs(), *choice)[1].sum()) for choice in ((0.5, 0.0), (0.5, 1.0), (0.99, 1.0))
    ]
    assert sizes[0] < sizes[1] < sizes[2]


def test_priors_steer_the_choice() -> None:
    scores, power, log_orientation, log_shift = _inputs()
    log_orientation[17] = 400.0
    flags, _ = significant_orientations(scores, power, log_orientation, log_shift, 0.9, 0.0)
    assert (flags[:, 17] == 1).all()
    assert int(flags.sum()) == PARTICLES
    scores, power, log_orientation, log_shift = _inputs()
    power[:, 3] = -400.0
    flags, _ = significant_orientations(scores, power, log_orientation, log_shift, 0.9, 0.0)
    assert (flags[:, 3] == 1).all()


def test_sample_at_the_very_end_of_the_histogram() -> None:
    """A depth that float32 rounds to the histogram's last edge must not fall outside it."""
    half_step = np.float32(2.0**-20)  # half the spacing of float32 around 30
    scores = torch.full((1, 1, 64), -200.0)
    scores[0, 0, 0] = float(half_step)
    scores[0, 0, 1:] = float(np.nextafter(np.float32(-30.0), np.float32(0.0)))
    zeros = torch.zeros(1, 64)
    flags, counts = significant_orientations(scores, zeros, zeros[0], torch.zeros(1, 1), 0.999, 0.0)
    assert counts.tolist() == [1]
    assert flags[0, :2].tolist() == [1, 0]


@pytest.fixture
def rows() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Rows of three particles, listed out of order."""
    rng = np.random.default_rng(12)
    owner = rng.permutation(np.repeat([0, 1, 2], [5, 1, 9]))
    scores = torch.from_numpy((np.array([2, 8, 25])[owner][:, None] * rng.standard_normal((15, 7))).astype(np.float32))
    order = torch.from_numpy(np.argsort(owner, kind="stable"))
    return scores - 5000.0, order, torch.tensor([0, 5, 6, 15])


@pytest.mark.parametrize("body", list(ROW_BODIES))
@pytest.mark.parametrize("fraction", [0.0, 0.9, 1.0])
def test_rows_become_posterior_weights(
    body: str, fraction: float, rows: tuple[torch.Tensor, torch.Tensor, torch.Tensor]
) -> None:
    scores, order, first = rows
    before = scores.double().numpy().copy()
    result = ROW_BODIES[body](scores, order, first, fraction)
    one_bin = 1 / BINS_PER_NAT if body == "compiled" else 0.0
    for i in range(3):
        mine = order[first[i] : first[i + 1]].numpy()
        exact = before[mine]
        posterior = np.exp(exact - exact.max())
        total = posterior.sum()
        posterior /= total
        weights = scores[torch.from_numpy(mine)].double().numpy()
        kept = weights > 0
        np.testing.assert_allclose(weights[kept], posterior[kept], rtol=1e-5)  # float32
        assert fraction - 1e-6 <= weights.sum() <= 1 + 1e-6
        below = exact.max() - exact
        if fraction < 1.0:
            depth = _exact_depth(exact, fraction)
            assert (below <= depth).sum() <= kept.sum() <= (below <= depth + one_bin).sum()
        else:
            assert weights.sum() == pytest.approx(1.0, abs=1e-6)
            assert kept[below < DEPTH].all()
        assert result["counts"][i] == kept.sum()
        row, shift = divmod(int(exact.argmax()), exact.shape[1])
        assert (result["best_row"][i], result["best_shift"][i]) == (mine[row], shift)
        assert float(result["evidence"][i]) == pytest.approx(exact.max() + np.log(total), abs=1e-6)
        assert float(result["top"][i]) == pytest.approx(posterior.max(), rel=1e-6)


@pytest.mark.parametrize("body", list(DENSE_BODIES))
@pytest.mark.parametrize("fraction", [0.0, 0.9, 0.999, 1.0])
def test_all_poses_become_posterior_weights(body: str, fraction: float) -> None:
    scores, power, log_orientation, log_shift = _inputs()
    result = DENSE_BODIES[body](scores, power, log_orientation, log_shift, fraction)
    exact = _exact()
    one_bin = 1 / BINS_PER_NAT if body == "compiled" else 0.0
    for i in range(PARTICLES):
        below = exact[i].max() - exact[i]
        posterior = np.exp(-below)
        total = posterior.sum()
        posterior /= total
        weights = scores[i].double().numpy()
        kept = weights > 0
        np.testing.assert_allclose(weights[kept], posterior[kept], rtol=2 * ROUNDING)
        depth = _exact_depth(exact[i], fraction) if fraction < 1.0 else DEPTH - 1.0
        smallest, largest = below <= depth - ROUNDING, below <= depth + one_bin + ROUNDING
        assert kept[smallest].all()
        assert fraction == 1.0 or not kept[~largest].any()
        assert fraction - 1e-6 <= weights.sum() <= 1 + 1e-5
        assert result["counts"][i] == kept.sum()
        shift, orientation = divmod(int(exact[i].argmax()), ORIENTATIONS)
        assert (result["best_shift"][i], result["best_row"][i]) == (shift, orientation)
        assert float(result["evidence"][i]) == pytest.approx(exact[i].max() + np.log(total), abs=ROUNDING)
        assert float(result["top"][i]) == pytest.approx(posterior.max(), rel=ROUNDING)


def test_dense_and_row_weights_are_the_same() -> None:
    """All poses of all particles, once as a block and once as rows with the priors added beforehand."""
    scores, power, log_orientation, log_shift = _inputs()
    summed = scores + (log_orientation - power)[:, None, :] + log_shift[:, :, None]
    rows = summed.transpose(1, 2).reshape(PARTICLES * ORIENTATIONS, SHIFTS).contiguous()
    dense = normalise_dense(scores, power, log_orientation, log_shift, 0.99)
    first = torch.arange(PARTICLES + 1) * ORIENTATIONS
    listed = normalise_rows(rows, torch.arange(len(rows)), first, 0.99)
    again = rows.view(PARTICLES, ORIENTATIONS, SHIFTS).transpose(1, 2)
    both = (again > 0) & (scores > 0)
    assert ((again > 0) ^ (scores > 0)).float().mean() < 1e-3  # on the border of a bin of the histogram
    np.testing.assert_allclose(again[both], scores[both], rtol=2 * ROUNDING)
    np.testing.assert_array_equal(dense["best_row"], listed["best_row"] - first[:-1])
    np.testing.assert_array_equal(dense["best_shift"], listed["best_shift"])
    np.testing.assert_allclose(dense["evidence"], listed["evidence"], atol=ROUNDING)
