"""What ``vitrea refine3d`` does: check the input, run or continue the refinement, write its files."""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import vitrea
from vitrea.compute.devices import choose_device, set_threads
from vitrea.compute.memory import MemoryPlan, available_memory
from vitrea.formats.atomic import atomic_path
from vitrea.formats.images import ParticleImages, find_bad_images
from vitrea.formats.particle_files import read_particles, relink_images
from vitrea.geometry.sampling import orientation_grid
from vitrea.geometry.symmetry import canonical_name
from vitrea.jobs.base import Context
from vitrea.jobs.map_inputs import check_same_grid, make_folder, read_cubic_map, read_mask
from vitrea.jobs.model_files import SamplingTable
from vitrea.jobs.refinement_files import (
    RefinementFiles,
    particle_state,
    read_optimiser,
    read_parameters,
    with_groups,
    write_set_aside,
)
from vitrea.jobs.refinement_parameters import Refine3dParameters
from vitrea.jobs.refinement_report import write_report
from vitrea.likelihood.data import ParticleData
from vitrea.likelihood.maximisation import spherical_mask
from vitrea.likelihood.memory import refinement_memory, working_memory
from vitrea.likelihood.refinement import Refinement
from vitrea.likelihood.settings import Settings
from vitrea.likelihood.state import RunState
from vitrea.records.errors import InputError
from vitrea.records.map import Map
from vitrea.records.particles import Particles

# A run goes on without its bad images unless they are more than this share of all: then something else is wrong.
TOLERATED_BAD_IMAGES = 0.05
SMALLEST_HALF = 10
# Fewer particles than this in a group make its noise spectrum and scale unreliable.
SMALL_GROUP = 10


@dataclass(frozen=True)
class Inputs:
    """Everything a refinement reads, checked."""

    particles: Particles
    group_names: tuple[str, ...]
    data: ParticleData
    settings: Settings
    mask: NDArray[np.float32]
    start: Map | None
    set_aside: tuple[Particles, list[str]] | None


def refine(parameters: Refine3dParameters, context: Context) -> None:
    """Run the job; see `vitrea.jobs.refine3d`."""
    parameters, continued = _resolve(parameters)
    if parameters.particles is None or parameters.output is None:
        raise InputError("--i (particles) and --o (start of the output names) are needed, or --continue")
    set_threads(parameters.threads)
    device = choose_device(parameters.device)
    inputs = _inputs(parameters, continued, context)
    if parameters.working_memory == 0:
        # Settled once and stored: blocks of another size would sum in another order when the run is continued.
        chosen = working_memory(inputs.data.box_size, available_memory(device))
        parameters = parameters.model_copy(update={"working_memory": chosen >> 20})
    files = RefinementFiles(
        str(parameters.output), inputs.particles, inputs.group_names, inputs.settings, _stored(parameters),
        f"Vitrea {vitrea.__version__}\n{context.command}",
    )  # fmt: skip
    budget = parameters.working_memory << 20
    run = Refinement(inputs.data, inputs.settings, inputs.mask, device, budget, context.recorder)
    state = _first_state(inputs, files, run, continued)
    _announce(inputs, run, context)
    make_folder(Path(f"{parameters.output}_data.star"))
    if inputs.set_aside:
        write_set_aside(Path(f"{parameters.output}_set_aside.star"), *inputs.set_aside)
    history = []
    while not state.progress.finished:
        began = time.perf_counter()
        state = run.step(state)
        optimiser = files.write(state, _sampling_table(inputs.settings, state))
        history.append(_tell(state, time.perf_counter() - began, len(inputs.data), context))
        if not state.progress.finished:
            state = files.read(optimiser)
    write_report(files, state, history)
    _provenance(parameters, context, inputs, files, state)
    _conclude(parameters, state, context)


