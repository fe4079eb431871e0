"""What a subtraction starts from: particles with poses, the map each was refined against, and its grey scale."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vitrea.jobs.map_inputs import check_same_grid, read_cubic_map
from vitrea.jobs.particle_inputs import check_pixel_sizes, read_posed_particles
from vitrea.jobs.run_inputs import RunFound, average_norm, find_run, group_scales, reference_files
from vitrea.records.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from vitrea.jobs.subtract import SubtractParameters
    from vitrea.records.map import Map
    from vitrea.records.particles import Particles
    from vitrea.records.recorder import Recorder
    from vitrea.simulate.subtraction import Imaging


@dataclass(frozen=True)
class SubtractionInput:
    """All that is needed, checked.

    Attributes
    ----------
    particles : Particles
    maps : tuple of Map
        Every map that a particle refers to, of one box.
    map_path : Path
        The first map's file.
    reference : ndarray of int64, shape [particles]
        Index of each particle's map.
    factors : ndarray of float64, shape [particles]
        What multiplies the signal of each; see `vitrea.simulate.subtraction.signal_images`.
    imaging : Imaging
    """

    particles: Particles
    maps: tuple[Map, ...]
    map_path: Path
    reference: NDArray[np.int64]
    factors: NDArray[np.float64]
    imaging: Imaging


def read_subtraction_input(parameters: SubtractParameters, path: Path, recorder: Recorder) -> SubtractionInput:
    """Read particles, maps and grey scale.

    Parameters
    ----------
    parameters : SubtractParameters
    path : Path
        The optimiser, model or data file of a run, or any particle file.
    recorder : Recorder
        Told what is assumed where files say nothing.

    Raises
    ------
    InputError
        If anything is missing, or the parts do not fit each other.
    """
    found = find_run(path)
    imaging = _imaging(parameters, found.optimiser)
    data = parameters.data or found.particles
    particles = read_posed_particles(
        data, require_ctf=imaging.ctf, require_images=True, pixel_size=parameters.pixel_size or None
    )
    half = _half(particles, found.models, data)
    files, reference = _assign(parameters, found, particles, half, data)
    maps = [read_cubic_map(file, parameters.pixel_size, recorder) for file in files]
    for file, density in zip(files[1:], maps[1:], strict=True):
        check_same_grid(maps[0], files[0], density, file)
    check_pixel_sizes(particles, maps[0].voxel_size, str(files[0]))
    factors = _factors(found.models, particles, half, data, recorder)
    return SubtractionInput(particles, tuple(maps), files[0], reference, factors, imaging)


def _imaging(parameters: SubtractParameters, optimiser: Mapping[str, object]) -> Imaging:
    """Take from the optimiser how the run treated the CTF; options add to it."""
    from vitrea.simulate.subtraction import Imaging

    def flag(label: str, default: bool) -> bool:
        return str(optimiser.get(label, default)).lower() in ("1", "true")

    return Imaging(
        parameters.ctf and flag("rlnDoCorrectCtf", True),
        parameters.ctf_phase_flipped or flag("rlnCtfDataArePhaseFlipped", False),
        parameters.ctf_intact_first_peak or flag("rlnDoIgnoreCtfUntilFirstPeak", False),
    )


def _half(particles: Particles, models: Sequence[Path], data: Path) -> NDArray[np.int64]:
    """Index of the model that each particle belongs to: its half set, where there are two."""
    if len(models) < 2:
        return np.zeros(len(particles), dtype=np.int64)
    if "rlnRandomSubset" not in particles.table:
        raise InputError(f"{data} lacks the column rlnRandomSubset, but {models[0]} is of a half set")
    half = np.asarray(particles.table["rlnRandomSubset"], dtype=np.int64) - 1
    if not np.isin(half, (0, 1)).all():
        raise InputError(f"{data}: rlnRandomSubset must be 1 or 2")
    return half


def _assign(
    parameters: SubtractParameters, found: RunFound, particles: Particles, half: NDArray[np.int64], data: Path
) -> tuple[list[Path], NDArray[np.int64]]:
    """Return the files of all maps, and which of them each particle refers to."""
    if parameters.map is not None and parameters.map.suffix.lower() != ".star":
        return [parameters.map], np.zeros(len(particles), dtype=np.int64)
    stars = [parameters.map] if parameters.map is not None else list(found.models)
    if not stars:
        raise InputError(f"{found.particles} has no model file beside it that names a map; give the map with --map")
    lists = [_maps_of(star) for star in stars]
    count = len(lists[0])
    index = np.zeros(len(particles), dtype=np.int64)
    if count > 1:
        if "rlnClassNumber" not in particles.table:
            raise InputError(f"{data} lacks the column rlnClassNumber, but {stars[0]} names {count} maps")
        index = np.asarray(particles.table["rlnClassNumber"], dtype=np.int64) - 1
        if index.min() < 0 or index.max() >= count:
            bad = int(np.flatnonzero((index < 0) | (index >= count))[0])
            raise InputError(
                f"{data}: particle {bad + 1} has rlnClassNumber {index[bad] + 1}, but {stars[0]} names {count} maps"
            )
    if len(stars) > 1:
        index = half * count + index
    used, reference = np.unique(index, return_inverse=True)
    files = [file for one in lists for file in one]
    return [files[i] for i in used], reference.astype(np.int64)


def _maps_of(star: Path) -> list[Path]:
    files = []
    for file, index in reference_files(star):
        if index is not None:
            raise InputError(f"{star} names 2D class averages; signal is subtracted with 3D maps only")
        files.append(file)
    return files


def _factors(
    models: Sequence[Path], particles: Particles, half: NDArray[np.int64], data: Path, recorder: Recorder
) -> NDArray[np.float64]:
    """Scale of the group, times norm correction over its average."""
    table = particles.table
    factors = np.ones(len(particles))
    if "rlnNormCorrection" in table:
        norm = table.numbers("rlnNormCorrection")
        if not (norm > 0).all():
            raise InputError(f"{data}: rlnNormCorrection must be above 0")
        average = np.array([average_norm(model) for model in models])[half] if models else norm.mean()
        factors *= norm / average
    if not models:
        recorder.warn(f"{data} has no model file beside it: intensity scales of groups are taken to be 1")
    for number, model in enumerate(models):
        scales = group_scales(model)
        if scales is None:
            continue
        if "rlnGroupNumber" not in table:
            raise InputError(f"{data} lacks the column rlnGroupNumber, which the scales in {model} refer to")
        rows = np.flatnonzero(half == number)
        groups = np.asarray(table["rlnGroupNumber"], dtype=np.int64)[rows]
        unknown = sorted(set(groups.tolist()) - set(scales))
        if unknown:
            raise InputError(f"{data}: rlnGroupNumber {unknown[0]} is none of the groups of {model}")
        factors[rows] *= np.array([scales[group] for group in groups.tolist()])
    return factors
