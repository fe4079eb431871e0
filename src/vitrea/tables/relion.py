"""What the older dialects of RELION's particle files cannot hold or do not use."""

from __future__ import annotations

import numpy as np

from vitrea.formats.optics_groups import GROUP
from vitrea.records.image_set import ImageSet
from vitrea.records.table import Column
from vitrea.tables.conversion import Lost

_NAME = "rlnOpticsGroupName"
# Labels that change what RELION computes, by the version that first did so.
_SINCE = {
    "rlnPhaseShift": "2.1",
    "rlnBeamTiltClass": "3.0",
    "rlnOddZernike": "3.1",
    "rlnEvenZernike": "3.1",
    "rlnMagMat00": "3.1",
    "rlnMagMat01": "3.1",
    "rlnMagMat10": "3.1",
    "rlnMagMat11": "3.1",
    "rlnMtfFileName": "3.1",
    "rlnCtfDataAreCtfPremultiplied": "3.1",
}


def lost_in_flat_file(images: ImageSet, version: str) -> tuple[Lost, ...]:
    """Return what a file without optics groups loses.

    Parameters
    ----------
    images : ImageSet
        Particles, micrographs or movies.
    version : str
        Of RELION, "1.3" or "3.0": what it does not use is named, though it is written.
    """
    lost = []
    block = images.optics_table
    if block is not None and _NAME in block:
        usual = [f"opticsGroup{number}" for number in block[GROUP].tolist()]
        if block[_NAME].tolist() != usual:
            lost.append(Lost(_NAME, "a flat file has no optics groups"))
    held = [{name: value for name, value in vars(one).items() if name not in ("group", "name")} for one in
            images.optics]  # fmt: skip
    if any(one in held[:place] for place, one in enumerate(held)):
        lost.append(Lost(GROUP, "groups that differ in name alone become one when the flat file is read"))
    tables = [images.table] if block is None else [images.table, block]
    for label, since in _SINCE.items():
        if any(label in table and _says_something(table[label]) for table in tables) and since > version:
            lost.append(Lost(label, f"written, but RELION {version} does not use it (since {since})"))
    return tuple(lost)


def _says_something(column: Column) -> bool:
    return bool(any(column.tolist())) if column.dtype == object else bool(np.any(column != 0))
