"""``vitrea import movies``: a checked list of movies with gain, defects and optics groups, for motion correction."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from vitrea.jobs.base import Context, Job, parameter
from vitrea.jobs.import_parameters import IGNORED_OPTIONS, ExposureParameters

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vitrea.formats.gain import GainOrientation
    from vitrea.formats.movies import MovieHeader
    from vitrea.records.micrographs import Movies
    from vitrea.records.recorder import Recorder

_CAMERA = "Camera"
_DOSE, _PRE_EXPOSURE = "rlnMicrographDoseRate", "rlnMicrographPreExposure"


class MovieImportParameters(ExposureParameters):
    """Import movies: MRC, TIFF as SerialEM and RELION compress it, EER.

    Headers of all files are read first, those of all pages of TIFF and EER. What is truncated, corrupt, or differs from
    most in size or number of frames is set aside and listed in movies_set_aside.star with the reason; the rest is
    written to movies.star.

    A gain reference is compared with what the camera counted: frames of some movies are summed, and all eight
    flips and rotations get a score, the correlation of the counts with the inverse of the gain. The best is taken,
    unless --gain_rot and --gain_flip say otherwise. A gain that had to be turned is written to gain.mrc, which RELION
    takes without further turning.
    """

    gain: Path | None = parameter(
        None, "Gain reference: MRC, TIFF, or a Falcon's .gain.", options=["--gainref"], tab=_CAMERA
    )
    gain_rotation: int | None = parameter(
        None,
        "Quarter turns of the gain, clockwise with the first row on top; by default what fits the movies best.",
        options=["--gain_rot"],
        tab=_CAMERA,
        ge=0,
        le=3,
    )
    gain_flip: int | None = parameter(
        None,
        "Then flip the gain: 0 no, 1 upside down, 2 left to right; by default what fits the movies best.",
        tab=_CAMERA,
        ge=0,
        le=2,
    )
    gain_movies: int = parameter(
        3, "Movies summed to find the orientation of the gain; 0: no test.", tab=_CAMERA, ge=0, expert=True
    )
    invert_gain: bool = parameter(
        False,
        "The gain divides where it should multiply, or multiplies where it should divide.",
        tab=_CAMERA,
        expert=True,
    )
    dose_per_frame: float = parameter(
        0.0,
        "Exposure of a frame, of EER movies of a frame as motion correction will group them; 0: not noted.",
        unit="e-/Å²",
        cistem="Exposure per frame",
        tab=_CAMERA,
        ge=0,
    )
    pre_exposure: float = parameter(
        0.0, "Exposure before the first frame.", unit="e-/Å²", options=["--preexposure"], tab=_CAMERA, ge=0
    )
    defects: Path | None = parameter(
        None,
        "Dead pixels: a text file with x y width height in each line, or an image that is not zero there.",
        options=["--defect_file"],
        tab=_CAMERA,
    )


def run(parameters: MovieImportParameters, context: Context) -> None:
    """Check, find the orientation of the gain, write.

    Raises
    ------
    InputError
        If no file can be used, or gain, defects or settings are missing or wrong.
    """
    from vitrea.jobs.import_exposures import import_exposures
    from vitrea.records.micrographs import Movies

    recorder = context.recorder

    def complete(movies: Movies, headers: Mapping[Path, MovieHeader], earlier: Movies | None) -> Movies:
        movies = _with_exposures(movies, parameters)
        movies = _with_camera_files(movies, parameters, dict(headers), recorder)
        return movies if earlier is None else _as_earlier(earlier, movies, recorder)

    import_exposures(Movies, parameters, recorder, complete)


def _with_exposures(movies: Movies, parameters: MovieImportParameters) -> Movies:
    """Note the exposures that are given for every movie."""
    import numpy as np

    given = {_DOSE: parameters.dose_per_frame, _PRE_EXPOSURE: parameters.pre_exposure}
    return movies.with_columns({label: np.full(len(movies), value) for label, value in given.items() if value})


def _with_camera_files(
    movies: Movies, parameters: MovieImportParameters, headers: dict[Path, MovieHeader], recorder: Recorder
) -> Movies:
    """Check gain and defects against the movies, write a turned gain, and note both files for every movie."""
    import numpy as np

    from vitrea.formats.gain import read_defects, write_gain
    from vitrea.formats.image_names import project_name
    from vitrea.jobs.import_gain import choose_gain
    from vitrea.jobs.map_inputs import make_folder
    from vitrea.records.errors import InputError

    names: dict[str, str] = {}
    first = next(iter(headers.values()))
    if (parameters.gain or parameters.defects) and len({header.shape[1:] for header in headers.values()}) > 1:
        raise InputError("the movies differ in size: one gain reference or defect list cannot fit; import them apart")
    if parameters.defects is not None:
        dead = read_defects(parameters.defects, (first.shape[1], first.shape[2]))
        recorder.event("text", text=f"{parameters.defects}: {dead.sum()} dead pixels ({dead.mean():.2%})")
        names[movies.DEFECTS] = project_name(parameters.defects)
    if parameters.gain is not None:
        chosen = choose_gain(
            parameters.gain, _given_orientation(parameters), headers, recorder,
            invert=parameters.invert_gain, movies=parameters.gain_movies,
        )  # fmt: skip
        path = parameters.gain
        if not chosen.as_it_is:
            path = parameters.output / "gain.mrc"
            make_folder(path)
            write_gain(path, chosen.gain, movies.optics[0].pixel_size, for_eer=first.kind == "EER")
        names[movies.GAIN] = project_name(path)
    return movies.with_columns({label: np.full(len(movies), name, dtype=object) for label, name in names.items()})


def _as_earlier(earlier: Movies, movies: Movies, recorder: Recorder) -> Movies:
    """Return the movies with the gain and defects of an earlier import, where none were given and that has one only."""
    import numpy as np

    for label, names in ((earlier.GAIN, earlier.gains), (earlier.DEFECTS, earlier.defects)):
        if label in movies.table or label not in earlier.table:
            continue
        if len(set(names)) > 1:
            recorder.warn(f"{earlier.source} names several files in {label}; the new movies get none: give theirs")
            continue
        recorder.event("text", text=f"{names[0]} is taken for the new movies, too")
        movies = movies.with_columns({label: np.full(len(movies), names[0], dtype=object)})
    return movies


def _given_orientation(parameters: MovieImportParameters) -> GainOrientation | None:
    from vitrea.formats.gain import GainOrientation

    if parameters.gain_rotation is None and parameters.gain_flip is None:
        return None
    return GainOrientation(parameters.gain_rotation or 0, parameters.gain_flip or 0)


JOB = Job(
    name="import movies",
    summary="Check movies and list them with gain, defects and the settings of the microscope.",
    parameters=MovieImportParameters,
    run=run,
    ignored_options=IGNORED_OPTIONS,
    examples=('vitrea import movies "Movies/*.tif" --gainref gain.mrc --angpix 0.885 --kV 200 --Cs 1.4 --Q0 0.1',),
)
