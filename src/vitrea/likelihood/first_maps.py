"""First maps from random orientations: several, made independently on small images; the best of them goes on.

A map that begins with chance may end in a wrong local maximum of the likelihood, and nothing within a run shows that.
So there are several runs, each from other random orientations, and particles that none of them has seen decide. What
makes this cheap, and each run more likely to be right: images are shrunk to the detail that a first map can have, kept
in memory, and compared on a coarse grid (which is turned at random before each iteration), with posteriors kept broad
in the beginning (`ab_initio.AbInitio.warmth`).

Molecules with a cubic point group are nearly round, and many are hollow: blurred, every orientation looks alike, and a
map of few particles settles in whatever noise it began with. Their first maps need finer detail and finer steps, which
few orientations make affordable, and particles that are new to the map they are compared with: small batches whose sums
are carried over (stochastic gradient descent, see `ab_initio`), without annealing, which a round map would not leave.

Several classes need such particles, too: those that made a map prefer it for their own noise, and a division by chance
would stay as it is. They are cooled slowly, kept equally large (see `balance`), and get finer steps at the end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from vitrea.fourier.transforms import resample
from vitrea.geometry.sampling import orientation_grid
from vitrea.geometry.symmetry import symmetry_matrices
from vitrea.likelihood.maximisation import round_mask
from vitrea.likelihood.scheme import Schedule, Scheme
from vitrea.likelihood.settings import Settings
from vitrea.likelihood.state import ParticleState, RunState
from vitrea.records.recorder import SilentRecorder

if TYPE_CHECKING:
    from vitrea.likelihood.ab_initio import AbInitio

# Finest detail of a first map, Å, and the pixels (per that length) of the images it is made from.
FINEST_DETAIL = 22.0
PIXELS_A_DETAIL = 2.7
# HEALPix order 1 has steps of 30°; it must leave so many orientations where symmetry makes most of them equivalent.
COARSE_ORDER, FEWEST_ORIENTATIONS = 1, 100
ITERATIONS = 30
# Particles in the last iteration: fewer where each counts several times by symmetry; in the first one, a part of them.
MOST_PARTICLES, FEWEST_PARTICLES = 2400, 600
FIRST_PART = 6
# A molecule with a cubic point group is nearly round. Its finest detail as a part of its diameter, and in parts of that
# detail the resolution of the first iteration and how far offsets are looked for, pixel by pixel of the small images:
# round particles are picked well centred.
CUBIC, ROUND_DETAIL = "TOI", 0.11
ROUND_BEGIN, ROUND_RANGE = 1.6, 0.75
ROUND_ORDER = 3  # steps of 7.5°, half the finest detail at the rim of the particle
ROUND_ITERATIONS, ROUND_BATCH = 80, 100
# Of several classes: finest detail, Å; iterations, the last of which have finer steps; particles a class in a batch.
DETAIL_OF_CLASSES = 26.0
ITERATIONS_OF_CLASSES, FINER_FROM, BATCH_OF_CLASSES = 150, 0.8, 100
# Images with more power than this times the median are scaled down to it: one contaminant would outweigh a hundred.
STRONGEST = 4.0
# Particles to draw from, kept in memory.
POOL = 6000
# Two maps agree if their FSC stays above 0.5 up to this times the finest detail, at least.
AGREEMENT = 1.5


@dataclass(frozen=True)
class FirstMaps:
    """What independent starts have led to.

    Attributes
    ----------
    voxels : tuple of ndarray of float32, shape [n, n, n]
        The best start's maps, one for each class, in the box of the particles.
    gains : tuple of float
        Mean log-likelihood of particles not used, start by start, over that of the worst start, nats.
    agreeing : int
        Number of starts that hold the first map of the best one, which counts itself.
    noise : ndarray, shape [shells]
        Noise spectrum that the best start has found, of the particles in their own box, as far as its detail goes.
    """

    voxels: tuple[NDArray[np.float32], ...]
    gains: tuple[float, ...]
    agreeing: int
    noise: NDArray[np.float64]


@dataclass(frozen=True)
class Recipe:
    """How first maps are made.

    Attributes
    ----------
    schedule : {"auto", "batches"}
        Of `scheme.Scheme`.
    begin_resolution, detail : float
        Of the first and the last iteration, Å.
    healpix_order : int
    offset_step, offset_range : float
        Å.
    iterations : int
    particles, particles_at_end : int
        A class, in the first iteration (or in a batch) and in the last.
    annealing : bool
        Keep posteriors broad in the beginning.
    finer_from : float
        Share of the iterations after which the grid is one HEALPix order finer.
    """

    schedule: Schedule
    begin_resolution: float
    detail: float
    healpix_order: int
    offset_step: float
    offset_range: float
    iterations: int
    particles: int
    particles_at_end: int
    annealing: bool
    finer_from: float = 1.0


def finest_detail(settings: Settings, scheme: Scheme) -> float:
    """Return the finest detail of a first map, Å."""
    if _is_round(settings):
        detail = ROUND_DETAIL * settings.particle_diameter
    else:
        detail = FINEST_DETAIL if scheme.classes == 1 else DETAIL_OF_CLASSES
    return max(detail, scheme.finish_resolution)


def _is_round(settings: Settings) -> bool:
    return settings.symmetry[0] in CUBIC


def recipe(settings: Settings, scheme: Scheme, annealing: bool, pixel_size: float) -> Recipe:
    """Choose how to make first maps of particles with a point group, from images with a pixel size in Å."""
    if _is_round(settings):
        return _recipe_if_round(settings, scheme, pixel_size)
    plain = Recipe(
        schedule="auto",
        begin_resolution=scheme.start_resolution,
        detail=finest_detail(settings, scheme),
        healpix_order=min(_coarse_order(settings.symmetry), settings.healpix_order),
        offset_step=max(settings.offset_step, 1.5 * pixel_size),
        offset_range=settings.offset_range,
        iterations=ITERATIONS,
        particles=scheme.particles_per_class,
        particles_at_end=max(FEWEST_PARTICLES, MOST_PARTICLES // len(symmetry_matrices(settings.symmetry))),
        annealing=annealing,
    )
    if scheme.classes == 1:
        return replace(plain, particles=min(plain.particles, plain.particles_at_end // FIRST_PART))
    batch = min(plain.particles, BATCH_OF_CLASSES)
    return replace(
        plain,
        schedule="batches",
        iterations=ITERATIONS_OF_CLASSES,
        particles=batch,
        particles_at_end=batch,
        finer_from=FINER_FROM,
    )


def _recipe_if_round(settings: Settings, scheme: Scheme, pixel_size: float) -> Recipe:
    detail = finest_detail(settings, scheme)
    return Recipe(
        schedule="batches",
        begin_resolution=ROUND_BEGIN * detail,
        detail=detail,
        healpix_order=ROUND_ORDER,
        offset_step=pixel_size,
        offset_range=min(ROUND_RANGE * detail, settings.offset_range),
        iterations=ROUND_ITERATIONS,
        particles=ROUND_BATCH,
        particles_at_end=ROUND_BATCH,
        annealing=False,
    )


def find_first_maps(run: AbInitio, particles: ParticleState, count: int) -> FirstMaps:
    """Make first maps and choose among them.

    Parameters
    ----------
    run : AbInitio
        The run that goes on from the best; its settings, particles and mask are scaled down.
    particles : ParticleState
        Of all particles; read for their grey-value factors only.
    count : int
        Number of starts.
    """
    small = shrunk_run(run)
    members = _rows(particles, _pool(run))
    states = []
    run.recorder.stage(f"{count} first maps", count * small.settings.maximum_iterations, "iterations")
    for number in range(count):
        seeded = replace(small, settings=replace(small.settings, seed=1000 * run.settings.seed + number))
        state = seeded.start([], members)
        while not state.progress.finished:
            state = seeded.step(state)
            run.recorder.advance()
        states.append(state)
    likelihoods = _compare(small, states)
    best = int(np.argmax(likelihoods))
    gains = tuple(float(value) for value in likelihoods - likelihoods.min())
    maps = [tuple(group.voxels for group in state.models[0].classes) for state in states]
    agreeing = 1 + sum(_agree(maps[best], other, small) for number, other in enumerate(maps) if number != best)
    run.recorder.event(
        "first maps", gains_nats=", ".join(f"{gain:.2f}" for gain in gains), best=best + 1, agreeing=agreeing
    )
    if count > 1 and agreeing == 1:
        run.recorder.warn(
            "no other first map is the same as the best one, which may be wrong: make another model with another seed, "
            "or from more particles, and compare"
        )
    # A component of an orthonormal transform is the smaller the fewer pixels show the same grey values.
    seen = small.data.box_size // 2
    noise = states[best].models[0].sigma2_noise.mean(axis=0)[:seen] * (run.data.box_size / small.data.box_size) ** 2
    return FirstMaps(tuple(enlarged(voxels, run.data.box_size) for voxels in maps[best]), gains, agreeing, noise)


def shrunk_run(run: AbInitio) -> AbInitio:
    """Return a run over fewer and smaller images, with the same particles held out."""
    settings, scheme, data = run.settings, run.scheme, run.data
    detail = finest_detail(settings, scheme)
    box = min(2 * int(np.ceil(run.box_angstrom / detail * PIXELS_A_DETAIL / 2)), data.box_size)
    pool = _pool(run)
    small = data.shrunk(pool, box, strongest=STRONGEST)
    chosen = recipe(settings, scheme, run.annealing, small.pixel_size)
    edge = settings.mask_edge * data.pixel_size / small.pixel_size
    coarse = replace(
        settings,
        healpix_order=chosen.healpix_order,
        oversampling=0,
        offset_step=chosen.offset_step,
        offset_range=chosen.offset_range,
        mask_edge=edge,
        maximum_iterations=chosen.iterations,
        accuracy_particles=0,
        # While a map is chance, factors on images and map drive each other away.
        norm_correction=False,
        scale_correction=False,
    )
    return replace(
        run,
        data=small,
        settings=coarse,
        solvent_mask=round_mask(box, settings.particle_diameter, small.pixel_size, edge),
        recorder=SilentRecorder(),
        scheme=replace(
            scheme,
            schedule=chosen.schedule,
            particles_per_class=chosen.particles,
            start_resolution=chosen.begin_resolution,
            finish_resolution=chosen.detail,
        ),
        starts=1,
        particles_at_end=chosen.particles_at_end,
        annealing=chosen.annealing,
        finer_from=chosen.finer_from,
        between=None,
        first_maps=0,
        held=np.searchsorted(pool, run.held_out()),
    )


def _coarse_order(symmetry: str) -> int:
    order = COARSE_ORDER
    while orientation_grid(order, symmetry).size < FEWEST_ORIENTATIONS:
        order += 1
    return order


def enlarged(voxels: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    """Bring a map of small images back to the box of the particles, on the greyscale of these.

    The projection of a map with finer voxels adds up more of them, so that each counts for less.
    """
    scaled = resample(torch.from_numpy(voxels), size, 3) * (len(voxels) / size)
    found: NDArray[np.float32] = scaled.numpy()
    return found


def _pool(run: AbInitio) -> NDArray[np.int64]:
    """Return the particles that first maps are made of, and those that are held out, ascending."""
    members = run.members()
    order = np.random.default_rng([run.settings.seed, 9]).permutation(len(members))
    return np.sort(np.concatenate([members[order[:POOL]], run.held_out()]))


def _rows(particles: ParticleState, chosen: NDArray[np.int64]) -> ParticleState:
    """Return the state of some particles, before anything is known of their poses."""
    count = len(chosen)
    return replace(
        particles,
        eulers=np.zeros((count, 3)),
        shifts=np.zeros((count, 2)),
        norm=particles.norm[chosen],
        log_likelihood=np.zeros(count),
        pmax=np.zeros(count),
        significant=np.zeros(count, dtype=np.int64),
        half=np.zeros(count, dtype=np.int64),
        class_index=np.zeros(count, dtype=np.int64),
        occupancy=np.zeros((count, 0), dtype=np.float32),
    )


def _compare(run: AbInitio, states: Sequence[RunState]) -> NDArray[np.float64]:
    """Return the mean log-likelihood of particles not used under the maps of each start, all else being the same."""
    first, chosen = states[0].models[0], run.choosers()
    radius = min(int(np.ceil(run.box_angstrom / run.scheme.finish_resolution)), run.data.box_size // 2)

    def mean(state: RunState) -> float:
        alike = replace(state.models[0], sigma_offset=first.sigma_offset, average_norm=first.average_norm)
        return float(run.log_likelihood(alike, chosen, radius, state).mean())

    return np.array([mean(state) for state in states])


def _agree(one: Sequence[NDArray[np.float32]], two: Sequence[NDArray[np.float32]], run: AbInitio) -> bool:
    """Tell whether the first map of a start is among those of another."""
    finest = run.scheme.finish_resolution
    return any(run.resemblance(one[0], other, run.data.pixel_size) <= AGREEMENT * finest for other in two)
