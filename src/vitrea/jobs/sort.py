"""``vitrea sort``: which particles look least like what their reference says?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vitrea.jobs.base import Context, Job, JobParameters, parameter
from vitrea.jobs.map_inputs import make_folder
from vitrea.jobs.particle_inputs import chunks
from vitrea.jobs.sort_references import References, find_references, read_references
from vitrea.records.errors import InputError

if TYPE_CHECKING:
    from vitrea.formats.images import ParticleImages
    from vitrea.records.particles import Particles
    from vitrea.records.recorder import Recorder
    from vitrea.selection.sorting import FeatureTable

_CLASS, _NORM, _MICROGRAPH = "rlnClassNumber", "rlnNormCorrection", "rlnMicrographName"
_SCORE = "rlnParticleSelectZScore"
_FEATURE_PREFIX = "vitreaSort"
_DEFAULT_DIAMETER = 0.7  # of the box
_DIAMETER_PER_RESOLUTION = 12
_FINEST_PIXELS = 2.5
_SMALLEST_RADIUS = 6
_PROBES = 1000
_PARTS = 8  # of a portion of images: transforms, references and differences take ten times the room of the images


class SortParameters(JobParameters):
    """Sort particles by how little they look like their references, as relion_particle_sort does.

    Each particle's aligned reference, with its CTF, is subtracted, and twelve features of the difference are compared
    with those of the other particles. The particles are written in the order of rlnParticleSelectZScore: the best
    first, junk (noise, ice, contaminants, overlapping neighbours) last. A typical particle has a Z-score of 0.5; one
    in twenty good ones exceeds 1, and what exceeds 1.5 deserves a look. Works after picking with templates, 2D or 3D
    classification and refinement.
    """

    input: Path = parameter(..., "STAR file with the particles, their poses and classes.", options=["--i"])
    reference: Path | None = parameter(
        None,
        "References: a map, a stack of class averages or templates, or a STAR file that names them (a model file); by "
        "default the model file beside a particle file of a class job.",
        options=["--ref"],
    )
    output: Path = parameter(Path("particles_sort.star"), "STAR file to write, sorted.", options=["--o"])
    features: Path | None = parameter(None, "Write all features to this STAR file, in the same order.")
    plots: bool = parameter(True, "Draw the Z-scores, and the best and worst particles, as PNG beside the output.")
    pixel_size: float = parameter(
        0.0, "Pixel size, where the STAR file gives none.", unit="Å", options=["--angpix"], ge=0, expert=True
    )
    particle_diameter: float = parameter(
        0.0, "Diameter of the particle; 0: 70% of the box.", unit="Å", cistem="mask radius × 2", tab="Sort", ge=0
    )
    lowpass: float = parameter(
        0.0,
        "Finest resolution to compare at; 0: a twelfth of the particle's diameter, no finer than 2.5 pixels.",
        unit="Å",
        tab="Sort",
        ge=0,
    )
    min_z: float = parameter(
        0.0, "Deviations of a feature below this many standard deviations do not count.", tab="Sort", ge=0, expert=True
    )
    invert: bool = parameter(False, "The references have the opposite contrast of the particles.", tab="Sort")
    norm: bool = parameter(True, "Apply rlnNormCorrection where the particles have it.", tab="Sort", expert=True)
    ctf: bool = parameter(False, "Apply the particles' CTF to the references.", tab="CTF")
    ctf_phase_flipped: bool = parameter(False, "The images' phases are flipped already.", tab="CTF", expert=True)
    ctf_intact_first_peak: bool = parameter(
        False, "Leave amplitudes alone up to the first peak of the CTF.", tab="CTF", expert=True
    )


@dataclass(frozen=True)
class SortTask:
    """All that is known before computing: particles, references, and the scales on which they are compared."""

    particles: Particles
    images: ParticleImages
    references: References
    classes: NDArray[np.int64]
    gain: NDArray[np.float32]
    diameter: float
    resolution: float

    def load(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Read images, norm correction applied."""
        pixels = self.images.load(rows)
        pixels *= self.gain[rows][:, None, None]
        return pixels


def run(parameters: SortParameters, context: Context) -> None:
    """Sort and write.

    Raises
    ------
    InputError
        If inputs are missing or do not fit each other, or no image can be used.
    """
    task = prepare_task(parameters, context.recorder)
    make_folder(parameters.output)
    scores, deviations, table = _score(task, parameters, context.recorder)
    order = np.argsort(scores, kind="stable")
    _write(parameters, task.particles.with_columns({_SCORE: scores}).rows(order), context.command)
    if parameters.features is not None:
        _write_features(parameters.features, task.particles.rows(order), scores[order], table, deviations, order)
    _report(parameters, scores, table, context.recorder)
    if parameters.plots:
        _draw(parameters.output, task, scores, order)


