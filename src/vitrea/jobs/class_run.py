"""What the classification jobs do: check the input, run or continue, write files."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import vitrea
from vitrea.compute.memory import MemoryPlan, available_memory, return_freed_memory
from vitrea.formats.images import ParticleImages
from vitrea.formats.mrc import open_stack, read_header
from vitrea.formats.particle_files import read_particles, relink_images
from vitrea.geometry.symmetry import canonical_name
from vitrea.jobs.base import Context
from vitrea.jobs.class_files import ClassFiles, lost_sums
from vitrea.jobs.class_parameters import Class2dParameters, Class3dParameters
from vitrea.jobs.class_report import class_resolutions, write_class_report
from vitrea.jobs.likelihood_inputs import (
    base_settings,
    begin,
    particle_data,
    stored,
    warn_of_small_groups,
    with_memory,
    without_bad_images,
    without_history,
    write_record,
)
from vitrea.jobs.map_inputs import check_same_grid, make_folder, read_cubic_map, read_mask
from vitrea.jobs.model_files import SamplingTable
from vitrea.jobs.run_files import particle_state, read_optimiser, with_groups, write_set_aside
from vitrea.jobs.run_inputs import reference_files
from vitrea.likelihood.classification import Classification
from vitrea.likelihood.data import ParticleData
from vitrea.likelihood.focus import FocusSphere
from vitrea.likelihood.maximisation import round_mask
from vitrea.likelihood.memory import classification_memory
from vitrea.likelihood.scheme import Scheme, Search
from vitrea.likelihood.settings import Settings
from vitrea.likelihood.state import RunState, Sampling
from vitrea.records.errors import InputError
from vitrea.records.map import Map
from vitrea.records.particles import Particles
from vitrea.records.recorder import Recorder

# Working memory of a classification, bytes: large blocks, because each of them adds to the map of every class.
CLASS_MEMORY = 128 << 20
# Figures of single classes stay out of the log where there are more than these.
LOGGED_CLASSES = 12
# Pixel sizes that differ by less count as rounding.
SAME_PIXEL = 0.01


@dataclass(frozen=True)
class ClassInputs:
    """Everything a classification reads, checked."""

    particles: Particles
    group_names: tuple[str, ...]
    data: ParticleData
    settings: Settings
    scheme: Scheme
    mask: NDArray[np.float32]
    references: list[NDArray[np.float32]]
    set_aside: tuple[Particles, list[str]] | None


def classify(parameters: Class2dParameters | Class3dParameters, context: Context, job: str) -> None:
    """Run a classification job; see `vitrea.jobs.class2d` and `class3d`."""
    parameters, continued, device = begin(parameters, job)
    inputs = read_inputs(parameters, continued, context)
    parameters = with_memory(parameters, inputs.data.box_size, device, CLASS_MEMORY)
    files = ClassFiles(
        str(parameters.output), inputs.particles, inputs.group_names, inputs.settings, stored(parameters, job),
        f"Vitrea {vitrea.__version__}\n{context.command}", inputs.scheme,
    )  # fmt: skip
    budget = parameters.working_memory << 20
    run = Classification(inputs.data, inputs.settings, inputs.mask, device, budget, context.recorder, inputs.scheme)
    before = None if continued is None else partial(_continued, files, continued, run)
    state = run_iterations(run, files, first_state(files, inputs, run, context, before), context)
    files.without_number().write(state, sampling_table(run, state))
    write_class_report(files, run, state, f"{job} {files.root}")
    used = [path for path in (parameters.particles, parameters.reference) if path is not None]
    outputs = [Path(f"{files.root}_{kind}.star") for kind in ("data", "model", "optimiser", "sampling")]
    write_record(files.record(), job, parameters, context, used, outputs)
    _conclude(files, state, context)


def first_state(
    files: ClassFiles,
    inputs: ClassInputs,
    run: Classification,
    context: Context,
    continued: Callable[[], RunState] | None,
) -> RunState:
    """Return the state to go on from, read by a function or made; then make the folder that the run writes into.

    Whoever calls hands the state on and does not keep it: at a million particles it counts.
    """
    if continued is not None:
        state = continued()
    else:
        announce(inputs, run, context)
        state = run.start(inputs.references, particle_state(inputs.particles))
    make_folder(Path(f"{files.root}_data.star"))
    if inputs.set_aside:
        write_set_aside(Path(f"{files.root}_set_aside.star"), *inputs.set_aside)
    return state


def run_iterations(run: Classification, files: ClassFiles, state: RunState, context: Context) -> RunState:
    """Go on from a state to the last iteration, through the files of each; return the last state."""
    if not state.progress.finished:
        files.record().unlink(missing_ok=True)  # of a run that was shorter
    while not state.progress.finished:
        began = time.perf_counter()
        used = len(run.chosen(state.iteration + 1))
        state = run.step(state)
        optimiser = files.write(state, sampling_table(run, state))
        files.forget_sums(before=state.iteration)
        _tell(files, state, used, time.perf_counter() - began, context)
        del state  # what is on disk is not kept while it is read back
        state = files.read(optimiser, run.device)
        return_freed_memory()
    return state


def sampling_table(run: Classification, state: RunState) -> SamplingTable:
    """Return the directions of a state's grid, for its sampling file."""
    grid = run.grid(replace(state.sampling, perturbation=0.0))
    return SamplingTable(grid.directions, grid.psi_step)


