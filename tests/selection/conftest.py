"""Small particle sets."""

from __future__ import annotations

import numpy as np

from vitrea.records.optics import Optics
from vitrea.records.particles import Particles
from vitrea.records.table import Table


def make_particles(count: int, optics: Optics | None = None, **columns: object) -> Particles:
    """Particles with names of their own in one optics group."""
    group = optics or Optics(2.0, 32, 300.0, 2.7, 0.1)
    table = {
        "rlnImageName": np.array([f"{i + 1:06d}@s.mrcs" for i in range(count)], dtype=object),
        "rlnOpticsGroup": np.full(count, group.group),
    }
    return Particles(Table({**table, **{label: np.asarray(column) for label, column in columns.items()}}), (group,))
