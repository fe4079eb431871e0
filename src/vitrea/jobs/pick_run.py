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

from vitrea.compute.devices import available_threads
from vitrea.formats.coordinates import MERIT, read_coordinates, write_coordinate_files
from vitrea.formats.micrograph_files import expand_names, locate_image, open_micrographs
from vitrea.formats.mrc import open_stack, read_header
from vitrea.jobs.base import Context
from vitrea.jobs.pick_files import (
    Names,
    check_names,
    pick_table,
    read_maps,
    read_usual_score,
    write_maps,
    write_picks,
    write_summary,
    write_threshold_curve,
)
from vitrea.jobs.pick_parameters import PickParameters
from vitrea.optics.ctf import ctf
from vitrea.picking.background import areas_to_avoid
from vitrea.picking.comparison import picks_at_thresholds
from vitrea.picking.peaks import Peaks
from vitrea.picking.picker import USUAL_FRACTION, Limits, Searched, Searcher, Transfer, candidates, usual_score
from vitrea.records.errors import InputError, JobError
from vitrea.records.micrographs import GivenOptics, Micrographs
from vitrea.records.recorder import Recorder

_CALIBRATION = 16  # micrographs, evenly spread, that tell the usual score
_UNSET = (0.0, 1.0)  # pixel sizes of headers that mean: not known
_CURVE_POINTS = 81
_CURVE_START = 0.75  # of the lowest score: the curve of picks against threshold begins below what is picked


