"""What a motion correction writes: sums, motion and a picture for each movie; the list and a report for all."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from vitrea.formats.micrograph_files import write_micrographs
from vitrea.formats.motion_files import write_motion
from vitrea.formats.mrc import write_stack
from vitrea.formats.star_values import text_column
from vitrea.jobs.base import Context
from vitrea.jobs.map_inputs import make_folder
from vitrea.jobs.motion import MotionParameters
from vitrea.jobs.motion_inputs import MovieTask
from vitrea.jobs.set_aside import SetAside, write_set_aside
from vitrea.motion.correction import CorrectedMovie
from vitrea.records.micrographs import Micrographs, Movies
from vitrea.records.movie_motion import MovieMotion
from vitrea.records.table import Table
from vitrea.records.wording import number_of, some_of

_NAMED = 5  # movies named in a summary line


def _endings(parameters: MotionParameters) -> list[str]:
    """Return the endings of the files that each movie leaves, the main sum first."""
    endings = [".mrc", ".star"]
    if parameters.dose_weighting and parameters.save_no_dw:
        endings.append("_noDW.mrc")
    if parameters.grouping_for_ps > 0:
        endings.append("_PS.mrc")
    return endings


def is_finished(task: MovieTask, parameters: MotionParameters) -> bool:
    """Tell whether an earlier run has left all results of a movie that are wanted."""
    return all(task.file(ending).is_file() for ending in _endings(parameters))


def movie_motion(
    task: MovieTask, corrected: CorrectedMovie, detector_files: tuple[str, str], parameters: MotionParameters
) -> MovieMotion:
    """Return the motion of a movie as it is written."""
    rows, columns = corrected.shape
    shifts = np.full((corrected.frames, 2), np.nan)
    first = corrected.first - 1
    shifts[first : first + len(corrected.alignment.shifts)] = corrected.alignment.shifts
    is_eer = task.name.lower().endswith(".eer")
    return MovieMotion(
        movie=task.name,
        frames=corrected.frames,
        rows=rows,
        columns=columns,
        first_frame=corrected.first,
        pixel_size=task.optics.pixel_size,
        binning=parameters.bin_factor,
        shifts=shifts,
        coefficients=None if corrected.local is None else corrected.local.coefficients,
        hot_pixels=corrected.hot,
        patch_shifts=_patch_shifts(corrected),
        exposure_per_frame=task.exposure_per_frame or -1.0,
        pre_exposure=task.pre_exposure if task.exposure_per_frame else -1.0,
        voltage=task.optics.voltage,
        gain=detector_files[0],
        defects=detector_files[1],
        eer_upsampling=parameters.eer_upsampling if is_eer else 0,
        eer_grouping=parameters.eer_grouping if is_eer else 0,
    )


def _patch_shifts(corrected: CorrectedMovie) -> NDArray[np.float64]:
    """Return frame, place and shift of every patch that could be followed, relative to its first frame."""
    tracks = corrected.trajectories
    if tracks is None or not tracks.converged.any():
        return np.empty((0, 5))
    rows, columns = corrected.shape
    centres = (tracks.centres[tracks.converged] + 0.5) * (columns, rows)
    shifts = tracks.shifts[tracks.converged]
    shifts = shifts - shifts[:, :1]
    frames = np.broadcast_to(np.floor(tracks.times) + corrected.first, shifts.shape[:2])
    places = np.broadcast_to(centres[:, None], shifts.shape)
    return np.concatenate([frames[..., None], places, shifts], axis=2).reshape(-1, 5)


def write_results(
    task: MovieTask, corrected: CorrectedMovie, motion: MovieMotion, parameters: MotionParameters, comment: str
) -> None:
    """Write the results of one movie; the main sum last, so that where it is, all is there.

    Raises
    ------
    InputError
        If a file cannot be written.
    """
    from vitrea.report.figures.motion import motion_tracks
    from vitrea.report.png import save_png

    make_folder(task.stem)
    sums = corrected.sums
    mode: Literal[2, 12] = 12 if parameters.float16 else 2
    write_motion(task.file(".star"), motion, comment)
    save_png(motion_tracks(motion), task.file(".png"), dpi=100)
    if sums.spectrum is not None:
        write_stack(task.file("_PS.mrc"), sums.spectrum.numpy(), sums.spectrum_pixel)
    main, other = (sums.weighted, sums.plain) if parameters.dose_weighting else (sums.plain, None)
    if other is not None:
        write_stack(task.file("_noDW.mrc"), other.numpy(), corrected.pixel_size, mode)
    if main is not None:
        write_stack(task.file(".mrc"), main.numpy(), corrected.pixel_size, mode)


def micrograph_row(task: MovieTask, motion: MovieMotion, parameters: MotionParameters) -> dict[str, object]:
    """Return what the list of micrographs says of one."""
    total, early, late = motion.accumulated(parameters.dose_motionstats_cutoff)
    row: dict[str, object] = {}
    endings = _endings(parameters)
    if "_PS.mrc" in endings:
        row["rlnCtfPowerSpectrum"] = str(task.file("_PS.mrc"))
    if "_noDW.mrc" in endings:
        row["rlnMicrographNameNoDW"] = str(task.file("_noDW.mrc"))
    row["rlnMicrographName"] = str(task.file(".mrc"))
    row["rlnMicrographMetadata"] = str(task.file(".star"))
    row["rlnOpticsGroup"] = task.optics.group
    row |= {"rlnAccumMotionTotal": total, "rlnAccumMotionEarly": early, "rlnAccumMotionLate": late}
    return row


def write_summary(
    parameters: MotionParameters,
    movies: Movies,
    tasks: list[MovieTask],
    rows: list[dict[str, object]],
    motions: list[MovieMotion],
    set_aside: list[SetAside],
    context: Context,
) -> None:
    """Write the list of micrographs, that of movies set aside, and the report; say how it went."""
    folder = parameters.output
    report = folder / "set_aside.star"
    write_set_aside(report, Movies.name_label, set_aside, context.command)
    if set_aside:
        names, total = some_of([one.name for one in set_aside]), number_of(len(movies), "movie")
        context.recorder.warn(f"set aside {len(set_aside)} of {total}: {names}; {report} says why")
    if not rows:
        return
    lengths = Counter(motion.frames for motion in motions)
    usual = lengths.most_common(1)[0][0]
    odd = [f"{motion.movie} ({motion.frames})" for motion in motions if motion.frames != usual]
    if odd:
        count = number_of(len(odd), "movie")
        context.recorder.warn(f"{count} without the {usual} frames that the others have: {some_of(odd)}")
    path = folder / "corrected_micrographs.star"
    write_micrographs(path, _micrographs(parameters, movies, tasks, rows), comment=context.command)
    _write_report(folder, motions, rows, set_aside, context)
    context.recorder.event(
        "text", text=f"{path}: {number_of(len(rows), 'micrograph')}; motion in {folder / 'report.html'}"
    )


def _micrographs(
    parameters: MotionParameters, movies: Movies, tasks: list[MovieTask], rows: list[dict[str, object]]
) -> Micrographs:
    """Return the list of micrographs; columns of the movies that are not of this job's making stay."""
    base = movies.table.rows(np.array([task.row for task in tasks])).without(Movies.GAIN, Movies.DEFECTS)
    new = {
        label: text_column([str(row[label]) for row in rows])
        if isinstance(rows[0][label], str)
        else np.array([row[label] for row in rows])
        for label in rows[0]
    }
    factor = 2 / (parameters.distortion_major + parameters.distortion_minor)
    optics = tuple(
        replace(
            group,
            pixel_size=group.pixel_size * parameters.bin_factor * factor,
            original_pixel_size=group.pixel_size,
        )
        for group in movies.optics
    )
    table = Table({**new, **{name: column for name, column in base.columns.items() if name not in new}})
    return Micrographs(table, optics, optics_table=movies.optics_table)


