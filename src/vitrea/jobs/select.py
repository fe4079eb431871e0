"""``vitrea select``: choose, join and divide particles."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from vitrea.jobs.base import Context, Job, JobParameters, parameter
from vitrea.records.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from vitrea.jobs.select_classes import ClassChoice
    from vitrea.jobs.select_criteria import Range, Sieve
    from vitrea.jobs.select_inputs import SelectionInput
    from vitrea.records.particles import Particles


class SelectParameters(JobParameters):
    """Choose particles and write them to a STAR file that every job takes.

    What is read: particles (--i), or the optimiser, model or data file of a classification or refinement. Several
    files are joined first: optics groups that agree become one, and with --check_duplicates rlnImageName an image that
    is in two files is kept once. All criteria given must hold; how many particles each of them drops is reported, in
    the order: duplicates, classes, conditions, ranges, text, grey values, neighbours, random subset. A selection that
    leaves nothing is an error, and nothing is written then.

    With --auto the classes of a 2D classification, Vitrea's or RELION's, are scored from 0 (junk) to 1 by their
    averages, sizes and resolutions and by how much signal each particle shows of its class, so that averages of noise
    that was aligned to a template are told, too; of 3D classes those are kept that are neither tiny nor far less
    resolved than the best. Every class dropped is named with the reason. Beside the output stand a picture of all
    classes, <output>_classes.png, and a table of the scores, <output>_class_scores.star; where no class is good enough
    these are all that is written.

    No choice of classes rids a set of its junk: pairs and noise lie in good classes, and particles in small or
    blurred ones. In 2D --auto therefore looks at each image, too. Five answers are weighed by Bayes' rule: one centred
    particle that looks as the good classes do, turned by any angle; nothing but noise; a particle off-centre; two of
    them; something much brighter. How frequent each is, is estimated from the set and reported. Images that show a
    particle with a probability of --min_probability are kept, whichever class they were in; --no-auto-particles keeps
    all particles of good classes.

    Image names are rewritten so that they are found from the project folder. Particles in one micrograph closer than
    --remove_duplicates are one particle picked twice: the one of higher merit is kept, its coordinates taken as moved
    by rlnOriginXAngst and rlnOriginYAngst.
    """

    input: tuple[Path, ...] = parameter(
        ..., "Particles, or an optimiser or model file; may be repeated: files are joined.", options=["--i"]
    )
    join: tuple[Path, ...] = parameter((), "Further files to join to the first.", positional=True)
    output: Path = parameter(Path("particles.star"), "STAR file to write.", options=["--o"])
    check_duplicates: str = parameter(
        "", "Keep only the first of the particles that share a value of this column: rlnImageName."
    )
    flat: bool = parameter(False, "Write one flat table, as RELION 1.3 to 3.0 did.", expert=True)
    pixel_size: float = parameter(
        0.0,
        "Pixel size of the images, where the STAR file gives none.",
        unit="Å",
        options=["--angpix"],
        ge=0,
        expert=True,
    )

    classes: str = parameter("", "Classes to keep: 1,3,5-8.", options=["--class"], tab="Criteria")
    auto: bool = parameter(
        False, "Keep the classes that show particles, by a score; with --classes: of those.", tab="Criteria"
    )
    min_score: float = parameter(
        0.5, "Score from which on --auto keeps a class.", options=["--min_score"], tab="Criteria", ge=0, le=1
    )
    auto_particles: bool = parameter(
        True,
        "With --auto: weigh for each particle, too, whether its image shows one centred particle of the classes kept.",
        options=["--auto_particles"],
        tab="Criteria",
    )
    min_probability: float = parameter(
        0.5, "Probability of that from which on a particle is kept.", tab="Criteria", ge=0, le=1
    )
    particle_diameter: float = parameter(
        0.0,
        "Diameter of the mask of a 2D classification, for --auto; 0: that of the job's optimiser file.",
        unit="Å",
        tab="Criteria",
        ge=0,
        expert=True,
    )
    class_averages: Path | None = parameter(
        None,
        "Also write the classes kept by --auto or --classes, with a stack of their averages, to this STAR file.",
        tab="Criteria",
    )
    select: str = parameter("", "Column whose value must lie from --minval to --maxval: rlnDefocusU.", tab="Criteria")
    minval: float | None = parameter(None, "Lowest value to keep.", tab="Criteria")
    maxval: float | None = parameter(None, "Highest value to keep.", tab="Criteria")
    where: tuple[str, ...] = parameter(
        (), "Condition on columns, as in vitrea star select: DefocusU < 20000; may be repeated.", tab="Criteria"
    )
    ranges: tuple[str, ...] = parameter(
        (),
        "Column and bounds, either of which may be blank: rlnDefocusU:8000:20000; may be repeated. Grey values of "
        "the images are image.mean, image.stddev, image.min, image.max.",
        options=["--range"],
        tab="Criteria",
    )
    select_by_str: str = parameter("", "Column whose text decides: rlnMicrographName.", tab="Criteria")
    select_include: str = parameter("", "Keep where the text holds this.", tab="Criteria")
    select_exclude: str = parameter("", "Drop where the text holds this.", tab="Criteria")
    discard_on_stats: bool = parameter(False, "Drop images whose grey values lie far from the others'.", tab="Criteria")
    discard_sigma: float = parameter(
        4.0, "How far, in standard deviations over the set, for --discard_on_stats.", tab="Criteria", gt=0
    )
    discard_statistics: tuple[Literal["mean", "stddev", "min", "max"], ...] = parameter(
        ("mean", "stddev"), "Grey values that --discard_on_stats looks at.", tab="Criteria", expert=True
    )

    remove_duplicates: float = parameter(
        0.0, "Keep one of particles closer than this in a micrograph; 0: keep all.", unit="Å", tab="Neighbours"
    )
    best_by: str = parameter(
        "",
        "Column whose higher value is kept of two neighbours; by default rlnAutopickFigureOfMerit, "
        "rlnMaxValueProbDistribution or rlnLogLikeliContribution, the first that is there.",
        tab="Neighbours",
    )
    coordinate_pixel_size: float = parameter(
        0.0,
        "Pixel size of the micrographs that coordinates refer to; 0: from the file.",
        unit="Å",
        options=["--image_angpix"],
        tab="Neighbours",
        ge=0,
    )

    random: int = parameter(0, "Keep this many particles, chosen at random; 0: all.", tab="Subsets", ge=0)
    half_sets: bool = parameter(
        False,
        "Assign the particles to two half sets at random, rlnRandomSubset 1 and 2, which refine3d then keeps; those of "
        "one image or one helical tube stay together. With --split: a part for each half.",
        tab="Subsets",
    )
    split: bool = parameter(False, "Write the selection in parts, <output>_split1.star and so on.", tab="Subsets")
    random_order: bool = parameter(False, "Shuffle before splitting.", tab="Subsets")
    nr_split: int = parameter(0, "Number of parts; 0: as many as --size_split asks for.", tab="Subsets", ge=-1)
    size_split: int = parameter(0, "Particles of a part; 0: all divided by --nr_split.", tab="Subsets", ge=-1)
    random_seed: int = parameter(1, "Seed of random choices.", tab="Subsets", ge=0)

    regroup: int = parameter(
        0,
        "Join micrographs into about this many groups of similar intensity scale and defocus; 0: no.",
        tab="Groups",
        ge=0,
    )
    reextract: Path | None = parameter(
        None,
        "Also write the particles to this STAR file with coordinates moved to their refined centres.",
        tab="Re-extraction",
    )
    coordinate_folder: Path | None = parameter(
        None, "Also write such coordinates to this folder, one file a micrograph.", tab="Re-extraction"
    )
    recenter: str | None = parameter(
        None,
        "Move such coordinates to a point of the map instead of its centre: X,Y,Z from there.",
        unit="Å",
        tab="Re-extraction",
    )


def run(parameters: SelectParameters, context: Context) -> None:
    """Read, choose, write.

    Raises
    ------
    InputError
        If inputs are missing or lack what a criterion needs, or nothing is left.
    JobError
        If no class is good enough.
    """
    from vitrea.jobs.select_classes import write_class_averages
    from vitrea.jobs.select_criteria import Sieve
    from vitrea.jobs.select_files import part_paths, recentred, write_coordinate_files, write_parts
    from vitrea.jobs.select_groups import with_half_sets, with_new_groups
    from vitrea.jobs.select_inputs import read_selection_input

    ranges = _ranges(parameters)
    _check(parameters)
    chosen = read_selection_input(
        (*parameters.input, *parameters.join), parameters.output.parent, context.recorder, parameters.pixel_size or None
    )
    sieve = Sieve(chosen.particles, chosen.source, context.recorder)
    if len(chosen.sizes) > 1:
        counts = " + ".join(map(str, chosen.sizes))
        context.recorder.event("text", text=f"{counts} particles joined, {len(chosen.particles.optics)} optics groups")
    choice = _choose(chosen, parameters, context)
    _apply(sieve, parameters, ranges, choice)
    particles = sieve.particles
    if parameters.regroup:
        particles = with_new_groups(particles, chosen, parameters.regroup, context.recorder)
    if parameters.half_sets:
        particles = with_half_sets(particles, parameters.random_seed, context.recorder)
    parts = [particles.rows(rows) for rows in _part_rows(particles, parameters)] or [particles]
    paths = part_paths(parameters.output, len(parts)) if parameters.split else [parameters.output]
    moved = None
    if parameters.reextract is not None or parameters.coordinate_folder is not None:
        moved = recentred(
            particles, chosen.source, parameters.coordinate_pixel_size, context.recorder, parameters.recenter
        )
    write_parts(paths, parts, flat=parameters.flat, comment=context.command)
    if moved is not None and parameters.reextract is not None:
        write_parts([parameters.reextract], [moved], flat=parameters.flat, comment=context.command)
    if moved is not None and parameters.coordinate_folder is not None:
        count = write_coordinate_files(parameters.coordinate_folder, moved, comment=context.command)
        context.recorder.event("text", text=f"{parameters.coordinate_folder}: {count} coordinate files")
    if choice is not None and parameters.class_averages is not None:
        write_class_averages(parameters.class_averages, choice, comment=context.command)
    for path, part in zip(paths, parts, strict=True):
        context.recorder.event("text", text=f"{path}: {len(part)} of {sum(chosen.sizes)} particles")


def _ranges(parameters: SelectParameters) -> list[Range]:
    from vitrea.jobs.select_criteria import checked_range, parse_range

    ranges = [parse_range(text) for text in parameters.ranges]
    if parameters.select:
        ranges.append(checked_range("--select", parameters.select, parameters.minval, parameters.maxval))
    elif parameters.minval is not None or parameters.maxval is not None:
        raise InputError("--minval and --maxval need --select, the column they are bounds of")
    return ranges


def _check(parameters: SelectParameters) -> None:
    """Refuse options that lack their partner, which would otherwise be ignored."""
    wants_text = bool(parameters.select_include or parameters.select_exclude)
    if wants_text != bool(parameters.select_by_str):
        raise InputError("--select_by_str, a column, goes with --select_include or --select_exclude, a text")
    sizes = parameters.nr_split > 0 or parameters.size_split > 0
    if parameters.split != sizes and not (parameters.split and parameters.half_sets):
        raise InputError("--split goes with --nr_split or --size_split: how many parts, or how large?")
    if parameters.random_order and not (parameters.split and sizes):
        raise InputError("--random_order needs --split; for a random subset give --random and a number")
    if parameters.class_averages is not None and not (parameters.auto or parameters.classes):
        raise InputError("--class_averages goes with --auto or --classes: which classes?")
    if parameters.recenter and parameters.reextract is None and parameters.coordinate_folder is None:
        raise InputError("--recenter goes with --reextract or --coordinate_folder: where are the coordinates to go?")
    if parameters.discard_on_stats and not parameters.discard_statistics:
        raise InputError("--discard_statistics: name one of mean, stddev, min, max")


def _choose(chosen: SelectionInput, parameters: SelectParameters, context: Context) -> ClassChoice | None:
    """Judge the classes, where asked to, and leave the picture and the table that show how."""
    from vitrea.jobs.select_classes import choose_classes, report_choice, require_some, write_gallery, write_scores

    if not parameters.auto and parameters.class_averages is None:
        return None
    minimum = parameters.min_score if parameters.auto else None
    choice = choose_classes(chosen, minimum, parameters.classes, parameters.particle_diameter, context.recorder)
    if parameters.auto:
        report_choice(choice, parameters.min_score, context.recorder)
        gallery = parameters.output.with_name(f"{parameters.output.stem}_classes.png")
        write_gallery(gallery, choice)
        scores = parameters.output.with_name(f"{parameters.output.stem}_class_scores.star")
        write_scores(scores, choice, comment=context.command)
        require_some(choice, parameters.min_score, gallery)
    return choice


def _keep_good(sieve: Sieve, parameters: SelectParameters, choice: ClassChoice) -> None:
    """Keep particles that look like those of good classes; without a look at each, or in 3D, those in good classes."""
    if not parameters.auto_particles or choice.results.averages is None:
        sieve.keep_numbers(f"classes that score {parameters.min_score:g} or more", choice.numbers)
        return
    from vitrea.jobs.select_particles import judge_particles

    probabilities = judge_particles(choice, sieve.recorder).particle[sieve.rows]
    least = parameters.min_probability
    sieve.keep(f"probability of a centred particle {least:g} or more", probabilities >= least)


def _apply(sieve: Sieve, parameters: SelectParameters, ranges: list[Range], choice: ClassChoice | None) -> None:
    """Apply all criteria asked for, the cheap ones first."""
    from vitrea.selection.subsets import random_rows

    if parameters.check_duplicates:
        sieve.drop_repeated(parameters.check_duplicates.removeprefix("_"))
    if parameters.classes:
        sieve.keep_classes(parameters.classes)
    if parameters.auto and choice is not None:
        _keep_good(sieve, parameters, choice)
    sieve.keep_where(parameters.where)
    sieve.keep_ranges(ranges)
    if parameters.select_by_str:
        label = parameters.select_by_str.removeprefix("_")
        sieve.keep_text(label, parameters.select_include, parameters.select_exclude)
    sigmas = parameters.discard_sigma if parameters.discard_on_stats else None
    sieve.keep_images(ranges, sigmas, parameters.discard_statistics)
    if parameters.remove_duplicates > 0:
        sieve.drop_neighbours(parameters.remove_duplicates, parameters.coordinate_pixel_size, parameters.best_by)
    if parameters.random:
        wanted = parameters.random
        sieve.take(f"random {wanted}", lambda count: random_rows(count, wanted, parameters.random_seed))


def _part_rows(particles: Particles, parameters: SelectParameters) -> list[NDArray[np.int64]]:
    """Return the rows of each part of a split; nothing where there is none."""
    from vitrea.selection.subsets import split_rows

    if not parameters.split:
        return []
    if parameters.nr_split <= 0 and parameters.size_split <= 0:
        halves = particles.table["rlnRandomSubset"]
        return [(halves == half).nonzero()[0] for half in (1, 2)]
    seed = parameters.random_seed if parameters.random_order else None
    try:
        return split_rows(len(particles), max(0, parameters.nr_split), max(0, parameters.size_split), seed)
    except ValueError as error:
        raise InputError(f"--nr_split and --size_split: {error}; nothing was written") from None


JOB = Job(
    name="select",
    summary="Choose, join and divide particles by class, column, grey values or distance.",
    parameters=SelectParameters,
    run=run,
    ignored_options={
        "--combine": "several files are always joined",
        "--discard_label=": "the particle images, rlnImageName, are measured",
        "--i_tablename=": "the block of particles is found",
    },
    examples=(
        "vitrea select --i particles.star --o chosen.star --where 'DefocusU < 18000' --half_sets",
        "vitrea select --i particles.star --i more.star --o part.star --split --nr_split 2 --random_order",
    ),
)
