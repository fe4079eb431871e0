"""What FREALIGN's parameter files cannot hold of particles."""

from __future__ import annotations

from collections.abc import Sequence

from vitrea.formats.optics_groups import PIXEL_SIZE
from vitrea.records.particles import Particles
from vitrea.tables.conversion import CONTRAST, CS, IMAGE_NAME, MICROGRAPH, VOLTAGE, Lost, split_names


def lost_in_par(particles: Particles, labels: Sequence[str]) -> tuple[Lost, ...]:
    """Return what a parameter file loses.

    Parameters
    ----------
    particles : Particles
    labels : sequence of str
        The columns it has no place for.
    """
    lost = [Lost(label, "a parameter file has no such column") for label in labels]
    table = particles.table
    if IMAGE_NAME in table:
        stacks = list(dict.fromkeys(split_names(table[IMAGE_NAME])[0]))
        reason = f"only its number in the stack, {stacks[0]}, is kept"
        if len(stacks) > 1:
            reason = f"images are numbered by rows, and lie in {len(stacks)} stacks: join these in the rows' order"
        lost.append(Lost(IMAGE_NAME, reason))
    if MICROGRAPH in table:
        lost.append(Lost(MICROGRAPH, "a number, FILM, stands for it, in the order of the names"))
    optics = "to be given when the file is read"
    lost += [Lost(label, optics) for label in (PIXEL_SIZE, VOLTAGE, CS, CONTRAST)]
    lost.append(Lost("decimals", "angles and shifts have two, defocus has one"))
    return tuple(lost)
