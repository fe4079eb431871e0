"""``vitrea symmetry-expand``: every particle once for each operator of a point group."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vitrea.jobs.base import Context, Job, JobParameters, parameter
from vitrea.jobs.map_inputs import make_folder
from vitrea.jobs.particle_inputs import read_posed_particles
from vitrea.records.errors import InputError
from vitrea.records.particles import EULER_LABELS, Particles
from vitrea.records.recorder import Recorder

if TYPE_CHECKING:
    from numpy.typing import NDArray

_PRIORS = ("rlnAngleRotPrior", "rlnAngleTiltPrior", "rlnAnglePsiPrior")


class SymmetryExpandParameters(JobParameters):
    """Repeat particles in all orientations a point group makes equivalent, as relion_particle_symmetry_expand.

    The copies of a particle follow each other, the one with its own angles first; all else in their rows is the same.
    Each subunit is then seen in the same orientation by one copy, so that subunits can be classified or refined one
    by one (with local searches, in C1). Half sets are kept: all copies of a particle stay in one.
    """

    input: Path = parameter(..., "STAR file with refined particles: their angles are needed.", options=["--i"])
    output: Path = parameter(Path("expanded.star"), "STAR file to write.", options=["--o"])
    symmetry: str = parameter(..., "Point group the particles were refined in: C4, D2, T, O, I ...", options=["--sym"])
    pixel_size: float = parameter(
        0.0, "Pixel size, where the STAR file gives none.", unit="Å", options=["--angpix"], ge=0, expert=True
    )


def run(parameters: SymmetryExpandParameters, context: Context) -> None:
    """Expand and write.

    Raises
    ------
    InputError
        If the particles have no angles, or the group no operators but the identity.
    """
    from vitrea.formats.particle_files import relink_images, write_particles
    from vitrea.geometry.symmetry import canonical_name, symmetry_matrices

    group = canonical_name(parameters.symmetry)
    operators = symmetry_matrices(group)
    if len(operators) == 1:
        raise InputError(f"--sym {parameters.symmetry} has no operator but the identity: there is nothing to expand")
    particles = read_posed_particles(
        parameters.input, require_ctf=False, require_images=False, pixel_size=parameters.pixel_size or None
    )
    output = parameters.output
    if output.exists() and output.samefile(parameters.input):
        raise InputError(f"--o {output} would overwrite the particles it is made from; choose another name")
    _warn(particles, parameters.input, context.recorder)
    expanded = expand(particles, operators)
    if output.resolve().parent != parameters.input.resolve().parent:
        expanded = relink_images(expanded, output.parent)
    make_folder(output)
    write_particles(output, expanded, comment=context.command)
    context.recorder.event(
        "text", text=f"{output}: {len(particles)} particles x {len(operators)} operators of {group} = {len(expanded)}"
    )


def expand(particles: Particles, operators: NDArray[np.float64]) -> Particles:
    """Repeat particles in all equivalent orientations.

    Parameters
    ----------
    particles : Particles
        Must have angles.
    operators : ndarray, shape [m, 3, 3]
        Of a point group, the identity first.

    Returns
    -------
    Particles
        m rows a particle, consecutive and in the order of the operators R: views A become ``A @ R``. The shifts, which
        are in the image's plane, stay. Priors of all three angles are treated as the angles are.
    """
    from vitrea.geometry.euler import euler_to_matrix, matrix_to_euler

    table = particles.table
    count = len(operators)
    expanded = particles.rows(np.repeat(np.arange(len(particles)), count))
    columns: dict[str, NDArray[np.float64]] = {}
    for labels in (EULER_LABELS, _PRIORS):
        if not all(label in table for label in labels):
            continue
        eulers = np.stack([table.numbers(label) for label in labels], axis=1)
        turned = matrix_to_euler(euler_to_matrix(eulers)[:, None] @ operators)
        turned[:, 0] = eulers  # to the last digit
        columns.update({label: turned[..., i].reshape(-1) for i, label in enumerate(labels)})
    return expanded.with_columns(columns)


def _warn(particles: Particles, path: Path, recorder: Recorder) -> None:
    """Tell of what may not be meant."""
    table = particles.table
    present = [label for label in _PRIORS if label in table]
    if present and len(present) < len(_PRIORS):
        recorder.warn(f"{path}: {', '.join(present)} are kept as they are; local searches must not start from them")
    if "rlnImageName" in table and len(np.unique(table["rlnImageName"].astype(str))) < len(table):
        recorder.warn(f"{path} names images more than once: has it been expanded before?")


JOB = Job(
    name="symmetry-expand",
    summary="Repeat every particle in all orientations that a point group makes equivalent.",
    parameters=SymmetryExpandParameters,
    run=run,
)
