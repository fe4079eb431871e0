"""What ``vitrea refine3d`` does: check the input, run or continue the refinement, write its files."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import vitrea
from vitrea.compute.memory import MemoryPlan, available_memory, held_memory, return_large_blocks
from vitrea.formats.images import ParticleImages
from vitrea.formats.particle_files import read_particles, relink_images
from vitrea.geometry.sampling import orientation_grid
from vitrea.geometry.symmetry import canonical_name
from vitrea.jobs.base import Context
from vitrea.jobs.likelihood_inputs import (
    base_settings,
    begin,
    particle_data,
    stored,
    warn_of_small_groups,
    with_memory,
    without_bad_images,
    write_record,
)
from vitrea.jobs.map_inputs import check_same_grid, make_folder, read_cubic_map, read_mask
from vitrea.jobs.model_files import SamplingTable
from vitrea.jobs.refinement_files import RefinementFiles
from vitrea.jobs.refinement_parameters import Refine3dParameters
from vitrea.jobs.run_files import particle_state, read_optimiser, with_groups, write_set_aside
from vitrea.jobs.select_groups import inseparable
from vitrea.likelihood.data import ParticleData
from vitrea.likelihood.maximisation import round_mask
from vitrea.likelihood.memory import refinement_memory
from vitrea.likelihood.refinement import Refinement
from vitrea.likelihood.settings import Settings
from vitrea.likelihood.state import RunState
from vitrea.records.errors import InputError
from vitrea.records.map import Map
from vitrea.records.particles import Particles
from vitrea.selection.subsets import half_sets

SMALLEST_HALF = 10
# Bytes of libraries' code and tables that come into memory only when they are first used.
LOADED_LATER = 72 << 20


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
    parameters, continued, device = begin(parameters, "refine3d")
    # Not in classifications: their large blocks come and go all the time, and fetching them anew costs a tenth.
    return_large_blocks()
    inputs = _inputs(parameters, continued, context)
    parameters = with_memory(parameters, inputs.data.box_size, device)
    files = RefinementFiles(
        str(parameters.output), inputs.particles, inputs.group_names, inputs.settings, stored(parameters, "refine3d"),
        f"Vitrea {vitrea.__version__}\n{context.command}",
    )  # fmt: skip
    budget = parameters.working_memory << 20
    run = Refinement(inputs.data, inputs.settings, inputs.mask, device, budget, context.recorder)
    state = _first_state(inputs, files, run, continued)
    _announce(inputs, run, context)
    make_folder(Path(f"{parameters.output}_data.star"))
    if inputs.set_aside:
        write_set_aside(Path(f"{parameters.output}_set_aside.star"), *inputs.set_aside)
    while not state.progress.finished:
        began = time.perf_counter()
        state = run.step(state)
        optimiser = files.write(state, _sampling_table(inputs.settings, state))
        _tell(state, time.perf_counter() - began, len(inputs.data), context)
        if not state.progress.finished:
            state = files.read(optimiser)
    _report(files, state)
    _provenance(parameters, context, inputs, files, state)
    _conclude(parameters, state, context)


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
    mask = round_mask(images.box_size, settings.particle_diameter, images.pixel_size, settings.mask_edge)
    if parameters.solvent_mask is not None:
        mask = read_mask(parameters.solvent_mask, grid, source)
    set_aside = None
    if continued is None:
        particles, set_aside = without_bad_images(particles, images, context)
        particles = _with_half_sets(particles, parameters.random_seed)
    particles, names = with_groups(particles)
    particles = relink_images(particles, Path(parameters.output).parent)
    data = particle_data(particles, ParticleImages(particles), names)
    return Inputs(particles, names, data, settings, mask, start, set_aside)


def _settings(parameters: Refine3dParameters, box: int, pixel_size: float) -> Settings:
    correlation = parameters.firstiter_cc
    return replace(
        base_settings(parameters, box, pixel_size),
        symmetry=canonical_name(parameters.symmetry),
        first_iteration_correlation=not parameters.absolute_greyscale if correlation is None else correlation,
        initial_resolution=parameters.initial_low_pass,
        solvent_correct_fsc=parameters.solvent_correct_fsc,
        healpix_order=parameters.healpix_order,
        auto_local_healpix_order=parameters.auto_local_healpix_order,
        join_resolution=parameters.low_resol_join_halves,
        maximum_iterations=parameters.max_iterations,
        local_sigma_factor=parameters.local_sigma,
    )


def _with_half_sets(particles: Particles, seed: int) -> Particles:
    """Give each particle a half set, unless the file does; copies of an image and segments of a tube stay together."""
    if "rlnRandomSubset" not in particles.table:
        units = inseparable(particles.table)
        if len(np.unique(units)) == len(units):
            halves = np.random.default_rng([seed, 2]).permutation(np.arange(len(particles)) % 2) + 1
        else:
            halves = half_sets(units, seed)
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


def _first_state(inputs: Inputs, files: RefinementFiles, run: Refinement, continued: Path | None) -> RunState:
    if continued is not None:
        return files.read(continued)
    assert inputs.start is not None
    neutral = inputs.particles.with_columns({"rlnNormCorrection": np.ones(len(inputs.particles))})
    return run.start(inputs.start.voxels, particle_state(neutral))


def _announce(inputs: Inputs, run: Refinement, context: Context) -> None:
    """Say what is about to be done, and what memory it will take."""
    data, settings = inputs.data, inputs.settings
    sizes = warn_of_small_groups(data, context)
    context.recorder.event(
        "text",
        text=f"{len(data)} particles of {data.box_size} pixels at {data.pixel_size:g} Å in {len(sizes)} groups, "
        f"symmetry {settings.symmetry}, mask {settings.particle_diameter:g} Å, on {run.device}",
    )
    held = held_memory() + LOADED_LATER if run.device.type == "cpu" else 0
    plan = MemoryPlan(refinement_memory(data, settings, run.memory), available_memory(run.device), held)
    context.recorder.event("text", text=f"Memory, beside the program's own:\n{plan.text}")
    if not plan.fits:
        context.recorder.warn("the memory plan does not fit: the run may be slow or stop; close other programs")


def _sampling_table(settings: Settings, state: RunState) -> SamplingTable:
    grid = orientation_grid(state.sampling.healpix_order, settings.symmetry)
    return SamplingTable(grid.directions, grid.psi_step)


def _tell(state: RunState, seconds: float, particles: int, context: Context) -> None:
    progress, model = state.progress, state.joined or state.models[0]
    group = model.classes[0]
    values: dict[str, float] = {
        "iteration": state.iteration,
        "resolution_angstrom": round(progress.resolution, 3),
        "accuracy_rotation_deg": round(group.accuracy_rotation, 3),
        "accuracy_translation_angstrom": round(group.accuracy_translation, 3),
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
    if group.accuracy_rotation > 10 and state.iteration > 1:
        context.recorder.warn(
            f"iteration {state.iteration}: the angular accuracy is worse than 10 degrees, so particles cannot be "
            "aligned yet; no reason to worry if it improves in the next iterations"
        )
    if progress.converged:
        context.recorder.event("text", text="Converged; the last iteration uses all frequencies and joins the halves")


def _report(files: RefinementFiles, state: RunState) -> None:
    # Loaded now only: what draws takes memory, of which the last iteration needs most.
    from vitrea.jobs.refinement_report import write_report

    write_report(files, state)


def _provenance(
    parameters: Refine3dParameters, context: Context, inputs: Inputs, files: RefinementFiles, state: RunState
) -> None:
    """Record what was run on what: command, version, parameters, checksums."""
    used = [p for p in (parameters.particles, parameters.reference, parameters.solvent_mask) if p is not None]
    used += ParticleImages(inputs.particles).paths
    kinds = ("class001.mrc", "half1_class001_unfil.mrc", "half2_class001_unfil.mrc", "data.star", "model.star",
             "sampling.star", "optimiser.star")  # fmt: skip
    outputs = [files.name(state, kind) for kind in kinds]
    write_record(Path(f"{files.root}_job.json"), "refine3d", parameters, context, used, outputs)


def _conclude(parameters: Refine3dParameters, state: RunState, context: Context) -> None:
    root, inside = parameters.output, "with" if parameters.solvent_correct_fsc else "without"
    context.recorder.event(
        "text",
        text=f"Final resolution {inside} masking {state.progress.resolution:.2f} Å (FSC = 0.143) after "
        f"{state.iteration} iterations; map in {root}_class001.mrc, report in {root}_report.html. Next: vitrea mask on "
        f"the map, then vitrea postprocess --i {root}_half1_class001_unfil.mrc --mask MASK",
    )
