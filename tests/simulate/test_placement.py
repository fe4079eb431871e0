"""Places of particles and the canvas they lie on."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import pdist

from vitrea.simulate.canvas import make_canvas
from vitrea.simulate.placement import place_particles


def test_none_upon_another_and_as_many_as_asked_for() -> None:
    places = place_particles(np.random.default_rng(1), 60, 400, 500, 35.0, 20.0)
    pixel = np.rint(places)
    inside = (pixel >= 0).all(axis=1) & (pixel[:, 0] <= 499) & (pixel[:, 1] <= 399)
    assert inside.sum() == 60
    assert inside[:60].all()
    assert pdist(places).min() >= 35.0
    assert len(places) > 60  # some reach in from outside
    assert places.min() >= -20


def test_a_full_field_ends_and_a_mask_is_respected() -> None:
    full = place_particles(np.random.default_rng(1), 1000, 200, 200, 40.0, 0.0)
    assert 15 < len(full) < 27  # random sequential addition jams at 0.547 of the area, here 17 and a border
    left = np.zeros((300, 300), dtype=bool)
    left[:, :100] = True
    some = place_particles(np.random.default_rng(2), 20, 300, 300, 20.0, -10.0, left)
    assert len(some) == 20
    assert np.rint(some[:, 0]).max() < 100
    assert some.min() >= 10
    assert not len(place_particles(np.random.default_rng(2), 5, 300, 300, 20.0, 0.0, np.zeros((300, 300), dtype=bool)))


def test_places_follow_the_seed() -> None:
    first, again, other = (place_particles(np.random.default_rng(seed), 10, 300, 300, 20.0, 0.0) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("shape", [(96, 75), (64, 81)])
def test_white_noise_of_a_canvas(shape: tuple[int, int]) -> None:
    """Unit variance in every pixel and every component, the columns of the half transform that stand alone included."""
    canvas = make_canvas(*shape, 1.5, 0.0)
    assert canvas.shape == shape
    random = np.random.default_rng(4)
    draws = [canvas.to_real(canvas.white(random)) for _ in range(200)]
    power = sum(canvas.to_fourier(draw).abs().square() for draw in draws) / 200
    assert np.mean([float(draw.var()) for draw in draws]) == pytest.approx(1, abs=0.01)
    for column in (0, 1, power.shape[1] - 1):
        assert float(power[:, column].mean()) == pytest.approx(1, abs=0.06)


def test_a_canvas_has_room_and_the_image_in_its_middle() -> None:
    canvas = make_canvas(100, 130, 2.0, 30.0)
    assert canvas.shape[0] >= 130
    assert canvas.shape[1] >= 160
    assert canvas.top >= 15
    assert canvas.shape[0] - canvas.top - 100 >= 15
    y, x = canvas.frequencies()
    assert float(x.max()) == pytest.approx(0.25, rel=0.01)
    assert float(y.abs().max()) == pytest.approx(0.25, rel=0.01)
