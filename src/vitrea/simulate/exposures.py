"""A scene as the detector records it: frame by frame, moved, blurred, counted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vitrea.simulate.canvas import Canvas
from vitrea.simulate.motion import Motion
from vitrea.simulate.scene import Scene


def expected_frames(
    scene: Scene, frames: int, seed: Sequence[int], transfer: Tensor | None = None, motion: Motion | None = None
) -> Iterator[NDArray[np.float32]]:
    """Yield the intensity that each frame should have, relative to that of bare ice, before any noise of counting.

    Parameters
    ----------
    scene : Scene
    frames : int
        Of equal exposure; 1 for a micrograph.
    seed : sequence of int
        Of the ice.
    transfer : Tensor, optional
        The detector's MTF on the half transform of the canvas.
    motion : Motion, optional
        Of the specimen. Drift is a ramp of phases, exact; for local motion see `Scene.contrasts`.

    Yields
    ------
    ndarray of float32, shape [height, width]
    """
    canvas = scene.canvas
    for frame, contrast in enumerate(scene.contrasts(frames, seed, motion)):
        if transfer is not None:
            contrast *= transfer
        if motion is not None:
            _shift(canvas, contrast, motion.drift[frame])
        yield np.asarray((1 + canvas.crop(canvas.to_real(contrast))).numpy())


def _shift(canvas: Canvas, transform: Tensor, shift: NDArray[np.float64]) -> None:
    """Move the content of a canvas by x, y pixels, in place."""
    y = torch.fft.fftfreq(canvas.shape[0], dtype=torch.float64)
    x = torch.fft.rfftfreq(canvas.shape[1], dtype=torch.float64)
    one = torch.ones((), dtype=torch.float64)
    transform *= torch.polar(one, -2 * torch.pi * float(shift[1]) * y).to(torch.complex64)[:, None]
    transform *= torch.polar(one, -2 * torch.pi * float(shift[0]) * x).to(torch.complex64)
