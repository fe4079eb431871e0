"""How much memory a refinement takes, known before it starts.

What blocks of particles hold follows from the sizes that the expectation step itself chooses; working memory bounds
images, scores and rows one by one. Scores are planned in full: where poses are well known, fewer are made. To
each stage comes what the C library keeps for small blocks.
"""

from __future__ import annotations

import math

from vitrea.compute.memory import KEPT_AT_TOP
from vitrea.geometry.sampling import angular_step, orientation_grid
from vitrea.likelihood.data import ParticleData
from vitrea.likelihood.expectation import IMAGE_SAMPLE_BYTES, MOST_PARTICLES, MOST_ROWS, ROW_SAMPLE_BYTES
from vitrea.likelihood.scheme import Scheme
from vitrea.likelihood.search import coarse_radius
from vitrea.likelihood.settings import Settings

_COMPLEX, _REAL = 8, 4
SMALLEST_WORKING_MEMORY = 16 << 20
LARGEST_WORKING_MEMORY = 2 << 30


def working_memory(box_size: int, available: int) -> int:
    """Return bytes to spend on each of images, scores and rows: two padded grids, at most an eighth of what is free."""
    wanted = 2 * _COMPLEX * (2 * box_size) ** 2 * (box_size + 1)
    return int(max(SMALLEST_WORKING_MEMORY, min(wanted, available // 8, LARGEST_WORKING_MEMORY)))


def _grid_samples(size: int, padding: int, dims: int = 3) -> int:
    """Samples of the oversampled half grid of a map, or of a class average."""
    half = padding * (size // 2) + 2
    planes = 2 * half + 1 if dims == 3 else 2
    return planes * (2 * half + 1) * (half + 1)


def _reconstruction(size: int, padding: int, dims: int = 3) -> int:
    """Bytes beside the sums while these are made symmetric, or transformed back, whichever takes more; and the maps."""
    wide = padding * size
    symmetrised = (_COMPLEX + _REAL) * _grid_samples(size, padding, dims)
    # The map's box in z, the wide one in y: before, while and after that axis is transformed.
    transformed = 3 * _COMPLEX * (size if dims == 3 else 1) * wide * (wide // 2 + 1)
    # Filtered and unfiltered, of both halves, now and before; coordinates, correction, masks and noise statistics in
    # double precision.
    return int(max(symmetrised, transformed) + 26 * _REAL * size**dims)


def _projections(orientations: int, radius: float) -> int:
    """Bytes of the projections of a dense search; two orientations half a turn apart in their plane share one."""
    return int(orientations / 2 * math.pi / 2 * radius**2 * _COMPLEX)


def _blocks(count: int, samples: int, working: int) -> int:
    """Bytes that images, scores and rows take in an expectation step over some particles."""
    images = IMAGE_SAMPLE_BYTES * samples * min(count, MOST_PARTICLES)
    rows = ROW_SAMPLE_BYTES * samples * MOST_ROWS
    return min(images, working) + working + min(rows, working)


def classification_memory(
    data: ParticleData, settings: Settings, scheme: Scheme, working: int
) -> list[tuple[str, int]]:
    """Estimate what each stage of a classification holds at once; arguments as `refinement_memory`."""
    size, padding, classes = data.box_size, settings.padding, scheme.classes
    dims = 2 if scheme.planar else 3
    grid = _grid_samples(size, padding, dims)
    step = scheme.psi_step if scheme.planar else angular_step(settings.healpix_order)
    count = (
        math.ceil(360 / scheme.psi_step)
        if scheme.planar
        else orientation_grid(settings.healpix_order, settings.symmetry).size
    )
    radius = coarse_radius(settings.particle_diameter, step, size * data.pixel_size, size // 2)
    projections = _projections(classes * count, radius)
    held = classes * (4 * _REAL * size**dims + grid * (_COMPLEX + _REAL)) + KEPT_AT_TOP
    expectation = held + classes * grid * _COMPLEX + _blocks(len(data), _samples(size), working)
    return [
        ("expectation", int(expectation + (projections if scheme.search == "global" else 0))),
        ("reconstruction", int(held + _reconstruction(size, padding, dims))),
    ]


def _samples(size: int) -> int:
    """Independent components of an image up to Nyquist."""
    return int(math.pi / 2 * (size / 2) ** 2)


def refinement_memory(data: ParticleData, settings: Settings, working: int) -> list[tuple[str, int]]:
    """Estimate what each stage of a refinement holds at once.

    Parameters
    ----------
    data : ParticleData
    settings : Settings
    working : int
        Bytes for each of images, scores and rows of a block.

    Returns
    -------
    list of (str, int)
        Stage and bytes; local searches are those of the last iteration (all frequencies). The program itself and the
        memory-mapped images do not count.
    """
    size, padding = data.box_size, settings.padding
    grid = _grid_samples(size, padding)
    maps = 2 * 2 * _REAL * size**3
    sums = 2 * grid * (_COMPLEX + _REAL)
    order = settings.auto_local_healpix_order - 1
    orientations = orientation_grid(order, settings.symmetry).size
    # The coarse pass of the finest global search compares up to the detail that its step allows.
    radius = coarse_radius(settings.particle_diameter, angular_step(order), size * data.pixel_size, size // 2)
    projections = _projections(orientations, radius)
    held = maps + sums + KEPT_AT_TOP
    local = held + grid * _COMPLEX + _blocks(len(data) // 2, _samples(size), working)
    return [
        ("expectation, global search", int(local + projections)),
        ("expectation, local search, to Nyquist", int(local)),
        ("reconstruction", int(held + _reconstruction(size, padding))),
    ]
