"""Correct movies one after the other; the next is read, and the last one's results are written, meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vitrea.compute.devices import choose_device, set_threads
from vitrea.compute.memory import available_memory
from vitrea.formats.gain import FrameCorrection
from vitrea.formats.motion_files import read_motion
from vitrea.formats.movies import Movie
from vitrea.jobs.base import Context
from vitrea.jobs.map_inputs import make_folder
from vitrea.jobs.motion import MotionParameters
from vitrea.jobs.motion_files import is_finished, micrograph_row, movie_motion, write_results, write_summary
from vitrea.jobs.motion_inputs import Detector, MovieTask, frame_reader, open_task, read_motion_input
from vitrea.jobs.set_aside import SetAside
from vitrea.motion.alignment import AlignmentSettings
from vitrea.motion.correction import BadMovieError, CorrectedMovie, CorrectionSettings, correct_movie
from vitrea.motion.distortion import Distortion
from vitrea.motion.sums import Exposure
from vitrea.records.errors import InputError, JobError
from vitrea.records.micrographs import Movies
from vitrea.records.movie_motion import MovieMotion
from vitrea.records.wording import number_of

# RELION weights a correlation with exp(-2 B k²), k in 1/pixel; Unblur with exp(-B k² / 4), k in 1/Å.
_RELION_B = 8.0
# Part of the free memory for the frames of one movie as stored; there are two, one being read.
_READ_SHARE = 0.15


@dataclass(frozen=True)
class _Loaded:
    """A movie that is open, its frames in memory where they fit."""

    movie: Movie
    read: Callable[[int], NDArray[Any]]
    correction: FrameCorrection


def correct_movies(parameters: MotionParameters, context: Context) -> None:
    """Do what `jobs.motion.run` says."""
    recorder = context.recorder
    movies, tasks = read_motion_input(parameters)
    if (parameters.distortion_major == 1) != (parameters.distortion_minor == 1) and not parameters.distortion_angle:
        recorder.warn("--distortion_angle is 0: the larger magnification is taken to be along x")
    device = choose_device(parameters.device)
    set_threads(parameters.threads)
    detector = Detector(parameters, movies)
    make_folder(parameters.output / "any")
    motions: dict[int, MovieMotion] = {}
    todo = []
    for task in tasks:
        if parameters.only_do_unfinished and is_finished(task, parameters):
            motions[task.row] = read_motion(task.file(".star"))
        else:
            todo.append(task)
    if motions:
        recorder.event("text", text=f"done already: {len(motions)} of {number_of(len(tasks), 'movie')}")
    left_out = todo[parameters.do_at_most :] if parameters.do_at_most >= 0 else []
    todo = todo[: len(todo) - len(left_out)]
    set_aside = _correct_all(movies, todo, detector, parameters, device, motions, context)
    done = [task for task in tasks if task.row in motions]
    rows = [micrograph_row(task, motions[task.row], parameters) for task in done]
    write_summary(parameters, movies, done, rows, [motions[task.row] for task in done], set_aside, context)
    if not done and not left_out:
        first = f": {set_aside[0].sentence}" if set_aside else ""
        raise JobError(f"no movie could be corrected; {parameters.output / 'set_aside.star'} says why{first}")


def _correct_all(
    movies: Movies,
    tasks: list[MovieTask],
    detector: Detector,
    parameters: MotionParameters,
    device: torch.device,
    motions: dict[int, MovieMotion],
    context: Context,
) -> list[SetAside]:
    """Correct the movies, enter their motion, and return those that could not be corrected."""
    recorder = context.recorder
    set_aside: list[SetAside] = []
    recorder.stage("Correcting motion", len(tasks), "movies")
    with ThreadPoolExecutor(1) as writer:
        writing: Future[None] | None = None
        for task, loaded in _loaded(movies, tasks, detector, parameters):
            try:
                if isinstance(loaded, InputError):
                    raise loaded
                settings = _settings(parameters, task)
                with loaded.movie:
                    corrected = correct_movie(
                        loaded.read,
                        len(loaded.movie),
                        loaded.correction,
                        task.optics.pixel_size,
                        settings,
                        device,
                    )
            except (BadMovieError, InputError) as error:
                set_aside.append(SetAside(task.name, str(error)))
                recorder.warn(f"set aside: {set_aside[-1].sentence}")
                recorder.advance()
                continue
            motion = movie_motion(task, corrected, detector.files(task.row), parameters)
            motions[task.row] = motion
            if writing:
                writing.result()
            writing = writer.submit(write_results, task, _on_cpu(corrected), motion, parameters, context.command)
            _report(task, corrected, motion, parameters, context)
            recorder.advance()
        if writing:
            writing.result()
    return set_aside


def _loaded(
    movies: Movies, tasks: list[MovieTask], detector: Detector, parameters: MotionParameters
) -> Iterator[tuple[MovieTask, _Loaded | InputError]]:
    """Yield movies, each with what it takes to correct it, or with what is wrong; the next is read meanwhile."""

    def load(task: MovieTask) -> _Loaded | InputError:
        with ExitStack() as guard:
            try:
                movie = guard.enter_context(open_task(movies, task, parameters))
                count, rows, columns = movie.header.shape
                correction = detector.correction(task.row, (rows, columns))
                last = min(count, parameters.last_frame_sum) if parameters.last_frame_sum > 0 else count
                budget = _READ_SHARE * available_memory()
                read = frame_reader(movie, range(parameters.first_frame_sum - 1, last), budget)
            except InputError as error:
                return error
            guard.pop_all()  # it stays open for who corrects it
            return _Loaded(movie, read, correction)

    with ThreadPoolExecutor(1) as reader:
        ahead: Future[_Loaded | InputError] | None = None
        for number, task in enumerate(tasks):
            present = ahead or reader.submit(load, task)
            loaded = present.result()
            ahead = reader.submit(load, tasks[number + 1]) if number + 1 < len(tasks) else None
            yield task, loaded


def _settings(parameters: MotionParameters, task: MovieTask) -> CorrectionSettings:
    b_factor = parameters.b_factor
    if parameters.bfactor:
        b_factor = _RELION_B * parameters.bfactor * task.optics.pixel_size**2
    alignment = AlignmentSettings(
        b_factor=b_factor,
        minimum_shift=parameters.minimum_shift,
        maximum_shift=parameters.maximum_shift,
        threshold=parameters.threshold,
        max_iterations=parameters.max_iterations,
        smoothing=parameters.smoothing,
        smoothing_window=parameters.smoothing_window,
        running_average=parameters.running_average,
        vertical_mask=parameters.vertical_mask,
        horizontal_mask=parameters.horizontal_mask,
    )
    exposure = None
    if parameters.dose_weighting:
        exposure = Exposure(task.exposure_per_frame, task.pre_exposure, task.optics.voltage, parameters.restore_power)
    distortion = None
    if parameters.distortion_major != 1 or parameters.distortion_minor != 1:
        distortion = Distortion(parameters.distortion_angle, parameters.distortion_major, parameters.distortion_minor)
    return CorrectionSettings(
        alignment=alignment,
        patches=(parameters.patch_x, parameters.patch_y),
        group_frames=parameters.group_frames,
        bin_factor=parameters.bin_factor,
        first=parameters.first_frame_sum,
        last=max(0, parameters.last_frame_sum),
        find_hot=not parameters.skip_defect,
        plain=not parameters.dose_weighting or parameters.save_no_dw,
        exposure=exposure,
        spectrum_group=max(0, parameters.grouping_for_ps),
        spectrum_size=parameters.ps_size,
        distortion=distortion,
    )


def _on_cpu(corrected: CorrectedMovie) -> CorrectedMovie:
    sums = corrected.sums
    plain, weighted, spectrum = (
        None if one is None else one.cpu() for one in (sums.plain, sums.weighted, sums.spectrum)
    )
    return replace(corrected, sums=replace(sums, plain=plain, weighted=weighted, spectrum=spectrum))


def _report(
    task: MovieTask, corrected: CorrectedMovie, motion: MovieMotion, parameters: MotionParameters, context: Context
) -> None:
    total, early, _ = motion.accumulated(parameters.dose_motionstats_cutoff)
    figures: dict[str, object] = {
        "frames": int(np.isfinite(motion.shifts).all(axis=1).sum()),
        "iterations": corrected.alignment.iterations,
        "motion_angstrom": round(total, 2),
        "early_angstrom": round(early, 2),
        "hot_pixels": len(corrected.hot),
    }
    if corrected.trajectories is not None:
        figures["patches"] = int(corrected.trajectories.converged.sum())
        figures["residual_pixels"] = round(corrected.residual, 3)
    context.recorder.event("movie", movie=task.name, **figures)
    for note in corrected.notes:
        context.recorder.warn(f"{task.name}: {note}")
