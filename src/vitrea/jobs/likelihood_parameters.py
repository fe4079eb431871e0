"""What a user can choose in every likelihood job."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Self

from pydantic import model_validator

from vitrea.jobs.base import JobParameters, parameter
from vitrea.records.errors import InputError

MASK, CTF, REFERENCE = "Mask", "CTF", "Reference"
SAMPLING, OPTIMISE, COMPUTE = "Sampling", "Optimisation", "Compute"
# What follows the root in the name of an optimiser file, with or without the number of the iteration.
_OPTIMISER = re.compile(r"(_it\d+)?_optimiser\.star$")


# Options of RELION that mean nothing here, with what is said to those who give them.
RELION_OPTIONS = {
    "--dont_combine_weights_via_disc": "sums are never exchanged through files",
    "--j=": "all processors are used, as MPI ranks and threads together were; limit them with --threads",
    "--pool=": "particles are pooled to fit the memory",
    "--preread_images": "images are memory-mapped",
    "--no_parallel_disc_io": "reading is not done in parallel",
    "--scratch_dir=": "images are read where they are",
    "--gpu=": "choose the device with --device",
    "--cpu": "choose the device with --device",
}


class LikelihoodParameters(JobParameters):
    """Parameters that refinement and classification share."""

    particles: Path | None = parameter(None, "STAR file with the particles.", options=["--i"])
    output: Path | None = parameter(None, "Start of the names of all output files, e.g. Refine3D/run.", options=["--o"])
    continue_from: Path | None = parameter(
        None,
        "Go on from this optimiser file (run_it007_optimiser.star) with the parameters stored in it; other options "
        "given here take the place of the stored ones.",
        options=["--continue"],
    )
    ctf: bool = parameter(True, "Correct for the contrast transfer function.", tab=CTF)
    ctf_intact_first_peak: bool = parameter(False, "Leave the CTF alone up to its first peak.", tab=CTF)
    ctf_phase_flipped: bool = parameter(False, "The images have been phase-flipped.", tab=CTF)
    only_flip_phases: bool = parameter(False, "Correct phases only, not amplitudes.", tab=CTF, expert=True)
    particle_diameter: float = parameter(
        0.0, "Diameter of the spherical mask on particles and references; 0: 90% of the box.", unit="Å", tab=MASK, ge=0
    )
    mask_edge: float = parameter(
        5.0, "Width of the mask's soft edge.", unit="pixels", options=["--maskedge"], tab=MASK, expert=True, ge=0
    )
    zero_mask: bool = parameter(True, "Fill the outside of the particle mask with zeros, not with noise.", tab=MASK)
    gather_signal: bool = parameter(
        False,
        "Flip the phases of images while the mask is put on them, so that what defocus has spread beyond it is kept "
        "and what it has spread of neighbours is not.",
        tab=MASK,
        expert=True,
    )
    flatten_solvent: bool = parameter(True, "Mask references after each iteration.", tab=MASK, expert=True)
    oversampling: int = parameter(1, "How often the fine pass halves the steps.", tab=SAMPLING, expert=True, ge=0, le=3)
    offset_range: float = parameter(
        5.0, "Translational search around the last offset.", unit="pixels", tab=SAMPLING, ge=0
    )
    offset_step: float = parameter(2.0, "Coarse translational step.", unit="pixels", tab=SAMPLING, gt=0)
    perturb: float = parameter(
        0.5, "Largest random turn of the grid at each iteration, in steps.", tab=SAMPLING, expert=True, ge=0, le=1
    )
    tau2_fudge: float = parameter(
        1.0, "Regularisation parameter T: larger trusts the data more.", tab=OPTIMISE, expert=True, gt=0
    )
    norm: bool = parameter(True, "Estimate a grey-value factor for each particle.", tab=OPTIMISE, expert=True)
    scale: bool = parameter(True, "Estimate an intensity scale for each group.", tab=OPTIMISE, expert=True)
    strict_highres: float = parameter(
        0.0, "Never compare beyond this resolution; 0: no limit.", unit="Å", options=["--strict_highres_exp"],
        tab=OPTIMISE, expert=True, ge=0,
    )  # fmt: skip
    strict_lowres: float = parameter(
        0.0, "Never compare what is coarser than this; 0: no limit.", unit="Å", options=["--strict_lowres_exp"],
        tab=OPTIMISE, expert=True, ge=0,
    )  # fmt: skip
    adaptive_fraction: float = parameter(
        0.999, "Share of the probability that the fine pass keeps.", tab=OPTIMISE, expert=True, gt=0, lt=1
    )
    random_seed: int = parameter(1, "Seed of everything random.", tab=OPTIMISE, expert=True, ge=0)
    padding: int = parameter(
        2, "Oversampling of Fourier space.", options=["--pad"], tab=COMPUTE, expert=True, ge=1, le=3
    )
    device: str = parameter("auto", "auto, cpu, cuda or cuda:1.", tab=COMPUTE)
    threads: int = parameter(0, "Threads; 0: all.", tab=COMPUTE, ge=0)
    working_memory: int = parameter(
        0,
        "Memory for scores; 0: chosen from the box size and what is free.",
        unit="MiB",
        tab=COMPUTE,
        expert=True,
        ge=0,
    )


class MapReferenceParameters(LikelihoodParameters):
    """Parameters of jobs that start from a map."""

    solvent_mask: Path | None = parameter(
        None, "Mask for references, values 0 to 1, instead of a sphere.", options=["--solvent_mask"], tab=MASK
    )
    absolute_greyscale: bool = parameter(
        False,
        "The start map is on the absolute greyscale of the particles; if not, the first iteration uses "
        "cross-correlation.",
        tab=REFERENCE,
    )
    firstiter_cc: bool | None = parameter(
        None, "RELION's word for a start map that is not on the absolute greyscale.", tab=REFERENCE, expert=True
    )
    initial_low_pass: float = parameter(
        60.0, "Low-pass filter for the start map; 0: none.", unit="Å", options=["--ini_high"], tab=REFERENCE, ge=0
    )
    symmetry: str = parameter("C1", "Point group: Cn, Dn, T, O, I1 to I4.", options=["--sym"], tab=REFERENCE)

    @model_validator(mode="after")
    def _check_greyscale(self) -> Self:
        # An InputError, not a ValueError: it reaches the user as the same sentence where stored parameters are read
        # again by --continue.
        if self.absolute_greyscale and self.firstiter_cc:
            raise InputError(
                "--absolute_greyscale and --firstiter_cc contradict each other: the start map is either on the "
                "greyscale of the particles, or compared by cross-correlation in the first iteration; give one of them"
            )
        return self


def likelihood_log(parameters: LikelihoodParameters) -> Path | None:
    """Name the log of a likelihood job: beside its other output files."""
    if parameters.output is not None:
        return Path(f"{parameters.output}.log")
    if parameters.continue_from is not None:
        return Path(_OPTIMISER.sub("", str(parameters.continue_from)) + ".log")
    return None
