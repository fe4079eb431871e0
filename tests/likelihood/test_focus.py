"""Classes decided by a region of the particle."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from vitrea.geometry.euler import euler_to_matrix
from vitrea.likelihood.classification import Classification
from vitrea.likelihood.focus import FocusSphere, focus_likelihood
from vitrea.likelihood.scheme import Scheme
from vitrea.likelihood.settings import Settings
from vitrea.matching.candidates import Rows, RowScorer
from vitrea.matching.poses import GivenPoses

SETTINGS = Settings(
    particle_diameter=110.0,
    offset_range=5.0,
    offset_step=5.0,
    healpix_order=1,
    maximum_iterations=12,
    tau2_fudge=1.0,
    initial_resolution=20.0,
    accuracy_particles=2,
)
SCHEME = Scheme(2, planar=False, search="none")


@pytest.fixture(scope="module")
def small_set(simulate: Callable[..., Any]) -> Any:
    return simulate(12, 24, snr=0.5)


def _compared(simulation: Any) -> tuple[Classification, Any, RowScorer, Any, Any]:
    """Compare images, in true orientations, with the true map and its mirror image, moved by 0 and 1 pixels."""
    settings = replace(SETTINGS, particle_diameter=80.0)
    run = simulation.classification(settings, SCHEME)
    count, radius = len(simulation.data), 10
    start = run.start([simulation.map, np.ascontiguousarray(simulation.map[:, :, ::-1])], simulation.particles())
    model, preparer = start.models[0], run.preparer(radius)
    shifts = np.array([[0.0, 0.0], [1.0, 0.0]])
    poses = GivenPoses(euler_to_matrix(simulation.eulers), shifts, 2)
    scorer = RowScorer(run.references(model, radius), preparer.samples, poses, "fine")
    centre = np.round(simulation.origins / run.data.pixel_size)
    images = preparer.prepare(np.arange(count), centre, np.ones(count), model.sigma2_noise, model.scale, 1)
    rows = Rows(np.tile(np.arange(count), 2), np.arange(2 * count), np.zeros(2 * count, dtype=np.float32))
    return run, images, scorer, rows, scorer.score(images, rows).numpy()


def _seen(focus: FocusSphere, simulation: Any, images: Any, scorer: RowScorer, rows: Rows) -> np.ndarray:
    """Log-likelihood within the disc of each row and translation."""
    count, pixel_size = len(rows), simulation.data.pixel_size
    return np.stack(
        [
            focus_likelihood(focus, images, rows.particle, rows.orientation, np.full(count, number), scorer, pixel_size)
            for number in range(2)
        ],
        axis=1,
    )


def test_a_disc_that_holds_all_is_the_whole_image(small_set: Any) -> None:
    """Differences between poses of an image are those of the log-likelihood, wherever the sphere lies."""
    _, images, scorer, rows, scores = _compared(small_set)
    seen = _seen(FocusSphere((20.0, -8.0, 12.0), 500.0), small_set, images, scorer, rows)
    difference = (seen - scores).reshape(2, 12, 2)
    assert np.ptp(scores) > 50.0
    np.testing.assert_allclose(difference - difference[:1, :, :1], 0.0, atol=0.02)


def test_nothing_outside_the_disc_counts(small_set: Any) -> None:
    """A bright spot on the images counts where the sphere is seen, and nowhere else."""
    _, images, scorer, rows, _ = _compared(small_set)
    rows = rows.subset(np.arange(12))
    point = np.array([16.0, 12.0, -12.0])
    seen_at = (euler_to_matrix(small_set.eulers) @ point)[:, :2] / small_set.data.pixel_size
    # A spot at the phase origin, moved to where the sphere is seen, with the sign that phases are turned back to.
    spot = 30.0 * scorer.samples.phase_ramps(seen_at) * torch.exp(-0.02 * torch.from_numpy(scorer.samples.shell) ** 2)
    marked = replace(images, masked=images.masked + spot * torch.where(images.ctf < 0, -1.0, 1.0))
    changed = {}
    for name, centre in (("here", point), ("opposite", -point)):
        sphere = FocusSphere(tuple(centre.tolist()), 8.0)
        before, after = (_seen(sphere, small_set, one, scorer, rows)[:, 0] for one in (images, marked))
        changed[name] = np.abs(after - before)
    apart = np.linalg.norm(seen_at, axis=1) * 2 > 8.0  # pixels: discs that do not touch
    assert apart.sum() >= 5
    assert (changed["opposite"][apart] < 0.05 * changed["here"][apart]).all()


def test_a_search_everywhere_is_not_focussed(small_set: Any) -> None:
    run = small_set.classification(SETTINGS, replace(SCHEME, search="global", focus=FocusSphere((0, 0, 0), 8.0)))
    with pytest.raises(ValueError, match="focussed"):
        run.step(run.start([small_set.map], small_set.particles()))


@pytest.mark.parametrize("search", ["none", "shifts", "local"])
def test_a_sphere_around_all_decides_as_the_whole_image(search: Any, small_set: Any) -> None:
    maps = [small_set.map, np.ascontiguousarray(small_set.map[:, :, ::-1])]
    known = small_set.particles(known=True)
    # Half of the particles in wrong poses, in which either map may do better.
    known = replace(known, eulers=np.where(np.arange(12)[:, None] % 2, known.eulers[::-1], known.eulers))
    found = []
    for focus in (None, FocusSphere((0.0, 0.0, 0.0), 500.0)):
        scheme = replace(SCHEME, search=search, local_sigma=10.0 if search == "local" else 0.0, focus=focus)
        run = small_set.classification(replace(SETTINGS, particle_diameter=80.0), scheme)
        found.append(run.step(run.start(maps, known)).particles)
    whole, focussed = found
    assert len(set(whole.class_index)) == 2
    np.testing.assert_array_equal(focussed.class_index, whole.class_index)
    np.testing.assert_allclose(focussed.eulers, whole.eulers)
    np.testing.assert_allclose(focussed.log_likelihood, whole.log_likelihood, rtol=1e-3)


@pytest.fixture(scope="module")
def two_switches(lopsided: Any, mixture: Any) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray]:
    """Particles in which a small domain and a large one are there or not, one without regard to the other.

    Returns the mixture, which particles have the small domain, which have the large one, and the small one's centre in
    pixels.
    """
    rng = np.random.default_rng(3)
    body = rng.uniform(-1, 1, size=(10, 3)) * [3.0, 3.0, 3.0]
    small = np.array([6.5, 0.0, 0.0]) + rng.uniform(-1, 1, size=(3, 3)) * 1.2
    large = np.array([-6.0, 0.0, 0.0]) + rng.uniform(-1, 1, size=(6, 3)) * 1.8
    parts = {"body": [body], "small": [body, small], "large": [body, large], "both": [body, small, large]}
    models = {}
    for name, points in parts.items():
        together = np.concatenate(points)
        models[name] = type(lopsided)(together, np.ones(len(together)), lopsided.width)
    made = mixture.func(models, *models, number=240, snr=0.5, junk_fraction=0.0, shift_sigma=2.0, seed=4)
    kind = made.particles.table["rlnClassNumber"] - 1
    return made, np.isin(kind, (1, 3)), np.isin(kind, (2, 3)), small.mean(axis=0)


@pytest.mark.slow
def test_the_region_decides_and_not_what_differs_most(two_switches: Any, of_mixture: Callable[[Any], Any]) -> None:
    """Two classes from one map: without focus they differ by the large domain, with it by the small one in focus."""
    made, has_small, has_large, centre = two_switches
    simulation = of_mixture(made)
    right = {}
    for name, focus in (("all", None), ("small", FocusSphere(tuple((centre * 5.0).tolist()), 22.0))):
        run = simulation.classification(SETTINGS, replace(SCHEME, focus=focus))
        *_, state = run.iterate(run.start([np.mean(made.maps, axis=0)], simulation.particles(known=True)))
        found = state.particles.class_index == 1
        right[name] = [max(np.mean(found == truth), np.mean(found != truth)) for truth in (has_small, has_large)]
    assert right["small"][0] > 0.95 > right["all"][0]
    assert right["small"][1] < 0.6
    assert right["all"][1] > 0.95