def read_inputs(
    parameters: Class2dParameters | Class3dParameters, continued: Path | None, context: Context
) -> ClassInputs:
    """Read and check what a classification needs.

    Raises
    ------
    InputError
        For every mistake a user can make.
    """
    assert parameters.particles is not None and parameters.output is not None
    source = parameters.particles
    if continued is not None:
        source = Path(str(read_optimiser(continued)["rlnExperimentalDataStarFile"]))
    particles = read_particles(source, require_ctf=parameters.ctf)
    images = ParticleImages(particles)
    images.check(context.recorder)
    box, pixel_size = images.box_size, images.pixel_size
    settings, scheme = class_settings(parameters, box, pixel_size), class_scheme(parameters)
    if isinstance(parameters, Class3dParameters):
        scheme = replace(scheme, focus=read_focus(parameters, scheme.search, box * pixel_size, pixel_size))
    if parameters.classes > len(particles):
        raise InputError(f"--K is {parameters.classes}, but {source} holds only {len(particles)} particles")
    dims = 2 if scheme.planar else 3
    grid = Map(np.zeros((box,) * 3, dtype=np.float32), pixel_size)
    references = [] if continued is not None else read_references(parameters, grid, source, dims)
    mask = round_mask(box, settings.particle_diameter, pixel_size, settings.mask_edge, dims)
    if isinstance(parameters, Class3dParameters) and parameters.solvent_mask is not None:
        mask = read_mask(parameters.solvent_mask, grid, source)
    set_aside = None
    if continued is None:
        edges = isinstance(parameters, Class2dParameters) and parameters.exclude_blank_edges
        particles, set_aside = without_bad_images(particles, images, context, blank_edges=edges)
        particles = without_history(particles)
    particles, names = with_groups(particles)
    particles = relink_images(particles, Path(parameters.output).parent)
    data = particle_data(particles, ParticleImages(particles), names)
    return ClassInputs(particles, names, data, settings, scheme, mask, references, set_aside)


def class_settings(parameters: Class2dParameters | Class3dParameters, box: int, pixel_size: float) -> Settings:
    """Return the settings of the engine."""
    settings = replace(
        base_settings(parameters, box, pixel_size),
        initial_resolution=parameters.initial_low_pass,
        maximum_iterations=parameters.iterations,
    )
    if isinstance(parameters, Class2dParameters):
        return settings
    correlation = parameters.firstiter_cc
    return replace(
        settings,
        symmetry=canonical_name(parameters.symmetry),
        healpix_order=parameters.healpix_order,
        first_iteration_correlation=not parameters.absolute_greyscale if correlation is None else correlation,
    )


