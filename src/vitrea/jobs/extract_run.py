"""Cut, process and write the particles of micrographs, several micrographs at once."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from vitrea.extraction.processing import ImageProcessor
from vitrea.extraction.windows import cut_windows, place_windows
from vitrea.formats.coordinates import COORDINATE_LABELS, MICROGRAPH
from vitrea.formats.image_names import join_image_name, project_name
from vitrea.formats.movies import Movie, open_movie
from vitrea.formats.mrc import StackWriter, read_header
from vitrea.formats.mrc_header import UNSET_PIXEL_SIZES
from vitrea.formats.star import read_star, write_star
from vitrea.formats.star_values import text_column
from vitrea.jobs.extract_inputs import IMAGE, ORIGINAL_IMAGE, Picks, Problem
from vitrea.jobs.map_inputs import make_folder
from vitrea.records.errors import InputError
from vitrea.records.recorder import Recorder
from vitrea.records.table import Table

_BLOCK, _NOTES = "particles", "extraction"
_SAME_SIZE = 0.01
_OUTSIDE, _OVER_EDGE, _BAD = "outside the micrograph", "over the edge, left out", "no numbers, or nothing but one value"


@dataclass(frozen=True)
class FrameRange:
    """Which frames of a movie become images.

    Attributes
    ----------
    first : int
        From 0.
    last : int
        From 0, included; -1: the last there is.
    average : int
        Frames summed to one.
    """

    first: int = 0
    last: int = -1
    average: int = 1

    def of(self, count: int) -> range:
        """Return the first frame of each complete sum in a movie of so many frames.

        Raises
        ------
        ValueError
            If the movie is too short.
        """
        last = count - 1 if self.last < 0 else self.last
        if last >= count or self.first + self.average - 1 > last:
            wanted = f"{self.first + 1} to {max(last + 1, self.first + self.average)}"
            raise ValueError(f"it has {count} frames, and frames {wanted} are asked for")
        return range(self.first, last + 2 - self.average, self.average)


@dataclass(frozen=True)
class ExtractionPlan:
    """What all micrographs share.

    Attributes
    ----------
    box : int
        Side of the boxes cut, in pixels.
    processor : ImageProcessor
    drop_edge : bool
        Leave out boxes that hang over the edge.
    frames : FrameRange or None
        For movies.
    mode : 2 or 12
        Of the stacks: 32-bit or 16-bit floats.
    seed : int
    settings : str
        All that decides what the images are, to tell whether those of an earlier run are the same.
    unfinished_only : bool
        Take over what an earlier run with these settings has left.
    """

    box: int
    processor: ImageProcessor
    drop_edge: bool
    frames: FrameRange | None
    mode: Literal[2, 12]
    seed: int
    settings: str
    unfinished_only: bool


@dataclass(frozen=True)
class Extracted:
    """What came of one micrograph.

    Attributes
    ----------
    table : Table
        One row an image; empty if there is none.
    over_edge : int
        Particles whose box was filled up.
    problems : tuple of Problem
    taken_over : bool
        Whether the images are those of an earlier run.
    """

    table: Table
    over_edge: int = 0
    problems: tuple[Problem, ...] = ()
    taken_over: bool = False


@dataclass
class Extraction:
    """What came of all micrographs."""

    tables: list[Table] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    over_edge: int = 0
    taken_over: int = 0


def extract_all(
    picks: list[Picks],
    stacks: Mapping[str, Path],
    pixel_sizes: NDArray[np.float64],
    plan: ExtractionPlan,
    threads: int,
    recorder: Recorder,
) -> Extraction:
    """Extract the particles of all micrographs.

    Parameters
    ----------
    picks : list of Picks
    stacks : mapping of str to Path
        The stack to write, by micrograph name.
    pixel_sizes : ndarray, shape [micrographs]
        Å, by row of the micrographs.
    plan : ExtractionPlan
    threads : int
        Micrographs worked on at once.
    recorder : Recorder
    """
    result = Extraction()
    recorder.stage("Extracting particles", len(picks), "micrographs")

    def work(one: Picks) -> Extracted:
        try:
            return _extract(one, stacks[one.name], float(pixel_sizes[one.row]), plan)
        except InputError as error:
            return Extracted(Table(), problems=(Problem(one.name, len(one.table), str(error), whole=True),))

    with ThreadPoolExecutor(threads) as pool:
        for extracted in pool.map(work, picks):
            if len(extracted.table):
                result.tables.append(extracted.table)
            result.problems += extracted.problems
            result.over_edge += extracted.over_edge
            result.taken_over += extracted.taken_over
            recorder.advance()
    return result


def _extract(picks: Picks, stack: Path, pixel_size: float, plan: ExtractionPlan) -> Extracted:
    """Extract the particles of one micrograph."""
    table_path = stack.with_name(f"{stack.stem}_extract.star")
    settings = f"{plan.settings} {_checksum(picks)}"
    if plan.unfinished_only and (found := _finished(table_path, stack, settings)) is not None:
        return found
    with open_movie(picks.path) as movie:
        _check(movie, picks.path, pixel_size, plan)
        places = place_windows(picks.coordinates, plan.box, movie.header.shape[1:])
        keep = ~places.outside & ~(places.over_edge & plan.drop_edge)
        lost = {_OUTSIDE: int(places.outside.sum()), _OVER_EDGE: int((places.over_edge & plan.drop_edge).sum())}
        rows, columns = np.flatnonzero(keep), {}
        make_folder(stack)
        table_path.unlink(missing_ok=True)  # so that it never stands beside images that are not its own
        if len(rows):
            written = _write_images(movie, picks, places.corners[rows], stack, pixel_size, plan)
            lost[_BAD] = len(rows) - len(written.rows)
            rows, columns = rows[written.rows], written.columns
    count = len(rows)
    over_edge = int(places.over_edge[rows].sum())
    problems = tuple(Problem(picks.name, lost, reason) for reason, lost in lost.items() if lost)
    if not count:
        return Extracted(Table(), problems=problems)
    images = len(next(iter(columns.values())))
    table = _ordered(picks.table.rows(np.tile(rows, images // count)).with_columns(columns))
    notes = {"vitreaSettings": settings, "vitreaOverEdge": over_edge}
    notes |= {f"vitreaSetAside{number}": f"{one.particles} {one.reason}" for number, one in enumerate(problems)}
    write_star(table_path, {_BLOCK: table, _NOTES: notes})
    return Extracted(table, over_edge, problems)


def _checksum(picks: Picks) -> str:
    """Return a number that changes with whatever is known of the particles."""
    value = 0
    for label, column in picks.table.columns.items():
        held = "\n".join(map(str, column.tolist())).encode() if column.dtype == object else column.tobytes()
        value = zlib.crc32(held, zlib.crc32(label.encode(), value))
    return f"picks={value:08x}"


def _finished(path: Path, stack: Path, settings: str) -> Extracted | None:
    """Return what an earlier run with the same settings and picks has left of a micrograph, if it is all there."""
    if not (path.is_file() and stack.is_file()):
        return None
    try:
        blocks = read_star(path)
        held = read_header(stack).shape[0]
    except InputError:
        return None
    table, notes = blocks.get(_BLOCK), blocks.get(_NOTES)
    if not isinstance(table, Table) or isinstance(notes, Table) or notes is None:
        return None
    if notes.get("vitreaSettings") != settings or held != len(table):
        return None
    name = str(table[MICROGRAPH][0]).rpartition("@")[2]
    lost = [str(value).partition(" ") for key, value in notes.items() if key.startswith("vitreaSetAside")]
    problems = tuple(Problem(name, int(count), reason) for count, _, reason in lost)
    return Extracted(table, int(notes.get("vitreaOverEdge", 0)), problems, taken_over=True)


def _check(movie: Movie, path: Path, pixel_size: float, plan: ExtractionPlan) -> None:
    """Refuse a micrograph that is none, is smaller than a box, or has another pixel size than its STAR file says."""
    if plan.frames is None and len(movie) != 1:
        raise InputError(f"{path} holds {len(movie)} images; is it a movie? --extract_movies extracts from its frames")
    _, height, width = movie.header.shape
    if plan.box > min(height, width):
        raise InputError(f"{path} of {width} x {height} pixels is smaller than a box of {plan.box}")
    size = movie.header.pixel_size
    if size not in UNSET_PIXEL_SIZES and abs(size / pixel_size - 1) > _SAME_SIZE:
        raise InputError(f"{path} has {size:g} Å per pixel in its header, but {pixel_size:g} Å in the STAR file")


@dataclass(frozen=True)
class _Written:
    """Which of the boxes were written, and the columns that say where."""

    rows: NDArray[np.int64]
    columns: dict[str, NDArray[Any]]


def _write_images(
    movie: Movie, picks: Picks, corners: NDArray[np.int64], stack: Path, pixel_size: float, plan: ExtractionPlan
) -> _Written:
    """Cut the boxes out of each frame, process and write them, frame after frame."""
    rng = np.random.default_rng([plan.seed, zlib.crc32(picks.name.encode())])
    names: list[str] = []
    rows = np.arange(len(corners))
    frames = _frames(movie, picks, plan)
    name, frame = next(frames)
    images, usable = plan.processor(cut_windows(frame, corners, plan.box), rng)
    if plan.frames is None:
        rows, images = rows[usable], images[usable]
        if not len(rows):
            return _Written(rows, {})
    with StackWriter(stack, plan.processor.settings.pixel_size(plan.box, pixel_size), plan.mode) as writer:
        while True:
            if plan.frames is not None and not usable.all():
                raise InputError(
                    f"{name}: {np.count_nonzero(~usable)} of {len(rows)} boxes hold no "
                    "numbers, or nothing but one value"
                )
            if plan.frames is not None:
                # The average of n normalised frames then has a background of deviation 1 (RELION's rule).
                images *= np.float32(math.sqrt(len(plan.frames.of(len(movie)))))
            writer.append(images)
            names += [name] * len(images)
            if (following := next(frames, None)) is None:
                break
            name, frame = following
            images, usable = plan.processor(cut_windows(frame, corners, plan.box), rng)
    return _Written(rows, _name_columns(names, picks, rows, stack, plan.frames))


def _frames(movie: Movie, picks: Picks, plan: ExtractionPlan) -> Iterator[tuple[str, NDArray[Any]]]:
    """Yield the micrograph, or the sums of a movie's frames, each with its name."""
    if plan.frames is None:
        yield picks.image_name, movie.read(0)
        return
    try:
        starts = plan.frames.of(len(movie))
    except ValueError as error:
        raise InputError(f"{picks.path}: {error}") from error
    for start in starts:
        last = start + plan.frames.average - 1
        total = movie.read(start).astype(np.float32)
        for frame in range(start + 1, last + 1):
            total += movie.read(frame)
        yield join_image_name(picks.image_name, last), total  # RELION, too, names a sum by its last frame


