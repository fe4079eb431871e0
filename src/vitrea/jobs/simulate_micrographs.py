"""``vitrea simulate micrographs``: particles in ice as a detector counts them, with the truth beside them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from vitrea.jobs.base import Context, Job
from vitrea.jobs.simulate_imaging import ImagingParameters, Setup, make_folder, micrographs, prepare, write_truth

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from vitrea.records.particles import Particles
    from vitrea.simulate.imaging import Lens

_FOLDER = "Micrographs"


class MicrographParameters(ImagingParameters):
    """Simulate micrographs of particles in ice.

    Contrast follows from the model, the defocus and the dose: there is no signal-to-noise ratio to choose. Writes into
    a folder: Micrographs/mic0001.mrc ... (electrons counted), micrographs.star (what an import would give), and the
    truth: truth.star (particles with coordinates, angles, defocus), truth_micrographs.star (the CTF of each), truth.mrc
    (the molecule in volts above ice).
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
    from vitrea.simulate.imaging import draw_lens

    setup = prepare(parameters, context)
    folder = parameters.output
    make_folder(folder / _FOLDER)
    names = [str(folder / _FOLDER / f"mic{number + 1:04d}.mrc") for number in range(parameters.number)]
    lenses: list[Lens] = []
    fields: list[Particles] = []
    context.recorder.stage("Simulating", parameters.number, "micrographs")
    for number, name in enumerate(names):
        lenses.append(draw_lens(setup.session, number))
        counts, field = _micrograph(setup, number, lenses[-1])
        write_stack(name, counts, setup.imaging.optics.pixel_size)
        fields.append(field)
        context.recorder.advance()
    write_micrographs(folder / "micrographs.star", micrographs(setup, names))
    write_truth(folder, setup, fields, names, lenses)
    context.recorder.event(
        "text",
        text=f"{folder}: {parameters.number} micrographs of {setup.size[1]} x {setup.size[0]} pixels with "
        f"{sum(map(len, fields))} particles of {setup.diameter:.0f} Å; {setup.imaging.counts:.3g} electrons per pixel",
    )


def _micrograph(setup: Setup, number: int, lens: Lens) -> tuple[NDArray[np.float32], Particles]:
    """Return the counts of one micrograph, shape [rows, columns], and the particles in it."""
    from vitrea.simulate.canvas import make_canvas
    from vitrea.simulate.imaging import draw_field, inside
    from vitrea.simulate.scene import Scene

    imaging, session = setup.imaging, setup.session
    canvas = make_canvas(*setup.size, imaging.optics.pixel_size, 0.0)
    field = draw_field(session, number, imaging, lens, setup.size)
    scene = Scene(canvas, imaging, lens, setup.projectors, field)
    expected = imaging.counts * canvas.crop(scene.intensity([session.seed, number])).clamp(min=0)
    counts = np.random.default_rng([session.seed, number, 31]).poisson(expected.double().numpy())
    return counts.astype(np.float32), field.rows(inside(field, setup.size))


JOB = Job(
    name="simulate micrographs",
    summary="Simulate micrographs of particles in ice, with the truth beside them.",
    parameters=MicrographParameters,
    run=run,
)
