"""``vitrea extract``: particles out of micrographs or movie frames."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vitrea.jobs.base import Context, Job
from vitrea.jobs.extract_parameters import ExtractParameters, ImageParameters
from vitrea.jobs.map_inputs import make_folder
from vitrea.jobs.set_aside import SetAside, write_set_aside
from vitrea.records.errors import InputError, JobError
from vitrea.records.particles import Particles
from vitrea.records.recorder import Recorder
from vitrea.records.table import Table, concatenate_columns
from vitrea.records.wording import number_of

if TYPE_CHECKING:
    from vitrea.extraction.processing import ImageSettings
    from vitrea.jobs.extract_inputs import ExtractionInput, Picks, Problem
    from vitrea.jobs.extract_run import Extraction, ExtractionPlan
    from vitrea.records.optics import Optics

_BACKGROUND_SHARE = 0.375  # RELION's page, too, proposes 75% of the box for the circle's diameter
_NAMED, _TOLD = 3, 6


def run(parameters: ExtractParameters, context: Context) -> None:
    """Read, extract, join, write.

    Raises
    ------
    InputError
        If options contradict each other, or inputs that are for all micrographs are missing or wrong.
    JobError
        If no particle could be extracted.
    """
    from vitrea.compute.processors import available_threads
    from vitrea.formats.particle_files import write_particles
    from vitrea.jobs.extract_inputs import read_extraction_input
    from vitrea.jobs.extract_run import extract_all

    recorder = context.recorder
    given = read_extraction_input(parameters)
    plan = _plan(parameters)
    stacks = _stack_paths(parameters.output, given.picks)
    optics = _optics(given, plan)
    star = parameters.star or parameters.output / "particles.star"
    make_folder(star)
    make_folder(parameters.output / "any")
    threads = parameters.threads or available_threads()
    result = extract_all(given.picks, stacks, given.micrographs.pixel_sizes, plan, threads, recorder)
    problems = [*given.problems, *result.problems]
    report = parameters.output / "set_aside.star"
    counts = {"vitreaParticlesSetAside": np.array([one.particles for one in problems])}
    aside = [SetAside(one.micrograph, one.reason) for one in problems]
    write_set_aside(report, "rlnMicrographName", aside, context.command, counts)
    _tell(result, problems, report, recorder)
    if not result.tables:
        raise JobError(f"no particle could be extracted; {report} says why")
    table = _joined(result.tables, recorder)
    base = given.micrographs.optics_table if given.refined is None else given.refined.optics_table
    particles = Particles(table, optics, optics_table=base)
    write_particles(star, particles, comment=context.command)
    size = plan.processor.settings.final_size(plan.box)
    recorder.event(
        "text",
        text=f"{star}: {number_of(len(table), 'image')} of {size} x {size} pixels from "
        f"{number_of(len(result.tables), 'movie' if parameters.movies else 'micrograph')}",
    )


def image_settings(parameters: ImageParameters, size: int) -> ImageSettings:
    """Return what is done to images of a size, checked.

    Raises
    ------
    InputError
        If a size is impossible, dust is to be removed without normalisation, or the circle leaves no background.
    """
    from vitrea.extraction.background import Background, Normalisation
    from vitrea.extraction.processing import ImageSettings

    for option, value in (("--scale", parameters.scale), ("--window", parameters.window)):
        if value != -1 and value < 2:
            raise InputError(f"{option} {value} is no size of images; give at least 2 pixels, or -1 for none")
    scale, window = max(0, parameters.scale), max(0, parameters.window)
    settings = ImageSettings(scale, window, None, parameters.invert_contrast)
    if not parameters.normalise:
        if parameters.white_dust > 0 or parameters.black_dust > 0:
            raise InputError("--white_dust and --black_dust need --norm: dust is told by the background's deviation")
        return settings
    final = settings.final_size(size)
    radius = parameters.background_radius if parameters.background_radius > 0 else _BACKGROUND_SHARE * final
    if 2 * radius > final:
        raise InputError(f"--bg_radius {radius:g} is more than half the box of the final images, {final} pixels")
    try:
        Background(final, radius)
    except ValueError as error:
        raise InputError(f"--bg_radius: {error}") from error
    dust = (max(0.0, parameters.white_dust), max(0.0, parameters.black_dust))
    return replace(settings, normalisation=Normalisation(radius, parameters.ramp, *dust))


def _plan(parameters: ExtractParameters) -> ExtractionPlan:
    from vitrea.extraction.processing import ImageProcessor
    from vitrea.jobs.extract_run import ExtractionPlan, FrameRange

    frames, options = None, parameters
    if parameters.movies:
        frames = FrameRange(parameters.first_frame - 1, parameters.last_frame - 1, parameters.average_frames)
        # Frames hold few electrons: the slope of a plane fitted to their background would be noise.
        options = parameters.model_copy(update={"ramp": False})
    settings = image_settings(options, parameters.box_size)
    text = f"box={parameters.box_size} {settings} {frames} float16={parameters.float16} edge={parameters.drop_edge}"
    return ExtractionPlan(
        box=parameters.box_size,
        processor=ImageProcessor(parameters.box_size, settings),
        drop_edge=parameters.drop_edge,
        frames=frames,
        mode=12 if parameters.float16 else 2,
        seed=parameters.random_seed,
        settings=f"{text} seed={parameters.random_seed}",
        unfinished_only=parameters.only_do_unfinished,
    )


def _stack_paths(output: Path, picks: list[Picks]) -> dict[str, Path]:
    """Return the stack of each micrograph: its name below the output folder, without that of the job it came from.

    Raises
    ------
    InputError
        If two micrographs would share a stack, or one would be overwritten.
    """
    from vitrea.formats.image_names import place_in_job

    stacks: dict[str, Path] = {}
    owners: dict[Path, str] = {}
    for one in picks:
        name = place_in_job(one.image_name)
        stack = output / name.parent / f"{name.stem}.mrcs"
        if stack in owners:
            raise InputError(f"{owners[stack]} and {one.image_name} would both be written to {stack}: rename one")
        if stack.resolve() == one.path.resolve():
            raise InputError(f"the particles of {one.path} would overwrite it; choose another --part_dir than {output}")
        owners[stack] = one.image_name
        stacks[one.name] = stack
    return stacks


def _optics(given: ExtractionInput, plan: ExtractionPlan) -> tuple[Optics, ...]:
    """Return the optics groups of the particles: those of the micrographs, or of the refinement, with the new pixels.

    Raises
    ------
    InputError
        If the particles of one group come from micrographs of different pixel sizes.
    """
    source = given.micrographs if given.refined is None else given.refined
    sizes: dict[int, set[float]] = {}
    for one in given.picks:
        for group in np.unique(one.table["rlnOpticsGroup"]).tolist():
            sizes.setdefault(int(group), set()).add(float(given.micrographs.pixel_sizes[one.row]))
    final, settings = plan.processor.settings.final_size(plan.box), plan.processor.settings
    made = []
    for group in source.optics:
        pixels = sizes.get(group.group)
        if pixels is None:
            continue  # no particle of this group is extracted
        if max(pixels) > 1.001 * min(pixels):
            raise InputError(
                f"{source.source}: particles of optics group {group.group} come from micrographs of {min(pixels):g} "
                f"and {max(pixels):g} Å per pixel; give them groups of their own"
            )
        pixel_size = settings.pixel_size(plan.box, min(pixels))
        original = group.original_pixel_size or min(pixels)
        made.append(replace(group, pixel_size=pixel_size, image_size=final, original_pixel_size=original))
    return tuple(made)


def _joined(tables: list[Table], recorder: Recorder) -> Table:
    """Put the particles of all micrographs into one table: the columns that all of them have."""
    shared = [label for label in tables[0] if all(label in table for table in tables)]
    lost = dict.fromkeys(label for table in tables for label in table if label not in shared)
    if lost:
        recorder.warn(f"left out, because not all coordinate files have it: {', '.join(lost)}")
    return Table({label: concatenate_columns([table[label] for table in tables]) for label in shared})


def _tell(result: Extraction, problems: list[Problem], report: Path, recorder: Recorder) -> None:
    """Summarise: what was taken over, filled up, set aside and why."""
    if result.taken_over:
        count = number_of(result.taken_over, "micrograph")
        recorder.event("text", text=f"{count} extracted before with the same settings")
    if result.over_edge:
        count = number_of(result.over_edge, "particle")
        recorder.event("text", text=f"filled up where the box hangs over the edge of its micrograph: {count}")
    if not problems:
        return
    told = dict.fromkeys((one.whole, one.reason) for one in problems)
    for number, (whole, reason) in enumerate(told):
        if number == _TOLD:
            recorder.warn(f"{len(told) - _TOLD} more reasons to set particles or micrographs aside")
            break
        some = [one for one in problems if (one.whole, one.reason) == (whole, reason)]
        names = [one.micrograph if whole else f"{one.micrograph} ({one.particles})" for one in some[:_NAMED]]
        more = f" and {len(some) - _NAMED} more" if len(some) > _NAMED else ""
        particles = sum(one.particles for one in some)
        what = number_of(len(some), "micrograph") if whole else number_of(particles, "particle")
        recorder.warn(f"{what} set aside, {reason}: {', '.join(names)}{more}")
    recorder.event("text", text=f"{report} lists all that was set aside")


JOB = Job(
    name="extract",
    summary="Cut particles out of micrographs or movie frames, normalised, rescaled, re-centred.",
    parameters=ExtractParameters,
    run=run,
    ignored_options={
        "--extract": "that is what this command does",
        "--only_extract": "that is what this command does",
        "--pipeline_control=": "there is no pipeline to report to",
    },
)