def _name_columns(
    names: list[str], picks: Picks, rows: NDArray[np.int64], stack: Path, frames: FrameRange | None
) -> dict[str, NDArray[Any]]:
    """Return the columns that name the images of one micrograph or movie."""
    place = project_name(stack)
    columns: dict[str, NDArray[Any]] = {
        IMAGE: text_column([join_image_name(place, index) for index in range(len(names))]),
        MICROGRAPH: text_column(names),
    }
    if frames is None:
        return columns
    count = len(names) // len(rows)
    if ORIGINAL_IMAGE in picks.table:
        whole = picks.table[ORIGINAL_IMAGE][rows].tolist()
    else:  # as they are named when extracted from the micrograph
        average = project_name(stack.with_name(Path(picks.name).with_suffix(".mrcs").name))
        whole = [join_image_name(average, index) for index in range(len(rows))]
    columns["rlnParticleName"] = text_column(whole * count)
    columns["rlnNrOfFrames"] = np.full(len(names), count * frames.average)
    columns["rlnAverageNrOfFrames"] = np.full(len(names), frames.average)
    return columns


def _ordered(table: Table) -> Table:
    """Put coordinates and names first, as RELION does."""
    first = [label for label in (*COORDINATE_LABELS, IMAGE, MICROGRAPH) if label in table]
    return Table({label: table[label] for label in [*first, *(label for label in table if label not in first)]})
