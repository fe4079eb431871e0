"""What ``vitrea map`` measures: statistics, centres of mass, FSC, spectra."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vitrea.formats.fsc_tables import NO_RESOLUTION, shell_columns
from vitrea.formats.star_values import text_column
from vitrea.formats.streams import STREAM, text_output
from vitrea.jobs.map_inputs import make_folder
from vitrea.jobs.map_parameters import MapParameters
from vitrea.jobs.map_sources import Source, open_source
from vitrea.records.errors import InputError
from vitrea.records.table import Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from vitrea.records.recorder import Recorder

_SAME_SIZE = 0.01
_LEVELS = {0.143: "vitreaResolutionFsc0143", 0.5: "vitreaResolutionFsc05"}  # column for each image's


def measure(parameters: MapParameters, sources: Iterator[Source], recorder: Recorder) -> None:
    """Measure what is asked for; the result goes to the output or, where none is named, to standard output.

    The recorder hears where an FSC falls.

    Raises
    ------
    InputError
        If a file cannot be read, or does not allow the measurement.
    """
    output = parameters.output or STREAM
    make_folder(Path(output))
    if parameters.fsc is not None:
        _fsc(parameters, sources, output, recorder)
    elif parameters.spectrum:
        _spectrum(sources, output)
    else:
        with text_output(output) as file:
            for source in sources:
                for name, image in _images(source):
                    line = _statistics if parameters.stats else _centre
                    file.write(f"{name} : {line(image, source.pixel_size)}\n")


def _images(source: Source) -> Iterator[tuple[str, NDArray[np.float32]]]:
    for places, images in source.chunks():
        for place, image in zip(places.tolist(), images, strict=True):
            yield source.names[place], image


def _statistics(image: NDArray[np.float32], pixel_size: float) -> str:
    """Return what RELION's image handler prints, in its words, so that scripts which take it apart go on."""
    z, y, x = (1,) * (3 - image.ndim) + image.shape
    good = np.isfinite(image)
    values = image[good].astype(np.float64)
    bad = f" ; NaN or infinite= {image.size - len(values)}" if len(values) < image.size else ""
    if not len(values):
        return f"(x,y,z,n)= {x} x {y} x {z} x 1{bad}"
    deviation = values.std(ddof=1) if len(values) > 1 else 0.0
    return (
        f"(x,y,z,n)= {x} x {y} x {z} x 1 ; avg= {values.mean():.6g} stddev= {deviation:.6g} minval= {values.min():.6g} "
        f"maxval= {values.max():.6g} ; angpix = {pixel_size:.6g}{bad}"
    )


def _centre(image: NDArray[np.float32], pixel_size: float) -> str:
    from vitrea.maps.image_operations import positive_centre_of_mass

    centre = positive_centre_of_mass(np.nan_to_num(image))
    where = " ".join(f"{axis}= {value:.4f}" for axis, value in zip("xyz", centre.tolist(), strict=False))
    return f"centre of mass {where} pixels from the centre of the box ({pixel_size:.6g} Å)"


def _fsc(parameters: MapParameters, sources: Iterator[Source], output: str, recorder: Recorder) -> None:
    """Write the FSC of two maps or images, or the mean one of the images of stacks and where that of each falls."""
    from vitrea.formats.star import write_star

    other = open_source(str(parameters.fsc), parameters.pixel_size, parameters.kind)
    names: list[str] = []
    pieces: list[NDArray[np.float64]] = []
    size, pixel = 0, 0.0
    for source in sources:
        _check_pair(source, other, str(parameters.fsc))
        size, pixel = source.shape[-1], source.pixel_size
        for places, images in source.chunks():
            rows = source.rows[places] if len(source.rows) else places
            pieces.append(_correlated(images, other, rows, source))
            names += [source.names[place] for place in places.tolist()]
    if len(other.sections) not in (1, len(names)) and not other.file.is_map:
        raise InputError(
            f"--fsc {parameters.fsc} has {len(other.sections)} images, {parameters.input} {len(names)}: one image, or "
            "as many, are needed"
        )
    curves = np.concatenate(pieces)
    fsc = curves.mean(axis=0)
    falls = {level: _fall(fsc, level, pixel, size) for level in _LEVELS}
    comment = "\n".join(f"FSC = {level}: {_angstrom(at)}" for level, at in falls.items())
    recorder.event("text", text=comment.replace("\n", ", "))
    if Path(output).suffix.lower() == ".png":
        from vitrea.report.figures import fsc_curves

        _draw(fsc_curves({"FSC" if len(names) == 1 else "mean FSC": fsc}, pixel, size, tuple(_LEVELS)), output)
        return
    blocks = {"fsc": Table({**shell_columns(size, pixel), "rlnFourierShellCorrelation": fsc})}
    if len(names) > 1:
        columns: dict[str, NDArray[Any]] = {"rlnImageName": text_column(names)}
        for level, label in _LEVELS.items():
            each = np.array([_fall(curve, level, pixel, size) for curve in curves])
            columns[label] = np.minimum(each, NO_RESOLUTION)
        blocks["images"] = Table(columns)
    write_star(output, blocks, comment)


