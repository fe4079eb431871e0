"""What a user can choose in 2D and 3D classification."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from vitrea.jobs.base import parameter
from vitrea.jobs.likelihood_parameters import (
    MASK,
    OPTIMISE,
    REFERENCE,
    SAMPLING,
    LikelihoodParameters,
    MapReferenceParameters,
)

SCHEDULE_HELP = (
    "em: all particles at every iteration; auto: some hundred particles a class at first, then 30%, then all, with "
    "a resolution limit that rises from start to finish (cisTEM); batches: mini-batches whose sums are carried on."
)


class ClassParameters(LikelihoodParameters):
    """Parameters that 2D and 3D classification share."""

    classes: int = parameter(10, "Number of classes.", options=["--K"], cistem="Number of classes", ge=1)
    iterations: int = parameter(
        25,
        "Number of iterations; with --continue, the last one to reach, by which schedules then reckon.",
        options=["--iter"],
        cistem="Number of cycles to run",
        tab=OPTIMISE,
        ge=1,
    )
    skip_align: bool = parameter(
        False, "Keep the poses that the particles have: only classes are found.", tab=SAMPLING, expert=True
    )
    skip_rotate: bool = parameter(
        False,
        "Keep the orientations that the particles have: offsets and classes are found.",
        tab=SAMPLING,
        expert=True,
    )
    smoothing_factor: float = parameter(
        1.0,
        "Factor on log-likelihoods: below 1, particles are spread over more poses and classes.",
        cistem="Smoothing factor",
        tab=OPTIMISE,
        expert=True,
        gt=0,
        le=1,
    )
    schedule: Literal["em", "auto", "batches"] = parameter(
        "em",
        SCHEDULE_HELP,
        cistem="Auto percent used",
        tab=OPTIMISE,
    )
    particles_per_class: int = parameter(
        300, "Particles a class in the first iterations of auto, and in a mini-batch.", tab=OPTIMISE, expert=True, ge=1
    )
    percent_used: float = parameter(
        0.0,
        "Share of the particles that takes part in each iteration, others every time, until all have; 0: as the "
        "schedule has it.",
        unit="%",
        cistem="Percent used",
        tab=OPTIMISE,
        expert=True,
        ge=0,
        le=100,
    )
    start_resolution: float = parameter(
        40.0,
        "Resolution limit of the first iteration, unless the schedule is em.",
        unit="Å",
        cistem="Start resolution limit",
        tab=OPTIMISE,
        expert=True,
        gt=0,
    )
    finish_resolution: float = parameter(
        8.0,
        "Resolution limit of the last iteration, unless the schedule is em.",
        unit="Å",
        cistem="Finish resolution limit",
        tab=OPTIMISE,
        expert=True,
        gt=0,
    )
    always_oversample: bool = parameter(
        False,
        "Look at fine poses even while references are too blurred for that to matter: slower.",
        tab=SAMPLING,
        expert=True,
    )


class Class2dParameters(ClassParameters):
    """Sort particles into 2D classes and average each of them, without a reference, with full CTF correction.

    Classes, in-plane angles, offsets, noise and grey values are estimated together by regularised likelihood, as
    RELION does. It starts from averages of particles taken by chance, or from given references.

    Writes ``<output>_it025_classes.mrcs`` (averages), ``_model.star`` (share, resolution and accuracy of each class,
    SSNR tables), ``_data.star`` (class and pose of each particle), ``_sampling.star`` and ``_optimiser.star`` at every
    iteration, the last ones also without a number (``<output>_classes.mrcs``), a gallery ``_classes.png``,
    ``_convergence.png``, ``_report.html`` and ``.log``. Any ``_optimiser.star`` can be continued from, also with other
    samplings. Next: ``vitrea select --auto``.
    """

    schedule: Literal["em", "auto", "batches"] = parameter(
        "auto", SCHEDULE_HELP, cistem="Auto percent used", tab=OPTIMISE
    )
    reference: Path | None = parameter(
        None,
        "Class averages to start from: a stack, or a STAR file with rlnReferenceImage.",
        options=["--ref"],
        tab=REFERENCE,
    )
    initial_low_pass: float = parameter(
        0.0,
        "Low-pass filter for the first references; 0: none for given ones, 0.07 / pixel for random ones.",
        unit="Å",
        options=["--ini_high"],
        tab=REFERENCE,
        expert=True,
        ge=0,
    )
    tau2_fudge: float = parameter(2.0, "Regularisation parameter T: larger trusts the data more.", tab=OPTIMISE, gt=0)
    even_shares: bool = parameter(
        True,
        "Let all classes be equally probable beforehand, not by the particles they hold: small classes live longer.",
        tab=OPTIMISE,
        expert=True,
    )
    psi_step: float = parameter(
        12.0,
        "In-plane angular step, before oversampling halves it.",
        unit="degrees",
        cistem="Angular search step",
        tab=SAMPLING,
        gt=0,
        le=90,
    )
    center_classes: bool = parameter(
        True, "Keep the mass of each average at the centre of its box.", tab=OPTIMISE, cistem="Auto centre"
    )
    exclude_blank_edges: bool = parameter(
        False,
        "Set particles aside whose windows hang over the edge of their micrograph (flat stripes).",
        cistem="Exclude blank edges",
        tab=MASK,
        expert=True,
    )


class Class3dParameters(ClassParameters, MapReferenceParameters):
    """Sort particles into several 3D maps: unsupervised 3D classification.

    It starts from one low-pass filtered map, given to all classes while particles are dealt out by chance, or from
    several. Poses are searched everywhere, near those the particles have (``--sigma_ang``), or not at all
    (``--skip_align``). One class is a careful refinement at fixed sampling without half sets. With known poses, a
    region of interest (``--focus_sphere``) can decide on classes alone, whatever else differs.

    Writes ``<output>_it025_class001.mrc``, ``_class002.mrc`` ... , ``_model.star``, ``_data.star`` (class, pose, and
    the probability of every class as ``vitreaOccupancy1`` ...), ``_sampling.star`` and ``_optimiser.star`` at every
    iteration, the last ones also without a number, ``_classes.png`` (slices and projections), ``_views.png`` (angular
    distribution), ``_convergence.png``, ``_report.html`` and ``.log``. Any ``_optimiser.star`` can be continued from,
    also with other settings.
    """

    classes: int = parameter(4, "Number of classes.", options=["--K"], cistem="Number of classes", ge=1)
    reference: Path | None = parameter(
        None,
        "Start map; or a STAR file with one map a class (rlnReferenceImage).",
        options=["--ref"],
        tab=REFERENCE,
    )
    tau2_fudge: float = parameter(4.0, "Regularisation parameter T: larger trusts the data more.", tab=OPTIMISE, gt=0)
    healpix_order: int = parameter(
        2, "Angular step: 2 is 15°, 3 is 7.5°, before oversampling halves it.", tab=SAMPLING, ge=0, le=8
    )
    even_shares: bool = parameter(
        False,
        "Let all classes be equally probable beforehand, not by the particles they hold.",
        tab=OPTIMISE,
        expert=True,
    )
    balanced: float = parameter(
        0.75,
        "Share of the iterations, the first ones, in which all classes are kept equally large, so that none swallows "
        "the others while maps are vague (not where poses are known); 0: never, as RELION does.",
        tab=OPTIMISE,
        ge=0,
        le=1,
    )
    sigma_ang: float = parameter(
        0.0,
        "Search only near the orientations the particles have: width of the prior; 0: search everywhere.",
        unit="degrees",
        tab=SAMPLING,
        ge=0,
    )
    local_range: float = parameter(
        0.0,
        "The same as a range: three times the width.",
        unit="degrees",
        options=["--local_search_range"],
        tab=SAMPLING,
        expert=True,
        ge=0,
    )
    center_classes: bool = parameter(
        False, "Keep the mass of each map at the centre of its box.", tab=OPTIMISE, expert=True
    )
    focus_sphere: str | None = parameter(
        None,
        "Let one region decide on classes: X,Y,Z,RADIUS of a sphere, counted from the first voxel of the map; needs "
        "known poses (--skip_align, --skip_rotate or --sigma_ang).",
        unit="Å",
        cistem="Use masking: X, Y, Z, radius of the sphere",
        tab=OPTIMISE,
        expert=True,
    )
