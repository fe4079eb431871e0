"""The classes of a job judged by themselves: scores, reasons, a gallery, and the averages that are kept."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vitrea.formats.image_names import join_image_name
from vitrea.formats.mrc import read_map, write_stack
from vitrea.formats.star import write_star
from vitrea.formats.star_values import text_column
from vitrea.jobs.class_results import CLASS_LABEL, REFERENCE_LABEL, ClassResults, read_class_results
from vitrea.jobs.map_inputs import make_folder
from vitrea.jobs.select_inputs import SelectionInput
from vitrea.records.errors import InputError, JobError
from vitrea.records.recorder import Recorder
from vitrea.records.table import Table
from vitrea.selection.class_score import ClassScores, score_classes, score_maps
from vitrea.selection.criteria import in_spans, parse_spans

_SCORE_LABEL = "rlnClassScore"
_ALL_WELL, _WELL = "nothing speaks against it", 0.9  # and the score from which on this is said


@dataclass(frozen=True)
class ClassChoice:
    """Which classes of a job are kept.

    Attributes
    ----------
    results : ClassResults
    scores : ClassScores or None
        None where classes were named, not judged.
    kept : ndarray of bool, shape [classes]
    """

    results: ClassResults
    scores: ClassScores | None
    kept: NDArray[np.bool_]

    @property
    def numbers(self) -> NDArray[np.int64]:
        """Numbers of the classes kept, from 1."""
        return np.asarray(np.flatnonzero(self.kept) + 1)


def choose_classes(
    chosen: SelectionInput, minimum: float | None, spans: str, diameter: float, recorder: Recorder
) -> ClassChoice:
    """Read the classes of a job and choose among them.

    Parameters
    ----------
    chosen : SelectionInput
    minimum : float or None
        Score from which on a class is kept; None: classes are not judged.
    spans : str
        Classes to choose among, ``1,3,5-8``; empty: all.
    diameter : float
        Of the mask in Å; 0: that of the job.
    recorder : Recorder

    Raises
    ------
    InputError
        If the input is not one set of a class job, or its files are damaged.
    """
    if len(chosen.runs) != 1:
        raise InputError("--auto and --class_averages take the files of one class job, not of several")
    (found,) = chosen.runs
    if not found.models:
        raise InputError(
            f"{found.particles} has no model file of a class job beside it, which --auto and --class_averages need"
        )
    results = read_class_results(found, chosen.particles, diameter, recorder)
    classes = len(results.table)
    kept = np.ones(classes, dtype=bool)
    if spans:
        try:
            kept = in_spans(np.arange(1.0, classes + 1), parse_spans(spans))
        except ValueError as error:
            raise InputError(f"--classes {spans}: {error}") from None
    scores = None
    if minimum is not None:
        scores = _score(results)
        kept = kept & (scores.scores >= minimum)
    return ClassChoice(results, scores, kept)


def _score(results: ClassResults) -> ClassScores:
    if results.averages is not None:
        try:
            return score_classes(results.averages)
        except ValueError as error:
            raise InputError(f"{results.model}: {error}") from None
    if len(results.table) == 1:
        raise InputError(f"{results.model} holds a single map: --auto has nothing to choose among")
    return score_maps(results.share, results.resolution, int(results.counts.sum()))


def report_choice(choice: ClassChoice, minimum: float, recorder: Recorder) -> None:
    """Say of each class that was judged and dropped why."""
    if choice.scores is None:
        return
    scores, counts = choice.scores.scores, choice.results.counts
    for place in np.flatnonzero(~choice.kept):
        reason = choice.scores.reasons[place] if scores[place] < minimum else "not among --classes"
        text = f"class {place + 1} dropped: score {scores[place]:.2f}, {counts[place]} particles: {reason}"
        recorder.event("text", text=text)


def require_some(choice: ClassChoice, minimum: float, gallery: Path) -> None:
    """Raise JobError where no class is good enough: nothing went wrong but the classification."""
    if choice.kept.any() or choice.scores is None:
        return
    best = int(np.argmax(choice.scores.scores))
    raise JobError(
        f"no class of {choice.results.model} scores {minimum:g} or more: class {best + 1} is the best with "
        f"{choice.scores.scores[best]:.2f} ({choice.scores.reasons[best]}); no particles were written, see {gallery}"
    )


def write_scores(path: Path, choice: ClassChoice, *, comment: str) -> None:
    """Write a table with a row for each class: score, reason, every criterion (0: as junk has it, 1: as particles)."""
    if choice.scores is None:
        raise ValueError("classes were not judged")
    results, scores = choice.results, choice.scores
    columns: dict[str, object] = {
        CLASS_LABEL: np.arange(1, len(results.table) + 1),
        _SCORE_LABEL: scores.scores,
        "vitreaKept": choice.kept.astype(np.int64),
        "vitreaParticles": results.counts,
        "rlnClassDistribution": results.share,
        "rlnEstimatedResolution": results.resolution,
    }
    columns |= {f"vitreaScore{name.capitalize()}": values for name, values in scores.criteria.items()}
    reasons = zip(scores.scores.tolist(), scores.reasons, strict=True)
    columns["vitreaReason"] = text_column([_ALL_WELL if score >= _WELL else reason for score, reason in reasons])
    columns[REFERENCE_LABEL] = results.table[REFERENCE_LABEL]
    make_folder(path)
    write_star(path, {"class_scores": Table({label: np.asarray(column) for label, column in columns.items()})}, comment)


def write_gallery(path: Path, choice: ClassChoice) -> None:
    """Draw class averages with their scores, what is dropped in a broken frame; or slices and projections of maps."""
    from vitrea.report.figures import class_gallery, class_maps
    from vitrea.report.png import save_png

    results = choice.results
    known = (results.pixel_size, results.share, results.counts, results.resolution)
    if results.averages is None:
        figure = class_maps([read_map(file).voxels for file, _ in results.files], *known)
    else:
        scores = None if choice.scores is None else choice.scores.scores
        figure = class_gallery(results.averages.images, *known, scores, choice.kept, results.averages.diameter)
    make_folder(path)
    save_png(figure, path)


def write_class_averages(path: Path, choice: ClassChoice, *, comment: str) -> None:
    """Write the table of the classes kept, as RELION's ``class_averages.star``, with a stack of their averages.

    Averages go to ``<path without .star>.mrcs``; maps stay where they are.
    """
    results = choice.results
    table = results.table.rows(choice.kept)
    make_folder(path)
    if results.averages is not None:
        stack = path.with_suffix(".mrcs")
        write_stack(stack, results.averages.images[choice.kept], results.pixel_size)
        names = [join_image_name(str(stack), index) for index in range(len(table))]
        table = table.with_columns({REFERENCE_LABEL: text_column(names)})
    table = table.with_columns({CLASS_LABEL: choice.numbers})
    if choice.scores is not None:
        table = table.with_columns({_SCORE_LABEL: choice.scores.scores[choice.kept]})
    write_star(path, {"": table}, comment)
