"""What makes classes differ: chance, noise on copies of a reference, and new starts for classes that died."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from vitrea.likelihood.state import ClassModel, Model

# A dead class starts again as a copy of the largest one with this much of that one's own noise added.
RESEED_NOISE = 2.0
# Noise, as a share of the amplitudes, by which references that a user gives twice are told apart.
COPY_NOISE = 0.1
# Where particles were dealt out by chance, classes mean nothing at first, and most particles should change. If fewer do
# than this share of those that would if they chose by chance again, they follow their own noise in the maps.
FEWEST_MOVED = 0.4


def copies(given: list[NDArray[np.float32]]) -> list[int]:
    """Return the places of references that were there before; none if all are one.

    Where all have the same, particles are dealt out by chance instead.
    """
    again = [any(np.array_equal(one, other) for other in given[:number]) for number, one in enumerate(given)]
    return [] if all(again[1:]) else [int(number) for number in np.flatnonzero(again)]


def told_apart(
    given: list[NDArray[np.float32]], again: list[int], mask: NDArray[np.float32], rng: np.random.Generator
) -> list[NDArray[np.float32]]:
    """Add a little of its own power as noise to some references: classes that have the same get the same particles.

    Parameters
    ----------
    given : list of ndarray of float32, shape [n, n] or [n, n, n]
    again : list of int
        Which get noise.
    mask : ndarray of float32
        Where.
    rng : Generator
    """
    found = list(given)
    for number in again:
        voxels = given[number]
        white, own = (np.fft.rfftn(one, norm="ortho") for one in (rng.standard_normal(voxels.shape), voxels))
        noise = np.fft.irfftn(white * np.abs(own), s=voxels.shape, axes=tuple(range(voxels.ndim)), norm="ortho")
        found[number] = voxels + (COPY_NOISE * noise * mask).astype(np.float32)
    return found


def dealt_out(particles: int, classes: int, seed: int) -> NDArray[np.int64]:
    """Return a class for each particle, by chance, all classes being equally large."""
    return np.random.default_rng([seed, 4]).permutation(np.arange(particles) % classes)


def remembered(before: NDArray[np.int64], after: NDArray[np.int64], classes: int) -> str:
    """Say so if particles have hardly left the classes that chance put them in; else nothing.

    Each particle is a part of the map it is compared with, noise and all: with few particles for the detail that takes
    part, that outweighs what tells the classes apart.
    """
    moved = float(np.mean(before != after))
    if moved >= FEWEST_MOVED * (1.0 - 1.0 / classes):
        return ""
    return (
        f"only {100 * moved:.0f}% of the particles leave the classes that chance put them in: they find their own "
        "noise there; compare less detail (--strict_highres_exp, 15 Å say), fewer classes, or a part (--focus_sphere)"
    )


def reseeded(model: Model, dead: list[int], mask: NDArray[np.float32], rng: np.random.Generator) -> Model:
    """Replace each dead class by a copy, plus noise, of the one that is largest then; its particles are halved."""
    classes = list(model.classes)
    for number in dead:
        largest = int(np.argmax([group.share for group in classes]))
        source = replace(classes[largest], share=classes[largest].share / 2)
        classes[largest] = source
        classes[number] = replace(source, voxels=source.voxels + _noise_like(source, mask, rng), unfiltered=None)
    return model.with_classes(classes)


def _noise_like(group: ClassModel, mask: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Noise with the spectrum of the reference's own uncertainty, within the mask and what is resolved."""
    shape = group.voxels.shape
    dims, size = len(shape), shape[0]
    axes = np.meshgrid(*[np.fft.fftfreq(size, 1.0 / size)] * (dims - 1), np.arange(size // 2 + 1), indexing="ij")
    shell = np.minimum(np.round(np.sqrt(sum(axis**2 for axis in axes))).astype(int), size // 2)
    strength = np.where(group.ssnr >= 1.0, group.sigma2_map, 0.0)
    # A slice is short of the orthonormal transform of a map by sqrt(n); see Maximiser.
    spectrum = RESEED_NOISE * np.sqrt(2.0 * strength / float(size) ** (dims - 2))
    white = np.fft.rfftn(rng.standard_normal(shape), norm="ortho")
    noise = np.fft.irfftn(white * spectrum[shell], s=shape, axes=tuple(range(dims)), norm="ortho")
    masked: NDArray[np.float32] = (noise * mask).astype(np.float32)
    return masked
