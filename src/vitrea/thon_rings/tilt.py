"""The tilt of a specimen, from how the defocus changes over the micrograph.

As in CTFFIND5 (Elferich et al. 2024, doi:10.7554/eLife.97227): the micrograph is cut into tiles, which share
astigmatism and phase shift; their defoci lie on a plane. Spectra of the tiles, each scaled in frequency to the mean
defocus, add up to one in which the rings are sharp again.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline
from scipy.ndimage import map_coordinates
from scipy.optimize import minimize

from vitrea.records.optics import Optics
from vitrea.thon_rings.background import filter_width, ring_pattern
from vitrea.thon_rings.fit import CtfFit, fit_ctf
from vitrea.thon_rings.search import defocus_curve, radial_range, sector_sums
from vitrea.thon_rings.settings import FitSettings
from vitrea.thon_rings.spectrum import Floats, Spectrum, amplitude_spectrum

_TILE = 700.0  # Å: side of a tile
_MOST_TILES = 9  # along a side
_STEEPEST = 70.0  # degrees
_FINER = 8  # steps of defocus for one of the search's


@dataclass(frozen=True)
class Tilt:
    """The plane in which a specimen lies.

    Attributes
    ----------
    angle : float
        Degrees, 0 to 90.
    axis : float
        Direction of the tilt axis in degrees from the x axis, -180 to 180; the defocus grows towards ``axis + 90``.
    slope_x, slope_y : float
        Å of defocus per Å along x and y.
    """

    angle: float
    axis: float
    slope_x: float
    slope_y: float


@dataclass(frozen=True)
class _Tiles:
    spectra: list[Spectrum]
    x: NDArray[np.float64]  # Å from the micrograph's centre
    y: NDArray[np.float64]


def fit_tilted(
    image: NDArray[np.generic], pixel_size: float, box: int, target_pixel_size: float, optics: Optics,
    settings: FitSettings,
) -> tuple[CtfFit, Tilt]:  # fmt: skip
    """Fit CTF and tilt to a micrograph.

    Parameters
    ----------
    image : ndarray, shape [y, x]
    pixel_size, box, target_pixel_size
        As for `vitrea.thon_rings.spectrum.amplitude_spectrum`.
    optics : Optics
    settings : FitSettings

    Returns
    -------
    CtfFit
        Of the whole, at the micrograph's centre.
    Tilt

    Raises
    ------
    ValueError
        If the micrograph is constant, or smaller than two tiles.
    """
    start = fit_ctf(amplitude_spectrum([image], pixel_size, box, target_pixel_size), optics, settings)
    tiles = _cut(image, pixel_size, box, target_pixel_size)
    mean, slope_x, slope_y = _plane(tiles, start, optics, settings)
    combined = _combined(tiles, mean + slope_x * tiles.x + slope_y * tiles.y, mean)
    fit = fit_ctf(combined, optics, settings)
    axis = math.degrees(math.atan2(slope_y, slope_x)) - 90
    angle = math.degrees(math.atan(math.hypot(slope_x, slope_y)))
    return fit, Tilt(angle, (axis + 180) % 360 - 180, slope_x, slope_y)


def _cut(image: NDArray[np.generic], pixel_size: float, box: int, target_pixel_size: float) -> _Tiles:
    side = max(round(_TILE / pixel_size), box // 2)
    height, width = image.shape
    if min(height, width) < 2 * side:
        raise ValueError(
            f"an image of {width} x {height} pixels is too small to find its tilt from tiles of {side} pixels"
        )
    rows, columns = (min(_MOST_TILES, 2 * (length // side) - 1) for length in (height, width))
    tops = np.linspace(0, height - side, rows).astype(int)
    lefts = np.linspace(0, width - side, columns).astype(int)
    corners = [(top, left) for top in tops.tolist() for left in lefts.tolist()]
    spectra = [
        amplitude_spectrum([image[top : top + side, left : left + side]], pixel_size, box, target_pixel_size)
        for top, left in corners
    ]
    place = np.array(corners, dtype=np.float64) + side / 2
    return _Tiles(spectra, (place[:, 1] - width // 2) * pixel_size, (place[:, 0] - height // 2) * pixel_size)


def _plane(tiles: _Tiles, start: CtfFit, optics: Optics, settings: FitSettings) -> tuple[float, float, float]:
    """Return mean defocus and slopes that the tiles' spectra agree with best."""
    first = tiles.spectra[0]
    width = filter_width(first, settings.lowest_resolution)
    radii = radial_range(first.box, first.step, settings)
    curves = []
    for spectrum in tiles.spectra:
        sums = sector_sums(ring_pattern(spectrum, width).values, *radii)
        defocus, curve = defocus_curve(sums, start.candidate(), optics, settings, first.step, radii, width)
        curves.append(curve / math.sqrt(max(sums.power, 1e-12)))
    coarse = float(defocus[1] - defocus[0])
    # Finer steps: straight lines between coarse ones would draw the tiles' defoci to these.
    spacing = coarse / _FINER
    fine = np.arange(defocus[0], defocus[-1], spacing)
    table = CubicSpline(defocus, np.array(curves), axis=1)(fine)  # [tiles, defoci]
    tile = np.arange(len(table))

    def agreement(mean: float, slope_x: float, slope_y: float) -> float:
        place = np.clip((mean + slope_x * tiles.x + slope_y * tiles.y - fine[0]) / spacing, 0, len(fine) - 1.001)
        low = place.astype(np.int64)
        part = place - low
        return float(((1 - part) * table[tile, low] + part * table[tile, low + 1]).sum())

    mean = start.candidate().defocus
    # The widest steps that keep all tiles within the width of the agreement's peak, up to the steepest tilt.
    reach = max(float(np.hypot(tiles.x, tiles.y).max()), 1.0)
    slope_step = 2 * coarse / reach
    steps = min(math.ceil(math.tan(math.radians(_STEEPEST)) / slope_step), 60)
    slopes = np.linspace(-1, 1, 2 * steps + 1) * min(steps * slope_step, math.tan(math.radians(_STEEPEST)))
    means = mean + 6 * coarse * np.arange(-2, 3)
    best = max(
        ((agreement(m, gx, gy), m, gx, gy) for gx in slopes for gy in slopes for m in means),
        key=lambda one: one[0],
    )
    scale = np.array([coarse, slope_step, slope_step])
    result = minimize(
        lambda point: -agreement(*(point * scale)), np.array(best[1:]) / scale, method="Nelder-Mead",
        options={"initial_simplex": np.array(best[1:]) / scale + np.vstack([np.zeros(3), np.eye(3)])},
    )  # fmt: skip
    mean, slope_x, slope_y = (float(value) for value in result.x * scale)
    return mean, slope_x, slope_y


def _combined(tiles: _Tiles, defoci: NDArray[np.float64], mean: float) -> Spectrum:
    """Mean of the tiles' spectra, each stretched so that its rings lie where those of the mean defocus do."""
    first = tiles.spectra[0]
    axis = np.arange(first.box) - first.box // 2
    total: Floats = np.zeros((first.box, first.box), dtype=np.float32)
    for spectrum, defocus in zip(tiles.spectra, defoci, strict=True):
        # D k² is the phase but for the term of Cs, which is small in the difference.
        factor = math.sqrt(max(mean / defocus, 0.25)) if defocus > 0 else 1.0
        line = first.box // 2 + factor * axis
        total += map_coordinates(spectrum.amplitude, np.meshgrid(line, line, indexing="ij"), order=1, mode="nearest")
    return Spectrum(total / np.float32(len(tiles.spectra)), first.pixel_size)
