"""From particles to a map in a few minutes, with nothing downloaded: simulate, refine, mask, sharpen, compare, report.

A small protein-like particle with D2 symmetry is built from alpha helices; noisy images of it are simulated; then
everything is done as a user would do it, command by command, knowing only the images and a map blurred to 40 Å. At
the end the result is compared with the truth, and ``demo_output/report.html`` shows it all.

    python examples/demo.py [--particles 1000] [--output demo_output]
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray

from vitrea.formats.mrc import open_stack, read_map, write_map
from vitrea.formats.particle_files import read_particles
from vitrea.formats.star import read_star
from vitrea.fourier.filters import lowpass
from vitrea.geometry.symmetry import symmetry_matrices
from vitrea.records.map import Map
from vitrea.records.table import Table
from vitrea.report.figures import (
    angular_distribution,
    convergence_curves,
    fsc_curves,
    image_gallery,
    map_projections,
)
from vitrea.report.page import Section, write_page
from vitrea.report.png import save_png

BOX, PIXEL_SIZE, DIAMETER = 48, 3.5, 150  # voxels, Å, Å
START_RESOLUTION = 40.0  # Å
SNR = 0.1  # variance of the signal inside the particle over that of the noise
CONTOUR = 0.3  # of the highest density once the map is low-passed: shows the molecule whole and the solvent empty
SHOWN_PLANE = BOX // 2 + 6  # z of the plane in the summary; the symmetry axes leave the middle rather empty
UNKNOWN = 999.0  # RELION's way to say that an accuracy is not known yet
CA_RISE, CA_RADIUS, CA_TURN = 1.5, 2.3, 100.0  # Å, Å, degrees a residue: an alpha helix
Points = NDArray[np.float64]
_INPUT_TEXT = (
    "Each image shows the same small protein from another, unknown side: a particle of 4 equal parts (D2 symmetry), "
    "packed from alpha helices, built by this program. The images carry the contrast transfer function of a 300 kV "
    "microscope and ten times more noise than signal. Beside them the refinement gets a start map: the protein blurred "
    "to 40 Å, on another grey scale."
)


def helix(residues: int) -> Points:
    """Return the alpha carbons of a right-handed helix along z, centred; Å, shape [residues, 3]."""
    index = np.arange(residues) - (residues - 1) / 2
    turn = np.radians(CA_TURN) * index
    return np.stack([CA_RADIUS * np.cos(turn), CA_RADIUS * np.sin(turn), CA_RISE * index], axis=1)


def random_rotation(generator: np.random.Generator) -> NDArray[np.float64]:
    """Return a rotation matrix drawn evenly."""
    matrix, triangle = np.linalg.qr(generator.normal(size=(3, 3)))
    matrix *= np.sign(np.diag(triangle))
    return np.asarray(matrix * np.linalg.det(matrix))


def protein(seed: int = 7, clearance: float = 7.5) -> Points:
    """Pack helices into one quarter of a D2 particle so that no two come near, and return all four quarters; Å."""
    generator = np.random.default_rng(seed)
    operators = symmetry_matrices("D2")
    centre, radii = np.array([20.0, 16.0, 25.0]), np.array([23.0, 20.0, 31.0])
    quarter = np.empty((0, 3))
    for _ in range(8000):
        points = helix(int(generator.integers(9, 20))) @ random_rotation(generator).T
        points += centre + radii * generator.uniform(-1.0, 1.0, 3)
        if (((points - centre) / radii) ** 2).sum(axis=1).max() > 1.0:
            continue
        others = [quarter @ operator.T for operator in operators]
        others += [points @ operator.T for operator in operators[1:]]
        distances = ((points[:, None] - np.concatenate(others)[None]) ** 2).sum(axis=-1)
        if distances.min() > clearance**2:
            quarter = np.concatenate([quarter, points])
    return np.concatenate([quarter @ operator.T for operator in operators])


def density(points: Points, width: float = 2.0) -> Map:
    """Draw a Gaussian ball of `width` Å at each point (x, y, z)."""
    axis = (np.arange(BOX) - BOX // 2) * PIXEL_SIZE
    profiles = np.exp(-0.5 * ((axis[None, :, None] - points[:, None, :]) / width) ** 2)  # [points, box, xyz]
    voxels = np.einsum("az,ay,ax->zyx", profiles[..., 2], profiles[..., 1], profiles[..., 0], optimize=True)
    return Map(voxels.astype(np.float32), PIXEL_SIZE)


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


def iterations(path: Path) -> dict[str, list[float]]:
    """Read the figures of each iteration out of a job's log."""
    rows = [
        dict(word.split("=", 1) for word in line.split())
        for line in path.read_text(encoding="utf-8").splitlines()
        if line.startswith("iteration=")
    ]
    return {key: [float(row[key]) for row in rows] for key in rows[0]}


