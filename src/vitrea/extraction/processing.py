"""What is done to every particle image, in RELION's order: rescale, window, normalise, invert."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vitrea.extraction.background import Background, Normalisation, normalise


@dataclass(frozen=True)
class ImageSettings:
    """What is done to images.

    Attributes
    ----------
    scale : int
        Side in pixels to resample images to, by cropping or padding in Fourier space; 0: none.
    window : int
        Side in pixels to window them to afterwards, about their centre; 0: none.
    normalisation : Normalisation or None
        How to normalise; its lengths are in pixels of the images as they then are.
    invert : bool
        Whether to invert the contrast.
    """

    scale: int = 0
    window: int = 0
    normalisation: Normalisation | None = None
    invert: bool = False

    def final_size(self, size: int) -> int:
        """Return the side in pixels of images that come in with side `size`."""
        return self.window or self.scale or size

    def pixel_size(self, size: int, pixel_size: float) -> float:
        """Return the pixel size in Å of images that come in with side `size` and this one."""
        return pixel_size * size / self.scale if self.scale else pixel_size


class ImageProcessor:
    """Applies settings to stacks of images of one size.

    Parameters
    ----------
    size : int
        Side of the images that come in, in pixels.
    settings : ImageSettings

    Raises
    ------
    ValueError
        If the background circle leaves no background.
    """

    def __init__(self, size: int, settings: ImageSettings) -> None:
        self.size = size
        self.settings = settings
        self._background: Background | None = None
        if settings.normalisation is not None:
            self._background = Background(settings.final_size(size), settings.normalisation.radius)

    def __call__(
        self, images: NDArray[np.float32], rng: np.random.Generator
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Process images.

        Parameters
        ----------
        images : ndarray of float32, shape [n, size, size]
            May be changed.
        rng : numpy Generator
            For the values dust takes.

        Returns
        -------
        images : ndarray of float32, shape [n, m, m]
        usable : ndarray of bool, shape [n]
            False where pixels are not numbers, or, with normalisation, the background is constant.
        """
        settings = self.settings
        if settings.scale and settings.scale != self.size:
            images = rescale_images(images, settings.scale)
        if settings.window and settings.window != images.shape[-1]:
            images = window_images(images, settings.window)
        sign = -1.0 if settings.invert else 1.0
        if settings.normalisation is not None and self._background is not None:
            images = np.ascontiguousarray(images)
            return images, normalise(images, self._background, settings.normalisation, rng, sign)
        if settings.invert:
            images = -images
        return images, np.isfinite(images.sum(axis=(1, 2), dtype=np.float64))


def rescale_images(images: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    """Resample images to another box of the same extent in Å, keeping grey values.

    Parameters
    ----------
    images : ndarray of float32, shape [n, old, old]
    size : int
        New side in pixels.

    Returns
    -------
    ndarray of float32, shape [n, size, size]
        Pixel ``size // 2`` lies where pixel ``old // 2`` lay. Between even boxes what is kept of the smaller box's
        Nyquist components is what RELION keeps (one of two conjugate samples; `vitrea.fourier.transforms.resample` adds
        them), so that images agree with those it extracts.
    """
    old = images.shape[-1]
    if size >= old or size % 2 or old % 2:
        return _resampled(images, size)
    columns = np.fft.rfft(images, axis=-1, norm="forward")[..., : size // 2 + 1]
    transforms = np.fft.fft(columns, axis=-2, norm="forward")
    rows = np.r_[: size // 2 + 1, old - size // 2 + 1 : old]
    columns = np.fft.ifft(transforms[:, rows], axis=-2, norm="forward")
    return np.fft.irfft(columns, n=size, axis=-1, norm="forward").astype(np.float32, copy=False)


def _resampled(images: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    import torch  # loading it takes longer than most extractions, which need none of it

    from vitrea.fourier.transforms import resample

    return np.asarray(resample(torch.from_numpy(images), size).numpy(), dtype=np.float32)


def window_images(images: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    """Cut images to a smaller box about pixel ``n // 2``, or pad them to a larger one.

    Parameters
    ----------
    images : ndarray of float32, shape [n, old, old]
    size : int
        New side in pixels.

    Returns
    -------
    ndarray of float32, shape [n, size, size]
        Added pixels have the mean of each image's outermost rows and columns: zeros would draw a frame around images
        whose background is not zero.
    """
    old = images.shape[-1]
    start = old // 2 - size // 2
    if size <= old:
        return np.ascontiguousarray(images[:, start : start + size, start : start + size])
    sides = (images[:, 0], images[:, -1], images[:, 1:-1, 0], images[:, 1:-1, -1])
    level = np.concatenate(sides, axis=1).mean(axis=1, dtype=np.float64)
    windows = np.empty((len(images), size, size), dtype=np.float32)
    windows[...] = level[:, None, None]
    windows[:, -start : old - start, -start : old - start] = images
    return windows
