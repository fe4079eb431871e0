"""Between XMIPP's metadata and RELION's particles.

XMIPP's angles and shifts (in pixels) are RELION's, which has them from XMIPP; its mirrored images RELION has not.
"""

from __future__ import annotations

import numpy as np

from vitrea.formats.optics_groups import PIXEL_SIZE
from vitrea.records.particles import SHIFT_LABELS, Particles
from vitrea.records.table import Column, Table
from vitrea.tables.conversion import (
    CONTRAST,
    CS,
    IMAGE_NAME,
    MICROGRAPH,
    VOLTAGE,
    Converted,
    GivenImages,
    Lost,
    find_lost,
    optics_columns,
    renamed,
)

_SAME = {
    "image": IMAGE_NAME, "micrograph": MICROGRAPH, "xcoor": "rlnCoordinateX", "ycoor": "rlnCoordinateY",
    "angleRot": "rlnAngleRot", "angleTilt": "rlnAngleTilt", "anglePsi": "rlnAnglePsi",
    "ctfDefocusU": "rlnDefocusU", "ctfDefocusV": "rlnDefocusV", "ctfDefocusAngle": "rlnDefocusAngle",
    "ref": "rlnClassNumber",
}  # fmt: skip
_OPTICS = {"ctfVoltage": VOLTAGE, "ctfSphericalAberration": CS, "ctfQ0": CONTRAST, "ctfSamplingRate": PIXEL_SIZE}
_SHIFTS = dict(zip(("shiftX", "shiftY"), SHIFT_LABELS, strict=True))
_FLIP = "flip"
COMMENT = "XMIPP_STAR_1 *"
OWN_LABELS = ("itemId", "enabled", _FLIP, "weight", "maxCC", "cost", "scale", "ctfVPPphaseshift", "ctfModel", "zScore")


def is_xmipp(table: Table) -> bool:
    """Tell whether a table has XMIPP's labels."""
    return "image" in table or ("xcoor" in table and "ycoor" in table)


def rows_of_xmipp(metadata: Table, given: GivenImages) -> Converted:
    """Turn XMIPP's metadata into rows under RELION's labels.

    Raises
    ------
    ValueError
        If shifts are in pixels whose size nobody tells.
    """
    columns = renamed(metadata, {**_SAME, **_OPTICS})
    size = metadata.numbers("ctfSamplingRate") if "ctfSamplingRate" in metadata else given.pixel_size
    if not np.all(size) and any(label in metadata for label in _SHIFTS):
        raise ValueError("it does not tell the pixel size, which shifts are in; give --pixel_size")
    columns |= {new: metadata.numbers(old) * size for old, new in _SHIFTS.items() if old in metadata}
    mapped = {*_SAME, *_OPTICS, *_SHIFTS}
    columns |= {label: column for label, column in metadata.columns.items() if label not in mapped}
    mirrored = int(np.count_nonzero(metadata.numbers(_FLIP, 0.0)))
    lost = (Lost(_FLIP, f"{mirrored} images are mirrored, which RELION has not: their angles mean another view"),)
    return Converted(given.fill(Table(columns)), lost if mirrored else ())


def xmipp_of_particles(particles: Particles) -> Converted:
    """Turn particles into XMIPP's metadata."""
    table, optics = particles.table, optics_columns(particles)
    columns: dict[str, Column] = {"itemId": np.arange(1, len(table) + 1), "enabled": np.ones(len(table), np.int64)}
    columns |= {old: table[new] for old, new in _SAME.items() if new in table}
    columns |= {old: table.numbers(new) / optics[PIXEL_SIZE] for old, new in _SHIFTS.items() if new in table}
    columns |= {old: optics[new] for old, new in _OPTICS.items()}
    columns |= {label: table[label] for label in OWN_LABELS if label in table}
    carried = {*_SAME.values(), *_SHIFTS.values(), *_OPTICS.values(), *OWN_LABELS}
    return Converted(Table(columns), find_lost(particles, carried, "XMIPP"))
