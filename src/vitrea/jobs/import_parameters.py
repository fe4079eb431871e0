"""What the import jobs share: the microscope's settings, and what to do with files that are odd."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from vitrea.jobs.base import JobParameters, parameter

_OPTICS = "Optics group"
_CHECKS = "Checks"

IGNORED_OPTIONS = {
    "--do_movies": "the command says what is imported",
    "--do_micrographs": "the command says what is imported",
    "--do_coordinates": "the command says what is imported",
    "--do_particles": "the command says what is imported",
    "--do_other": "the command says what is imported",
    "--ofile=": "files have the names that their jobs give them",
    "--pipeline_control=": "there is no RELION pipeline",
}


class ImportParameters(JobParameters):
    """Files and where the list of them goes."""

    input: tuple[str, ...] = parameter(
        (), 'Files, folders, or patterns in quotes ("Movies/*.tif", "**/*.eer").', options=["--i"], positional=True
    )
    output: Path = parameter(Path("Import"), "Folder to write to.", options=["--o", "--odir"])


class ExposureParameters(ImportParameters):
    """What the imports of movies and micrographs share."""

    pixel_size: float = parameter(
        0.0,
        "Pixel size of the images in the files; 0: as their headers have it.",
        unit="Å",
        options=["--angpix"],
        tab=_OPTICS,
        ge=0,
    )
    voltage: float = parameter(300.0, "Acceleration voltage.", unit="kV", options=["--kV"], tab=_OPTICS, gt=0)
    spherical_aberration: float = parameter(
        2.7, "Spherical aberration.", unit="mm", options=["--cs", "--Cs"], tab=_OPTICS, ge=0
    )
    amplitude_contrast: float = parameter(
        0.1, "Fraction of amplitude contrast.", options=["--q0", "--Q0"], tab=_OPTICS, ge=0, le=1
    )
    beam_tilt_x: float = parameter(
        0.0, "Beam tilt along x.", unit="mrad", options=["--beamtilt_x"], tab=_OPTICS, expert=True
    )
    beam_tilt_y: float = parameter(
        0.0, "Beam tilt along y.", unit="mrad", options=["--beamtilt_y"], tab=_OPTICS, expert=True
    )
    mtf: Path | None = parameter(
        None, "STAR file with the detector's MTF.", options=["--optics_group_mtf"], tab=_OPTICS
    )
    optics_group_name: str = parameter("opticsGroup1", "Name of the optics group.", tab=_OPTICS)
    group_by: str = parameter(
        "",
        "Regular expression whose bracketed part of the file name tells the optics group, one for each text found: "
        "_X([-+0-9]+Y[-+0-9]+)- for the image shifts in SerialEM's names. By default all files are one group.",
        tab=_OPTICS,
    )
    add_to: Path | None = parameter(
        None,
        "STAR file of an earlier import that these join: its optics groups and files come first in the new list.",
        tab=_OPTICS,
    )

    check_pixels: Literal["none", "ends", "all"] = parameter(
        "none",
        "Pixels to read: none (headers alone), ends (first and last frame) or all. Frames of zeros, NaN, and frames "
        "that cannot be decoded are found so.",
        tab=_CHECKS,
    )
    accept_any_size: bool = parameter(
        False, "Keep files that differ from most in size, type or number of frames.", tab=_CHECKS
    )