def _score(
    task: SortTask, parameters: SortParameters, recorder: Recorder
) -> tuple[NDArray[np.float64], NDArray[np.float64], FeatureTable]:
    """Return Z-scores, deviations and features, in the order of the particles."""
    from vitrea.selection.sorting import z_scores

    table = _measure(task, parameters, recorder)
    micrographs = _numbered(task.particles, _MICROGRAPH)
    scores, deviations = z_scores(table, task.classes, micrographs, parameters.min_z)
    return _place_unusable(scores, task, recorder), deviations, table


def prepare_task(parameters: SortParameters, recorder: Recorder) -> SortTask:
    """Read particles and references, and check that they fit each other.

    Raises
    ------
    InputError
        If they do not, or are missing.
    """
    from vitrea.formats.images import ParticleImages
    from vitrea.formats.particle_files import read_particles

    for name in ("ctf_phase_flipped", "ctf_intact_first_peak"):
        if getattr(parameters, name) and not parameters.ctf:
            raise InputError(f"--{name} needs --ctf")
    for path in (parameters.output, parameters.features):
        if path is not None and path.exists() and parameters.input.exists() and path.samefile(parameters.input):
            raise InputError(f"{path} would be overwritten, but it is the input; choose another name")
    particles = read_particles(parameters.input, require_ctf=parameters.ctf, pixel_size=parameters.pixel_size or None)
    images = ParticleImages(particles)
    images.check(recorder)
    size, pixel_size = images.box_size, images.pixel_size
    source = parameters.reference or find_references(parameters.input)
    references = read_references(source, size, pixel_size, recorder)
    if parameters.invert:
        references = replace(references, images=tuple(-image for image in references.images))
    _check_pose_columns(particles, references)
    if not parameters.ctf and "rlnDefocusU" in particles.table:
        recorder.warn(f"{parameters.input} has a CTF for each particle, which is not used: --ctf is not given")
    diameter, resolution = _lengths(parameters, size, pixel_size)
    classes = _classes(particles, references)
    return SortTask(particles, images, references, classes, _gain(particles, parameters.norm), diameter, resolution)


def _check_pose_columns(particles: Particles, references: References) -> None:
    flat = references.images[0].ndim == 2
    for label in ("rlnAnglePsi",) if flat else ("rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi"):
        if label not in particles.table:
            raise InputError(f"{particles.source} lacks the column {label}: the particles must be aligned")


def _lengths(parameters: SortParameters, size: int, pixel_size: float) -> tuple[float, float]:
    """Return the particle's diameter and the finest resolution, Å."""
    extent = size * pixel_size
    diameter = parameters.particle_diameter or _DEFAULT_DIAMETER * extent
    if diameter < 8 * pixel_size:
        raise InputError(f"--particle_diameter {diameter:g} Å is less than 8 pixels of {pixel_size:g} Å")
    resolution = parameters.lowpass or max(diameter / _DIAMETER_PER_RESOLUTION, _FINEST_PIXELS * pixel_size)
    if extent / resolution < _SMALLEST_RADIUS:
        raise InputError(
            f"--lowpass {resolution:g} Å is too coarse for a box of {extent:g} Å: give {extent / _SMALLEST_RADIUS:.3g} "
            "Å or finer"
        )
    return min(diameter, extent), resolution


def _classes(particles: Particles, references: References) -> NDArray[np.int64]:
    """Return the index of each particle's reference."""
    count = len(references.images)
    if _CLASS not in particles.table:
        if count > 1:
            raise InputError(
                f"{particles.source} lacks the column {_CLASS}, but {references.source} has {count} classes"
            )
        return np.zeros(len(particles), dtype=np.int64)
    numbers = particles.table.numbers(_CLASS).astype(np.int64)
    wrong = np.flatnonzero((numbers < 1) | (numbers > count))
    if len(wrong):
        raise InputError(
            f"{particles.source}: {_CLASS} of particle {wrong[0] + 1} is {numbers[wrong[0]]}, but {references.source} "
            f"has {count} reference{'s' * (count > 1)}"
        )
    return np.asarray(numbers - 1)


def _gain(particles: Particles, wanted: bool) -> NDArray[np.float32]:
    """Return the factors by which images are multiplied: usual norm correction over each particle's own."""
    if not wanted or _NORM not in particles.table:
        return np.ones(len(particles), dtype=np.float32)
    norm = particles.table.numbers(_NORM)
    if not (np.isfinite(norm) & (norm > 0)).all():
        raise InputError(f"{particles.source}: {_NORM} must be positive; leave it out with --no-norm")
    return np.asarray(np.median(norm) / norm, dtype=np.float32)


