"""The rules of auto-refinement, against what a real RELION run wrote and against numbers worked by hand.

The numbers of beta-galactosidase (box of 64 pixels of 3.54 Å = 226.56 Å) are those of a log of RELION's auto-refine.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from vitrea.likelihood.schedule import (
    Evidence,
    has_converged,
    next_offsets,
    resolved_shell,
    update_changes,
    update_resolution,
    update_sampling,
)
from vitrea.likelihood.settings import Settings
from vitrea.likelihood.state import Progress, Sampling

BOX = 226.56
SETTINGS = Settings(particle_diameter=200.0, symmetry="D2")


def _fsc(half: int, seventh: int, shells: int = 32) -> NDArray[np.float64]:
    """1 before shell `half`, 0.3 before shell `seventh`, 0 beyond."""
    shell = np.arange(shells + 1)
    return np.where(shell < half, 1.0, np.where(shell < seventh, 0.3, 0.0))


def _ssnr(last: int, shells: int = 32) -> NDArray[np.float64]:
    return np.where(np.arange(shells + 1) <= last, 5.0, 0.2)


def test_resolution_is_the_last_shell_with_more_signal_than_noise() -> None:
    assert resolved_shell(_ssnr(9), _fsc(20, 20)) == 9
    assert resolved_shell(_ssnr(9), _fsc(5, 7)) == 6  # the FSC must support it
    assert resolved_shell(np.zeros(33), np.ones(33)) == 0
    # RELION at iteration 8: signal dips below noise at 16 and 11 Å, the FSC stays above 0.143 to shell 26: 10.298 Å.
    dips = _ssnr(22)
    dips[[13, 14, 19, 20, 21]] = 0.6
    assert resolved_shell(dips, _fsc(13, 27)) == 22
    # Noise: a spike beyond a gap.
    fsc = _fsc(5, 7)
    fsc[20] = 0.7
    assert resolved_shell(_ssnr(20), fsc) == 6


def test_chance_and_the_start_map_are_no_resolution() -> None:
    """Agreement must exceed chance and reach beyond what the start map brought; the search goes on all the same."""
    progress = Progress(BOX / 4, BOX / 4, current_size=28)
    evidence = Evidence(np.full(33, 0.35), given=4, inherited=6)
    inherited = update_resolution(progress, _ssnr(6), _fsc(7, 7), BOX, evidence)
    assert inherited.resolution == pytest.approx(BOX / 4)
    assert inherited.best_resolution == pytest.approx(BOX / 6)
    assert inherited.current_size == 2 * (6 + 10)
    chance = update_resolution(progress, _ssnr(8), _fsc(7, 9), BOX, evidence)  # 0.3 in shells 7 and 8
    assert chance.resolution == pytest.approx(BOX / 4)
    own = update_resolution(progress, _ssnr(8), _fsc(8, 9), BOX, evidence)  # 1 in shell 7
    assert own.resolution == own.best_resolution == pytest.approx(BOX / 8)


@pytest.mark.parametrize(
    ("shell", "high", "increment", "size"),
    # RELION: 20.5964 Å with 10 more shells: 42; 10.2982 Å, FSC still high at the limit: a quarter of the box more, 60.
    [(11, False, 10, 42), (22, True, 19, 60), (30, True, 10, 64)],
)
def test_image_size_follows_resolution(shell: int, high: bool, increment: int, size: int) -> None:
    progress = Progress(45.312, 45.312, current_size=60, increment=increment)
    fsc = _fsc(33, 33) if high else _fsc(shell + 1, shell + 1)
    new = update_resolution(progress, _ssnr(shell), fsc, BOX)
    assert new.resolution == pytest.approx(BOX / shell)
    assert new.high_fsc_at_limit == high
    assert new.current_size == size


def test_increment_covers_a_slow_decay_and_never_shrinks() -> None:
    """RELION: at least the shells between FSC 0.5 and 0.143, and five more."""
    progress = Progress(45.312, 45.312, current_size=64)
    slow = update_resolution(progress, _ssnr(8), _fsc(8, 22), BOX)
    assert slow.increment == 22 - 8 + 5
    assert slow.current_size == 2 * (8 + 19)
    steep = update_resolution(replace(slow, current_size=64), _ssnr(8), _fsc(8, 9), BOX)
    assert steep.increment == 19


def test_resolution_stalls() -> None:
    """Counted against the best so far, where RELION counts against the last: an ebb and flow is no gain."""
    progress = Progress(30.0, 30.0, current_size=64)
    stalls = []
    for shell in (11, 11, 10, 11, 12):
        progress = update_resolution(progress, _ssnr(shell), _fsc(shell + 1, shell + 1), BOX)
        stalls.append(progress.stalled_resolution)
    assert stalls == [0, 1, 2, 3, 0]
    assert progress.best_resolution == pytest.approx(BOX / 12)


# RELION's log: iteration, changes in angles and offsets, fine steps, "no gain for n iter".
# The sampling changed before iterations 7 and 13.
LOG = [
    (2, 54.4845, 9.54631, 7.5, 3.54, 0),
    (3, 14.7749, 2.55664, 7.5, 3.54, 0),
    (4, 14.2344, 2.58387, 7.5, 3.54, 0),
    (5, 12.4989, 2.70556, 7.5, 3.54, 0),
    (6, 13.4232, 3.84757, 7.5, 3.54, 1),
    (7, 9.44284, 2.58833, 3.75, 1.5, 0),
    (8, 5.96749, 1.67709, 3.75, 1.5, 0),
    (9, 4.33261, 1.28113, 3.75, 1.5, 0),
    (10, 3.41067, 1.14792, 3.75, 1.5, 0),
    (11, 3.20685, 1.16885, 3.75, 1.5, 0),
    (12, 2.90317, 0.919419, 3.75, 1.5, 1),
    (13, 1.33418, 0.595535, 1.875, 1.45494, 0),
    (14, 1.03871, 0.550448, 1.875, 1.45494, 1),
    (15, 1.13321, 0.651366, 1.875, 1.45494, 2),
]


def test_settling_of_poses_as_in_the_log() -> None:
    progress = Progress(45.312, 45.312, current_size=42)
    for iteration, rotation, offset, angle_step, offset_step, expected in LOG:
        if iteration in (7, 13):
            progress = replace(progress, stalled_poses=0, smallest_rotation=999.0, smallest_offset=999.0)
        order = round(np.log2(60 / (2 * angle_step)))
        sampling = Sampling(order, 17.7, 2 * offset_step)
        progress = update_changes(progress, sampling, rotation, offset)
        assert progress.stalled_poses == expected, f"iteration {iteration}"
    assert (progress.change_rotation, progress.change_offset) == (1.13321, 0.651366)


def test_offsets_as_in_the_log() -> None:
    """Before iteration 6 and 12: ranges and fine steps that RELION chose."""
    progress = replace(Progress(18.88, 18.88, 60), change_offset=3.84757)
    reach, step = next_offsets(progress, Sampling(2, 17.7, 7.08), 1, 3.4869)
    assert reach == pytest.approx(9.61891, abs=3e-5)  # six digits in the log
    assert step / 2 == pytest.approx(1.5)
    progress = replace(progress, change_offset=0.919419)
    reach, step = next_offsets(progress, Sampling(3, reach, step), 1, 1.93992)
    assert reach == pytest.approx(4.59709, abs=1e-5)
    assert step / 2 == pytest.approx(1.45494, abs=1e-5)


@pytest.mark.parametrize(
    ("change", "accuracy", "before", "oversampling", "reach", "step"),
    [
        (0.1, 0.4, 5.0, 1, 0.9, 0.6),  # never less than 3 x 3 coarse points
        (10.0, 8.0, 6.0, 1, 7.8, 3.0),  # grows by at most 30%
        (10.0, 0.5, 40.0, 1, 25.0, 6.25),  # far too many points: half the range, then a coarser step
        (1.0, 2.0, 10.0, 0, 5.0, 1.5),  # without oversampling the coarse step is the fine one
    ],
)
def test_offsets_stay_within_bounds(
    change: float, accuracy: float, before: float, oversampling: int, reach: float, step: float
) -> None:
    progress = replace(Progress(20.0, 20.0, 40), change_offset=change)
    assert next_offsets(progress, Sampling(2, before, 3.0), oversampling, accuracy) == pytest.approx((reach, step))


def test_sampling_becomes_finer_only_when_all_has_stalled() -> None:
    stalled = replace(Progress(20.0, 20.0, 40), stalled_resolution=1, stalled_poses=1, change_offset=3.84757)
    sampling = Sampling(2, 17.7, 7.08)
    for moving in (replace(stalled, stalled_resolution=0), replace(stalled, stalled_poses=0)):
        assert update_sampling(moving, sampling, SETTINGS, 6.435, 3.4869) == (moving, sampling)
    progress, finer = update_sampling(stalled, sampling, SETTINGS, 6.435, 3.4869)
    assert (finer.healpix_order, finer.local) == (3, False)
    assert (progress.stalled_resolution, progress.stalled_poses, progress.smallest_rotation) == (0, 0, 999.0)
    _, local = update_sampling(stalled, finer, SETTINGS, 3.055, 1.93992)
    assert (local.healpix_order, local.local) == (4, True)
    _, never = update_sampling(stalled, finer, replace(SETTINGS, auto_local_healpix_order=5), 3.055, 1.93992)
    assert not never.local


def test_convergence() -> None:
    """RELION's last steps: a fine step of 1.875 degrees is finer than 3/4 of 2.63 degrees; then nothing may improve."""
    stalled = replace(Progress(10.2982, 10.2982, 60), stalled_resolution=2, stalled_poses=1)
    sampling = Sampling(4, 4.59709, 2.90988, local=True)
    same, finer = update_sampling(stalled, sampling, SETTINGS, 2.49, 1.8)
    assert finer.healpix_order == 5  # 1.875 > 3/4 of 2.49
    assert not has_converged(same)
    done, kept = update_sampling(stalled, sampling, SETTINGS, 2.63, 1.81956)
    assert kept == sampling
    assert has_converged(done)
    assert not has_converged(replace(done, stalled_resolution=0))
    assert not has_converged(replace(done, stalled_poses=0))
