"""Between cisTEM's parameters and RELION's particles.

The angles phi, theta, psi are rot, tilt, psi. cisTEM's shifts say where the particle lies, RELION's origins how it
comes to the centre, both in Å: the sign changes (as cisTEM's own export to RELION has it).
"""

from __future__ import annotations

import numpy as np

from vitrea.formats.cistem_parameters import CISTEM_LABELS
from vitrea.formats.optics_groups import PIXEL_SIZE
from vitrea.formats.star_values import text_column
from vitrea.records.particles import SHIFT_LABELS, Particles
from vitrea.records.table import Column, Table
from vitrea.tables.conversion import (
    BEAM_TILT,
    CONTRAST,
    CS,
    IMAGE_NAME,
    MICROGRAPH,
    VOLTAGE,
    Converted,
    GivenImages,
    Lost,
    find_lost,
    join_names,
    optics_columns,
    renamed,
    split_names,
)

_SAME = {
    "cisTEMAnglePsi": "rlnAnglePsi", "cisTEMAngleTheta": "rlnAngleTilt", "cisTEMAnglePhi": "rlnAngleRot",
    "cisTEMDefocus1": "rlnDefocusU", "cisTEMDefocus2": "rlnDefocusV", "cisTEMDefocusAngle": "rlnDefocusAngle",
    "cisTEMBest2DClass": "rlnClassNumber", "cisTEMAssignedSubset": "rlnRandomSubset",
    "cisTEMOriginalImageFilename": MICROGRAPH, "cisTEMPreExposure": "rlnMicrographPreExposure",
}  # fmt: skip
_OPTICS = {
    "cisTEMPixelSize": PIXEL_SIZE, "cisTEMMicroscopeVoltagekV": VOLTAGE, "cisTEMMicroscopeCsMM": CS,
    "cisTEMAmplitudeContrast": CONTRAST, "cisTEMBeamTiltX": BEAM_TILT[0], "cisTEMBeamTiltY": BEAM_TILT[1],
}  # fmt: skip
_SHIFTS = dict(zip(("cisTEMXShift", "cisTEMYShift"), SHIFT_LABELS, strict=True))
_PHASE, _RLN_PHASE = "cisTEMPhaseShift", "rlnPhaseShift"
_POSITION, _STACK, _ACTIVE = "cisTEMPositionInStack", "cisTEMStackFilename", "cisTEMImageActivity"
_OTHERS = (_POSITION, _STACK)
_COORDINATES = {"cisTEMOriginalXPosition": "rlnCoordinateX", "cisTEMOriginalYPosition": "rlnCoordinateY"}


def rows_of_cistem(parameters: Table, given: GivenImages, *, binary: bool) -> Converted:
    """Turn cisTEM's parameters into rows under RELION's labels.

    Parameters
    ----------
    parameters : Table
        Under cisTEM's STAR labels.
    given : GivenImages
    binary : bool
        Whether phase shifts are in radians, as in binary files, or in degrees, as cisTEM reads STAR files.

    Returns
    -------
    Converted
        Positions in micrographs, which cisTEM has in Å, are pixels of the image.

    Raises
    ------
    ValueError
        If neither the file nor `given` names the stack.
    """
    notes = []
    columns: dict[str, Column] = {}
    if _POSITION in parameters:
        files = [given.stack] * len(parameters) if _STACK not in parameters else parameters[_STACK].tolist()
        files = [file or given.stack for file in files]
        if not all(files):
            raise ValueError("the stack of the images is not named; give --stack")
        columns[IMAGE_NAME] = join_names(files, parameters[_POSITION] - 1)
    columns |= renamed(parameters, _SAME)
    columns |= {new: -parameters.numbers(old) + 0.0 for old, new in _SHIFTS.items() if old in parameters}
    if _PHASE in parameters:
        phases = parameters.numbers(_PHASE)
        columns[_RLN_PHASE] = np.degrees(phases) if binary else phases
        if not binary and 0 < np.abs(phases).max(initial=0.0) <= 2 * np.pi:
            notes.append(
                "phase shifts are taken as degrees, which cisTEM reads from STAR files; those it wrote itself are in "
                "radians"
            )
    columns |= renamed(parameters, _OPTICS)
    if (BEAM_TILT[0] in columns) and not any(columns[label].any() for label in BEAM_TILT if label in columns):
        columns = {label: column for label, column in columns.items() if label not in BEAM_TILT}
    size = parameters.numbers("cisTEMPixelSize") if "cisTEMPixelSize" in parameters else given.pixel_size
    if not np.any(size):
        columns.pop(PIXEL_SIZE, None)
    elif all(label in parameters for label in _COORDINATES):
        columns |= {new: parameters.numbers(old) / size for old, new in _COORDINATES.items()}
    mapped = (*_SAME, *_SHIFTS, *_OPTICS, *_OTHERS, _PHASE, *(_COORDINATES if "rlnCoordinateX" in columns else ()))
    columns |= {label: column for label, column in parameters.columns.items() if label not in mapped}
    return Converted(given.fill(Table(columns)), notes=tuple(notes))


def cistem_of_particles(particles: Particles, *, binary: bool) -> Converted:
    """Turn particles into cisTEM's parameters.

    Parameters
    ----------
    particles : Particles
    binary : bool
        As in `rows_of_cistem`.

    Returns
    -------
    Converted
        Angles, shifts and defocus that are not there are 0, occupancies 100.
    """
    table, optics = particles.table, optics_columns(particles)
    count = len(table)
    columns: dict[str, Column] = {_POSITION: np.arange(1, count + 1)}
    lost: list[Lost] = []
    if IMAGE_NAME in table:
        files, indices = split_names(table[IMAGE_NAME])
        columns[_POSITION], columns[_STACK] = indices + 1, text_column(files)
    for old, new in _SAME.items():
        if new in table:
            columns[old] = table[new]
        elif not old.startswith(("cisTEMBest", "cisTEMAssigned", "cisTEMOriginal", "cisTEMPre")):
            columns[old] = np.zeros(count)
    columns |= {old: -table.numbers(new, 0.0) + 0.0 for old, new in _SHIFTS.items()}
    phases = table.numbers(_RLN_PHASE, 0.0)
    columns[_PHASE] = np.radians(phases) if binary else phases
    columns |= {old: optics[new] for old, new in _OPTICS.items()}
    if all(new in table for new in _COORDINATES.values()):
        columns |= {old: table.numbers(new) * optics[PIXEL_SIZE] for old, new in _COORDINATES.items()}
    columns |= {_ACTIVE: np.ones(count, dtype=np.int64), "cisTEMOccupancy": np.full(count, 100.0)}
    columns |= {label: table[label] for label in CISTEM_LABELS if label in table}
    carried = {*_SAME.values(), *_SHIFTS.values(), *_OPTICS.values(), *_COORDINATES.values(), IMAGE_NAME, _RLN_PHASE}
    lost += find_lost(particles, carried | set(CISTEM_LABELS), "cisTEM")
    return Converted(Table(columns), tuple(lost))
