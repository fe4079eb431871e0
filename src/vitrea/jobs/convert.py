"""``vitrea convert``: images and maps from one file format to another."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from vitrea.jobs.base import Context, Job, JobParameters, parameter
from vitrea.jobs.map_inputs import make_folder
from vitrea.records.errors import InputError

if TYPE_CHECKING:
    from vitrea.formats.image_files import ImageFile, RawLayout

_CHUNK_BYTES = 64 << 20
_RAW = "Raw input"


class ConvertParameters(JobParameters):
    """Convert images and maps between MRC, SPIDER (and XMIPP's), IMAGIC, TIFF, and raw numbers; EER is read, too.

    The endings tell the formats: .mrc .mrcs .map .ccp4 .st, .spi .stk .xmp .vol, .hed .img, .tif .tiff .eer, .raw .bin
    .dat. Pixels keep their values, as 32-bit floats; rows run as RELION has them, so TIFF is turned upside down. What
    is a map stays one; formats that do not tell (IMAGIC, TIFF, raw) are taken for stacks unless --kind says otherwise.
    IMAGIC and raw files do not hold a pixel size.
    """

    input: Path = parameter(..., "File to read.", options=["--i"], positional=True)
    output: Path = parameter(..., "File to write.", options=["--o"], positional=True)
    kind: Literal["auto", "map", "stack"] = parameter("auto", "What the sections of the file are.")
    pixel_size: float = parameter(0.0, "Pixel size; 0: from the header.", options=["--angpix"], unit="Å", ge=0)
    float16: bool = parameter(False, "Write an MRC stack as 16-bit floats.")
    raw_shape: tuple[int, ...] = parameter(
        (), "Columns, rows and number of images (or sections) of a raw file: 4096,4096,24.", tab=_RAW
    )
    raw_type: Literal["int8", "uint8", "int16", "uint16", "int32", "float16", "float32", "float64"] = parameter(
        "float32", "Type of its numbers.", tab=_RAW
    )
    raw_offset: int = parameter(0, "Bytes before the first number.", tab=_RAW, ge=0)
    raw_big_endian: bool = parameter(False, "Its numbers are big-endian.", tab=_RAW)


def run(parameters: ConvertParameters, context: Context) -> None:
    """Read, write.

    Raises
    ------
    InputError
        If the input cannot be read, or the output's format cannot hold it.
    """
    from vitrea.formats.image_files import check_written, open_image_file, write_volume

    check_written(parameters.output)
    source = open_image_file(parameters.input, parameters.kind, _layout(parameters))
    if parameters.output.resolve() == parameters.input.resolve():
        raise InputError(f"--o {parameters.output} is the file that is read; choose another name")
    source = replace(source, pixel_size=parameters.pixel_size or source.pixel_size)
    make_folder(parameters.output)
    if source.is_map:
        if parameters.float16:
            raise InputError("--float16 is for stacks; maps are written as 32-bit floats")
        write_volume(parameters.output, source.load_map())
    else:
        _write_images(parameters, source, context)
    sections, rows, columns = source.shape
    what = (
        f"a map of {columns} x {rows} x {sections}"
        if source.is_map
        else f"{sections} image{'s' * (sections != 1)} of {columns} x {rows}"
    )
    size = f"{source.pixel_size:.6g} Å" if source.pixel_size else "pixel size not known"
    context.recorder.event("text", text=f"{parameters.output}: {what}, {size}")


def _layout(parameters: ConvertParameters) -> RawLayout | None:
    from vitrea.formats.image_files import RawLayout

    shape = parameters.raw_shape
    if not shape:
        return None
    if len(shape) not in (2, 3) or min(shape) < 1:
        raise InputError("--raw_shape: give columns, rows and number of images, as in 4096,4096,24")
    columns, rows, sections = (*shape, 1)[:3]
    return RawLayout((sections, rows, columns), parameters.raw_type, parameters.raw_offset, parameters.raw_big_endian)


def _write_images(parameters: ConvertParameters, source: ImageFile, context: Context) -> None:
    from vitrea.formats.image_files import ImageFileWriter

    context.recorder.stage("Images", len(source), "images")
    with ImageFileWriter(parameters.output, source.pixel_size, half_precision=parameters.float16) as writer:
        for images in _pieces(source):
            writer.append(images)
            context.recorder.advance(len(images))


def _pieces(source: ImageFile) -> Iterator[NDArray[Any]]:
    step = max(1, _CHUNK_BYTES // (4 * source.shape[1] * source.shape[2]))
    for start in range(0, len(source), step):
        yield source.load(np.arange(start, min(start + step, len(source))))


JOB = Job(
    name="convert",
    summary="Convert images and maps between MRC, SPIDER, IMAGIC, TIFF and raw files.",
    parameters=ConvertParameters,
    run=run,
    examples=(
        "vitrea convert my_stack.mrcs my_stack.spi",
        "vitrea convert Movies/movie1.tif movie1.mrcs --angpix 1.5",
        "vitrea convert molecule.mrc molecule.vol",
        "vitrea convert emd_1234.map emd_1234.raw",
        "vitrea convert numbers.raw numbers.mrcs --raw_shape 16,16,3 --raw_type int16 --raw_offset 32 --angpix 3",
    ),
)
