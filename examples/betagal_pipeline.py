"""From particles to a map without a reference, hands off: average, choose, first model, refine, mask, sharpen.

Takes a folder with ``particles.star`` and works as a user would, command by command; no map is ever shown to the
particles. Written for the RELION tutorial's beta-galactosidase, and right for any single molecule whose symmetry and
size are known. When a step fails the program says which and stops; run again, it goes on from there.
``<output>/report.html`` collects the pictures.

    python examples/betagal_pipeline.py folder --output Project --symmetry D2 --mask_diameter 200
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from skimage.filters import threshold_otsu

from vitrea.formats.images import ParticleImages
from vitrea.formats.mrc import open_stack, read_map
from vitrea.formats.particle_files import read_particles
from vitrea.formats.star import read_star
from vitrea.fourier.filters import lowpass
from vitrea.records.particles import Particles
from vitrea.records.table import Table
from vitrea.report.figures import (
    angular_distribution,
    class_gallery,
    fsc_curves,
    image_gallery,
    map_projections,
    map_slices,
)
from vitrea.report.page import Section, write_page

PER_CLASS = 100  # particles for each 2D class
START_RESOLUTION = 30.0  # Å, to which the first model is blurred before refinement
MASK_RESOLUTION = 15.0  # Å, at which the map is cut into molecule and solvent
SHOWN = 6  # particles on the page


class StepFailedError(Exception):
    """A step did not do what it should; the text is for the user."""


@dataclass
class Pipeline:
    """Runs commands in a folder, one after the other; those that finished before are not run again.

    Attributes
    ----------
    folder : Path
        Where the commands run.
    lines : list of str
        The commands with their times, for the page.
    """

    folder: Path
    lines: list[str] = field(default_factory=list)
    _seconds: dict[str, float] = field(default_factory=dict)  # of the commands so far
    _repeat: bool = False  # once one step has run, those after it see new input

    def vitrea(self, title: str, command: str, result: str) -> None:
        """Run ``vitrea <command>``.

        Parameters
        ----------
        title : str
            What the step is for.
        command : str
        result : str
            A file in the folder that must be there afterwards.

        Raises
        ------
        StepFailedError
            If the command fails or its result is missing.
        """
        seconds = self._finished(command)
        if seconds is None or self._repeat or not (self.folder / result).is_file():
            self._repeat = True
            self._write_record()  # what comes after this step is no longer valid
            seconds = self._run(title, command, result)
        else:
            sys.stdout.write(f"\n{title}: done before, {result}\n")
        self._seconds[command] = seconds
        if self._repeat:
            self._write_record()
        self.lines.append(f"vitrea {command}    # {seconds:.0f} s")

    @property
    def _record(self) -> Path:
        return self.folder / "pipeline.json"

    def _finished(self, command: str) -> float | None:
        """Return the seconds of a command that finished in an earlier run of this program."""
        if not self._record.is_file():
            return None
        seconds: float | None = json.loads(self._record.read_text(encoding="utf-8")).get(command)
        return seconds

    def _write_record(self) -> None:
        self._record.write_text(json.dumps(self._seconds, indent=1), encoding="utf-8")

    def _run(self, title: str, command: str, result: str) -> float:
        sys.stdout.write(f"\n{title}\n$ vitrea {command}\n")
        sys.stdout.flush()
        start = time.perf_counter()
        code = subprocess.run([sys.executable, "-m", "vitrea", *shlex.split(command)], cwd=self.folder).returncode
        again = "What it said stands above; when it is mended, run this program again: it goes on from here."
        if code != 0:
            raise StepFailedError(f"'{title}' failed: vitrea {command.split()[0]} ended with exit code {code}. {again}")
        if not (self.folder / result).is_file():
            raise StepFailedError(f"'{title}' failed: {self.folder / result} was not written. {again}")
        return time.perf_counter() - start


def process(pipeline: Pipeline, particles: Path, options: argparse.Namespace) -> None:
    """Do what a user does, command by command."""
    size = f"--particle_diameter {options.mask_diameter:g}"
    classes = options.classes or min(max(len(read_particles(particles)) // PER_CLASS, 5), 100)
    symmetry = f"--sym {options.symmetry}"
    pipeline.vitrea(
        "Averages of alike views",
        f"class2d --i {shlex.quote(str(particles))} --o Class2D/run --K {classes} {size}",
        "Class2D/run_optimiser.star",
    )
    pipeline.vitrea(
        "Choice of classes", "select --i Class2D/run_optimiser.star --auto --o selected.star", "selected.star"
    )
    pipeline.vitrea(
        "First model",
        f"initial-model --i selected.star --o InitialModel/run {symmetry} {size}",
        "InitialModel/run_class001.mrc",
    )
    pipeline.vitrea(
        "Refinement",
        f"refine3d --i selected.star --ref InitialModel/run_class001.mrc --o Refine3D/run {symmetry} {size} "
        f"--ini_high {START_RESOLUTION:g}",
        "Refine3D/run_class001.mrc",
    )
    pipeline.vitrea(
        "Mask",
        f"mask --i Refine3D/run_class001.mrc --lowpass {MASK_RESOLUTION:g} "
        f"--ini_threshold {contour(pipeline.folder / 'Refine3D/run_class001.mrc')} --extend_inimask 2 "
        f"--width_soft_edge 5 --o mask.mrc",
        "mask.mrc",
    )
    detector = ""
    if options.mtf is not None:
        detector = f" --mtf {shlex.quote(str(options.mtf.resolve()))} --mtf_angpix {options.mtf_angpix:g}"
    pipeline.vitrea(
        "Resolution and sharpening",
        f"postprocess --i Refine3D/run_half1_class001_unfil.mrc --mask mask.mrc --auto_bfac{detector} "
        "--o PostProcess/map",
        "PostProcess/map.mrc",
    )


def carry_out(folder: Path, steps: Callable[[Pipeline], None]) -> int:
    """Do all steps in a folder, which is made if need be, and say how it ended; return the exit code."""
    folder.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    try:
        steps(Pipeline(folder.resolve()))
    except StepFailedError as error:
        sys.stderr.write(f"\n{error}\n")
        return 1
    sys.stdout.write(f"\nDone in {(time.perf_counter() - start) / 60:.0f} min: {folder}\n")
    return 0


def contour(path: Path) -> float:
    """Choose the grey value that holds the molecule: half of that which best divides voxels into bright and dark."""
    density = read_map(path)
    smooth = lowpass(torch.from_numpy(density.voxels), MASK_RESOLUTION, density.voxel_size).numpy()
    return float(f"{0.5 * threshold_otsu(smooth):.3g}")  # type: ignore[no-untyped-call]


def input_section(particles: Particles) -> Section:
    """Show what everything is made of."""
    images = ParticleImages(particles)
    loaded = torch.from_numpy(images.load(np.arange(min(SHOWN, len(images)))))
    smooth = lowpass(loaded, 20.0, images.pixel_size, dims=2).numpy()
    return Section(
        "What went in",
        "Particles, and nothing else: no map that they could be fitted to.",
        facts={"particles": f"{len(particles):,}", "box": f"{images.box_size} pixels of {images.pixel_size:g} Å"},
        figures=[
            (image_gallery(list(loaded.numpy()), images.pixel_size), "The first particles as they are."),
            (image_gallery(list(smooth), images.pixel_size), "The same, low-passed to 20 Å for the eye."),
        ],
    )


def class_section(folder: Path, mask_diameter: float) -> Section:
    """Show the class averages and which of them were kept; names in STAR files start from the folder of the jobs."""
    optimiser = read_star(folder / "Class2D/run_optimiser.star")["optimiser_general"]
    assert isinstance(optimiser, Mapping)
    classes = read_star(folder / str(optimiser["rlnModelStarFile"]))["model_classes"]
    assert isinstance(classes, Table)
    stack = str(classes["rlnReferenceImage"][0]).split("@")[-1]
    averages = np.asarray(open_stack(folder / stack)[:], dtype=np.float32)
    particles = read_particles(folder / str(optimiser["rlnExperimentalDataStarFile"]))
    selected = read_particles(folder / "selected.star")
    scores = read_star(folder / "selected_class_scores.star")["class_scores"]
    assert isinstance(scores, Table)
    gallery = class_gallery(
        averages, particles.optics[0].pixel_size, classes.numbers("rlnClassDistribution"),
        _members(particles, len(averages)), classes.numbers("rlnEstimatedResolution"),
        kept=scores.numbers("vitreaKept") > 0, mask_diameter=mask_diameter,
    )  # fmt: skip
    return Section(
        "Averages of alike views",
        "Each class average is the mean of the particles that look alike, turned and moved onto each other. Junk "
        "gathers in classes of its own. Good classes were told by their score alone; then each image was weighed "
        "against their averages, wherever it had been put.",
        facts={"particles kept": f"{len(selected):,} of {len(particles):,}"},
        figures=[
            (gallery, "The largest class first. Below each: number and share; particles and resolution."),
        ],
    )


def _members(particles: Particles, classes: int) -> NDArray[np.int64]:
    """Count the particles of each class."""
    numbers = np.asarray(particles.table["rlnClassNumber"], dtype=np.int64)
    return np.bincount(numbers, minlength=classes + 1)[1:]


def map_section(folder: Path) -> Section:
    """Show the first model and what refinement made of it."""
    first, last = read_map(folder / "InitialModel/run_class001.mrc"), read_map(folder / "PostProcess/map.mrc")
    eulers = read_particles(folder / "Refine3D/run_data.star").eulers
    return Section(
        "From a first model to the map",
        "The first model is right in shape and poor in detail; refinement with two half sets kept apart adds the "
        "detail. The hand is not determined by the images.",
        figures=[
            (map_projections(first.voxels, first.voxel_size), "The first model, summed along its axes."),
            (map_projections(last.voxels, last.voxel_size), "The refined and sharpened map, summed along its axes."),
            (map_slices(last.voxels, last.voxel_size), "The same, central slices."),
            (angular_distribution(eulers), "Particles per direction of view; cells have equal area."),
        ],
    )


def resolution_section(folder: Path) -> tuple[Section, float]:
    """Show the FSC curves; return the section and the resolution in Å."""
    blocks = read_star(folder / "PostProcess/map.star")
    general, curves = blocks["general"], blocks["fsc"]
    assert isinstance(general, Mapping) and isinstance(curves, Table)
    resolution = float(str(general["rlnFinalResolution"]))
    density = read_map(folder / "PostProcess/map.mrc")
    drawn = {
        "unmasked": curves.numbers("rlnFourierShellCorrelationUnmaskedMaps"),
        "masked, corrected for the mask": curves.numbers("rlnFourierShellCorrelationCorrected"),
    }
    section = Section(
        "Resolution",
        "The correlation between the two half maps, shell by shell, with and without the mask.",
        facts={
            "resolution (FSC 0.143)": f"{resolution:.2f} Å",
            "B-factor applied": f"{float(str(general['rlnBfactorUsedForSharpening'])):.0f} Å²",
        },
        figures=[
            (
                fsc_curves(drawn, density.voxel_size, len(density.voxels), (0.143, 0.5), resolution),
                "FSC against resolution in Å.",
            )
        ],
    )
    return section, resolution


def report(pipeline: Pipeline, particles: Path, options: argparse.Namespace) -> Path:
    """Write the page; return its name."""
    folder, given = pipeline.folder, read_particles(particles)
    resolution_part, resolution = resolution_section(folder)
    sections = [
        input_section(given),
        class_section(folder, options.mask_diameter),
        map_section(folder),
        resolution_part,
        Section("Commands", "Run in this folder; times in seconds.", code="\n".join(pipeline.lines)),
    ]
    lead = f"{len(given):,} particles gave a map at {resolution:.1f} Å (gold-standard FSC 0.143) without a reference."
    write_page(folder / "report.html", "From particles to a map without a reference", lead, sections)
    return folder / "report.html"


def main(arguments: list[str] | None = None) -> int:
    """Run the pipeline; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("folder", type=Path, help="folder with particles.star")
    parser.add_argument("--output", type=Path, default=Path("Project"), help="folder to write to")
    parser.add_argument("--symmetry", default="C1", help="point group: Cn, Dn, T, O, I1 to I4")
    parser.add_argument(
        "--mask_diameter", type=float, required=True, help="Å; a little more than the longest dimension"
    )
    parser.add_argument(
        "--classes", type=int, default=0, help=f"number of 2D classes; 0: one for {PER_CLASS} particles, at most 100"
    )
    parser.add_argument("--mtf", type=Path, help="STAR file with the detector's modulation transfer function")
    parser.add_argument("--mtf_angpix", type=float, default=0.0, help="pixel size of the movies, Å; 0: that of the map")
    options = parser.parse_args(arguments)
    particles = (options.folder / "particles.star").resolve()
    if not particles.is_file():
        parser.error(f"{particles} does not exist")
    options.output.mkdir(parents=True, exist_ok=True)
    pipeline = Pipeline(options.output.resolve())
    try:
        process(pipeline, particles, options)
    except StepFailedError as error:
        sys.stderr.write(f"\n{error}\n")
        return 1
    page = report(pipeline, particles, options)
    sys.stdout.write(f"\nDone. Open {page} in a browser.\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
