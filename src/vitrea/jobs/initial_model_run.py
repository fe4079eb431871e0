"""What ``vitrea initial-model`` does: check the input, run or continue the starts, judge and write the models."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from skimage.filters import threshold_otsu

import vitrea
from vitrea.formats.images import ParticleImages
from vitrea.formats.particle_files import read_particles, relink_images
from vitrea.geometry.symmetry import canonical_name
from vitrea.jobs.base import Context
from vitrea.jobs.class_files import ClassFiles
from vitrea.jobs.class_report import write_class_report
from vitrea.jobs.class_run import CLASS_MEMORY, ClassInputs, first_state, read_state, run_iterations, sampling_table
from vitrea.jobs.initial_model import InitialModelParameters
from vitrea.jobs.likelihood_inputs import (
    base_settings,
    begin,
    particle_data,
    stored,
    with_memory,
    without_bad_images,
    without_history,
    write_record,
)
from vitrea.jobs.run_files import read_optimiser, with_groups
from vitrea.likelihood.ab_initio import FEWEST_HELD_OUT, AbInitio, Verdict
from vitrea.likelihood.first_maps import finest_detail
from vitrea.likelihood.maximisation import round_mask
from vitrea.likelihood.scheme import Scheme
from vitrea.likelihood.state import Model, RunState
from vitrea.maps.comparison import compare_maps
from vitrea.maps.masking import keep_large_pieces, lowpass_density, mask_from_binary
from vitrea.maps.point_group import SYMMETRIC, align_to_symmetry
from vitrea.records.errors import InputError

JOB_NAME = "initial-model"
# The density is looked at under this blur when a mask is made around it, Å; growth and edge of the mask.
MASK_BLUR, MASK_GROWTH, MASK_EDGE = 30.0, 10.0, 15.0
# Fewer particles than this make no model.
FEWEST_PARTICLES = 4 * FEWEST_HELD_OUT
# Edge of the ball in which first maps are compared, Å.
BALL_EDGE = 15.0


def make_initial_model(parameters: InitialModelParameters, context: Context) -> None:
    """Run the job; see `vitrea.jobs.initial_model`."""
    parameters, continued, device = begin(parameters, JOB_NAME)
    inputs = _read_inputs(parameters, continued, context)
    parameters = with_memory(parameters, inputs.data.box_size, device, CLASS_MEMORY)
    files = ClassFiles(
        str(parameters.output), inputs.particles, inputs.group_names, inputs.settings, stored(parameters, JOB_NAME),
        f"Vitrea {vitrea.__version__}\n{context.command}", inputs.scheme,
    )  # fmt: skip
    run, source = _run(parameters, inputs, device, context), parameters.particles
    before = None if continued is None else partial(read_state, files, continued, device, context.recorder)
    state = run_iterations(run, files, first_state(files, inputs, run, context, before), context)
    verdict = run.judge(state)
    files.without_number().write(state, sampling_table(run, state))
    write_class_report(files, run, state, f"Initial model {files.root}", _facts(verdict))
    outputs = [Path(f"{files.root}_{kind}.star") for kind in ("data", "model", "optimiser", "sampling")]
    outputs.append(Path(f"{files.root}_class001.mrc"))
    assert source is not None
    write_record(files.record(), JOB_NAME, parameters, context, [source], outputs)
    _conclude(files, state, verdict, context)


def _read_inputs(parameters: InitialModelParameters, continued: Path | None, context: Context) -> ClassInputs:
    assert parameters.particles is not None and parameters.output is not None
    source = parameters.particles
    if continued is not None:
        source = Path(str(read_optimiser(continued)["rlnExperimentalDataStarFile"]))
    particles = read_particles(source, require_ctf=parameters.ctf)
    images = ParticleImages(particles)
    images.check(context.recorder)
    fewest = max(FEWEST_PARTICLES, parameters.classes)
    if len(particles) < fewest:
        raise InputError(f"{source} holds {len(particles)} particles: at least {fewest} are needed")
    settings = replace(
        base_settings(parameters, images.box_size, images.pixel_size),
        symmetry=canonical_name(parameters.symmetry),
        healpix_order=parameters.healpix_order,
        maximum_iterations=parameters.iterations * parameters.starts,
    )
    if parameters.finish_resolution >= parameters.start_resolution:
        raise InputError(
            f"--finish_resolution ({parameters.finish_resolution:g} Å) must be finer than --start_resolution "
            f"({parameters.start_resolution:g} Å)"
        )
    scheme = Scheme(
        classes=parameters.classes,
        planar=False,
        schedule="batches" if parameters.method == "sgd" else "auto",
        centre_classes=True,
        smoothing=parameters.smoothing_factor,
        particles_per_class=parameters.particles_at_start,
        start_resolution=parameters.start_resolution,
        finish_resolution=parameters.finish_resolution,
        occupancy=parameters.classes > 1,
        even_shares=True,
        balanced=1.0,
        always_oversample=parameters.always_oversample,
        best_pose_only=not parameters.likelihood_blurring,
    )
    mask = round_mask(images.box_size, settings.particle_diameter, images.pixel_size, settings.mask_edge)
    set_aside = None
    if continued is None:
        particles, set_aside = without_bad_images(particles, images, context)
        particles = without_history(particles)
    particles, names = with_groups(particles)
    particles = relink_images(particles, Path(parameters.output).parent)
    data = particle_data(particles, ParticleImages(particles), names)
    return ClassInputs(particles, names, data, settings, scheme, mask, [], set_aside)


def _run(parameters: InitialModelParameters, inputs: ClassInputs, device: torch.device, context: Context) -> AbInitio:
    pixel_size, symmetry = inputs.data.pixel_size, inputs.settings.symmetry
    diameter = inputs.settings.particle_diameter
    turns = parameters.run_in_c1 and symmetry != "C1"
    detail = finest_detail(replace(inputs.settings, symmetry="C1") if turns else inputs.settings, inputs.scheme)

    def between(model: Model, start: int) -> Model:
        classes = list(model.classes)
        if turns and start == 0:
            for number, group in enumerate(classes):
                placed, axes = align_to_symmetry(group.voxels, pixel_size, symmetry, diameter=diameter, impose=True)
                told = f"class {number + 1}: axes of {symmetry} found, correlation {axes.correlation:.2f}"
                context.recorder.event("text", text=told)
                if axes.correlation < SYMMETRIC:
                    context.recorder.warn(
                        f"class {number + 1} hardly has the symmetry {symmetry}: is it the right one?"
                    )
                classes[number] = replace(group, voxels=placed)
        if parameters.auto_mask:
            classes = [replace(group, voxels=_masked(group.voxels, pixel_size)) for group in classes]
        return model.with_classes(classes)

    def resemblance(one: NDArray[np.float32], two: NDArray[np.float32], voxel_size: float) -> float:
        if one.std() == 0 or two.std() == 0:
            return np.inf
        ball = round_mask(len(one), diameter, voxel_size, BALL_EDGE / voxel_size)
        return compare_maps(one, two, voxel_size, mask=ball, align=True, resolution=detail).resolution_at(0.5)

    return AbInitio(
        inputs.data,
        inputs.settings,
        inputs.mask,
        device,
        parameters.working_memory << 20,
        context.recorder,
        inputs.scheme,
        starts=parameters.starts,
        particles_at_end=parameters.particles_at_end,
        first_maps=parameters.first_maps,
        first_symmetry="C1" if turns else "",
        between=between,
        resemblance=resemblance,
        annealing=parameters.annealing,
    )


def _masked(voxels: NDArray[np.float32], pixel_size: float) -> NDArray[np.float32]:
    """Multiply a map by a soft mask around its density."""
    blurred = lowpass_density(voxels, MASK_BLUR, pixel_size)
    if blurred.max() <= blurred.min():
        return voxels
    binary = keep_large_pieces(blurred > 0.5 * float(threshold_otsu(blurred)), 0.1)  # type: ignore[no-untyped-call]
    mask = mask_from_binary(binary, MASK_GROWTH / pixel_size, MASK_EDGE / pixel_size)
    return (voxels * mask).astype(np.float32)


def _facts(verdict: Verdict) -> dict[str, str]:
    return {
        "verdict": "confident" if verdict.confident else "no confident model",
        "gain over a ball or nothing": f"{verdict.gain:.1f} ± {verdict.error:.1f} nats for each of "
        f"{verdict.particles} particles not used",
    }


def _conclude(files: ClassFiles, state: RunState, verdict: Verdict, context: Context) -> None:
    context.recorder.event(
        "verdict", verdict="confident" if verdict.confident else "none", gain_nats=round(verdict.gain, 3),
        error_nats=round(verdict.error, 3), particles=verdict.particles,
    )  # fmt: skip
    if not verdict.confident:
        context.recorder.warn(
            f"no confident model: {files.root}_class001.mrc explains particles that were not used no better than a "
            "ball of the same density, or nothing, does; they may hold too little signal, or too much junk: select "
            "them first"
        )
        return
    context.recorder.event(
        "text",
        text=f"Model at {state.progress.resolution:.1f} Å in {files.root}_class001.mrc; the hand is arbitrary. "
        f"Next: vitrea refine3d --i PARTICLES --ref {files.root}_class001.mrc "
        f"--sym {files.settings.symmetry} --ini_high 30",
    )
