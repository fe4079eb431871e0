"""One module per job-type: parameters and run(). This page lists them, without importing any."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vitrea.jobs.base import Job


@dataclass(frozen=True)
class JobEntry:
    """One line of the list of jobs: the command's name and what it does.

    A name of two words, as in ``pick blob``, belongs to a family of jobs. The job itself is ``JOB`` in the module
    ``vitrea.jobs.<name>``, hyphens and spaces of the name being underscores there; its `summary` is the same sentence.
    """

    name: str
    summary: str

    @property
    def slug(self) -> str:
        """The name as one word, for files and addresses: ``pick-blob``."""
        return self.name.replace(" ", "-")


# In the order in which they are used. A test holds each summary against the job's own.
JOBS: tuple[JobEntry, ...] = (
    JobEntry("doctor", "Check this machine: versions, devices, speed, memory, a self-test."),
    JobEntry("import movies", "Check movies and list them with gain, defects and the settings of the microscope."),
    JobEntry("import micrographs", "Check micrographs and list them with the settings of the microscope."),
    JobEntry("import coordinates", "Check particle coordinates of other programs, and write them for the micrographs."),
    JobEntry("import particles", "Check the stacks of a particle set, or list the images of stacks alone."),
    JobEntry("import maps", "Check maps and write them as plain MRC files with the right voxel size."),
    JobEntry("motion", "Align the frames of movies, whole and in patches, and sum them, weighted by exposure."),
    JobEntry("ctf", "Estimate defocus, astigmatism and phase shift of micrographs from their Thon rings."),
    JobEntry("pick blob", "Find particles in micrographs without a reference, by their size."),
    JobEntry("pick template", "Find particles in micrographs that look like given references."),
    JobEntry("pick manual", "Read, check, convert, join and sieve coordinate files of any program."),
    JobEntry("extract", "Cut particles out of micrographs or movie frames, normalised, rescaled, re-centred."),
    JobEntry(
        "preprocess", "Make particle images of other programs ready: normalise, invert, rescale, window; MRC and STAR."
    ),
    JobEntry("class2d", "Sort particles into 2D classes and average them, without a reference."),
    JobEntry("initial-model", "Make a first 3D model from nothing but particles."),
    JobEntry("class3d", "Sort particles into several 3D maps, from one low-pass filtered reference or several."),
    JobEntry("refine3d", "Refine a 3D map from particles: gold-standard half maps, resolution, poses."),
    JobEntry("select", "Choose, join and divide particles by class, column, grey values or distance."),
    JobEntry("sort", "Sort particles by how little they look like their references: junk comes last."),
    JobEntry("simulate particles", "Simulate particles of a map or an atomic model, with the truth beside them."),
    JobEntry("simulate micrographs", "Simulate micrographs of particles in ice, with the truth beside them."),
    JobEntry("simulate movie", "Simulate movies of particles that move and fade, with the truth beside them."),
    JobEntry("project", "Project a map along given orientations, with or without CTF."),
    JobEntry("reconstruct", "Reconstruct a map from particles whose poses are given."),
    JobEntry("symmetry-expand", "Repeat every particle in all orientations that a point group makes equivalent."),
    JobEntry("subtract", "Subtract the signal outside a mask from particle images."),
    JobEntry("mask", "Make a soft mask from a map, an atomic model, a difference of maps, or a shape."),
    JobEntry("postprocess", "Measure the resolution of two half maps and sharpen their sum."),
    JobEntry("localres", "Measure the resolution of half maps from place to place, and filter the map accordingly."),
    JobEntry("sharpen", "Sharpen a map by B-factors, spectral flattening and figures of merit, or automatically."),
    JobEntry(
        "map", "Change or measure maps, images and stacks: filters, boxes, arithmetic, symmetry, statistics, pictures."
    ),
    JobEntry("convert", "Convert images and maps between MRC, SPIDER, IMAGIC, TIFF and raw files."),
    JobEntry("symmetry", "Find the point group and the axes of a map, align it to them, or change its setting."),
    JobEntry("validate fsc3d", "Measure the resolution of two half maps direction by direction (3D FSC, sphericity)."),
    JobEntry(
        "validate orientations",
        "Measure how evenly views sample Fourier space: SCF, efficiency, a tilt that would help.",
    ),
    JobEntry("validate model", "Compare a map with an atomic model: FSC, over-fitting, hand, each chain and residue."),
    JobEntry("validate tilt-pairs", "Test orientations and hand by images of the same particles on a tilted stage."),
    JobEntry(
        "validate substitution",
        "Make the phases of particles random beyond a resolution, to measure over-fitting with.",
    ),
    JobEntry(
        "validate overfitting",
        "Measure over-fitting: the FSC of a refinement without what noise-substituted particles feign.",
    ),
    JobEntry("compare", "Compare two maps (placement, FSC) or the poses of two particle sets."),
    JobEntry("star copy", "Read a STAR file of any dialect and write it afresh, the same to the last digit."),
    JobEntry("star check", "Tell what other programs will stumble over in STAR files."),
    JobEntry("star print", "Print columns of a STAR file, or expressions of them, as plain text."),
    JobEntry("star plot", "Plot columns of a STAR file in the terminal, or as PNG or HTML."),
    JobEntry("star histogram", "Show statistics and a histogram of a column of a STAR file."),
    JobEntry("star select", "Keep the rows of a STAR file that meet conditions on their columns."),
    JobEntry("star operate", "Add, change, rename or remove columns of a STAR file, or sort its rows."),
    JobEntry("star loopheader", "Write the head of a STAR table, for rows that a script appends."),
    JobEntry("star datablock", "Write rows of a STAR table for the images of a stack, for files, or for XMIPP's list."),
    JobEntry("star combine", "Put the tables of several STAR files one behind the other, optics groups merged."),
    JobEntry("star split", "Divide a STAR file into parts of equal size, at random, or by a column."),
    JobEntry("star join", "Add columns of one STAR file to another, in the rows that have the same key."),
    JobEntry("star compare", "Tell which rows two STAR files share, and how their columns differ."),
    JobEntry(
        "star convert", "Convert particles between RELION's dialects, cisTEM, FREALIGN, cryoSPARC, XMIPP and EMAN2."
    ),
)

# What a family's first word means where no second follows.
FAMILY_DEFAULTS: Mapping[str, str] = {"import": "import movies", "simulate": "simulate particles"}

# RELION's scripts by the names they have here, after ``relion_``.
RELION_NAMES: Mapping[str, str] = {"star printtable": "star print", "star plottable": "star plot"}
# relion_star_handler does many things; the option that says which is first looked for.
STAR_HANDLER: Mapping[str, str] = {
    "compare": "star compare",
    "combine": "star combine",
    "split": "star split",
    "operate": "star operate",
    "add-column": "star operate",
    "center": "star operate",
    "remove-column": "star operate",
    "stat-column": "star histogram",
    "hist-column": "star histogram",
    "discard-on-stats": "select",
    "remove-duplicates": "select",
    "select": "star select",
    "select-by-str": "star select",
}


def load_job(name: str) -> Job:
    """Import and return one job.

    Parameters
    ----------
    name : str
        A name out of `JOBS`.

    Raises
    ------
    KeyError
        If there is no job of that name.
    """
    if name not in {entry.name for entry in JOBS}:
        raise KeyError(name)
    job: Job = import_module(f"vitrea.jobs.{re.sub('[ -]', '_', name)}").JOB
    return job
