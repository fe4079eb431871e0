"""``vitrea map``: the image handler."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vitrea.formats.image_names import join_image_name, project_name
from vitrea.jobs.base import Context, Job
from vitrea.jobs.map_inputs import make_folder
from vitrea.jobs.map_lists import draw_list, sum_movies
from vitrea.jobs.map_measure import measure
from vitrea.jobs.map_parameters import (
    MapAverages,
    MapFilters,
    MapParameters,
    MapPictures,
    MapPlacement,
    MapValues,
)
from vitrea.jobs.map_picture import write_picture
from vitrea.jobs.map_sources import Source, destination, open_source, read_image_list, with_new_images
from vitrea.jobs.unused_options import refuse_unused
from vitrea.records.errors import InputError, JobError

if TYPE_CHECKING:
    from vitrea.formats.image_files import ImageFileWriter
    from vitrea.maps.image_operations import Operations

_ARITHMETIC = ("multiply", "divide", "add", "subtract")
_MEASUREMENTS = ("stats", "com", "fsc", "spectrum")
_SAME = 1e-4  # pixel sizes closer than this are the same


def run(parameters: MapParameters, context: Context) -> None:
    """Read, change, write; or measure.

    Raises
    ------
    InputError
        If files cannot be read or do not fit each other, or options contradict each other.
    """
    _check(parameters)
    is_list = parameters.input.lower().endswith(".star")
    if _measures(parameters):
        measure(parameters, _sources(parameters), context.recorder)
    elif is_list and _sums_frames(parameters):
        sum_movies(parameters, _work(parameters), context)
    elif is_list and not parameters.average and _picture(parameters) is not None:
        draw_list(parameters, _work(parameters), context)
    elif is_list and not parameters.average:
        _change_list(parameters, context)
    else:
        _change_file(parameters, context)


def _measures(parameters: MapParameters) -> list[str]:
    return [name for name in _MEASUREMENTS if getattr(parameters, name)]


def _check(parameters: MapParameters) -> None:
    chosen = _measures(parameters)
    if len(chosen) > 1:
        raise InputError(f"give one of {', '.join('--' + name for name in chosen)} at a time")
    if parameters.flip_xy and parameters.flip_mxy:
        raise InputError("give --flipXY or --flipmXY, not both")
    if parameters.shift_com and (parameters.shift_x or parameters.shift_y or parameters.shift_z):
        raise InputError("give --shift_com or shifts, not both")
    if parameters.divide_constant == 0:
        raise InputError("--divide_constant must not be 0")
    frames = bool(parameters.avg_bin) + bool(parameters.avg_first or parameters.avg_last) + parameters.average
    if frames > 1:
        raise InputError("give one of --average, --avg_bin, and --avg_first with --avg_last")
    if not chosen and not parameters.output:
        raise InputError("where to? give the file to write with --o")
    _check_unused(parameters, chosen)
    low, high = parameters.lowpass, parameters.highpass
    if 0 < high <= low:
        raise InputError(f"--highpass {high:g} Å and --lowpass {low:g} Å leave nothing: the first must be coarser")
    below, above = parameters.threshold_below, parameters.threshold_above
    if below is not None and above is not None and below >= above:
        raise InputError(f"--threshold_below {below:g} and --threshold_above {above:g} leave one grey value only")


def _check_unused(parameters: MapParameters, chosen: list[str]) -> None:
    """Refuse options that nothing would look at."""
    if chosen:
        for group in (MapAverages, MapValues, MapFilters, MapPlacement):
            refuse_unused(parameters, group.model_fields, f"changes images, --{chosen[0]} measures them as they are")
    if chosen or _picture(parameters) is None:
        names = [name for name in MapPictures.model_fields if name != "png" or chosen]
        refuse_unused(parameters, names, "is for pictures of images: give --png, or --o x.png")
    if not parameters.remove_nan:
        refuse_unused(parameters, ("replace_nan",), "is for --remove_nan: give that, too")
    if parameters.subtract is None:
        refuse_unused(parameters, ("optimise_scale_subtract",), "is for --subtract: give that, too")


def _sources(parameters: MapParameters) -> Iterator[Source]:
    if parameters.input.lower().endswith(".star"):
        images = read_image_list(Path(parameters.input), parameters.pixel_size)
        for number in range(len(images.paths)):
            yield images.source(number, parameters.pixel_size)
    else:
        yield open_source(parameters.input, parameters.pixel_size, parameters.kind)


@dataclass(frozen=True)
class Work:
    """What is done to images, with the files that take part in it."""

    parameters: MapParameters
    operations: Operations
    operands: Sequence[tuple[str, Source]]

    def check(self, source: Source, count: int) -> None:
        """Raise InputError where an operand does not fit images of which there are `count`."""
        for kind, operand in self.operands:
            number = 1 if operand.file.is_map else len(operand.sections)
            if operand.shape != source.shape or number not in (1, count):
                raise InputError(
                    f"--{kind} {operand.file.path} ({_describe(operand)}) does not fit {source.file.path} "
                    f"({_describe(source)}): one image of the same size, or as many, are needed"
                )

    def apply(
        self, images: NDArray[Any], source: Source, places: NDArray[np.int64]
    ) -> tuple[NDArray[np.float32], float]:
        """Change images, shape [m, ...], of which `places` tells which of all they are."""
        from vitrea.maps.image_operations import operate

        operands = [(kind, operand.beside(places)) for kind, operand in self.operands]
        try:
            operations = replace(self.operations, operands=operands)  # type: ignore[arg-type]
            return operate(images, source.pixel_size, operations, source.dims)
        except ValueError as error:
            hint = "; --remove_nan replaces them" if "NaN" in str(error) else ""
            raise InputError(f"{source.file.path}: {error}{hint}") from None

    def writer(self, path: Path, source: Source) -> ImageFileWriter:
        """Return a writer for the images of a source."""
        from vitrea.formats.image_files import ImageFileWriter
        from vitrea.maps.image_operations import rescaled_pixel_size

        size, wanted = source.pixel_size, self.operations.rescale
        if wanted:
            size = rescaled_pixel_size(source.shape, size, wanted) or wanted
        return ImageFileWriter(path, self.header_size(size), half_precision=self.parameters.float16)

    def header_size(self, pixel_size: float) -> float:
        """Return the pixel size that is written into headers."""
        return self.parameters.force_header_angpix or pixel_size


def _describe(source: Source) -> str:
    size = " x ".join(map(str, source.shape[::-1]))
    return f"a map of {size}" if source.file.is_map else f"{len(source.sections)} of {size}"


def _work(parameters: MapParameters) -> Work:
    from vitrea.geometry.symmetry import canonical_name
    from vitrea.maps.image_operations import Operations

    adjust = None
    if parameters.adjust_power is not None:
        adjust = next(open_source(str(parameters.adjust_power), 0.0, parameters.kind).chunks())[1][0]
    operations = Operations(
        transpose="xy" if parameters.flip_xy else "-xy" if parameters.flip_mxy else "",
        replace_nan=parameters.replace_nan if parameters.remove_nan else None,
        multiply_constant=parameters.multiply_constant,
        divide_constant=parameters.divide_constant,
        add_constant=parameters.add_constant,
        subtract_constant=parameters.subtract_constant,
        fit_scale=parameters.optimise_scale_subtract,
        adjust_power=adjust,
        randomise_phases=parameters.phase_randomise,
        bfactor=parameters.bfactor,
        lowpass=parameters.lowpass,
        highpass=parameters.highpass,
        filter_edge=parameters.filter_edge_width,
        flip_x=parameters.flip_x,
        flip_y=parameters.flip_y,
        flip_z=parameters.flip_z,
        invert_hand=parameters.invert_hand,
        centre_of_mass=parameters.shift_com,
        shifts=(parameters.shift_x, parameters.shift_y, parameters.shift_z),
        linear=parameters.linear_shift,
        rescale=parameters.rescale_angpix,
        box=parameters.new_box,
        symmetry=canonical_name(parameters.symmetry) if parameters.symmetry else "",
        threshold_above=parameters.threshold_above,
        threshold_below=parameters.threshold_below,
    )
    given = [(kind, getattr(parameters, kind)) for kind in _ARITHMETIC if getattr(parameters, kind) is not None]
    return Work(parameters, operations, [(kind, open_source(str(path), 0.0, parameters.kind)) for kind, path in given])


def _change_file(parameters: MapParameters, context: Context) -> None:
    """Change one file, or what one file or list is averaged to."""
    from vitrea.formats.image_files import check_written

    picture = _picture(parameters)
    output = picture or Path(parameters.output)
    if picture is None:
        check_written(output)
    work = _work(parameters)
    if _reduces(parameters):
        from vitrea.jobs.map_averages import averaged

        source, images = averaged(parameters, _sources(parameters))
        pieces: Iterator[tuple[NDArray[np.int64], NDArray[Any]]] = iter([(np.arange(len(images)), images)])
        count = len(images)
    else:
        source = next(_sources(parameters))
        pieces, count = source.chunks(), len(source.sections)
    work.check(source, count)
    make_folder(output)
    changed = (work.apply(images, source, places) for places, images in pieces)
    if picture is not None:
        write_picture(output, parameters, changed, source.dims, count)
        context.recorder.event("text", text=str(output))
    else:
        _write(output, work, changed, source, count, context)


def _picture(parameters: MapParameters) -> Path | None:
    """Return the picture that is to be written, if one is."""
    output = Path(parameters.output)
    return output.with_suffix(".png") if parameters.png or output.suffix.lower() == ".png" else None


def _sums_frames(parameters: MapParameters) -> bool:
    return bool(parameters.avg_bin or parameters.avg_first or parameters.avg_last)


def _reduces(parameters: MapParameters) -> bool:
    return parameters.average or _sums_frames(parameters)


def _write(
    output: Path,
    work: Work,
    changed: Iterator[tuple[NDArray[np.float32], float]],
    source: Source,
    count: int,
    context: Context,
) -> None:
    from vitrea.formats.image_files import write_volume
    from vitrea.records.map import Map

    images, size = next(changed)
    if source.dims == 3:
        same = images.shape[1:] == source.file.shape and size == source.pixel_size
        origin = source.file.load_map().origin if same else (0.0, 0.0, 0.0)
        write_volume(output, Map(images[0], work.header_size(size), origin))
    else:
        context.recorder.stage("Images", count, "images")
        with work.writer(output, source) as writer:
            writer.append(images)
            context.recorder.advance(len(images))
            for images, _ in changed:
                writer.append(images)
                context.recorder.advance(len(images))
    _tell_pixel_size(work.parameters, source, size, context)
    shape = " x ".join(map(str, images.shape[:0:-1]))
    what = "a map" if source.dims == 3 else f"{count} image{'s' * (count > 1)}"
    context.recorder.event("text", text=f"{output}: {what} of {shape}, {work.header_size(size):.6g} Å")


def _tell_pixel_size(parameters: MapParameters, source: Source, size: float, context: Context) -> None:
    wanted, forced = parameters.rescale_angpix, parameters.force_header_angpix
    if not (forced or parameters.pixel_size or source.file.pixel_size or len(source.rows)):
        context.recorder.warn(f"{source.file.path} does not tell its pixel size: it is taken for 1 Å; give --angpix")
    if wanted and abs(size - wanted) > _SAME * wanted:
        header = f"{forced:g} as asked for" if forced else "so"
        context.recorder.warn(
            f"the pixel size is {size:.6g} Å, not {wanted:g}: the box must be a whole, even number of pixels; the "
            f"header says {header}"
        )


def _change_list(parameters: MapParameters, context: Context) -> None:
    """Change all images of a STAR file, file by file; files that cannot be used are set aside by name."""
    from vitrea.formats.micrograph_files import write_micrographs
    from vitrea.formats.particle_files import write_particles
    from vitrea.records.particles import Particles

    star = Path(parameters.input)
    images = read_image_list(star, parameters.pixel_size)
    target = destination(star, parameters.output, images.images)
    work = _work(parameters)
    files = [target.file_of(path) for path in images.paths]
    if {path.resolve() for path in files} & {path.resolve() for path in images.paths}:
        raise InputError(f"--o {parameters.output} would overwrite images that are read; choose another name")
    for path in files:
        make_folder(path)
    context.recorder.stage("Images", len(images.images), "images")
    progress = _ListProgress({}, {}, context)
    if len(set(files)) == 1 and isinstance(images.images, Particles):
        sources = [images.source(number, parameters.pixel_size) for number in range(len(images.paths))]
        with work.writer(files[0], sources[0]) as writer:
            for source in sources:
                _append(work, source, writer, files[0], len(images.images), progress)
    else:
        for number, path in enumerate(files):
            try:
                source = images.source(number, parameters.pixel_size)
                with work.writer(path, source) as writer:
                    _append(work, source, writer, path, len(images.images), progress)
            except InputError as error:
                context.recorder.warn(f"set aside: {error}")
    if not progress.names:
        raise JobError("none of the images could be used")
    new = with_new_images(images.images, progress.names, progress.sizes, progress.box)
    if isinstance(new, Particles):
        write_particles(target.star, new, comment=context.command)
    else:
        write_micrographs(target.star, new, comment=context.command)
    context.recorder.event("text", text=f"{target.star}: {len(new)} images")


@dataclass
class _ListProgress:
    """What has become of the rows of a list so far."""

    names: dict[int, str]
    sizes: dict[int, float]  # Å per pixel
    context: Context
    box: int = 0


def _append(
    work: Work, source: Source, writer: ImageFileWriter, path: Path, count: int, progress: _ListProgress
) -> None:
    """Change the images of one file, write them, and note their new names."""
    work.check(source, count)
    names: dict[int, str] = {}
    for places, images in source.chunks():
        changed, size = work.apply(images, source, source.rows[places])
        before = writer.count
        writer.append(changed)
        single = len(source.file) == 1 and path.suffix.lower() != ".mrcs"
        for place, row in enumerate(source.rows[places].tolist()):
            name = project_name(path)
            names[row] = name if single else join_image_name(name, before + place)
            progress.sizes[row] = size
        progress.box = changed.shape[-1]
        progress.context.recorder.advance(len(places))
    progress.names.update(names)


JOB = Job(
    name="map",
    summary="Change or measure maps, images and stacks: filters, boxes, arithmetic, symmetry, statistics, pictures.",
    parameters=MapParameters,
    run=run,
    examples=(
        "vitrea map --i molecule.mrc --o filtered.mrc --lowpass 25",
        "vitrea map molecule.mrc small.mrc --rescale_angpix 8 --new_box 15",
        "vitrea map molecule.mrc other_hand.mrc --invert_hand --shift_com",
        "vitrea map molecule.mrc difference.mrc --subtract filtered_molecule.mrc --optimise_scale_subtract",
        "vitrea map molecule.mrc symmetric.mrc --sym D2 --threshold_below 0",
        "vitrea map molecule.mrc --stats",
        "vitrea map molecule.mrc --fsc filtered_molecule.mrc",
        "vitrea map molecule.mrc --spectrum --o guinier.png",
        "vitrea map my_stack.mrcs filtered.mrcs --bfactor 100 --highpass 30",
        "vitrea map my_stack.mrcs montage.png --sigma_contrast 2",
        "vitrea map Movies/movie1.tif sum.mrc --avg_first 1 --avg_last 3",
        "vitrea map movies.star sums.star --avg_first 1 --avg_last 3",
        "vitrea map micrographs.star binned.star --rescale_angpix 3",
        "vitrea map 2@my_stack.mrcs second.mrc --multiply_constant -1",
    ),
    writes_to_stdout=lambda parameters: bool(_measures(parameters)) and not parameters.output,
)