def _numbered(particles: Particles, label: str) -> NDArray[np.int64]:
    """Number the distinct values of a text column, 0 for all where it is absent."""
    if label not in particles.table:
        return np.zeros(len(particles), dtype=np.int64)
    return np.asarray(np.unique(particles.table[label].astype(str), return_inverse=True)[1], dtype=np.int64)


def _measure(task: SortTask, parameters: SortParameters, recorder: Recorder) -> FeatureTable:
    import torch

    from vitrea.selection.differences import PairMaker, Transfer
    from vitrea.selection.sorting import UnusableImagesError, measure_features

    size, pixel_size = task.images.box_size, task.images.pixel_size
    radius = min(int(size * pixel_size / task.resolution), (size - 1) // 2)
    transfer = Transfer(parameters.ctf, parameters.ctf_phase_flipped, parameters.ctf_intact_first_peak)
    maker = PairMaker([torch.from_numpy(image) for image in task.references.images], pixel_size, radius, transfer)
    count = len(task.particles)
    probe = np.unique(np.linspace(0, count - 1, min(_PROBES, count)).astype(np.int64))
    recorder.stage("Comparing with references", count, "particles")
    portions = counted(chunks(count, size), recorder)
    try:
        return measure_features(maker, task.particles, task.classes, task.load, portions, task.diameter, probe)
    except UnusableImagesError as error:
        raise InputError(f"{task.particles.source}: {error}") from None


def counted(portions: Iterator[NDArray[np.int64]], recorder: Recorder) -> Iterator[NDArray[np.int64]]:
    """Divide portions of rows further, and report progress."""
    for portion in portions:
        for rows in np.array_split(portion, min(_PARTS, len(portion))):
            yield rows
            recorder.advance(len(rows))


def _place_unusable(scores: NDArray[np.float64], task: SortTask, recorder: Recorder) -> NDArray[np.float64]:
    """Put images that cannot be used behind all others, one above the largest Z-score, and name them."""
    bad = np.flatnonzero(np.isnan(scores))
    for row in bad:
        recorder.warn(f"{task.images.names[row]} holds NaN, infinite or all equal pixels; it is put last")
    return np.where(np.isnan(scores), np.nanmax(scores) + 1.0, scores)


def _write(parameters: SortParameters, particles: Particles, command: str) -> None:
    from vitrea.formats.particle_files import relink_images, write_particles

    write_particles(parameters.output, relink_images(particles, parameters.output.parent), comment=command)


def _write_features(
    path: Path,
    particles: Particles,
    scores: NDArray[np.float64],
    table: FeatureTable,
    deviations: NDArray[np.float64],
    order: NDArray[np.int64],
) -> None:
    """Write each feature and how suspicious it is, in standard deviations, in the order of the sorted particles."""
    from vitrea.formats.star import write_star
    from vitrea.records.table import Table
    from vitrea.selection.features import FEATURES

    columns = {"rlnImageName": particles.table["rlnImageName"], _SCORE: scores}
    for number, feature in enumerate(FEATURES):
        columns[f"{_FEATURE_PREFIX}{feature.name}"] = np.nan_to_num(table.values[order, number])
        columns[f"{_FEATURE_PREFIX}{feature.name}Deviation"] = deviations[order, number]
    make_folder(path)
    write_star(path, {"features": Table(columns)})


def _report(parameters: SortParameters, scores: NDArray[np.float64], table: FeatureTable, recorder: Recorder) -> None:
    quarter, middle, late = np.percentile(scores, (25, 50, 95))
    recorder.event(
        "text",
        text=f"{parameters.output}: {len(scores)} particles; Z-score {quarter:.2f} (25%), {middle:.2f} (50%), "
        f"{late:.2f} (95%), {scores.max():.2f} (largest); {int((scores > 1.5).sum())} above 1.5",
    )
    scale = float(np.nanmedian(table.values[:, 0]))
    recorder.event("text", text=f"grey scale of the references: particles show {scale:.3g} times what they have")
    if scale <= 0:
        recorder.warn("the particles do not agree with their references: check --invert, --ctf, angles and classes")


def _draw(output: Path, task: SortTask, scores: NDArray[np.float64], order: NDArray[np.int64]) -> None:
    from vitrea.jobs.sort_plots import best_and_worst, score_histogram
    from vitrea.report.png import save_png

    stem = output.with_suffix("")
    save_png(score_histogram(scores), stem.with_name(f"{stem.name}_zscore.png"))
    figure = best_and_worst(task.load, order, scores, task.images.pixel_size, task.diameter)
    save_png(figure, stem.with_name(f"{stem.name}_gallery.png"))


JOB = Job(
    name="sort",
    summary="Sort particles by how little they look like their references: junk comes last.",
    parameters=SortParameters,
    run=run,
)
