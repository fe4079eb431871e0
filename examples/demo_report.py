"""What both ways of the demonstration show: the map, how fine it is, how the refinement went."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from demo_molecule import PIXEL_SIZE
from matplotlib.figure import Figure
from numpy.typing import NDArray

from vitrea.formats.mrc import read_map
from vitrea.formats.particle_files import read_particles
from vitrea.formats.star import read_star
from vitrea.fourier.filters import lowpass
from vitrea.records.table import Table
from vitrea.report.figures import angular_distribution, convergence_curves, fsc_curves, image_gallery, map_projections
from vitrea.report.page import Section

UNKNOWN = 999.0  # RELION's way to say that an accuracy is not known yet
SHOWN_HEIGHT = 21.0  # Å above the middle, of the plane in the summary; the symmetry axes leave the middle rather empty


def iterations(path: Path) -> dict[str, list[float]]:
    """Read the figures of each iteration out of a job's log."""
    rows = [
        dict(word.split("=", 1) for word in line.split())
        for line in path.read_text(encoding="utf-8").splitlines()
        if line.startswith("iteration=")
    ]
    return {key: [float(row[key]) for row in rows] for key in rows[0]}


def smooth(images: NDArray[Any], resolution: float = 20.0, dims: int = 2) -> NDArray[np.float32]:
    """Low-pass filter images, or with 3 for `dims` maps, for the eye."""
    tensor = torch.from_numpy(np.array(images, dtype=np.float32))
    return np.asarray(lowpass(tensor, resolution, PIXEL_SIZE, dims=dims).numpy())


def cut(path: Path) -> NDArray[np.float32]:
    """Return the plane of a map that the summary shows."""
    density = read_map(path)
    return np.asarray(density.voxels[len(density.voxels) // 2 + round(SHOWN_HEIGHT / PIXEL_SIZE)])


def map_section(summary: Figure, caption: str, path: Path) -> Section:
    """Show the sharpened map."""
    sharpened = read_map(path).voxels
    middle = len(sharpened) // 2
    planes = range(middle - 12, middle + 13, 6)
    heights = [f"z = {(plane - middle) * PIXEL_SIZE:g} Å" for plane in planes]
    return Section(
        "What came out",
        "The sharpened map inside its mask. The bright spots and rods are alpha helices, seen along and across.",
        figures=[
            (summary, caption),
            (image_gallery([sharpened[plane] for plane in planes], PIXEL_SIZE, heights), "Slices at five heights."),
            (map_projections(sharpened, PIXEL_SIZE), "Sums along the axes."),
        ],
    )


def resolution_section(folder: Path, truth: Mapping[str, Any]) -> tuple[Section, float]:
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
    figure = fsc_curves(drawn, PIXEL_SIZE, truth["box_size"], (0.143, 0.5), resolution)
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


def views_section(folder: Path) -> Section:
    """Show the directions of view."""
    return Section(
        "From where was it seen?",
        "Nothing was known of the direction from which each image was taken. The refinement finds it.",
        figures=[views_figure(folder)],
    )


def views_figure(folder: Path) -> tuple[Figure, str]:
    """Draw the directions of view; return the figure and its caption."""
    eulers = read_particles(folder / "Refine3D/run_data.star").eulers
    caption = (
        "Particles per direction of view, one symmetric copy of each; cells have equal area. The directions fill one "
        "quarter of the sphere: the others are equivalent by D2 symmetry."
    )
    return angular_distribution(eulers), caption


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
