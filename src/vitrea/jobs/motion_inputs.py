"""What a motion correction starts from: the movies, what is known of each, and the files it will leave."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vitrea.formats.gain import FrameCorrection, GainOrientation, read_frame_correction, read_gain, write_gain
from vitrea.formats.image_names import locate_file, place_in_job
from vitrea.formats.micrograph_files import locate_image, open_movies
from vitrea.formats.movies import EerRendering, Movie, open_movie
from vitrea.jobs.map_inputs import make_folder
from vitrea.jobs.motion import MotionParameters
from vitrea.motion.correction import FEWEST_FRAMES
from vitrea.optics.dose import voltage_factor
from vitrea.records.errors import InputError
from vitrea.records.micrographs import GivenOptics, Movies
from vitrea.records.optics import Optics

_DOSE, _PRE_EXPOSURE = "rlnMicrographDoseRate", "rlnMicrographPreExposure"


@dataclass(frozen=True)
class MovieTask:
    """One movie to correct.

    Attributes
    ----------
    row : int
        Of the movie table.
    name : str
        The movie's name as the STAR file has it.
    stem : Path
        Start of the names of its results, below the output folder.
    optics : Optics
    exposure_per_frame, pre_exposure : float
        e-/Å²; the first is 0 where it is not known.
    """

    row: int
    name: str
    stem: Path
    optics: Optics
    exposure_per_frame: float
    pre_exposure: float

    def file(self, ending: str) -> Path:
        """Return the name of one of its results: ``_noDW.mrc``, ``.star``."""
        return self.stem.with_name(self.stem.name + ending)


def read_motion_input(parameters: MotionParameters) -> tuple[Movies, list[MovieTask]]:
    """Read what movies there are, and check what can be checked without opening them.

    Raises
    ------
    InputError
        One sentence: no movies, no pixel size, no voltage, an exposure that is needed and not known, a range of too few
        frames, a list of defects that is not there, two movies whose results would have one name.
    """
    _check_options(parameters)
    from_star = len(parameters.input) == 1 and str(parameters.input[0]).lower().endswith(".star")
    if not from_star and not parameters.voltage:
        raise InputError("give the acceleration voltage with --voltage: movie files do not tell it")
    given = GivenOptics(
        pixel_size=parameters.pixel_size or None,
        voltage=parameters.voltage or None,
        spherical_aberration=None if from_star else parameters.spherical_aberration,
        amplitude_contrast=None if from_star else parameters.amplitude_contrast,
    )
    movies = open_movies(parameters.input, given, require_optics=False)
    rates = movies.table.numbers(_DOSE, 0.0)
    before = movies.table.numbers(_PRE_EXPOSURE, 0.0) + parameters.preexposure
    tasks, owners = [], dict[Path, str]()
    for row, name in enumerate(map(str, movies.names)):
        stem = parameters.output / output_name(name)
        if stem in owners:
            raise InputError(
                f"the results of {owners[stem]} and {name} would both be {stem}.mrc; rename one of the movies"
            )
        owners[stem] = name
        optics = movies.optics[int(movies.optics_index[row])]
        rate = parameters.dose_per_frame or float(rates[row])
        tasks.append(MovieTask(row, name, stem, optics, rate, float(before[row])))
    if parameters.dose_weighting:
        _check_exposures(tasks)
    return movies, tasks


def _check_options(parameters: MotionParameters) -> None:
    first, last = parameters.first_frame_sum, parameters.last_frame_sum
    if 0 < last < first + FEWEST_FRAMES - 1:
        raise InputError(
            f"--first_frame_sum {first} and --last_frame_sum {last} leave fewer than {FEWEST_FRAMES} frames, which an "
            "alignment needs"
        )
    if (parameters.gain_rot or parameters.gain_flip) and parameters.gainref is None:
        raise InputError("--gain_rot and --gain_flip turn the gain of --gainref; there is none")
    if parameters.defect_file is not None and not parameters.defect_file.is_file():
        raise InputError(f"--defect_file {parameters.defect_file} does not exist")


def output_name(movie: str) -> str:
    """Return the name of a movie's results without ending, as RELION makes it.

    The folder of the job that made the movie goes, dots become underscores, and of a name that leads out of the project
    only the last part is kept.
    """
    path = place_in_job(movie)
    return str(path.with_name(path.stem.replace(".", "_")))


def _check_exposures(tasks: list[MovieTask]) -> None:
    for task in tasks:
        if task.exposure_per_frame <= 0:
            raise InputError(
                f"--dose_weighting needs the exposure of a frame: give --dose_per_frame ({task.name} has no {_DOSE})"
            )
        try:
            voltage_factor(task.optics.voltage)
        except ValueError as error:
            raise InputError(f"--dose_weighting: {error} (optics group {task.optics.name})") from None


class Detector:
    """Gain references and dead pixels, read once each and fitted to the frames of movies.

    Parameters
    ----------
    parameters : MotionParameters
    movies : Movies
    """

    def __init__(self, parameters: MotionParameters, movies: Movies) -> None:
        self._parameters, self._movies = parameters, movies
        self._orientation = GainOrientation(parameters.gain_rot, parameters.gain_flip)
        self._last: tuple[object, FrameCorrection] | None = None
        self.gain_file = "" if parameters.gainref is None else str(parameters.gainref)
        if parameters.gainref is None:
            return
        gain = self._orientation.turn(read_gain(parameters.gainref, for_eer=self._is_eer(0)))
        if parameters.gain_rot or parameters.gain_flip:
            # Polishing reads the gain as the frames lie.
            self.gain_file = str(parameters.output / "gain.mrc")
            pixel = float(movies.pixel_sizes[0])
            make_folder(Path(self.gain_file))
            write_gain(self.gain_file, np.ascontiguousarray(gain), pixel, for_eer=self._is_eer(0))

    def _is_eer(self, row: int) -> bool:
        return str(self._movies.names[row]).lower().endswith(".eer")

    def files(self, row: int) -> tuple[str, str]:
        """Return the names of a movie's gain reference and list of dead pixels; empty for none."""
        gain = self.gain_file or str(self._movies.gains[row])
        defects = self._parameters.defect_file
        return gain, str(self._movies.defects[row]) if defects is None else str(defects)

    def correction(self, row: int, shape: tuple[int, int]) -> FrameCorrection:
        """Return what corrects the frames of a movie; the last one is kept, since movies mostly share it.

        Raises
        ------
        InputError
            If a file cannot be read, or does not fit the frames.
        """
        key = (*self.files(row), self._is_eer(row), shape)
        if self._last is None or self._last[0] != key:
            self._last = key, self._read(row, shape)
        return self._last[1]

    def _read(self, row: int, shape: tuple[int, int]) -> FrameCorrection:
        kinds = (("gain reference", Movies.GAIN), ("list of defects", Movies.DEFECTS))
        gain, defects = (
            locate_file(name, self._movies.image_root, *kind) if name else ""
            for name, kind in zip(self.files(row), kinds, strict=True)
        )
        return read_frame_correction(gain, defects, shape, for_eer=self._is_eer(row), seed=self._parameters.random_seed)


def open_task(movies: Movies, task: MovieTask, parameters: MotionParameters) -> Movie:
    """Open a movie; InputError if it is missing, truncated or corrupt."""
    eer = EerRendering(parameters.eer_grouping, parameters.eer_upsampling)
    return open_movie(locate_image(movies, task.row), eer)


def frame_reader(movie: Movie, numbers: range, budget: float) -> Callable[[int], NDArray[np.generic]]:
    """Return what gives frames of a movie: read at once where they fit into so many bytes, else when asked for."""
    _, rows, columns = movie.header.shape
    if len(numbers) * rows * columns * movie.header.dtype.itemsize > budget:
        return movie.read
    return {number: np.ascontiguousarray(movie.read(number)) for number in numbers}.__getitem__
