"""Picking many micrographs: one search each, several at once, what fails set aside by name."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vitrea.compute.processors import available_threads
from vitrea.formats.coordinates import CLASS, MERIT, read_coordinates, write_coordinate_files
from vitrea.formats.micrograph_files import expand_names, locate_image, open_micrographs
from vitrea.formats.movies import read_micrograph, read_movie_header
from vitrea.formats.mrc_header import UNSET_PIXEL_SIZES
from vitrea.jobs.base import Context
from vitrea.jobs.pick_files import (
    BEFORE,
    NO_PICKS,
    PICKED,
    Names,
    Tally,
    check_names,
    pick_table,
    read_calibration,
    read_maps,
    write_maps,
    write_picks,
    write_summary,
    write_threshold_curve,
)
from vitrea.jobs.pick_parameters import PickParameters
from vitrea.jobs.pick_threshold import Choice, Threshold
from vitrea.matching.peaks import Peaks
from vitrea.optics.ctf import ctf
from vitrea.picking.background import Usual
from vitrea.picking.comparison import picks_at_thresholds
from vitrea.picking.picker import Limits, Searched, Searcher, Transfer, around_peaks, candidates, usual_around_particles
from vitrea.records.errors import InputError, JobError
from vitrea.records.micrographs import GivenOptics, Micrographs
from vitrea.records.recorder import Recorder
from vitrea.records.wording import number_of, some_of

_CALIBRATION = 16  # micrographs, evenly spread, that tell the usual score
_DONE = (PICKED, BEFORE, NO_PICKS)
_CURVE_POINTS = 81


@dataclass(frozen=True)
class Task:
    """What is picked, and how.

    Attributes
    ----------
    parameters : PickParameters
    micrographs : Micrographs
    searcher : Searcher
    limits : Limits
    threshold : Threshold
    diameter : float
        Of the particle in Å, for pictures.
    classes : ndarray of int64, shape [references], optional
        ``rlnClassNumber`` of each reference; by default they count from 1.
    """

    parameters: PickParameters
    micrographs: Micrographs
    searcher: Searcher
    limits: Limits
    threshold: Threshold
    diameter: float
    classes: NDArray[np.int64] | None = None

    @property
    def names(self) -> Names:
        """Where files go."""
        return Names(self.parameters.output, self.parameters.pick_name)


@dataclass(frozen=True)
class Outcome:
    """What became of one micrograph: peaks in its maps, or why there are none."""

    row: int
    peaks: Peaks | None = None
    searched: Searched | None = None
    avoided: float = 0.0
    reason: str = ""


@dataclass(frozen=True)
class Look:
    """The search of a micrograph, heights of its peaks and what surrounds them ([peaks, 3]); or why there is none."""

    row: int
    searched: Searched | None = None
    heights: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    around: NDArray[np.float32] = field(default_factory=lambda: np.empty((0, 3), dtype=np.float32))
    reason: str = ""


def read_inputs(parameters: PickParameters) -> Micrographs:
    """Find the micrographs, with a pixel size.

    Raises
    ------
    InputError
        If there are none, or their pixel size is not known.
    """
    size = parameters.pixel_size
    if size is None and all(path.suffix.lower() != ".star" for path in parameters.input):
        first = expand_names(parameters.input)[0]
        size = read_movie_header(first).pixel_size
        if size in UNSET_PIXEL_SIZES:
            raise InputError(f"{first}: its header gives no pixel size; give --angpix")
    given = GivenOptics(size, parameters.voltage, parameters.spherical_aberration, parameters.amplitude_contrast)
    return open_micrographs([str(path) for path in parameters.input], given, require_optics=False)


def make_limits(parameters: PickParameters, diameter: float, pixel_size: float) -> Limits:
    """Return the limits that the parameters set, for a particle of a diameter in Å."""
    return Limits(
        distance=parameters.min_distance or 0.7 * diameter,
        edge=max(parameters.edge_distance, parameters.skip_side * pixel_size),
        avoid_high_variance=parameters.avoid_high_variance,
        avoid_abnormal_mean=parameters.avoid_abnormal_mean,
        largest_deviation=max(0.0, parameters.max_stddev_noise),
        smallest_mean=parameters.min_avg_noise,
    )


def run_picking(task: Task, context: Context) -> None:
    """Search all micrographs and write coordinates, maps, summaries and pictures.

    Raises
    ------
    InputError
        If two micrographs would share a file.
    JobError
        If no micrograph could be searched.
    """
    from vitrea.jobs.pick_report import draw_report

    names, recorder = task.names, context.recorder
    micrograph_names = [str(name) for name in task.micrographs.names]
    check_names(names, micrograph_names)
    tally = Tally()
    todo = _unfinished(task, tally, recorder)
    before = torch.get_num_threads()
    threads = task.parameters.threads or available_threads()
    torch.set_num_threads(max(1, before // threads))
    try:
        with ThreadPoolExecutor(threads) as pool:
            choice, usual, early = _calibrate(task, todo, pool, recorder)
            recorder.stage("picking", len(todo), "micrographs")
            for outcome in _outcomes(task, todo, early, usual, pool, 2 * threads):
                _keep(task, outcome, choice, tally, context)
                recorder.advance()
    finally:
        torch.set_num_threads(before)
    _finish(task, tally, choice, usual, context)
    draw_report(task, tally, choice, recorder)


def _unfinished(task: Task, tally: Tally, recorder: Recorder) -> list[int]:
    """Return the rows to be searched; others are counted."""
    todo = []
    for row, name in enumerate(task.micrographs.names):
        path = task.names.coordinates(str(name))
        if not (task.parameters.only_do_unfinished and path.is_file()):
            todo.append(row)
            continue
        table = read_coordinates(path)
        tally.counts[row] = len(table)
        merits = table.numbers(MERIT, 0.0)
        tally.merits[row] = float(merits.mean()) if len(table) else 0.0
        tally.avoided[row], tally.reasons[row] = 0.0, BEFORE
    if len(todo) < len(task.micrographs):
        recorder.event("text", text=f"{number_of(len(task.micrographs) - len(todo), 'micrograph')} picked before")
    return todo


def _calibrate(
    task: Task, todo: Sequence[int], pool: ThreadPoolExecutor, recorder: Recorder
) -> tuple[Choice, Usual, dict[int, Outcome]]:
    """Choose the threshold and learn what is usual around particles; return also what becomes of those looked at."""
    threshold, noise = task.threshold, task.parameters.lowest_score
    if task.parameters.only_do_unfinished and (before := read_calibration(task.names.of_job("_summary.star"))):
        choice, usual = before
        return threshold.choose(None, noise) if threshold.is_plain else choice, usual, {}
    places = np.unique(np.linspace(0, max(0, len(todo) - 1), min(_CALIBRATION, len(todo))).round().astype(int))
    some = [todo[place] for place in places]
    recorder.stage("calibrating", len(some), "micrographs")
    looked: list[Look] = []
    for look in pool.map(lambda row: _look(task, row), some):
        looked.append(look)
        recorder.advance()
    usual = usual_around_particles(
        np.concatenate([np.empty(0), *(look.heights for look in looked)]),
        np.concatenate([np.empty((0, 3), dtype=np.float32), *(look.around for look in looked)]),
        task.limits,
        threshold.lowest(noise),
    )
    early = {look.row: _outcome(task, look, usual) for look in looked}
    if threshold.is_plain:
        return threshold.choose(None, noise), usual, early
    heights = [outcome.peaks.heights for outcome in early.values() if outcome.peaks is not None]
    return threshold.choose(np.concatenate([*heights, np.empty(0)]), noise), usual, early


def _outcomes(
    task: Task, todo: Sequence[int], early: dict[int, Outcome], usual: Usual, pool: ThreadPoolExecutor, ahead: int
) -> Iterator[Outcome]:
    """Yield what becomes of each micrograph, in order, a few searches running ahead."""
    waiting: deque[Outcome | Future[Outcome]] = deque()
    for row in todo:
        waiting.append(early.pop(row) if row in early else pool.submit(_search, task, row, usual))
        if len(waiting) > ahead:
            yield _result(waiting.popleft())
    while waiting:
        yield _result(waiting.popleft())


def _result(outcome: Outcome | Future[Outcome]) -> Outcome:
    return outcome if isinstance(outcome, Outcome) else outcome.result()


def _search(task: Task, row: int, usual: Usual) -> Outcome:
    return _outcome(task, _look(task, row), usual)


def _look(task: Task, row: int) -> Look:
    """Search one micrograph; what is wrong with it becomes the reason why it is set aside."""
    parameters, lowest = task.parameters, task.threshold.lowest(task.parameters.lowest_score)
    name, pixel_size = str(task.micrographs.names[row]), float(task.micrographs.pixel_sizes[row])
    try:
        path = locate_image(task.micrographs, row)
        if parameters.read_maps:
            _, height, width = read_movie_header(path).shape
            searched = read_maps(task.names.maps(name), (height, width))
        else:
            searched = task.searcher.search(_read_pixels(path, parameters.invert), pixel_size, _transfer(task, row))
        if parameters.write_maps and not parameters.read_maps:
            write_maps(task.names.maps(name), searched, pixel_size)
        return Look(row, searched, *around_peaks(searched, task.limits, pixel_size, lowest))
    except (InputError, ValueError) as error:
        text = str(error)
        return Look(row, reason=text if name in text else f"{name}: {text}")


def _outcome(task: Task, look: Look, usual: Usual) -> Outcome:
    """Choose the peaks of a search, given what is usual around particles."""
    if look.searched is None:
        return Outcome(look.row, reason=look.reason)
    lowest = task.threshold.lowest(task.parameters.lowest_score)
    pixel_size = float(task.micrographs.pixel_sizes[look.row])
    peaks, share = candidates(look.searched, task.limits, pixel_size, lowest, usual)
    return Outcome(look.row, peaks, look.searched, share)


def _read_pixels(path: Path, invert: bool) -> NDArray[np.float32]:
    pixels = read_micrograph(path)
    return -pixels if invert else pixels


def _transfer(task: Task, row: int) -> Transfer | None:
    micrographs = task.micrographs
    if not (task.parameters.ctf and micrographs.has_ctf):
        return None
    optics = micrographs.optics[int(micrographs.optics_index[row])]
    if not optics.voltage > 0:
        return None
    defocus = torch.from_numpy(micrographs.defocus[row : row + 1])
    shift = torch.from_numpy(micrographs.phase_shifts[row : row + 1])
    intact = task.parameters.ctf_intact_first_peak

    def transfer(y: Tensor, x: Tensor) -> Tensor:
        return ctf(y, x, optics, defocus, shift, intact_first_peak=intact)[0]

    return transfer


def _keep(task: Task, outcome: Outcome, choice: Choice, tally: Tally, context: Context) -> None:
    """Write the picks of one micrograph and note them."""
    row, name = outcome.row, str(task.micrographs.names[outcome.row])
    tally.counts[row], tally.merits[row] = 0, 0.0
    tally.avoided[row], tally.reasons[row] = outcome.avoided, outcome.reason or PICKED
    if outcome.peaks is None or outcome.searched is None:
        context.recorder.warn(f"set aside: {outcome.reason}")
        return
    heights = outcome.peaks.heights
    tally.heights.append(heights[heights <= choice.upper])
    picks = outcome.peaks.rows((heights >= choice.floor) & (heights <= choice.upper))
    table = pick_table(picks, outcome.searched, choice.unit)
    if task.classes is not None:
        table = table.with_columns({CLASS: task.classes[table[CLASS] - 1]})
    write_picks(task.names.coordinates(name), table, context.command)
    tally.counts[row] = len(table)
    if len(table):
        tally.merits[row] = float(table[MERIT].mean())
    else:
        tally.reasons[row] = NO_PICKS


def threshold_curve(tally: Tally, choice: Choice) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return thresholds, in the unit of the figures of merit, and how many picks each leaves."""
    heights = np.concatenate([*tally.heights, np.empty(0)]) / choice.unit
    start = float(heights.min()) if len(heights) else 0.0
    thresholds = np.linspace(start, float(heights.max()) if len(heights) else 1.0, _CURVE_POINTS)
    return thresholds, picks_at_thresholds(heights, thresholds)


