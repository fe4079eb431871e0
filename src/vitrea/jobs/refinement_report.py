"""The page a refinement leaves: maps, resolution, views and convergence, for people."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from vitrea.geometry.euler import euler_to_matrix, matrix_to_euler
from vitrea.geometry.symmetry import symmetry_matrices
from vitrea.jobs.refinement_files import RefinementFiles
from vitrea.jobs.run_history import IterationRecord, read_history
from vitrea.likelihood.state import RunState
from vitrea.report.figures import angular_distribution, convergence_curves, fsc_curves, map_projections, map_slices
from vitrea.report.page import Section, write_page
from vitrea.report.png import figure_png, save_png


def write_report(files: RefinementFiles, state: RunState) -> None:
    """Write ``<root>_report.html`` and two of its pictures: ``_views.png`` and ``_convergence.png``.

    Parameters
    ----------
    files : RefinementFiles
        How the run settled is read from the files of its iterations.
    state : RunState
        After the last iteration.
    """
    group = (state.joined or state.models[0]).classes[0]
    optics = files.particles.optics[0]
    curve = "inside the mask" if files.settings.solvent_correct_fsc else "without mask"
    pixel, size, resolution = optics.pixel_size, optics.image_size, state.progress.resolution
    views = figure_png(angular_distribution(_all_views(state, files.settings.symmetry)))
    save_png(views, Path(f"{files.root}_views.png"))
    sections = [
        Section(
            "The map",
            "Slices through the centre, and sums along the axes. A good map shows a compact molecule on an even "
            "background, with detail as fine as the resolution promises.",
            facts={
                "particles": str(len(files.particles)),
                "symmetry": files.settings.symmetry,
                f"resolution {curve}": f"{resolution:.2f} Å",
                "angular accuracy": f"{group.accuracy_rotation:.2f}°",
                "translational accuracy": f"{group.accuracy_translation:.2f} Å",
            },
            figures=[
                (map_slices(group.voxels, pixel), "Central slices"),
                (map_projections(group.voxels, pixel), "Projections"),
            ],
        ),
        Section(
            "Resolution",
            "The correlation between the two half maps, shell by shell. Without a mask, solvent noise makes it look "
            "worse than it is; vitrea postprocess measures it with one.",
            figures=[
                (
                    fsc_curves({curve: group.fsc}, pixel, size, (0.5, 0.143), resolution=resolution),
                    "Fourier shell correlation",
                )
            ],
        ),
        Section(
            "Views",
            "From how many directions the particles were seen, each also as its symmetric equivalents. Large empty "
            "regions make a map poorer along some axes.",
            figures=[(views, "Particles per direction")],
        ),
    ]
    history = read_history(files.root, state.iteration)
    if len(history) > 1:
        settled = figure_png(_convergence(history))
        save_png(settled, Path(f"{files.root}_convergence.png"))
        sections.append(Section("Convergence", "How the run settled.", figures=[(settled, "Iteration by iteration")]))
    lead = f"{len(files.particles)} particles refined to {resolution:.2f} Å ({curve}) in {state.iteration} iterations."
    write_page(Path(f"{files.root}_report.html"), f"Refinement {files.root}", lead, sections)


def _convergence(history: Sequence[IterationRecord]) -> Figure:
    series = {
        "resolution (Å)": [record.resolution for record in history],
        "angular accuracy (°)": [float(record.accuracies[0]) for record in history],
        "change of angles (°)": [record.change_rotation for record in history],
        "change of offsets (Å)": [record.change_offset for record in history],
    }
    return convergence_curves([record.iteration for record in history], series)


def _all_views(state: RunState, symmetry: str) -> NDArray[np.float64]:
    """Angles of each particle and of its symmetric equivalents, shape [particles * operators, 3]."""
    views = euler_to_matrix(state.particles.eulers)[:, None] @ symmetry_matrices(symmetry)
    return matrix_to_euler(views.reshape(-1, 3, 3))