@dataclass(frozen=True)
class Threshold:
    """From which score on a peak is a pick.

    Attributes
    ----------
    value : float or None
        In standard deviations, or a fraction of the usual score; None: 45% of the usual score.
    is_relative : bool
        Whether `value` is a fraction, and figures of merit are.
    adjust : float
        Added, in standard deviations of the peaks' heights (RELION's --LoG_adjust_threshold).
    upper : float
        Upper limit in the unit of `value`; 0: none.
    """

    value: float | None
    is_relative: bool
    adjust: float = 0.0
    upper: float = 0.0

    def lowest(self, noise: float) -> float:
        """Return the lowest score that may become a pick, where peaks below `noise` are noise."""
        return noise if self.value is None or self.is_relative else self.value


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
    """

    parameters: PickParameters
    micrographs: Micrographs
    searcher: Searcher
    limits: Limits
    threshold: Threshold
    diameter: float

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


@dataclass
class Tally:
    """What is known of all micrographs so far, by row."""

    counts: dict[int, int] = field(default_factory=dict)
    merits: dict[int, float] = field(default_factory=dict)
    avoided: dict[int, float] = field(default_factory=dict)
    reasons: dict[int, str] = field(default_factory=dict)
    heights: list[NDArray[np.float64]] = field(default_factory=list)


def read_inputs(parameters: PickParameters) -> Micrographs:
    """Find the micrographs, with a pixel size.

    Raises
    ------
    InputError
        If there are none, or their pixel size is not known.
    """
    size: float | None = parameters.pixel_size or None
    if size is None and all(path.suffix.lower() != ".star" for path in parameters.input):
        first = expand_names(parameters.input)[0]
        size = next((s for s in read_header(first).voxel_sizes[:1] if s not in _UNSET), None)
        if size is None:
            raise InputError(f"{first}: its header gives no pixel size; give --angpix")
    given = GivenOptics(
        size, parameters.voltage or None, parameters.spherical_aberration, parameters.amplitude_contrast or None
    )
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
            usual, early = _calibrate(task, todo, pool, recorder)
            floor = _floor(task, usual, early)
            recorder.stage("picking", len(todo), "micrographs")
            for outcome in _outcomes(task, todo, early, pool, 2 * threads):
                _keep(task, outcome, usual, floor, tally, context)
                recorder.advance()
    finally:
        torch.set_num_threads(before)
    _finish(task, tally, usual, floor, context)
    draw_report(task, tally, usual, floor, recorder)


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
        tally.avoided[row], tally.reasons[row] = 0.0, "picked before"
    if len(todo) < len(task.micrographs):
        recorder.event("text", text=f"{len(task.micrographs) - len(todo)} micrographs were picked before")
    return todo


def _calibrate(
    task: Task, todo: Sequence[int], pool: ThreadPoolExecutor, recorder: Recorder
) -> tuple[float, dict[int, Outcome]]:
    """Return the usual score of a particle, and the outcomes of the micrographs searched for it."""
    threshold = task.threshold
    if threshold.value is not None and not threshold.is_relative and not threshold.adjust:
        return 1.0, {}
    if task.parameters.only_do_unfinished:
        noted = read_usual_score(task.names.of_job("_summary.star"))
        if noted is not None:
            return noted, {}
    places = np.unique(np.linspace(0, len(todo) - 1, min(_CALIBRATION, len(todo))).round().astype(int))
    some = [todo[place] for place in places]
    recorder.stage("calibrating", len(some), "micrographs")
    early: dict[int, Outcome] = {}
    for outcome in pool.map(lambda row: _search(task, row), some):
        early[outcome.row] = outcome
        recorder.advance()
    heights = [outcome.peaks.heights for outcome in early.values() if outcome.peaks is not None]
    return usual_score(heights, task.parameters.lowest_score), early


def _floor(task: Task, usual: float, early: dict[int, Outcome]) -> float:
    """Return the score from which on a peak is a pick."""
    threshold, lowest = task.threshold, task.parameters.lowest_score
    if threshold.value is None:
        base = max(lowest, USUAL_FRACTION * usual)
    elif threshold.is_relative:
        base = max(lowest, threshold.value * usual)
    else:
        base = threshold.value
    if not threshold.adjust:
        return base
    heights = np.concatenate([o.peaks.heights for o in early.values() if o.peaks is not None] or [np.empty(0)])
    return base + threshold.adjust * (float(heights.std()) if len(heights) else 0.0)


def _outcomes(
    task: Task, todo: Sequence[int], early: dict[int, Outcome], pool: ThreadPoolExecutor, ahead: int
) -> Iterator[Outcome]:
    """Yield what becomes of each micrograph, in order, a few searches running ahead."""
    waiting: deque[Outcome | Future[Outcome]] = deque()
    for row in todo:
        waiting.append(early.pop(row) if row in early else pool.submit(_search, task, row))
        if len(waiting) > ahead:
            yield _result(waiting.popleft())
    while waiting:
        yield _result(waiting.popleft())


def _result(outcome: Outcome | Future[Outcome]) -> Outcome:
    return outcome if isinstance(outcome, Outcome) else outcome.result()


def _search(task: Task, row: int) -> Outcome:
    """Search one micrograph; what is wrong with it becomes the reason why it is set aside."""
    parameters = task.parameters
    name, pixel_size = str(task.micrographs.names[row]), float(task.micrographs.pixel_sizes[row])
    try:
        path = locate_image(task.micrographs, row)
        if parameters.read_maps:
            shape = read_header(path).shape
            searched = read_maps(task.names.maps(name), (shape[1], shape[2]))
        else:
            searched = task.searcher.search(_read_pixels(path, parameters.invert), pixel_size, _transfer(task, row))
        if parameters.write_maps and not parameters.read_maps:
            write_maps(task.names.maps(name), searched, pixel_size)
        lowest = _CURVE_START * min(parameters.lowest_score, task.threshold.lowest(parameters.lowest_score))
        peaks = candidates(searched, task.limits, pixel_size, lowest)
    except (InputError, ValueError) as error:
        text = str(error)
        return Outcome(row, reason=text if name in text else f"{name}: {text}")
    limits = task.limits
    avoid = areas_to_avoid(
        searched.around, high_variance=limits.avoid_high_variance, abnormal_mean=limits.avoid_abnormal_mean,
        largest_deviation=limits.largest_deviation, smallest_mean=limits.smallest_mean,
    )  # fmt: skip
    return Outcome(row, peaks, searched, float(avoid.mean()))


def _read_pixels(path: Path, invert: bool) -> NDArray[np.float32]:
    stack = open_stack(path)
    if len(stack) != 1:
        raise ValueError(f"it holds {len(stack)} images where one is expected; align the movie first")
    pixels = np.array(stack[0], dtype=np.float32)
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


def _keep(task: Task, outcome: Outcome, usual: float, floor: float, tally: Tally, context: Context) -> None:
    """Write the picks of one micrograph and note them."""
    row, name = outcome.row, str(task.micrographs.names[outcome.row])
    tally.counts[row], tally.merits[row] = 0, 0.0
    tally.avoided[row], tally.reasons[row] = outcome.avoided, outcome.reason or "picked"
    if outcome.peaks is None or outcome.searched is None:
        context.recorder.warn(f"set aside: {outcome.reason}")
        return
    scale = usual if task.threshold.is_relative else 1.0
    upper = task.threshold.upper * scale or np.inf
    heights = outcome.peaks.heights
    tally.heights.append(heights[heights <= upper])
    picks = outcome.peaks.rows((heights >= floor) & (heights <= upper))
    table = pick_table(picks, outcome.searched, scale)
    write_picks(task.names.coordinates(name), table, context.command)
    tally.counts[row] = len(table)
    if len(table):
        tally.merits[row] = float(table[MERIT].mean())
    else:
        tally.reasons[row] = "no picks"


def threshold_curve(task: Task, tally: Tally, usual: float) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return thresholds, in the unit of the figures of merit, and how many picks each leaves."""
    scale = usual if task.threshold.is_relative else 1.0
    heights = np.concatenate([*tally.heights, np.empty(0)]) / scale
    lowest = task.parameters.lowest_score / scale
    top = float(heights.max()) if len(heights) else 2 * lowest
    thresholds = np.linspace(min(lowest, float(heights.min()) if len(heights) else lowest), top, _CURVE_POINTS)
    return thresholds, picks_at_thresholds(heights, thresholds)


