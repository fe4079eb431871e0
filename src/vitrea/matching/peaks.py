"""Peaks of a score map: places where a particle may be, none too near to a better one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter
from scipy.spatial import cKDTree

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Peaks:
    """Peaks, highest first.

    Attributes
    ----------
    places : ndarray of float64, shape [peaks, 2]
        x, y in pixels of the map, between pixels by a parabola through the highest and its neighbours.
    pixels : ndarray of int64, shape [peaks, 2]
        Row and column of the highest pixel.
    heights : ndarray of float64, shape [peaks]
        Score of the highest pixel.
    """

    places: NDArray[np.float64]
    pixels: NDArray[np.int64]
    heights: NDArray[np.float64]

    def __len__(self) -> int:
        """Return the number of peaks."""
        return len(self.heights)

    def rows(self, chosen: NDArray[np.bool_] | NDArray[np.int64]) -> Peaks:
        """Return some of the peaks."""
        return Peaks(self.places[chosen], self.pixels[chosen], self.heights[chosen])


def find_peaks(score: Floats, threshold: float, edge: float = 0.0) -> Peaks:
    """Find all local maxima (of 3 x 3 pixels) of a map.

    Parameters
    ----------
    score : ndarray, shape [y, x]
    threshold : float
        Only maxima above it.
    edge : float
        Pixels from the map's border within which peaks are left out.
    """
    chosen = (maximum_filter(score, size=3, mode="nearest") == score) & (score > threshold)
    pixels = np.argwhere(chosen)
    limits = np.array(score.shape) - 1
    if edge > 0:
        pixels = pixels[((pixels >= edge) & (pixels <= limits - edge)).all(axis=1)]
    heights = score[tuple(pixels.T)].astype(np.float64)
    order = np.argsort(-heights, kind="stable")
    pixels, heights = pixels[order].astype(np.int64), heights[order]
    return Peaks(pixels[:, ::-1] + _offsets(score, pixels), pixels, heights)


def separate(peaks: Peaks, distance: float) -> Peaks:
    """Keep a peak only if no higher one that was kept lies within a distance, in pixels of the map."""
    if len(peaks) < 2 or distance <= 0:
        return peaks
    tree = cKDTree(peaks.places)
    kept = np.ones(len(peaks), dtype=bool)
    for row, near in enumerate(tree.query_ball_point(peaks.places, distance)):
        if kept[row]:
            kept[[other for other in near if other > row]] = False
    return peaks.rows(kept)


def _offsets(score: Floats, pixels: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return by how much the tops lie beside the highest pixels, shape [peaks, 2] (x, y), at most half a pixel."""
    offsets = np.zeros((len(pixels), 2))
    for axis in (0, 1):
        step = np.eye(2, dtype=np.int64)[axis]
        low = score[tuple(np.maximum(pixels - step, 0).T)].astype(np.float64)
        high = score[tuple(np.minimum(pixels + step, np.array(score.shape) - 1).T)].astype(np.float64)
        bend = low + high - 2 * score[tuple(pixels.T)].astype(np.float64)
        slope = np.divide(low - high, 2 * bend, out=np.zeros(len(pixels)), where=bend < 0)
        inside = (pixels[:, axis] > 0) & (pixels[:, axis] < score.shape[axis] - 1)
        offsets[:, 1 - axis] = np.where(inside, np.clip(slope, -0.5, 0.5), 0.0)
    return offsets
