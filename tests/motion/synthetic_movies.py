"""Movies whose motion is known: a band-limited texture, moved exactly enough, counted electron by electron."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

Array = NDArray[np.float64]
# Motion(x, y): where the specimen at a place has gone, in pixels; x and y run from -0.5 to 0.5 over the field.
Motion = Callable[[Array, Array], tuple[Array, Array]]

_MARGIN = 32  # pixels of specimen around the field


@dataclass(frozen=True)
class SyntheticMovie:
    """Frames and what happened to them.

    Attributes
    ----------
    frames : ndarray of float32, shape [frames, y, x]
    motion : ndarray, shape [frames, 2]
        x, y in pixels: where the specimen at the centre of the field has gone.
    """

    frames: NDArray[np.float32]
    motion: Array


def texture(shape: tuple[int, int], pixel_size: float, seed: int, finest: float = 6.0) -> Array:
    """Return an image of zero mean and unit variance, strongest about 40 Å, without detail finer than `finest` Å."""
    rng = np.random.default_rng(seed)
    transform = np.fft.rfft2(rng.normal(size=shape))
    ky, kx = np.fft.fftfreq(shape[0], pixel_size)[:, None], np.fft.rfftfreq(shape[1], pixel_size)
    k = np.hypot(ky, kx)
    transform *= np.abs(np.sin(np.pi * 0.0197 * 15_000 * k**2 + 0.1)) / (1 + (k * 15) ** 2) * (k < 1 / finest)
    transform[0, 0] = 0
    image = np.fft.irfft2(transform, s=shape)
    return np.asarray(image / image.std())


def drift(frames: int, distance: float, angle: float = 30.0, early: float = 4.0) -> Array:
    """Motion that begins fast and settles: x, y in pixels, shape [frames, 2]; `distance` from first to last frame."""
    time = np.arange(frames)
    path = 0.6 * (1 - np.exp(-time / early)) + 0.4 * time / max(1, frames - 1)
    direction = np.array([np.cos(np.radians(angle)), np.sin(np.radians(angle))])
    curl = np.array([-direction[1], direction[0]])
    along = path * distance
    return np.asarray(along[:, None] * direction + 0.15 * distance * np.sin(np.pi * time / frames)[:, None] * curl)


def bending(frames: int, strength: float) -> Callable[[int], Motion]:
    """Local motion that settles exponentially, so that no polynomial is quite right; `strength` in pixels."""

    def at(frame: int) -> Motion:
        grown = strength * (1 - np.exp(-3 * frame / (frames - 1)))

        def motion(x: Array, y: Array) -> tuple[Array, Array]:
            return grown * (1.5 * x + 2 * y * y - x * y), grown * (-1.2 * y + 1.6 * x * x + 0.8 * x * y)

        return motion

    return at


@functools.lru_cache(maxsize=12)
def make_movie(
    shape: tuple[int, int] = (384, 448),
    frames: int = 20,
    pixel_size: float = 1.5,
    exposure: float = 1.5,
    distance: float = 8.0,
    contrast: float = 0.08,
    local: Callable[[int], Motion] | None = None,
    seed: int = 1,
) -> SyntheticMovie:
    """Simulate a movie.

    Parameters
    ----------
    shape : (int, int)
        Rows and columns.
    frames : int
    pixel_size : float
        Å.
    exposure : float
        e-/Å² in a frame; counts are Poisson distributed.
    distance : float
        Whole-frame drift in pixels.
    contrast : float
        Standard deviation of the specimen's image over its mean.
    local : callable, optional
        For each frame, further motion that depends on the place.
    seed : int
    """
    rng = np.random.default_rng(seed)
    wide = (shape[0] + 2 * _MARGIN, shape[1] + 2 * _MARGIN)
    specimen = 1 + contrast * texture(wide, pixel_size, seed)
    path = drift(frames, distance)
    ky, kx = np.fft.fftfreq(wide[0])[:, None], np.fft.rfftfreq(wide[1])
    transform = np.fft.rfft2(specimen)
    inside = (slice(_MARGIN, -_MARGIN),) * 2
    y, x = np.meshgrid(np.arange(shape[0]), np.arange(shape[1]), indexing="ij")
    counts = np.empty((frames, *shape), dtype=np.float32)
    for frame, (move_x, move_y) in enumerate(path):
        moved = np.fft.irfft2(transform * np.exp(-2j * np.pi * (kx * move_x + ky * move_y)), s=wide)
        if local is None:
            image = moved[inside]
        else:
            local_x, local_y = local(frame)(x / shape[1] - 0.5, y / shape[0] - 0.5)
            places = [y - local_y + _MARGIN, x - local_x + _MARGIN]
            image = map_coordinates(moved, places, order=5, mode="wrap")
        counts[frame] = rng.poisson(np.maximum(image, 0) * exposure * pixel_size**2)
    return SyntheticMovie(counts, path)


def field_errors(shifts: Array, movie: SyntheticMovie, local: Callable[[int], Motion], model: Array | None) -> Array:
    """Distance in pixels between correction and motion, at places of the field in each frame.

    Parameters
    ----------
    shifts : ndarray, shape [frames, 2]
    movie : SyntheticMovie
    local : callable
        The local motion it was made with.
    model : ndarray, shape [2, 18], or None
        Coefficients of the local correction, in RELION's order.

    Returns
    -------
    ndarray, shape [frames, places]
        What all frames of a place have in common does not count: it cannot be measured.
    """
    line = np.linspace(-0.45, 0.45, 9)
    x, y = (grid.ravel() for grid in np.meshgrid(line, line))
    space = np.stack([np.ones_like(x), x, x * x, y, y * y, x * y])
    errors = []
    for frame, (whole, went) in enumerate(zip(shifts, movie.motion, strict=True)):
        correction = np.repeat(whole[:, None], len(x), axis=1)
        if model is not None:
            time = np.array([frame, frame**2, frame**3], dtype=np.float64)
            correction += np.einsum("act,t,cp->ap", model.reshape(2, 6, 3), time, space)
        errors.append(correction + went[:, None] + np.array(local(frame)(x, y)))
    all_errors = np.array(errors)
    return np.asarray(np.hypot(*np.moveaxis(all_errors - all_errors.mean(axis=0), 1, 0)))


def error_per_frame(shifts: Array, motion: Array) -> Array:
    """Distance in pixels between what moves frames back and where they went; a move of all frames does not count."""
    difference = shifts + motion
    return np.asarray(np.hypot(*(difference - difference.mean(axis=0)).T))