def _resolve(parameters: Refine3dParameters) -> tuple[Refine3dParameters, Path | None]:
    """Return the parameters to run with; when continuing, the stored ones with what was given anew on top."""
    if parameters.continue_from is None:
        return parameters, None
    stored = read_parameters(parameters.continue_from)
    known = {name: value for name, value in stored.items() if name in Refine3dParameters.model_fields}
    given = {name: getattr(parameters, name) for name in parameters.model_fields_set}
    merged = {**known, **given}
    return Refine3dParameters.model_validate(merged), parameters.continue_from


def _stored(parameters: Refine3dParameters) -> dict[str, object]:
    """Return the parameters as STAR values; those without a value are left out."""
    values = parameters.model_dump(mode="json", exclude={"continue_from"})
    return {name: value for name, value in values.items() if value is not None}


def _inputs(parameters: Refine3dParameters, continued: Path | None, context: Context) -> Inputs:
    assert parameters.particles is not None and parameters.output is not None
    source = parameters.particles
    if continued is not None:
        source = Path(str(read_optimiser(continued)["rlnExperimentalDataStarFile"]))
    particles = read_particles(source, require_ctf=parameters.ctf)
    images = ParticleImages(particles)
    images.check(context.recorder)
    settings = _settings(parameters, images.box_size, images.pixel_size)
    start = None
    shape = np.zeros((images.box_size,) * 3, dtype=np.float32)
    grid = Map(shape, images.pixel_size)
    if continued is None:
        if parameters.reference is None:
            raise InputError("--ref (start map) is needed")
        start = read_cubic_map(parameters.reference)
        if start.voxel_size == 1.0:
            start = replace(start, voxel_size=images.pixel_size)  # an unset header
        check_same_grid(grid, source, start, parameters.reference)
        if abs(start.voxel_size / images.pixel_size - 1) > 1e-4:
            context.recorder.warn(
                f"{parameters.reference} has {start.voxel_size:g} Å per voxel, the particles {images.pixel_size:g}: "
                "taken as the same"
            )
    mask = spherical_mask(images.box_size, settings.particle_diameter, images.pixel_size, settings.mask_edge)
    if parameters.solvent_mask is not None:
        mask = read_mask(parameters.solvent_mask, grid, source)
    set_aside = None
    if continued is None:
        particles, set_aside = _without_bad_images(particles, images, context)
        particles = _with_half_sets(particles, parameters.random_seed)
    particles, names = with_groups(particles)
    particles = relink_images(particles, Path(parameters.output).parent)
    data = _particle_data(particles, ParticleImages(particles), names)
    return Inputs(particles, names, data, settings, mask, start, set_aside)


def _settings(parameters: Refine3dParameters, box: int, pixel_size: float) -> Settings:
    diameter = parameters.particle_diameter or 0.9 * box * pixel_size
    if diameter > box * pixel_size:
        raise InputError(
            f"--particle_diameter is {diameter:g} Å, but the box of the particles is only {box * pixel_size:g} Å wide"
        )
    correlation = parameters.firstiter_cc
    return Settings(
        particle_diameter=diameter,
        symmetry=canonical_name(parameters.symmetry),
        mask_edge=parameters.mask_edge,
        zero_mask=parameters.zero_mask,
        flatten_solvent=parameters.flatten_solvent,
        ctf=parameters.ctf,
        ctf_intact_first_peak=parameters.ctf_intact_first_peak,
        ctf_phase_flipped=parameters.ctf_phase_flipped,
        only_flip_phases=parameters.only_flip_phases,
        norm_correction=parameters.norm,
        scale_correction=parameters.scale,
        first_iteration_correlation=not parameters.absolute_greyscale if correlation is None else correlation,
        initial_resolution=parameters.initial_low_pass,
        solvent_correct_fsc=parameters.solvent_correct_fsc,
        tau2_fudge=parameters.tau2_fudge,
        padding=parameters.padding,
        oversampling=parameters.oversampling,
        adaptive_fraction=parameters.adaptive_fraction,
        healpix_order=parameters.healpix_order,
        auto_local_healpix_order=parameters.auto_local_healpix_order,
        offset_range=parameters.offset_range * pixel_size,
        offset_step=parameters.offset_step * pixel_size,
        perturbation=parameters.perturb,
        join_resolution=parameters.low_resol_join_halves,
        highest_resolution=parameters.strict_highres,
        lowest_resolution=parameters.strict_lowres,
        maximum_iterations=parameters.max_iterations,
        seed=parameters.random_seed,
        local_sigma_factor=parameters.local_sigma,
    )


