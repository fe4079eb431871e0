"""Micrographs made of discs in white noise: where everything is, is known."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

PIXEL = 5.0
RADIUS = 55.0  # Å


@pytest.fixture(scope="session")
def discs() -> Callable[..., tuple[NDArray[np.float32], NDArray[np.float64]]]:
    """Return a function that makes a micrograph of white discs and their places (x, y): see `make_discs`."""
    return make_discs


def make_discs(
    number: int = 30, shape: tuple[int, int] = (300, 360), contrast: float = 0.8, seed: int = 1
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Put discs of `RADIUS` in white noise of unit variance, none touching another or the edge."""
    rng = np.random.default_rng(seed)
    places: list[NDArray[np.float64]] = []
    reach = RADIUS / PIXEL
    while len(places) < number:
        place = rng.uniform(reach + 2, np.array(shape[::-1]) - reach - 3)
        if all(np.hypot(*(place - other)) > 2.4 * reach for other in places):
            places.append(place)
    y, x = np.mgrid[: shape[0], : shape[1]]
    image = rng.standard_normal(shape)
    for place in places:
        image += contrast * (np.hypot(x - place[0], y - place[1]) < reach)
    return image.astype(np.float32), np.array(places).reshape(-1, 2)
