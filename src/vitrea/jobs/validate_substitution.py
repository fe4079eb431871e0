"""``vitrea validate substitution``: particles whose fine detail is noise, to measure over-fitting with."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vitrea.jobs.base import Context, Job, JobParameters, parameter
from vitrea.jobs.map_inputs import make_folder
from vitrea.jobs.particle_inputs import chunks, readable_images
from vitrea.records.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from vitrea.formats.images import ParticleImages
    from vitrea.records.particles import Particles

_ORIGINAL = "rlnImageOriginalName"


class ValidateSubstitutionParameters(JobParameters):
    """Make the phases of particle images random beyond a resolution, to measure over-fitting (Chen et al. 2013).

    Amplitudes stay, so that the images have the same spectrum, noise and normalisation, but nothing finer than
    --resolution is left in them. Refine them exactly as the original ones, from the same reference and with the same
    half sets, and compare the two with vitrea validate overfitting. A resolution where the FSC of the original
    refinement is still high, 1.5 to 2 times coarser than its result, tells most.

    Writes into a folder: particles_substituted.mrcs and particles_substituted.star, with all columns of the original;
    the names of the original images are in rlnImageOriginalName.
    """

    input: Path = parameter(..., "STAR file with particles.", options=["--i"], positional=True)
    output: Path = parameter(Path("Validate/substitution"), "Folder to write to.", options=["--o"])
    resolution: float = parameter(..., "Resolution beyond which phases are random.", unit="Å", gt=0)
    random_seed: int = parameter(0, "Seed of the random phases.", ge=0)
    float16: bool = parameter(False, "Write images as 16-bit floats (MRC mode 12): half the disk space.")
    pixel_size: float = parameter(
        0.0, "Pixel size, where the STAR file gives none.", unit="Å", options=["--angpix"], ge=0, expert=True
    )


def run(parameters: ValidateSubstitutionParameters, context: Context) -> None:
    """Substitute and write.

    Raises
    ------
    InputError
        If particles or images are missing, or the resolution is beyond what the images hold.
    """
    from vitrea.formats.images import ParticleImages
    from vitrea.formats.particle_files import read_particles, relink_images, write_particles

    particles = read_particles(
        parameters.input, require_ctf=False, require_images=True, pixel_size=parameters.pixel_size or None
    )
    images = ParticleImages(particles)
    images.check(context.recorder)
    extent = images.box_size * images.pixel_size
    if not 2 * images.pixel_size < parameters.resolution < extent:
        raise InputError(
            f"--resolution {parameters.resolution:g}: the images of {parameters.input} hold what lies between "
            f"{2 * images.pixel_size:g} Å (two pixels) and {extent:g} Å (their box)"
        )
    folder = parameters.output
    star, stack = (folder / f"particles_substituted.{ending}" for ending in ("star", "mrcs"))
    make_folder(star)
    places = _write_images(stack, images, extent / parameters.resolution, parameters, context)
    written = _table(relink_images(particles, folder), stack, places)
    write_particles(star, written, comment=context.command)
    context.recorder.event(
        "text",
        text=f"{star}: {len(written)} particles without information beyond {parameters.resolution:g} Å; refine them as "
        "the original ones, then compare the half maps with vitrea validate overfitting",
    )


def _write_images(
    stack: Path, images: ParticleImages, from_shell: float, parameters: ValidateSubstitutionParameters, context: Context
) -> NDArray[np.int64]:
    """Write the images; return the place of each in the new stack, -1 for those that are no numbers."""
    from vitrea.formats.mrc import StackWriter
    from vitrea.maps.noise_substitution import substitute_phases

    places = np.full(len(images), -1, dtype=np.int64)
    context.recorder.stage("Substituting", len(images), "images")
    with StackWriter(stack, images.pixel_size, 12 if parameters.float16 else 2) as writer:
        for rows in chunks(len(images), images.box_size):
            pixels = images.load(rows)
            good = readable_images(pixels, images.names[rows], context.recorder)
            places[rows[good]] = writer.count + np.arange(int(good.sum()))
            if good.any():
                writer.append(substitute_phases(pixels[good], from_shell, rows[good], parameters.random_seed))
            context.recorder.advance(len(rows))
        if not writer.count:
            raise InputError(f"{parameters.input}: none of the images can be used")
    return places


def _table(particles: Particles, stack: Path, places: NDArray[np.int64]) -> Particles:
    from vitrea.formats.image_names import join_image_name
    from vitrea.formats.star_values import text_column

    names = [join_image_name(str(stack), int(place)) for place in places]
    columns = {"rlnImageName": text_column(names)}
    if _ORIGINAL not in particles.table:
        columns[_ORIGINAL] = particles.table["rlnImageName"]
    return particles.with_columns(columns).rows(places >= 0)


JOB = Job(
    name="validate substitution",
    summary="Make the phases of particles random beyond a resolution, to measure over-fitting with.",
    parameters=ValidateSubstitutionParameters,
    run=run,
    examples=["vitrea validate substitution --i images.star --resolution 16 --o Validate/substitution"],
)
