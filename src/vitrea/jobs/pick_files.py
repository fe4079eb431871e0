"""The files of a picking job: names, coordinate files, figure-of-merit maps, summaries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vitrea.formats.coordinates import CLASS, MERIT, MICROGRAPH, PSI, X, Y, write_coordinates
from vitrea.formats.image_names import place_in_job
from vitrea.formats.mrc import open_stack, write_stack
from vitrea.formats.star import read_star, write_star
from vitrea.formats.star_values import text_column
from vitrea.jobs.map_inputs import make_folder
from vitrea.jobs.pick_threshold import Choice
from vitrea.matching.peaks import Peaks
from vitrea.picking.background import Surroundings, Usual
from vitrea.picking.picker import Searched
from vitrea.records.errors import InputError
from vitrea.records.table import Table

_ASPECT = 0.2  # greatest relative difference in aspect ratio of a micrograph and its maps
_SECTIONS = 6  # score, class, psi, and the surroundings: mean, standard deviation, texture


# Standard deviations: threshold, unit of figures of merit, upper limit (0: none), usual score (0: not measured).
_CHOICE = ("vitreaPickThresholdSigma", "vitreaPickMeritUnit", "vitreaPickUpperSigma", "vitreaPickUsualScore")
# Around particles: usual value and standard deviation of each, and how many peaks told them.
_USUAL = tuple(f"vitreaPick{kind}{what}" for kind in ("Mean", "Deviation", "Texture") for what in ("Usual", "Spread"))
_COUNT = "vitreaPickUsualPeaks"
PICKED, BEFORE, NO_PICKS = "picked", "picked before", "no picks"


@dataclass
class Tally:
    """What is known of the micrographs so far, by row.

    Attributes
    ----------
    counts, merits, avoided, reasons : dict
        Picks, their mean figure of merit, the part of the area that was avoided; `PICKED` and the like, or why it was
        set aside.
    heights : list of ndarray
        Scores of all peaks of the micrographs searched, in standard deviations.
    """

    counts: dict[int, int] = field(default_factory=dict)
    merits: dict[int, float] = field(default_factory=dict)
    avoided: dict[int, float] = field(default_factory=dict)
    reasons: dict[int, str] = field(default_factory=dict)
    heights: list[NDArray[np.float64]] = field(default_factory=list)


@dataclass(frozen=True)
class Names:
    """Where the files of each micrograph go: RELION's places.

    Attributes
    ----------
    folder : Path
        Of the job.
    pick_name : str
        ``autopick``.
    """

    folder: Path
    pick_name: str

    def root(self, micrograph: str) -> Path:
        """Return ``<folder>/Movies/mic_autopick`` of ``MotionCorr/job002/Movies/mic.mrc``; no suffix."""
        place = self.folder / place_in_job(micrograph)
        return place.with_name(f"{place.stem}_{self.pick_name}")

    def coordinates(self, micrograph: str) -> Path:
        """Return the coordinate file of a micrograph."""
        return self._with(micrograph, ".star")

    def maps(self, micrograph: str) -> Path:
        """Return the figure-of-merit maps of a micrograph."""
        return self._with(micrograph, "_maps.mrc")

    def picture(self, micrograph: str) -> Path:
        """Return the picture of a micrograph."""
        return self._with(micrograph, ".png")

    def of_job(self, ending: str) -> Path:
        """Return a file of the whole job: ``<folder>/autopick<ending>``."""
        return self.folder / f"{self.pick_name}{ending}"

    def _with(self, micrograph: str, ending: str) -> Path:
        root = self.root(micrograph)
        return root.with_name(root.name + ending)


def check_names(names: Names, micrographs: Sequence[str]) -> None:
    """Raise InputError where two micrographs would share their coordinate file."""
    seen: dict[Path, str] = {}
    for micrograph in micrographs:
        path = names.coordinates(micrograph)
        if path in seen:
            raise InputError(f"{seen[path]} and {micrograph} would share the file {path}; rename one, or pick apart")
        seen[path] = micrograph


def pick_table(peaks: Peaks, searched: Searched, scale: float) -> Table:
    """Return peaks as coordinates under RELION's labels.

    Parameters
    ----------
    peaks : Peaks
    searched : Searched
        The maps they are peaks of.
    scale : float
        Score that is a figure of merit of 1.
    """
    places = peaks.places * searched.factors
    at = tuple(peaks.pixels.T)
    return Table({
        X: places[:, 0],
        Y: places[:, 1],
        MERIT: peaks.heights / scale,
        CLASS: searched.reference[at].astype(np.int64) + 1,
        PSI: (searched.psi[at].astype(np.float64) + 180.0) % 360.0 - 180.0,
    })  # fmt: skip


def write_picks(path: Path, table: Table, comment: str) -> None:
    """Write the coordinates of one micrograph, making its folder."""
    make_folder(path)
    write_coordinates(path, table, "star", comment=comment)


def write_maps(path: Path, searched: Searched, pixel_size: float) -> None:
    """Keep what a search found: sections score, class, psi, local mean, standard deviation, texture."""
    make_folder(path)
    around = searched.around
    sections = (searched.score, searched.reference + 1, searched.psi, around.mean, around.deviation, around.texture)
    stack = np.stack([np.asarray(section, dtype=np.float32) for section in sections])
    write_stack(path, stack, pixel_size * float(searched.factors.mean()))


def read_maps(path: Path, full_shape: tuple[int, int]) -> Searched:
    """Read maps that `write_maps` kept.

    Parameters
    ----------
    path : Path
    full_shape : (int, int)
        Rows and columns of the micrograph.

    Raises
    ------
    InputError
        If there are none, or they are not of a micrograph of that shape.
    """
    if not path.is_file():
        raise InputError(f"{path} does not exist; run once with --write_fom_maps")
    stack = np.array(open_stack(path), dtype=np.float32)
    shape = stack.shape[1:]
    # Sizes are rounded up to what transforms well.
    same_aspect = abs(shape[0] * full_shape[1] / (shape[1] * full_shape[0]) - 1) <= _ASPECT
    if len(stack) != _SECTIONS or not same_aspect:
        raise InputError(f"{path} does not hold the maps of a micrograph of {full_shape[1]} x {full_shape[0]} pixels")
    around = Surroundings(stack[3], stack[4], stack[5], 0)
    return Searched(stack[0], np.rint(stack[1]).astype(np.int32) - 1, stack[2], around, full_shape)


def read_calibration(path: Path) -> tuple[Choice, Usual] | None:
    """Return the threshold and what is usual around particles as an earlier run noted it; None where it did not."""
    if not path.is_file():
        return None
    general = read_star(path, ["general"]).get("general", {})
    values = {} if isinstance(general, Table) else {label: general.get(label) for label in (*_CHOICE, *_USUAL, _COUNT)}
    if not values or not all(isinstance(value, int | float) for value in values.values()):
        return None
    floor, unit, upper, usual, *around, count = (float(str(value)) for value in values.values())
    centres, spreads = np.array(around).reshape(-1, 2).T
    return Choice(floor, unit, upper or np.inf, usual or None), Usual(centres, spreads, int(count))


def write_summary(path: Path, names: Sequence[str], tally: Tally, choice: Choice, usual: Usual, comment: str) -> None:
    """Write what became of each micrograph: picks, their mean figure of merit, the area avoided, or why it has none."""
    upper = choice.upper if np.isfinite(choice.upper) else 0.0
    general: dict[str, float | int] = dict(
        zip(_CHOICE, (choice.floor, choice.unit, upper, choice.usual or 0.0), strict=True)
    )
    general |= dict(zip(_USUAL, np.stack([usual.centres, usual.spreads], axis=1).ravel().tolist(), strict=True))
    general[_COUNT] = usual.count
    rows = range(len(names))
    table = Table({
        MICROGRAPH: text_column(names),
        "vitreaPickCount": np.array([tally.counts.get(row, 0) for row in rows], dtype=np.int64),
        MERIT: np.array([tally.merits.get(row, 0.0) for row in rows], dtype=np.float64),
        "vitreaPickAvoidedArea": np.array([tally.avoided.get(row, 0.0) for row in rows], dtype=np.float64),
        "vitreaPickStatus": text_column([tally.reasons.get(row, "") for row in rows]),
    })  # fmt: skip
    write_star(path, {"general": general, "micrographs": table}, comment)


def write_threshold_curve(path: Path, thresholds: NDArray[np.float64], counts: NDArray[np.int64], comment: str) -> None:
    """Write how many picks each threshold leaves."""
    table = Table({"vitreaPickThreshold": thresholds, "vitreaPickCount": counts})
    write_star(path, {"thresholds": table}, comment)
