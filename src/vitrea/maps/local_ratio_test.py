"""Local resolution by a likelihood-ratio test: down to which wavelength are local sinusoids told from noise?

The method is ResMap's (Kucukelbir, Sigworth & Tagare 2014, doi:10.1038/nmeth.2727): at each voxel, for a wavelength λ,
a constant plus local sinusoids of that wavelength is fitted under a Gaussian weight, in a basis that is steerable, so
that all directions and phases are covered; the likelihood ratio against the constant alone is compared with what noise
gives, the false-discovery rate over the particle being controlled; voxels that fail are tried with longer waves.

The basis are the Gauss-Hermite functions of second and third order: six even and ten odd ones, like the second
derivative of a Gaussian and its quadrature partner. They are orthonormal under the weight, so that the statistic is the
sum of the squares of sixteen filtered maps, and a filter is a monomial times a Gaussian in Fourier space.

Four things differ from ResMap. Noise is the difference of half maps, and the map is whitened by its spectrum. What is
coarser than the wavelength tested is filtered away first: it is many times stronger and would pass for shorter waves;
ResMap asks its user to flatten the spectrum by hand. The statistic is averaged over a Gaussian, so that the window as a
whole is 1.4 λ wide (at half height): sixteen numbers alone tell waves from noise only where the waves are stronger.
And wavelengths are tested on grids no finer than they need.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.fft import next_fast_len
from scipy.stats import gamma
from torch import Tensor

from vitrea.fourier.filters import raised_cosine
from vitrea.fourier.grid import frequency_axes, frequency_radius, redundancy
from vitrea.fourier.shells import shell_mean, spread_shells
from vitrea.fourier.transforms import crop_fourier, resample, to_fourier, to_real
from vitrea.maps.half_maps import as_tensor
from vitrea.records.recorder import Recorder, SilentRecorder

Floats = NDArray[np.floating[Any]]
Binary = NDArray[np.bool_]

ORDERS = tuple((x, y, z) for x, y, z in product(range(4), repeat=3) if x + y + z in (2, 3))
"""Powers of x, y, z of the sixteen filters."""

# The weight is exp(-(a r)² / 2); the second and third orders pass most at a frequency of sqrt(5/2) a.
_WEIGHT = 2 * math.pi * math.sqrt(2 / 5)
_HIGHEST = 2.5  # frequencies beyond this over λ pass by less than a thousandth
_PASS = (0.7, 1.0)  # over λ: nothing passes below the first, everything from the second on
_CORRELATED = 8.0  # over λ: noise in the statistic is not correlated over more than half of this
_REACH = 6.0  # over λ: and beyond this its skewness does not change
_PROBES = 16  # give the skewness to 4%
_POOLING = 0.54  # over λ: standard deviation of the average, which makes the window 1.4 λ wide


@dataclass(frozen=True)
class RatioTest:
    """What the test at one wavelength found.

    Attributes
    ----------
    wavelength : float
        Å.
    threshold : float
        Of the statistic over its mean in noise; infinite where nothing passed.
    tested, passed : int
        Voxels of the map.
    """

    wavelength: float
    threshold: float
    tested: int
    passed: int


def ratio_test_resolution(
    half1: Floats,
    half2: Floats,
    voxel_size: float,
    mask: Binary,
    wavelengths: Sequence[float],
    p_value: float = 0.05,
    recorder: Recorder | None = None,
) -> tuple[NDArray[np.float32], list[RatioTest]]:
    """Find at each voxel the shortest wavelength that stands out of the noise.

    Parameters
    ----------
    half1, half2 : ndarray, shape [n, n, n]
        Unfiltered half maps of independent refinements.
    voxel_size : float
        Å.
    mask : ndarray of bool, shape [n, n, n]
        The voxels tested, and where the noise is measured.
    wavelengths : sequence of float
        Å, rising.
    p_value : float
        False-discovery rate at each wavelength (Benjamini & Hochberg 1995).
    recorder : Recorder, optional

    Returns
    -------
    resolution : ndarray of float32, shape [n, n, n]
        Å; 0 outside the mask, infinite where no wavelength passed.
    tests : list of RatioTest
    """
    recorder = recorder or SilentRecorder()
    whitened = _whiten(half1, half2, mask)
    resolution = np.where(mask, np.inf, 0.0).astype(np.float32)
    left = mask.copy()
    tests = []
    recorder.stage("Likelihood ratios", len(wavelengths), "wavelengths")
    for wavelength in wavelengths:
        threshold, tested, passed = math.inf, int(left.sum()), left & False
        if tested:
            statistic, null = _statistic(whitened, voxel_size, wavelength, mask.shape[0])
            threshold, passed = _passing(statistic, null, left, p_value)
        resolution[passed] = wavelength
        left &= ~passed
        tests.append(RatioTest(wavelength, threshold, tested, int(passed.sum())))
        recorder.advance()
    return resolution, tests


def _whiten(half1: Floats, half2: Floats, mask: Binary) -> Tensor:
    """Return the transform of the mean map over the noise's amplitude: in the mask noise has unit power everywhere."""
    size = mask.shape[0]
    first, second = as_tensor(half1), as_tensor(half2)
    inside = torch.from_numpy(mask).to(first.dtype)
    noise = to_fourier((first - second) / 2 * inside, 3).abs().square()
    spectrum = shell_mean(noise, size, 3) / inside.mean()
    amplitude = spread_shells(spectrum.clamp_min(torch.finfo(first.dtype).tiny).sqrt(), size, 3, beyond=math.inf)
    return to_fourier((first + second) / 2, 3) / amplitude


