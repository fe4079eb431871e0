"""The small mixed sets that other rooms' tests use can be told apart by who knows their poses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from vitrea.simulate.projections import Projector
from vitrea.simulate.scoring import score_assignment


@pytest.mark.parametrize(("second", "accuracy"), [("other", 0.99), ("part", 0.97)])
def test_molecules_differ_by_more_than_the_noise(mixture: Callable[..., Any], second: str, accuracy: float) -> None:
    """With the true pose, the nearer of the two noiseless images is that of the right molecule."""
    made = mixture("lopsided", second)
    truth = made.particles
    clean = [Projector(torch.from_numpy(one), 5.0).images(truth, with_ctf=True).numpy() for one in made.maps]
    distance = np.stack([((made.images - one) ** 2).sum(axis=(1, 2)) for one in clean])
    classes = truth.table["rlnClassNumber"]
    real = classes > 0
    assert real.mean() == pytest.approx(0.9, abs=0.01)
    assert score_assignment(classes[real], distance.argmin(axis=0)[real]).accuracy >= accuracy


def test_few_views_for_2d(mixture: Callable[..., Any]) -> None:
    """Particles share a few directions of view, each with an in-plane angle of its own."""
    made = mixture("lopsided", views=3, junk_fraction=0.0, number=60)
    eulers = made.particles.eulers
    for view in range(3):
        assert len(np.unique(eulers[made.views == view, :2], axis=0)) == 1
    assert len(np.unique(eulers[:, 2])) == 60
    assert set(made.views) == {0, 1, 2}
