"""``vitrea preprocess``: particle images of other programs made ready."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vitrea.jobs.base import Context, Job, JobParameters, parameter
from vitrea.jobs.extract import image_settings
from vitrea.jobs.extract_parameters import ImageParameters
from vitrea.jobs.map_inputs import make_folder
from vitrea.jobs.particle_inputs import chunks
from vitrea.records.errors import InputError, JobError
from vitrea.records.optics import Optics
from vitrea.records.particles import Particles
from vitrea.records.table import Table
from vitrea.records.wording import number_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from vitrea.extraction.processing import ImageProcessor
    from vitrea.formats.images import ParticleImages
    from vitrea.records.recorder import Recorder

_NAMED = 3


class PreprocessSource(JobParameters):
    """Which images are made ready, and where to."""

    input: Path | None = parameter(
        None, "Stack of images, or STAR file of particles.", options=["--operate_on", "--i"], positional=True
    )
    par: Path | None = parameter(None, "FREALIGN's parameter file of that stack.", options=["--from_par"])
    ctfdat: Path | None = parameter(None, "XMIPP's .ctfdat, instead of a stack.", options=["--from_ctfdat"])
    output: Path = parameter(
        Path("preprocessed"), "Name of the files to write, without ending.", options=["--operate_out", "--o"]
    )
    pixel_size: float | None = parameter(
        None, "Pixel size of the images, where no file gives it.", unit="Å", options=["--angpix", "--set_angpix"], gt=0
    )
    voltage: float = parameter(0.0, "Voltage, where no file gives it.", unit="kV", options=["--kV"], ge=0)
    spherical_aberration: float = parameter(0.0, "Cs, where no file gives it.", unit="mm", options=["--cs"], ge=0)
    amplitude_contrast: float = parameter(
        0.0, "Fraction of amplitude contrast, where no file gives it.", options=["--Q0"], ge=0, le=1
    )


class PreprocessParameters(ImageParameters, PreprocessSource):
    """Make particle images of other programs ready: one MRC stack and one STAR file, as relion_preprocess --operate_on.

    What is read: a stack of images (MRC, SPIDER, XMIPP, IMAGIC); a STAR file whose images may lie in any such stacks or
    in files of their own; a stack with FREALIGN's parameter file (--from_par); XMIPP's list of images and CTFs
    (--from_ctfdat). Images are rescaled, windowed, normalised and inverted as asked for, in this order, and written to
    <output>.mrcs; angles, shifts, defocus and all else that is known of them goes to <output>.star. Images without
    numbers are set aside by name.
    """


def run(parameters: PreprocessParameters, context: Context) -> None:
    """Read, process, write.

    Raises
    ------
    InputError
        If files are missing or contradict each other or the options.
    JobError
        If no image is left.
    """
    from vitrea.extraction.processing import ImageProcessor
    from vitrea.formats.images import ParticleImages
    from vitrea.formats.particle_files import write_particles

    particles = _read(parameters)
    images = ParticleImages(particles)
    images.check(context.recorder)
    settings = image_settings(parameters, images.box_size)
    stack, star = (parameters.output.with_name(parameters.output.name + ending) for ending in (".mrcs", ".star"))
    if any(stack.resolve() == path.resolve() for path in images.paths):
        raise InputError(f"--operate_out {parameters.output} would overwrite {stack}, which is read; choose another")
    make_folder(stack)
    processor = ImageProcessor(images.box_size, settings)
    good = _write_images(images, processor, stack, parameters, context.recorder)
    kept = particles.rows(np.flatnonzero(good))
    optics = tuple(
        replace(group, pixel_size=settings.pixel_size(images.box_size, group.pixel_size),
                image_size=settings.final_size(images.box_size))
        for group in particles.optics
    )  # fmt: skip
    kept = replace(kept.with_columns({"rlnImageName": _names(stack, len(kept))}), optics=optics)
    write_particles(star, kept, comment=context.command)
    size = settings.final_size(images.box_size)
    context.recorder.event("text", text=f"{star}: {number_of(len(kept), 'image')} of {size} x {size} pixels in {stack}")


def _read(parameters: PreprocessParameters) -> Particles:
    """Read the particles from whatever was given."""
    from vitrea.formats.particle_files import read_particles

    if (parameters.input is None) == (parameters.ctfdat is None):
        raise InputError("give either --operate_on, a stack or a STAR file, or --from_ctfdat")
    if parameters.par is not None and parameters.input is None:
        raise InputError("--from_par goes with --operate_on, the stack that it is of")
    if parameters.ctfdat is not None:
        return _from_ctfdat(parameters.ctfdat, parameters)
    assert parameters.input is not None
    if parameters.input.suffix.lower() == ".star":
        if parameters.par is not None:
            raise InputError("--from_par goes with a stack, not with a STAR file")
        return read_particles(parameters.input, require_ctf=False, pixel_size=parameters.pixel_size)
    return _from_stack(parameters.input, parameters)


def _optics(size: int, pixel_size: float, parameters: PreprocessParameters) -> Optics:
    return Optics(pixel_size, size, parameters.voltage, parameters.spherical_aberration, parameters.amplitude_contrast)


def _from_stack(path: Path, parameters: PreprocessParameters) -> Particles:
    from vitrea.formats.frealign_par import particles_of_par, read_par
    from vitrea.formats.image_names import join_image_name
    from vitrea.formats.image_stacks import read_stack_header
    from vitrea.formats.star_values import text_column

    header = read_stack_header(path)
    pixel_size = parameters.pixel_size or header.pixel_size
    if not pixel_size:
        raise InputError(f"{path} does not tell its pixel size; give --angpix")
    optics = _optics(header.shape[2], pixel_size, parameters)
    if parameters.par is not None:
        table = read_par(parameters.par)
        if not parameters.voltage:
            raise InputError(f"{parameters.par} does not tell the microscope's settings; give --kV, --cs and --Q0")
        return particles_of_par(table, str(path), optics, source=parameters.par)
    names = text_column([join_image_name(str(path), index) for index in range(header.shape[0])])
    table = Table({"rlnImageName": names, "rlnOpticsGroup": np.ones(len(names), dtype=np.int64)})
    return Particles(table, (optics,), source=path)


def _from_ctfdat(path: Path, parameters: PreprocessParameters) -> Particles:
    from vitrea.formats.ctfdat import read_ctfdat
    from vitrea.formats.image_names import find_file, split_image_name
    from vitrea.formats.image_stacks import read_stack_header
    from vitrea.formats.star_values import text_column

    entries = read_ctfdat(path)
    header = read_stack_header(find_file(split_image_name(entries[0].image)[0], path.parent))
    settings: dict[tuple[float, ...], int] = {}
    groups, optics = [], []
    for entry in entries:
        ctf = entry.ctf
        pixel_size = parameters.pixel_size or ctf.pixel_size or header.pixel_size
        if not pixel_size:
            raise InputError(f"{path}: its files do not tell the pixel size; give --angpix")
        key = (pixel_size, ctf.voltage, ctf.spherical_aberration, ctf.amplitude_contrast)
        if key not in settings:
            number = settings[key] = len(settings) + 1
            optics.append(Optics(pixel_size, header.shape[2], *key[1:], name=f"opticsGroup{number}", group=number))
        groups.append(settings[key])
    table = Table(
        {
            "rlnImageName": text_column([entry.image for entry in entries]),
            "rlnMicrographName": text_column([entry.micrograph for entry in entries]),
            "rlnOpticsGroup": np.array(groups, dtype=np.int64),
            "rlnDefocusU": np.array([entry.ctf.defocus_u for entry in entries]),
            "rlnDefocusV": np.array([entry.ctf.defocus_v for entry in entries]),
            "rlnDefocusAngle": np.array([entry.ctf.defocus_angle for entry in entries]),
        }
    )
    return Particles(table, tuple(optics), source=path, image_root=path.parent)


def _write_images(
    images: ParticleImages, processor: ImageProcessor, stack: Path, parameters: PreprocessParameters, recorder: Recorder
) -> NDArray[np.bool_]:
    """Process and write all images; tell which were usable."""
    from vitrea.formats.mrc import StackWriter

    rng = np.random.default_rng(parameters.random_seed)
    good = np.zeros(len(images), dtype=bool)
    pixel_size = processor.settings.pixel_size(images.box_size, images.pixel_size)
    recorder.stage("Processing images", len(images), "images")
    with StackWriter(stack, pixel_size, 12 if parameters.float16 else 2) as writer:
        for rows in chunks(len(images), images.box_size):
            processed, usable = processor(images.load(rows), rng)
            good[rows] = usable
            if usable.any():
                writer.append(processed[usable])
            recorder.advance(len(rows))
        if not good.any():
            raise JobError("none of the images holds numbers, or all hold nothing but one value")
    bad = np.flatnonzero(~good)
    for row in bad[:_NAMED]:
        recorder.warn(f"{images.names[row]} set aside: no numbers, or nothing but one value")
    if len(bad) > _NAMED:
        recorder.warn(f"{len(bad) - _NAMED} more images set aside for that")
    return good


def _names(stack: Path, count: int) -> NDArray[np.object_]:
    from vitrea.formats.image_names import join_image_name, project_name
    from vitrea.formats.star_values import text_column

    place = project_name(stack)
    return text_column([join_image_name(place, index) for index in range(count)])


JOB = Job(
    name="preprocess",
    summary="Make particle images of other programs ready: normalise, invert, rescale, window; MRC and STAR.",
    parameters=PreprocessParameters,
    run=run,
    ignored_options={"--i_tablename=": "the block of particles is found"},
)
