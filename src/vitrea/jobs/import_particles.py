"""``vitrea import particles``: particle images of other programs, every stack checked."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from vitrea.jobs.base import Context, Job, parameter
from vitrea.jobs.import_parameters import IGNORED_OPTIONS, ImportParameters
from vitrea.records.wording import number_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from vitrea.jobs.set_aside import SetAside
    from vitrea.records.particles import Particles
    from vitrea.records.recorder import Recorder

_OPTICS = "Optics group"


class ParticleImportParameters(ImportParameters):
    """Import particles: a STAR file of any dialect, or stacks of images alone (MRC, SPIDER, IMAGIC).

    The header of every stack is read. Particles whose stack is missing, truncated, or of another box, or has no image
    of their number, are set aside, and so are empty images with --check-pixels. The rest is written to particles.star,
    with optics groups, and image names that are found from the project folder.

    Stacks alone need the pixel size and the settings of the microscope; they carry no CTF, and serve where none is
    needed.
    """

    pixel_size: float = parameter(
        0.0, "Pixel size of the images; 0: from the STAR file, or from the headers of stacks.", unit="Å",
        options=["--angpix"], tab=_OPTICS, ge=0,
    )  # fmt: skip
    voltage: float = parameter(
        300.0, "Acceleration voltage, of stacks alone.", unit="kV", options=["--kV"], tab=_OPTICS, gt=0
    )
    spherical_aberration: float = parameter(
        2.7, "Spherical aberration, of stacks alone.", unit="mm", options=["--cs", "--Cs"], tab=_OPTICS, ge=0
    )
    amplitude_contrast: float = parameter(
        0.1, "Amplitude contrast, of stacks alone.", options=["--q0", "--Q0"], tab=_OPTICS, ge=0, le=1
    )
    optics_group_name: str = parameter(
        "", "New name of the optics group; several get numbers.", options=["--particles_optics_group_name"], tab=_OPTICS
    )
    check_pixels: bool = parameter(False, "Read all images, and set aside empty ones and those with NaN.", tab="Checks")


def run(parameters: ParticleImportParameters, context: Context) -> None:
    """Check and write.

    Raises
    ------
    InputError
        If the input cannot be read or no particle can be used.
    """
    from vitrea.formats.particle_files import relink_images, write_particles
    from vitrea.jobs.import_checks import report_set_aside
    from vitrea.jobs.map_inputs import make_folder
    from vitrea.records.errors import InputError

    recorder = context.recorder
    particles = _read(parameters)
    total = len(particles)
    keep, aside = _check_stacks(particles, recorder)
    if not keep.any():
        raise InputError(f"{aside[0].reason} (none of {total} particles can be used)")
    particles = particles.rows(keep)
    if parameters.check_pixels:
        particles, bad = _check_pixels(particles)
        aside += bad
    particles = _renamed(particles, parameters.optics_group_name)
    path = parameters.output / "particles.star"
    make_folder(path)
    write_particles(path, relink_images(particles, parameters.output))
    first = particles.optics[0]
    recorder.event(
        "text",
        text=f"{path}: {number_of(len(particles), 'particle')} of {first.image_size} pixels, {first.pixel_size:g} Å, "
        f"in {number_of(len(particles.optics), 'optics group')}",
    )
    report_set_aside(aside, total, "particle", parameters.output / "particles_set_aside.star", recorder)


def _read(parameters: ParticleImportParameters) -> Particles:
    from vitrea.formats.micrograph_files import expand_names
    from vitrea.formats.particle_files import read_particles
    from vitrea.records.errors import InputError

    if not parameters.input:
        raise InputError("give a particle STAR file, or stacks of images")
    paths = list(dict.fromkeys(expand_names(parameters.input, (".mrcs", ".mrc", ".stk", ".spi", ".img"))))
    if any(path.suffix.lower() == ".star" for path in paths):
        if len(paths) > 1:
            raise InputError("give one STAR file; vitrea select joins several")
        return read_particles(paths[0], require_ctf=False, pixel_size=parameters.pixel_size or None)
    return _of_stacks(paths, parameters)


def _of_stacks(paths: list[Path], parameters: ParticleImportParameters) -> Particles:
    """Return all images of stacks that no STAR file describes; InputError for the first that cannot be read."""
    import numpy as np

    from vitrea.formats.image_names import join_image_name, project_name
    from vitrea.formats.image_stacks import read_stack_header
    from vitrea.formats.mrc_header import UNSET_PIXEL_SIZES
    from vitrea.formats.star_values import text_column
    from vitrea.records.errors import InputError
    from vitrea.records.optics import Optics
    from vitrea.records.particles import Particles
    from vitrea.records.table import Table

    headers = {path: read_stack_header(path) for path in paths}
    first = headers[paths[0]]
    pixel_size = parameters.pixel_size or first.pixel_size
    if not parameters.pixel_size and pixel_size in UNSET_PIXEL_SIZES:
        raise InputError(f"the header of {paths[0]} gives no pixel size; give it with --angpix (in Å)")
    optics = Optics(
        pixel_size, first.shape[2], parameters.voltage, parameters.spherical_aberration, parameters.amplitude_contrast
    )
    names = [
        join_image_name(project_name(path), number) for path, one in headers.items() for number in range(one.shape[0])
    ]
    table = Table({"rlnImageName": text_column(names), "rlnOpticsGroup": np.ones(len(names), dtype=np.int64)})
    return Particles(table, (optics,))


def _check_stacks(particles: Particles, recorder: Recorder) -> tuple[NDArray[np.bool_], list[SetAside]]:
    """Return which particles have an image of the right size, and the others with the reason."""
    import numpy as np

    from vitrea.formats.image_names import find_file, split_image_name
    from vitrea.formats.image_stacks import read_stack_header
    from vitrea.jobs.import_checks import over_files
    from vitrea.jobs.set_aside import SetAside

    names = [str(name) for name in particles.table["rlnImageName"]]
    files, indices = zip(*map(split_image_name, names), strict=True)
    distinct = [Path(file) for file in dict.fromkeys(files)]
    headers, bad = over_files(
        distinct,
        lambda file: read_stack_header(find_file(str(file), particles.image_root)),
        recorder,
        "Reading headers",
    )
    reasons = {one.name: one.reason for one in bad}
    boxes = np.array([group.image_size for group in particles.optics])[particles.optics_index]
    keep = np.zeros(len(names), dtype=bool)
    aside: list[SetAside] = []
    for row, (file, index) in enumerate(zip(files, indices, strict=True)):
        header = headers.get(Path(file))
        if header is None:
            reason = reasons[str(Path(file))]
        elif header.shape[1:] != (boxes[row], boxes[row]):
            reason = f"{file} holds images of {header.shape[2]} x {header.shape[1]} pixels, not of {boxes[row]}"
        elif index >= header.shape[0]:
            reason = f"{names[row]}: the stack holds {header.shape[0]} images"
        else:
            keep[row] = True
            continue
        aside.append(SetAside(names[row], reason))
    return keep, aside


def _check_pixels(particles: Particles) -> tuple[Particles, list[SetAside]]:
    import numpy as np

    from vitrea.formats.images import ParticleImages, find_bad_images
    from vitrea.jobs.set_aside import SetAside
    from vitrea.records.errors import InputError

    bad = find_bad_images(ParticleImages(particles))
    if len(bad) == len(particles):
        raise InputError(f"{bad[0].name}: {bad[0].reason} (none of {len(bad)} images can be used)")
    keep = np.ones(len(particles), dtype=bool)
    keep[[one.index for one in bad]] = False
    return particles.rows(keep), [SetAside(one.name, f"{one.name}: {one.reason}") for one in bad]


def _renamed(particles: Particles, name: str) -> Particles:
    if not name:
        return particles
    several = len(particles.optics) > 1
    optics = tuple(replace(one, name=f"{name}{one.group}" if several else name) for one in particles.optics)
    return replace(particles, optics=optics)


JOB = Job(
    name="import particles",
    summary="Check the stacks of a particle set, or list the images of stacks alone.",
    parameters=ParticleImportParameters,
    run=run,
    ignored_options=IGNORED_OPTIONS,
    examples=("vitrea import particles my_stack.mrcs --angpix 3 --kV 200",),
)
