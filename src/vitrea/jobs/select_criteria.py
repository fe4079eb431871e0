"""The criteria of a selection, one by one: each drops particles and says how many."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from vitrea.formats.images import ParticleImages
from vitrea.jobs.particle_inputs import chunks
from vitrea.records.errors import InputError
from vitrea.records.particles import Particles
from vitrea.records.recorder import Recorder
from vitrea.selection.coordinates import COORDINATE_LABELS, MICROGRAPH, coordinate_pixel_sizes, particle_positions
from vitrea.selection.criteria import contains_text, first_of_each, in_range, in_spans, parse_spans, within_sigmas
from vitrea.selection.image_statistics import STATISTICS, image_statistics
from vitrea.selection.neighbours import keep_best_neighbours
from vitrea.tables.expression import evaluate_mask

# Names under which the grey values of the images take part in ranges as if they were columns.
IMAGE_COLUMNS = {f"image.{name}": place for place, name in enumerate(STATISTICS)}
# What tells the better of two neighbours, where the user does not say; the first that is there.
MERITS = ("rlnAutopickFigureOfMerit", "rlnMaxValueProbDistribution", "rlnLogLikeliContribution")
_RANGE = re.compile(r"([^:\s]+):([^:]*):([^:]*)")


@dataclass(frozen=True)
class Range:
    """A column and the bounds its values must lie within; None: no bound."""

    label: str
    minimum: float | None
    maximum: float | None

    def __str__(self) -> str:
        """Write it as a sentence has it: ``rlnDefocusU from 8000 to 20000``."""
        low = "" if self.minimum is None else f" from {self.minimum:g}"
        high = "" if self.maximum is None else f" up to {self.maximum:g}" if not low else f" to {self.maximum:g}"
        return f"{self.label}{low}{high}"


def parse_range(text: str) -> Range:
    """Read ``rlnDefocusU:8000:20000``; either bound may be left blank.

    Raises
    ------
    InputError
        If it is not of this form, bounds are not numbers, or none is given.
    """
    match = _RANGE.fullmatch(text.strip())
    if match is None:
        raise InputError(f"--range {text}: write column:minimum:maximum, such as rlnDefocusU:8000:20000")
    try:
        low, high = (float(word) if word.strip() else None for word in match.groups()[1:])
    except ValueError:
        raise InputError(f"--range {text}: the bounds must be numbers or left blank") from None
    return checked_range(f"--range {text}", match.group(1), low, high)


def checked_range(option: str, label: str, minimum: float | None, maximum: float | None) -> Range:
    """Return a range; InputError, beginning with `option`, if no value can lie in it or every value does."""
    label = label.removeprefix("_")
    if minimum is None and maximum is None:
        raise InputError(f"{option}: give a lowest or a highest value of {label}")
    if minimum is not None and maximum is not None and not minimum <= maximum:
        raise InputError(f"{option}: the lowest value of {label}, {minimum:g}, is above the highest, {maximum:g}")
    return Range(label, minimum, maximum)


@dataclass
class Sieve:
    """Particles that pass criterion after criterion, with an account of it.

    Attributes
    ----------
    particles : Particles
        Those still there.
    source : str
        Where they come from, for messages.
    recorder : Recorder
    rows : ndarray of int64
        Their rows in the set that was there at first.
    """

    particles: Particles
    source: str
    recorder: Recorder
    rows: NDArray[np.int64] = field(init=False)

    def __post_init__(self) -> None:
        self.rows = np.arange(len(self.particles))

    def column(self, label: str, option: str) -> NDArray[np.generic]:
        """Return a column.

        Raises
        ------
        InputError
            If there is no such column.
        """
        if label not in self.particles.table:
            raise InputError(f"{self.source} lacks the column {label}, which {option} needs")
        return self.particles.table[label]

    def numbers(self, label: str, option: str) -> NDArray[np.float64]:
        """Return a column of numbers.

        Raises
        ------
        InputError
            If there is no such column or it holds text.
        """
        column = self.column(label, option)
        try:
            return np.asarray(column, dtype=np.float64)
        except ValueError:
            raise InputError(f"{self.source}: {label} holds text; use --select_by_str for it") from None

    def keep(self, what: str, mask: NDArray[np.bool_]) -> None:
        """Drop the particles a criterion does not want, and report.

        Raises
        ------
        InputError
            If none would be left.
        """
        kept = int(mask.sum())
        self.recorder.event("text", text=f"{what}: {kept} kept, {len(mask) - kept} dropped")
        if not kept:
            raise InputError(
                f"{self.source}: no particle is left after '{what}' ({len(mask)} before it); nothing was written"
            )
        self.rows, self.particles = self.rows[mask], self.particles.rows(mask)

    def drop_repeated(self, label: str) -> None:
        """Keep the first of the particles that share a value of a column."""
        self.keep(f"each {label} once", first_of_each(self.column(label, "--check_duplicates")))

    def keep_classes(self, text: str) -> None:
        """Keep classes by number, given as ``1,3,5-8``."""
        try:
            spans = parse_spans(text)
        except ValueError as error:
            raise InputError(f"--classes {text}: {error}") from None
        self.keep(f"rlnClassNumber {text}", in_spans(self.numbers("rlnClassNumber", "--classes"), spans))

    def keep_numbers(self, what: str, numbers: NDArray[np.int64]) -> None:
        """Keep the particles of classes of these numbers."""
        self.keep(what, np.isin(self.numbers("rlnClassNumber", "--auto"), numbers))

    def keep_where(self, conditions: Sequence[str]) -> None:
        """Keep what meets all conditions on its columns, each reported by itself."""
        for condition in conditions:
            try:
                mask = evaluate_mask(condition, self.particles.table)
            except ValueError as error:
                raise InputError(f"--where: {error} (in {self.source})") from None
            self.keep(condition, mask)

    def keep_ranges(self, ranges: list[Range]) -> None:
        """Keep what lies in all ranges, each reported by itself; those of columns first, images being slow to read."""
        for wanted in ranges:
            if wanted.label not in IMAGE_COLUMNS:
                values = self.numbers(wanted.label, "the range")
                self.keep(str(wanted), in_range(values, wanted.minimum, wanted.maximum))

    def keep_text(self, label: str, include: str, exclude: str) -> None:
        """Keep what holds one text and not another."""
        words = [f"with '{include}'"] if include else []
        words += [f"without '{exclude}'"] if exclude else []
        column = np.asarray(self.column(label, "--select_by_str"), dtype=object)
        self.keep(f"{label} {' and '.join(words)}", contains_text(column, include, exclude))

    def keep_images(self, ranges: list[Range], sigmas: float | None, of: tuple[str, ...]) -> None:
        """Keep images by their grey values: within ranges, and within `sigmas` of the mean in the statistics `of`."""
        ranges = [wanted for wanted in ranges if wanted.label in IMAGE_COLUMNS]
        if not ranges and sigmas is None:
            return
        statistics = self._measure()
        before = self.rows
        for wanted in ranges:
            values = statistics[np.searchsorted(before, self.rows), IMAGE_COLUMNS[wanted.label]]
            self.keep(str(wanted), in_range(values, wanted.minimum, wanted.maximum))
        if sigmas is not None:
            columns = [STATISTICS.index(name) for name in of]
            left = statistics[np.searchsorted(before, self.rows)][:, columns]
            self.keep(f"image {', '.join(of)} within {sigmas:g} sigma", within_sigmas(left, sigmas))

    def _measure(self) -> NDArray[np.float64]:
        images = ParticleImages(self.particles)
        images.check(self.recorder)
        self.recorder.stage("Measuring grey values", len(images), "images")
        result = np.empty((len(images), len(STATISTICS)))
        for rows in chunks(len(images), images.box_size):
            result[rows] = image_statistics(images.load(rows))
            self.recorder.advance(len(rows))
        return result

    def drop_neighbours(self, distance: float, pixel_size: float, best_by: str) -> None:
        """Keep the best of particles closer than `distance` (Å) in one micrograph."""
        sizes = check_coordinates(self.particles, self.source, pixel_size, self.recorder, "--remove_duplicates")
        _, micrograph = np.unique(self.particles.table[MICROGRAPH].astype(str), return_inverse=True)
        label = best_by or next((label for label in MERITS if label in self.particles.table), "")
        merit = self.numbers(label, "--best_by") if label else np.zeros(len(self.particles))
        mask = keep_best_neighbours(particle_positions(self.particles, sizes), micrograph, merit, distance)
        self.keep(f"no two within {distance:g} Å (kept by {label or 'order in the file'})", mask)

    def take(self, what: str, choose: Callable[[int], NDArray[np.int64]]) -> None:
        """Keep the rows that ``choose(number of particles)`` names."""
        mask = np.zeros(len(self.particles), dtype=bool)
        mask[choose(len(mask))] = True
        self.keep(what, mask)


def check_coordinates(
    particles: Particles, source: str, pixel_size: float, recorder: Recorder, option: str
) -> NDArray[np.float64]:
    """Check that particles have places in micrographs; return the pixel size of their coordinates in Å.

    Raises
    ------
    InputError
        If a column is missing or a coordinate is not a number.
    """
    for label in (MICROGRAPH, *COORDINATE_LABELS):
        if label not in particles.table:
            raise InputError(f"{source} lacks the column {label}, which {option} needs")
    for label in COORDINATE_LABELS:
        try:
            bad = np.flatnonzero(~np.isfinite(particles.table.numbers(label)))
        except ValueError:
            raise InputError(f"{source}: {label} holds text") from None
        if len(bad):
            raise InputError(f"{source}: {label} of particle {bad[0] + 1} is not a finite number")
    sizes, where = coordinate_pixel_sizes(particles, pixel_size)
    if not (sizes > 0).all():
        raise InputError(f"{source}: {where} must be above 0; give --image_angpix")
    if where == "rlnImagePixelSize":
        recorder.warn(
            f"{source} does not tell the pixel size of its micrographs; that of the images is taken. Give "
            "--image_angpix if these were downscaled"
        )
    return sizes
