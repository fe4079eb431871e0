"""What an extraction starts from: the particles of each micrograph, checked, in the order of the micrographs."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vitrea.formats.coordinates import (
    COORDINATE_FILE,
    COORDINATE_LABELS,
    MERIT,
    MICROGRAPH,
    read_cistem_positions,
    read_coordinate_files,
    read_coordinates,
)
from vitrea.formats.image_names import locate_file, without_job_folder
from vitrea.formats.micrograph_files import locate_image, open_micrographs
from vitrea.formats.optics_groups import GROUP
from vitrea.formats.particle_files import block_as_table, read_particles
from vitrea.formats.star import read_star
from vitrea.formats.star_values import text_column
from vitrea.jobs.coordinate_owners import coordinates_of_all, match_names, rows_by_name
from vitrea.jobs.extract_parameters import ExtractParameters
from vitrea.records.errors import InputError
from vitrea.records.micrographs import GivenOptics, Micrographs
from vitrea.records.particles import EULER_LABELS, SHIFT_LABELS, Particles
from vitrea.records.table import Table

IMAGE, ORIGINAL_IMAGE = "rlnImageName", "rlnImageOriginalName"
_GROUP_NAME = "rlnGroupName"
MOVIE = "rlnMicrographMovieName"
_MOVIE_ENDINGS = (".mrcs", ".mrc", ".tif", ".tiff", ".eer")
_MICROGRAPH_PIXEL = "rlnMicrographPixelSize"
_SAME_SIZE = 0.01


@dataclass(frozen=True)
class Problem:
    """Something that was set aside.

    Attributes
    ----------
    micrograph : str
    particles : int
        How many particles are lost; 0 where that is not known.
    reason : str
    whole : bool
        Whether it is the micrograph with all its particles.
    """

    micrograph: str
    particles: int
    reason: str
    whole: bool = False


@dataclass(frozen=True)
class Picks:
    """The particles of one micrograph.

    Attributes
    ----------
    name : str
        The micrograph's name in its STAR file.
    row : int
        Its row there.
    image_name : str
        What the particles' micrograph is to be called: its name, or that of the movie.
    path : Path
        The file to cut from: the micrograph's or the movie's.
    table : Table
        One row a particle: coordinates in pixels of the micrograph, and all that is to stand in the particle file but
        the names of image and micrograph.
    """

    name: str
    row: int
    image_name: str
    path: Path
    table: Table

    @property
    def coordinates(self) -> NDArray[np.float64]:
        """x, y in pixels, shape [particles, 2]."""
        return np.stack([self.table.numbers(label) for label in COORDINATE_LABELS], axis=1)


@dataclass(frozen=True)
class ExtractionInput:
    """Everything an extraction is made from.

    Attributes
    ----------
    micrographs : Micrographs
    picks : list of Picks
        Of the micrographs that have particles.
    problems : list of Problem
        Micrographs and particles set aside so far.
    refined : Particles or None
        The set that is extracted anew.
    """

    micrographs: Micrographs
    picks: list[Picks]
    problems: list[Problem]
    refined: Particles | None


def read_extraction_input(parameters: ExtractParameters) -> ExtractionInput:
    """Read micrographs and picks.

    Raises
    ------
    InputError
        If the options contradict each other, a file that is for all micrographs cannot be read, or no particle is left.
    """
    _check_sources(parameters)
    given = GivenOptics(
        parameters.pixel_size, parameters.voltage, parameters.spherical_aberration, parameters.amplitude_contrast
    )
    micrographs = open_micrographs(parameters.input, given, require_optics=False)
    refined = None
    if parameters.reextract is not None:
        refined = _read_refined(parameters, micrographs)
        source = _from_particles(refined, micrographs)
    else:
        source = _from_files(parameters, micrographs)
    problems: list[Problem] = []
    picks: list[Picks] = []
    for row, name in enumerate(map(str, micrographs.names)):
        try:
            table = source(row)
            if table is None or not len(table):
                problems.append(Problem(name, 0, "no picks", whole=True))
                continue
            picked = Picks(name, row, *_file_of(micrographs, row, parameters), table)
        except InputError as error:
            problems.append(Problem(name, 0, str(error), whole=True))
            continue
        picks.append(_sieved(picked, parameters, problems))
    if not picks:
        reasons = "; ".join(f"{problem.micrograph}: {problem.reason}" for problem in problems[:3])
        raise InputError(f"no micrograph has particles to extract ({reasons})")
    return ExtractionInput(micrographs, [_completed(one, micrographs) for one in picks], problems, refined)


def _check_sources(parameters: ExtractParameters) -> None:
    sources = {
        "--coord_list": parameters.coordinate_list,
        "--coord_suffix": parameters.coordinate_suffix,
        "--positions": parameters.positions,
        "--reextract_data_star": parameters.reextract,
    }
    given = [name for name, value in sources.items() if value]
    if len(given) != 1:
        raise InputError(f"where do the coordinates come from? give one of {', '.join(sources)}, not {len(given)}")
    if parameters.coordinate_folder is not None and not parameters.coordinate_suffix:
        raise InputError("--coord_dir needs --coord_suffix, the end of the coordinate files' names")
    if parameters.coordinate_folder is not None and not parameters.coordinate_folder.is_dir():
        raise InputError(f"there is no folder {parameters.coordinate_folder}; check --coord_dir")
    point = parameters.recenter_x or parameters.recenter_y or parameters.recenter_z
    if (parameters.recenter or point) and parameters.reextract is None:
        raise InputError("--recenter needs --reextract_data_star, a refinement that knows where the centres are")
    if point and not parameters.recenter:
        raise InputError("--recenter_x, --recenter_y and --recenter_z need --recenter")


def _file_of(micrographs: Micrographs, row: int, parameters: ExtractParameters) -> tuple[str, Path]:
    """Return name and place of the file to cut from: the micrograph, or its movie."""
    name = str(micrographs.names[row])
    if not parameters.movies:
        return name, locate_image(micrographs, row)
    if MOVIE in micrographs.table:
        movie = str(micrographs.table[MOVIE][row])
        return movie, locate_file(movie, micrographs.image_root, "movie", MOVIE)
    bare = Path(name).with_suffix("")
    candidates = [f"{bare}_{parameters.movie_name}{ending}" for ending in _MOVIE_ENDINGS]
    for movie in candidates:
        with suppress(InputError):
            return movie, locate_file(movie, micrographs.image_root, "movie", MOVIE)
    raise InputError(f"its movie {candidates[0]} does not exist (nor with {', '.join(_MOVIE_ENDINGS[1:])})")


def _sieved(picks: Picks, parameters: ExtractParameters, problems: list[Problem]) -> Picks:
    """Leave out picks of low merit and those given twice; shift them all by the bias."""
    table = picks.table
    if parameters.minimum_merit is not None and MERIT in table:
        table = table.rows(table.numbers(MERIT) >= parameters.minimum_merit)
    pairs = np.stack([table.numbers(label) for label in COORDINATE_LABELS], axis=1)
    if parameters.reextract is None:
        first = np.sort(np.unique(pairs, axis=0, return_index=True)[1])
        if len(first) < len(table):
            reason = "coordinates given twice: the first was kept"
            problems.append(Problem(picks.name, len(table) - len(first), reason))
            table, pairs = table.rows(first), pairs[first]
        pairs = pairs + np.array([parameters.bias_x, parameters.bias_y], dtype=np.float64)
        table = table.with_columns(dict(zip(COORDINATE_LABELS, pairs.T, strict=True)))
    return replace(picks, table=table)


def _completed(picks: Picks, micrographs: Micrographs) -> Picks:
    """Add what is known of the micrograph to each of its particles, where the picks do not say it themselves."""
    count = len(picks.table)
    columns = {}
    for label, column in micrographs.table.columns.items():
        is_number = column.dtype != object or label == _GROUP_NAME
        if is_number and label not in picks.table:
            columns[label] = text_column([column[picks.row]] * count) if column.dtype == object else np.full(
                count, column[picks.row]
            )  # fmt: skip
    return replace(picks, table=picks.table.with_columns(columns))


def _from_files(parameters: ExtractParameters, micrographs: Micrographs) -> Callable[[int], Table | None]:
    """Return a function from the row of a micrograph to its coordinates."""
    names = [str(name) for name in micrographs.names]
    if parameters.positions is not None:
        tables = read_cistem_positions(parameters.positions, names, micrographs.pixel_sizes)
        return lambda row: tables[row]
    if parameters.coordinate_list is None:
        return lambda row: _read_if_there(_coordinate_file(parameters, micrographs, row))
    blocks = [block_as_table(block) for block in read_star(parameters.coordinate_list).values()]
    if not any(COORDINATE_FILE in block for block in blocks):
        found = coordinates_of_all(blocks, parameters.coordinate_list, names)
        return lambda row: _without_group(found[row]) if row in found else None
    files = read_coordinate_files(parameters.coordinate_list)
    matches = match_names(names, files)

    def read(row: int) -> Table | None:
        return None if row not in matches else _without_group(read_coordinates(files[matches[row]]))

    return read


def _without_group(table: Table) -> Table:
    """Drop the optics group of a coordinate file, whose numbers mean nothing among the micrographs' groups."""
    return table.without(GROUP)


