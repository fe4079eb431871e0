"""``vitrea simulate micrographs``: particles in ice as a detector counts them, with the truth beside them."""

from __future__ import annotations

import numpy as np

from vitrea.jobs.base import Context, Job
from vitrea.jobs.simulate_imaging import (
    ImagingParameters,
    ShotTruth,
    as_micrographs,
    output_folders,
    prepare,
    summary,
    warn_if_full,
    write_landscape,
    write_truth,
)
from vitrea.records.wording import number_of

_FOLDER = "Micrographs"


class MicrographParameters(ImagingParameters):
    """Simulate micrographs of particles in ice.

    Contrast follows from the model, the defocus and the dose: there is no signal-to-noise ratio to choose. Writes into
    a folder: Micrographs/mic0001.mrc ... (electrons counted), micrographs.star (what an import would give), and the
    truth: truth.star (particles with coordinates, angles, defocus), truth_micrographs.star (the CTF of each), truth.mrc
    (the molecule in volts above ice), and Truth/mic0001_mask.mrc ... (carbon and contamination) where there are such.
    """


def run(parameters: MicrographParameters, context: Context) -> None:
    """Simulate and write.

    Raises
    ------
    InputError
        If inputs are missing or do not fit each other.
    """
    from vitrea.formats.micrograph_files import write_micrographs
    from vitrea.formats.mrc import write_stack

    setup = prepare(parameters, context)
    images, truth = output_folders(parameters, _FOLDER)
    truths: list[ShotTruth] = []
    context.recorder.stage("Simulating", parameters.number, "micrographs")
    for number in range(parameters.number):
        shot = setup.shooting.shot(number)
        warn_if_full(context, parameters, shot)
        stem = f"mic{number + 1:04d}"
        path = images / f"{stem}.mrc"
        (image,) = shot.expected(1) if parameters.noise == "none" else shot.frames(1)
        write_stack(path, image.astype(np.float32), setup.optics.pixel_size)
        write_landscape(truth, stem, shot)
        truths.append(ShotTruth(str(path), shot.lens, shot.particles, shot.signal_to_noise(setup.diameter)))
        context.recorder.advance()
    write_micrographs(parameters.output / "micrographs.star", as_micrographs(setup, truths, with_ctf=False))
    write_truth(parameters.output, setup, truths)
    context.recorder.event(
        "text", text=f"{parameters.output}: {number_of(parameters.number, 'micrograph')}; {summary(setup, truths)}"
    )


JOB = Job(
    name="simulate micrographs",
    summary="Simulate micrographs of particles in ice, with the truth beside them.",
    parameters=MicrographParameters,
    run=run,
    examples=(
        "vitrea simulate micrographs --map molecule.mrc --molecular_mass 150 --o Simulate --width 256 --particles 8 "
        "--carbon 0.2 --defocus_min 12000 --defocus_max 18000",
    ),
)