def class_scheme(parameters: Class2dParameters | Class3dParameters) -> Scheme:
    """Return the scheme of the iterations.

    Raises
    ------
    InputError
        If options contradict each other.
    """
    if parameters.percent_used and parameters.schedule == "batches":
        raise InputError(
            "--percent_used is for the schedules em and auto: of batches, --particles_per_class is the size"
        )
    planar = isinstance(parameters, Class2dParameters)
    sigma = 0.0 if isinstance(parameters, Class2dParameters) else parameters.sigma_ang or parameters.local_range / 3.0
    search: Search = (
        "none" if parameters.skip_align else "shifts" if parameters.skip_rotate else "local" if sigma else "global"
    )
    return Scheme(
        classes=parameters.classes,
        planar=planar,
        schedule=parameters.schedule,
        psi_step=parameters.psi_step if isinstance(parameters, Class2dParameters) else 0.0,
        search=search,
        local_sigma=sigma,
        centre_classes=parameters.center_classes,
        smoothing=parameters.smoothing_factor,
        particles_per_class=parameters.particles_per_class,
        share=parameters.percent_used / 100.0,
        start_resolution=parameters.start_resolution,
        finish_resolution=parameters.finish_resolution,
        occupancy=not planar and parameters.classes > 1,
        even_shares=parameters.even_shares,
        balanced=0.0 if isinstance(parameters, Class2dParameters) else parameters.balanced,
        always_oversample=parameters.always_oversample,
    )


def read_focus(parameters: Class3dParameters, search: Search, box: float, pixel_size: float) -> FocusSphere | None:
    """Read the sphere that decides on classes; box and pixel size in Å.

    Raises
    ------
    InputError
        If it is no sphere within the box, or poses are looked for everywhere.
    """
    text = parameters.focus_sphere
    if text is None:
        return None
    try:
        x, y, z, radius = (float(word) for word in text.split(","))
    except ValueError:
        raise InputError(f"--focus_sphere is {text!r}: four numbers in Å are needed, X,Y,Z,RADIUS") from None
    if search == "global":
        raise InputError("--focus_sphere needs poses that are known: --skip_align, --skip_rotate or --sigma_ang")
    if not (radius > 0 and all(0 <= value <= box for value in (x, y, z))):
        raise InputError(f"--focus_sphere {text} does not lie in the box, which is {box:g} Å wide")
    # From the first voxel to the voxel about which particles turn.
    middle = round(box / pixel_size) // 2 * pixel_size
    return FocusSphere((x - middle, y - middle, z - middle), radius)


def read_references(
    parameters: Class2dParameters | Class3dParameters, grid: Map, source: Path, dims: int
) -> list[NDArray[np.float32]]:
    """Read the references to start from: none, one for all classes, or one for each.

    Raises
    ------
    InputError
        If they are missing, of another box or pixel size, or of another number than the classes.
    """
    path = parameters.reference
    if path is None:
        if dims == 3:
            raise InputError("--ref (start map) is needed")
        return []
    named = reference_files(path) if path.suffix == ".star" else [(path, None)]
    found = []
    for file, index in named:
        if dims == 3:
            start = read_cubic_map(file)
            if start.voxel_size == 1.0:
                start = replace(start, voxel_size=grid.voxel_size)  # an unset header
            check_same_grid(grid, source, start, file)
            found.append(start.voxels)
            continue
        found += _averages(file, index, grid, source)
    if len(found) not in (1, parameters.classes):
        raise InputError(f"{path} holds {len(found)} references, but --K asks for {parameters.classes} classes")
    return found


def _averages(file: Path, index: int | None, grid: Map, source: Path) -> list[NDArray[np.float32]]:
    """Read the images of a stack, or one of them."""
    stack, box = open_stack(file), grid.voxels.shape[0]
    if stack.shape[1:] != (box, box):
        rows, columns = stack.shape[1:]
        raise InputError(f"{file} has images of {columns} x {rows} pixels, but {source} has particles of {box} x {box}")
    pixel_size = read_header(file).pixel_size
    # 1 Å stands for a header that was never set.
    if pixel_size not in (0.0, 1.0) and abs(pixel_size / grid.voxel_size - 1.0) > SAME_PIXEL:
        raise InputError(
            f"{file} has {pixel_size:g} Å per pixel, but {source} {grid.voxel_size:g}: they differ by more than 1%"
        )
    if index is not None and index >= len(stack):
        raise InputError(f"image {index + 1} of {file} is asked for, but it holds only {len(stack)}")
    images = np.array(stack if index is None else stack[index : index + 1], dtype=np.float32)
    if not np.isfinite(images).all():
        raise InputError(f"{file} holds pixels that are not numbers (NaN or infinite)")
    return list(images)