def _finish(task: Task, tally: Tally, choice: Choice, usual: Usual, context: Context) -> None:
    """Write the job's own files and tell what happened."""
    names, recorder = task.names, context.recorder
    micrographs = [str(name) for name in task.micrographs.names]
    done = [name for row, name in enumerate(micrographs) if tally.reasons.get(row) in _DONE]
    if not done:
        first = next(iter(tally.reasons.values()), "")
        raise JobError(f"no micrograph of {len(micrographs)} could be picked; the first: {first}")
    write_coordinate_files(
        names.of_job(".star"), {name: str(names.coordinates(name)) for name in done}, context.command
    )
    write_summary(names.of_job("_summary.star"), micrographs, tally, choice, usual, context.command)
    thresholds, counts = threshold_curve(tally, choice)
    write_threshold_curve(names.of_job("_thresholds.star"), thresholds, counts, context.command)
    empty = [name for row, name in enumerate(micrographs) if tally.reasons.get(row) == NO_PICKS]
    if empty:
        recorder.warn(f"no picks in {number_of(len(empty), 'micrograph')}: {some_of(empty)}")
    total, aside = sum(tally.counts.values()), len(micrographs) - len(done)
    text = f"{number_of(total, 'pick')} in {number_of(len(done), 'micrograph')}, {aside} set aside; {choice.text}"
    recorder.event("text", text=f"{text}: {names.of_job('.star')}")