def _coordinate_file(parameters: ExtractParameters, micrographs: Micrographs, row: int) -> Path:
    """Return RELION's name for a coordinate file; besides the micrograph's full name its bare name is tried."""
    name = Path(without_job_folder(str(micrographs.names[row]))).with_suffix("")
    if parameters.coordinate_folder is None:
        image = locate_image(micrographs, row)
        return image.with_name(image.stem + parameters.coordinate_suffix)
    full = parameters.coordinate_folder / f"{name}{parameters.coordinate_suffix}"
    return full if full.is_file() else parameters.coordinate_folder / f"{name.name}{parameters.coordinate_suffix}"


def _read_if_there(path: Path) -> Table | None:
    return _without_group(read_coordinates(path)) if path.is_file() else None


def _read_refined(parameters: ExtractParameters, micrographs: Micrographs) -> Particles:
    """Read the particles to extract anew, and re-centre them where asked to."""
    assert parameters.reextract is not None
    particles = read_particles(parameters.reextract, require_ctf=False, require_images=False)
    missing = [label for label in (MICROGRAPH, *COORDINATE_LABELS) if label not in particles.table]
    if missing:
        raise InputError(f"{parameters.reextract} lacks the column {missing[0]}: its particles cannot be found again")
    if not parameters.recenter:
        return particles
    for label in SHIFT_LABELS:
        if label not in particles.table:
            raise InputError(f"{parameters.reextract} lacks the column {label}, which --recenter needs")
    return _recentred(particles, parameters, _row_pixel_sizes(particles, micrographs))


