"""The parameters of ``vitrea extract``, and those of its image operations that ``vitrea preprocess`` shares."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from vitrea.jobs.base import JobParameters, parameter


class ImageParameters(JobParameters):
    """What is done to each image: rescale, window, normalise, invert."""

    scale: int = parameter(
        -1, "Rescale images to this size, by cropping or padding in Fourier space; -1: no.", unit="pixels", tab="Images"
    )
    window: int = parameter(
        -1, "Then window them to this size, about their centre; -1: no.", unit="pixels", tab="Images"
    )
    normalise: bool = parameter(
        False, "Bring the background to mean 0 and standard deviation 1.", options=["--norm"], tab="Images"
    )
    background_radius: float = parameter(
        -1,
        "Pixels farther than this from the centre are background, in pixels of the final images; "
        "-1: 37.5% of their box.",
        unit="pixels",
        options=["--bg_radius"],
        tab="Images",
    )
    ramp: bool = parameter(
        True, "Subtract the plane that fits the background best; --no-ramp: its mean only.", tab="Images", expert=True
    )
    white_dust: float = parameter(
        -1,
        "Replace pixels brighter than this, in standard deviations of the background, by noise; -1: none.",
        tab="Images",
    )
    black_dust: float = parameter(-1, "The same for pixels that are darker.", tab="Images")
    invert_contrast: bool = parameter(False, "Make black particles white.", tab="Images")
    float16: bool = parameter(False, "Write 16-bit floats: half the disk space.", tab="Images")
    random_seed: int = parameter(1, "Seed of the noise that replaces dust.", tab="Images", ge=0, expert=True)


class ExtractSource(JobParameters):
    """Where particles are extracted from, and where to."""

    input: tuple[Path, ...] = parameter(
        ..., "STAR file of micrographs, e.g. micrographs_ctf.star; or images, folders or globs.", options=["--i"]
    )
    output: Path = parameter(Path("Particles"), "Folder to write to.", options=["--part_dir", "--o"])
    star: Path | None = parameter(
        None, "STAR file of all particles; by default particles.star in that folder.", options=["--part_star"]
    )
    coordinate_list: Path | None = parameter(
        None,
        "STAR file that names the coordinate file of each micrograph, or that holds the coordinates of all.",
        options=["--coord_list"],
        tab="Coordinates",
    )
    coordinate_folder: Path | None = parameter(
        None,
        "Folder of the coordinate files; by default that of each micrograph.",
        options=["--coord_dir"],
        tab="Coordinates",
    )
    coordinate_suffix: str = parameter(
        "",
        "What replaces the micrograph's .mrc in the name of its coordinate file: _autopick.star, .box.",
        options=["--coord_suffix"],
        tab="Coordinates",
    )
    positions: Path | None = parameter(
        None,
        "A list of positions in Å as cisTEM exports it: image, x, y.",
        tab="Coordinates",
        cistem="particle positions",
    )
    reextract: Path | None = parameter(
        None,
        "STAR file of a refinement: extract its particles anew.",
        options=["--reextract_data_star"],
        tab="Coordinates",
    )
    recenter: bool = parameter(False, "Re-centre these on their refined origins.", tab="Coordinates")
    recenter_x: float = parameter(0.0, "x of a point of the map to re-centre on, from its centre.", tab="Coordinates")
    recenter_y: float = parameter(0.0, "y of that point.", tab="Coordinates")
    recenter_z: float = parameter(0.0, "z of that point.", tab="Coordinates")
    recenter_unit: Literal["pixels", "angstrom"] = parameter(
        "pixels", "Unit of that point: pixels of the refined images, as in RELION, or Å.", tab="Coordinates"
    )
    bias_x: int = parameter(
        0, "Added to all x of coordinate files.", unit="pixels", options=["--extract_bias_x"], tab="Coordinates",
        expert=True,
    )  # fmt: skip
    bias_y: int = parameter(
        0, "Added to all y of coordinate files.", unit="pixels", options=["--extract_bias_y"], tab="Coordinates",
        expert=True,
    )  # fmt: skip
    minimum_merit: float | None = parameter(
        None,
        "Leave out picks whose rlnAutopickFigureOfMerit is lower.",
        options=["--minimum_pick_fom"],
        tab="Coordinates",
    )
    box_size: int = parameter(..., "Side of the boxes.", unit="pixels", options=["--extract_size"], gt=1)
    drop_edge: bool = parameter(
        False, "Leave out particles whose box hangs over the edge of the micrograph, instead of filling the box up."
    )
    pixel_size: float | None = parameter(
        None, "Pixel size of the micrographs, where their file gives none.", unit="Å",
        options=["--angpix", "--set_angpix"], gt=0,
    )  # fmt: skip
    voltage: float | None = parameter(None, "The same for the voltage.", unit="kV", options=["--kV"], gt=0)
    spherical_aberration: float | None = parameter(None, "The same for Cs.", unit="mm", options=["--cs"], ge=0)
    amplitude_contrast: float | None = parameter(
        None, "The same for the fraction of amplitude contrast.", options=["--Q0"], ge=0, le=1
    )
    movies: bool = parameter(
        False,
        "Cut the particles out of movie frames: one image a particle and frame, frame after frame.",
        options=["--extract_movies"],
        tab="Movies",
    )
    movie_name: str = parameter(
        "movie",
        "mic.mrc has the movie mic_movie.mrcs, if this is movie and no rlnMicrographMovieName is given.",
        options=["--movie_rootname", "--movie_name"],
        tab="Movies",
    )
    average_frames: int = parameter(
        1, "Sum so many frames to one; an incomplete last sum is left out.", options=["--avg_movie_frames"],
        tab="Movies", ge=1,
    )  # fmt: skip
    first_frame: int = parameter(1, "First frame used, from 1.", options=["--first_movie_frame"], tab="Movies", ge=1)
    last_frame: int = parameter(
        0, "Last frame used; 0: the last there is.", options=["--last_movie_frame"], tab="Movies", ge=0
    )
    only_do_unfinished: bool = parameter(
        False, "Go on with an extraction that was stopped.", options=["--only_extract_unfinished", "--continue"]
    )
    threads: int = parameter(
        0, "Micrographs worked on at once; 0: as many as there are processors.", options=["--j"], ge=0, expert=True
    )


class ExtractParameters(ImageParameters, ExtractSource):
    """Cut particles out of micrographs, or out of the frames of movies, as relion_preprocess --extract does.

    Picks come from coordinate files (--coord_list, or --coord_dir with --coord_suffix; STAR, EMAN .box, Ximdisp,
    XMIPP), from a list of cisTEM's, or from a refinement (--reextract_data_star), then re-centred on request. For each
    micrograph one stack <output>/<micrograph>.mrcs is written, and a table of its particles beside it; all particles
    together are in <output>/particles.star, with what the picks and the micrographs said of them (CTF, figures of
    merit, angles, classes, optics groups).

    Pixels of a box that hangs over the edge of its micrograph have the value of the nearest pixel inside. What cannot
    be extracted (micrographs that are missing, corrupt or without picks, coordinates outside the image or given twice,
    boxes without numbers) is set aside, named in <output>/set_aside.star, and the rest goes on. With
    --only_do_unfinished micrographs that were extracted with the same settings before are not touched.
    """