def _finish(task: Task, tally: Tally, usual: float, floor: float, context: Context) -> None:
    """Write the job's own files and tell what happened."""
    names, recorder = task.names, context.recorder
    rows = range(len(task.micrographs))
    done = [row for row in rows if names.coordinates(str(task.micrographs.names[row])).is_file()]
    done = [row for row in done if tally.reasons.get(row) in ("picked", "picked before", "no picks")]
    if not done:
        first = next(iter(tally.reasons.values()), "")
        raise JobError(f"none of {len(task.micrographs)} micrographs could be picked; the first: {first}")
    files = {str(task.micrographs.names[row]): str(names.coordinates(str(task.micrographs.names[row]))) for row in done}
    write_coordinate_files(names.of_job(".star"), files, context.command)
    scale = usual if task.threshold.is_relative else 1.0
    general = {"vitreaPickThreshold": floor / scale, "vitreaPickThresholdSigma": floor}
    if usual != 1.0:
        general["vitreaPickUsualScore"] = usual
    write_summary(
        names.of_job("_summary.star"), general, [str(task.micrographs.names[row]) for row in rows],
        [tally.counts.get(row, 0) for row in rows], [tally.merits.get(row, 0.0) for row in rows],
        [tally.avoided.get(row, 0.0) for row in rows], [tally.reasons.get(row, "") for row in rows], context.command,
    )  # fmt: skip
    thresholds, counts = threshold_curve(task, tally, usual)
    write_threshold_curve(names.of_job("_thresholds.star"), thresholds, counts, context.command)
    total = sum(tally.counts.values())
    aside = len(task.micrographs) - len(done)
    empty = [str(task.micrographs.names[row]) for row in done if not tally.counts[row]]
    if empty:
        recorder.warn(f"no picks in {len(empty)} micrographs: {', '.join(empty[:5])}{' ...' if empty[5:] else ''}")
    text = f"{total} picks in {len(done)} micrographs from {floor:.2f} sigma on"
    text += f" ({floor / usual:.2f} of the usual score, {usual:.1f})" if usual != 1.0 else ""
    recorder.event("text", text=f"{text}; {aside} micrographs set aside: {names.of_job('.star')}")
