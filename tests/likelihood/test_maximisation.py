"""Formulas of the maximisation step on sums made by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from vitrea.fourier.fsc import fourier_shell_correlation
from vitrea.fourier.packed import packed_samples
from vitrea.likelihood.maximisation import FSC_RANGE, NOISE_PRIOR_PARTICLES, Maximiser, round_mask
from vitrea.likelihood.settings import Settings
from vitrea.likelihood.state import Model, new_class
from vitrea.likelihood.sums import Sums, empty_sums

SIZE, RADIUS, GROUPS, PARTICLES, PIXEL = 16, 7, 3, 12, 4.0
SHELLS = SIZE // 2 + 1
SETTINGS = Settings(particle_diameter=60.0, flatten_solvent=False)


def _model() -> Model:
    voxels = np.zeros((SIZE,) * 3, dtype=np.float32)
    noise = np.full((GROUPS, SHELLS), 7.0)
    return Model((new_class(voxels, 5),), noise, np.ones(GROUPS), 10.0)


def _sums(seed: int, signal: float = 1.0) -> Sums:
    """Random sums; the numerator of both halves shares a signal and has noise of its own."""
    rng = np.random.default_rng(seed)
    sums = empty_sums(np.arange(PARTICLES), SIZE, RADIUS, 2, GROUPS, 5, torch.device("cpu"))
    shape = sums.accumulators[0].data.shape
    common = np.random.default_rng(99)
    truth = common.standard_normal(shape) + 1j * common.standard_normal(shape)
    noise = rng.standard_normal(shape) + 1j * rng.standard_normal(shape)
    sums.accumulators[0].weight += 4.0
    sums.accumulators[0].data += torch.from_numpy((4.0 * (signal * truth + noise)).astype(np.complex64))
    for grid in (sums.accumulators[0].data, sums.accumulators[0].weight):
        grid[:, :, 0] *= 0.5  # this plane will receive the mates too
    sums.residual[:] = rng.uniform(1, 2, (GROUPS, SHELLS)) * 100
    sums.counts[:] = [2, 4, 6]
    sums.agreement[:], sums.strength[:] = [2.0, 4.0, 9.0], [4.0, 4.0, 6.0]
    sums.directions[0] = [1, 2, 3, 4, 2]
    sums.offset_square, sums.mass = 54.0, 12.0
    sums.norm[:] = np.linspace(0.5, 1.5, PARTICLES)
    sums.pmax[:] = 0.25
    sums.log_likelihood[:] = -3.0
    return sums


@pytest.fixture(scope="module")
def data(simulate: Callable[..., Any]) -> Any:
    return simulate(PARTICLES, SIZE, scales=np.ones(GROUPS)).data


def _maximise(
    data: Any, settings: Settings = SETTINGS, shared: float = 0.0, join: bool = True, **changed: Any
) -> tuple[Any, ...]:
    mask = round_mask(SIZE, 30.0, PIXEL, 2.0)
    sums = (_sums(1), _sums(2))
    maximiser = Maximiser(data, settings, mask, **changed)
    models = maximiser.halves(sums, (_model(), _model()), shared, join)
    return maximiser, sums, models


def test_statistics(data: Any) -> None:
    _, sums, (model, _) = _maximise(data)
    np.testing.assert_allclose(model.classes[0].direction_prior, np.array([1, 2, 3, 4, 2]) / 12)
    assert model.sigma_offset == pytest.approx(np.sqrt(54.0 / (2 * 12.0)) * PIXEL)  # two axes
    assert model.average_norm == pytest.approx(1.0)
    assert model.log_likelihood == pytest.approx(-3.0 * PARTICLES)
    assert model.average_pmax == pytest.approx(0.25)
    # Scales 0.5, 1, 1.5 of groups of 2, 4 and 6: their mean over particles, 7/6, becomes one.
    np.testing.assert_allclose(model.scale, np.array([0.5, 1.0, 1.5]) / (7 / 6))
    counts = np.bincount(packed_samples(SIZE, SIZE // 2).shell)
    alone = sums[0].residual / sums[0].counts[:, None] / (2 * counts)
    everyone = sums[0].residual.sum(axis=0) / 12 / (2 * counts)
    share = sums[0].counts[:, None] / (sums[0].counts[:, None] + NOISE_PRIOR_PARTICLES)
    np.testing.assert_allclose(model.sigma2_noise, share * alone + (1 - share) * everyone)


def test_groups_without_signal_keep_a_scale_of_one(data: Any) -> None:
    maximiser = Maximiser(data, SETTINGS, round_mask(SIZE, 30.0, PIXEL, 2.0))
    pair = (_sums(1), _sums(2))
    for sums in pair:
        sums.strength[1] = sums.agreement[1] = 0.0
        sums.agreement[2] = 600.0  # a scale of 100 is no scale
    model, _ = maximiser.halves(pair, (_model(), _model()), 0.0)
    assert model.scale[1] == 1.0
    assert model.scale[2] / model.scale[0] == pytest.approx(5.0 / 0.5)
    for sums in pair:
        sums.strength[:] = 0.0
    again, _ = maximiser.halves(pair, (replace(_model(), scale=np.full(3, 2.0)),) * 2, 0.0)
    np.testing.assert_array_equal(again.scale, 2.0)  # nothing is known yet


def test_noise_and_scale_can_be_kept(data: Any) -> None:
    _, _, (kept, _) = _maximise(data, keep_noise=True)
    np.testing.assert_array_equal(kept.sigma2_noise, 7.0)
    np.testing.assert_array_equal(kept.scale, 1.0)
    assert kept.average_norm == 1.0
    assert kept.sigma_offset == pytest.approx(6.0)
    _, _, (unscaled, _) = _maximise(data, replace(SETTINGS, scale_correction=False))
    np.testing.assert_array_equal(unscaled.scale, 1.0)
    assert (unscaled.sigma2_noise != 7.0).all()


def test_signal_and_noise_of_the_map(data: Any) -> None:
    """``tau² = FSC / (1 - FSC) sigma²`` with ``sigma² = 1 / weight``: 4 a voxel are 4 x 2³ a Fourier pixel."""
    _, sums, (model, _) = _maximise(data)
    inside = np.arange(1, RADIUS + 1)
    # What the halves share (here the mean) is left out, so that it cannot leak into the first shells.
    fsc = fourier_shell_correlation(*(half.accumulators[0].reconstruct(above=0) for half in sums)).numpy()
    np.testing.assert_allclose(model.classes[0].fsc[inside], fsc[inside], atol=1e-5)
    assert model.classes[0].fsc[0] == 1.0  # the mean
    assert (model.classes[0].fsc[RADIUS + 1 :] == 0).all()
    np.testing.assert_allclose(model.classes[0].sigma2_map[2:RADIUS], 1 / 32.0, rtol=1e-5)
    strength = np.clip(model.classes[0].fsc, *FSC_RANGE)
    np.testing.assert_allclose(
        model.classes[0].tau2, strength / (1 - strength) * model.classes[0].sigma2_map, rtol=1e-6
    )
    np.testing.assert_allclose(model.classes[0].ssnr, strength / (1 - strength), rtol=1e-6)
    known = model.classes[0].tau2 > model.classes[0].sigma2_map
    np.testing.assert_array_equal(model.classes[0].completeness[2:RADIUS], known[2:RADIUS].astype(float))


def test_low_resolution_is_shared(data: Any) -> None:
    _, sums, (one, two) = _maximise(data, shared=3.4)
    np.testing.assert_array_equal(one.classes[0].fsc[:4], 1.0)
    assert (one.classes[0].fsc[4:] < 1).all()
    low = sums[0].accumulators[0].shells() <= 3
    assert torch.equal(sums[0].accumulators[0].data[low], sums[1].accumulators[0].data[low])
    assert not torch.equal(sums[0].accumulators[0].data[~low], sums[1].accumulators[0].data[~low])
    assert not np.array_equal(one.classes[0].voxels, two.classes[0].voxels)


def test_nothing_is_shared_at_the_end(data: Any) -> None:
    """Without a join the FSC is that of the half maps themselves, from the first shell on."""
    _, sums, (one, two) = _maximise(data, shared=3.4, join=False)
    maps = [torch.from_numpy(model.classes[0].unfiltered) for model in (one, two)]
    fsc = fourier_shell_correlation(*maps).numpy()
    np.testing.assert_allclose(one.classes[0].fsc[1 : RADIUS + 1], fsc[1 : RADIUS + 1], atol=1e-5)
    assert (one.classes[0].fsc[1:] < 0.99).all()
    low = sums[0].accumulators[0].shells() <= 1
    assert not torch.equal(sums[0].accumulators[0].data[low], sums[1].accumulators[0].data[low])


def test_strong_coarse_shells_do_not_reach_the_fine_ones_of_the_final_halves(data: Any) -> None:
    """Shells that both halves were begun with, a thousand times as strong as the noise beyond, stay where they are."""
    mask = round_mask(SIZE, 30.0, PIXEL, 2.0)
    curves = []
    for strength in (1.0, 1000.0):
        pair = (_sums(1, signal=0.0), _sums(2, signal=0.0))
        for sums in pair:
            low = sums.accumulators[0].shells() <= 3
            # The same in both, but not near a symmetric grid's centre only: a random map.
            common = torch.from_numpy(np.random.default_rng(5).standard_normal((int(low.sum()), 2)).astype(np.float32))
            sums.accumulators[0].data[low] += strength * torch.view_as_complex(common)
        one, two = Maximiser(data, SETTINGS, mask).halves(pair, (_model(), _model()), 3.4, join=False)
        maps = [torch.from_numpy(model.classes[0].unfiltered) for model in (one, two)]
        curves.append(fourier_shell_correlation(*maps).numpy())
    assert curves[1][1:4].min() > 0.99
    # Grid voxels at half a shell's distance are rounded to either side; nothing else connects the shells.
    np.testing.assert_allclose(curves[1][4:RADIUS], curves[0][4:RADIUS], atol=0.02)


def test_fsc_inside_the_mask_has_no_draw_in_it(data: Any) -> None:
    """The correction for the mask is the mean over all random phases: another seed gives the same curve."""
    settings = replace(SETTINGS, solvent_correct_fsc=True)
    curves = [_maximise(data, replace(settings, seed=seed), join=False)[2][0].classes[0].fsc for seed in (1, 2)]
    np.testing.assert_array_equal(*curves)
    plain = _maximise(data, join=False)[2][0].classes[0].fsc
    assert not np.allclose(curves[0], plain)


def test_model_of_all_particles(data: Any) -> None:
    """The FSC of all data against the truth is sqrt(2 FSC / (1 + FSC)); twice the weight is half the noise."""
    maximiser, sums, halves = _maximise(data)
    joined = maximiser.joined(sums, halves)
    np.testing.assert_array_equal(joined.classes[0].fsc, halves[0].classes[0].fsc)
    np.testing.assert_allclose(joined.classes[0].sigma2_map[2:RADIUS], 1 / 64.0, rtol=1e-5)
    positive = np.clip(halves[0].classes[0].fsc, 0, 1)
    whole = np.clip(np.sqrt(2 * positive / (1 + positive)), *FSC_RANGE)
    np.testing.assert_allclose(joined.classes[0].ssnr, whole / (1 - whole), rtol=1e-6)
    mean = 0.5 * (halves[0].classes[0].unfiltered + halves[1].classes[0].unfiltered)
    # Equal weights: the map of all is the mean of the halves.
    np.testing.assert_allclose(joined.classes[0].unfiltered, mean, atol=1e-4 * np.abs(mean).max())


def test_regularisation_and_solvent(data: Any) -> None:
    def power(settings: Settings) -> float:
        return float((_maximise(data, settings)[2][0].classes[0].voxels ** 2).sum())

    assert power(SETTINGS) < power(replace(SETTINGS, tau2_fudge=4.0))
    _, _, (flat, _) = _maximise(data, replace(SETTINGS, flatten_solvent=True))
    _, _, (plain, _) = _maximise(data)
    mask = round_mask(SIZE, 30.0, PIXEL, 2.0)
    np.testing.assert_allclose(flat.classes[0].voxels, plain.classes[0].voxels * mask, atol=1e-7)
    np.testing.assert_array_equal(flat.classes[0].unfiltered, plain.classes[0].unfiltered)


def test_symmetry_is_imposed(data: Any) -> None:
    """A half turn about z leaves a C2 map as it is (odd box aside, index i goes to -i about the centre)."""
    _, _, (model, _) = _maximise(data, replace(SETTINGS, symmetry="C2"))
    inner = model.classes[0].unfiltered[1:, 1:, 1:]
    turned = inner[:, ::-1, ::-1]
    assert np.abs(inner - turned).max() < 1e-3 * np.abs(inner).max()
    _, _, (plain, _) = _maximise(data)
    inner = plain.classes[0].unfiltered[1:, 1:, 1:]
    assert np.abs(inner - inner[:, ::-1, ::-1]).max() > 0.1 * np.abs(inner).max()


def test_mask_of_the_reference() -> None:
    mask = round_mask(20, 40.0, 4.0, 2.0)
    assert mask[10, 10, 14] == 1.0
    assert mask[10, 10, 15] == 1.0
    assert mask[10, 10, 16] == pytest.approx(0.5)
    assert mask[10, 10, 18] == 0.0
