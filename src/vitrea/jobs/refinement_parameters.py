"""What a user can choose in a 3D refinement."""

from __future__ import annotations

from pathlib import Path

from vitrea.jobs.base import JobParameters, parameter

_MASK, _CTF, _REFERENCE = "Mask", "CTF", "Reference"
_SAMPLING, _OPTIMISE, _COMPUTE = "Sampling", "Optimisation", "Compute"


class Refine3dParameters(JobParameters):
    """Refine one map against a particle set, as RELION's 3D auto-refine does.

    The particles are divided into two halves that never see each other beyond a low resolution; the Fourier shell
    correlation between their maps tells at every iteration how much detail to believe. Angular and
    translational steps become finer by themselves, and the run stops when nothing improves any more; a last iteration
    uses all frequencies and joins the halves.

    Writes ``<output>_class001.mrc``, the unfiltered half maps ``<output>_half1_class001_unfil.mrc`` and ``_half2_``
    for ``vitrea postprocess``, ``_data.star`` with the poses, ``_model.star``, ``_sampling.star`` and
    ``_optimiser.star``, all of them also for each iteration (``_it003_``), ``_report.html`` and ``.log``. Any
    ``_it*_optimiser.star`` can be continued from.
    """

    particles: Path | None = parameter(None, "STAR file with the particles.", options=["--i"])
    output: Path | None = parameter(None, "Start of the names of all output files, e.g. Refine3D/run.", options=["--o"])
    reference: Path | None = parameter(None, "Start map.", options=["--ref"])
    solvent_mask: Path | None = parameter(
        None, "Mask for the reference, values 0 to 1, instead of a sphere.", options=["--solvent_mask"]
    )
    continue_from: Path | None = parameter(
        None,
        "Go on from this optimiser file (run_it007_optimiser.star) with the parameters stored in it; other options "
        "given here take the place of the stored ones.",
        options=["--continue"],
    )
    absolute_greyscale: bool = parameter(
        False,
        "The start map is on the absolute greyscale of the particles; if not, the first iteration uses "
        "cross-correlation.",
        tab=_REFERENCE,
    )
    firstiter_cc: bool | None = parameter(
        None, "RELION's word for a start map that is not on the absolute greyscale.", tab=_REFERENCE, expert=True
    )
    initial_low_pass: float = parameter(
        60.0, "Low-pass filter for the start map; 0: none.", unit="Å", options=["--ini_high"], tab=_REFERENCE, ge=0
    )
    symmetry: str = parameter("C1", "Point group: Cn, Dn, T, O, I1 to I4.", options=["--sym"], tab=_REFERENCE)
    ctf: bool = parameter(True, "Correct for the contrast transfer function.", tab=_CTF)
    ctf_intact_first_peak: bool = parameter(False, "Leave the CTF alone up to its first peak.", tab=_CTF)
    ctf_phase_flipped: bool = parameter(False, "The images have been phase-flipped.", tab=_CTF)
    only_flip_phases: bool = parameter(False, "Correct phases only, not amplitudes.", tab=_CTF, expert=True)
    particle_diameter: float = parameter(
        0.0, "Diameter of the spherical mask on particles and reference; 0: 90% of the box.", unit="Å", tab=_MASK, ge=0
    )
    mask_edge: float = parameter(
        5.0, "Width of the mask's soft edge.", unit="pixels", options=["--maskedge"], tab=_MASK, expert=True, ge=0
    )
    zero_mask: bool = parameter(True, "Fill the outside of the particle mask with zeros, not with noise.", tab=_MASK)
    flatten_solvent: bool = parameter(True, "Mask the reference after each iteration.", tab=_MASK, expert=True)
    solvent_correct_fsc: bool = parameter(
        False,
        "Measure the resolution during the run inside the solvent mask, corrected for the mask: detail is seen sooner "
        "where the particle fills little of the box.",
        tab=_MASK,
    )
    healpix_order: int = parameter(
        2, "First angular step: 2 is 15°, 3 is 7.5°, before oversampling halves it.", tab=_SAMPLING, ge=0, le=8
    )
    auto_local_healpix_order: int = parameter(
        4, "Orientations are searched locally from this order on: 4 is 3.75°.", tab=_SAMPLING, ge=1, le=9
    )
    oversampling: int = parameter(
        1, "How often the fine pass halves the steps.", tab=_SAMPLING, expert=True, ge=0, le=3
    )
    offset_range: float = parameter(5.0, "First translational search.", unit="pixels", tab=_SAMPLING, ge=0)
    offset_step: float = parameter(2.0, "First coarse translational step.", unit="pixels", tab=_SAMPLING, gt=0)
    perturb: float = parameter(
        0.5, "Largest random turn of the grid at each iteration, in steps.", tab=_SAMPLING, expert=True, ge=0, le=1
    )
    local_sigma: float = parameter(
        2.0, "Width of local searches, in fine angular steps.", tab=_SAMPLING, expert=True, gt=0
    )
    tau2_fudge: float = parameter(
        1.0, "Regularisation parameter T: larger trusts the data more.", tab=_OPTIMISE, expert=True, gt=0
    )
    low_resol_join_halves: float = parameter(
        40.0,
        "The two halves share what is coarser than this, so that they keep one frame.",
        unit="Å",
        tab=_OPTIMISE,
        gt=0,
    )
    norm: bool = parameter(True, "Estimate a grey-value factor for each particle.", tab=_OPTIMISE, expert=True)
    scale: bool = parameter(True, "Estimate an intensity scale for each group.", tab=_OPTIMISE, expert=True)
    strict_highres: float = parameter(
        0.0, "Never compare beyond this resolution; 0: no limit.", unit="Å", options=["--strict_highres_exp"],
        tab=_OPTIMISE, expert=True, ge=0,
    )  # fmt: skip
    strict_lowres: float = parameter(
        0.0, "Never compare what is coarser than this; 0: no limit.", unit="Å", options=["--strict_lowres_exp"],
        tab=_OPTIMISE, expert=True, ge=0,
    )  # fmt: skip
    adaptive_fraction: float = parameter(
        0.999, "Share of the probability that the fine pass keeps.", tab=_OPTIMISE, expert=True, gt=0, lt=1
    )
    max_iterations: int = parameter(
        50,
        "Stop after so many iterations even without convergence.",
        options=["--iter"],
        tab=_OPTIMISE,
        expert=True,
        ge=1,
    )
    random_seed: int = parameter(1, "Seed of everything random.", tab=_OPTIMISE, expert=True, ge=0)
    padding: int = parameter(
        2, "Oversampling of Fourier space.", options=["--pad"], tab=_COMPUTE, expert=True, ge=1, le=3
    )
    device: str = parameter("auto", "auto, cpu, cuda or cuda:1.", tab=_COMPUTE)
    threads: int = parameter(0, "Threads; 0: all.", tab=_COMPUTE, ge=0)
    working_memory: int = parameter(
        0,
        "Memory for scores; 0: chosen from the box size and what is free.",
        unit="MiB",
        tab=_COMPUTE,
        expert=True,
        ge=0,
    )
