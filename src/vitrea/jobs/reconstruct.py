"""``vitrea reconstruct``: a map from particles whose poses are known."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vitrea.jobs.base import Context, Job, JobParameters, parameter
from vitrea.jobs.map_inputs import make_folder
from vitrea.jobs.particle_inputs import chunks, read_posed_particles, readable_images
from vitrea.records.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from vitrea.reconstruction.backprojection import CtfCorrection
    from vitrea.records.particles import Particles

_FIGURE_OF_MERIT = "rlnParticleFigureOfMerit"


class ReconstructParameters(JobParameters):
    """Reconstruct a map from particles with given angles and shifts, as relion_reconstruct does.

    Direct Fourier inversion: every image is placed as a central slice, with --ctf multiplied by its CTF and divided by
    the sum of squared CTFs; beam tilt and odd aberrations in the optics groups are corrected with it. The map is not
    filtered or sharpened and keeps the grey scale of the images.
    """

    input: Path = parameter(..., "STAR file with the particles, their angles and shifts.", options=["--i"])
    output: Path = parameter(Path("reconstruct.mrc"), "Map to write.", options=["--o"])
    symmetry: str = parameter("C1", "Point group: C1, C4, D2, T, O, I ...", options=["--sym"])
    max_resolution: float = parameter(
        0.0, "Finest resolution to reconstruct; 0: Nyquist.", unit="Å", options=["--maxres"], ge=0
    )
    pixel_size: float = parameter(
        0.0, "Pixel size, where the STAR file gives none.", unit="Å", options=["--angpix"], ge=0, expert=True
    )
    padding: int = parameter(
        2, "Oversampling of the Fourier grid.", options=["--pad"], tab="Compute", expert=True, ge=1, le=4
    )
    subset: int = parameter(
        0, "Take only the particles of this half set (rlnRandomSubset 1 or 2); 0: all.", tab="Particles", ge=0, le=2
    )
    class_number: int = parameter(
        0, "Take only the particles of this class (rlnClassNumber); 0: all.", options=["--class"], tab="Particles", ge=0
    )
    fom_weighting: bool = parameter(False, "Weigh particles by rlnParticleFigureOfMerit.", tab="Particles", expert=True)
    ctf: bool = parameter(False, "Correct for the CTF, beam tilt and odd aberrations.", tab="CTF")
    ctf_phase_flipped: bool = parameter(False, "The images' phases are flipped already.", tab="CTF", expert=True)
    ctf_intact_first_peak: bool = parameter(
        False, "Leave amplitudes alone up to the first peak of the CTF.", tab="CTF", expert=True
    )
    only_flip_phases: bool = parameter(False, "Correct phases, not amplitudes.", tab="CTF", expert=True)


def run(parameters: ReconstructParameters, context: Context) -> None:
    """Reconstruct and write.

    Raises
    ------
    InputError
        If inputs are missing or do not fit each other.
    """
    import torch

    from vitrea.formats.images import ParticleImages
    from vitrea.formats.mrc import write_map
    from vitrea.geometry.symmetry import canonical_name
    from vitrea.reconstruction.backprojection import Backprojector
    from vitrea.records.map import Map

    symmetry, correction = canonical_name(parameters.symmetry), _correction(parameters)
    particles = _select(
        read_posed_particles(
            parameters.input,
            require_ctf=parameters.ctf,
            require_images=True,
            pixel_size=parameters.pixel_size or None,
        ),
        parameters,
    )
    weights = _weights(particles, parameters)
    images = ParticleImages(particles)
    images.check(context.recorder)
    size, pixel_size = images.box_size, images.pixel_size
    engine = Backprojector(size, pixel_size, _radius(parameters, size, pixel_size), parameters.padding, correction)
    make_folder(parameters.output)
    context.recorder.stage("Backprojecting", len(particles), "images")
    used = 0
    for rows in chunks(len(particles), size):
        pixels = images.load(rows)
        good = readable_images(pixels, images.names[rows], context.recorder)
        if good.any():
            engine.add(torch.from_numpy(pixels[good]), particles.rows(rows[good]), weights[rows[good]])
        used += int(good.sum())
        context.recorder.advance(len(rows))
    if not used:
        raise InputError(f"{parameters.input}: none of the images can be used")
    voxels = engine.reconstruct(symmetry).numpy()
    write_map(parameters.output, Map(voxels, pixel_size))
    context.recorder.event(
        "text", text=f"{parameters.output}: {used} particles, {size}³ voxels of {pixel_size:g} Å, {symmetry}"
    )


def _correction(parameters: ReconstructParameters) -> CtfCorrection | None:
    from vitrea.reconstruction.backprojection import CtfCorrection

    for name in ("ctf_phase_flipped", "ctf_intact_first_peak", "only_flip_phases"):
        if getattr(parameters, name) and not parameters.ctf:
            raise InputError(f"--{name} needs --ctf")
    if not parameters.ctf:
        return None
    return CtfCorrection(parameters.ctf_phase_flipped, parameters.ctf_intact_first_peak, parameters.only_flip_phases)


def _select(particles: Particles, parameters: ReconstructParameters) -> Particles:
    """Keep the particles of the half set and class asked for."""
    keep = np.ones(len(particles), dtype=bool)
    wishes = (
        ("--subset", "rlnRandomSubset", parameters.subset),
        ("--class", "rlnClassNumber", parameters.class_number),
    )
    for option, label, wanted in wishes:
        if not wanted:
            continue
        if label not in particles.table:
            raise InputError(f"{parameters.input} lacks the column {label}, which {option} needs")
        keep &= particles.table[label] == wanted
        if not keep.any():
            raise InputError(f"{parameters.input}: no particle is left with {label} {wanted} ({option} {wanted})")
    return particles.rows(keep)


def _weights(particles: Particles, parameters: ReconstructParameters) -> NDArray[np.float64]:
    if not parameters.fom_weighting:
        return np.ones(len(particles))
    if _FIGURE_OF_MERIT not in particles.table:
        raise InputError(f"{parameters.input} lacks the column {_FIGURE_OF_MERIT}, which --fom_weighting needs")
    weights = particles.table.numbers(_FIGURE_OF_MERIT)
    if not (weights >= 0).all() or not weights.any():
        raise InputError(f"{parameters.input}: {_FIGURE_OF_MERIT} must not be negative, nor 0 for all particles")
    return weights


def _radius(parameters: ReconstructParameters, size: int, pixel_size: float) -> int:
    nyquist = size // 2
    if not parameters.max_resolution:
        return nyquist
    radius = math.ceil(size * pixel_size / parameters.max_resolution)
    if radius < 2:
        raise InputError(
            f"--maxres {parameters.max_resolution:g} Å is too coarse for a box of {size * pixel_size:g} Å: "
            "give a finer one"
        )
    return min(radius, nyquist)


JOB = Job(
    name="reconstruct",
    summary="Reconstruct a map from particles whose poses are given.",
    parameters=ReconstructParameters,
    run=run,
    ignored_options={"--j=": "all threads are used", "--skip_gridding": "gridding is never iterated"},
)