def _filters(box: int, extent: float, wavelength: float) -> tuple[tuple[Tensor, ...], Tensor]:
    """Return frequencies (x, y, z) in units of the Gaussian's, and the radial factor that all filters share."""
    unit = 2 * math.pi / extent / (_WEIGHT / wavelength)
    axes = tuple(unit * axis for axis in frequency_axes(box, 3))
    radius = frequency_radius(box, 3)
    high_pass = 1.0 - raised_cosine(radius, _PASS[0] * extent / wavelength, _PASS[1] * extent / wavelength)
    inside = radius <= box // 2  # as of the whitened map
    return axes, torch.exp(-0.5 * (unit * radius).square()) * high_pass * inside


def _monomial(order: tuple[int, int, int], axes: tuple[Tensor, ...]) -> Tensor:
    """Return what tells a filter from the others, without its factor ``i ** sum(order)``, which makes it real."""
    (x, y, z), (a, b, c) = axes, order
    normalisation = math.sqrt(math.prod(math.factorial(power) for power in order))
    return (z**c * y**b / normalisation) * x**a  # two axes make a plane: only the last product is over the grid


def _filter(order: tuple[int, int, int], axes: tuple[Tensor, ...], radial: Tensor) -> Tensor:
    """Return a filter without its factor ``i ** sum(order)``."""
    return radial * _monomial(order, axes)


@dataclass(frozen=True)
class _Null:
    """Mean, variance and skewness that the statistic has in noise of unit power."""

    mean: float
    variance: float
    skewness: float

    def log_p(self, statistic: Floats) -> NDArray[np.float64]:
        """Return the natural logarithm of the probability of more than this.

        A weighted sum of chi-squares is near a chi-square, scaled and moved, of the same mean, variance and skewness
        (Hall 1983, doi:10.1093/biomet/70.3.639-a; Buckley & Eagleson 1988, doi:10.1111/j.1467-842X.1988.tb00471.x).
        Without the skewness the tail would be too light: twice as many values lie beyond its 0.001.
        """
        shape = 4.0 / self.skewness**2
        scale = math.sqrt(self.variance / shape)
        tail: NDArray[np.float64] = gamma.logsf(statistic, shape, loc=self.mean - shape * scale, scale=scale)
        return tail


def _statistic(whitened: Tensor, voxel_size: float, wavelength: float, size: int) -> tuple[Tensor, _Null]:
    """Return the pooled likelihood ratio of each voxel of a grid that is fine enough, and what noise would give."""
    extent = size * voxel_size
    box = min(size, int(next_fast_len(math.ceil(2 * _HIGHEST * extent / wavelength), real=True)))
    # Without the scale that keeps grey values: noise keeps its unit power instead.
    transform = crop_fourier(whitened, size, box, 3) * (size / box) ** 1.5
    axes, radial = _filters(box, extent, wavelength)
    even = transform * radial
    odd = even * 1j
    total = torch.zeros((box,) * 3)
    for order in ORDERS:
        total += to_real((odd if sum(order) % 2 else even) * _monomial(order, axes), box, 3).square()
    pooled = to_real(to_fourier(total, 3) * _pooling(box, extent, wavelength), box, 3)
    return pooled, _null(box, extent, wavelength)


def _pooling(box: int, extent: float, wavelength: float) -> Tensor:
    """Return the transform of the weights with which the statistic is averaged."""
    return torch.exp(-2 * (math.pi * _POOLING * wavelength / extent) ** 2 * frequency_radius(box, 3).square())


