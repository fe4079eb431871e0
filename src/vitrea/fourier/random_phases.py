"""Random phases as RELION draws them, so that its curves can be repeated to the last digit.

``relion_postprocess`` takes one phase from the C library's ``rand()`` for each stored component of the half transform,
in the order of memory, first for one half map and then for the other. On Linux that library is GNU's, whose sequence
is known: with the same seed the same phases follow.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from vitrea.fourier.grid import frequency_radius
from vitrea.kernels.random_numbers import LARGEST, LibcRandom


class RelionPhases:
    """Makes the phases of maps random, one map after the other with one sequence of numbers.

    Parameters
    ----------
    seed : int
        RELION's ``--random_seed``, 0 or more.
    """

    def __init__(self, seed: int) -> None:
        self._random = LibcRandom(seed)

    def __call__(self, volume: Tensor, from_shell: int) -> Tensor:
        """Replace the phases from a shell on by random ones.

        Parameters
        ----------
        volume : Tensor, shape [n, n, n]
            Real space, on the CPU.
        from_shell : int
            Components at this radius (cycles per box) and beyond lose their phases; amplitudes stay.

        Returns
        -------
        Tensor, shape [n, n, n]
            Real space. The two mates of a component with kx = 0 (or at Nyquist) get phases of their own, as in RELION,
            so that the real map keeps half of their power on average.
        """
        size = volume.shape[-1]
        # RELION's origin is the first voxel; a phase is random only with respect to an origin.
        transform = torch.fft.rfftn(volume, norm="ortho")
        beyond = frequency_radius(size, 3, dtype=torch.float64) >= from_shell
        for plane, chosen in zip(transform, beyond, strict=True):
            magnitude = plane[chosen].abs()
            plane[chosen] = torch.polar(magnitude, self._draw(len(magnitude)).to(magnitude.dtype))
        # One axis after the other: what a transform of all axes at once makes of unlike mates is up to the library.
        lines = torch.fft.ifftn(transform, dim=(0, 1), norm="ortho")
        randomised: Tensor = torch.fft.irfft(lines, n=size, dim=2, norm="ortho")
        return randomised

    def _draw(self, count: int) -> Tensor:
        """Return phases from 0 to 2 pi, rounded to float32 where RELION rounds."""
        scale = np.float32(LARGEST / np.float32(2 * math.pi))
        return torch.from_numpy(self._random.draw(count).astype(np.float32) / scale)
