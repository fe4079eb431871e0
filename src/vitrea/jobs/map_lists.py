"""What ``vitrea map`` makes of STAR files besides changed images: sums of the frames of movies, and pictures."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vitrea.formats.image_names import project_name
from vitrea.jobs.base import Context
from vitrea.jobs.map_inputs import make_folder
from vitrea.jobs.map_parameters import MapParameters
from vitrea.jobs.map_picture import chosen_places, write_picture
from vitrea.jobs.map_sources import destination, open_source, read_image_list
from vitrea.records.errors import InputError, JobError

if TYPE_CHECKING:
    from vitrea.jobs.map import Work
    from vitrea.records.micrographs import Micrographs, Movies


def sum_movies(parameters: MapParameters, work: Work, context: Context) -> None:
    """Sum frames of each movie of a STAR file, change the sums, and list them; bad movies are set aside by name.

    Sums of every so many frames (``--avg_bin``) are movies again; one sum of each makes a list of micrographs.

    Raises
    ------
    InputError
        If the file lists no movies.
    JobError
        If no movie could be used.
    """
    from vitrea.formats.micrograph_files import locate_images, read_movies, write_micrographs
    from vitrea.jobs.map_averages import frame_sums
    from vitrea.records.micrographs import GivenOptics

    star = Path(parameters.input)
    given = GivenOptics(pixel_size=parameters.pixel_size) if parameters.pixel_size else None
    movies = read_movies(star, given, require_optics=False)
    if (movies.gains != "").any():
        context.recorder.warn(
            "frames are summed as they are, without the gain that the list names: vitrea motion uses it"
        )
    target = destination(star, parameters.output, movies)
    ending = ".mrcs" if parameters.avg_bin else ".mrc"
    names: dict[int, str] = {}
    sizes: dict[int, float] = {}
    context.recorder.stage("Movies", len(movies), "movies")
    for row, path in enumerate(locate_images(movies)):
        file = target.file_of(path).with_suffix(ending)
        if file.resolve() == path.resolve():
            raise InputError(f"--o {parameters.output} would overwrite movies that are read; choose another name")
        try:
            source = open_source(str(path), float(movies.pixel_sizes[row]), "stack")
            sums = frame_sums(parameters, source)
            work.check(source, len(sums))
            changed, sizes[row] = work.apply(sums, source, np.arange(len(sums)))
            make_folder(file)
            with work.writer(file, source) as writer:
                writer.append(changed)
            names[row] = project_name(file)
        except InputError as error:
            context.recorder.warn(f"set aside: {error}")
        context.recorder.advance()
    if not names:
        raise JobError("none of the movies could be used")
    new = _listed(movies, names, sizes, frames=parameters.avg_bin > 0)
    write_micrographs(target.star, new, comment=context.command)
    context.recorder.event(
        "text", text=f"{target.star}: {len(new)} {'movies' if parameters.avg_bin else 'micrographs'}"
    )


def _listed(movies: Movies, names: dict[int, str], sizes: dict[int, float], *, frames: bool) -> Movies | Micrographs:
    """Return the movies that have new names, as movies or as micrographs."""
    from vitrea.formats.star_values import text_column
    from vitrea.records.micrographs import Micrographs

    rows = sorted(names)
    kept = movies.rows(np.array(rows, dtype=np.int64))
    size_of = {int(movies.table["rlnOpticsGroup"][row]): sizes[row] for row in rows}
    optics = tuple(replace(group, pixel_size=size_of.get(group.group, group.pixel_size)) for group in kept.optics)
    new = text_column([names[row] for row in rows])
    if frames:
        return replace(kept.with_columns({kept.name_label: new}), optics=optics)
    table = kept.table.without(kept.name_label).with_columns({Micrographs.name_label: new})
    before = {field.name: getattr(kept, field.name) for field in fields(kept)}
    original = {group.group: group.pixel_size for group in movies.optics}
    optics = tuple(replace(group, original_pixel_size=original[group.group]) for group in optics)
    return Micrographs(**before | {"table": table, "optics": optics})


def draw_list(parameters: MapParameters, work: Work, context: Context) -> None:
    """Draw images of a STAR file side by side, in the order of its rows; of many, an even choice.

    Raises
    ------
    InputError
        If they cannot be read, or are not of one size.
    """
    images = read_image_list(Path(parameters.input), parameters.pixel_size)
    rows = chosen_places(len(images.images), parameters.most)
    shapes: dict[tuple[int, ...], str] = {}

    def changed() -> Iterator[tuple[NDArray[np.float32], float]]:
        for row in rows:
            source = images.image(row, parameters.pixel_size)
            shapes.setdefault(source.shape, source.names[0])
            if len(shapes) > 1:
                raise InputError(f"{' and '.join(shapes.values())} differ in size: they make no picture together")
            work.check(source, 1)
            yield work.apply(next(source.chunks())[1], source, np.zeros(1, dtype=np.int64))

    output = Path(parameters.output).with_suffix(".png")
    make_folder(output)
    write_picture(output, parameters, changed(), 2, len(rows))
    context.recorder.event("text", text=f"{output}: {len(rows)} of {len(images.images)} images")