def prepare(folder: Path) -> None:
    """Write the particle's true map and the blurred map that a refinement starts from."""
    truth = density(protein())
    write_map(folder / "protein.mrc", truth)
    blurred = lowpass(torch.from_numpy(truth.voxels), START_RESOLUTION, PIXEL_SIZE).numpy()
    write_map(folder / "start.mrc", truth.with_voxels(blurred))


def threshold(path: Path, resolution: float = 12.0) -> float:
    """Choose the contour of a map, as a user does by eye."""
    density = read_map(path)
    smooth = lowpass(torch.from_numpy(density.voxels), resolution, density.voxel_size).numpy()
    return float(f"{CONTOUR * smooth.max():.3g}")


def process(log: Log, particles: int) -> None:
    """Do what a user does, command by command."""
    log.vitrea(
        f"simulate --map protein.mrc --number {particles} --snr {SNR} --particle_diameter {DIAMETER} --o Simulate"
    )
    log.vitrea(
        f"refine3d --i Simulate/particles.star --ref start.mrc --o Refine3D/run --sym D2 "
        f"--particle_diameter {DIAMETER} --ini_high {START_RESOLUTION:g}"
    )
    contour = threshold(log.folder / "Refine3D/run_class001.mrc")
    log.vitrea(
        f"mask --i Refine3D/run_class001.mrc --lowpass 12 --ini_threshold {contour} --extend_inimask 2 "
        f"--width_soft_edge 4 --o mask.mrc"
    )
    log.vitrea("postprocess --i Refine3D/run_half1_class001_unfil.mrc --mask mask.mrc --auto_bfac --o PostProcess/map")
    log.vitrea("compare Refine3D/run_class001.mrc Simulate/truth.mrc --mask mask.mrc --json maps.json")
    log.vitrea("compare Refine3D/run_data.star Simulate/truth.star --sym D2 --json poses.json")


def smooth(images: NDArray[Any], resolution: float = 20.0) -> NDArray[np.float32]:
    """Low-pass filter images, for the eye."""
    tensor = torch.from_numpy(np.array(images, dtype=np.float32))
    return np.asarray(lowpass(tensor, resolution, PIXEL_SIZE, dims=2).numpy())


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
    maps = [read_map(folder / name).voxels for name in ("start.mrc", "PostProcess/map_masked.mrc", "protein.mrc")]
    titles = ("one of the images", "start map", "result, sharpened", "truth")
    return image_gallery([image, *(voxels[SHOWN_PLANE] for voxels in maps)], PIXEL_SIZE, titles)


