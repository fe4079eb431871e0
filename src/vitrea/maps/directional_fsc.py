"""The FSC of two half maps direction by direction, and what it says of a map's anisotropy.

The correlation is taken over the part of each shell inside a double cone about a direction. Samples are first summed
into equal-area bins of their direction (1.8 degrees wide) in each shell; the sums over all cones about all directions
are then one matrix product, which a processor does at its full speed: 29 GFLOP for any number of samples in a box
of 256, where a cone of 20 degrees about each of the 4.4 million samples would take 10^10 additions and more.

References
----------
Tan et al. (2017), doi:10.1038/nmeth.4347: the 3D FSC, its histogram, sphericity.
Diebolder et al. (2012), doi:10.1016/j.jsb.2012.07.009: the conical FSC.
Wadell (1935), doi:10.1086/624298: sphericity.
Chen et al. (2013), doi:10.1016/j.ultramic.2013.06.004: correction for the mask, here for each direction.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import ConvexHull
from torch import Tensor

from vitrea.fourier.fsc import correlate_transforms, interpolated_resolution_at, shell_correlation
from vitrea.fourier.grid import frequency_axes, redundancy
from vitrea.fourier.masked_noise import random_phase_spectra
from vitrea.fourier.transforms import to_fourier
from vitrea.geometry.hemisphere import Hemisphere, mean_axis
from vitrea.maps.half_maps import as_tensor

Floats = NDArray[np.floating[Any]]

CONE_HALF_ANGLE = 20.0
"""Degrees; of Tan et al."""

_NSIDE = 32
_BLOCK = 1024  # directions whose cones are held at a time
# With fewer samples a correlation is noise. Shells up to some 3 have such cones; they take the shell's own value.
_FEWEST_SAMPLES = 8
_MOST_STEPS = 20


@dataclass(frozen=True)
class DirectionalFsc:
    """FSC by direction.

    Attributes
    ----------
    voxel_size : float
        Å.
    size : int
        Box size n.
    cone : float
        Half angle of the cones in degrees.
    directions : ndarray, shape [directions, 3]
        Unit vectors (x, y, z) of half a sphere, each standing for the same solid angle.
    curves : ndarray of float32, shape [directions, n // 2 + 1]
        FSC inside the cone about each direction; corrected for the mask where there was one.
    overall : ndarray, shape [n // 2 + 1]
        FSC over whole shells, corrected likewise.
    randomised_from : int or None
        First shell with random phases in the correction; None without a mask.
    """

    voxel_size: float
    size: int
    cone: float
    directions: NDArray[np.float64]
    curves: NDArray[np.float32]
    overall: NDArray[np.float64]
    randomised_from: int | None = None

    def overall_resolution(self, threshold: float) -> float:
        """Resolution in Å at which the FSC over whole shells crosses a threshold."""
        return interpolated_resolution_at(self.overall.tolist(), threshold, self.voxel_size, self.size)

    @cached_property
    def spread(self) -> NDArray[np.float64]:
        """Standard deviation of the FSC over directions in each shell."""
        return np.asarray(self.curves.std(axis=0, dtype=np.float64))

    def at(self, threshold: float) -> DirectionalResolution:
        """Where the curves cross a threshold."""
        shells = crossing_shells(self.curves, threshold)
        return DirectionalResolution(threshold, self.cone, self.directions, shells, self.size * self.voxel_size)


@dataclass(frozen=True)
class DirectionalResolution:
    """Where the FSC of each direction first falls below a threshold.

    Attributes
    ----------
    threshold : float
    cone : float
        Half angle of the cones in degrees.
    directions : ndarray, shape [directions, 3]
    shells : ndarray, shape [directions]
        Radius of the crossing in cycles per box, drawn with straight lines; at least 0.5.
    extent : float
        Å, of the box.
    """

    threshold: float
    cone: float
    directions: NDArray[np.float64]
    shells: NDArray[np.float64]
    extent: float

    @property
    def resolutions(self) -> NDArray[np.float64]:
        """Resolution in Å of each direction."""
        return self.extent / self.shells

    @cached_property
    def smoothed(self) -> NDArray[np.float64]:
        """Mean of the crossings over a cap of half the cone's angle about each direction, shape [directions].

        A surface rough with noise on a scale that the cones cannot resolve is no shape, but has much area.
        """
        vectors = self.directions.astype(np.float32)
        total = cone_sums(np.stack([self.shells, np.ones_like(self.shells)]).astype(np.float32), vectors, self.cone / 2)
        return np.asarray(total[0] / total[1], dtype=np.float64)

    @cached_property
    def sphericity(self) -> float:
        """Sphericity of the body that the smoothed crossings enclose: 1 for a sphere, less for any other."""
        return sphericity(self.directions, self.smoothed)

    @cached_property
    def best_axis(self) -> NDArray[np.float64]:
        """Direction (x, y, z) about which the resolution is best; one of several where there is symmetry."""
        return self._extreme(self.smoothed)

    @cached_property
    def worst_axis(self) -> NDArray[np.float64]:
        """Direction about which the resolution is worst; one of several where there is symmetry."""
        return self._extreme(-self.smoothed)

    def _extreme(self, heights: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the middle of the hill that holds the highest point.

        The mean of what rises above the median within two cones' angles of it, moved until it stays: the tops of
        plateaus, as missing cones are, are noise.
        """
        axis = self.directions[int(heights.argmax())]
        excess = np.maximum(heights - np.median(heights), 0.0)
        reach = np.cos(np.radians(min(2.0 * self.cone, 60.0)))
        for _ in range(_MOST_STEPS):
            near = np.abs(self.directions @ axis) >= reach
            if not excess[near].any():
                break
            axis = mean_axis(self.directions[near], excess[near])
        return np.asarray(axis)


def directional_fsc(
    half1: Floats,
    half2: Floats,
    voxel_size: float,
    mask: Floats | None = None,
    cone: float = CONE_HALF_ANGLE,
    randomise_below: float = 0.8,
) -> DirectionalFsc:
    """Compute the FSC of two half maps in cones about all directions.

    Parameters
    ----------
    half1, half2 : ndarray, shape [n, n, n]
        Unfiltered half maps of independent refinements.
    voxel_size : float
        Å.
    mask : ndarray, shape [n, n, n], optional
        Soft solvent mask. What it correlates by itself, the mean of all draws of random phases, is taken off, direction
        by direction, as `half_map_fsc` does for whole shells.
    cone : float
        Half angle of the cones in degrees, more than 0 and at most 90.
    randomise_below : float
        Phases are randomised from the first shell whose FSC without mask is below this.

    Raises
    ------
    ValueError
        If the cone makes no sense, or the maps differ in shape.
    """
    if not 0 < cone <= 90:
        raise ValueError(f"the half angle of the cone must be above 0 and at most 90 degrees, not {cone:g}")
    if half1.shape != half2.shape:
        raise ValueError(f"half maps of different shape: {half1.shape} and {half2.shape}")
    first, second = as_tensor(half1), as_tensor(half2)
    size = int(first.shape[-1])
    samples = DirectedSamples(size)
    transforms = to_fourier(first, 3), to_fourier(second, 3)
    overall, start = _overall(*transforms, size), None
    if mask is not None:
        low = np.flatnonzero(overall[1:] < randomise_below) + 1
        start = int(low[0]) if len(low) else None
        weight = as_tensor(mask).to(first.dtype)
        transforms = to_fourier(first * weight, 3), to_fourier(second * weight, 3)
        overall = _overall(*transforms, size)
    products = [_shell_products(samples, *_spectra(*transforms))]
    if start is None:
        (curves,) = _cone_curves(samples, products, cone)
    else:
        random = random_phase_spectra(first, second, weight, start)
        curves, noise = _cone_curves(samples, [*products, _shell_products(samples, *random)], cone)
        beyond = slice(start + 2, None)
        curves[:, beyond] = _corrected(curves[:, beyond], noise[:, beyond])
        overall[beyond] = _corrected(overall[beyond], shell_correlation(*random, size).numpy()[beyond])
    return DirectionalFsc(voxel_size, size, cone, samples.grid.vectors, curves, overall, start)


class DirectedSamples:
    """The samples of a transform inside the last shell: shell and bin of direction of each.

    Parameters
    ----------
    size : int
        Box size n.

    Attributes
    ----------
    grid : Hemisphere
    inside : Tensor of bool, shape [n, n, n // 2 + 1]
    radius : Tensor of float32, shape [samples]
        Cycles per box.
    bin : Tensor of int64, shape [samples]
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.grid = Hemisphere(_NSIDE)
        kx, ky, kz = frequency_axes(size, 3, dtype=torch.float32)
        radius = (kx * kx + ky * ky + kz * kz).sqrt()
        self.inside = radius.round() <= size // 2
        self.radius = radius[self.inside]
        bins = []
        for z in range(size):  # plane by plane: vectors of all samples would take more memory than the transforms
            kept = self.inside[z]
            vectors = torch.stack([part.expand(kept.shape) for part in (kx, ky, kz[z])], dim=-1)[kept]
            bins.append(torch.from_numpy(self.grid.index(vectors.numpy())))
        self.bin = torch.cat(bins)

    @property
    def shell(self) -> Tensor:
        """Shell of each sample, int64 [samples]."""
        return self.radius.round().long()

    def sums(self, *values: Tensor) -> NDArray[np.float32]:
        """Sum values by shell and direction, those counted twice that stand for a mate that is left out.

        Parameters
        ----------
        *values : Tensor, real, shape [samples]

        Returns
        -------
        ndarray of float32, shape [values, n // 2 + 1, bins]
        """
        count = self.size // 2 + 1
        cell = self.shell * len(self.grid) + self.bin
        total = [torch.bincount(cell, one.double(), minlength=count * len(self.grid)) for one in values]
        return np.asarray(torch.stack(total).reshape(len(values), count, len(self.grid)).float().numpy())

    @cached_property
    def multiplicity(self) -> Tensor:
        """How many samples of the full transform each sample stands for, float32 [samples]."""
        return redundancy(self.size).expand(self.inside.shape)[self.inside]


def _spectra(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the real part of the cross spectrum of two transforms, and their powers."""
    powers = [one.real.square() + one.imag.square() for one in (first, second)]
    return first.real * second.real + first.imag * second.imag, powers[0], powers[1]


def _shell_products(samples: DirectedSamples, *spectra: Tensor) -> NDArray[np.float32]:
    """Return sums of cross spectrum and powers by shell and direction: [3, shells, bins]."""
    return samples.sums(*(spectrum[samples.inside] * samples.multiplicity for spectrum in spectra))


def _cone_curves(
    samples: DirectedSamples, products: list[NDArray[np.float32]], cone: float
) -> list[NDArray[np.float32]]:
    """Return the FSC inside the cone about each direction, [directions, shells], of each of several pairs of maps.

    All are summed over the cones at once: to tell which bins lie in which cone takes longer than to sum them.
    """
    rows = np.concatenate([samples.sums(samples.multiplicity), *products])  # [1 + 3 pairs, shells, bins]
    flat = rows.reshape(-1, rows.shape[-1])
    sums = cone_sums(flat, samples.grid.vectors.astype(np.float32), cone).reshape(rows.shape)
    few = sums[0] < _FEWEST_SAMPLES
    return [_ratio(np.where(few, part.sum(axis=-1, keepdims=True), sums[3 * n + 1 : 3 * n + 4]))
            for n, part in enumerate(products)]  # fmt: skip


def _ratio(sums: NDArray[np.float32]) -> NDArray[np.float32]:
    power = np.sqrt(sums[1].astype(np.float64) * sums[2])
    curves = np.where(power > 0, sums[0] / np.maximum(power, np.finfo(np.float64).tiny), 0.0)
    curves[0] = 1.0
    return np.ascontiguousarray(curves.T, dtype=np.float32)


def cone_sums(values: NDArray[np.float32], directions: NDArray[np.float32], cone: float) -> NDArray[np.float32]:
    """Sum values over the double cone about each direction.

    Parameters
    ----------
    values : ndarray, shape [rows, directions]
    directions : ndarray, shape [directions, 3]
        Unit vectors.
    cone : float
        Half angle in degrees.

    Returns
    -------
    ndarray of float32, shape [rows, directions]
    """
    cosine = np.float32(np.cos(np.radians(cone)))
    total = np.empty_like(values)
    for begin in range(0, len(directions), _BLOCK):
        block = slice(begin, begin + _BLOCK)
        inside = np.abs(directions @ directions[block].T) >= cosine
        total[:, block] = values @ inside.astype(np.float32)
    return total


def crossing_shells(curves: Floats, threshold: float) -> NDArray[np.float64]:
    """Return where curves, drawn with straight lines, first fall below a threshold.

    Parameters
    ----------
    curves : ndarray, shape [curves, shells]
        Shell 0 is not judged.
    threshold : float

    Returns
    -------
    ndarray, shape [curves]
        In shells, at least 0.5; the last shell for a curve that stays above.
    """
    last = curves.shape[1] - 1
    below = curves[:, 1:] < threshold
    above = np.where(below.any(axis=1), below.argmax(axis=1), last)  # the last shell before the fall
    rows = np.arange(len(curves))
    high, low = curves[rows, above], curves[rows, np.minimum(above + 1, last)]
    step = np.where(above < last, (high - threshold) / np.maximum(high - low, np.finfo(np.float32).tiny), 0.0)
    return np.asarray(np.where(above == 0, 0.5, above + np.clip(step, 0.0, 1.0)), dtype=np.float64)


def sphericity(directions: NDArray[np.float64], radii: NDArray[np.float64]) -> float:
    """Return the sphericity of a body that reaches as far as given in each direction and its opposite.

    Parameters
    ----------
    directions : ndarray, shape [n, 3]
        Unit vectors of half a sphere.
    radii : ndarray, shape [n]

    Returns
    -------
    float
        ``pi^(1/3) (6 volume)^(2/3) / area``, of triangles between neighbouring directions: no voxels roughen the
        surface, and a sphere comes out as 1 to 4 digits.
    """
    vectors = np.concatenate([directions, -directions])
    faces = ConvexHull(vectors).simplices
    corners = (vectors * np.concatenate([radii, radii])[:, None])[faces]  # [faces, 3, 3]
    volume = np.abs(np.linalg.det(corners)).sum() / 6.0
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1).sum() / 2.0
    return float(np.pi ** (1 / 3) * (6.0 * volume) ** (2 / 3) / area)


def _overall(first: Tensor, second: Tensor, size: int) -> NDArray[np.float64]:
    curve = correlate_transforms(first, second, size).double().numpy()
    curve[0] = 1.0
    return np.asarray(curve)


def _corrected(masked: Floats, noise: Floats) -> Floats:
    """Take off what a mask correlates by itself; `noise` is the FSC with random phases."""
    return np.asarray(np.clip((masked - noise) / (1.0 - np.minimum(noise, 1.0 - 1e-6)), -1.0, 1.0))
