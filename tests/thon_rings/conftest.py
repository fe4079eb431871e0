"""Images with Thon rings of known CTFs, made with `vitrea.optics.ctf`, whose CTF is RELION's."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from vitrea.optics.ctf import ctf
from vitrea.records.optics import Optics


@dataclass(frozen=True)
class ThonImages:
    """White specimens seen through a CTF, in white noise.

    Attributes
    ----------
    optics : Optics
    pixel_size : float
        Å.
    """

    optics: Optics
    pixel_size: float

    def __call__(
        self,
        shape: tuple[int, int],
        defocus: tuple[float, float, float],
        phase_shift: float = 0.0,
        signal: float = 0.5,
        seed: int = 0,
    ) -> NDArray[np.float32]:
        """Return an image of power `signal` at low frequency, falling with a B-factor of 40 Å², in noise of power 1."""
        rng = np.random.default_rng(seed)
        frequency_y = torch.from_numpy(np.fft.fftfreq(shape[0], self.pixel_size))[:, None].expand(-1, shape[1] // 2 + 1)
        frequency_x = torch.from_numpy(np.fft.rfftfreq(shape[1], self.pixel_size))[None].expand(shape[0], -1)
        transfer = ctf(
            frequency_y, frequency_x, self.optics, torch.tensor([defocus], dtype=torch.float64),
            torch.tensor([phase_shift]), torch.tensor([40.0]),
        )[0].numpy()  # fmt: skip
        specimen = np.fft.rfft2(rng.standard_normal(shape)) * transfer * np.sqrt(signal)
        return (np.fft.irfft2(specimen, s=shape) + rng.standard_normal(shape)).astype(np.float32)


@pytest.fixture(scope="session")
def optics() -> Optics:
    return Optics(1.5, 0, 300.0, 2.7, 0.1)


@pytest.fixture(scope="session")
def thon_images(optics: Optics) -> ThonImages:
    return ThonImages(optics, optics.pixel_size)
