"""Over-fitting measured by high-resolution noise substitution.

The phases of the particle images are made random beyond some resolution, and the particles refined as before. Whatever
agreement their half maps show beyond it is over-fitting, or the work of the mask: nothing is there to agree on.

References
----------
Chen et al. (2013), doi:10.1016/j.ultramic.2013.06.004.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vitrea.fourier.fsc import fourier_shell_correlation, interpolated_resolution_at
from vitrea.fourier.grid import frequency_radius
from vitrea.fourier.transforms import to_fourier, to_real
from vitrea.maps.half_maps import as_tensor

Floats = NDArray[np.floating[Any]]
Curve = NDArray[np.float64]

_EDGE = 2  # shells after the first one with random phases before curves are corrected: masks blur the border
_LARGEST = 1.0 - 1e-6


def substitute_phases(
    images: NDArray[np.float32], from_shell: float, rows: NDArray[np.int64], seed: int
) -> NDArray[np.float32]:
    """Replace the phases of images beyond a resolution by random ones; amplitudes stay.

    Parameters
    ----------
    images : ndarray of float32, shape [m, n, n]
    from_shell : float
        Components at this radius (cycles per box) and beyond lose their phases.
    rows : ndarray of int, shape [m]
        Number of each image in its set: its phases follow from this and the seed, however images are divided up.
    seed : int

    Returns
    -------
    ndarray of float32, shape [m, n, n]
        The phases are those of white noise: uniform, and of a real image.
    """
    size = images.shape[-1]
    noise = np.stack([np.random.default_rng([seed, int(row)]).standard_normal((size, size)) for row in rows])
    random = to_fourier(torch.from_numpy(noise.astype(np.float32)))
    transforms = to_fourier(torch.from_numpy(images))
    phases = random / random.abs().clamp_min(torch.finfo(torch.float32).tiny)
    beyond = frequency_radius(size, 2, dtype=torch.float64) >= from_shell
    return np.asarray(to_real(torch.where(beyond, transforms.abs() * phases, transforms), size).numpy())


@dataclass(frozen=True)
class Overfitting:
    """FSC curves of a refinement and of the same with substituted phases, each of shape [n // 2 + 1].

    Attributes
    ----------
    voxel_size : float
        Å.
    size : int
        Box size n.
    from_shell : float
        Radius in cycles per box from which phases were random.
    original : ndarray
        FSC of the half maps of the original particles, "FSC t".
    substituted : ndarray
        FSC of those of the substituted ones, "FSC n".
    """

    voxel_size: float
    size: int
    from_shell: float
    original: Curve
    substituted: Curve

    @property
    def first_corrected(self) -> int:
        """First shell in which `true` differs from `original`."""
        return int(np.ceil(self.from_shell)) + _EDGE

    @cached_property
    def true(self) -> Curve:
        """FSC without over-fitting: ``(t - n) / (1 - n)`` beyond the border, t before."""
        curve = self.original.copy()
        beyond = slice(self.first_corrected, None)
        noise = np.minimum(self.substituted[beyond], _LARGEST)
        curve[beyond] = (self.original[beyond] - noise) / (1.0 - noise)
        return curve

    @property
    def feigned(self) -> float:
        """Mean FSC of the substituted particles from the border on, as far as the original FSC exceeds 0.143.

        Over at least five shells; NaN where the border is the end of the curves.
        """
        begin = self.first_corrected
        above = np.flatnonzero(self.original[begin:] < 0.143)
        end = begin + max(int(above[0]) if len(above) else len(self.original), 5)
        values = self.substituted[begin:end]
        return float(values.mean()) if len(values) else float("nan")

    def resolution(self, curve: Curve, threshold: float) -> float:
        """Resolution in Å at which one of the curves crosses a threshold."""
        return interpolated_resolution_at(curve.tolist(), threshold, self.voxel_size, self.size)


def measure_overfitting(
    original: tuple[Floats, Floats],
    substituted: tuple[Floats, Floats],
    voxel_size: float,
    resolution: float,
    mask: Floats | None = None,
) -> Overfitting:
    """Compare the half maps of a refinement with those of the same with substituted phases.

    Parameters
    ----------
    original, substituted : pairs of ndarray, shape [n, n, n]
        Unfiltered half maps.
    voxel_size : float
        Å.
    resolution : float
        Å, beyond which phases were random.
    mask : ndarray, shape [n, n, n], optional
        The same for all. What it correlates by itself is part of the substituted curve and so corrected for.
    """
    weight = 1.0 if mask is None else as_tensor(mask)
    curves = []
    for pair in (original, substituted):
        first, second = (as_tensor(half) * weight for half in pair)
        curve = fourier_shell_correlation(first, second).double().numpy()
        curve[0] = 1.0  # the mean of a map says nothing about agreement
        curves.append(curve)
    size = int(original[0].shape[-1])
    return Overfitting(voxel_size, size, size * voxel_size / resolution, *curves)
