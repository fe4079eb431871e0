"""One micrograph from pixels to a score map, and from score maps to picks."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from vitrea.fourier.rectangles import Shape
from vitrea.matching.peaks import Peaks, find_peaks, separate
from vitrea.picking.background import (
    FINE_PIXEL,
    BoxChoice,
    Floats,
    Surroundings,
    Usual,
    areas_to_avoid,
    background_boxes,
    background_spectrum,
    band,
    frequencies,
    micrograph_spectrum,
    surroundings,
)
from vitrea.picking.field import PickingField, coarser, reduce_micrograph
from vitrea.picking.mixture import fit_peak_heights
from vitrea.picking.scores import TemplateBank, matched_weight
from vitrea.picking.templates import Templates

TemplateMaker = Callable[[tuple[float, float]], Templates]
Transfer = Callable[[Tensor, Tensor], Tensor]

LOWEST_SCORE = 3.0  # standard deviations: noise alone passes it a few times in a micrograph
_OUTSTANDING = 0.4  # of the 90th percentile of heights: peaks above it are particles, where noise is not known
_PIXELS_PER_PERIOD = 2.5  # of the highest resolution: Nyquist, and a quarter more for smooth peaks


@dataclass(frozen=True)
class Filters:
    """How a micrograph is filtered before it is searched.

    Attributes
    ----------
    highest_resolution : float
        Å; finer detail is left out.
    lowest_resolution : float
        Å; coarser detail, gradients, is left out.
    radius : float
        Å; largest radius of a particle: half the edge of the windows that statistics and background boxes have.
    pixel_size : float
        Å per pixel of the search; 0: 0.4 of `highest_resolution`.
    whiten_by : str
        Spectrum that whitens: "background", of boxes without particles, or "micrograph"; "none": no whitening, for
        filters that have their band themselves.
    boxes : int
        Background boxes.
    box_choice : str
        How they are chosen; see `background.background_boxes`.
    """

    highest_resolution: float
    lowest_resolution: float
    radius: float
    pixel_size: float = 0.0
    whiten_by: Literal["background", "micrograph", "none"] = "background"
    boxes: int = 20
    box_choice: BoxChoice = "lowest-variance"

    @property
    def working_pixel_size(self) -> float:
        """Å per pixel of the search."""
        return self.pixel_size or self.highest_resolution / _PIXELS_PER_PERIOD


@dataclass(frozen=True)
class Searched:
    """What a search finds in a micrograph: all that choosing picks needs.

    Attributes
    ----------
    score : ndarray of float32, shape [y, x]
        As `scores.ScoreMap`.
    reference : ndarray of int32, shape [y, x]
        Index of the reference that has the score.
    psi : ndarray of float32, shape [y, x]
        Its in-plane angle in degrees.
    around : Surroundings
    full_shape : (int, int)
        Rows and columns of the micrograph.
    """

    score: Floats
    reference: NDArray[np.int32]
    psi: Floats
    around: Surroundings
    full_shape: Shape

    @property
    def factors(self) -> NDArray[np.float64]:
        """Pixels of the micrograph per pixel of the maps, (x, y)."""
        rows, columns = self.score.shape
        return np.array([self.full_shape[1] / columns, self.full_shape[0] / rows])


@dataclass(frozen=True)
class Limits:
    """Where peaks may be.

    Attributes
    ----------
    distance : float
        Smallest distance of two picks in Å.
    edge : float
        Å from the edge of the micrograph within which no pick is centred.
    avoid_high_variance, avoid_abnormal_mean : bool
        See `background.areas_to_avoid`.
    largest_deviation, smallest_mean : float
        See there.
    lowest_score : float
        Peaks below it tell nothing of what is usual at particles.
    """

    distance: float
    edge: float = 0.0
    avoid_high_variance: bool = True
    avoid_abnormal_mean: bool = True
    largest_deviation: float = 0.0
    smallest_mean: float = -np.inf
    lowest_score: float = LOWEST_SCORE


class Searcher:
    """Searches micrographs one after the other, or several at once from threads.

    Parameters
    ----------
    filters : Filters
    make_templates : callable
        Templates at given pixel sizes (y, x) in Å.
    """

    def __init__(self, filters: Filters, make_templates: TemplateMaker) -> None:
        self.filters = filters
        self._make_templates = make_templates
        self._banks: dict[tuple[Shape, tuple[float, float]], TemplateBank] = {}
        self._lock = threading.Lock()

    def search(self, pixels: NDArray[np.generic], pixel_size: float, transfer: Transfer | None = None) -> Searched:
        """Search a micrograph whose particles are white.

        Parameters
        ----------
        pixels : ndarray, shape [y, x]
        pixel_size : float
            Å.
        transfer : callable, optional
            The CTF at spatial frequencies y and x in 1/Å.

        Raises
        ------
        ValueError
            If it cannot be searched: constant, not finite, too small.
        """
        filters = self.filters
        wanted, margin = filters.working_pixel_size, 1.2 * filters.radius
        fine = reduce_micrograph(pixels, pixel_size, min(wanted, FINE_PIXEL), margin)
        field = coarser(fine, wanted, margin)
        around = surroundings(fine, filters.radius, filters.boxes).at(field.shape)
        boxes = background_boxes(around, filters.boxes, filters.box_choice)
        window = around.window
        passed = band(field, filters.highest_resolution, filters.lowest_resolution)
        by_background = filters.whiten_by != "micrograph"
        spectrum = background_spectrum(field, boxes, window) if by_background else micrograph_spectrum(field)
        ctf = None if transfer is None else transfer(*frequencies(field)).float()
        if filters.whiten_by == "none":
            weight = passed if ctf is None else passed * ctf
        else:
            weight = matched_weight(spectrum, passed, ctf)
        bank = self._bank(field)
        found = bank.score(field, weight, spectrum, boxes, window)
        reference = bank.templates.reference[found.template].astype(np.int32)
        psi = bank.templates.psi[found.template].astype(np.float32)
        return Searched(found.score, reference, psi, around, field.full_shape)

    def _bank(self, field: PickingField) -> TemplateBank:
        key = field.padded_shape, field.pixel_sizes
        with self._lock:
            if key not in self._banks:
                # One at a time: micrographs of a set have one size, and banks are large.
                self._banks = {key: TemplateBank(self._make_templates(field.pixel_sizes), field)}
            return self._banks[key]


def around_peaks(
    searched: Searched, limits: Limits, pixel_size: float, lowest: float = LOWEST_SCORE
) -> tuple[NDArray[np.float64], Floats]:
    """Return the heights of all peaks, shape [peaks], and what surrounds them, shape [peaks, 3].

    Parameters are those of `candidates`; nothing is ruled out but neighbours.
    """
    pixel = pixel_size * float(searched.factors.mean())
    peaks = separate(find_peaks(searched.score, lowest, limits.edge / pixel), limits.distance / pixel)
    return peaks.heights, searched.around.around(peaks.pixels)


def usual_around_particles(
    heights: NDArray[np.float64], around: Floats, limits: Limits, lowest: float = LOWEST_SCORE
) -> Usual:
    """Measure what is usual around the peaks that are rather particles than noise, best of many micrographs.

    Noise outnumbers particles where they are few; dirt, which has high peaks, too, is not what most micrographs have
    most of.
    """
    if not len(heights):
        return Usual.of(around)
    if limits.lowest_score > 0:
        threshold = fit_peak_heights(heights, lowest, limits.lowest_score).threshold
    else:
        threshold = max(0.0, _OUTSTANDING * float(np.percentile(heights, 90)))
    return Usual.of(around[heights > threshold])


def candidates(
    searched: Searched, limits: Limits, pixel_size: float, lowest: float = LOWEST_SCORE, usual: Usual | None = None
) -> tuple[Peaks, float]:
    """Return the peaks of a search above a score that the limits allow, and the part of the area that they rule out.

    Those above a higher threshold are the picks at that threshold: raising it never adds a pick.

    Parameters
    ----------
    searched : Searched
    limits : Limits
    pixel_size : float
        Å per pixel of the micrograph.
    lowest : float
        In standard deviations.
    usual : Usual, optional
        What is usual around particles; by default what is around those of this micrograph.
    """
    pixel = pixel_size * float(searched.factors.mean())
    peaks = find_peaks(searched.score, lowest, limits.edge / pixel)
    avoid = areas_to_avoid(
        searched.around,
        usual or usual_around_particles(*around_peaks(searched, limits, pixel_size, lowest), limits, lowest),
        high_variance=limits.avoid_high_variance,
        abnormal_mean=limits.avoid_abnormal_mean,
        largest_deviation=limits.largest_deviation,
        smallest_mean=limits.smallest_mean,
    )
    return separate(peaks.rows(~avoid[tuple(peaks.pixels.T)]), limits.distance / pixel), float(avoid.mean())
