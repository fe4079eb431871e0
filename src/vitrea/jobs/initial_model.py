"""``vitrea initial-model``: a first 3D model from nothing but particles."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from vitrea.jobs.base import Context, Job, parameter
from vitrea.jobs.likelihood_parameters import (
    MASK,
    OPTIMISE,
    REFERENCE,
    RELION_OPTIONS,
    SAMPLING,
    LikelihoodParameters,
    likelihood_log,
)


class InitialModelParameters(LikelihoodParameters):
    """Make a first 3D model of particles whose orientations are not known, without any reference.

    It begins with several first maps (``--first_maps``), each from other particles at random orientations, on small
    images. In every iteration some of the particles are compared with the map in all orientations and put back by
    their probabilities; detail and the number of particles grow meanwhile. The best first map goes on in one start or
    several, each from the blurred, masked result of the one before. Symmetry is imposed from the beginning, or
    (``--run_in_c1``) its axes are found in a first map made without it and placed where RELION has them.

    A tenth of the particles never enters a map: these choose the best first map. The model must explain them better
    than a ball does; otherwise the job says that it has found no confident model. It also says how many of the first
    maps are the same as the best one: where none is, the model may be a wrong one.

    Writes ``<output>_class001.mrc`` (one for each class), ``_data.star``, ``_model.star``, ``_sampling.star``
    and ``_optimiser.star``, also for each iteration (``_it012_``), ``_classes.png``, ``_views.png``,
    ``_convergence.png``, ``_report.html`` and ``.log``.
    Any ``_it*_optimiser.star`` can be continued from. The hand of the model is arbitrary.
    """

    symmetry: str = parameter("C1", "Point group: Cn, Dn, T, O, I1 to I4.", options=["--sym"], tab=REFERENCE)
    run_in_c1: bool = parameter(
        False,
        "Make first maps without symmetry; then find the axes of the point group, and go on with them.",
        cistem="Always apply symmetry",
        tab=REFERENCE,
    )
    classes: int = parameter(1, "Number of models.", options=["--K"], cistem="Number of classes", ge=1)
    first_maps: int = parameter(
        5, "Independent first maps, of which the one that fits particles not used best goes on.", tab=OPTIMISE, ge=1
    )
    method: Literal["em", "sgd"] = parameter(
        "em",
        "em: a growing share of the particles at every iteration (cisTEM's scheme); sgd: mini-batches whose sums are "
        "carried on (stochastic gradient descent).",
        tab=OPTIMISE,
    )
    starts: int = parameter(
        1, "Number of starts, each from the result of the one before.", cistem="Number of starts", tab=OPTIMISE, ge=1
    )
    iterations: int = parameter(
        12, "Iterations of each start.", options=["--iter"], cistem="Number of cycles per start", tab=OPTIMISE, ge=2
    )
    particles_at_start: int = parameter(
        300, "Particles a class in the first iteration of a start.", cistem="Initial percent used", tab=OPTIMISE, ge=10
    )
    particles_at_end: int = parameter(
        3000, "Particles a class in the last iteration of a start.", cistem="Final percent used", tab=OPTIMISE, ge=10
    )
    start_resolution: float = parameter(
        40.0, "Resolution limit of the first iteration of a start.", unit="Å", cistem="Initial resolution limit",
        tab=OPTIMISE, gt=0,
    )  # fmt: skip
    finish_resolution: float = parameter(
        12.0, "Resolution limit of the last iteration of a start.", unit="Å", cistem="Final resolution limit",
        tab=OPTIMISE, gt=0,
    )  # fmt: skip
    auto_mask: bool = parameter(
        True, "Mask the map around its density before every further start.", cistem="Use auto-masking", tab=MASK
    )
    likelihood_blurring: bool = parameter(
        True,
        "Put each particle into the map in all probable orientations, not in the best one alone.",
        cistem="Apply likelihood blurring",
        tab=OPTIMISE,
        expert=True,
    )
    smoothing_factor: float = parameter(
        1.0,
        "Factor on log-likelihoods: below 1, particles are spread over more orientations.",
        cistem="Smoothing factor",
        tab=OPTIMISE,
        expert=True,
        gt=0,
        le=1,
    )
    annealing: bool = parameter(
        True,
        "Keep posteriors broad while first maps are made: clear particles would settle in a map that is still chance.",
        tab=OPTIMISE,
        expert=True,
    )
    tau2_fudge: float = parameter(
        4.0, "Regularisation parameter T: larger trusts the data more.", tab=OPTIMISE, expert=True, gt=0
    )
    healpix_order: int = parameter(
        2, "Angular step: 2 is 15°, 3 is 7.5°, before oversampling halves it.", tab=SAMPLING, ge=0, le=4
    )
    always_oversample: bool = parameter(
        False,
        "Look at fine poses even while the map is too blurred for that to matter: slower.",
        tab=SAMPLING,
        expert=True,
    )


def run(parameters: InitialModelParameters, context: Context) -> None:
    """Make a first model.

    Raises
    ------
    InputError
        If inputs are missing or do not fit each other, before anything is computed or written.
    """
    from vitrea.jobs.initial_model_run import make_initial_model

    make_initial_model(parameters, context)


def log_file(parameters: InitialModelParameters) -> Path | None:
    """Name the log: beside the other output files."""
    return likelihood_log(parameters)


JOB = Job(
    name="initial-model",
    summary="Make a first 3D model from nothing but particles.",
    parameters=InitialModelParameters,
    run=run,
    log_file=log_file,
    ignored_options={"--denovo_3dref": "initial-model always begins from nothing", **RELION_OPTIONS},
)
