"""What lies in the ice besides particles: crystals, gold, the edge of the carbon, featureless drops.

Everything is painted in units of the noise's standard deviation on a canvas larger than the image, in real space: what
hinders electrons (`amplitude`, seen as it is) and what delays them (`phase`, seen through the CTF). Sizes are relative
to the radius of the particle, as a picker finds things about as large as it looks for. The ranges were chosen by eye so
that the junk of real sets (bright lattice fringes, fiducials, carbon edges) comes out alike.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
_EDGE = 1.5  # pixels over which things fade


@dataclass(frozen=True)
class Painting:
    """One contaminant, white on black, in units of the noise; both of shape [canvas, canvas]."""

    amplitude: Array
    phase: Array


def paint_contaminant(name: str, random: np.random.Generator, canvas: int, radius: float) -> Painting:
    """Paint one of `CONTAMINANTS`.

    Parameters
    ----------
    name : str
    random : Generator
        Place, size, form and strength are drawn from it.
    canvas : int
        Edge in pixels; the middle is pixel ``canvas // 2``.
    radius : float
        Radius of the particle in pixels.
    """
    return CONTAMINANTS[name](random, canvas, radius)


def _ice(random: np.random.Generator, canvas: int, radius: float) -> Painting:
    """One to three small crystals; their lattice shows as fringes."""
    phase, amplitude = np.zeros((canvas, canvas)), np.zeros((canvas, canvas))
    for _ in range(random.integers(1, 4)):
        form = _ellipse(random, canvas, place=0.7 * radius, smallest=0.15 * radius, largest=0.5 * radius)
        y, x = _axes(canvas)
        turn, period = random.uniform(0, np.pi), random.uniform(2.5, 5.0)
        wave = np.cos(2 * np.pi * (x * np.cos(turn) + y * np.sin(turn)) / period + random.uniform(0, 2 * np.pi))
        amplitude += form * (random.uniform(0.5, 2.0) + random.uniform(2.0, 6.0) * wave)
        phase += form * random.uniform(1.0, 3.0)
    return Painting(amplitude, phase)


def _gold(random: np.random.Generator, canvas: int, radius: float) -> Painting:
    """One round, opaque fiducial."""
    size = random.uniform(0.25, 0.5) * radius
    form = _ellipse(random, canvas, place=0.6 * radius, smallest=size, largest=size)
    return Painting(random.uniform(6.0, 12.0) * form, random.uniform(2.0, 6.0) * form)


def _carbon(random: np.random.Generator, canvas: int, radius: float) -> Painting:
    """The edge of the carbon film through the image: brighter, and grainy, on one side of a slightly bent line."""
    y, x = _axes(canvas)
    turn, bend = random.uniform(0, 2 * np.pi), random.uniform(-1, 1) / (10 * radius)
    along, across = x * np.sin(turn) - y * np.cos(turn), x * np.cos(turn) + y * np.sin(turn)
    side = _fade(across - random.uniform(-0.7, 0.7) * radius + bend * along**2)
    grain = random.standard_normal((canvas, canvas))
    return Painting(random.uniform(0.7, 1.5) * side, side * (random.uniform(1.0, 4.0) + grain))


def _drop(random: np.random.Generator, canvas: int, radius: float) -> Painting:
    """A featureless drop, of ethane for instance."""
    size = random.uniform(0.4, 1.1) * radius
    form = _ellipse(random, canvas, place=0.4 * radius, smallest=0.9 * size, largest=size)
    return Painting(random.uniform(0.4, 1.2) * form, random.uniform(0.5, 2.0) * form)


def _axes(canvas: int) -> tuple[Array, Array]:
    axis = np.arange(canvas, dtype=np.float64) - canvas // 2
    return axis[:, None], axis[None, :]


def _fade(distance: Array) -> Array:
    """1 well inside (negative distance in pixels), 0 outside."""
    return np.asarray(0.5 - 0.5 * np.tanh(distance / _EDGE))


def _ellipse(random: np.random.Generator, canvas: int, *, place: float, smallest: float, largest: float) -> Array:
    """Soft-edged ellipse with semi-axes between two lengths, its centre within `place` of the middle (pixels)."""
    y, x = _axes(canvas)
    angle, distance, turn = random.uniform(0, 2 * np.pi), place * np.sqrt(random.random()), random.uniform(0, np.pi)
    x, y = x - distance * np.cos(angle), y - distance * np.sin(angle)
    first, second = random.uniform(smallest, largest, size=2)
    u, v = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
    return _fade((np.hypot(u / first, v / second) - 1) * np.sqrt(first * second))


CONTAMINANTS: Mapping[str, Callable[[np.random.Generator, int, float], Painting]] = {
    "ice": _ice,
    "gold": _gold,
    "carbon": _carbon,
    "drop": _drop,
}
