"""``vitrea simulate movie``: movies of particles in ice that drift, bend and fade, with the truth beside them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from vitrea.jobs.base import Context, Job, parameter
from vitrea.jobs.simulate_imaging import (
    ImagingParameters,
    Setup,
    ShotTruth,
    output_folders,
    prepare,
    summary,
    warn_if_full,
    write_landscape,
    write_truth,
)
from vitrea.records.wording import number_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from vitrea.records.micrographs import Movies
    from vitrea.simulate.motion import Motion
    from vitrea.simulate.shots import Shot

_FOLDER = "Movies"
_MOTION, _DETECTOR = "Motion", "Detector"
_FEW = 60.0  # electrons per pixel and frame that 8 bits hold, bright places and hot pixels included


class MovieParameters(ImagingParameters):
    """Simulate movies of particles in ice, as a counting detector without gain correction writes them.

    Writes into a folder: Movies/movie0001.tif ..., gain.mrc and movies.star (what an import would give), and the truth:
    truth.star (particles with coordinates, angles, defocus), truth_micrographs.star (the CTF of each), truth.mrc (the
    molecule in volts above ice), and Truth/movie0001.star ... (the shifts that undo the motion, whole and local, in
    RELION's terms; they are 0 in the first frame, to which coordinates refer).
    """

    frames: int = parameter(24, "Frames of a movie.", tab=_MOTION, ge=1)
    drift: float = parameter(
        20.0, "Way of the whole from the first frame to the last, fast at first.", unit="Å", tab=_MOTION, ge=0
    )
    local_motion: float = parameter(
        5.0, "Motion beyond that at the end, root mean square over the image.", unit="Å", tab=_MOTION, ge=0
    )
    format: Literal["tif", "mrc"] = parameter("tif", "Compressed TIFF, or MRC.", tab=_DETECTOR)
    gain: bool = parameter(True, "Pixels differ in sensitivity; gain.mrc corrects them.", tab=_DETECTOR)
    defects: int = parameter(
        0, "Bad pixels: half dead (gain 0), half hot (listed in defects.txt).", tab=_DETECTOR, ge=0
    )


def run(parameters: MovieParameters, context: Context) -> None:
    """Simulate and write.

    Raises
    ------
    InputError
        If inputs are missing or do not fit each other.
    """
    from vitrea.formats.micrograph_files import write_micrographs

    setup = prepare(parameters, context)
    images, truth = output_folders(parameters, _FOLDER)
    camera = _camera(parameters, setup)
    truths: list[ShotTruth] = []
    context.recorder.stage("Simulating", parameters.number * parameters.frames, "frames")
    for number in range(parameters.number):
        motion = _motion(parameters, setup, number)
        shot = setup.shooting.shot(number, motion)
        warn_if_full(context, parameters, shot)
        stem = f"movie{number + 1:04d}"
        path = images / f"{stem}.{parameters.format}"
        _write_movie(path, parameters, setup, shot, camera, context)
        metadata = truth / f"{stem}.star"
        _write_motion(metadata, path, parameters, setup, motion, camera)
        write_landscape(truth, stem, shot)
        snr = shot.signal_to_noise(setup.diameter)
        truths.append(ShotTruth(str(path), shot.lens, shot.particles, snr, str(metadata)))
    write_micrographs(parameters.output / "movies.star", _movies(parameters, setup, truths))
    write_truth(parameters.output, setup, truths)
    context.recorder.event(
        "text",
        text=f"{parameters.output}: {number_of(parameters.number, 'movie')} of "
        f"{number_of(parameters.frames, 'frame')}, {parameters.exposure / parameters.frames:.4g} e-/Å² each; "
        f"{summary(setup, truths)}",
    )


class _Camera:
    """Gain, or None where all pixels are alike; and where hot pixels are."""

    def __init__(self, gain: NDArray[np.float32] | None, hot: NDArray[np.int64]) -> None:
        self.gain, self.hot = gain, hot


def _camera(parameters: MovieParameters, setup: Setup) -> _Camera:
    """Draw the detector's pixels, and write gain and defects."""
    from vitrea.formats.mrc import write_stack
    from vitrea.simulate.detector import draw_defects, draw_gain

    size = setup.shooting.size
    dead, hot = draw_defects(parameters.seed, size, parameters.defects)
    gain = draw_gain(parameters.seed, size) if parameters.gain else np.ones(size, dtype=np.float32)
    gain.flat[dead] = 0
    if parameters.gain or len(dead):
        write_stack(_gain_name(parameters), gain, setup.optics.pixel_size)
    if len(hot):
        lines = [f"{place % size[1]} {place // size[1]} 1 1\n" for place in sorted(hot.tolist())]
        write_text(Path(_defects_name(parameters)), "".join(lines))
    return _Camera(gain if parameters.gain or len(dead) else None, hot)


def _motion(parameters: MovieParameters, setup: Setup, number: int) -> Motion:
    from vitrea.simulate.motion import draw_motion

    seed = (parameters.seed, number)
    return draw_motion(
        seed, parameters.frames, parameters.exposure, parameters.drift, parameters.local_motion, setup.optics.pixel_size
    )


def _write_movie(
    path: Path, parameters: MovieParameters, setup: Setup, shot: Shot, camera: _Camera, context: Context
) -> None:
    from vitrea.formats.movie_writing import write_movie

    def recorded() -> Iterator[NDArray[Any]]:
        exact = parameters.noise == "none"
        for frame in shot.expected(parameters.frames) if exact else shot.frames(parameters.frames, camera.gain):
            if not exact:
                frame.flat[camera.hot] = hot
            yield frame
            context.recorder.advance()

    per_frame = setup.shooting.imaging.counts / parameters.frames
    hot = round(10 * per_frame) + 10
    write_movie(path, recorded(), setup.optics.pixel_size, "uint8" if per_frame < _FEW and hot < 256 else "uint16")


def _write_motion(
    path: Path, movie: Path, parameters: MovieParameters, setup: Setup, motion: Motion, camera: _Camera
) -> None:
    """Write the shifts that undo a motion as a motion correction does."""
    from vitrea.formats.motion_files import write_motion
    from vitrea.records.movie_motion import MovieMotion

    rows, columns = setup.shooting.size
    truth = MovieMotion(
        movie=str(movie),
        frames=parameters.frames,
        rows=rows,
        columns=columns,
        first_frame=1,
        pixel_size=setup.optics.pixel_size,
        binning=1.0,
        shifts=-motion.drift,
        coefficients=-motion.local,
        hot_pixels=np.stack([camera.hot % columns, camera.hot // columns], axis=1),
        exposure_per_frame=parameters.exposure / parameters.frames,
        pre_exposure=parameters.pre_exposure,
        voltage=setup.optics.voltage,
        gain=_gain_name(parameters),
        defects=_defects_name(parameters),
    )
    write_motion(path, truth)


def _gain_name(parameters: MovieParameters) -> str:
    return str(parameters.output / "gain.mrc") if parameters.gain or parameters.defects else ""


def _defects_name(parameters: MovieParameters) -> str:
    return str(parameters.output / "defects.txt") if parameters.defects > 1 else ""


def _movies(parameters: MovieParameters, setup: Setup, shots: list[ShotTruth]) -> Movies:
    from vitrea.formats.star_values import text_column
    from vitrea.records.micrographs import Movies
    from vitrea.records.table import Table

    columns: dict[str, Any] = {
        Movies.name_label: text_column([shot.name for shot in shots]),
        "rlnOpticsGroup": np.full(len(shots), setup.optics.group),
    }
    for label, name in ((Movies.GAIN, _gain_name(parameters)), (Movies.DEFECTS, _defects_name(parameters))):
        if name:
            columns[label] = text_column([name] * len(shots))
    return Movies(Table(columns), (replace(setup.optics, image_size=0),))


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    from vitrea.formats.atomic import atomic_path

    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


JOB = Job(
    name="simulate movie",
    summary="Simulate movies of particles that move and fade, with the truth beside them.",
    parameters=MovieParameters,
    run=run,
    examples=(
        "vitrea simulate movie --map molecule.mrc --molecular_mass 150 --o Simulate --width 256 --particles 8 --frames "
        "8 --exposure 20 --drift 20 --local_motion 5",
    ),
)