def _write_report(
    folder: Path,
    motions: list[MovieMotion],
    rows: list[dict[str, object]],
    set_aside: list[SetAside],
    context: Context,
) -> None:
    from vitrea.report.figures.motion import all_tracks
    from vitrea.report.figures.statistics import histogram
    from vitrea.report.page import Section, write_page

    totals = np.array([float(str(row["rlnAccumMotionTotal"])) for row in rows])
    early = np.array([float(str(row["rlnAccumMotionEarly"])) for row in rows])
    worst = np.argsort(-totals)[:_NAMED]
    lead = f"{number_of(len(rows), 'movie')} corrected; the specimen moved {np.median(totals):.1f} Å in the median one."
    figures = [
        (all_tracks(motions), "Whole-frame motion of all movies from their first frame, at 0."),
        (histogram(totals, "length of the motion (Å)"), "Length of the whole-frame motion."),
    ]
    if early.any():
        figures.append((histogram(early, "early motion (Å)"), "Length of the motion in the first frames."))
    facts = {motions[i].movie: f"{totals[i]:.1f} Å" for i in worst}
    sections = [
        Section("Motion", "", {}, figures),
        Section("Movies that moved most", "Their pictures lie beside their sums.", facts),
    ]
    if set_aside:
        sections.append(Section("Set aside", "", {one.name: one.reason for one in set_aside}))
    sections.append(Section("Command", code=context.command))
    write_page(folder / "report.html", "Motion correction", lead, sections)
