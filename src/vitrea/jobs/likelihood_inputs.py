"""What all likelihood jobs do before and after the run itself: settings, bad images, memory, provenance."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

import vitrea
from vitrea.compute.devices import choose_device, set_threads
from vitrea.compute.memory import available_memory
from vitrea.formats.atomic import atomic_path
from vitrea.formats.images import ParticleImages, find_bad_images, find_blank_edges
from vitrea.jobs.base import Context
from vitrea.jobs.likelihood_parameters import LikelihoodParameters
from vitrea.jobs.run_files import OCCUPANCY_LABEL, read_parameters
from vitrea.likelihood.data import ParticleData
from vitrea.likelihood.memory import working_memory
from vitrea.likelihood.settings import Settings
from vitrea.records.errors import InputError
from vitrea.records.particles import Particles

P = TypeVar("P", bound=LikelihoodParameters)

# A run goes on without its bad images unless they are more than this share of all: then something else is wrong.
TOLERATED_BAD_IMAGES = 0.05
# Fewer particles than this in a group make its noise spectrum and scale unreliable.
SMALL_GROUP = 10
# Where an optimiser file says which job wrote it, among the parameters.
_JOB = "job"


def resolve(parameters: P, job: str) -> tuple[P, Path | None]:
    """Return the parameters to run with; when continuing, the stored ones with what was given anew on top.

    Raises
    ------
    InputError
        If the run to continue is one of another job.
    """
    if parameters.continue_from is None:
        return parameters, None
    stored = read_parameters(parameters.continue_from)
    origin = stored.get(_JOB, job)
    if origin != job:
        raise InputError(f"{parameters.continue_from} is of a run of {origin}: only vitrea {origin} can continue it")
    known = {name: value for name, value in stored.items() if name in type(parameters).model_fields}
    given = {name: getattr(parameters, name) for name in parameters.model_fields_set}
    merged = {**known, **given}
    return type(parameters).model_validate(merged), parameters.continue_from


def begin(parameters: P, job: str) -> tuple[P, Path | None, torch.device]:
    """Return the parameters to run with, the optimiser file to go on from, and the device.

    Raises
    ------
    InputError
        If the run to continue is one of another job, or the particles or the output are not named.
    """
    parameters, continued = resolve(parameters, job)
    if parameters.particles is None or parameters.output is None:
        raise InputError("--i (particles) and --o (start of the output names) are needed, or --continue")
    set_threads(parameters.threads)
    return parameters, continued, choose_device(parameters.device)


def stored(parameters: LikelihoodParameters, job: str) -> dict[str, object]:
    """Return the name of the job and its parameters as STAR values; those without a value are left out."""
    values = parameters.model_dump(mode="json", exclude={"continue_from"})
    return {_JOB: job, **{name: value for name, value in values.items() if value is not None}}


def with_memory(parameters: P, box_size: int, device: torch.device, least: int = 0) -> P:
    """Settle the working memory: stored, because blocks of another size would sum in another order when continued."""
    if parameters.working_memory > 0:
        return parameters
    available = available_memory(device)
    chosen = max(working_memory(box_size, available), min(least, available // 8))
    return parameters.model_copy(update={"working_memory": chosen >> 20})


def base_settings(parameters: LikelihoodParameters, box: int, pixel_size: float) -> Settings:
    """Return the settings that all likelihood jobs share; pixels become Å.

    Raises
    ------
    InputError
        If the mask or the search for offsets is wider than the box.
    """
    diameter = parameters.particle_diameter or 0.9 * box * pixel_size
    if diameter > box * pixel_size:
        raise InputError(
            f"--particle_diameter is {diameter:g} Å, but the box of the particles is only {box * pixel_size:g} Å wide"
        )
    if parameters.offset_range > box / 2:
        raise InputError(
            f"--offset_range is {parameters.offset_range:g} pixels, but the box of the particles is only {box} wide: "
            "half of that is the most"
        )
    return Settings(
        particle_diameter=diameter,
        mask_edge=parameters.mask_edge,
        zero_mask=parameters.zero_mask,
        gather_signal=parameters.gather_signal,
        flatten_solvent=parameters.flatten_solvent,
        ctf=parameters.ctf,
        ctf_intact_first_peak=parameters.ctf_intact_first_peak,
        ctf_phase_flipped=parameters.ctf_phase_flipped,
        only_flip_phases=parameters.only_flip_phases,
        norm_correction=parameters.norm,
        scale_correction=parameters.scale,
        tau2_fudge=parameters.tau2_fudge,
        padding=parameters.padding,
        oversampling=parameters.oversampling,
        adaptive_fraction=parameters.adaptive_fraction,
        offset_range=parameters.offset_range * pixel_size,
        offset_step=parameters.offset_step * pixel_size,
        perturbation=parameters.perturb,
        highest_resolution=parameters.strict_highres,
        lowest_resolution=parameters.strict_lowres,
        seed=parameters.random_seed,
    )


def without_bad_images(
    particles: Particles, images: ParticleImages, context: Context, blank_edges: bool = False
) -> tuple[Particles, tuple[Particles, list[str]] | None]:
    """Set bad images aside by name; refuse where they are many.

    Parameters
    ----------
    particles, images
        The particle set.
    context : Context
    blank_edges : bool
        Set those aside too whose window hung over the edge of the micrograph; these may be many.

    Returns
    -------
    Particles
        What is left.
    (Particles, list of str) or None
        What was set aside, with the reasons.
    """
    bad = find_bad_images(images)
    if len(bad) > max(1, TOLERATED_BAD_IMAGES * len(particles)):
        raise InputError(
            f"{particles.source}: {len(bad)} of {len(particles)} images cannot be used ({bad[0].name}: "
            f"{bad[0].reason}); extract them again"
        )
    if blank_edges:
        known = {item.index for item in bad}
        bad += [item for item in find_blank_edges(images) if item.index not in known]
        bad.sort(key=lambda item: item.index)
    if not bad:
        return particles, None
    named = ", ".join(item.name for item in bad[:10]) + (" ..." if len(bad) > 10 else "")
    context.recorder.warn(f"{len(bad)} images are set aside: {named} ({bad[0].name}: {bad[0].reason})")
    keep = np.ones(len(particles), dtype=bool)
    keep[[item.index for item in bad]] = False
    if not keep.any():
        raise InputError(f"{particles.source}: every image has a blank edge; leave out --exclude_blank_edges")
    return particles.rows(keep), (particles.rows(~keep), [item.reason for item in bad])


def without_history(particles: Particles) -> Particles:
    """Forget what an earlier run found, poses and offsets excepted: classes of that run are not those of this one."""
    count = len(particles)
    stale = [label for label in particles.table if label.startswith(OCCUPANCY_LABEL)]
    # One number stands for all rows, without memory for each.
    return replace(particles, table=particles.table.without(*stale)).with_columns(
        {
            "rlnNormCorrection": np.broadcast_to(1.0, count),
            "rlnMaxValueProbDistribution": np.broadcast_to(0.0, count),
            "rlnNrOfSignificantSamples": np.broadcast_to(0, count),
            "rlnClassNumber": np.broadcast_to(1, count),
        }
    )


def particle_data(particles: Particles, images: ParticleImages, names: tuple[str, ...]) -> ParticleData:
    """Return what a likelihood run knows of its particles."""
    table, count = particles.table, len(particles)
    has_ctf = "rlnDefocusU" in table

    def numbers(label: str, default: float) -> NDArray[np.float64]:
        # One number stands for all rows, without memory for each.
        return table.numbers(label) if label in table else np.broadcast_to(default, count)

    return ParticleData(
        load=images.load,
        box_size=images.box_size,
        pixel_size=images.pixel_size,
        optics=particles.optics,
        optics_index=particles.optics_index,
        defocus=particles.defocus if has_ctf else np.broadcast_to(0.0, (count, 3)),
        phase_shift=numbers("rlnPhaseShift", 0.0),
        b_factor=numbers("rlnCtfBfactor", 0.0),
        ctf_scale=numbers("rlnCtfScalefactor", 1.0),
        group=np.asarray(table["rlnGroupNumber"], dtype=np.int64) - 1,
        group_names=names,
    )


def warn_of_small_groups(data: ParticleData, context: Context) -> NDArray[np.int64]:
    """Return the number of particles of each group; tell where that is few."""
    sizes = np.bincount(data.group, minlength=len(data.group_names))
    small = int((sizes < SMALL_GROUP).sum())
    if small:
        context.recorder.warn(
            f"{small} of {len(sizes)} groups (micrographs) hold fewer than {SMALL_GROUP} particles: their noise and "
            "scale are drawn from all particles; consider regrouping"
        )
    return sizes


def write_record(
    path: Path,
    job: str,
    parameters: LikelihoodParameters,
    context: Context,
    inputs: Sequence[Path],
    outputs: Sequence[Path],
) -> None:
    """Record what was run on what: command, version, parameters, checksums."""
    record: dict[str, Any] = {
        "job": job,
        "version": vitrea.__version__,
        "torch": torch.__version__,
        "command": context.command,
        "parameters": parameters.model_dump(mode="json"),
        "inputs": {str(item): _checksum(item) for item in inputs if item.exists()},
        "outputs": {str(item): _checksum(item) for item in outputs if item.exists()},
    }
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()
