"""The long way of the demonstration: from movies to a map, with nothing known but the microscope and the particle.

Movies of 16 frames, 1024 x 1024 pixels of 3.5 Å, 40 e-/Å², with 200 particles each. They drift by 25 Å and bend by 8 Å;
a gain has to be applied. Every step is shown beside the truth, which the simulation knows.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from betagal_pipeline import class_section
from demo_molecule import DIAMETER, PIXEL_SIZE, SYMMETRY
from demo_report import course_section, cut, map_section, resolution_section, smooth, views_section
from matplotlib.figure import Figure
from matplotlib.image import imread
from numpy.typing import NDArray

from vitrea.formats.coordinates import MICROGRAPH, X, Y, read_coordinate_files, read_coordinates
from vitrea.formats.motion_files import read_motion
from vitrea.formats.movies import open_movie
from vitrea.formats.mrc import open_stack, read_map
from vitrea.formats.star import read_star
from vitrea.motion.local import LocalMotion
from vitrea.picking.comparison import Agreement, compare_picks
from vitrea.records.movie_motion import MovieMotion
from vitrea.records.table import Table
from vitrea.report.figures import image_gallery, map_projections
from vitrea.report.figures.motion import motion_tracks
from vitrea.report.figures.style import PAGE_WIDTH
from vitrea.report.page import Section

BOX = 64  # pixels: the particle and what defocus spreads around it
MOVIES, PARTICLES, FRAMES, EXPOSURE, WIDTH = 4, 200, 16, 40, 1024  # PARTICLES of each movie; e-/Å² in all; pixels
MASS = 150  # kDa that the molecule's envelope would hold; its helices alone are 66 kDa, hard to see at 40 e-/Å²
CLASSES = 12
MASK_DIAMETER = 160  # Å, around a particle
START_RESOLUTION = 30.0  # Å, to which the first model is blurred
NEAR = 50.0  # Å: a pick so near to a particle has found it
FIRST_MODEL_SHOWN = 12.0  # Å
SHOWN = 256  # pixels of a movie, or of a micrograph, on the page
FIRST_MOVIE = "Simulate/Movies/movie0001.tif"  # the one on the page
Places = NDArray[np.float64]
_INPUT_TEXT = (
    f"{MOVIES} movies of {FRAMES} frames, {EXPOSURE} electrons per Å² in all, as a counting detector writes them: most "
    "pixels of a frame hold some 20 electrons, and pixels differ in sensitivity. In each lie 200 copies of one protein "
    "(4 equal parts, D2 symmetry, packed from alpha helices) in ice, turned at random; they drift while the movie is "
    "taken, and fade as the beam destroys them. What follows knows the microscope, the size of the particle and its "
    "symmetry; nothing of its shape, and nothing of where and how the copies lie."
)


def process_movies(vitrea: Callable[[str], None], contour: Callable[[], float]) -> None:
    """Do what a user does, command by command.

    Parameters
    ----------
    vitrea : callable
        Runs a command.
    contour : callable
        Chooses the grey value that holds the refined molecule.
    """
    size = f"--particle_diameter {MASK_DIAMETER}"
    vitrea(
        f"simulate movie --map protein.mrc --molecular_mass {MASS} --particle_diameter {DIAMETER} --number {MOVIES} "
        f"--particles {PARTICLES} --frames {FRAMES} --exposure {EXPOSURE} --width {WIDTH} --ice_thickness 300 "
        "--defocus_min 10000 --defocus_max 20000 --drift 25 --local_motion 8 --o Simulate"
    )
    vitrea(
        f"motion --i Simulate/movies.star --o MotionCorr --dose_weighting --save_noDW "
        f"--dose_per_frame {EXPOSURE / FRAMES:g}"
    )
    vitrea("ctf --i MotionCorr/corrected_micrographs.star --use_noDW --o CtfFind")
    vitrea(
        f"pick blob --i CtfFind/micrographs_ctf.star --o AutoPick --characteristic_radius 45 --min_distance 100 "
        f"--maximum_radius {DIAMETER / 2:g} --edge_distance {MASK_DIAMETER / 2:g}"
    )
    vitrea(
        f"extract --i CtfFind/micrographs_ctf.star --coord_list AutoPick/autopick.star --part_dir Extract "
        f"--extract_size {BOX} --norm --invert_contrast"
    )
    vitrea(f"class2d --i Extract/particles.star --o Class2D/run --K {CLASSES} {size}")
    vitrea("select --i Class2D/run_optimiser.star --auto --o selected.star")
    vitrea(f"initial-model --i selected.star --o InitialModel/run --sym {SYMMETRY} {size}")
    vitrea(
        f"refine3d --i selected.star --ref InitialModel/run_class001.mrc --o Refine3D/run --sym {SYMMETRY} {size} "
        f"--ini_high {START_RESOLUTION:g}"
    )
    vitrea(
        f"mask --i Refine3D/run_class001.mrc --lowpass 12 --ini_threshold {contour()} --extend_inimask 2 "
        f"--width_soft_edge 4 --o mask.mrc"
    )
    vitrea("postprocess --i Refine3D/run_half1_class001_unfil.mrc --mask mask.mrc --auto_bfac --o PostProcess/map")
    align = f"--align --sym {SYMMETRY}"
    vitrea(f"compare InitialModel/run_class001.mrc protein.mrc {align} --json first_model.json --o first_model.mrc")
    vitrea(f"compare PostProcess/map_masked.mrc protein.mrc {align} --json maps.json --o placed.mrc")


def picture(path: Path) -> Figure:
    """Show a picture that a job wrote, over the width of the page."""
    pixels = imread(path)
    figure = Figure(figsize=(PAGE_WIDTH, PAGE_WIDTH * pixels.shape[0] / pixels.shape[1]))
    axis = figure.add_axes((0, 0, 1, 1))
    axis.imshow(pixels, interpolation="antialiased")
    axis.set_axis_off()
    return figure


def movie_section(folder: Path) -> Section:
    """Show what there is at first."""
    with open_movie(folder / FIRST_MOVIE) as movie:
        frame = movie.read(0)[:SHOWN, :SHOWN].astype(np.float32)
    figure = image_gallery([frame, _plain_sum(folder)], PIXEL_SIZE, ("one frame", "sum of all frames as they are"))
    caption = (
        "A corner of the first movie. A frame shows next to nothing; the sum shows particles, blurred by their motion, "
        "behind stripes: columns of the detector that count fewer or more electrons than others."
    )
    return Section("What went in", _INPUT_TEXT, figures=[(figure, caption)])


def _plain_sum(folder: Path) -> NDArray[np.float32]:
    """Sum the frames of the first movie as they are; a corner."""
    with open_movie(folder / FIRST_MOVIE) as movie:
        return np.asarray(sum(frame[:SHOWN, :SHOWN].astype(np.float32) for frame in movie))


def _micrograph(folder: Path) -> NDArray[np.float32]:
    """Return a corner of the first micrograph, low-passed for the eye."""
    name = _column(folder / "CtfFind/micrographs_ctf.star", "rlnMicrographName")[0]
    return smooth(np.asarray(open_stack(folder / name)[0], dtype=np.float32))[:SHOWN, :SHOWN]


def motion_section(folder: Path) -> Section:
    """Show the motion that was found, and how far it is from the true one."""
    lists = (folder / "MotionCorr/corrected_micrographs.star", folder / "Simulate/truth_micrographs.star")
    found, true = ([read_motion(folder / name) for name in _column(path, "rlnMicrographMetadata")] for path in lists)
    errors = [motion_error(*pair) for pair in zip(found, true, strict=True)]
    return Section(
        "Motion undone",
        "Frames are aligned with each other, first whole, then in patches; a smooth model of the motion over space and "
        "time is fitted to these, and refined on all pixels of all frames together. Frames are then summed, each "
        "Fourier component with the weight that radiation has left it.",
        {"error of the motion, all movies, frames and places (RMS)": f"{np.sqrt(np.mean(np.square(errors))):.2f} Å"},
        [
            (motion_tracks(found[0]), "The first movie. Left: the whole. Right: patches beyond that, enlarged."),
            (
                image_gallery([smooth(_plain_sum(folder)), _micrograph(folder)], PIXEL_SIZE, ("before", "after")),
                "The same corner before and after, low-passed to 20 Å for the eye.",
            ),
        ],
    )


def motion_error(found: MovieMotion, true: MovieMotion) -> float:
    """Return how far the shifts found are from the true ones, RMS over frames and places; Å.

    What is common to all frames of a place moves the particle in the sum and is no error.
    """
    place = np.linspace(-0.45, 0.45, 10)
    x, y = np.meshgrid(place, place)
    difference = _corrections(found, x, y) - _corrections(true, x, y)  # [frames, y, x, 2]
    difference -= difference.mean(axis=0)
    return float(np.sqrt(np.mean(np.sum(difference**2, axis=-1))) * true.pixel_size)


def _corrections(motion: MovieMotion, x: Places, y: Places) -> Places:
    """Return the shifts at places from -0.5 to 0.5, in pixels, shape [frames, y, x, 2]."""
    whole = motion.shifts[:, None, None, :]
    if motion.coefficients is None:
        return np.broadcast_to(whole, (motion.frames, *x.shape, 2)).copy()
    time = np.arange(motion.frames, dtype=np.float64)[:, None, None]
    return np.asarray(whole + LocalMotion(motion.coefficients).shifts(time, x, y))


def _column(path: Path, label: str) -> list[str]:
    table = read_star(path)["micrographs"]
    assert isinstance(table, Table)
    return [str(value) for value in table[label]]


def ctf_section(folder: Path) -> Section:
    """Show a spectrum beside its fit, and how far all defoci are from the true ones."""
    found, true = (
        np.stack([np.array(_column(path, label), dtype=np.float64) for label in ("rlnDefocusU", "rlnDefocusV")])
        for path in (folder / "CtfFind/micrographs_ctf.star", folder / "Simulate/truth_micrographs.star")
    )
    errors = np.abs(found.mean(axis=0) - true.mean(axis=0))
    return Section(
        "Defocus found",
        "The objective lens leaves rings in the spectrum of a micrograph (Thon rings), whose places tell its defocus "
        "and astigmatism. Particles are corrected for it later.",
        {
            "defocus of the micrographs": ", ".join(f"{value / 1e4:.3f} µm" for value in found.mean(axis=0)),
            "error of the defocus, median and largest": f"{np.median(errors):.0f} Å and {errors.max():.0f} Å",
        },
        [(picture(sorted((folder / "CtfFind").rglob("*_ctf.png"))[0]), "The first micrograph.")],
    )


def picking_section(folder: Path) -> Section:
    """Show the picks of a micrograph, and how many are particles."""
    files = read_coordinate_files(folder / "AutoPick/autopick.star")
    micrographs = _column(folder / "CtfFind/micrographs_ctf.star", "rlnMicrographName")
    movies = _column(folder / "CtfFind/micrographs_ctf.star", "rlnMicrographMovieName")
    truth = read_star(folder / "Simulate/truth.star")["particles"]
    assert isinstance(truth, Table)
    places, names = np.stack([truth.numbers(X), truth.numbers(Y)], axis=1), np.asarray(truth[MICROGRAPH], dtype=str)
    all_found = inside_found = Agreement(0, 0, 0)
    for micrograph, movie in zip(micrographs, movies, strict=True):
        picks = read_coordinates(folder / files[micrograph])
        picked, right = np.stack([picks[X], picks[Y]], axis=1), places[names == movie]
        inside = right[(np.abs(right - WIDTH / 2) < (WIDTH - MASK_DIAMETER / PIXEL_SIZE) / 2).all(axis=1)]
        all_found += compare_picks(picked, right, NEAR / PIXEL_SIZE)
        inside_found += compare_picks(picked, inside, NEAR / PIXEL_SIZE)
    first = sorted((folder / "AutoPick").rglob("*_autopick.png"))[0]
    return Section(
        "Particles found",
        "Picking knows the size of the particle alone: it looks for discs, with a filter matched to the noise. Picks "
        f"too near to the edge for a whole image are left out. A pick within {NEAR:g} Å of a particle has found it.",
        {
            "picks": f"{all_found.picked:,}",
            "of them particles": f"{all_found.precision:.1%}",
            "particles found, of those not at the edge": f"{inside_found.recall:.1%}",
        },
        [(picture(first), "The first micrograph, low-passed for the eye, with its picks.")],
    )


def particle_section(folder: Path) -> Section:
    """Show a few of the images that were cut out."""
    stack = sorted((folder / "Extract").rglob("*.mrcs"))[0]
    images = np.asarray(open_stack(stack)[:6], dtype=np.float32)
    return Section(
        "Particles cut out",
        "Background brought to mean 0 and deviation 1, contrast inverted: particles are white.",
        figures=[
            (image_gallery(list(images), PIXEL_SIZE), "The first six."),
            (image_gallery(list(smooth(images)), PIXEL_SIZE), "The same, low-passed to 20 Å for the eye."),
        ],
    )


def average_section(folder: Path) -> Section:
    """Show the class averages."""
    section = class_section(folder, MASK_DIAMETER)
    note = (
        "\n\nThe four parts of this molecule hardly touch, so that from some sides it looks like several particles, "
        "which counts against a class. Its images are kept all the same if they look like the other averages."
    )
    return replace(section, text=section.text + note)


def first_model_section(folder: Path) -> Section:
    """Show the first model, turned as the truth is."""
    figures = json.loads((folder / "first_model.json").read_text(encoding="utf-8"))
    first, true = read_map(folder / "first_model.mrc"), read_map(folder / "protein.mrc")
    blurred = smooth(true.voxels, FIRST_MODEL_SHOWN, dims=3)
    return Section(
        "First model",
        "From the chosen particles alone, by comparison with maps that began as noise. The images do not determine its "
        "hand or how it is turned: for the pictures it was turned (and mirrored, if need be) onto the truth.",
        {"agreement with the truth (FSC 0.5)": f"{figures['resolution_fsc_0.5']:.1f} Å"},
        [
            (map_projections(first.voxels, PIXEL_SIZE), "The first model, summed along its axes."),
            (map_projections(blurred, PIXEL_SIZE), f"The truth, low-passed to {FIRST_MODEL_SHOWN:g} Å, likewise."),
        ],
    )


def movie_summary(folder: Path) -> Figure:
    """Draw a piece of a micrograph beside first model, result and truth."""
    planes = [cut(folder / name) for name in ("first_model.mrc", "placed.mrc", "protein.mrc")]
    titles = ("part of a micrograph", "first model", "result, sharpened", "truth")
    return image_gallery([-_micrograph(folder), *planes], PIXEL_SIZE, titles)


def movie_sections(folder: Path, summary: Figure, truth: Mapping[str, Any]) -> tuple[list[Section], float]:
    """Return the parts of the page in the order of the work, and the resolution of the map in Å."""
    resolution_part, resolution = resolution_section(folder, truth)
    caption = "A piece of a micrograph (contrast inverted), and the same cut through first model, result and truth."
    sections = [
        movie_section(folder),
        motion_section(folder),
        ctf_section(folder),
        picking_section(folder),
        particle_section(folder),
        average_section(folder),
        first_model_section(folder),
        map_section(summary, caption, folder / "placed.mrc"),
        resolution_part,
        views_section(folder),
        course_section(folder),
    ]
    return sections, resolution