def _check_pair(source: Source, other: Source, name: str) -> None:
    path = source.file.path
    if len(set(source.shape)) > 1:
        raise InputError(f"{path} must be square, or a cube; it is {' x '.join(map(str, source.shape[::-1]))}")
    if source.shape != other.shape:
        raise InputError(f"--fsc {name} and {path} differ in box: bring them to one first")
    if abs(source.pixel_size - other.pixel_size) > _SAME_SIZE * source.pixel_size:
        raise InputError(
            f"--fsc {name} has {other.pixel_size:g} Å per pixel, {path} {source.pixel_size:g}; "
            "give --angpix if a header is wrong"
        )


def _correlated(
    images: NDArray[np.float32], other: Source, rows: NDArray[np.int64], source: Source
) -> NDArray[np.float64]:
    """Return the FSC of each image with what stands in the same row of the other file, shape [m, shells]."""
    import torch

    from vitrea.fourier.fsc import fourier_shell_correlation

    if len(other.sections) > 1 and not other.file.is_map and rows.max() >= len(other.sections):
        raise InputError(
            f"--fsc {other.file.path} has {len(other.sections)} images, {source.file.path} goes on to image "
            f"{rows.max() + 1}: one image, or as many, are needed"
        )
    second = other.beside(rows)
    for values, file in ((images, source.file), (second, other.file)):
        if not np.isfinite(values).all():
            raise InputError(f"{file.path} holds NaN or infinite values; replace them with --remove_nan first")
    first, beside = torch.from_numpy(images).double(), torch.from_numpy(second).double()
    return np.asarray(fourier_shell_correlation(first, beside, source.dims).numpy())


def _fall(fsc: NDArray[np.float64], level: float, pixel: float, size: int) -> float:
    from vitrea.fourier.fsc import interpolated_resolution_at

    return interpolated_resolution_at(fsc.tolist(), level, pixel, size)


def _angstrom(resolution: float) -> str:
    return f"{resolution:.3f} Å" if np.isfinite(resolution) else "at no resolution"


def _spectrum(sources: Iterator[Source], output: str) -> None:
    """Write the mean of all images' spectra, on RELION's scale (transforms divided by the number of pixels)."""
    import torch

    from vitrea.formats.star import write_star
    from vitrea.maps.image_operations import shell_spectra

    amplitude = power = np.zeros(0)
    count = 0
    size, pixel = 0, 0.0
    for source in sources:
        for _, images in source.chunks():
            if not np.isfinite(images).all():
                raise InputError(
                    f"{source.file.path} holds NaN or infinite values; replace them with --remove_nan first"
                )
            if size and max(source.shape) != size:
                raise InputError(f"{source.file.path} has another size than the images before it")
            size, pixel = max(source.shape), source.pixel_size
            spectra = shell_spectra(torch.from_numpy(images).double(), source.dims)
            mine, other = (curve.sum(dim=0).numpy() for curve in spectra)
            amplitude, power = (mine, other) if not count else (amplitude + mine, power + other)
            count += len(images)
    amplitude, power = amplitude / count, power / count
    if Path(output).suffix.lower() == ".png":
        _draw(_guinier(amplitude, power, size * pixel), output)
        return
    squared = (np.arange(size // 2 + 1) / (size * pixel)) ** 2
    table = {
        **shell_columns(size, pixel),
        "rlnResolutionSquared": squared,
        "rlnLogAmplitudesOriginal": _logarithm(amplitude),
        "vitreaAmplitude": amplitude,
        "vitreaPower": power,
    }
    write_star(output, {"spectrum": Table(table)})


def _logarithm(amplitude: NDArray[np.float64]) -> NDArray[np.float64]:
    from vitrea.maps.sharpening import NO_AMPLITUDE

    return np.where(amplitude > 0, np.log(np.where(amplitude > 0, amplitude, 1.0)), NO_AMPLITUDE)


def _guinier(amplitude: NDArray[np.float64], power: NDArray[np.float64], extent: float) -> Figure:
    from vitrea.report.figures import spectrum_curves

    return spectrum_curves(amplitude, power, extent)


def _draw(figure: Figure, output: str) -> None:
    from vitrea.report.png import save_png

    save_png(figure, output)
