"""Anisotropic magnification: images stretched more along one direction than across it.

Grant & Grigorieff (2015), doi:10.1016/j.jsb.2015.08.006.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vitrea.kernels.warp import warp_add
from vitrea.motion.sums import Sums


@dataclass(frozen=True)
class Distortion:
    """How images are stretched.

    Attributes
    ----------
    angle : float
        Degrees from the x axis towards y: the direction stretched by `major`.
    major, minor : float
        Magnification along that direction and across it.
    """

    angle: float
    major: float
    minor: float

    @property
    def matrix(self) -> NDArray[np.float64]:
        """Return what takes a place in the specimen to its place in the image, both (x, y) from the centre."""
        turn = math.radians(self.angle)
        axes = np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
        return np.asarray(axes @ np.diag([self.major, self.minor]) @ axes.T)

    @property
    def mean(self) -> float:
        """Mean magnification, by which the pixels of the corrected image are smaller than the nominal ones."""
        return (self.major + self.minor) / 2


def undistort(image: Tensor, distortion: Distortion) -> Tensor:
    """Resample an image so that magnification is the mean of both in all directions; shape [y, x] as given.

    The centre, pixel n // 2, stays where it is.
    """
    rows, columns = image.shape
    shear = np.eye(2) - distortion.matrix / distortion.mean
    # shift(p) = (1 - A) (p - centre), with p = (x + 0.5) columns, (y + 0.5) rows
    field = np.zeros((2, 6))
    field[:, 1], field[:, 3] = shear[:, 0] * columns, shear[:, 1] * rows
    field[:, 0] = shear @ np.array([columns / 2 - columns // 2, rows / 2 - rows // 2])
    result = torch.zeros_like(image)
    warp_add(image, torch.from_numpy(field), result, block=1)
    return result


def correct_distortion(sums: Sums, distortion: Distortion, pixel_size: float) -> tuple[Sums, float]:
    """Undo the distortion of sums of frames; also return their pixel size, that of the mean magnification.

    The sum of spectra is left alone: a CTF fit takes the stretch for astigmatism, as in the frames it is of.
    """
    plain, weighted = (None if one is None else undistort(one, distortion) for one in (sums.plain, sums.weighted))
    return replace(sums, plain=plain, weighted=weighted), pixel_size / distortion.mean
