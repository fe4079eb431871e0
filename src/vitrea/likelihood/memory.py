"""How much memory a refinement takes, known before it starts."""

from __future__ import annotations

import math

from vitrea.geometry.sampling import angular_step, orientation_grid
from vitrea.likelihood.data import ParticleData
from vitrea.likelihood.scheme import Scheme
from vitrea.likelihood.search import coarse_radius
from vitrea.likelihood.settings import Settings

_COMPLEX, _REAL = 8, 4
SMALLEST_WORKING_MEMORY = 24 << 20
LARGEST_WORKING_MEMORY = 2 << 30


def working_memory(box_size: int, available: int) -> int:
    """Return the bytes to spend on the scores of one block: four padded grids, at most a quarter of what is free."""
    wanted = 4 * _COMPLEX * (2 * box_size) ** 2 * (box_size + 1)
    return int(max(SMALLEST_WORKING_MEMORY, min(wanted, available // 4, LARGEST_WORKING_MEMORY)))


def classification_memory(
    data: ParticleData, settings: Settings, scheme: Scheme, working: int
) -> list[tuple[str, int]]:
    """Estimate what each stage of a classification holds at once; arguments as `refinement_memory`."""
    size, padding, classes = data.box_size, settings.padding, scheme.classes
    dims = 2 if scheme.planar else 3
    rows, columns = 2 * padding * (size // 2) + 5, padding * (size // 2) + 3
    grid = (rows if dims == 3 else 2) * rows * columns
    padded = (padding * size) ** dims
    base = classes * (grid * (2 * _COMPLEX + _REAL) + 2 * size**dims * _REAL)
    step = scheme.psi_step if scheme.planar else angular_step(settings.healpix_order)
    count = (
        math.ceil(360 / scheme.psi_step)
        if scheme.planar
        else orientation_grid(settings.healpix_order, settings.symmetry).size
    )
    radius = coarse_radius(settings.particle_diameter, step, size * data.pixel_size, size // 2)
    projections = int(classes * count * math.pi / 2 * radius**2 * (2 * _COMPLEX + _REAL))
    return [
        ("references to Fourier grids", int(base + padded * (_REAL + _COMPLEX))),
        ("expectation", int(base + 3 * working + (projections if scheme.search == "global" else 0))),
        ("reconstruction", int(base + 48 * grid + 20 * padded)),
    ]


def refinement_memory(data: ParticleData, settings: Settings, working: int) -> list[tuple[str, int]]:
    """Estimate what each stage of a refinement holds at once.

    Parameters
    ----------
    data : ParticleData
    settings : Settings
    working : int
        Bytes for scores and rows of one block.

    Returns
    -------
    list of (str, int)
        Stage and bytes, the last iteration (all frequencies) included; the program itself and the memory-mapped images
        do not count.
    """
    size, padding = data.box_size, settings.padding
    voxels = size**3
    grid = (2 * padding * size // 2 + 4) ** 2 * (padding * size // 2 + 3)
    padded = (padding * size) ** 3
    references = 2 * grid * _COMPLEX
    sums = 2 * grid * (_COMPLEX + _REAL)
    maps = 2 * 2 * voxels * _REAL
    order = settings.auto_local_healpix_order - 1
    orientations = orientation_grid(order, settings.symmetry).size
    # The coarse pass of the finest global search compares up to the detail that its step allows.
    radius = coarse_radius(settings.particle_diameter, angular_step(order), size * data.pixel_size, size // 2)
    samples = math.pi / 2 * radius**2
    projections = int(orientations * samples * (2 * _COMPLEX + _REAL))
    base = references + sums + maps
    return [
        ("reference to Fourier grid", int(base + padded * _REAL + 2 * padded / 2 * _COMPLEX)),
        ("expectation, global search", int(base + 3 * working + projections)),
        ("expectation, local search", int(base + 3 * working)),
        ("expectation, last iteration to Nyquist", int(base + 3 * working)),
        # Radii, shells, denominators and points of a grid while it is made symmetric and divided; the padded map.
        ("reconstruction", int(base + 48 * grid + 20 * padded)),
    ]