def _without_bad_images(
    particles: Particles, images: ParticleImages, context: Context
) -> tuple[Particles, tuple[Particles, list[str]] | None]:
    """Set bad images aside by name; refuse where they are many."""
    bad = find_bad_images(images)
    if not bad:
        return particles, None
    first = f"{bad[0].name} has {bad[0].reason}"
    if len(bad) > max(1, TOLERATED_BAD_IMAGES * len(particles)):
        raise InputError(
            f"{particles.source}: {len(bad)} of {len(particles)} images cannot be used ({first}): extract them again"
        )
    named = ", ".join(item.name for item in bad[:10]) + (" ..." if len(bad) > 10 else "")
    context.recorder.warn(f"{len(bad)} images are set aside: {named} ({first})")
    keep = np.ones(len(particles), dtype=bool)
    keep[[item.index for item in bad]] = False
    return particles.rows(keep), (particles.rows(~keep), [item.reason for item in bad])


def _with_half_sets(particles: Particles, seed: int) -> Particles:
    """Give each particle a half set, unless the file does."""
    if "rlnRandomSubset" not in particles.table:
        halves = np.random.default_rng([seed, 2]).permutation(np.arange(len(particles)) % 2) + 1
        particles = particles.with_columns({"rlnRandomSubset": halves})
    subset = np.asarray(particles.table["rlnRandomSubset"])
    sizes = [int((subset == half).sum()) for half in (1, 2)]
    if sum(sizes) != len(particles):
        raise InputError(f"{particles.source}: rlnRandomSubset must be 1 or 2 for every particle")
    if min(sizes) < SMALLEST_HALF:
        raise InputError(
            f"{particles.source}: half sets of {sizes[0]} and {sizes[1]} particles (rlnRandomSubset) are too small; "
            f"at least {SMALLEST_HALF} each are needed"
        )
    return particles


def _particle_data(particles: Particles, images: ParticleImages, names: tuple[str, ...]) -> ParticleData:
    table, count = particles.table, len(particles)
    has_ctf = "rlnDefocusU" in table
    return ParticleData(
        load=images.load,
        box_size=images.box_size,
        pixel_size=images.pixel_size,
        optics=particles.optics,
        optics_index=particles.optics_index,
        defocus=particles.defocus if has_ctf else np.zeros((count, 3)),
        phase_shift=table.numbers("rlnPhaseShift", 0.0),
        b_factor=table.numbers("rlnCtfBfactor", 0.0),
        ctf_scale=table.numbers("rlnCtfScalefactor", 1.0),
        group=np.asarray(table["rlnGroupNumber"], dtype=np.int64) - 1,
        group_names=names,
    )


def _first_state(inputs: Inputs, files: RefinementFiles, run: Refinement, continued: Path | None) -> RunState:
    if continued is not None:
        return files.read(continued)
    assert inputs.start is not None
    neutral = inputs.particles.with_columns({"rlnNormCorrection": np.ones(len(inputs.particles))})
    return run.start(inputs.start.voxels, particle_state(neutral))