def _null(box: int, extent: float, wavelength: float) -> _Null:
    """Return the moments of the statistic in white noise, on a grid of `box` voxels over `extent` Å.

    The covariance of two filtered maps at a distance u is the transform of the product of their filters. The mean is
    the sum of variances; the variance is ``2 ∫ q(u) Σ C_ij(u)²`` with q the autocorrelation of the average's weights
    (Isserlis' theorem). It vanishes within a few wavelengths, so that a part of the grid will do.
    """
    mean = _mean(*_filters(box, extent, wavelength), box)
    part = min(box, 2 * math.ceil(0.5 * _CORRELATED * wavelength * box / extent))
    length = extent * part / box
    axes, radial = _filters(part, length, wavelength)
    filters = [_filter(order, axes, radial) for order in ORDERS]
    squared = torch.zeros((part,) * 3)
    for i, one in enumerate(filters):
        for j in range(i + 1):
            odd = (sum(ORDERS[i]) + sum(ORDERS[j])) % 2
            spectrum = one * filters[j] * (1j if odd else 1.0)
            covariance = to_real(spectrum.to(torch.complex64), part, 3) / part**1.5
            squared += covariance.square() * (1 if i == j else 2)
    smoothed = to_real(to_fourier(squared, 3) * _pooling(part, length, wavelength).square(), part, 3)
    variance = 2.0 * float(smoothed[part // 2, part // 2, part // 2])
    # A part of the grid samples the filters' edges more coarsely, to which the ratio of variance and mean is blind.
    variance *= (mean / _mean(axes, radial, part)) ** 2
    # On grids as fine as this a finer one would change nothing.
    return _Null(mean, variance, _skewness(min(2.0 * _HIGHEST, wavelength * box / extent)))


def _mean(axes: tuple[Tensor, ...], radial: Tensor, box: int) -> float:
    """Return the mean of the statistic in noise of unit power: the sum of the squares of all filters.

    With q² = x² + y² + z² the squares of the second order sum to q⁴ / 2, those of the third to q⁶ / 6.
    """
    x, y, z = axes
    squared = x.square() + y.square() + z.square()
    power = (radial * squared).square() * (1 / 2 + squared / 6) * redundancy(box)
    return float(power.sum(dtype=torch.float64)) / box**3


@cache
def _skewness(wavelength: float) -> float:
    """Return the skewness of the statistic in white noise for a wavelength in voxels.

    The statistic is a quadratic form n K n of the noise, with cumulants ``2 tr K²`` and ``8 tr K³``. K is applied to
    vectors of random signs, of which each gives both traces on average (Hutchinson 1990).
    """
    box = 2 * math.ceil(0.5 * _REACH * wavelength)
    axes, radial = _filters(box, float(box), wavelength)
    filters = [_filter(order, axes, radial) * (1j if sum(order) % 2 else 1.0) for order in ORDERS]
    weights = to_real(_pooling(box, float(box), wavelength).to(torch.complex64), box, 3) / box**1.5
    generator = torch.Generator().manual_seed(0)
    squares = cubes = 0.0
    for _ in range(_PROBES):
        signs = torch.randint(0, 2, (box,) * 3, generator=generator).float() * 2 - 1
        start, applied = to_fourier(signs, 3), torch.zeros_like(radial, dtype=torch.complex64)
        for one in filters:
            applied += to_fourier(weights * to_real(start * one, box, 3), 3) * one.conj()
        squares += float(to_real(applied, box, 3).square().sum())
        cubes += sum(float((weights * to_real(applied * one, box, 3).square()).sum()) for one in filters)
    return float(8.0 * cubes / _PROBES / (2.0 * squares / _PROBES) ** 1.5)


def _passing(statistic: Tensor, null: _Null, left: Binary, p_value: float) -> tuple[float, Binary]:
    """Return the threshold (over the mean in noise) for a false-discovery rate, and the voxels that reach it."""
    size, box = left.shape[0], statistic.shape[-1]
    coarse = left
    if box < size:
        places = np.round((np.arange(box) - box // 2) * (size / box) + size // 2).astype(int).clip(0, size - 1)
        coarse = left[np.ix_(places, places, places)]
    values = np.sort(statistic.numpy()[coarse])[::-1]
    allowed = np.log(p_value * np.arange(1, len(values) + 1) / max(len(values), 1))
    good = np.flatnonzero(null.log_p(values) <= allowed)
    if not len(good):
        return math.inf, left & False
    threshold = float(values[good[-1]])
    fine = statistic if box == size else resample(statistic, size, 3)
    return threshold / null.mean, left & (fine.numpy() >= threshold)
