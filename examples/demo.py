"""From movies to a map in about ten minutes, with nothing downloaded: every step, beside the truth, on one page.

A small protein-like particle with D2 symmetry is built from alpha helices; movies of it are simulated; then everything
is done as a user would do it, command by command: motion, CTF, picking, extraction, class averages, first model,
refinement, mask, sharpening. At the end the result is compared with the truth, and ``demo_output/report.html`` shows
it all.

With ``--particles-only`` it takes about a minute: images of particles are simulated, and refinement starts from a map
blurred to 40 Å.

    python examples/demo.py [--particles-only] [--output demo_output]
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from demo_molecule import DIAMETER, PIXEL_SIZE, SYMMETRY, density, protein
from demo_movies import BOX as MOVIE_BOX
from demo_movies import MOVIES, movie_sections, movie_summary, process_movies
from demo_report import course_section, cut, map_section, resolution_section, smooth, views_figure
from matplotlib.figure import Figure

from vitrea.formats.mrc import open_stack, read_map, write_map
from vitrea.formats.particle_files import read_particles
from vitrea.report.figures import image_gallery
from vitrea.report.page import Section, write_page
from vitrea.report.png import save_png

BOX = 48  # voxels, where particles are simulated
START_RESOLUTION = 40.0  # Å
SNR = 0.1  # variance of the signal inside the particle over that of the noise
CONTOUR = 0.3  # of the highest density once the map is low-passed: shows the molecule whole and the solvent empty
_INPUT_TEXT = (
    "Each image shows the same small protein from another, unknown side: a particle of 4 equal parts (D2 symmetry), "
    "packed from alpha helices, built by this program. The images carry the contrast transfer function of a 300 kV "
    "microscope and ten times more noise than signal. Beside them the refinement gets a start map: the protein blurred "
    "to 40 Å, on another grey scale."
)


@dataclass
class Log:
    """Runs commands in a folder and keeps what was run and how long it took."""

    folder: Path
    lines: list[str] = field(default_factory=list)
    began: float = field(default_factory=time.perf_counter)

    def vitrea(self, command: str) -> None:
        """Run ``vitrea <command>``; stops the demo where it fails."""
        sys.stdout.write(f"\n$ vitrea {command}\n")
        sys.stdout.flush()
        start = time.perf_counter()
        subprocess.run([sys.executable, "-m", "vitrea", *shlex.split(command)], cwd=self.folder, check=True)
        self.lines.append(f"vitrea {command}    # {time.perf_counter() - start:.0f} s")

    @property
    def minutes(self) -> float:
        """Time since the start."""
        return (time.perf_counter() - self.began) / 60


def threshold(path: Path, resolution: float = 12.0) -> float:
    """Choose the contour of a map, as a user does by eye."""
    return float(f"{CONTOUR * smooth(read_map(path).voxels, resolution, dims=3).max():.3g}")


def prepare(folder: Path) -> None:
    """Write the particle's true map and the blurred map that a refinement starts from."""
    truth = density(protein(), BOX)
    write_map(folder / "protein.mrc", truth)
    write_map(folder / "start.mrc", truth.with_voxels(smooth(truth.voxels, START_RESOLUTION, dims=3)))


def process(log: Log, particles: int) -> None:
    """Do what a user with particles and a start map does, command by command."""
    log.vitrea(
        f"simulate --map protein.mrc --number {particles} --snr {SNR} --particle_diameter {DIAMETER} --o Simulate"
    )
    log.vitrea(
        f"refine3d --i Simulate/particles.star --ref start.mrc --o Refine3D/run --sym {SYMMETRY} "
        f"--particle_diameter {DIAMETER} --ini_high {START_RESOLUTION:g}"
    )
    contour = threshold(log.folder / "Refine3D/run_class001.mrc")
    log.vitrea(
        f"mask --i Refine3D/run_class001.mrc --lowpass 12 --ini_threshold {contour} --extend_inimask 2 "
        f"--width_soft_edge 4 --o mask.mrc"
    )
    log.vitrea("postprocess --i Refine3D/run_half1_class001_unfil.mrc --mask mask.mrc --auto_bfac --o PostProcess/map")
    log.vitrea("compare Refine3D/run_class001.mrc Simulate/truth.mrc --mask mask.mrc --json maps.json")
    log.vitrea(f"compare Refine3D/run_data.star Simulate/truth.star --sym {SYMMETRY} --json poses.json")


def input_section(folder: Path) -> Section:
    """Show what the refinement was given."""
    images = np.asarray(open_stack(folder / "Simulate/particles.mrcs")[:6], dtype=np.float32)
    return Section(
        "What went in",
        _INPUT_TEXT,
        figures=[
            (image_gallery(list(images), PIXEL_SIZE), "Six of the images, as the refinement sees them."),
            (image_gallery(list(smooth(images)), PIXEL_SIZE), "The same, low-passed to 20 Å for the eye."),
        ],
    )