def _announce(inputs: Inputs, run: Refinement, context: Context) -> None:
    """Say what is about to be done, and what memory it will take."""
    data, settings = inputs.data, inputs.settings
    sizes = np.bincount(data.group, minlength=len(data.group_names))
    small = int((sizes < SMALL_GROUP).sum())
    if small:
        context.recorder.warn(
            f"{small} of {len(sizes)} groups (micrographs) hold fewer than {SMALL_GROUP} particles: their noise and "
            "scale are drawn from all particles; consider regrouping"
        )
    context.recorder.event(
        "text",
        text=f"{len(data)} particles of {data.box_size} pixels at {data.pixel_size:g} Å in {len(sizes)} groups, "
        f"symmetry {settings.symmetry}, mask {settings.particle_diameter:g} Å, on {run.device}",
    )
    plan = MemoryPlan(refinement_memory(data, settings, run.memory), available_memory(run.device))
    context.recorder.event("text", text=f"Memory, beside the program's own:\n{plan.text}")
    if not plan.fits:
        context.recorder.warn("the memory plan does not fit: the run may be slow or stop; close other programs")


def _sampling_table(settings: Settings, state: RunState) -> SamplingTable:
    grid = orientation_grid(state.sampling.healpix_order, settings.symmetry)
    return SamplingTable(grid.directions, grid.psi_step)


def _tell(state: RunState, seconds: float, particles: int, context: Context) -> dict[str, float]:
    progress, model = state.progress, state.joined or state.halves[0]
    values: dict[str, float] = {
        "iteration": state.iteration,
        "resolution_angstrom": round(progress.resolution, 3),
        "accuracy_rotation_deg": round(model.accuracy_rotation, 3),
        "accuracy_translation_angstrom": round(model.accuracy_translation, 3),
        "change_rotation_deg": round(progress.change_rotation, 3),
        "change_offset_angstrom": round(progress.change_offset, 3),
        "healpix_order": state.sampling.healpix_order,
        "local_search": int(state.sampling.local),
        "offset_range_angstrom": round(state.sampling.offset_range, 3),
        "offset_step_angstrom": round(state.sampling.offset_step, 3),
        "current_size": progress.current_size,
        "average_pmax": round(model.average_pmax, 4),
        "seconds": round(seconds, 2),
        "particles_per_second": round(particles / seconds, 1),
    }
    context.recorder.event("iteration", **values)
    if model.accuracy_rotation > 10 and state.iteration > 1:
        context.recorder.warn(
            f"iteration {state.iteration}: the angular accuracy is worse than 10 degrees, so particles cannot be "
            "aligned yet; no reason to worry if it improves in the next iterations"
        )
    if progress.converged:
        context.recorder.event("text", text="Converged; the last iteration uses all frequencies and joins the halves")
    return values


def _provenance(
    parameters: Refine3dParameters, context: Context, inputs: Inputs, files: RefinementFiles, state: RunState
) -> None:
    """Record what was run on what: command, version, parameters, checksums."""
    used = [p for p in (parameters.particles, parameters.reference, parameters.solvent_mask) if p is not None]
    used += ParticleImages(inputs.particles).paths
    kinds = ("class001.mrc", "half1_class001_unfil.mrc", "half2_class001_unfil.mrc", "data.star", "model.star",
             "sampling.star", "optimiser.star")  # fmt: skip
    record: dict[str, Any] = {
        "job": "refine3d",
        "version": vitrea.__version__,
        "torch": torch.__version__,
        "command": context.command,
        "parameters": parameters.model_dump(mode="json"),
        "inputs": {str(path): _checksum(path) for path in used if path.exists()},
        "outputs": {str(files.name(state, kind)): _checksum(files.name(state, kind)) for kind in kinds},
    }
    with atomic_path(Path(f"{files.root}_job.json")) as temporary:
        temporary.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()


def _conclude(parameters: Refine3dParameters, state: RunState, context: Context) -> None:
    root, inside = parameters.output, "with" if parameters.solvent_correct_fsc else "without"
    context.recorder.event(
        "text",
        text=f"Final resolution {inside} masking {state.progress.resolution:.2f} Å (FSC = 0.143) after "
        f"{state.iteration} iterations; map in {root}_class001.mrc, report in {root}_report.html. Next: vitrea mask on "
        f"the map, then vitrea postprocess --i {root}_half1_class001_unfil.mrc --mask MASK",
    )
