"""``vitrea project``: images of a map seen from given directions."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from vitrea.jobs.base import Context, Job, JobParameters, parameter
from vitrea.jobs.map_inputs import make_folder, read_cubic_map
from vitrea.jobs.particle_inputs import check_pixel_sizes, chunks, read_posed_particles
from vitrea.records.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from vitrea.records.map import Map
    from vitrea.records.particles import Particles
    from vitrea.simulate.projections import Projector


class ProjectParameters(JobParameters):
    """Project a map, as relion_project does.

    With --ang, one image is made for every particle of a STAR file, at its angles and shifts, and on request with its
    CTF: OUT.mrcs and OUT.star are written. Without it, one view is made and written to the output file. Projections
    are sums along the line of sight, on the grey scale that reconstruction expects.
    """

    input: Path = parameter(..., "Map to project.", options=["--i"])
    output: Path = parameter(
        Path("proj"), "Output: OUT.mrcs and OUT.star with --ang, else the file of the one view.", options=["--o"]
    )
    angles: Path | None = parameter(None, "STAR file with particles whose angles are to be used.", options=["--ang"])
    pixel_size: float = parameter(0.0, "Voxel size; 0: from the map's header.", unit="Å", options=["--angpix"], ge=0)
    rot: float = parameter(0.0, "First Euler angle of a single view.", unit="degrees", tab="Single view")
    tilt: float = parameter(0.0, "Second Euler angle of a single view.", unit="degrees", tab="Single view")
    psi: float = parameter(0.0, "Third Euler angle of a single view.", unit="degrees", tab="Single view")
    x_offset: float = parameter(
        0.0, "Origin in x of a single view: its image moves by minus this.", unit="pixels", options=["--xoff"],
        tab="Single view",
    )  # fmt: skip
    y_offset: float = parameter(
        0.0, "Origin in y of a single view: its image moves by minus this.", unit="pixels", options=["--yoff"],
        tab="Single view",
    )  # fmt: skip
    ctf: bool = parameter(False, "Apply the particles' CTF (and beam tilt), with --ang.", tab="CTF")
    ctf_phase_flip: bool = parameter(False, "Apply the absolute value of the CTF.", tab="CTF", expert=True)
    ctf_intact_first_peak: bool = parameter(
        False, "Leave amplitudes alone up to the first peak of the CTF.", tab="CTF", expert=True
    )
    add_noise: bool = parameter(False, "Add Gaussian white noise.", tab="Noise")
    white_noise: float = parameter(
        0.0, "Standard deviation of the noise, on the grey scale of the projections.", tab="Noise", ge=0
    )
    seed: int = parameter(1, "Seed of the noise.", options=["--random_seed"], tab="Noise", ge=0)
    padding: int = parameter(
        2, "Oversampling of the map's transform.", options=["--pad"], tab="Compute", expert=True, ge=1, le=4
    )


def run(parameters: ProjectParameters, context: Context) -> None:
    """Project and write.

    Raises
    ------
    InputError
        If inputs are missing or do not fit each other.
    """
    _check_options(parameters)
    density = read_cubic_map(parameters.input, parameters.pixel_size, context.recorder)
    if parameters.angles is None:
        _single_view(parameters, density, context)
    else:
        _views(parameters, parameters.angles, density, context)


def _check_options(parameters: ProjectParameters) -> None:
    if parameters.ctf and parameters.angles is None:
        raise InputError("the CTF of a single view is not known: --ctf needs --ang")
    for name in ("ctf_phase_flip", "ctf_intact_first_peak"):
        if getattr(parameters, name) and not parameters.ctf:
            raise InputError(f"--{name} needs --ctf")
    single = [name for name in ("rot", "tilt", "psi", "x_offset", "y_offset") if getattr(parameters, name)]
    if single and parameters.angles is not None:
        raise InputError(f"--{single[0]} is for a single view, but --ang gives the views: leave one of them out")
    if parameters.add_noise != (parameters.white_noise > 0):
        raise InputError("--add_noise and --white_noise (the standard deviation of the noise) go together")


def _single_view(parameters: ProjectParameters, density: Map, context: Context) -> None:
    from vitrea.formats.mrc import write_stack
    from vitrea.records.optics import Optics
    from vitrea.records.particles import EULER_LABELS, SHIFT_LABELS, Particles
    from vitrea.records.table import Table

    size, pixel_size = density.voxels.shape[0], density.voxel_size
    angles = dict(zip(EULER_LABELS, (parameters.rot, parameters.tilt, parameters.psi), strict=True))
    origin = (parameters.x_offset * pixel_size, parameters.y_offset * pixel_size)
    columns = {**angles, **dict(zip(SHIFT_LABELS, origin, strict=True)), "rlnOpticsGroup": 1}
    optics = Optics(pixel_size, size, voltage=0.0, spherical_aberration=0.0, amplitude_contrast=0.0)
    view = Particles(Table().with_columns({label: [value] for label, value in columns.items()}), (optics,))
    make_folder(parameters.output)
    write_stack(parameters.output, _images(parameters, _projector(parameters, density), view, 0), pixel_size)
    context.recorder.event("text", text=f"{parameters.output}: 1 projection of {size} x {size} pixels")


def _views(parameters: ProjectParameters, angles: Path, density: Map, context: Context) -> None:
    from vitrea.formats.image_names import join_image_name
    from vitrea.formats.mrc import StackWriter
    from vitrea.formats.particle_files import write_particles
    from vitrea.formats.star_values import text_column

    size = density.voxels.shape[0]
    particles = read_posed_particles(
        angles, require_ctf=parameters.ctf, require_images=False, pixel_size=density.voxel_size
    )
    check_pixel_sizes(particles, density.voxel_size, str(parameters.input))
    stem = parameters.output.with_suffix("") if parameters.output.suffix in (".mrcs", ".star") else parameters.output
    stack, star = stem.with_name(f"{stem.name}.mrcs"), stem.with_name(f"{stem.name}.star")
    if star.exists() and star.samefile(angles):
        raise InputError(f"--o {parameters.output} would overwrite {angles}; choose another name")
    make_folder(star)
    projector = _projector(parameters, density)
    context.recorder.stage("Projecting", len(particles), "images")
    with StackWriter(stack, density.voxel_size) as writer:
        for rows in chunks(len(particles), size):
            writer.append(_images(parameters, projector, particles.rows(rows), int(rows[0])))
            context.recorder.advance(len(rows))
    names = text_column([join_image_name(str(stack), row) for row in range(len(particles))])
    optics = tuple(replace(group, image_size=size) for group in particles.optics)
    write_particles(star, replace(particles, optics=optics).with_columns({"rlnImageName": names}))
    kind = "projections with CTF" if parameters.ctf else "projections"
    context.recorder.event("text", text=f"{stack} and {star}: {len(particles)} {kind}")


def _projector(parameters: ProjectParameters, density: Map) -> Projector:
    import torch

    from vitrea.simulate.projections import Projector

    return Projector(torch.from_numpy(density.voxels), density.voxel_size, parameters.padding)


def _images(
    parameters: ProjectParameters, projector: Projector, particles: Particles, first: int
) -> NDArray[np.float32]:
    """Make the images of some particles, the first of which is number `first` of its set."""
    from vitrea.simulate.noise import white_noise

    images: NDArray[np.float32] = projector.images(
        particles,
        with_ctf=parameters.ctf,
        intact_first_peak=parameters.ctf_intact_first_peak,
        absolute=parameters.ctf_phase_flip,
    ).numpy()
    if parameters.add_noise:
        images += parameters.white_noise * white_noise(parameters.seed, first, len(images), projector.size)
    return images


JOB = Job(
    name="project",
    summary="Project a map along given orientations, with or without CTF.",
    parameters=ProjectParameters,
    run=run,
    ignored_options={"--j=": "all threads are used"},
)