def _row_pixel_sizes(particles: Particles, micrographs: Micrographs) -> NDArray[np.float64]:
    """Return Å per pixel of the micrograph of each particle; 1 for particles of micrographs that are not given."""
    rows = rows_by_name(particles.table[MICROGRAPH])
    matches = match_names([str(name) for name in micrographs.names], rows)
    sizes = np.ones(len(particles))
    for row, name in matches.items():
        sizes[rows[name]] = micrographs.pixel_sizes[row]
    return sizes


def _recentred(particles: Particles, parameters: ExtractParameters, pixel_sizes: NDArray[np.float64]) -> Particles:
    from vitrea.extraction.recentring import project_point, recentre

    origins = particles.shifts
    point = np.array([parameters.recenter_x, parameters.recenter_y, parameters.recenter_z])
    if point.any():
        missing = [label for label in EULER_LABELS if label not in particles.table]
        if missing:
            raise InputError(f"{parameters.reextract} lacks the column {missing[0]}, which --recenter_x/y/z need")
        seen = project_point(particles.eulers, (float(point[0]), float(point[1]), float(point[2])))
        if parameters.recenter_unit == "pixels":
            seen *= np.array([group.pixel_size for group in particles.optics])[particles.optics_index][:, None]
        origins = origins - seen
    coordinates = np.stack([particles.table.numbers(label) for label in COORDINATE_LABELS], axis=1)
    moved, rest = recentre(coordinates, origins / pixel_sizes[:, None])
    columns = dict(zip(COORDINATE_LABELS, moved.T, strict=True))
    columns |= dict(zip(SHIFT_LABELS, (rest * pixel_sizes[:, None]).T, strict=True))
    return particles.with_columns(columns)


def _from_particles(particles: Particles, micrographs: Micrographs) -> Callable[[int], Table | None]:
    _check_coordinate_pixels(particles, micrographs)
    rows = rows_by_name(particles.table[MICROGRAPH])
    matches = match_names([str(name) for name in micrographs.names], rows)
    if not matches:
        first = next(iter(rows))
        raise InputError(
            f"none of the micrographs is named in {particles.source}: it names {first}, for example, and the "
            f"micrographs are {micrographs.names[0]} and so on"
        )
    table = particles.table
    if IMAGE in table:
        table = table.with_columns({ORIGINAL_IMAGE: table[IMAGE]})
    bare = table.without(MICROGRAPH, IMAGE)
    return lambda row: bare.rows(rows[matches[row]]) if row in matches else None


def _check_coordinate_pixels(particles: Particles, micrographs: Micrographs) -> None:
    """Refuse coordinates that are known to be in pixels of another size than the micrographs'."""
    block = particles.optics_table
    if block is None or _MICROGRAPH_PIXEL not in block:
        return
    sizes, known = np.unique(micrographs.pixel_sizes), block.numbers(_MICROGRAPH_PIXEL)
    for size in known[known > 0]:
        if np.all(np.abs(sizes / size - 1) > _SAME_SIZE):
            raise InputError(
                f"{particles.source}: its coordinates are in pixels of {size:g} Å ({_MICROGRAPH_PIXEL}), but the "
                f"micrographs have {sizes[0]:g} Å; give the micrographs they were picked in"
            )
