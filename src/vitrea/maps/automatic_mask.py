"""Where to cut a density into particle and solvent when nobody says where, and the solvent mask made of that.

References
----------
Otsu (1979), doi:10.1109/TSMC.1979.4310076.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from skimage.filters import threshold_otsu

from vitrea.maps.masking import keep_large_pieces, lowpass_density, mask_from_binary, sphere_mask

Floats = NDArray[np.floating[Any]]

LOWPASS = 15.0
"""Å to which a density is filtered before it is cut, where nothing else is said."""

_LEVELS_OF_NOISE = 4.0  # standard deviations above the solvent where a cut may lie
_STANDS_OUT = 6.0  # and the highest peak must: noise of 10^6 independent voxels stays below with 99.9%
_TO_DEVIATION = 1.4826  # from the median distance of Gaussian noise to its standard deviation
_BINS = 100
_SMALLEST_PIECE = 0.1  # of the largest piece


@dataclass(frozen=True)
class AutomaticMask:
    """A mask, and how it was made.

    Attributes
    ----------
    voxels : ndarray of float32, shape [n, n, n]
    threshold : float
        Grey value of the filtered average at which it was cut.
    lowpass : float
        Å of the filter; 0: none.
    extend_pixels, soft_edge_pixels : float
        Voxels by which it was extended, and of its edge.
    chosen : bool
        Whether the threshold was found, not given.
    """

    voxels: NDArray[np.float32]
    threshold: float
    lowpass: float
    extend_pixels: float
    soft_edge_pixels: float
    chosen: bool


def choose_threshold(density: Floats, noise: float | None = None) -> float:
    """Choose the grey value that parts particle and solvent.

    It is the larger of two: half of Otsu's threshold, which splits voxels in two where the particle stands out, and the
    solvent's level (the commonest grey value) plus four standard deviations of the noise.

    Parameters
    ----------
    density : ndarray, shape [n, n, n]
        Low-pass filtered, so that the particle stands out.
    noise : float, optional
        Standard deviation of the noise in it; by default what the voxels below the solvent's level tell: the median of
        their distances from it, which the dark halo of a particle hardly moves.

    Raises
    ------
    ValueError
        If nothing stands out of the noise.
    """
    values = density[_inside(density)]
    solvent = _commonest(values)
    if noise is None:
        below = values[values < solvent]
        noise = _TO_DEVIATION * float(np.median(solvent - below)) if len(below) else 0.0
    if values.max() <= solvent + _STANDS_OUT * noise:
        raise ValueError("no density stands out of the noise, so no mask can be made by itself: give one")
    return max(0.5 * float(threshold_otsu(values)), solvent + _LEVELS_OF_NOISE * noise)  # type: ignore[no-untyped-call]


def _commonest(values: Floats) -> float:
    """Return the commonest grey value, which is the solvent's where no large part of the box is particle."""
    low, high = np.quantile(values, (0.001, 0.999)).tolist()
    counts, edges = np.histogram(values, bins=_BINS, range=(low, high))
    smooth = np.convolve(counts, (1.0, 2.0, 3.0, 2.0, 1.0), mode="same")
    at = int(smooth.argmax())
    return float(edges[at] + edges[at + 1]) / 2


def _inside(density: Floats) -> NDArray[np.bool_]:
    """Return the voxels of the sphere that fits the box: reconstructions end there."""
    size = density.shape[-1]
    inside: NDArray[np.bool_] = sphere_mask(size, size // 2 - 1) > 0
    return inside


def auto_mask(
    half1: Floats,
    half2: Floats,
    voxel_size: float,
    threshold: float | None = None,
    lowpass: float = LOWPASS,
    extend_pixels: float | None = None,
    soft_edge_pixels: float | None = None,
) -> AutomaticMask:
    """Make a solvent mask from two half maps.

    The average of the halves, low-pass filtered, is cut at the threshold. Where that is not given it is chosen
    (`choose_threshold`; what the filtered halves differ by is the noise), and of what remains pieces smaller than a
    tenth of the largest are dropped.

    Parameters
    ----------
    half1, half2 : ndarray, shape [n, n, n]
        Unfiltered half maps.
    voxel_size : float
        Å.
    threshold : float, optional
        Grey value of the filtered average.
    lowpass : float
        Å of the low-pass filter; no finer than four voxels where the threshold is to be chosen; 0: none.
    extend_pixels, soft_edge_pixels : float, optional
        Growth of the mask and width of its edge in voxels; by default 7.5 Å (at least one voxel) and 15 Å (at least
        five voxels).

    Raises
    ------
    ValueError
        If nothing stands out of the noise, or a given threshold leaves nothing or everything.
    """
    extend_pixels = max(1.0, 7.5 / voxel_size) if extend_pixels is None else extend_pixels
    soft_edge_pixels = max(5.0, 15.0 / voxel_size) if soft_edge_pixels is None else soft_edge_pixels
    chosen = threshold is None
    if chosen:
        lowpass = max(lowpass, 4.0 * voxel_size)
    average = _filtered((half1 + half2) / 2, lowpass, voxel_size)
    inside = _inside(average)
    if threshold is None:
        noise = _filtered((half1 - half2) / 2, lowpass, voxel_size)[inside]
        threshold = choose_threshold(average, float(noise.std()))
        binary = keep_large_pieces((average > threshold) & inside, _SMALLEST_PIECE)
    else:
        binary = average > threshold
        if not binary.any() or binary.all():
            raise ValueError(
                f"the threshold {threshold:g} leaves {'every' if binary.any() else 'no'} voxel in the mask: grey "
                f"values run from {average.min():.4g} to {average.max():.4g}"
            )
    voxels = mask_from_binary(binary, extend_pixels, soft_edge_pixels)
    return AutomaticMask(voxels, threshold, lowpass, extend_pixels, soft_edge_pixels, chosen)


def _filtered(density: Floats, resolution: float, voxel_size: float) -> Floats:
    return lowpass_density(density, resolution, voxel_size) if resolution > 0 else density