def summary_figure(folder: Path) -> Figure:
    """Draw an image beside start map, result and truth."""
    image = np.asarray(open_stack(folder / "Simulate/particles.mrcs")[0], dtype=np.float32)
    planes = [cut(folder / name) for name in ("start.mrc", "PostProcess/map_masked.mrc", "protein.mrc")]
    return image_gallery([image, *planes], PIXEL_SIZE, ("one of the images", "start map", "result, sharpened", "truth"))


def pose_section(folder: Path, poses: dict[str, Any]) -> Section:
    """Explain angles, shifts and directions of view."""
    angles, shifts = poses["angular_error_deg"], poses["shift_error_angstrom"]
    return Section(
        "Were the views found?",
        "Nothing was known of the direction from which each image was taken. The refinement finds it; the simulation "
        "knows it. Angles are compared modulo the symmetry of the particle.",
        {
            "error of the angles, median and 95% below": f"{angles['median']:.2f}° and {angles['p95']:.2f}°",
            "error of the shifts, median and 95% below": f"{shifts['median']:.2f} Å and {shifts['p95']:.2f} Å",
        },
        [views_figure(folder)],
    )


@dataclass(frozen=True)
class Outcome:
    """What a way led to: where it began, the page's pictures and parts, the resolution in Å, the FSC with the truth."""

    source: str
    summary: Figure
    sections: list[Section]
    resolution: float
    truth: dict[str, Any]


def particle_sections(folder: Path, summary: Figure, truth: dict[str, Any]) -> tuple[list[Section], float]:
    """Return the parts of the page, and the resolution of the map in Å."""
    poses = json.loads((folder / "poses.json").read_text(encoding="utf-8"))
    resolution_part, resolution = resolution_section(folder, truth)
    caption = "The same cut through the start map, the result and the truth."
    sections = [
        input_section(folder),
        map_section(summary, caption, folder / "PostProcess/map_masked.mrc"),
        resolution_part,
        pose_section(folder, poses),
        course_section(folder),
    ]
    return sections, resolution


def from_movies(log: Log) -> Outcome:
    """Go the long way."""
    folder = log.folder
    write_map(folder / "protein.mrc", density(protein(), MOVIE_BOX))
    process_movies(log.vitrea, lambda: threshold(folder / "Refine3D/run_class001.mrc"))
    truth, summary = read_comparison(folder), movie_summary(folder)
    count = len(read_particles(folder / "selected.star"))
    source = f"{MOVIES} simulated movies gave {count:,} good particles, and these"
    return Outcome(source, summary, *movie_sections(folder, summary, truth), truth)


def from_particles(log: Log, particles: int) -> Outcome:
    """Go the short way."""
    folder = log.folder
    prepare(folder)
    process(log, particles)
    truth, summary = read_comparison(folder), summary_figure(folder)
    source = f"{particles:,} simulated images"
    return Outcome(source, summary, *particle_sections(folder, summary, truth), truth)


def read_comparison(folder: Path) -> dict[str, Any]:
    """Read the figures of the map's comparison with the truth."""
    figures: dict[str, Any] = json.loads((folder / "maps.json").read_text(encoding="utf-8"))
    return figures


def report(log: Log, outcome: Outcome) -> Path:
    """Write the page; return its name."""
    save_png(outcome.summary, log.folder / "summary.png", dpi=105)
    commands = Section("Commands", "Run in this folder; times in seconds.", code="\n".join(log.lines))
    lead = (
        f"{outcome.source} gave a map at {outcome.resolution:.1f} Å (gold-standard FSC 0.143) in {log.minutes:.1f} "
        f"minutes; it agrees with the truth to {outcome.truth['resolution_fsc_0.5']:.1f} Å (FSC 0.5)."
    )
    page = log.folder / "report.html"
    write_page(page, "Vitrea: from images to a map", lead, [*outcome.sections, commands])
    return page


def main() -> None:
    """Run the demo."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--particles-only", action="store_true", help="leave out the movies: a minute instead of ten")
    parser.add_argument("--particles", type=int, default=1000, help="number of images, with --particles-only")
    parser.add_argument("--output", type=Path, default=Path("demo_output"), help="folder to write to")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    log = Log(arguments.output.resolve())
    outcome = from_particles(log, arguments.particles) if arguments.particles_only else from_movies(log)
    page = report(log, outcome)
    sys.stdout.write(f"\nDone in {log.minutes:.1f} minutes. Open {page} in a browser.\n")


if __name__ == "__main__":
    main()
