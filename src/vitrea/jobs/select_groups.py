"""What a selection says of particles that belong together: groups of one intensity scale, and half sets."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vitrea.formats.star_values import text_column
from vitrea.jobs.select_inputs import SelectionInput, group_scales
from vitrea.records.errors import InputError
from vitrea.records.particles import Particles
from vitrea.records.recorder import Recorder
from vitrea.records.table import Table
from vitrea.selection.coordinates import MICROGRAPH
from vitrea.selection.grouping import regroup
from vitrea.selection.subsets import half_sets

_GROUP_NAME, _GROUP_NUMBER = "rlnGroupName", "rlnGroupNumber"
_HALF, _TUBE, _IMAGE = "rlnRandomSubset", "rlnHelicalTubeID", "rlnImageName"


def with_new_groups(particles: Particles, chosen: SelectionInput, number: int, recorder: Recorder) -> Particles:
    """Join micrographs into about `number` groups of similar scale and defocus, named ``group_1`` and so on.

    The groups of before are those of ``rlnGroupName``, else micrographs. ``rlnGroupNumber`` is left out: the next job
    counts the groups it has.

    Raises
    ------
    InputError
        If the particles name neither groups nor micrographs, or have no defocus.
    """
    table = particles.table
    label = next((label for label in (_GROUP_NAME, MICROGRAPH) if label in table), None)
    if label is None:
        raise InputError(f"{chosen.source} has neither {_GROUP_NAME} nor {MICROGRAPH}: there is nothing to regroup")
    if "rlnDefocusU" not in table:
        raise InputError(f"{chosen.source} lacks the column rlnDefocusU, which --regroup needs")
    names, unit, counts = np.unique(table[label].astype(str), return_inverse=True, return_counts=True)
    features = [(table.numbers("rlnDefocusU") + table.numbers("rlnDefocusV", 0.0)) / 2]
    scales = group_scales(particles, chosen)
    if scales is not None:
        features.insert(0, np.array([scales.get(group, 1.0) for group in table[_GROUP_NUMBER].tolist()]))
    means = [np.bincount(unit, weights=feature) / counts for feature in features]
    if number > len(names):
        recorder.warn(f"--regroup {number}: there are only {len(names)} groups to join, these are kept")
    group = regroup(np.stack(means, axis=1), counts, min(number, len(names)))
    sizes = np.bincount(group, weights=counts).astype(int)
    by = "scale and defocus" if scales is not None else "defocus (no model file tells scales)"
    text = f"{len(names)} groups joined into {len(sizes)} by {by}: {sizes.min()} to {sizes.max()} particles each"
    recorder.event("text", text=text)
    new_names = text_column([f"group_{place + 1}" for place in group[unit].tolist()])
    kept = Particles(table.without(_GROUP_NUMBER), particles.optics, particles.source, particles.optics_table,
                     particles.image_root)  # fmt: skip
    return kept.with_columns({_GROUP_NAME: new_names})


def inseparable(table: Table) -> NDArray[np.generic]:
    """Name what each row is a view or a segment of: in two half sets, rows of one name would share their noise."""
    labels = (MICROGRAPH, _TUBE) if _TUBE in table and MICROGRAPH in table else (_IMAGE,)
    columns = [table[label].astype(str) for label in labels if label in table]
    return np.array(["|".join(row) for row in zip(*columns, strict=True)]) if columns else np.arange(len(table))


def with_half_sets(particles: Particles, seed: int, recorder: Recorder) -> Particles:
    """Assign particles to half sets 1 and 2 (``rlnRandomSubset``) at random, instead of those they may have.

    Segments of one helical tube stay together, which overlap, and so do views of one image: its copies, where symmetry
    was expanded.

    Raises
    ------
    InputError
        If there are not two of these.
    """
    table = particles.table
    halves = half_sets(inseparable(table), seed)
    sizes = [int((halves == half).sum()) for half in (1, 2)]
    if not all(sizes):
        raise InputError(f"{particles.source}: --half_sets needs at least two images or helical tubes")
    again = " (new ones)" if _HALF in table else ""
    recorder.event("text", text=f"half sets{again}: {sizes[0]} and {sizes[1]} particles")
    return particles.with_columns({_HALF: halves})
