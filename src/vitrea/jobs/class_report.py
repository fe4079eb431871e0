"""The pictures and the page that a classification leaves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from vitrea.jobs.class_files import ClassFiles
from vitrea.jobs.run_history import IterationRecord, read_history
from vitrea.likelihood.classification import Classification
from vitrea.likelihood.schedule import UNKNOWN, signal_shell
from vitrea.likelihood.state import RunState
from vitrea.report.figures import class_angular_distributions, class_convergence, class_gallery, class_maps
from vitrea.report.page import Section, write_page
from vitrea.report.png import figure_png, save_png


def write_class_report(
    files: ClassFiles,
    run: Classification,
    state: RunState,
    title: str,
    more: Mapping[str, str] | None = None,
) -> None:
    """Write ``<root>_report.html`` and its pictures: ``_classes.png``, ``_views.png`` of maps, ``_convergence.png``.

    Parameters
    ----------
    files : ClassFiles
        How the run settled is read from the files of its iterations.
    run : Classification
    state : RunState
        After the last iteration.
    title : str
    more : mapping of str to str
        Further facts.
    """
    groups, particles = state.models[0].classes, state.particles
    used = [group for group in groups if group.share > 0]
    gallery = figure_png(_gallery(files, state))
    save_png(gallery, Path(f"{files.root}_classes.png"))
    best = max(used, key=lambda group: signal_shell(group.ssnr))
    facts = {
        "particles": str(len(particles.class_index)),
        "classes": f"{len(used)} of {len(groups)} hold particles",
        "best resolution": f"{state.progress.resolution:.1f} Å",
        "changed class in the last iteration": f"{100 * state.progress.change_class:.1f}%",
    }
    if best.accuracy_rotation < UNKNOWN:
        facts["accuracy of the best class"] = f"{best.accuracy_rotation:.1f}°, {best.accuracy_translation:.1f} Å"
    facts |= more or {}
    about = (
        "Averages of particles that look alike, the largest class first. Good ones show a compact particle with "
        "detail; blurred ones, edges and spots are not worth keeping."
        if files.scheme.planar
        else "A row for each class: central slices and projections. Look for differences that make sense, and for "
        "classes that are worse versions of others."
    )
    sections = [Section("The classes", about, facts=facts, figures=[(gallery, "Classes")])]
    if not files.scheme.planar:
        views = figure_png(class_angular_distributions(particles.eulers, particles.class_index, len(groups)))
        save_png(views, Path(f"{files.root}_views.png"))
        sections.append(
            Section(
                "Views",
                "From how many directions the particles of each class were seen.",
                figures=[(views, "Particles per direction, relative to an even distribution")],
            )
        )
    history = read_history(files.root, state.iteration)
    if len(history) > 1:
        settled = figure_png(_convergence(history, [len(run.chosen(record.iteration)) for record in history]))
        save_png(settled, Path(f"{files.root}_convergence.png"))
        sections.append(Section("Convergence", "How the run settled.", figures=[(settled, "Iteration by iteration")]))
    lead = f"{len(particles.class_index)} particles in {len(used)} classes after {state.iteration} iterations."
    write_page(Path(f"{files.root}_report.html"), title, lead, sections)


def class_counts(state: RunState) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Return the number of particles of which each class is the best."""
    return np.bincount(state.particles.class_index, minlength=len(state.models[0].classes))


def class_resolutions(files: ClassFiles, state: RunState) -> list[float]:
    """Return the resolution of each class in Å."""
    return [files.box_angstrom / max(signal_shell(group.ssnr), 1) for group in state.models[0].classes]


def _gallery(files: ClassFiles, state: RunState) -> Figure:
    groups, pixel_size = state.models[0].classes, files.optics()[0]
    shares = [group.share for group in groups]
    counts, resolutions = class_counts(state), class_resolutions(files, state)
    diameter = files.settings.particle_diameter
    if files.scheme.planar:
        stack = np.stack([group.voxels for group in groups])
        return class_gallery(stack, pixel_size, shares, counts, resolutions, mask_diameter=diameter)
    return class_maps([group.voxels for group in groups], pixel_size, shares, counts, resolutions, diameter)


def _convergence(history: Sequence[IterationRecord], used: Sequence[int]) -> Figure:
    resolutions = np.array([record.resolutions for record in history])
    several = resolutions.shape[1] > 1
    return class_convergence(
        [record.iteration for record in history],
        changed=[record.change_class for record in history] if several else None,
        angles=[record.change_rotation for record in history],
        offsets=[record.change_offset for record in history],
        resolutions=resolutions if several else resolutions[:, 0],
        particles=used,
        shares=np.array([record.shares for record in history]) if several else None,
    )