def read_state(files: ClassFiles, optimiser: Path, device: torch.device, recorder: Recorder | None = None) -> RunState:
    """Read the state to go on from; the recorder is told where that is not all there was.

    Raises
    ------
    InputError
        If it has another number of classes than asked for, or the run is finished with all its files.
    """
    state = files.read(optimiser, device)
    classes = len(state.models[0].classes)
    if classes != files.scheme.classes:
        raise InputError(f"{optimiser} has {classes} classes: --K {files.scheme.classes} cannot change that")
    # A run may have been stopped between its last iteration and its last file.
    if state.progress.finished and files.record().exists():
        raise InputError(
            f"{optimiser} is of iteration {state.iteration}, and the run is finished: ask for more with --iter"
        )
    lost = lost_sums(read_optimiser(optimiser))
    if lost is not None and recorder is not None:
        recorder.warn(
            f"{lost} is kept no longer: the run goes on without the sums of earlier mini-batches, which build up "
            "again, so that its classes will differ a little from those of the run before"
        )
    return state


def _continued(files: ClassFiles, optimiser: Path, run: Classification) -> RunState:
    """Read a state and give it the samplings asked for now."""
    state = read_state(files, optimiser, run.device, run.recorder)
    settings = files.settings
    order = -1 if files.scheme.planar else settings.healpix_order
    sampling = Sampling(
        order,
        settings.offset_range,
        settings.offset_step,
        local=state.sampling.local,
        perturbation=state.sampling.perturbation,
        psi_step=files.scheme.psi_step,
    )
    return replace(state, sampling=sampling)


def announce(inputs: ClassInputs, run: Classification, context: Context) -> None:
    """Say what is about to be done, and what memory it will take."""
    data, settings, scheme = inputs.data, inputs.settings, inputs.scheme
    sizes = warn_of_small_groups(data, context)
    kind = "2D" if scheme.planar else f"3D (symmetry {settings.symmetry})"
    context.recorder.event(
        "text",
        text=f"{len(data)} particles of {data.box_size} pixels at {data.pixel_size:g} Å in {len(sizes)} groups, "
        f"{scheme.classes} {kind} classes, mask {settings.particle_diameter:g} Å, on {run.device}",
    )
    plan = MemoryPlan(classification_memory(data, settings, scheme, run.memory), available_memory(run.device))
    context.recorder.event("text", text=f"Memory, beside the program's own:\n{plan.text}")
    if not plan.fits:
        context.recorder.warn("the memory plan does not fit: the run may be slow or stop; close other programs")


def _tell(files: ClassFiles, state: RunState, used: int, seconds: float, context: Context) -> None:
    progress, model = state.progress, state.models[0]
    values: dict[str, Any] = {
        "iteration": state.iteration,
        "resolution_angstrom": round(progress.resolution, 3),
        "change_class": round(progress.change_class, 4),
        "change_rotation_deg": round(progress.change_rotation, 3),
        "change_offset_angstrom": round(progress.change_offset, 3),
        "particles": used,
        "current_size": progress.current_size,
        "average_pmax": round(model.average_pmax, 4),
        "largest_share": round(max(group.share for group in model.classes), 4),
        "seconds": round(seconds, 2),
        "particles_per_second": round(used / seconds, 1),
    }
    of_classes: dict[str, Sequence[float]] = {
        "shares": [round(group.share, 4) for group in model.classes],
        "resolutions": [round(value, 2) for value in class_resolutions(files, state)],
    }
    shown = of_classes if len(model.classes) <= LOGGED_CLASSES else {}
    context.recorder.event("iteration", **values, **shown)


def _conclude(files: ClassFiles, state: RunState, context: Context) -> None:
    root, groups = files.root, state.models[0].classes
    largest = max(group.share for group in groups)
    if len(groups) > 1 and largest > 0.999:
        context.recorder.warn("all particles are in one class: the data may hold nothing that tells them apart")
    what = f"{root}_classes.mrcs" if files.scheme.planar else f"{root}_class001.mrc ..."
    follow = (
        f"vitrea select --i {root}_optimiser.star --auto --o selected.star"
        if files.scheme.planar
        else f"vitrea select --i {root}_optimiser.star --classes NUMBERS --o selected.star"
    )
    context.recorder.event(
        "text",
        text=f"Best class at {state.progress.resolution:.1f} Å after {state.iteration} iterations; classes in {what}, "
        f"pictures in {root}_classes.png and {root}_report.html. Next: {follow}",
    )
