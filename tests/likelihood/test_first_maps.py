"""First maps on small images: the same particles on the same greyscale, and a choice made by particles not used."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from vitrea.fourier.transforms import resample
from vitrea.geometry.sampling import orientation_grid
from vitrea.likelihood import first_maps
from vitrea.likelihood.ab_initio import AbInitio
from vitrea.likelihood.data import mask_share
from vitrea.likelihood.first_maps import enlarged, find_first_maps, finest_detail, shrunk_run
from vitrea.likelihood.maximisation import round_mask
from vitrea.likelihood.scheme import Scheme
from vitrea.likelihood.settings import Settings
from vitrea.likelihood.state import RunState
from vitrea.records.recorder import SilentRecorder

PIXEL = 4.0
SETTINGS = Settings(
    particle_diameter=80.0, symmetry="C2", offset_range=8.0, offset_step=4.0, healpix_order=1, maximum_iterations=6
)
SCHEME = Scheme(1, planar=False, schedule="auto", centre_classes=True, finish_resolution=16.0)


@pytest.fixture(scope="module")
def simulation(simulate: Callable[..., Any]) -> Any:
    return simulate(240, snr=2.0, symmetry="C2", width=2.0)


def ab_initio(simulation: Any, resemblance: Any = None) -> AbInitio:
    mask = round_mask(simulation.data.box_size, 80.0, PIXEL, 5.0)
    given = {} if resemblance is None else {"resemblance": resemblance}
    return AbInitio(
        simulation.data, SETTINGS, mask, torch.device("cpu"), 64 << 20, SilentRecorder(), SCHEME, first_maps=2, **given
    )


def test_a_map_of_small_images_is_brought_to_the_greyscale_of_the_particles(simulation: Any) -> None:
    """Grey values of images stay when they are shrunk, so projections of the two maps must agree where both show it."""
    truth, box = torch.from_numpy(simulation.map), 16
    small = resample(truth, box, 3) * (len(truth) / box)
    seen, expected = small.sum(dim=0), resample(truth.sum(dim=0), box)
    assert float((seen - expected).abs().max()) < 1e-4 * float(expected.abs().max())
    again = enlarged(small.numpy(), len(truth))
    # What lies beyond the Nyquist frequency of the small box is lost: little, of balls this wide.
    assert np.abs(again - simulation.map).max() < 0.02 * simulation.map.max()


def test_a_shrunk_run_has_the_same_particles_in_smaller_boxes(simulation: Any) -> None:
    run = ab_initio(simulation)
    small = shrunk_run(run)
    assert small.data.box_size == 12 and small.box_angstrom == pytest.approx(run.box_angstrom)
    held, same = run.held_out(), small.held_out()
    assert len(held) == 40 and len(small.data) == len(simulation.data)
    np.testing.assert_array_equal(small.data.defocus[same], run.data.defocus[held])
    expected = resample(torch.from_numpy(run.data.load(held)), 12).numpy()
    np.testing.assert_array_equal(small.data.load(same), expected)
    assert not set(small.members()) & set(same)


def test_contaminants_count_no_more_than_a_few_particles(simulation: Any) -> None:
    """An image a hundred times as strong would decide on noise and maps alike; the others stay as they are."""
    plain = simulation.data.load

    def load(indices: Any) -> Any:
        return plain(indices) * np.where(indices == 7, 10, 1).astype(np.float32)[:, None, None]

    strong = replace(simulation.data, load=load)
    chosen = np.arange(40)
    before, after = (data.shrunk(chosen, 12, strongest=4.0).load(chosen) for data in (simulation.data, strong))
    same = chosen != 7
    np.testing.assert_array_equal(before[same], after[same])
    variance = after.var(axis=(1, 2))
    assert variance[7] == pytest.approx(4.0 * np.median(variance), rel=1e-3)
    np.testing.assert_allclose(after[7] / after[7].std(), before[7] / before[7].std(), atol=1e-4)


def test_several_classes_start_in_small_batches_and_end_with_finer_steps(simulation: Any) -> None:
    """Those that made a map prefer it: batches are of particles that it has not seen lately."""
    run = ab_initio(simulation)
    small = shrunk_run(replace(run, scheme=replace(run.scheme, classes=3)))
    assert small.scheme.schedule == "batches" and small.annealing
    assert len(small.chosen(1)) == len(small.members())  # 200 particles are fewer than a batch
    many = replace(small, scheme=replace(small.scheme, particles_per_class=10))
    assert len(many.chosen(1)) == len(many.chosen(149)) == 30
    state = small.start([], simulation.particles())
    orders = [small.prepared(replace(state, iteration=done))[4].healpix_order for done in (0, 119, 120, 149)]
    assert orders == [1, 1, 2, 2]


@pytest.mark.parametrize(("far", "agreeing"), [(10.0, 2), (np.inf, 1)])
def test_particles_not_used_choose_the_best_first_map(
    simulation: Any, monkeypatch: pytest.MonkeyPatch, far: float, agreeing: int
) -> None:
    """One of the two starts is spoiled: the other one is chosen, whichever comes first."""
    monkeypatch.setattr(first_maps, "ITERATIONS", 10)
    spoiled, step = agreeing - 1, AbInitio.step
    seeds: list[int] = []

    def worse(self: AbInitio, state: RunState) -> RunState:
        if self.settings.seed not in seeds:
            seeds.append(self.settings.seed)
        after = step(self, state)
        if seeds.index(self.settings.seed) != spoiled:
            return after
        model = after.models[0]
        mixed = [np.roll(group.voxels, 3, axis=0)[:, ::-1] * 0.5 for group in model.classes]
        return replace(after, models=(model.with_classes(
            replace(group, voxels=np.ascontiguousarray(voxels))
            for group, voxels in zip(model.classes, mixed, strict=True)
        ),))  # fmt: skip

    monkeypatch.setattr(AbInitio, "step", worse)
    run = ab_initio(simulation, lambda one, other, pixel_size: far)
    found = find_first_maps(run, simulation.particles(), 2)
    assert found.gains[spoiled] == 0.0 and found.gains[1 - spoiled] > 1.0
    assert found.agreeing == agreeing
    assert found.voxels[0].shape == simulation.map.shape
    warnings = run.recorder.warnings  # type: ignore[attr-defined]
    assert [("may be wrong" in text) for text in warnings] == [True] * (2 - agreeing)
    # The noise is that of the particles in their own box: white, half in each part of a component, and masked.
    expected = 0.5 * mask_share(run.data, SETTINGS) * simulation.sigma**2
    assert found.noise[-1] == pytest.approx(expected, rel=0.2)
    # On the greyscale of the particles: about as strong as the true map.
    assert found.voxels[0].std() == pytest.approx(simulation.map.std(), rel=0.5)


@pytest.mark.parametrize(("symmetry", "order"), [("C1", 1), ("D2", 1), ("D7", 2), ("T", 3), ("O", 3), ("I1", 3)])
def test_the_grid_is_finer_where_symmetry_leaves_few_orientations(simulation: Any, symmetry: str, order: int) -> None:
    run = ab_initio(simulation)
    free = replace(run, settings=replace(run.settings, symmetry=symmetry, healpix_order=4))
    small = shrunk_run(free)
    assert small.settings.healpix_order == order
    assert orientation_grid(order, symmetry).size >= 100


def test_nearly_round_molecules_start_from_finer_detail_in_small_batches(simulation: Any) -> None:
    """Blurred, a round molecule has no orientation: detail, steps and offsets follow its diameter."""
    run = ab_initio(simulation)
    scheme = replace(run.scheme, finish_resolution=6.0)
    usual, high = (
        replace(
            run,
            scheme=scheme,
            settings=replace(run.settings, symmetry=name, particle_diameter=120.0, offset_range=30.0),
        )
        for name in ("D7", "O")
    )
    assert finest_detail(usual.settings, scheme) == 22.0
    assert finest_detail(high.settings, scheme) == pytest.approx(13.2)
    coarse, fine = shrunk_run(usual), shrunk_run(high)
    assert fine.data.pixel_size < coarse.data.pixel_size
    assert (coarse.scheme.schedule, fine.scheme.schedule) == ("auto", "batches")
    assert not fine.annealing and coarse.annealing
    # As far as the run's own offsets at most, a pixel at a time.
    assert fine.settings.offset_step == fine.data.pixel_size
    assert fine.settings.offset_range == pytest.approx(0.75 * 13.2) and coarse.settings.offset_range == 30.0
    assert fine.plan(1).resolution == pytest.approx(1.6 * 13.2)
    assert fine.plan(1).kept > 0 and coarse.plan(1).kept == 0
    # The run itself goes on from what such a map shows; after a first map without symmetry, from less.
    assert replace(high, first_symmetry="C1").begin_resolution > high.begin_resolution == pytest.approx(1.25 * 13.2)
