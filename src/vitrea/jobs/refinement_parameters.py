"""What a user can choose in a 3D refinement."""

from __future__ import annotations

from pathlib import Path

from vitrea.jobs.base import parameter
from vitrea.jobs.likelihood_parameters import MASK, OPTIMISE, SAMPLING, MapReferenceParameters


class Refine3dParameters(MapReferenceParameters):
    """Refine one map against a particle set, as RELION's 3D auto-refine does.

    The particles are divided into two halves that never see each other beyond a low resolution; the Fourier shell
    correlation between their maps tells at every iteration how much detail to believe. Angular and
    translational steps become finer by themselves, and the run stops when nothing improves any more; a last iteration
    uses all frequencies and joins the halves.

    Writes ``<output>_class001.mrc``, the unfiltered half maps ``<output>_half1_class001_unfil.mrc`` and ``_half2_``
    for ``vitrea postprocess``, ``_data.star`` with the poses, ``_model.star``, ``_sampling.star`` and
    ``_optimiser.star``, all of them also for each iteration (``_it003_``), ``_views.png``, ``_convergence.png``,
    ``_report.html`` and ``.log``. Any ``_it*_optimiser.star`` can be continued from.
    """

    reference: Path | None = parameter(None, "Start map.", options=["--ref"])
    solvent_correct_fsc: bool = parameter(
        False,
        "Measure the resolution during the run inside the solvent mask, corrected for the mask: detail is seen sooner "
        "where the particle fills little of the box.",
        tab=MASK,
    )
    healpix_order: int = parameter(
        2, "First angular step: 2 is 15°, 3 is 7.5°, before oversampling halves it.", tab=SAMPLING, ge=0, le=8
    )
    auto_local_healpix_order: int = parameter(
        4, "Orientations are searched locally from this order on: 4 is 3.75°.", tab=SAMPLING, ge=1, le=9
    )
    local_sigma: float = parameter(
        2.0, "Width of local searches, in fine angular steps.", tab=SAMPLING, expert=True, gt=0
    )
    low_resol_join_halves: float = parameter(
        40.0,
        "The two halves share what is coarser than this, so that they keep one frame; the final ones share nothing.",
        unit="Å",
        tab=OPTIMISE,
        gt=0,
    )
    max_iterations: int = parameter(
        50,
        "Stop after so many iterations even without convergence.",
        options=["--iter"],
        tab=OPTIMISE,
        expert=True,
        ge=1,
    )
