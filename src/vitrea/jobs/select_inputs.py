"""The particle sets a selection starts from: given themselves, or by the optimiser or model file of a class job."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from glob import glob
from pathlib import Path

from vitrea.formats.particle_files import read_particles, relink_images
from vitrea.jobs import run_inputs
from vitrea.jobs.run_inputs import RunFound, find_run
from vitrea.records.errors import InputError
from vitrea.records.particles import Particles
from vitrea.records.recorder import Recorder
from vitrea.selection.joining import join_particles

_SAME_SIZE = 0.01


@dataclass(frozen=True)
class SelectionInput:
    """What a selection starts from.

    Attributes
    ----------
    particles : Particles
        All sets joined; image names are valid from the output's folder.
    source : str
        Their files, for messages.
    runs : tuple of RunFound
        The files of each set.
    sizes : tuple of int
        Particles of each set.
    """

    particles: Particles
    source: str
    runs: tuple[RunFound, ...]
    sizes: tuple[int, ...]


def read_selection_input(
    names: Sequence[Path], folder: Path, recorder: Recorder, pixel_size: float | None
) -> SelectionInput:
    """Read and join the sets.

    Parameters
    ----------
    names : sequence of Path
        STAR files: particles, or ``_optimiser.star`` or ``_model.star`` of a job. One name may hold several, separated
        by spaces, and the wildcards ``*`` and ``?``, as RELION takes them.
    folder : Path
        Where the selection will be written: image names are made to fit.
    recorder : Recorder
        Told what joining could not keep, and of images that do not exist.
    pixel_size : float or None
        Å, where a file gives none.

    Raises
    ------
    InputError
        If a file is missing or is none of these.
    """
    runs = [find_run(path) for name in names for path in expand_names(name)]
    sets = []
    for data in (found.particles for found in runs):
        particles = read_particles(data, require_ctf=False, require_images=False, pixel_size=pixel_size)
        try:
            sets.append(relink_images(particles, folder))
        except InputError as error:
            recorder.warn(f"{data}: {error}; image names are kept as they are")
            sets.append(particles)
    joined = join_particles(sets)
    if joined.dropped_columns:
        recorder.warn(f"left out, since not all files have them: {', '.join(joined.dropped_columns)}")
    _warn_of_mixed_images(joined.particles, recorder)
    source = ", ".join(str(found.particles) for found in runs)
    return SelectionInput(joined.particles, source, tuple(runs), tuple(map(len, sets)))


def expand_names(name: Path) -> list[Path]:
    """Return the files that one name given stands for: several separated by blanks, or with wildcards.

    Raises
    ------
    InputError
        If no file matches.
    """
    if name.is_file():
        return [name]
    found = []
    for word in str(name).split():
        matches = sorted(glob(word)) if set(word) & set("*?[") else [word]  # noqa: PTH207 - patterns may be absolute
        if not matches:
            raise InputError(f"no file matches {word}")
        found += [Path(match) for match in matches]
    return found


def _warn_of_mixed_images(particles: Particles, recorder: Recorder) -> None:
    """Say it where later jobs will refuse the set."""
    boxes = sorted({group.image_size for group in particles.optics})
    sizes = sorted(group.pixel_size for group in particles.optics)
    if len(boxes) > 1:
        recorder.warn(f"the images differ in box ({', '.join(map(str, boxes))} pixels): most jobs want one box")
    if sizes[-1] > sizes[0] * (1 + _SAME_SIZE):
        recorder.warn(f"the images differ in pixel size ({sizes[0]:g} to {sizes[-1]:g} Å): most jobs want one")


def group_scales(particles: Particles, chosen: SelectionInput) -> dict[int, float] | None:
    """Return the intensity scale by ``rlnGroupNumber`` of the job's model; None where there is no model.

    Raises
    ------
    InputError
        If the model's table of groups is damaged.
    """
    if len(chosen.runs) != 1 or not chosen.runs[0].models or "rlnGroupNumber" not in particles.table:
        return None
    return run_inputs.group_scales(chosen.runs[0].models[0])
