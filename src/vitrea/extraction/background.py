"""The background of particle images: its statistics, its ramp, and dust."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_ROUNDING = float(np.finfo(np.float32).eps)
_PIECE_PIXELS = 1 << 17  # what is worked on at a time stays in a processor's cache


@dataclass(frozen=True)
class Normalisation:
    """How images are normalised.

    Attributes
    ----------
    radius : float
        Pixels farther than this from the centre are background; in pixels.
    ramp : bool
        Subtract the plane that fits the background best (least squares), else its mean.
    white_dust, black_dust : float
        Pixels more than so many standard deviations above or below the mean of the background are dust; 0 or less:
        no dust is removed.
    """

    radius: float
    ramp: bool = True
    white_dust: float = 0.0
    black_dust: float = 0.0

    @property
    def removes_dust(self) -> bool:
        """Whether dust is looked for."""
        return self.white_dust > 0 or self.black_dust > 0


@dataclass(frozen=True)
class Background:
    """The pixels of a box that are background.

    Attributes
    ----------
    size : int
        Side of the box in pixels.
    radius : float
        In pixels.

    Raises
    ------
    ValueError
        If the circle leaves fewer than four pixels outside, too few for a plane and a deviation.
    """

    size: int
    radius: float

    def __post_init__(self) -> None:
        if self.count < 4:
            raise ValueError(f"a circle of radius {self.radius:g} leaves no background in a box of {self.size} pixels")

    @cached_property
    def plane(self) -> Array:
        """The functions 1, x, y of every pixel, from the centre; shape [3, size * size]."""
        axis = np.arange(self.size, dtype=np.float64) - self.size // 2
        y, x = np.meshgrid(axis, axis, indexing="ij")
        return np.stack([np.ones(self.size**2), x.ravel(), y.ravel()])

    @cached_property
    def weights(self) -> Array:
        """1 for background, 0 for the particle's circle; shape [size * size]."""
        squares: Array = (self.plane[1:] ** 2).sum(axis=0)
        return (squares > self.radius**2).astype(np.float64)

    @cached_property
    def count(self) -> int:
        """Number of background pixels."""
        return int(self.weights.sum())

    @cached_property
    def fit(self) -> Array:
        """Images times this are the coefficients of 1, x, y of their best planes; shape [size * size, 3]."""
        weighted = self.plane * self.weights
        solution = np.linalg.solve(weighted @ self.plane.T, weighted).T
        return np.ascontiguousarray(solution, dtype=np.float64)

    @cached_property
    def mean_fit(self) -> Array:
        """The same for planes that are level: images times this are means; shape [size * size, 1]."""
        return (self.weights / self.count)[:, None]


def normalise(
    images: NDArray[np.float32],
    background: Background,
    settings: Normalisation,
    rng: np.random.Generator,
    sign: float = 1.0,
) -> NDArray[np.bool_]:
    """Bring the background of images to mean 0 and standard deviation 1, in place.

    Dust takes random values of the distribution that the rest of the background has; then the mean and deviation are
    measured again, but no new plane is fitted.

    Parameters
    ----------
    images : ndarray of float32, shape [n, size, size], contiguous
        Changed in place.
    background : Background
        For their size.
    settings : Normalisation
    rng : numpy Generator
        For dust.
    sign : float
        1, or -1 to invert the contrast in the same go.

    Returns
    -------
    ndarray of bool, shape [n]
        Images that could be normalised: their pixels are numbers and their background is not constant. Others are
        left with what came out.
    """
    usable = np.empty(len(images), dtype=bool)
    step = max(1, _PIECE_PIXELS // background.size**2)
    for start in range(0, len(images), step):
        piece = images[start : start + step].reshape(-1, background.size**2)
        pixels = piece.astype(np.float64)
        deviations = _flatten(pixels, background, settings.ramp)
        if settings.removes_dust:
            deviations = _remove_dust(pixels, deviations, background, settings, rng)
        good = np.isfinite(deviations) & (deviations > 0)
        factors = np.divide(sign, deviations, out=np.ones_like(deviations), where=good)
        np.multiply(pixels, factors[:, None], out=piece, casting="same_kind")
        usable[start : start + step] = good
    return usable


def _flatten(pixels: Array, background: Background, ramp: bool) -> Array:
    """Subtract best planes, or means, from images [n, pixels], in place; return the background's deviations, [n].

    A deviation that is no more than rounding of the background's level is 0.
    """
    fit = background.fit if ramp else background.mean_fit
    with np.errstate(invalid="ignore", over="ignore"):
        planes = pixels @ fit
        pixels -= planes @ background.plane[: fit.shape[1]]
        root: Array = np.sqrt(np.square(pixels) @ background.weights / background.count)
    root[root < _ROUNDING * np.abs(planes[:, 0])] = 0.0
    return root


def _remove_dust(
    pixels: Array, deviations: Array, background: Background, settings: Normalisation, rng: np.random.Generator
) -> Array:
    """Give dusty pixels random values, and take the mean off again; return the new deviations."""
    dust = np.zeros(pixels.shape, dtype=bool)
    if settings.white_dust > 0:
        dust |= pixels > (settings.white_dust * deviations)[:, None]
    if settings.black_dust > 0:
        dust |= pixels < (-settings.black_dust * deviations)[:, None]
    rows, places = np.nonzero(dust)
    # Dust has no part in the deviation of what replaces it, or bright dust would leave bright noise.
    pixels[dust] = 0.0
    counts = np.maximum(background.count - dust @ background.weights, 1.0)
    clean = np.sqrt(np.square(pixels) @ background.weights / counts)
    # In the order of the images, so that the result does not depend on how these are cut up into pieces.
    pixels[rows, places] = rng.standard_normal(len(rows)) * clean[rows]
    dusty = np.unique(rows)
    cleaned, corrected = pixels[dusty], deviations.copy()
    corrected[dusty] = _flatten(cleaned, background, ramp=False)
    pixels[dusty] = cleaned
    return corrected
