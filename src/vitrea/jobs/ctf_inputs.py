"""What a CTF estimation reads: which images, of which optics, and where their results go."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from vitrea.formats.image_names import locate_file, place_in_job
from vitrea.formats.micrograph_files import open_micrographs, open_movies
from vitrea.formats.star import read_star
from vitrea.jobs.ctf import CtfParameters
from vitrea.records.errors import InputError
from vitrea.records.micrographs import GivenOptics, Micrographs, Movies
from vitrea.records.optics import Optics
from vitrea.records.table import Table

_SPECTRUM_LABELS = ("rlnCtfPowerSpectrum", "rlnMicrographPowerSpectrum")
_NO_DW = "rlnMicrographNameNoDW"


@dataclass(frozen=True)
class Shot:
    """One image to fit a CTF to.

    Attributes
    ----------
    row : int
        Row of its micrograph or movie.
    name : str
        Its micrograph's name.
    path : Path
        The file to read.
    kind : str
        "micrograph", "movie" or "spectrum".
    optics : Optics
    root : Path
        Start of the names of its result files.
    gain, defects : str
        Files to correct a movie's frames with; "" for none.
    """

    row: int
    name: str
    path: Path
    kind: Literal["micrograph", "movie", "spectrum"]
    optics: Optics
    root: Path
    gain: str = ""
    defects: str = ""


@dataclass(frozen=True)
class Problem:
    """A micrograph that is set aside, and why."""

    row: int
    name: str
    reason: str


@dataclass(frozen=True)
class CtfInput:
    """Everything a CTF estimation works on.

    Attributes
    ----------
    exposures : Micrographs or Movies
    shots : list of Shot
    problems : list of Problem
        What is set aside already.
    star : Path
        The STAR file to write.
    folder : Path
        Folder of the result files.
    """

    exposures: Micrographs | Movies
    shots: list[Shot]
    problems: list[Problem]
    star: Path
    folder: Path


def read_ctf_input(parameters: CtfParameters) -> CtfInput:
    """Read the list of images; one that is not there is set aside.

    Raises
    ------
    InputError
        If the list cannot be read, lacks what is asked for, or two micrographs would share result files.
    """
    exposures = _open(parameters)
    star = parameters.output
    folder = star.with_suffix("")
    if star.suffix != ".star":
        star, folder = star / "micrographs_ctf.star", star
    shots: list[Shot] = []
    problems: list[Problem] = []
    optics = [exposures.optics[index] for index in exposures.optics_index.tolist()]
    roots, label = _roots(exposures, folder), _column(exposures, parameters)
    for row, name in enumerate(str(each) for each in exposures.names):
        try:
            shots.append(_shot(exposures, row, label, optics[row], roots[row], parameters))
        except InputError as error:
            problems.append(Problem(row, name, str(error)))
    return CtfInput(exposures, shots, problems, star, folder)


def _open(parameters: CtfParameters) -> Micrographs | Movies:
    pixel_size = parameters.pixel_size or None
    if parameters.magnification:
        pixel_size = parameters.detector_pixel * 1e4 / parameters.magnification
    given = GivenOptics(pixel_size, parameters.voltage, parameters.spherical_aberration, parameters.amplitude_contrast)
    inputs = list(parameters.input)
    if parameters.movies or _is_movie_star(inputs):
        return open_movies(inputs, given)
    return open_micrographs(inputs, given)


def _is_movie_star(inputs: list[str]) -> bool:
    if len(inputs) != 1 or Path(inputs[0]).suffix != ".star":
        return False
    tables = [block for block in read_star(inputs[0]).values() if isinstance(block, Table)]
    labels = {label for table in tables for label in table}
    return "rlnMicrographMovieName" in labels and "rlnMicrographName" not in labels


def _roots(exposures: Micrographs | Movies, folder: Path) -> list[Path]:
    """Return the start of each micrograph's result files: its name in the folder, without that of the job before.

    Raises
    ------
    InputError
        If two are the same.
    """
    owners: dict[Path, str] = {}
    for name in (str(each) for each in exposures.names):
        root = folder / place_in_job(name).with_suffix("")
        if root in owners:
            raise InputError(f"the results of {owners[root]} and {name} would both be called {root}: rename one")
        owners[root] = name
    return list(owners)


def _column(exposures: Micrographs | Movies, parameters: CtfParameters) -> str:
    """Return the column that names the images to read.

    Raises
    ------
    InputError
        If it is not there.
    """
    wanted: tuple[str, ...] = (exposures.name_label,)
    if parameters.use_given_ps:
        option, wanted = "--use_given_ps", _SPECTRUM_LABELS
    elif parameters.use_no_dw:
        option, wanted = "--use_noDW", (_NO_DW,)
    for label in wanted:
        if label in exposures.table:
            return label
    raise InputError(f"{option}: {exposures.source or 'a list of images'} has no column {wanted[0]}")


def _shot(
    exposures: Micrographs | Movies, row: int, label: str, optics: Optics, root: Path, parameters: CtfParameters
) -> Shot:
    name, file, where = str(exposures.names[row]), str(exposures.table[label][row]), exposures.image_root
    if isinstance(exposures, Movies):
        gain, defects = (_found(str(names[row]), where) for names in (exposures.gains, exposures.defects))
        return Shot(row, name, locate_file(file, where, "movie", label), "movie", optics, root, gain, defects)
    if parameters.movie_thon_rings:
        file = str(Path(file).with_suffix("")) + parameters.movie_rootname
        return Shot(row, name, locate_file(file, where, "movie", label), "movie", optics, root)
    is_spectrum = parameters.use_given_ps or parameters.amplitude_spectra
    kind: Literal["spectrum", "micrograph"] = "spectrum" if is_spectrum else "micrograph"
    return Shot(row, name, locate_file(file, where, kind, label), kind, optics, root)


def _found(name: str, root: Path | None) -> str:
    return str(locate_file(name, root, "gain reference", "rlnMicrographGainName")) if name else ""