def output_section(folder: Path, summary: Figure) -> Section:
    """Show the map."""
    sharpened = read_map(folder / "PostProcess/map_masked.mrc").voxels
    planes = range(BOX // 2 - 12, BOX // 2 + 13, 6)
    heights = [f"z = {(plane - BOX // 2) * PIXEL_SIZE:g} Å" for plane in planes]
    return Section(
        "What came out",
        "The sharpened map inside its mask. The bright spots and rods are alpha helices, seen along and across.",
        figures=[
            (summary, "The same cut through the start map, the result and the truth."),
            (image_gallery([sharpened[plane] for plane in planes], PIXEL_SIZE, heights), "Slices at five heights."),
            (map_projections(sharpened, PIXEL_SIZE), "Sums along the axes."),
        ],
    )


def resolution_section(folder: Path, truth: dict[str, Any]) -> tuple[Section, float]:
    """Explain the FSC curves; return the section and the resolution in Å."""
    blocks = read_star(folder / "PostProcess/map.star")
    general, curves = blocks["general"], blocks["fsc"]
    assert isinstance(general, Mapping) and isinstance(curves, Table)
    resolution = float(str(general["rlnFinalResolution"]))
    drawn = {
        "half maps, unmasked": curves.numbers("rlnFourierShellCorrelationUnmaskedMaps"),
        "half maps, masked and corrected": curves.numbers("rlnFourierShellCorrelationCorrected"),
        "whole map with the truth": truth["fsc"],
    }
    figure = fsc_curves(drawn, PIXEL_SIZE, BOX, (0.143, 0.5), resolution)
    text = (
        "The Fourier shell correlation (FSC) tells, for each level of detail, how well two maps agree: 1 is perfect, 0 "
        "is chance. The half maps come from two halves of the particles that were refined without knowledge of each "
        "other, so only real structure can agree. Where their curve, corrected for the mask, falls below 0.143, the "
        "whole map is expected to correlate with the truth by 0.5.\n\n"
        "Here the truth is known. The third curve is independent of anything the refinement believed, and should cross "
        "0.5 near the same resolution."
    )
    facts = {
        "resolution of the half maps (FSC 0.143)": f"{resolution:.2f} Å",
        "agreement with the truth (FSC 0.5)": f"{truth['resolution_fsc_0.5']:.2f} Å",
        "finest detail the images can hold (Nyquist)": f"{2 * PIXEL_SIZE:.2f} Å",
        "B-factor applied": f"{float(str(general['rlnBfactorUsedForSharpening'])):.0f} Å²",
    }
    return Section("How fine is it?", text, facts, [(figure, "FSC against resolution in Å.")]), resolution


def pose_section(folder: Path, poses: dict[str, Any]) -> Section:
    """Explain angles, shifts and directions of view."""
    angles, shifts = poses["angular_error_deg"], poses["shift_error_angstrom"]
    eulers = read_particles(folder / "Refine3D/run_data.star").eulers
    return Section(
        "Were the views found?",
        "Nothing was known of the direction from which each image was taken. The refinement finds it; the simulation "
        "knows it. Angles are compared modulo the symmetry of the particle.",
        {
            "error of the angles, median and 95% below": f"{angles['median']:.2f}° and {angles['p95']:.2f}°",
            "error of the shifts, median and 95% below": f"{shifts['median']:.2f} Å and {shifts['p95']:.2f} Å",
        },
        [
            (
                angular_distribution(eulers),
                "Particles per direction of view, one symmetric copy of each; cells have equal area. The "
                "directions fill one quarter of the sphere: the others are equivalent by D2 symmetry.",
            )
        ],
    )


def course_section(folder: Path) -> Section:
    """Explain how the refinement went."""
    figures = iterations(folder / "Refine3D/run.log")
    known = {
        name: [np.nan if value >= UNKNOWN else value for value in figures[key]]
        for name, key in (
            ("resolution (Å)", "resolution_angstrom"),
            ("change of angles (°)", "change_rotation_deg"),
            ("accuracy of angles (°)", "accuracy_rotation_deg"),
        )
    }
    return Section(
        "How did it get there?",
        "Every iteration compares all images with projections of the present map and makes a new map. When nothing "
        "improves any more, the search becomes finer; when it is finer than the images can tell, the run stops by "
        "itself. The last iteration uses all detail.",
        figures=[(convergence_curves(figures["iteration"], known), "Figures of each iteration.")],
    )


def report(log: Log, particles: int) -> Path:
    """Write the page; return its name."""
    folder = log.folder
    truth, poses = (json.loads((folder / name).read_text(encoding="utf-8")) for name in ("maps.json", "poses.json"))
    summary = summary_figure(folder)
    save_png(summary, folder / "summary.png", dpi=105)
    resolution_part, resolution = resolution_section(folder, truth)
    sections = [
        input_section(folder),
        output_section(folder, summary),
        resolution_part,
        pose_section(folder, poses),
        course_section(folder),
        Section("Commands", "Run in this folder; times in seconds.", code="\n".join(log.lines)),
    ]
    lead = (
        f"{particles} simulated images gave a map at {resolution:.1f} Å (gold-standard FSC 0.143) in "
        f"{log.minutes:.1f} minutes; it agrees with the truth to {truth['resolution_fsc_0.5']:.1f} Å (FSC 0.5)."
    )
    write_page(folder / "report.html", "Vitrea: from particles to a map", lead, sections)
    return folder / "report.html"


def main() -> None:
    """Run the demo."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--particles", type=int, default=1000, help="number of images")
    parser.add_argument("--output", type=Path, default=Path("demo_output"), help="folder to write to")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    log = Log(arguments.output.resolve())
    prepare(log.folder)
    process(log, arguments.particles)
    page = report(log, arguments.particles)
    sys.stdout.write(f"\nDone in {log.minutes:.1f} minutes. Open {page} in a browser.\n")


if __name__ == "__main__":
    main()
