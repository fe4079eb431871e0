"""The frames of a movie as transforms, and their alignment as a whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vitrea.compute.memory import available_memory
from vitrea.formats.gain import FrameCorrection
from vitrea.fourier.rectangles import Shape, crop_rectangle, rectangle_to_fourier, rectangle_to_real, shift_ramps
from vitrea.motion.alignment import Alignment, AlignmentSettings, align_frames, alignment_shape

# Part of the free memory that may hold transforms of frames; beyond it frames are read and transformed twice.
_MEMORY_SHARE = 0.5


def binned_shape(shape: Shape, bin_factor: float) -> Shape:
    """Return rows and columns after binning, even numbers, as RELION wants them."""
    rows, columns = (2 * round(length / bin_factor / 2) for length in shape)
    return (rows, columns) if bin_factor > 1 else shape


def pixel_ratio(shape: Shape, other: Shape) -> tuple[float, float]:
    """Return how many pixels along x and y make one of the other shape."""
    return shape[1] / other[1], shape[0] / other[0]


class FrameTransforms:
    """Transforms of the frames used, held where memory allows.

    Parameters
    ----------
    raw : callable
        Returns frame i of the movie, from 0, as stored, shape [y, x].
    numbers : range
        Frames used.
    correction : FrameCorrection
        Gain and dead pixels.
    bin_factor : float
        Pixels of a frame to one of an image with these transforms.
    device : torch.device
    """

    def __init__(
        self,
        raw: Callable[[int], NDArray[Any]],
        numbers: range,
        correction: FrameCorrection,
        bin_factor: float,
        device: torch.device,
    ) -> None:
        self._raw, self._numbers, self._correction = raw, numbers, correction
        self.bin_factor, self.device = bin_factor, device
        self.full: Shape = (correction.dead.shape[0], correction.dead.shape[1])
        self.shape = binned_shape(self.full, bin_factor)
        size = 8 * self.shape[0] * (self.shape[1] // 2 + 1)
        self._keep = len(numbers) * size < _MEMORY_SHARE * available_memory(device)
        self._kept: dict[int, Tensor] = {}

    def __len__(self) -> int:
        """Return the number of frames used."""
        return len(self._numbers)

    def __call__(self, number: int) -> Tensor:
        """Return the transform of the i-th frame used."""
        if number in self._kept:
            return self._kept[number]
        frame = self._numbers[number]
        image = torch.from_numpy(self._correction.apply(self._raw(frame), frame)).to(self.device)
        transform = rectangle_to_fourier(image)
        if self.shape != self.full:
            transform = crop_rectangle(transform, self.full, self.shape)
        if self._keep:
            self._kept[number] = transform
        return transform

    def coarse(self, number: int, shape: Shape) -> Tensor:
        """Return it at the sampling of the alignment."""
        return crop_rectangle(self(number), self.shape, shape)


def align_whole(
    source: FrameTransforms, pixel_size: float, settings: AlignmentSettings
) -> tuple[Alignment, Tensor, Shape]:
    """Align the frames of a movie as a whole.

    Parameters
    ----------
    source : FrameTransforms
    pixel_size : float
        Å, of the movie's frames.
    settings : AlignmentSettings

    Returns
    -------
    Alignment
        Shifts in pixels of the coarse images.
    Tensor, complex64, shape [frames, y, x // 2 + 1]
        Transforms of the coarse images.
    Shape
        Rows and columns of these.
    """
    shape = alignment_shape(source.shape, pixel_size * source.bin_factor, settings.b_factor)
    small = torch.stack([source.coarse(number, shape) for number in range(len(source))])
    scale = pixel_ratio(source.full, shape)
    return align_frames(small, shape, (pixel_size * scale[0], pixel_size * scale[1]), settings), small, shape


def aligned_averages(
    source: FrameTransforms, group: int, pixel_size: float, settings: AlignmentSettings
) -> tuple[Iterator[NDArray[np.float32]], bool]:
    """Return averages of so many frames each, for spectra; frames left over at the end are not used.

    What moves within an average blurs its Thon rings along the motion, and where that makes them fade fast they seem
    to lie at lower frequency: the defocus along the motion comes out too high.

    Parameters
    ----------
    source : FrameTransforms
        Without binning.
    group : int
        Frames to an average.
    pixel_size : float
        Å.
    settings : AlignmentSettings

    Returns
    -------
    iterator of ndarray, shape [y, x]
    bool
        Whether the frames were aligned: a movie whose shifts do not settle is averaged as it is.
    """
    count = len(source)
    shifts = np.zeros((count, 2))
    settled = True
    if count > 2 and group > 1:
        found, _, shape = align_whole(source, pixel_size, settings)
        settled = found.converged
        shifts = found.shifts * pixel_ratio(source.shape, shape) if settled else shifts

    def averages() -> Iterator[NDArray[np.float32]]:
        for first in range(0, count - group + 1, group):
            ramps = zip(*shift_ramps(source.shape, torch.from_numpy(shifts[first : first + group])), strict=True)
            total: Tensor | None = None
            for number, (x, y) in enumerate(ramps, start=first):
                moved = source(number) * x.to(source.device) * y.to(source.device)
                total = moved if total is None else total.add_(moved)
            if total is not None:
                yield rectangle_to_real(total / group, source.shape).cpu().numpy()

    return averages(), settled
