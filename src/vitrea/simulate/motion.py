"""How a specimen moves while it is looked at: drift of the whole, and a smooth motion that differs from place to place.

The truth is written in the terms of RELION's motion files, and is exact in them: a shift for each frame, and 18
coefficients of a polynomial for each axis (Zivanov, Nakane & Scheres 2019, doi:10.1107/S205225251801463X). Shifts are
corrections, opposite to the motion; both are 0 in the first frame.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_STREAM = 41
_SETTLING = 5.0  # e-/Å²: exposure in which the fast motion of the beginning dies away
_SETTLED, _STEADY, _JITTER = 0.6, 0.4, 0.03  # parts of the drift: at the beginning, at constant speed, at random


@dataclass(frozen=True)
class Motion:
    """How far the specimen has moved in each frame, in pixels.

    Attributes
    ----------
    drift : ndarray, shape [frames, 2]
        x, y of the whole.
    local : ndarray, shape [2, 18]
        Along x and y: coefficients of 1, x, x², y, y², xy, each times z, z², z³, where x and y run from -0.5 to 0.5
        over the image and z is the number of frames since the first.
    """

    drift: NDArray[np.float64]
    local: NDArray[np.float64]

    def field(self, frame: int) -> Tensor:
        """Return the local motion in a frame: coefficients of 1, x, x², y, y², xy, shape [2, 6]."""
        powers = np.array([frame, frame**2, frame**3], dtype=np.float64)
        return torch.from_numpy(self.local.reshape(2, 6, 3) @ powers)

    def at(self, frame: int, x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return how far places have moved: drift and local motion, shape [places, 2]; x and y from -0.5 to 0.5."""
        terms = np.stack([np.ones_like(x), x, x * x, y, y * y, x * y], axis=-1)
        return np.asarray(self.drift[frame] + terms @ self.field(frame).numpy().T)

    @property
    def reach(self) -> float:
        """The farthest that anything within the image moves along an axis, in pixels."""
        corners = np.array([-0.5, 0.0, 0.5]).repeat(3), np.tile([-0.5, 0.0, 0.5], 3)
        return max(float(np.abs(self.at(frame, *corners)).max()) for frame in range(len(self.drift)))


def draw_motion(
    seed: tuple[int, int], frames: int, exposure: float, drift: float, local: float, pixel_size: float
) -> Motion:
    """Draw the motion of one movie: fast at first, then steady, as specimens move.

    Parameters
    ----------
    seed : tuple of int
    frames : int
    exposure : float
        Of the whole movie, in e-/Å².
    drift : float
        Length in Å of the way of the whole from the first frame to the last.
    local : float
        Root mean square over the image, in Å, of the local motion at the end; its mean over the image is 0 throughout.
    pixel_size : float
        Å.
    """
    random = np.random.default_rng([*seed, _STREAM])
    angles = random.uniform(0, 2 * np.pi) + np.array([0.0, random.normal(0, 0.7)])
    first, second = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    time = np.arange(frames) / max(frames - 1, 1)
    settled = -np.expm1(-time * exposure / _SETTLING) / -np.expm1(-exposure / _SETTLING)
    walk = random.standard_normal((frames, 2)).cumsum(axis=0) / np.sqrt(frames)
    way = _SETTLED * settled[:, None] * first + _STEADY * time[:, None] * second + _JITTER * (walk - walk[0])
    length = float(np.hypot(*way[-1]))
    if length:
        way *= drift / length
    return Motion(way / pixel_size, _draw_local(random, frames) * (local / pixel_size))


def _draw_local(random: np.random.Generator, frames: int) -> NDArray[np.float64]:
    """Return coefficients of a local motion that is 1 at the end, root mean square over the image."""
    span = max(frames - 1, 1)
    steady, settling = np.array([1.0, 0.0, 0.0]), np.array([3.0, -3.0, 1.0])  # t, and 1 - (1 - t)³
    coefficients = np.zeros((2, 6, 3))
    for course in (steady, settling):
        space = random.standard_normal((2, 6)) * np.array([0, 1, 1, 1, 1, 1])
        space[:, 0] = -(space[:, 2] + space[:, 4]) / 12  # the mean of x² over the image is 1/12
        coefficients += space[:, :, None] * course
    axis = np.linspace(-0.5, 0.5, 41)
    grid_x, grid_y = (part.ravel() for part in np.meshgrid(axis, axis))
    terms = np.stack([np.ones_like(grid_x), grid_x, grid_x**2, grid_y, grid_y**2, grid_x * grid_y], axis=-1)
    moved = terms @ coefficients.sum(axis=2).T
    coefficients /= np.sqrt((moved**2).sum(axis=1).mean())
    return (coefficients / np.array([span, span**2, span**3], dtype=np.float64)).reshape(2, 18)
