"""Where particles lie in their micrographs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from vitrea.records.particles import SHIFT_LABELS, Particles

COORDINATE_LABELS = ("rlnCoordinateX", "rlnCoordinateY")
MICROGRAPH = "rlnMicrographName"
ORIGINAL_IMAGE = "rlnImageOriginalName"
_IMAGE = "rlnImageName"
_MICROGRAPH_PIXEL = "rlnMicrographPixelSize"


def coordinate_pixel_sizes(particles: Particles, given: float = 0.0) -> tuple[NDArray[np.float64], str]:
    """Find the pixel size that coordinates are given in: that of the micrograph, not of a downscaled image.

    Parameters
    ----------
    particles : Particles
    given : float
        Å; 0: not given. Then ``rlnMicrographPixelSize`` of the particles or their optics groups,
        ``rlnMicrographOriginalPixelSize``, or the images' own pixel size, the first that is there.

    Returns
    -------
    sizes : ndarray of float64, shape [particles]
        Å per pixel.
    source : str
        What they were taken from.
    """
    if given > 0:
        return np.full(len(particles), given), "the pixel size given"
    index = particles.optics_index
    if _MICROGRAPH_PIXEL in particles.table:
        return particles.table.numbers(_MICROGRAPH_PIXEL), _MICROGRAPH_PIXEL
    block = particles.optics_table
    if block is not None and _MICROGRAPH_PIXEL in block and "rlnOpticsGroup" in block:
        rows = {int(number): row for row, number in enumerate(block["rlnOpticsGroup"])}
        sizes = block.numbers(_MICROGRAPH_PIXEL)
        return np.array([sizes[rows[group.group]] for group in particles.optics])[index], _MICROGRAPH_PIXEL
    original = np.array([group.original_pixel_size for group in particles.optics])
    if (original[np.unique(index)] > 0).all():
        return original[index], "rlnMicrographOriginalPixelSize"
    return np.array([group.pixel_size for group in particles.optics])[index], "rlnImagePixelSize"


def particle_positions(particles: Particles, pixel_sizes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return where the centres of the particles lie, refined shifts taken into account.

    An image is the centred projection moved by minus its origin, so the particle lies at coordinate minus origin.

    Parameters
    ----------
    particles : Particles
        Must have `COORDINATE_LABELS`.
    pixel_sizes : ndarray, shape [particles]
        Of the coordinates, in Å.

    Returns
    -------
    ndarray of float64, shape [particles, 2]
        x, y in Å from the micrograph's first pixel.
    """
    coordinates = np.stack([particles.table.numbers(label) for label in COORDINATE_LABELS], axis=1)
    return coordinates * pixel_sizes[:, None] - particles.shifts


def recentre(
    particles: Particles, pixel_sizes: NDArray[np.float64], offset: NDArray[np.float64] | float = 0.0
) -> Particles:
    """Move coordinates by the refined shifts: the list to extract centred particles from.

    Coordinates (not rounded) become the particles' centres, shifts become 0, and image names, whose images are still
    the uncentred ones, move to ``rlnImageOriginalName``. All else (angles, defocus, classes) stays.

    Parameters
    ----------
    particles : Particles
        Must have `COORDINATE_LABELS`.
    pixel_sizes : ndarray, shape [particles]
        Of the coordinates, in Å.
    offset : ndarray, shape [particles, 2]
        What is to be at the centre: x, y in Å from the centre of each particle.
    """
    pixels = (particle_positions(particles, pixel_sizes) + offset) / pixel_sizes[:, None]
    columns = dict(zip(COORDINATE_LABELS, pixels.T, strict=True))
    moved = particles.table.with_columns(columns)
    if any(label in moved for label in SHIFT_LABELS):
        moved = moved.with_columns({label: np.zeros(len(moved)) for label in SHIFT_LABELS})
    if _IMAGE in moved:
        moved = moved.with_columns({ORIGINAL_IMAGE: moved[_IMAGE]}).without(_IMAGE)
    return replace(particles, table=moved)
