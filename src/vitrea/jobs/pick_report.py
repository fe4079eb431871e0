"""The pictures of a picking job: micrographs with their picks, picks against threshold."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from vitrea.formats.coordinates import X, Y, read_coordinates
from vitrea.formats.micrograph_files import locate_image
from vitrea.formats.movies import read_micrograph
from vitrea.jobs.pick_files import NO_PICKS, PICKED
from vitrea.picking.field import reduce_micrograph
from vitrea.records.recorder import Recorder
from vitrea.records.wording import number_of
from vitrea.report.figures import marked_micrograph, threshold_curve_figure
from vitrea.report.png import save_png

if TYPE_CHECKING:
    from vitrea.jobs.pick_files import Tally
    from vitrea.jobs.pick_run import Task
    from vitrea.jobs.pick_threshold import Choice

_WIDTH = 900  # pixels of a micrograph's picture at most
_PER_PARTICLE = 30  # pixels of a particle's diameter at most: finer detail is noise


def draw_report(task: Task, tally: Tally, choice: Choice, recorder: Recorder) -> None:
    """Draw as many micrographs as asked for, evenly spread, and the threshold curve."""
    from vitrea.jobs.pick_run import threshold_curve

    names = task.names
    thresholds, counts = threshold_curve(tally, choice)
    unit = "figure of merit" if task.threshold.is_relative else "score (standard deviations of the background)"
    save_png(
        threshold_curve_figure(thresholds, counts, choice.floor / choice.unit, unit), names.of_job("_thresholds.png")
    )
    rows = [row for row, reason in sorted(tally.reasons.items()) if reason in (PICKED, NO_PICKS)]
    wanted = len(rows) if task.parameters.pictures < 0 else min(task.parameters.pictures, len(rows))
    chosen = np.unique(np.linspace(0, max(0, len(rows) - 1), wanted).round().astype(int)).tolist()
    recorder.stage("drawing", len(chosen), "micrographs")
    for place in chosen:
        _draw(task, rows[place])
        recorder.advance()


def _draw(task: Task, row: int) -> None:
    name, pixel_size = str(task.micrographs.names[row]), float(task.micrographs.pixel_sizes[row])
    pixels = read_micrograph(locate_image(task.micrographs, row))
    wanted = max(pixel_size * max(1.0, max(pixels.shape) / _WIDTH), task.diameter / _PER_PARTICLE)
    field = reduce_micrograph(pixels, pixel_size, wanted, 0.0)
    picks = read_coordinates(task.names.coordinates(name))
    factor = pixel_size / field.pixel_size
    places = np.stack([picks[X], picks[Y]], axis=1) * factor
    title = f"{name}: {number_of(len(picks), 'pick')}"
    figure = marked_micrograph(field.image.numpy(), places, task.diameter / field.pixel_size, field.pixel_size, title)
    save_png(figure, task.names.picture(name))
