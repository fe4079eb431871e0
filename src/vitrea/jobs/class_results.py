"""What a classification left, ours or RELION's: averages or maps with all that tells the good ones from the others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from vitrea.formats.mrc import open_stack, read_header
from vitrea.formats.star import Block, read_star
from vitrea.fourier.grid import frequency_axes
from vitrea.fourier.shells import shell_mean
from vitrea.geometry.masks import soft_sphere
from vitrea.jobs.run_inputs import RunFound, pairs_of, reference_files
from vitrea.optics.transfer import particle_ctf
from vitrea.records.errors import InputError
from vitrea.records.particles import DEFOCUS_LABELS, Particles
from vitrea.records.recorder import Recorder
from vitrea.records.table import Table
from vitrea.selection.class_features import Classes

CLASS_LABEL = "rlnClassNumber"
REFERENCE_LABEL = "rlnReferenceImage"
SHARE_LABEL, RESOLUTION_LABEL = "rlnClassDistribution", "rlnEstimatedResolution"
_DIAMETER = "rlnParticleDiameter"
_MASK_EDGE = 5.0  # pixels, RELION's default
_CTF_SAMPLE = 200  # particles whose CTFs are averaged


@dataclass(frozen=True)
class ClassResults:
    """Classes of a job.

    Attributes
    ----------
    model, particles : Path
        The model file they were read from, and the particles' file.
    table : Table
        Its block ``model_classes``, a row for each class.
    files : tuple of (Path, int or None)
        Where each reference lies: file, and index in the stack from 0 (None: a map).
    counts : ndarray of int64, shape [classes]
        Particles by ``rlnClassNumber``.
    share, resolution : ndarray, shape [classes]
        ``rlnClassDistribution``; ``rlnEstimatedResolution`` in Å.
    pixel_size : float
        Å.
    diameter : float
        Of the mask, Å; 0: not known (maps only).
    ctf_corrected : bool
        Whether references were corrected for the CTF.
    averages : Classes or None
        Class averages and what they are judged by; None for classes that are maps.
    """

    model: Path
    particles: Path
    table: Table
    files: tuple[tuple[Path, int | None], ...]
    counts: NDArray[np.int64]
    share: NDArray[np.float64]
    resolution: NDArray[np.float64]
    pixel_size: float
    diameter: float
    ctf_corrected: bool
    averages: Classes | None


def read_class_results(found: RunFound, particles: Particles, diameter: float, recorder: Recorder) -> ClassResults:
    """Read the classes of a job.

    Parameters
    ----------
    found : RunFound
        With at least one model.
    particles : Particles
        Those of the job.
    diameter : float
        Of the mask in Å; 0: that of the job's optimiser file. Used in 2D only.
    recorder : Recorder
        Told what is not known and therefore not judged by.

    Raises
    ------
    InputError
        If blocks, columns or averages are missing or do not fit each other, or no diameter is known.
    """
    model = found.models[0]
    blocks = read_star(model)
    table = _class_table(blocks, model)
    files = tuple(reference_files(model))
    general = pairs_of(blocks.get("model_general", {}))
    pixel_size = _pixel_size(general, particles)
    optimiser = found.optimiser or _optimiser_beside(model)
    share, resolution = _numbers(table, SHARE_LABEL, model), _numbers(table, RESOLUTION_LABEL, model)
    mask = diameter or _value(optimiser, _DIAMETER, 0.0)
    averages = None
    if _is_flat(general, files):
        images = _read_averages(files)
        size = images.shape[-1]
        if not mask > 0:
            raise InputError(
                f"{model}: no optimiser file beside it tells {_DIAMETER}, the diameter of the mask; give "
                "--particle_diameter"
            )
        noise = _noise_power(blocks, size, model, recorder)
        if noise is not None:
            noise /= _noise_left(optimiser, size, _value(optimiser, _DIAMETER, mask) / pixel_size)
        ctf2 = _mean_ctf2(particles, size, pixel_size, optimiser, recorder)
        averages = Classes(images, share, resolution, len(particles), pixel_size, mask, noise, ctf2)
    numbers = _class_numbers(particles, len(table), found)
    counts = np.bincount(numbers, minlength=len(table) + 1)[1:]
    corrected = _corrects_ctf(optimiser, particles)
    return ClassResults(
        model, found.particles, table, files, counts, share, resolution, pixel_size, mask, corrected, averages
    )


def _class_table(blocks: dict[str, Block], model: Path) -> Table:
    block = blocks.get("model_classes")
    if isinstance(block, dict):  # a single class may stand without a loop
        block = Table({label: np.array([value]) for label, value in block.items()})
    if not isinstance(block, Table) or not len(block):
        raise InputError(f"{model}: block data_model_classes is missing or empty")
    return block


def _numbers(table: Table, label: str, model: Path) -> NDArray[np.float64]:
    if label not in table:
        raise InputError(f"{model}: data_model_classes lacks the column {label}")
    try:
        return table.numbers(label)
    except ValueError:
        raise InputError(f"{model}: {label} of data_model_classes holds what is not a number") from None


def _is_flat(general: Mapping[str, object], files: tuple[tuple[Path, int | None], ...]) -> bool:
    """Tell whether references are 2D; files before RELION 1.3 do not say so."""
    if "rlnReferenceDimensionality" in general:
        return _value(general, "rlnReferenceDimensionality", 2) == 2
    return files[0][1] is not None


def _pixel_size(general: Mapping[str, object], particles: Particles) -> float:
    given = _value(general, "rlnPixelSize", 0.0)
    return given if given > 0 else particles.optics[0].pixel_size


def _class_numbers(particles: Particles, classes: int, found: RunFound) -> NDArray[np.int64]:
    """Return the class of each particle, from 1; 0 is that of a particle in none."""
    if CLASS_LABEL not in particles.table:
        raise InputError(f"{found.particles} lacks the column {CLASS_LABEL}, which --auto needs")
    numbers = particles.table.numbers(CLASS_LABEL)
    wrong = np.flatnonzero(~((numbers >= 0) & (numbers <= classes)))
    if len(wrong):
        raise InputError(
            f"{found.particles}: {CLASS_LABEL} of particle {wrong[0] + 1} is {numbers[wrong[0]]:g}, but "
            f"{found.models[0]} has classes 1 to {classes}"
        )
    return numbers.astype(np.int64)


def _read_averages(files: tuple[tuple[Path, int | None], ...]) -> NDArray[np.float32]:
    """Read class averages, shape [classes, n, n]; values that are not numbers stay: such a class has no score."""
    stacks = {path: open_stack(path) for path in dict.fromkeys(path for path, _ in files)}
    images = []
    for path, index in files:
        shape = read_header(path).shape
        place = index or 0
        if place >= shape[0]:
            raise InputError(f"{path} holds {shape[0]} class averages, but number {place + 1} is asked for")
        images.append(np.array(stacks[path][place], dtype=np.float32))
    shapes = sorted({image.shape for image in images})
    if len(shapes) > 1 or shapes[0][0] != shapes[0][1]:
        raise InputError(f"{files[0][0]}: class averages must be squares of one size")
    return np.stack(images)


def _optimiser_beside(model: Path) -> Mapping[str, object]:
    """Values of the optimiser file beside a model file; none where there is none."""
    path = model.with_name(model.name.replace("_model.star", "_optimiser.star"))
    if path == model or not path.is_file():
        return {}
    return pairs_of(read_star(path, ["optimiser_general"]).get("optimiser_general", {}))


def _value(values: Mapping[str, object], label: str, default: float) -> float:
    return float(str(values.get(label, default)))


def _noise_power(blocks: dict[str, Block], size: int, model: Path, recorder: Recorder) -> NDArray[np.float64] | None:
    """Power of the noise by shell, mean over groups; RELION's variances are those of a real or imaginary part / n²."""
    for prefix in ("model_optics_group_", "model_group_"):
        spectra = [
            block.numbers("rlnSigma2Noise")
            for name, block in blocks.items()
            if name.startswith(prefix) and isinstance(block, Table) and "rlnSigma2Noise" in block
        ]
        spectra = [spectrum for spectrum in spectra if len(spectrum) == size // 2 + 1]
        if spectra:
            return np.asarray(2.0 * size**2 * np.mean(spectra, axis=0))
    recorder.warn(f"{model} holds no rlnSigma2Noise: averages of noise aligned to a template cannot be told")
    return None


def _noise_left(optimiser: Mapping[str, object], size: int, diameter: float) -> float:
    """Return how much of an image's noise its mask leaves: noise spectra are those of masked images.

    With the surroundings filled with noise (``rlnDoZeroMask`` 0) nothing is missing. `diameter` in pixels.
    """
    if not _value(optimiser, "rlnDoZeroMask", 1):
        return 1.0
    mask = soft_sphere(size, diameter / 2, _value(optimiser, "rlnWidthMaskEdge", _MASK_EDGE), dims=2)
    return float((mask**2).mean())


def _has_defocus(particles: Particles) -> bool:
    return all(label in particles.table for label in DEFOCUS_LABELS)


def _corrects_ctf(optimiser: Mapping[str, object], particles: Particles) -> bool:
    return bool(_value(optimiser, "rlnDoCorrectCtf", 1)) and _has_defocus(particles)


def _mean_ctf2(
    particles: Particles, size: int, pixel_size: float, optimiser: Mapping[str, object], recorder: Recorder
) -> NDArray[np.float64]:
    """Mean square by shell of the CTF that averages were corrected for; 1 where they were not."""
    uncorrected = np.ones(size // 2 + 1)
    if not _has_defocus(particles):
        recorder.warn("particles have no defocus: class averages are taken as not corrected for the CTF")
    if not _corrects_ctf(optimiser, particles) or _value(optimiser, "rlnDoOnlyFlipCtfPhases", 0):
        return uncorrected
    rows = np.unique(np.linspace(0, len(particles) - 1, _CTF_SAMPLE).astype(np.int64))
    x, y = (k / (size * pixel_size) for k in frequency_axes(size, 2))
    y, x = (axis.reshape(-1) for axis in (y + torch.zeros_like(x), x + torch.zeros_like(y)))
    intact = bool(_value(optimiser, "rlnDoIgnoreCtfUntilFirstPeak", 0))
    squares = particle_ctf(y, x, particles.rows(rows), intact_first_peak=intact).square().mean(dim=0)
    return np.asarray(shell_mean(squares.reshape(size, -1), size, 2).double().numpy())
